//! Why the demo stopped.

use std::io;
use std::path::{Path, PathBuf};

use crate::commands::host::trust::TrustError;
use crate::config::UnknownHost;
use crate::config::error::ConfigErrors;

/// Why the demo stopped.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file or directory could not be used.
    #[error("cannot {attempt} {}", path.display())]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There are no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// A key could not be made.
    #[error("cannot make an SSH key")]
    Key(#[source] russh::keys::ssh_key::Error),
    /// Neither server can be used.
    #[error("no SSH server can be started on 127.0.0.1")]
    Server(#[source] io::Error),
    /// The demo's own configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The demo's own host is not in it.
    #[error(transparent)]
    Host(#[from] UnknownHost),
    /// The server's key could not be pinned.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A step failed that has told why itself.
    #[error("step \"{step}\" failed")]
    Step {
        /// The step.
        step: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was interrupted.
    #[error("the demo was interrupted")]
    Interrupted,
}

impl DemoError {
    /// Gives a failed system call its place.
    pub fn file(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            attempt,
            path,
            source,
        }
    }

    /// Gives a failed command its step.
    pub fn step<E>(step: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Step {
            step,
            source: source.into(),
        }
    }
}
