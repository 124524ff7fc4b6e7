//! Reads the audit log from some record on, again and again as it grows. Takes no lock: a record that is just being written
//! is read the next time.

use std::path::{Path, PathBuf};

use formats::audit::{AuditHead, AuditRecordError, ReadRecord};
use formats::codec::DecodeError;

use crate::audit::end::walk;
use crate::audit::{AuditFile, AuditLogError, audit_files};

/// A place in the log up to which it was read.
#[derive(Debug)]
pub struct AuditReader {
    dir: PathBuf,
    after: u64,
    at: Option<At>,
}

/// A byte of a file behind a record.
#[derive(Debug)]
struct At {
    file: AuditFile,
    offset: u64,
    head: Option<AuditHead>,
}

impl AuditReader {
    /// Reads what comes after the record of this place.
    pub fn new(dir: &Path, after: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            after,
            at: None,
        }
    }

    /// Gives every record that came since the last call. One that is damaged is an error, and passed over with the rest of its
    /// file as soon as another file follows.
    pub fn read(&mut self, mut each: impl FnMut(ReadRecord)) -> Result<(), AuditLogError> {
        loop {
            let files = audit_files(&self.dir)?;
            if self.at.is_none() {
                let begins = files.iter().rev().find(|file| file.first <= self.after);
                let Some(file) = begins.or(files.first()) else {
                    return Ok(());
                };
                self.at = Some(At::beginning(file));
            }
            let Some(at) = &mut self.at else {
                return Ok(());
            };
            let after = self.after;
            let problem = at.read(&mut |read| {
                if read.record.sequence > after {
                    each(read);
                }
            })?;
            if let Some(head) = at.head {
                self.after = self.after.max(head.sequence);
            }
            let next = files.iter().find(|file| file.first > at.file.first);
            match (next, problem) {
                (Some(next), _) => self.at = Some(At::beginning(next)),
                // It may be being written just now.
                (None, None | Some(AuditRecordError::Decode(DecodeError::Truncated { .. }))) => {
                    return Ok(());
                }
                (None, Some(source)) => {
                    return Err(AuditLogError::Record {
                        path: at.file.path.clone(),
                        offset: at.offset,
                        source,
                    });
                }
            }
        }
    }
}

impl At {
    fn beginning(file: &AuditFile) -> Self {
        Self {
            file: file.clone(),
            offset: 0,
            head: None,
        }
    }

    fn read(
        &mut self,
        each: &mut dyn FnMut(ReadRecord),
    ) -> Result<Option<AuditRecordError>, AuditLogError> {
        let content = self.file.read_from(self.offset)?;
        let (head, bytes, problem) = walk(&content, self.head, each);
        self.head = head;
        self.offset += bytes as u64;
        Ok(problem)
    }
}
