//! The demo's temporary directory. Goes with its value, with all that is in it, however the demo ends.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::demo::error::DemoError;

/// How long threads that still write into the directory are waited for.
const REMOVAL_LIMIT: Duration = Duration::from_secs(5);
/// How long between two tries.
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// A fresh directory that only its owner can enter.
#[derive(Debug)]
pub struct Workspace {
    path: PathBuf,
    keep: bool,
    stop: CancellationToken,
}

impl Workspace {
    /// Makes one in `$TMPDIR`.
    pub fn create(keep: bool) -> Result<Self, DemoError> {
        let mut random = [0u8; 6];
        getrandom::fill(&mut random).map_err(DemoError::Random)?;
        let suffix: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = std::env::temp_dir().join(format!("capstan-demo-{suffix}"));
        let make = || {
            DirBuilder::new().mode(0o700).create(&path)?;
            // Absolute and without links, because it becomes part of a configuration.
            path.canonicalize()
        };
        Ok(Self {
            path: make().map_err(DemoError::file("create the directory", &path))?,
            keep,
            stop: CancellationToken::new(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Cancelled when the directory is about to go: whoever works in it on another thread has to end.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.keep {
            return;
        }
        let began = Instant::now();
        while let Err(error) = remove(&self.path) {
            if began.elapsed() > REMOVAL_LIMIT {
                let path = self.path.display();
                tracing::error!(%path, %error, "the demo's directory could not be removed");
                return;
            }
            thread::sleep(REMOVAL_PAUSE);
        }
    }
}

/// Removes a tree; directories in it that forbid it to their owner are opened first.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) => Err(error),
    }
}

fn open_directories(path: &Path) -> io::Result<()> {
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}
