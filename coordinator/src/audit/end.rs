//! Where a file of the audit log ends: its whole records, and what to make of bytes behind them. Pure.

use formats::audit::{AUDIT_MAGIC, AuditHead, AuditRecord, AuditRecordError, ReadRecord};

/// Takes the records that follow each other from the beginning of `content`, and gives each to `each`. Says where they end,
/// and what is wrong there when that is not the end.
///
/// Without a `head` to follow, the first record is believed to stand where it says.
pub fn walk(
    content: &[u8],
    head: Option<AuditHead>,
    mut each: impl FnMut(ReadRecord),
) -> (Option<AuditHead>, usize, Option<AuditRecordError>) {
    let (mut head, mut at) = (head, 0);
    while let Some(rest) = content.get(at..).filter(|rest| !rest.is_empty()) {
        let read = match AuditRecord::read_first(rest) {
            Ok(read) => read,
            Err(error) => return (head, at, Some(error)),
        };
        let follows = head.map_or(Ok(()), |head| head.check_next(&read.record));
        if let Err(error) = follows {
            return (head, at, Some(error));
        }
        head = Some(AuditHead {
            sequence: read.record.sequence,
            id: read.id,
        });
        at += read.bytes;
        each(read);
    }
    (head, at, None)
}

/// What stands behind the last record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Nothing.
    Whole,
    /// A record that its writer did not finish, so that nobody was told that it is there.
    Torn {
        /// Its bytes.
        bytes: u64,
        /// Their BLAKE3 digest.
        digest: String,
    },
    /// Something that was acknowledged is gone or altered.
    Damaged {
        /// The last record that is known to have been there.
        known: AuditHead,
    },
}

/// Judges what is behind the whole records of the last file, by the tail itself and by what the head says.
pub fn judge(last: AuditHead, tail: &[u8], head: Option<AuditHead>) -> End {
    let ahead = head.filter(|head| head.sequence > last.sequence);
    let beyond = whole_record_in(tail);
    let known = [ahead, beyond]
        .into_iter()
        .flatten()
        .max_by_key(|head| head.sequence);
    match known {
        Some(known) => End::Damaged { known },
        None if tail.is_empty() => End::Whole,
        None => End::Torn {
            bytes: tail.len() as u64,
            digest: blake3::hash(tail).to_string(),
        },
    }
}

/// The last whole record anywhere in these bytes: behind it nothing was unfinished when it was written.
fn whole_record_in(tail: &[u8]) -> Option<AuditHead> {
    let (mut found, mut at) = (None, 0);
    while let Some(rest) = tail.get(at..) {
        let Some(next) = find(rest, AUDIT_MAGIC) else {
            break;
        };
        let candidate = rest.get(next..).unwrap_or_default();
        at += next;
        match AuditRecord::read_first(candidate) {
            Ok(read) => {
                found = Some(AuditHead {
                    sequence: read.record.sequence,
                    id: read.id,
                });
                at += read.bytes;
            }
            Err(_) => at += 1,
        }
    }
    found
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}
