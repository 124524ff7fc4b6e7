//! A TCP relay before an sshd, which can cut every connection at once, or after so many bytes either way, and slow them
//! down, as a failing network does. It never changes a byte.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A running relay; it ends when dropped.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    ended: AtomicBool,
    /// Connections are refused while this is set.
    down: AtomicBool,
    /// Bytes relayed from server to client since the last reset.
    from_server: AtomicU64,
    /// All connections are cut when `from_server` reaches this.
    cut_at: AtomicU64,
    /// Bytes relayed from client to server.
    from_client: AtomicU64,
    /// All connections are cut when the server has been sent exactly this many of them.
    cut_at_from_client: AtomicU64,
    /// Bytes a second of every connection each way; 0 is as fast as it goes.
    bytes_per_sec: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl TcpProxy {
    /// Listens on a free loopback port and relays to `server`.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening for the relay")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            ended: AtomicBool::new(false),
            down: AtomicBool::new(false),
            from_server: AtomicU64::new(0),
            cut_at: AtomicU64::new(u64::MAX),
            from_client: AtomicU64::new(0),
            cut_at_from_client: AtomicU64::new(u64::MAX),
            bytes_per_sec: AtomicU64::new(0),
            open: Mutex::new(Vec::new()),
        });
        let for_thread = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &for_thread));
        Ok(Self {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes relayed from the server so far.
    pub fn bytes_from_server(&self) -> u64 {
        self.shared.from_server.load(Ordering::Relaxed)
    }

    /// Cuts every connection now; new ones are taken again.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts every connection once the server has sent that many more bytes; that happens once.
    pub fn cut_after(&self, bytes: u64) {
        let now = self.bytes_from_server();
        self.shared
            .cut_at
            .store(now.saturating_add(bytes), Ordering::Relaxed);
    }

    /// Cuts every connection once the client has sent exactly that many more bytes; that happens once.
    pub fn cut_after_sent(&self, bytes: u64) {
        let now = self.shared.from_client.load(Ordering::Relaxed);
        self.shared
            .cut_at_from_client
            .store(now.saturating_add(bytes), Ordering::Relaxed);
    }

    /// Whether the cut asked for by [`Self::cut_after_sent`] has not happened; it is called off.
    pub fn call_off_cut_after_sent(&self) -> bool {
        let at = &self.shared.cut_at_from_client;
        at.swap(u64::MAX, Ordering::Relaxed) != u64::MAX
    }

    /// Bytes relayed to the server so far.
    pub fn bytes_from_client(&self) -> u64 {
        self.shared.from_client.load(Ordering::Relaxed)
    }

    /// Slows every connection down to so many bytes a second each way; 0 is as fast as it goes.
    pub fn set_pace(&self, bytes_per_sec: u64) {
        self.shared
            .bytes_per_sec
            .store(bytes_per_sec, Ordering::Relaxed);
    }

    /// Whether the cut asked for has not happened yet.
    pub fn cut_is_pending(&self) -> bool {
        self.shared.cut_at.load(Ordering::Relaxed) != u64::MAX
    }

    /// Cuts everything and refuses new connections until told otherwise.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::Relaxed);
        if down {
            self.shared.cut();
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.cut();
        // The acceptor sees the flag when a last connection wakes it.
        drop(TcpStream::connect(self.address));
        if self
            .acceptor
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            eprintln!("the relay's thread panicked");
        }
    }
}

impl Shared {
    fn cut(&self) {
        for stream in self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            // A connection that its owner closed already is as cut as it can be.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = stream else { continue };
        if shared.down.load(Ordering::Relaxed) {
            continue;
        }
        if let Err(error) = relay(client, shared) {
            eprintln!("the relay could not reach the server: {error}");
        }
    }
}

fn relay(client: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    let server = TcpStream::connect(shared.server)?;
    {
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(client.try_clone()?);
        open.push(server.try_clone()?);
    }
    let (client_read, server_write) = (client.try_clone()?, server.try_clone()?);
    let sending = Arc::clone(shared);
    std::thread::spawn(move || {
        let paced = Arc::clone(&sending);
        pump(client_read, server_write, &paced, |length| {
            let before = sending.from_client.fetch_add(length, Ordering::Relaxed);
            let room = sending
                .cut_at_from_client
                .load(Ordering::Relaxed)
                .saturating_sub(before);
            if length < room {
                return Allowed::All;
            }
            sending
                .cut_at_from_client
                .store(u64::MAX, Ordering::Relaxed);
            Allowed::Before(room)
        });
    });
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let paced = Arc::clone(&shared);
        pump(server, client, &paced, |length| {
            let total = shared.from_server.fetch_add(length, Ordering::Relaxed) + length;
            if total >= shared.cut_at.load(Ordering::Relaxed) {
                shared.cut_at.store(u64::MAX, Ordering::Relaxed);
                return Allowed::Before(0);
            }
            Allowed::All
        });
    });
    Ok(())
}

/// What of a piece may pass.
enum Allowed {
    All,
    /// So many bytes, and then every connection is cut.
    Before(u64),
}

fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    shared: &Shared,
    mut count: impl FnMut(u64) -> Allowed,
) {
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let pace = shared.bytes_per_sec.load(Ordering::Relaxed);
        // A slow line carries a quarter of a second's bytes at a time.
        let piece = match pace {
            0 => buffer.len(),
            pace => {
                usize::try_from(pace / 4).map_or(buffer.len(), |piece| piece.clamp(1, buffer.len()))
            }
        };
        let Ok(length @ 1..) = from.read(&mut buffer[..piece]) else {
            break;
        };
        if pace > 0 {
            std::thread::sleep(Duration::from_millis(250));
        }
        let (allowed, cuts) = match count(length as u64) {
            Allowed::All => (length, false),
            Allowed::Before(bytes) => {
                let bytes = usize::try_from(bytes).unwrap_or(length);
                (bytes.min(length), true)
            }
        };
        if to.write_all(&buffer[..allowed]).is_err() {
            break;
        }
        if cuts {
            shared.cut();
            break;
        }
    }
    // The other side may be gone already; then there is nothing to tell it.
    drop(to.shutdown(Shutdown::Write));
}
