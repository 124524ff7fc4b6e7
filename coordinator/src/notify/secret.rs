//! Has the secrets of targets. A program that prints one may take its time: it is waited for on a thread that may wait, and not
//! for long.

use std::time::Duration;

use append_server::places::secret::{SecretError, SecretSource};
use tokio::task::{JoinError, spawn_blocking};
use zeroize::Zeroizing;

/// How long a program may take to print a secret.
const PATIENCE: Duration = Duration::from_secs(30);

/// A target's secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Where it comes from does not give it.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A thread was ended.
    #[error("fetching the secret was ended")]
    Ended(#[from] JoinError),
}

/// The secret.
pub async fn fetch(source: &SecretSource) -> Result<Zeroizing<String>, FetchError> {
    let source = source.clone();
    Ok(spawn_blocking(move || source.fetch_within(PATIENCE)).await??)
}
