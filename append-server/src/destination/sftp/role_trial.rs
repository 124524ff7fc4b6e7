//! Which requests of an SFTP server one role's login is granted. The rights are those of `destination policy`, which are
//! sshd's list of requests for each login. Works in the folder of temporary files, where what a login cannot remove is
//! removed with what other uploads left; asks besides for what no such login should have: a command, a connection to
//! elsewhere, the server's own files.

use std::time::Duration;

use russh::ChannelMsg;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tokio::time::timeout;

use crate::answer::chain;
use crate::destination::DestinationError;
use crate::destination::local_root::MARKER;
use crate::destination::sftp::failure::SftpFailure;
use crate::destination::sftp::put::TEMPORARY;
use crate::destination::sftp::root::attributes;
use crate::destination::sftp::session::{Load, Session};
use crate::destination::sftp::{Inner, SftpDestination};
use crate::role::Role;
use crate::role_trial::Expected::{NotRefusable, Refused, Works};
use crate::role_trial::{Found, Rights, RoleTrial, TrialRow, trial_name};

const BYTES: &[u8] = b"Capstan tries out what this login may.\n";
/// What a command that was run would say.
const SAID: &str = "capstan-ran-a-command";
/// How long a command may take to say it.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// A file that every server has, and no login of ours should see.
const SERVERS_OWN: &str = "/etc/passwd";

const LISTING: Rights = Rights::new(Works, Works, Works, Works);
const STORING: Rights = Rights::new(Works, Refused, Works, NotRefusable);
/// Ingest compares what is there with what it would put.
const READING: Rights = Rights::new(Works, Works, Works, NotRefusable);
const CHANGING: Rights = Rights::new(Refused, Refused, NotRefusable, NotRefusable);
const RENAMING: Rights = Rights::new(Refused, Refused, Works, NotRefusable);
const REMOVING: Rights = Rights::new(Refused, Refused, NotRefusable, Works);

impl SftpDestination {
    /// Tries out this login as a role's. What it may not put, the login that is `configured` puts for it, if that may.
    pub async fn try_role(
        &self,
        role: Role,
        configured: &Self,
    ) -> Result<RoleTrial, DestinationError> {
        let inner = &*self.0;
        let session = inner.session(Load::Questions).await;
        let session =
            session.map_err(|failure| inner.error("connect to", &inner.options.path, failure))?;
        let mut trial = Trial {
            inner,
            session: &session,
            role,
            path: inner.path(&format!("{TEMPORARY}/{}", trial_name())),
            is_there: false,
            made: Vec::new(),
            rows: Vec::new(),
        };
        trial.list().await;
        trial.store(&configured.0).await;
        trial.read().await;
        trial.change().await;
        trial.remove().await;
        trial.look_elsewhere().await;
        let left = trial.clean_up(&configured.0).await;
        let server = &inner.options.server;
        Ok(RoleTrial {
            who: format!("login {}@{}", server.user, server.address),
            rows: trial.rows,
            left,
        })
    }
}

struct Trial<'a> {
    inner: &'a Inner,
    session: &'a Session,
    role: Role,
    /// The file that everything is tried on.
    path: String,
    /// Whether it is there. Requests that name nothing are refused all the same, or else answered with that.
    is_there: bool,
    /// Files that may be there.
    made: Vec<String>,
    rows: Vec<TrialRow>,
}

impl Trial<'_> {
    fn note(&mut self, what: &'static str, rights: Rights, found: Found) {
        let expected = rights.of(self.role);
        self.rows.push(TrialRow {
            what,
            expected,
            found,
        });
    }

    /// What became of a request about the trial's own file.
    fn found<T>(&self, answer: Result<T, SftpError>) -> Found {
        match found(answer.map_err(SftpFailure::from)) {
            // It was looked for, and so was not refused.
            Found::NoSuchThing if !self.is_there => Found::Works,
            Found::NoSuchThing => Found::Unclear("the trial's file is gone".to_owned()),
            found => found,
        }
    }

    async fn list(&mut self) {
        let found = found(self.session.names(&self.inner.options.path).await);
        self.note("listing", LISTING, found);
    }

    async fn store(&mut self, configured: &Inner) {
        let stored = store(self.inner, self.session, &self.path).await;
        self.is_there = stored.is_ok();
        self.note("storing", STORING, found(stored));
        if !self.is_there
            && let Ok(session) = configured.session(Load::Questions).await
        {
            self.is_there = store(configured, &session, &self.path).await.is_ok();
        }
        self.made.push(self.path.clone());
        if self.session.can_link {
            let name = format!("{}-linked", self.path);
            let linked = self.session.sftp.hardlink(&self.path, &name).await;
            let linking = self.found(linked);
            self.note("linking, as an object gets its name", STORING, linking);
            self.made.push(name);
        }
    }

    /// Without a file of its own, the one that marks the root is read.
    async fn read(&mut self) {
        let path = if self.is_there {
            self.path.clone()
        } else {
            self.inner.path(MARKER)
        };
        let found = found(read(self.session, &path).await);
        self.note("reading", READING, found);
    }

    /// What would change a file that is there.
    async fn change(&mut self) {
        let (sftp, path) = (&self.session.sftp, self.path.clone());
        let opened = sftp
            .open(&path, OpenFlags::WRITE, FileAttributes::empty())
            .await;
        if let Ok(opened) = &opened
            && let Err(error) = sftp.close(&opened.handle).await
        {
            tracing::debug!(%error, "closing the trial's file");
        }
        let overwriting = self.found(opened);
        self.note("overwriting", CHANGING, overwriting);
        let changed = self.found(sftp.setstat(&path, attributes(0o400)).await);
        self.note("changing its mode", CHANGING, changed);
        let renamed = sftp.rename(&path, format!("{path}-renamed")).await;
        let is_renamed = renamed.is_ok();
        let renaming = self.found(renamed);
        if is_renamed {
            self.path = format!("{path}-renamed");
            self.made.push(self.path.clone());
        }
        self.note("renaming", RENAMING, renaming);
    }

    async fn remove(&mut self) {
        let removed = self.session.sftp.remove(&self.path).await;
        let is_gone = removed.is_ok();
        let found = self.found(removed);
        self.note("removing", REMOVING, found);
        self.is_there &= !is_gone;
    }

    /// What goes past the destination's directory.
    async fn look_elsewhere(&mut self) {
        let seen = match found(
            self.session
                .sftp
                .lstat(SERVERS_OWN)
                .await
                .map_err(Into::into),
        ) {
            // It sees another root than the server's.
            Found::NoSuchThing => Found::Refused,
            seen => seen,
        };
        self.note("seeing the server's own files", Rights::NOBODYS, seen);
        let ran = match timeout(COMMAND_DEADLINE, run_command(self.session)).await {
            Ok(Ok(true)) => Found::Works,
            // A command that says nothing is none.
            Ok(Ok(false)) | Err(_) => Found::Refused,
            Ok(Err(error)) => not_opened(&error),
        };
        self.note("running a command there", Rights::NOBODYS, ran);
        let port = u32::from(self.inner.options.server.address.port());
        let handle = self.session.connection.handle();
        let opening = handle.channel_open_direct_tcpip("127.0.0.1", port, "127.0.0.1", 0);
        let forwarded = match timeout(COMMAND_DEADLINE, opening).await {
            Ok(Ok(_)) => Found::Works,
            Ok(Err(error)) => not_opened(&error),
            Err(_) => Found::Unclear("no answer in time".to_owned()),
        };
        self.note("connecting to elsewhere", Rights::NOBODYS, forwarded);
    }

    /// Removes what is left, with the login that is configured if need be; says what stays.
    async fn clean_up(&mut self, configured: &Inner) -> Vec<String> {
        let mut left = Vec::new();
        for path in std::mem::take(&mut self.made) {
            let own = self.session.sftp.remove(&path).await;
            let Err(mut failure) = own.map_err(SftpFailure::from) else {
                continue;
            };
            if !failure.is_absent()
                && let Ok(session) = configured.session(Load::Questions).await
            {
                match session.sftp.remove(&path).await {
                    Ok(_) => continue,
                    Err(error) => failure = error.into(),
                }
            }
            if !failure.is_absent() {
                let why = chain(&failure);
                left.push(format!(
                    "{path}: {why}; after a day, any login that may clears {TEMPORARY} away, as does the server's daily job"
                ));
            }
        }
        left
    }
}

/// Stores a file as an object is stored, but for the name that it is linked to.
async fn store(inner: &Inner, session: &Session, path: &str) -> Result<(), SftpFailure> {
    inner.folder(session, TEMPORARY).await?;
    let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
    let handle = session.sftp.open(path, flags, attributes(0o400)).await?;
    let handle = handle.handle;
    let written = session.sftp.write(&handle, 0, BYTES.to_vec()).await;
    let synced = session.sync(&handle).await;
    session.sftp.close(handle).await?;
    written?;
    synced
}

async fn read(session: &Session, path: &str) -> Result<(), SftpFailure> {
    let opened = session
        .sftp
        .open(path, OpenFlags::READ, FileAttributes::empty())
        .await?;
    let read = session.sftp.read(&opened.handle, 0, 16).await;
    session.sftp.close(opened.handle).await?;
    Ok(read.map(drop)?)
}

/// Whether the server runs a command for the login: by what that says, for a server may start another in its place.
async fn run_command(session: &Session) -> Result<bool, russh::Error> {
    let handle = session.connection.handle();
    let mut channel = handle.channel_open_session().await?;
    channel.exec(true, format!("echo {SAID}")).await?;
    channel.eof().await?;
    let mut said = Vec::new();
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => said.extend_from_slice(&data),
            ChannelMsg::Failure => return Ok(false),
            _ => {}
        }
        if said.starts_with(SAID.as_bytes()) {
            return Ok(true);
        }
        if said.len() > SAID.len() {
            return Ok(false);
        }
    }
    Ok(false)
}

fn not_opened(error: &russh::Error) -> Found {
    match error {
        russh::Error::ChannelOpenFailure(russh::ChannelOpenFailure::ConnectFailed) => Found::Works,
        russh::Error::ChannelOpenFailure(_) => Found::Refused,
        error => Found::Unclear(chain(error)),
    }
}

/// [`Found::NoSuchThing`] is a file that is not there.
fn found<T>(answer: Result<T, SftpFailure>) -> Found {
    match answer {
        Ok(_) => Found::Works,
        Err(failure) if failure.is_absent() => Found::NoSuchThing,
        Err(failure)
            if failure.is_code(StatusCode::PermissionDenied)
                || failure.is_code(StatusCode::OpUnsupported) =>
        {
            Found::Refused
        }
        Err(failure) => Found::Unclear(chain(&failure)),
    }
}
