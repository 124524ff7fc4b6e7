//! One upload connection's thread: streams packs as their bytes come, and reads each acknowledgement. What
//! the server says it stored must be what was sent.

use std::io;

use crossbeam_channel::{Receiver, Sender};
use formats::codec::DecodeError;
use formats::ids::PackId;
use formats::wire::control::FromAgent;
use formats::wire::control::chunks::PackStored;
use formats::wire::upload::Stored;
use formats::wire::upload::refusal::Refusal;

use crate::budget::Plain;
use crate::control::outgoing::Outgoing;
use crate::cpu_limit::CpuLimit;
use crate::limits::STORED_WAIT;
use crate::threads::ThreadError;
use crate::totals::Counters;
use crate::upload::http::{self, HttpError};
use crate::upload::stream::Stream;

/// A part of a pack.
#[derive(Debug)]
pub enum Part {
    /// Some of its bytes, and their room.
    Bytes(Plain),
    /// Its last bytes.
    End(Vec<u8>),
}

/// Why a pack is not known to be stored.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// HTTP went wrong.
    #[error("a pack could not be uploaded")]
    Http(#[from] HttpError),
    /// The connection broke while the pack was sent.
    #[error("a pack could not be sent")]
    Send(#[source] io::Error),
    /// The server refused it.
    #[error("the append-server refused a pack ({status}): {text}")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// Its reason, escaped.
        text: String,
    },
    /// The answer's body is no acknowledgement.
    #[error("the append-server's acknowledgement cannot be read")]
    Acknowledgement(#[from] DecodeError),
    /// It acknowledged something else.
    #[error(
        "the append-server stored {stored} ({stored_bytes} bytes), sent was {sent} ({sent_bytes} bytes)"
    )]
    Different {
        /// Its digest.
        stored: PackId,
        /// Its bytes.
        stored_bytes: u64,
        /// The digest sent.
        sent: PackId,
        /// The bytes sent.
        sent_bytes: u64,
    },
    /// It does not take another pack on this connection.
    #[error("the append-server closed an upload connection before the run's end")]
    Closed,
}

impl ThreadError for UploadError {
    fn is_echo(&self) -> bool {
        false
    }
}

/// What one connection's thread has.
pub struct Uploader {
    /// The connection.
    pub stream: Box<dyn Stream>,
    /// Parts of packs.
    pub parts: Receiver<Part>,
    /// Which connection this is.
    pub connection: usize,
    /// Told its number when a pack is acknowledged.
    pub idle: Sender<usize>,
    /// To the coordinator.
    pub outgoing: Outgoing,
    /// The run's counts.
    pub counters: Counters,
    /// What the thread keeps to.
    pub cpu: CpuLimit,
}

struct Sent {
    hasher: blake3::Hasher,
    bytes: u64,
}

/// Uploads until no pack can come any more.
pub fn run(mut uploader: Uploader) -> Result<(), UploadError> {
    let mut sent: Option<Sent> = None;
    let mut keeps_alive = true;
    let parts = uploader.parts.clone();
    for part in parts {
        uploader.cpu.pace_briefly();
        let (bytes, is_last) = match &part {
            Part::Bytes(plain) => (plain.bytes.as_slice(), false),
            Part::End(bytes) => (bytes.as_slice(), true),
        };
        let is_first = sent.is_none();
        if is_first && !keeps_alive {
            return Err(UploadError::Closed);
        }
        let so_far = sent.get_or_insert_with(|| Sent {
            hasher: blake3::Hasher::new(),
            bytes: 0,
        });
        so_far.hasher.update(bytes);
        so_far.bytes += bytes.len() as u64;
        uploader.send(bytes, is_first, is_last)?;
        drop(part);
        if let Some(pack) = sent.take_if(|_| is_last) {
            keeps_alive = uploader.acknowledged(&pack)?;
            // The packer is gone only when the run is ending.
            uploader.idle.send(uploader.connection).ok();
        }
    }
    Ok(())
}

impl Uploader {
    fn send(&mut self, bytes: &[u8], is_first: bool, is_last: bool) -> Result<(), UploadError> {
        let stream = self.stream.as_mut();
        let mut send = || {
            if is_first {
                http::begin_put(stream)?;
            }
            http::put_bytes(stream, bytes)?;
            if is_last {
                http::end_put(stream)
            } else {
                Ok(())
            }
        };
        // A server that refuses early closes its side; it may have said why.
        send().map_err(|error| self.refusal().unwrap_or(UploadError::Send(error)))
    }

    fn refusal(&mut self) -> Option<UploadError> {
        let answer = http::read_answer(self.stream.as_mut()).ok()?;
        Some(refused(answer.status, &answer.body))
    }

    /// Reads the acknowledgement and passes it on; gives whether the connection goes on.
    fn acknowledged(&mut self, pack: &Sent) -> Result<bool, UploadError> {
        self.stream.set_wait(STORED_WAIT).map_err(HttpError::from)?;
        let answer = http::read_answer(self.stream.as_mut())?;
        if !matches!(answer.status, 200 | 201) {
            return Err(refused(answer.status, &answer.body));
        }
        let stored = Stored::decode(&answer.body)?;
        let sent = PackId(pack.hasher.finalize().into());
        if (stored.digest, stored.bytes) != (sent, pack.bytes) {
            return Err(UploadError::Different {
                stored: stored.digest,
                stored_bytes: stored.bytes,
                sent,
                sent_bytes: pack.bytes,
            });
        }
        self.counters.pack_stored(stored.bytes);
        self.outgoing.send(&FromAgent::PackStored(PackStored {
            pack: stored.digest,
            bytes: stored.bytes,
        }));
        Ok(answer.keeps_alive)
    }
}

fn refused(status: u16, body: &[u8]) -> UploadError {
    let text = match Refusal::decode(body) {
        Ok(refusal) => refusal.text.escape_default().to_string(),
        Err(_) => "without a reason".to_owned(),
    };
    UploadError::Refused { status, text }
}
