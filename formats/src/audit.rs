//! The audit log: who did what at a coordinator, one record after another in files of its state directory. Each record names
//! the one before by its digest, so that a change, a gap or a cut is found; whoever can write the files can also write all
//! of them anew, which only a head that was kept elsewhere shows.

use crate::codec::{DecodeError, Put, Reader, read_magic};
use crate::ids::{AuditId, RunId};
use crate::limits::{
    AUDIT_DETAIL_BYTES_MAX, AUDIT_DETAILS_MAX, AUDIT_RECORD_BYTES_MAX, TEXT_BYTES_MAX,
};

/// What every record begins with.
pub const AUDIT_MAGIC: &[u8; 8] = b"CAPSTAUD";
const RECORD_VERSION: u16 = 1;
const HEAD_MAGIC: &[u8; 8] = b"CAPSTAUH";
const HEAD_VERSION: u16 = 1;

/// How many bytes a head has.
pub const AUDIT_HEAD_BYTES: usize = 8 + 2 + 8 + 32 + 32;

/// Whoever did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditActor {
    /// A user of the coordinator's machine.
    User {
        /// The user's number.
        uid: u32,
        /// The user's name, where there is one.
        name: Option<String>,
        /// Who became that user, as was said.
        through: Option<String>,
    },
    /// The daemon, of its own accord.
    Daemon,
    /// Whoever has a token.
    Token {
        /// The token's name.
        name: String,
    },
    /// The program, about itself.
    Program,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its place in the log, from 1.
    pub sequence: u64,
    /// The record before; zeros for the first.
    pub previous: AuditId,
    /// When, by the coordinator's clock: nanoseconds since 1970.
    pub at_nanos: i64,
    /// Who did it.
    pub actor: AuditActor,
    /// What, as a word that never changes its meaning.
    pub what: String,
    /// The host that it is about.
    pub host: Option<String>,
    /// The run in which it happened.
    pub run: Option<RunId>,
    /// What more is told, by name.
    pub details: Vec<(String, String)>,
}

/// Where a log stands: the last record of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// The record's place.
    pub sequence: u64,
    /// The record.
    pub id: AuditId,
}

/// Why bytes are not the next record of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditRecordError {
    /// They are no record, or end within one.
    #[error("the audit record cannot be read")]
    Decode(#[from] DecodeError),
    /// They are not what was written.
    #[error("the audit record's digest is not that of its bytes: it was altered")]
    Digest,
    /// A record of another place.
    #[error("audit record {found} stands where {expected} was expected")]
    Place {
        /// The place found in it.
        found: u64,
        /// The place where it stands.
        expected: u64,
    },
    /// It does not follow the record before it.
    #[error(
        "audit record {sequence} does not follow the record before it: one of the two was replaced"
    )]
    Chain {
        /// The record's place.
        sequence: u64,
    },
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// What it says.
    pub record: AuditRecord,
    /// Its name.
    pub id: AuditId,
    /// How many bytes it takes.
    pub bytes: usize,
}

impl AuditHead {
    /// The head of a log without records.
    pub const EMPTY: Self = Self {
        sequence: 0,
        id: AuditId([0; 32]),
    };

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(AUDIT_HEAD_BYTES);
        out.put(HEAD_MAGIC);
        out.put_u16(HEAD_VERSION);
        out.put_u64(self.sequence);
        out.put(self.id.as_bytes());
        let digest = blake3::hash(&out);
        out.put(digest.as_bytes());
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, AuditRecordError> {
        let mut reader = Reader::new(bytes);
        read_magic(&mut reader, "audit head", HEAD_MAGIC, HEAD_VERSION)?;
        let head = Self {
            sequence: reader.u64("sequence")?,
            id: AuditId::read(&mut reader)?,
        };
        let digest = reader.array::<32>("digest")?;
        reader.finish("audit head")?;
        let covered = bytes.get(..AUDIT_HEAD_BYTES - 32).unwrap_or_default();
        if *blake3::hash(covered).as_bytes() != digest {
            return Err(AuditRecordError::Digest);
        }
        Ok(head)
    }

    /// Checks that a record is the next one after this head.
    pub fn check_next(&self, next: &AuditRecord) -> Result<(), AuditRecordError> {
        let expected = self.sequence.saturating_add(1);
        let found = next.sequence;
        if found != expected {
            return Err(AuditRecordError::Place { found, expected });
        }
        if next.previous != self.id {
            return Err(AuditRecordError::Chain { sequence: found });
        }
        Ok(())
    }
}

impl AuditRecord {
    /// Its bytes, and its name. Texts that are longer than a record's may be are cut, details past the limit left off.
    pub fn encode(&self) -> (Vec<u8>, AuditId) {
        let body = self.body();
        let mut out = Vec::with_capacity(body.len() + 64);
        out.put(AUDIT_MAGIC);
        out.put_u16(RECORD_VERSION);
        out.put_prefixed(&body);
        let id = AuditId(blake3::hash(&out).into());
        out.put(id.as_bytes());
        (out, id)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64(self.sequence);
        out.put(self.previous.as_bytes());
        out.put_i64(self.at_nanos);
        match &self.actor {
            AuditActor::User { uid, name, through } => {
                out.put_u8(1);
                out.put_u32(*uid);
                put_optional(&mut out, name.as_deref());
                put_optional(&mut out, through.as_deref());
            }
            AuditActor::Daemon => out.put_u8(2),
            AuditActor::Token { name } => {
                out.put_u8(3);
                put_text(&mut out, name, TEXT_BYTES_MAX);
            }
            AuditActor::Program => out.put_u8(4),
        }
        put_text(&mut out, &self.what, TEXT_BYTES_MAX);
        put_optional(&mut out, self.host.as_deref());
        out.put_flag(self.run.is_some());
        if let Some(run) = &self.run {
            out.put(run.as_bytes());
        }
        let most = usize::try_from(AUDIT_DETAILS_MAX).unwrap_or(usize::MAX);
        let details = self.details.get(..most).unwrap_or(&self.details);
        out.put_varint(details.len() as u64);
        for (name, text) in details {
            put_text(&mut out, name, TEXT_BYTES_MAX);
            put_text(&mut out, text, AUDIT_DETAIL_BYTES_MAX);
        }
        out
    }

    /// Reads the record that `bytes` begin with; more may follow.
    pub fn read_first(bytes: &[u8]) -> Result<ReadRecord, AuditRecordError> {
        let what = "audit record";
        let mut reader = Reader::new(bytes);
        read_magic(&mut reader, what, AUDIT_MAGIC, RECORD_VERSION)?;
        let body = reader.prefixed(what, AUDIT_RECORD_BYTES_MAX)?;
        let covered = bytes.len() - reader.remaining();
        let id = AuditId::read(&mut reader)?;
        let (covered, _) = bytes.split_at(covered);
        if *blake3::hash(covered).as_bytes() != id.0 {
            return Err(AuditRecordError::Digest);
        }
        Ok(ReadRecord {
            record: Self::read_body(body)?,
            id,
            bytes: bytes.len() - reader.remaining(),
        })
    }

    fn read_body(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let record = Self {
            sequence: reader.u64("sequence")?,
            previous: AuditId::read(&mut reader)?,
            at_nanos: reader.i64("at")?,
            actor: read_actor(&mut reader)?,
            what: reader.text("what", TEXT_BYTES_MAX)?,
            host: read_optional(&mut reader, "host")?,
            run: match reader.flag("run")? {
                true => Some(RunId::read(&mut reader)?),
                false => None,
            },
            details: read_details(&mut reader)?,
        };
        reader.finish("audit record")?;
        Ok(record)
    }
}

fn read_actor(reader: &mut Reader<'_>) -> Result<AuditActor, DecodeError> {
    Ok(match reader.u8("actor")? {
        1 => AuditActor::User {
            uid: reader.u32("uid")?,
            name: read_optional(reader, "user name")?,
            through: read_optional(reader, "through")?,
        },
        2 => AuditActor::Daemon,
        3 => AuditActor::Token {
            name: reader.text("token name", TEXT_BYTES_MAX)?,
        },
        4 => AuditActor::Program,
        tag => {
            return Err(DecodeError::UnknownTag {
                what: "actor",
                tag: tag.into(),
            });
        }
    })
}

fn read_details(reader: &mut Reader<'_>) -> Result<Vec<(String, String)>, DecodeError> {
    let count = reader.count("details", AUDIT_DETAILS_MAX, 2)?;
    let mut details = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.text("detail's name", TEXT_BYTES_MAX)?;
        details.push((name, reader.text("detail", AUDIT_DETAIL_BYTES_MAX)?));
    }
    Ok(details)
}

fn read_optional(
    reader: &mut Reader<'_>,
    what: &'static str,
) -> Result<Option<String>, DecodeError> {
    match reader.flag(what)? {
        true => reader.text(what, TEXT_BYTES_MAX).map(Some),
        false => Ok(None),
    }
}

fn put_optional(out: &mut Vec<u8>, text: Option<&str>) {
    out.put_flag(text.is_some());
    if let Some(text) = text {
        put_text(out, text, TEXT_BYTES_MAX);
    }
}

/// What is cut ends with three dots.
fn put_text(out: &mut Vec<u8>, text: &str, bytes_max: u64) {
    const CUT: &str = "...";
    let most = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    if text.len() <= most {
        out.put_prefixed(text.as_bytes());
        return;
    }
    let end = text.floor_char_boundary(most.saturating_sub(CUT.len()));
    let (kept, _) = text.split_at(end);
    out.put_prefixed(format!("{kept}{CUT}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::{AuditActor, AuditHead, AuditRecord, AuditRecordError};
    use crate::ids::AuditId;
    use crate::limits::{AUDIT_DETAIL_BYTES_MAX, AUDIT_DETAILS_MAX, AUDIT_RECORD_BYTES_MAX};

    fn record(details: Vec<(String, String)>) -> AuditRecord {
        AuditRecord {
            sequence: 7,
            previous: AuditId([9; 32]),
            at_nanos: -5,
            actor: AuditActor::Program,
            what: "audit-begun".to_owned(),
            host: None,
            run: None,
            details,
        }
    }

    #[test]
    fn the_largest_record_fits_and_reads_back_with_its_texts_cut() {
        let most = usize::try_from(AUDIT_DETAIL_BYTES_MAX).expect("small");
        let count = usize::try_from(AUDIT_DETAILS_MAX).expect("small") + 1;
        let long = "é".repeat(most);
        let (bytes, id) = record(vec![(long.clone(), long); count]).encode();
        let read = AuditRecord::read_first(&bytes).expect("it reads");
        assert_eq!((read.id, read.bytes), (id, bytes.len()));
        assert!(bytes.len() as u64 <= AUDIT_RECORD_BYTES_MAX);
        assert_eq!(read.record.details.len(), count - 1);
        for (name, text) in &read.record.details {
            assert!(name.ends_with("é...") && text.ends_with("é..."));
        }
    }

    #[test]
    fn a_record_follows_only_the_one_that_it_names() {
        let head = AuditHead {
            sequence: 6,
            id: AuditId([9; 32]),
        };
        assert_eq!(head.check_next(&record(Vec::new())), Ok(()));
        let other = AuditHead {
            id: AuditId([8; 32]),
            ..head
        };
        let chain = AuditRecordError::Chain { sequence: 7 };
        assert_eq!(other.check_next(&record(Vec::new())), Err(chain));
        let place = AuditRecordError::Place {
            found: 7,
            expected: 1,
        };
        assert_eq!(AuditHead::EMPTY.check_next(&record(Vec::new())), Err(place));
    }
}
