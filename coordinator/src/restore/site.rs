//! What every worker of a restore shares: the place where things are made, how metadata is set, what was
//! counted, which first names are known, and whether the target takes no more.

use std::io;
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;

use crate::restore::links::FirstNames;
use crate::restore::metadata::MetadataSetter;
use crate::restore::options::{MetadataOptions, Overwrite};
use crate::restore::staging::Staging;
use crate::restore::summary::{ProblemKind, Tally};

/// The shared part of one restore.
#[derive(Debug)]
pub(crate) struct Site {
    /// Where objects are made.
    pub(crate) staging: Staging,
    /// Sets metadata.
    pub(crate) setter: MetadataSetter,
    /// Which metadata.
    pub(crate) metadata: MetadataOptions,
    /// What to do with existing files.
    pub(crate) overwrite: Option<Overwrite>,
    /// What was done.
    pub(crate) tally: Arc<Tally>,
    /// Files that may get further names.
    pub(crate) firsts: FirstNames,
    /// The error after which nothing more can be written.
    pub(crate) full: OnceLock<Errno>,
}

impl Site {
    /// Counts an object that could not be made.
    pub(crate) fn not_made(&self, path: &[u8], what: &str, error: &io::Error) {
        let (kind, text) = self.classify(what, error);
        self.tally.problem(path, kind, text);
    }

    /// What kind of problem an error is. Notes when the same will hold for all that follow.
    pub(crate) fn classify(&self, what: &str, error: &io::Error) -> (ProblemKind, String) {
        let number = error.raw_os_error().map(Errno::from_raw_os_error);
        if let Some(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::ROFS)) = number {
            // Only the first is kept: it is the one that is reported.
            self.full.get_or_init(|| errno);
        }
        match number {
            Some(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR | Errno::LOOP) => (
                ProblemKind::Refused,
                format!("{what}: something else is in the way ({error})"),
            ),
            // Not the kernel's error but one of our own checks.
            None if error.kind() == io::ErrorKind::Other => {
                (ProblemKind::Refused, format!("{what}: {error}"))
            }
            _ => (ProblemKind::Other, format!("{what}: {error}")),
        }
    }

    /// Counts metadata that could not be set, as one problem of the object.
    pub(crate) fn metadata_problems(&self, path: &[u8], problems: &[String]) {
        if !problems.is_empty() {
            self.tally
                .problem(path, ProblemKind::Metadata, problems.join("; "));
        }
    }
}
