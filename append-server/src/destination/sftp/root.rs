//! The root of an SFTP destination and the folders beneath it. A root carries a marker, so that a server whose disk is
//! not mounted is not taken for an empty destination; folders are made one by one, and a link is not a folder.

use std::sync::PoisonError;

use formats::ids::to_hex;
use futures_util::future::join_all;
use russh_sftp::protocol::{FileAttributes, FileMode, OpenFlags, StatusCode};
use tokio::join;

use crate::destination::DestinationError;
use crate::destination::local_root::{MARKER, MARKER_TITLE};
use crate::destination::sftp::Inner;
use crate::destination::sftp::failure::SftpFailure;
use crate::destination::sftp::session::{Load, Session};
use crate::examination::{Finding, Verdict};

const FOLDER_MODE: u32 = 0o700;

impl Inner {
    pub(super) async fn create_root(&self) -> Result<bool, DestinationError> {
        let made = async {
            let session = self.session(Load::Questions).await?;
            session.until_over(self.make_root(&session)).await
        };
        made.await
            .map_err(|failure| self.error("make a destination of", &self.options.path, failure))
    }

    async fn make_root(&self, session: &Session) -> Result<bool, SftpFailure> {
        let path = &self.options.path;
        match session.kind_of(path).await? {
            Some(FileMode::DIR) => {}
            Some(_) => return Err(SftpFailure::Root(format!("{path} is no directory"))),
            None => {
                let made = session.sftp.mkdir(path, attributes(FOLDER_MODE)).await;
                made.map_err(|error| match SftpFailure::from(error) {
                    failure if failure.is_absent() => SftpFailure::Root(format!(
                        "the directory that {path} is to be made in does not exist"
                    )),
                    failure => failure,
                })?;
            }
        }
        for name in session.names(path).await? {
            if name == MARKER {
                return Ok(true);
            }
            if name != "lost+found" {
                return Err(SftpFailure::Root(format!(
                    "{path} is not empty; choose an empty directory for a new destination"
                )));
            }
        }
        let id: [u8; 16] = formats::keys::secret::random()
            .map_err(|error| SftpFailure::Source(std::io::Error::other(error)))?;
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        let marker = self.path(MARKER);
        let handle = session.sftp.open(&marker, flags, attributes(0o400)).await?;
        let text = format!("{MARKER_TITLE}\n{}\n", to_hex(&id));
        let written = session
            .sftp
            .write(&handle.handle, 0, text.into_bytes())
            .await;
        let synced = session.sync(&handle.handle).await;
        session.sftp.close(handle.handle).await?;
        written?;
        synced?;
        session.sync_folder(path).await?;
        Ok(false)
    }

    /// An object's absence counts only while the root is there.
    pub(super) async fn check_root(&self, session: &Session) -> Result<(), SftpFailure> {
        match session.kind_of(&self.path(MARKER)).await? {
            Some(FileMode::REG) => Ok(()),
            _ => Err(SftpFailure::Root(format!(
                "{} has no file `{MARKER}`: is its disk mounted? If it is a new destination, create it first",
                self.options.path
            ))),
        }
    }

    /// Makes a folder beneath the root, with those above it.
    pub(super) async fn folder(&self, session: &Session, name: &str) -> Result<(), SftpFailure> {
        if self.knows(name) {
            return Ok(());
        }
        let unknown: Vec<&str> = name
            .match_indices('/')
            .map(|(end, _)| &name[..end])
            .chain([name])
            .filter(|folder| !self.knows(folder))
            .collect();
        let above = |folder: &str| {
            let above = folder.rsplit_once('/').map_or("", |(above, _)| above);
            self.path(above).trim_end_matches('/').to_owned()
        };
        // What its name is in is opened meanwhile, where it is there yet.
        let looked = unknown.iter().map(|folder| async {
            let (path, above) = (self.path(folder), above(folder));
            join!(session.kind_of(&path), session.open_folder(&above))
        });
        let (root, looked) = join!(self.check_root(session), join_all(looked));
        let (kinds, opened): (Vec<_>, Vec<_>) = looked.into_iter().unzip();
        let made = async {
            root?;
            for (folder, kind) in unknown.iter().zip(kinds) {
                self.make_folder(session, &self.path(folder), kind?).await?;
            }
            Ok(())
        };
        let made: Result<(), SftpFailure> = made.await;
        // Made by another a moment ago, perhaps: until its name is durable, none is known.
        let synced = join_all(unknown.iter().zip(opened).map(|(folder, opened)| async {
            match opened {
                Ok(opened @ Some(_)) => session.sync_opened_folder(opened).await,
                _ => session.sync_folder(&above(folder)).await,
            }
        }));
        let synced: Result<(), SftpFailure> = synced.await.into_iter().collect();
        made.and(synced)?;
        self.folders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(unknown.iter().map(|folder| (*folder).to_owned()));
        Ok(())
    }

    /// Makes a folder where there is nothing.
    async fn make_folder(
        &self,
        session: &Session,
        path: &str,
        kind: Option<FileMode>,
    ) -> Result<(), SftpFailure> {
        match kind {
            Some(FileMode::DIR) => return Ok(()),
            Some(_) => {
                return Err(SftpFailure::Root(format!(
                    "{path} is no directory, and must be one"
                )));
            }
            None => {}
        }
        let made = session.sftp.mkdir(path, attributes(FOLDER_MODE)).await;
        // Another writer may have been quicker.
        if let Err(error) = made
            && session.kind_of(path).await? != Some(FileMode::DIR)
        {
            return Err(error.into());
        }
        Ok(())
    }

    pub(super) fn knows(&self, folder: &str) -> bool {
        self.folders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(folder)
    }

    /// Folders may have gone with whatever made an operation fail.
    pub(super) fn forget_folders(&self) {
        self.folders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Which of OpenSSH's extensions the server has, and what it means when it has not.
    pub(super) async fn findings(&self) -> Vec<Finding> {
        let session = match self.session(Load::Questions).await {
            Ok(session) => session,
            Err(failure) => {
                let error = self.error("connect to", &self.options.path, failure);
                return vec![Finding::failed("SFTP", &error)];
            }
        };
        let has = |what, has: bool, without: &str| {
            if has {
                Finding::new(what, "has it", Verdict::Good)
            } else {
                Finding::new(what, format!("has it not: {without}"), Verdict::Warning)
            }
        };
        vec![
            has(
                "fsync@openssh.com",
                session.can_sync,
                "what is stored is read back instead, and may not survive a power cut there",
            ),
            has(
                "hardlink@openssh.com",
                session.can_link,
                "names are given by a rename, which some servers let replace a file",
            ),
            has(
                "statvfs@openssh.com",
                session.tells_space,
                "a full disk shows only when it refuses",
            ),
        ]
    }

    pub(super) async fn free_bytes(&self) -> Result<Option<u64>, DestinationError> {
        let asked = async {
            let session = self.session(Load::Questions).await?;
            let asked = session.free_bytes(&self.options.path);
            session.until_over(asked).await
        };
        asked
            .await
            .map_err(|failure| self.error("ask for the free space of", &self.options.path, failure))
    }
}

impl Session {
    /// What is at a path, not following a link there; nothing when nothing is.
    pub(super) async fn kind_of(&self, path: &str) -> Result<Option<FileMode>, SftpFailure> {
        match self.sftp.lstat(path).await.map_err(SftpFailure::from) {
            Ok(found) => {
                let mode = found.attrs.permissions.unwrap_or_default();
                Ok(Some(FileMode::from_bits_truncate(mode & 0xF000)))
            }
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Makes an open file durable, where the server can.
    pub(super) async fn sync(&self, handle: &str) -> Result<(), SftpFailure> {
        if self.can_sync {
            self.sftp.fsync(handle).await?;
        }
        Ok(())
    }

    /// Makes the names in a folder durable, as far as the server lets us: OpenSSH syncs whatever it has opened, a
    /// directory too. Where it does not work, the server's own file system has to see to it.
    pub(super) async fn sync_folder(&self, path: &str) -> Result<(), SftpFailure> {
        let opened = self.open_folder(path).await?;
        self.sync_opened_folder(opened).await
    }

    /// Opens a folder to make the names in it durable; nothing where that cannot be.
    pub(super) async fn open_folder(&self, path: &str) -> Result<Option<String>, SftpFailure> {
        if !self.can_sync {
            return Ok(None);
        }
        let opened = self
            .sftp
            .open(path, OpenFlags::READ, FileAttributes::empty())
            .await;
        match opened.map_err(SftpFailure::from) {
            Ok(handle) => Ok(Some(handle.handle)),
            // It opens no directories.
            Err(SftpFailure::Refused { .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Makes the names durable that are in an opened folder now, and closes it.
    pub(super) async fn sync_opened_folder(
        &self,
        opened: Option<String>,
    ) -> Result<(), SftpFailure> {
        let Some(handle) = opened else {
            return Ok(());
        };
        let (synced, closed) = join!(self.sftp.fsync(&handle), self.sftp.close(&handle));
        match synced.map_err(SftpFailure::from) {
            // It opens them and syncs none.
            Err(failure) if failure.is_code(StatusCode::OpUnsupported) => {}
            synced => drop(synced?),
        }
        closed?;
        Ok(())
    }

    pub(super) async fn free_bytes(&self, path: &str) -> Result<Option<u64>, SftpFailure> {
        if !self.tells_space {
            return Ok(None);
        }
        let space = self.sftp.statvfs(path).await?;
        Ok(Some(space.blocks_avail.saturating_mul(space.fragment_size)))
    }

    /// A failure without a reason, made clear where the reason is a full disk.
    pub(super) async fn explain(
        &self,
        failure: SftpFailure,
        path: &str,
        needed: u64,
    ) -> SftpFailure {
        if !failure.is_code(StatusCode::Failure) {
            return failure;
        }
        match self.free_bytes(path).await {
            Ok(Some(free)) if free < needed => SftpFailure::Full,
            _ => failure,
        }
    }
}

/// Attributes that set permissions and nothing else.
pub(super) fn attributes(mode: u32) -> FileAttributes {
    let mut attributes = FileAttributes::empty();
    attributes.permissions = Some(mode);
    attributes
}
