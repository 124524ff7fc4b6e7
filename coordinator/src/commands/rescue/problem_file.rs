//! Every problem of a rescue in a file, one JSON object a line: the summary lists only the first ones.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::commands::rescue::RescueCommandError;
use crate::restore::summary::{Problem, ProblemSink};

/// The file. A failure to write is told at the end.
#[derive(Debug)]
pub(super) struct ProblemFile {
    path: PathBuf,
    written: Mutex<(BufWriter<File>, Option<io::Error>)>,
}

impl ProblemFile {
    /// A new file; one that is there is not overwritten.
    pub(super) fn create(path: &Path) -> Result<Self, RescueCommandError> {
        let path = path.to_owned();
        match File::create_new(&path) {
            Ok(file) => Ok(Self {
                path,
                written: Mutex::new((BufWriter::new(file), None)),
            }),
            Err(source) => Err(RescueCommandError::Problems { path, source }),
        }
    }

    /// Writes the rest, and tells what could not be written.
    pub(super) fn finish(&self) -> Result<(), RescueCommandError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let flushed = match written.1.take() {
            Some(error) => Err(error),
            None => written.0.flush(),
        };
        flushed.map_err(|source| RescueCommandError::Problems {
            path: self.path.clone(),
            source,
        })
    }
}

impl ProblemSink for ProblemFile {
    fn problem(&self, problem: &Problem) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, failed) = &mut *written;
        let line = serde_json::to_writer(&mut *file, problem).map_err(io::Error::from);
        if let Err(error) = line.and_then(|()| file.write_all(b"\n")) {
            failed.get_or_insert(error);
        }
    }
}
