//! Tells the append-server where the configuration wants repositories kept. What no host writes to any more stays where it was
//! last said to be.

use std::collections::HashMap;

use append_server::fan_out::queue::placing::KeptAt;
use formats::ids::RepositoryId;

use crate::coordinator::Coordinator;
use crate::database::DatabaseError;
use crate::storage::StorageError;

/// Why the append-server does not know where repositories are kept.
#[derive(Debug, thiserror::Error)]
pub enum PlacingError {
    /// The state file.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The append-server.
    #[error("could not tell the append-server where repositories are kept")]
    Storage(#[from] StorageError),
}

impl Coordinator {
    /// Tells of every repository that there is.
    pub async fn place_all(&self) -> Result<(), PlacingError> {
        let placings = self.config.placings();
        let known = self.state.lock().await.repositories()?;
        let mut alike: HashMap<&KeptAt, Vec<RepositoryId>> = HashMap::new();
        for known in known {
            if let Some(kept_at) = placings.get(known.name.as_str()) {
                alike.entry(kept_at).or_default().push(known.repository);
            }
        }
        for (kept_at, repositories) in alike {
            self.storage.place(&repositories, kept_at).await?;
        }
        Ok(())
    }

    /// The same. Every run tells again of its own repository, so that a failure is only logged.
    pub async fn try_place_all(&self) {
        if let Err(error) = self.place_all().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "where repositories are kept is what was last said"
            );
        }
    }
}
