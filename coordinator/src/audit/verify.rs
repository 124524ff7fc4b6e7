//! Checks the whole audit log: every record, what it follows, that no file is missing, and what the head says. Changes
//! nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use formats::audit::{AuditHead, AuditRecordError};
use formats::codec::DecodeError;
use formats::ids::AuditId;

use crate::audit::end::{End, judge, walk};
use crate::audit::log::lock;
use crate::audit::{AuditFile, AuditLogError, HEAD_FILE, audit_files, read_head};

/// What a check found.
#[derive(Debug, Default)]
pub struct Verified {
    /// How many files there are.
    pub files: u64,
    /// How many records are sound.
    pub records: u64,
    /// The first record that is there.
    pub first: Option<u64>,
    /// The last record that is sound.
    pub last: Option<AuditHead>,
    /// Bytes of a record that its writer did not finish; nobody was told that it is there.
    pub torn_bytes: u64,
    /// What is wrong, in the order of the log.
    pub problems: Vec<VerifyProblem>,
}

/// One thing that is wrong with the log.
#[derive(Debug, thiserror::Error)]
pub enum VerifyProblem {
    /// A record is not what was written.
    #[error("{}, byte {offset}, where record {expected} was expected: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The record that should be there.
        expected: u64,
        /// What is wrong with it.
        source: AuditRecordError,
    },
    /// Records at the end of the log are not there.
    #[error("records {first} to {last} are missing: the log was cut")]
    Cut {
        /// The first one.
        first: u64,
        /// The last one that is known of.
        last: u64,
    },
    /// A record is another than the one that is known.
    #[error("record {sequence} is {found} and was {known}: the log was written anew")]
    Replaced {
        /// Its place.
        sequence: u64,
        /// Its name.
        found: AuditId,
        /// The name it had.
        known: AuditId,
    },
    /// A record that is known stood before all that is there.
    #[error("record {sequence} is not there: the log begins with record {first}")]
    Gone {
        /// Its place.
        sequence: u64,
        /// The first record that is there.
        first: u64,
    },
    /// No head, or none that can be read.
    #[error("{} is missing or damaged, so that a cut at the end would not show", path.display())]
    Head {
        /// Where it should be.
        path: PathBuf,
    },
}

/// Checks the log in `dir`, and that the records that `witnessed` names are in it.
pub fn verify(dir: &Path, witnessed: &[AuditHead]) -> Result<Verified, AuditLogError> {
    let mut found = Verified::default();
    if !dir.exists() {
        compare(&mut found, witnessed, &BTreeMap::new());
        return Ok(found);
    }
    let _lock = lock(dir)?;
    let files = audit_files(dir)?;
    let head = read_head(dir);
    let known: Vec<AuditHead> = head.iter().chain(witnessed).copied().collect();
    let mut ids = BTreeMap::new();
    let mut follows = None;
    for (number, file) in files.iter().enumerate() {
        let end = check_file(&mut found, file, follows, |sequence, id| {
            if known.iter().any(|head| head.sequence == sequence) {
                ids.insert(sequence, id);
            }
        })?;
        // Behind damage the chain begins anew.
        follows = end.last.filter(|_| end.problem.is_none());
        let Some(problem) = end.problem else { continue };
        let is_last_file = number + 1 == files.len();
        match end.last.map(|last| judge(last, &end.tail, head)) {
            Some(End::Torn { bytes, .. }) if is_last_file => found.torn_bytes = bytes,
            _ => found.problems.push(problem),
        }
    }
    found.files = files.len() as u64;
    if head.is_none() && !files.is_empty() {
        let path = dir.join(HEAD_FILE);
        found.problems.push(VerifyProblem::Head { path });
    }
    compare(&mut found, &known, &ids);
    Ok(found)
}

/// Where the sound records of a file end.
struct FileEnd {
    last: Option<AuditHead>,
    tail: Vec<u8>,
    problem: Option<VerifyProblem>,
}

/// Checks one file, behind the record `follows`.
fn check_file(
    found: &mut Verified,
    file: &AuditFile,
    follows: Option<AuditHead>,
    mut each: impl FnMut(u64, AuditId),
) -> Result<FileEnd, AuditLogError> {
    let content = file.read_from(0)?;
    let (mut first, mut records) = (None, 0);
    let (last, whole, problem) = walk(&content, follows, |read| {
        let sequence = read.record.sequence;
        first = first.or(Some(sequence));
        records += 1;
        each(sequence, read.id);
    });
    found.records += records;
    found.first = found.first.or(first);
    let last = last.filter(|_| records > 0);
    found.last = last.or(found.last);
    let misnamed = first.filter(|first| *first != file.first);
    let (offset, source) = match (misnamed, problem) {
        (Some(found), _) => {
            let expected = file.first;
            (0, Some(AuditRecordError::Place { found, expected }))
        }
        (None, Some(source)) => (whole, Some(source)),
        // A file begins with a whole record, and has its name only then.
        (None, None) => {
            let what = "audit file";
            let empty = records == 0;
            (0, empty.then_some(DecodeError::Truncated { what }.into()))
        }
    };
    let problem = source.map(|source| VerifyProblem::Record {
        path: file.path.clone(),
        offset: offset as u64,
        expected: last.map_or(file.first, |last| last.sequence.saturating_add(1)),
        source,
    });
    let tail = content.get(whole..).unwrap_or_default().to_vec();
    Ok(FileEnd {
        last,
        tail,
        problem,
    })
}

/// Compares what is there with what is known to have been there.
fn compare(found: &mut Verified, known: &[AuditHead], ids: &BTreeMap<u64, AuditId>) {
    let last = found.last.map_or(0, |last| last.sequence);
    let first = found.first.unwrap_or(1);
    for known in known.iter().filter(|known| known.sequence > 0) {
        let sequence = known.sequence;
        let problem = match ids.get(&sequence) {
            Some(id) if *id == known.id => continue,
            Some(id) => VerifyProblem::Replaced {
                sequence,
                found: *id,
                known: known.id,
            },
            None if sequence > last => VerifyProblem::Cut {
                first: last.saturating_add(1),
                last: sequence,
            },
            None if sequence < first => VerifyProblem::Gone { sequence, first },
            // It lies in what is damaged, which is told already.
            None => continue,
        };
        found.problems.push(problem);
    }
}
