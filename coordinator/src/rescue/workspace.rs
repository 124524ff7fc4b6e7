//! The directory that a rescue works in: private, of its own name, and gone when the rescue ends. One that was
//! killed leaves it; nothing in it is needed again.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use formats::ids::to_hex;
use formats::keys::secret::random;

use crate::rescue::error::RescueError;

/// What the directory is called, before a random number.
const PREFIX: &str = ".capstan-rescue.";

/// The directory; removed with the value.
#[derive(Debug)]
pub(crate) struct Workspace {
    path: PathBuf,
}

impl Workspace {
    /// Makes one in `parent`, which is made if it is missing.
    pub(crate) fn create(parent: &Path) -> Result<Self, RescueError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RescueError::Workspace {
                action: "make",
                path,
                source,
            }
        };
        std::fs::create_dir_all(parent).map_err(failed(parent))?;
        let random: [u8; 8] = random()?;
        let path = parent.join(format!("{PREFIX}{}", to_hex(&random)));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(failed(&path))?;
        Ok(Self { path })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the working directory is left: remove it");
        }
    }
}
