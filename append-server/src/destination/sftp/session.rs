//! The connections of an SFTP destination: a few, made on first use, each shared by many operations and replaced when
//! it is lost.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use russh_sftp::client::rawsession::Limits;
use russh_sftp::client::{Config, RawSftpSession};
use russh_sftp::extensions;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::destination::sftp::Inner;
use crate::destination::sftp::failure::SftpFailure;
use crate::destination::sftp::watched::Watched;
use crate::limits::{
    SFTP_IO_BYTES, SFTP_IO_BYTES_MIN, SFTP_IO_BYTES_UNKNOWN, SFTP_PACKET_BYTES_MAX,
    SFTP_REQUEST_DEADLINE,
};
use crate::ssh::connect::{SshConnection, connect};
use crate::ssh::subsystem::open_subsystem;

/// A place for one connection.
#[derive(Debug, Default)]
pub(super) struct Slot {
    session: Mutex<Option<Arc<Session>>>,
    /// Operations that use it, or wait for it to connect.
    users: Arc<AtomicUsize>,
}

/// A session in use by one operation.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    session: Arc<Session>,
    _user: Arc<User>,
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

/// Counts as a slot's user until it is dropped.
#[derive(Debug)]
struct User(Arc<AtomicUsize>);

impl User {
    fn of(slot: &Slot) -> Self {
        slot.users.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&slot.users))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
    /// A session for one operation: the one with the fewest others on it, connected if need be. Of those the first, so that
    /// what is done one by one never waits for more than one connection to be made.
    pub(super) async fn session(&self) -> Result<Lease, SftpFailure> {
        let slot = self
            .slots
            .iter()
            .min_by_key(|slot| slot.users.load(Ordering::Relaxed))
            .ok_or_else(|| SftpFailure::Answer("no connection is configured".to_owned()))?;
        let user = Arc::new(User::of(slot));
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
            .map_err(SftpFailure::Connect)?;
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
