//! Storing an object on an SFTP server: written under a temporary name, made durable, then given its own name by a step
//! that replaces nothing. What was left behind by a lost connection is another temporary file, and harms nobody.

use formats::ids::to_hex;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, TryStreamExt as _};
use russh_sftp::protocol::{OpenFlags, StatusCode};
use tokio::join;

use crate::clock::{Clock as _, SystemClock};
use crate::destination::sftp::Inner;
use crate::destination::sftp::failure::SftpFailure;
use crate::destination::sftp::root::attributes;
use crate::destination::sftp::session::{Load, Session};
use crate::destination::throttle::Transfer;
use crate::destination::{DAMAGED_FOLDER, DestinationError, ObjectKey, PutOutcome, damaged_name};
use crate::limits::SFTP_WINDOW_BYTES;
use crate::spool::SpooledObject;

/// After so long a temporary file is nobody's any more.
const ABANDONED_SECS: u64 = 86_400;
/// The folder of temporary files beneath the root; no repository can have this name.
pub(super) const TEMPORARY: &str = "tmp";

impl Inner {
    /// Stores the object unless one of that name is there.
    pub(super) async fn put(
        &self,
        key: &ObjectKey,
        source: &SpooledObject,
    ) -> Result<PutOutcome, DestinationError> {
        let _under_way = self.operations.acquire().await;
        let stored = async {
            let session = self.session(Load::upload(source.bytes())).await?;
            session.until_over(self.store(&session, key, source)).await
        };
        stored.await.map_err(|failure| {
            // A folder that was there is gone: it is made anew at the next attempt.
            self.forget_folders();
            let failure = match failure {
                failure if failure.is_absent() => {
                    SftpFailure::Answer("a folder or file that was there is gone".to_owned())
                }
                failure => failure,
            };
            self.error("store", key, failure)
        })
    }

    async fn store(
        &self,
        session: &Session,
        key: &ObjectKey,
        source: &SpooledObject,
    ) -> Result<PutOutcome, SftpFailure> {
        let is_first = !self.knows(TEMPORARY);
        self.folder(session, TEMPORARY).await?;
        let tidying = async {
            if is_first {
                self.remove_abandoned(session).await;
            }
        };
        let (stored, ()) = join!(self.store_new(session, key, source), tidying);
        stored
    }

    /// Stores the object by way of a temporary file. What does not depend on each other is asked side by side: on a long
    /// line each question costs a round trip.
    async fn store_new(
        &self,
        session: &Session,
        key: &ObjectKey,
        source: &SpooledObject,
    ) -> Result<PutOutcome, SftpFailure> {
        let name = key.to_string();
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = self.path(&name);
        let random: [u8; 16] = formats::keys::secret::random()
            .map_err(|error| SftpFailure::Source(std::io::Error::other(error)))?;
        let temporary = self.path(&format!("{TEMPORARY}/{}", to_hex(&random)));
        let (present, opened) = join!(session.kind_of(&path), session.create(&temporary));
        if !matches!(present, Ok(None)) {
            if let Ok(handle) = opened {
                session.give_up(handle, &temporary).await;
            }
            present?;
            // Sent again after a lost answer, most of the time: nothing to write then.
            self.folder(session, folder).await?;
            let same = self.compare(session, &path, source).await?;
            // Whoever put it there may not have come to that.
            session.sync_folder(&self.path(folder)).await?;
            return Ok(same);
        }
        let transfer = self.throttle.transfer();
        let handle = match opened {
            Ok(handle) => handle,
            Err(failure) => return Err(self.explain(session, failure, source).await),
        };
        let (written, made) = join!(
            session.write_new(&handle, source, &transfer),
            self.folder(session, folder)
        );
        let whole = match written {
            Ok(()) => made,
            Err(failure) => Err(self.explain(session, failure, source).await),
        };
        if let Err(failure) = whole {
            session.remove(&temporary).await;
            return Err(failure);
        }
        self.publish(session, &temporary, (folder, &path), source)
            .await
    }

    async fn explain(
        &self,
        session: &Session,
        failure: SftpFailure,
        source: &SpooledObject,
    ) -> SftpFailure {
        session
            .explain(failure, &self.options.path, source.bytes())
            .await
    }

    /// Moves a damaged object into the folder of such, and stores the good one in its place. A lost connection in between
    /// leaves the name free, which the next repair fills.
    pub(super) async fn replace_damaged(
        &self,
        key: &ObjectKey,
        good: &SpooledObject,
    ) -> Result<String, DestinationError> {
        let kept = self.set_aside(key).await.map_err(|failure| {
            self.forget_folders();
            self.error("set aside", key, failure)
        })?;
        match self.put(key, good).await? {
            PutOutcome::Created | PutOutcome::ExistsSame => Ok(kept),
            PutOutcome::ExistsDifferent => {
                let what = "another took its place in the moment it was free".to_owned();
                Err(self.error("repair", key, SftpFailure::Answer(what)))
            }
        }
    }

    async fn set_aside(&self, key: &ObjectKey) -> Result<String, SftpFailure> {
        let _under_way = self.operations.acquire().await;
        let session = self.session(Load::Questions).await?;
        session.until_over(self.move_aside(&session, key)).await
    }

    async fn move_aside(&self, session: &Session, key: &ObjectKey) -> Result<String, SftpFailure> {
        let damaged = format!("{}/{DAMAGED_FOLDER}", key.repository);
        self.folder(session, &damaged).await?;
        let kept =
            damaged_name(key).map_err(|error| SftpFailure::Source(std::io::Error::other(error)))?;
        let kept = format!("{damaged}/{kept}");
        let name = key.to_string();
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        session
            .sftp
            .rename(self.path(&name), self.path(&kept))
            .await?;
        session.sync_folder(&self.path(&damaged)).await?;
        session.sync_folder(&self.path(folder)).await?;
        Ok(kept)
    }

    /// Removes what others left a day ago among the temporary files.
    async fn remove_abandoned(&self, session: &Session) {
        let path = self.path(TEMPORARY);
        let before = SystemClock.now_unix_secs().saturating_sub(ABANDONED_SECS);
        match session.names_changed_before(&path, before).await {
            Ok(names) => {
                for name in names {
                    session.remove(&format!("{path}/{name}")).await;
                }
            }
            Err(error) => tracing::debug!(%error, "abandoned files stay"),
        }
    }

    /// Gives a complete temporary file its name, durably, and removes its temporary one.
    async fn publish(
        &self,
        session: &Session,
        temporary: &str,
        (folder, path): (&str, &str),
        source: &SpooledObject,
    ) -> Result<PutOutcome, SftpFailure> {
        let naming = async {
            if session.can_link {
                session.sftp.hardlink(temporary, path).await
            } else {
                // In version 3 of the protocol a rename fails when the name is taken; OpenSSH does it by a link.
                session.sftp.rename(temporary, path).await
            }
        };
        let folder = self.path(folder);
        // The folder is opened meanwhile, and made durable only when the name is in it.
        let (named, opened) = join!(naming, session.open_folder(&folder));
        let named = named.map(drop).map_err(SftpFailure::from);
        let syncing = async { session.sync_opened_folder(opened?).await };
        let (outcome, synced, ()) = join!(
            self.named(session, named, path, source),
            syncing,
            // Renamed away, or left: a connection that is lost leaves it for the next clean-up.
            session.remove(temporary)
        );
        let outcome = outcome?;
        synced?;
        Ok(outcome)
    }

    /// What came of the attempt to give an object its name.
    async fn named(
        &self,
        session: &Session,
        named: Result<(), SftpFailure>,
        path: &str,
        source: &SpooledObject,
    ) -> Result<PutOutcome, SftpFailure> {
        match named {
            Ok(()) if session.can_sync => self.see(session, path, source).await,
            // Nobody has promised that it is durable. What reads back is at least there.
            Ok(()) => match self.compare(session, path, source).await? {
                PutOutcome::ExistsSame => Ok(PutOutcome::Created),
                other => Ok(other),
            },
            // Taken by another, or done although the server says it failed.
            Err(failure) => match session.kind_of(path).await {
                Ok(Some(_)) => self.compare(session, path, source).await,
                _ => Err(failure),
            },
        }
    }

    /// A name that was given must be there, with all its bytes.
    async fn see(
        &self,
        session: &Session,
        path: &str,
        source: &SpooledObject,
    ) -> Result<PutOutcome, SftpFailure> {
        match session.size_of(path).await? {
            Some(bytes) if bytes == source.bytes() => Ok(PutOutcome::Created),
            Some(bytes) => Err(SftpFailure::Answer(format!(
                "it took {} bytes and has {bytes}",
                source.bytes()
            ))),
            None => Err(SftpFailure::Answer(
                "it took the object and does not have it".to_owned(),
            )),
        }
    }

    /// Something of this name is there: is it the same? If so it is made durable before it is acknowledged.
    async fn compare(
        &self,
        session: &Session,
        path: &str,
        source: &SpooledObject,
    ) -> Result<PutOutcome, SftpFailure> {
        let Some(bytes) = session.size_of(path).await? else {
            return Err(SftpFailure::Answer(format!(
                "{path} is there and is not there"
            )));
        };
        if bytes != source.bytes() {
            return Ok(PutOutcome::ExistsDifferent);
        }
        let transfer = self.throttle.transfer();
        if session.digest(path, bytes, &transfer).await? != *source.digest().as_bytes() {
            return Ok(PutOutcome::ExistsDifferent);
        }
        Ok(PutOutcome::ExistsSame)
    }
}

impl Session {
    /// Makes a new file to write to.
    async fn create(&self, path: &str) -> Result<String, SftpFailure> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        // Never writable for whoever opens it again.
        Ok(self.sftp.open(path, flags, attributes(0o400)).await?.handle)
    }

    /// Closes and removes a new file that is not wanted.
    async fn give_up(&self, handle: String, temporary: &str) {
        let (closed, ()) = join!(self.sftp.close(handle), self.remove(temporary));
        if let Err(error) = closed {
            tracing::trace!(temporary, %error, "closing a file that is not wanted");
        }
    }

    /// Removes a temporary file, if there still is one.
    async fn remove(&self, temporary: &str) {
        if let Err(error) = self.sftp.remove(temporary).await {
            tracing::trace!(temporary, %error, "no temporary file to remove");
        }
    }

    /// Writes a new file, many pieces in flight, makes it durable where the server can, and closes it.
    async fn write_new(
        &self,
        handle: &str,
        source: &SpooledObject,
        transfer: &Transfer,
    ) -> Result<(), SftpFailure> {
        let (written, read_only) = join!(
            self.write_all(handle, source, transfer),
            self.set_read_only(handle)
        );
        let written = written.and(read_only);
        // Only what is written is made durable: the server has said so for every piece by now. Closing follows at once,
        // for requests on one file are carried out in their order (draft-ietf-secsh-filexfer-02 §6.1).
        let syncing = async {
            match written {
                Ok(()) => self.sync(handle).await,
                failed => failed,
            }
        };
        // A server may tell of a failed write as late as in the answer to closing.
        let (finished, closed) = join!(syncing, self.sftp.close(handle));
        finished?;
        closed?;
        Ok(())
    }

    /// A server may ignore the mode that a file was opened with, or refuse to change modes; not both.
    async fn set_read_only(&self, handle: &str) -> Result<(), SftpFailure> {
        let set = self.sftp.fsetstat(handle, attributes(0o400)).await;
        match set.map_err(SftpFailure::from) {
            Err(failure) if failure.is_code(StatusCode::PermissionDenied) => {
                let found = self.sftp.fstat(handle).await?.attrs.permissions;
                match found {
                    Some(mode) if mode & 0o222 == 0 => Ok(()),
                    _ => Err(failure),
                }
            }
            set => set.map(drop),
        }
    }

    async fn write_all(
        &self,
        handle: &str,
        source: &SpooledObject,
        transfer: &Transfer,
    ) -> Result<(), SftpFailure> {
        let piece_bytes = transfer.piece_bytes(self.write_bytes);
        let pieces_max = (SFTP_WINDOW_BYTES / piece_bytes.max(1)).max(1);
        let mut in_flight = FuturesUnordered::new();
        let mut offset = 0;
        while offset < source.bytes() {
            let piece = read_piece(source, offset, piece_bytes).await?;
            let at = offset;
            offset += piece.len() as u64;
            let room = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            in_flight.push(async move {
                transfer.take(piece.len() as u64).await;
                // Of all that is on its way over this connection, so that a slow line answers in time.
                let _room = self.window.acquire_many(room).await;
                self.sftp.write(handle, at, piece).await
            });
            if in_flight.len() >= pieces_max {
                in_flight.next().await.transpose()?;
            }
        }
        while in_flight.try_next().await?.is_some() {}
        Ok(())
    }
}

async fn read_piece(
    source: &SpooledObject,
    offset: u64,
    bytes_max: usize,
) -> Result<Vec<u8>, SftpFailure> {
    let source = source.clone();
    let reading = tokio::task::spawn_blocking(move || source.read_piece(offset, bytes_max));
    let read = reading
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    read.map_err(SftpFailure::Source)
}
