//! Reading objects from an SFTP server, many requests in flight and the answers in order; and removing them.

use std::sync::Arc;

use bytes::Bytes;
use formats::object::ObjectKind;
use futures_util::stream::{self, StreamExt as _};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, FileMode, OpenFlags, StatusCode};
use tokio::join;
use tokio::sync::OwnedSemaphorePermit;

use crate::destination::sftp::Inner;
use crate::destination::sftp::failure::SftpFailure;
use crate::destination::sftp::session::{Lease, Load, Session};
use crate::destination::throttle::Transfer;
use crate::destination::{ByteRange, DestinationError, DestinationName, ObjectKey, ObjectRead};
use crate::limits::SFTP_WINDOW_BYTES;

impl Inner {
    /// A part of an object.
    pub(super) async fn get_range(
        &self,
        key: &ObjectKey,
        range: ByteRange,
    ) -> Result<ObjectRead, DestinationError> {
        let load = match key.name.kind() {
            ObjectKind::Pack | ObjectKind::Meta => Load::download(range.bytes),
            ObjectKind::Config | ObjectKind::Keys | ObjectKind::Log => Load::Questions,
        };
        let permits = match load {
            Load::Questions => &self.small_reads,
            Load::Upload | Load::Download => &self.operations,
        };
        let under_way = Arc::clone(permits).acquire_owned().await.ok();
        let opened = async {
            let session = self.session(load).await?;
            let path = self.path(&key.to_string());
            let opening = async {
                let file = session.open_object(&path).await?;
                if file.is_none() {
                    self.check_root(&session).await?;
                }
                Ok(file)
            };
            let file = session.until_over(opening).await?;
            Ok((session, file))
        };
        let fail = |failure| self.error("read", key, failure);
        let (session, file) = opened.await.map_err(fail)?;
        let (handle, total) = file.ok_or_else(|| self.absent(key))?;
        let file = OpenFile {
            session,
            handle,
            destination: self.name.clone(),
            key: key.clone(),
            transfer: self.throttle.transfer(),
            _under_way: under_way,
        };
        let bytes = range.bytes_in(total).ok_or(DestinationError::PastEnd {
            destination: self.name.clone(),
            key: key.clone(),
            total,
        })?;
        Ok(ObjectRead {
            total,
            bytes,
            body: file.stream(range.start, bytes),
        })
    }

    /// An object's bytes.
    pub(super) async fn head(&self, key: &ObjectKey) -> Result<u64, DestinationError> {
        let _under_way = self.operations.acquire().await;
        let asked = async {
            let session = self.session(Load::Questions).await?;
            let path = self.path(&key.to_string());
            let looking = async {
                let bytes = session.size_of(&path).await?;
                if bytes.is_none() {
                    self.check_root(&session).await?;
                }
                Ok(bytes)
            };
            session.until_over(looking).await
        };
        asked
            .await
            .map_err(|failure| self.error("look at", key, failure))?
            .ok_or_else(|| self.absent(key))
    }

    /// Removes an object.
    pub(super) async fn delete(&self, key: &ObjectKey) -> Result<(), DestinationError> {
        self.head(key).await?;
        let removed = async {
            let session = self.session(Load::Questions).await?;
            let path = self.path(&key.to_string());
            let removing = async { Ok(session.sftp.remove(path).await.map(drop)?) };
            session.until_over(removing).await
        };
        removed
            .await
            .map_err(|failure: SftpFailure| self.error("remove", key, failure))
    }
}

/// An object that is being read. Its handle is given back when nobody reads it any more.
struct OpenFile {
    session: Lease,
    handle: String,
    destination: DestinationName,
    key: ObjectKey,
    transfer: Arc<Transfer>,
    _under_way: Option<OwnedSemaphorePermit>,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // Nobody waits for it: the connection is free for others.
        let (session, handle) = (self.session.session(), std::mem::take(&mut self.handle));
        // Outside of a runtime the connection goes as well, and the handle with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let closing = async { Ok(session.sftp.close(handle).await.map(drop)?) };
                if let Err(error) = session.until_over(closing).await {
                    tracing::debug!(%error, "closing an object");
                }
            });
        }
    }
}

impl OpenFile {
    fn stream(
        self,
        start: u64,
        bytes: u64,
    ) -> stream::BoxStream<'static, Result<Bytes, DestinationError>> {
        let Pieces { piece_bytes, ahead } = self.session.pieces(&self.transfer);
        let pieces = bytes.div_ceil(piece_bytes);
        let file = Arc::new(self);
        stream::iter(0..pieces)
            .map(move |piece| {
                let file = Arc::clone(&file);
                let from = piece * piece_bytes;
                let wanted = piece_bytes.min(bytes - from);
                async move {
                    file.transfer.take(wanted).await;
                    let read = file.session.read_exact(&file.handle, start + from, wanted);
                    file.session.until_over(read).await.map_err(|failure| {
                        failure.into_error(file.destination.clone(), "read", file.key.to_string())
                    })
                }
            })
            .buffered(ahead)
            .boxed()
    }
}

/// How an object is read.
struct Pieces {
    /// Never 0.
    piece_bytes: u64,
    /// How many are asked for at a time.
    ahead: usize,
}

impl Session {
    fn pieces(&self, transfer: &Transfer) -> Pieces {
        let bytes_max = usize::try_from(self.read_bytes).unwrap_or(usize::MAX);
        let piece_bytes = transfer.piece_bytes(bytes_max).max(1);
        Pieces {
            piece_bytes: piece_bytes as u64,
            ahead: (SFTP_WINDOW_BYTES / piece_bytes).max(1),
        }
    }

    /// Opens an object and tells its size; nothing when there is none. What is no file is no object. Both are asked at once:
    /// on a long line each question costs a round trip.
    async fn open_object(&self, path: &str) -> Result<Option<(String, u64)>, SftpFailure> {
        let opening = self
            .sftp
            .open(path, OpenFlags::READ, FileAttributes::empty());
        let (bytes, opened) = join!(self.size_of(path), opening);
        match (bytes, opened.map_err(SftpFailure::from)) {
            (Ok(Some(bytes)), Ok(handle)) => Ok(Some((handle.handle, bytes))),
            (Ok(_), Err(failure)) if failure.is_absent() => Ok(None),
            (Ok(_), Err(failure)) => Err(failure),
            (bytes, Ok(handle)) => {
                self.sftp.close(handle.handle).await?;
                bytes.map(|_| None)
            }
            (Err(failure), Err(_)) => Err(failure),
        }
    }

    /// The bytes of a file, not following a link; nothing when there is none.
    pub(super) async fn size_of(&self, path: &str) -> Result<Option<u64>, SftpFailure> {
        let found = match self.sftp.lstat(path).await.map_err(SftpFailure::from) {
            Ok(found) => found.attrs,
            Err(failure) if failure.is_absent() => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let mode = FileMode::from_bits_truncate(found.permissions.unwrap_or_default() & 0xF000);
        match found.size {
            Some(bytes) if mode == FileMode::REG => Ok(Some(bytes)),
            _ => Err(SftpFailure::Answer(format!("{path} is no file"))),
        }
    }

    /// Exactly these bytes; servers may give fewer at a time.
    async fn read_exact(
        &self,
        handle: &str,
        offset: u64,
        bytes: u64,
    ) -> Result<Bytes, SftpFailure> {
        let mut gathered: Vec<u8> = Vec::new();
        loop {
            let have = gathered.len() as u64;
            let Some(left) = bytes.checked_sub(have).filter(|left| *left > 0) else {
                return Ok(gathered.into());
            };
            let ask = u32::try_from(left).unwrap_or(u32::MAX);
            let data = match self.sftp.read(handle, offset + have, ask).await {
                Ok(data) => data.data,
                Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => {
                    let what = format!("it ended {left} bytes early");
                    return Err(SftpFailure::Answer(what));
                }
                Err(error) => return Err(error.into()),
            };
            if data.is_empty() || data.len() as u64 > left {
                let what = format!("{} bytes where {left} were asked for", data.len());
                return Err(SftpFailure::Answer(what));
            }
            if gathered.is_empty() {
                gathered = data;
            } else {
                gathered.extend_from_slice(&data);
            }
        }
    }

    /// BLAKE3 of a file of so many bytes.
    pub(super) async fn digest(
        &self,
        path: &str,
        bytes: u64,
        transfer: &Transfer,
    ) -> Result<[u8; 32], SftpFailure> {
        let opened = self
            .sftp
            .open(path, OpenFlags::READ, FileAttributes::empty())
            .await?;
        let Pieces { piece_bytes, ahead } = self.pieces(transfer);
        let mut pieces = stream::iter(0..bytes.div_ceil(piece_bytes))
            .map(|piece| {
                let from = piece * piece_bytes;
                let wanted = piece_bytes.min(bytes - from);
                let handle = opened.handle.as_str();
                async move {
                    transfer.take(wanted).await;
                    self.read_exact(handle, from, wanted).await
                }
            })
            .buffered(ahead)
            .boxed();
        let mut hasher = blake3::Hasher::new();
        let mut failed = None;
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => {
                    hasher.update(&piece);
                }
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            }
        }
        drop(pieces);
        let synced = match failed {
            None => self.sync(&opened.handle).await,
            Some(failure) => Err(failure),
        };
        self.sftp.close(opened.handle).await?;
        synced?;
        Ok(hasher.finalize().into())
    }
}
