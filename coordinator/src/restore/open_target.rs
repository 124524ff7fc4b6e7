//! Opens the directory that is restored into: makes it if it is missing, refuses what is not empty unless
//! told what to do with it. Comes after everything that can be refused without touching it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};

use crate::restore::error::RestoreError;
use crate::restore::options::RestoreOptions;
use crate::restore::staging::{STAGING_NAME, Staging, StagingError};
use crate::restore::tree::Directory;

/// Refuses a target that holds something, unless the options say what to do with it. Changes nothing.
pub(crate) fn check_target(options: &RestoreOptions) -> Result<(), RestoreError> {
    let path = &options.to;
    let listed = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(|source| target_error(path, source))?,
    };
    if options.overwrite.is_some() {
        return Ok(());
    }
    for entry in listed {
        let entry = entry.map_err(|source| target_error(path, source))?;
        if entry.file_name() != STAGING_NAME {
            return Err(RestoreError::NotEmpty { path: path.clone() });
        }
    }
    Ok(())
}

/// Opens the target, made if it is missing, and its private directory.
pub(crate) fn open_target(
    path: &Path,
    staging_name: Vec<u8>,
) -> Result<(Arc<Directory>, Staging), RestoreError> {
    std::fs::create_dir_all(path).map_err(|source| target_error(path, source))?;
    let root = open_root(path).map_err(|source| target_error(path, source))?;
    let staging =
        Staging::create(Arc::clone(&root), staging_name).map_err(|error| match error {
            StagingError::Busy => RestoreError::Busy {
                path: path.to_path_buf(),
            },
            StagingError::Io(source) => target_error(path, source),
        })?;
    Ok((root, staging))
}

/// Opens the target as it is.
pub(crate) fn open_root(path: &Path) -> io::Result<Arc<Directory>> {
    // The operator's own path: a link in it is the operator's.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    Directory::new(fd).map(Arc::new)
}

/// Lets this process open as many files as it may, and says how many that is.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    now.unwrap_or(1 << 20)
}

pub(crate) fn target_error(path: &Path, source: io::Error) -> RestoreError {
    RestoreError::Target {
        path: path.to_path_buf(),
        source,
    }
}
