//! The connections of an SFTP destination: a few, made on first use, each shared by many operations and replaced when
//! it is lost.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use russh_sftp::client::rawsession::Limits;
use russh_sftp::client::{Config, RawSftpSession};
use russh_sftp::extensions;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::destination::sftp::Inner;
use crate::destination::sftp::failure::SftpFailure;
use crate::destination::sftp::watched::Watched;
use crate::limits::{
    SFTP_IO_BYTES, SFTP_IO_BYTES_MIN, SFTP_IO_BYTES_UNKNOWN, SFTP_OPERATIONS_ON_ONE,
    SFTP_PACKET_BYTES_MAX, SFTP_REQUEST_DEADLINE, SFTP_WINDOW_BYTES_CONNECTION,
};
use crate::ssh::connect::{SshConnection, connect};
use crate::ssh::subsystem::open_subsystem;

/// What an operation asks of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// A few questions: not worth a connection of their own.
    Questions,
    /// Many bytes to the server.
    Upload,
    /// Many bytes from the server.
    Download,
}

impl Load {
    /// What so many bytes to the server are.
    pub(super) fn upload(bytes: u64) -> Self {
        if bytes > SMALL_BYTES_MAX {
            Self::Upload
        } else {
            Self::Questions
        }
    }

    /// What so many bytes from the server are, or as many as there are.
    pub(super) fn download(bytes: Option<u64>) -> Self {
        match bytes {
            Some(bytes) if bytes <= SMALL_BYTES_MAX => Self::Questions,
            _ => Self::Download,
        }
    }
}

/// What a few questions carry.
const SMALL_BYTES_MAX: u64 = 256 << 10;

/// A place for one connection.
#[derive(Debug, Default)]
pub(super) struct Slot {
    session: Mutex<Option<Arc<Session>>>,
    /// Operations that use it, or wait for it to connect, by what they ask.
    users: Arc<Users>,
}

#[derive(Debug, Default)]
struct Users([AtomicUsize; 3]);

impl Users {
    fn of(&self, load: Load) -> &AtomicUsize {
        let [questions, upload, download] = &self.0;
        match load {
            Load::Questions => questions,
            Load::Upload => upload,
            Load::Download => download,
        }
    }

    /// Operations that carry much.
    fn bulk(&self) -> usize {
        let [_, upload, download] = &self.0;
        upload.load(Ordering::Relaxed) + download.load(Ordering::Relaxed)
    }

    fn all(&self) -> usize {
        self.0
            .iter()
            .map(|users| users.load(Ordering::Relaxed))
            .sum()
    }
}

/// A session in use by one operation.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    session: Arc<Session>,
    _user: Arc<User>,
}

impl Lease {
    /// The session, for what nobody waits for.
    pub(super) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session)
    }
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

/// Counts as a slot's user until it is dropped.
#[derive(Debug)]
struct User(Arc<Users>, Load);

impl User {
    fn of(slot: &Slot, load: Load) -> Self {
        slot.users.of(load).fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&slot.users), load)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.of(self.1).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slot {
    /// Whether it has a connection, as far as can be told without waiting.
    fn is_connected(&self) -> bool {
        self.session
            .try_lock()
            .is_ok_and(|session| session.as_ref().is_some_and(|session| !session.is_over()))
    }
}

/// An SFTP session on a connection of its own.
pub(super) struct Session {
    pub(super) sftp: RawSftpSession,
    /// `fsync@openssh.com`.
    pub(super) can_sync: bool,
    /// `hardlink@openssh.com`.
    pub(super) can_link: bool,
    /// `statvfs@openssh.com`.
    pub(super) tells_space: bool,
    /// The most bytes that one read may ask for, and one write carry.
    pub(super) read_bytes: u32,
    pub(super) write_bytes: usize,
    /// Bytes that may be on their way to the server.
    pub(super) window: Semaphore,
    pub(super) connection: SshConnection,
    /// The stream below is at its end.
    over: CancellationToken,
    failures_before: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Inner {
    /// The slot for an operation. One that carries much gets the connection with the fewest others of its kind, then with the
    /// fewest that carry much at all: what comes from the server in bulk holds up the answers to what goes there. A few
    /// questions wait for no further connection while there is one, or one is being made.
    fn slot(&self, load: Load) -> Option<&Slot> {
        let slots = self.slots.iter();
        if load != Load::Questions {
            return slots.min_by_key(|slot| {
                let (bulk, same) = (
                    slot.users.bulk(),
                    slot.users.of(load).load(Ordering::Relaxed),
                );
                (same, bulk, !slot.is_connected())
            });
        }
        let with_room = slots
            .clone()
            .filter(|slot| slot.users.all() < SFTP_OPERATIONS_ON_ONE);
        let connected = with_room.clone().filter(|slot| slot.is_connected());
        connected
            .min_by_key(|slot| slot.users.all())
            .or_else(|| with_room.clone().find(|slot| slot.users.all() > 0))
            .or_else(|| slots.min_by_key(|slot| slot.users.all()))
    }

    /// A session for one operation, connected if need be.
    pub(super) async fn session(&self, load: Load) -> Result<Lease, SftpFailure> {
        let slot = self
            .slot(load)
            .ok_or_else(|| SftpFailure::Answer("no connection is configured".to_owned()))?;
        let failure = match self.session_in(slot, load).await {
            Err(failure) => failure,
            leased => return leased,
        };
        // A server may allow fewer connections than there are slots.
        let others = self.slots.iter().filter(|slot| slot.is_connected());
        match others.min_by_key(|slot| slot.users.all()) {
            Some(other)
                if matches!(failure, SftpFailure::Connect(_) | SftpFailure::Subsystem(_)) =>
            {
                tracing::debug!(%failure, "no further connection");
                self.session_in(other, load).await
            }
            _ => Err(failure),
        }
    }

    /// A session of this slot, connected if need be.
    async fn session_in(&self, slot: &Slot, load: Load) -> Result<Lease, SftpFailure> {
        let user = Arc::new(User::of(slot, load));
        let lease = |session: &Arc<Session>| Lease {
            session: Arc::clone(session),
            _user: user,
        };
        let mut place = slot.session.lock().await;
        let failures = self.failures.load(Ordering::Relaxed);
        if let Some(session) = place.as_ref()
            && !session.is_over()
            && session.failures_before == failures
        {
            return Ok(lease(session));
        }
        *place = None;
        let session = place.insert(Arc::new(self.connect(failures).await?));
        Ok(lease(session))
    }

    async fn connect(&self, failures_before: u64) -> Result<Session, SftpFailure> {
        let connection = connect(&self.options.server)
            .await
            .map_err(|error| SftpFailure::Connect(Box::new(error)))?;
        let stream = open_subsystem(&connection, "sftp")
            .await
            .map_err(SftpFailure::Subsystem)?;
        let config = Config {
            max_packet_len: SFTP_PACKET_BYTES_MAX,
            request_timeout_secs: SFTP_REQUEST_DEADLINE.as_secs(),
            ..Config::default()
        };
        let over = CancellationToken::new();
        let stream = Watched::new(stream, over.clone());
        let mut sftp = RawSftpSession::new_with_config(stream, config);
        let version = until_over(&over, async { Ok(sftp.init().await?) }).await?;
        let has = |name: &str, value: &str| {
            version
                .extensions
                .get(name)
                .is_some_and(|found| found == value)
        };
        let (mut read_bytes, mut write_bytes) = (SFTP_IO_BYTES_UNKNOWN, SFTP_IO_BYTES_UNKNOWN);
        if has(extensions::LIMITS, "1") {
            let limits = until_over(&over, async { Ok(sftp.limits().await?) }).await?;
            read_bytes = bound(limits.max_read_len);
            write_bytes = bound(limits.max_write_len);
            sftp.set_limits(Limits::from(limits));
        }
        Ok(Session {
            can_sync: has(extensions::FSYNC, "1"),
            can_link: has(extensions::HARDLINK, "1"),
            tells_space: has(extensions::STATVFS, "2"),
            read_bytes,
            write_bytes: usize::try_from(write_bytes).unwrap_or(usize::MAX),
            sftp,
            window: Semaphore::new(SFTP_WINDOW_BYTES_CONNECTION),
            connection,
            over,
            failures_before,
        })
    }
}

impl Session {
    fn is_over(&self) -> bool {
        self.connection.is_closed() || self.over.is_cancelled()
    }

    /// Does something with the session, unless its connection ends before that: nothing is asked of it then, be it to
    /// tidy up.
    pub(super) async fn until_over<T>(
        &self,
        work: impl Future<Output = Result<T, SftpFailure>>,
    ) -> Result<T, SftpFailure> {
        until_over(&self.over, work).await
    }
}

async fn until_over<T>(
    over: &CancellationToken,
    work: impl Future<Output = Result<T, SftpFailure>>,
) -> Result<T, SftpFailure> {
    tokio::select! {
        biased;
        // What was done by the end is done.
        done = work => done,
        // Without a connection the rest of the work can only wait for its deadline.
        () = over.cancelled() => Err(SftpFailure::Lost),
    }
}

/// What a server says it takes, which is a hint and no more: 0 is "not said".
fn bound(said: u64) -> u32 {
    match u32::try_from(said).unwrap_or(u32::MAX) {
        0 => SFTP_IO_BYTES_UNKNOWN,
        said => said.clamp(SFTP_IO_BYTES_MIN, SFTP_IO_BYTES),
    }
}
