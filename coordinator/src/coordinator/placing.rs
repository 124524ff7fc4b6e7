//! Tells the append-server how the configuration wants repositories kept: where, and on how many destinations there. What no host
//! writes to any more stays where it was last said to be, unless that is on too few destinations for any repository.

use std::collections::HashMap;

use append_server::fan_out::queue::placing::Keeping;
use formats::ids::RepositoryId;

use crate::coordinator::Coordinator;
use crate::database::DatabaseError;
use crate::storage::StorageError;

/// Why the append-server does not know how repositories are kept.
#[derive(Debug, thiserror::Error)]
pub enum PlacingError {
    /// The state file.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The append-server.
    #[error("could not tell the append-server how repositories are kept")]
    Storage(#[from] StorageError),
}

impl Coordinator {
    /// Tells of every repository that there is, the others too where one is refused.
    pub async fn place_all(&self) -> Result<(), PlacingError> {
        let placings = self.config.placings();
        let known = self.state.lock().await.repositories()?;
        let mut alike: HashMap<Option<&Keeping>, Vec<RepositoryId>> = HashMap::new();
        for known in known {
            let keeping = placings.get(known.name.as_str());
            alike.entry(keeping).or_default().push(known.repository);
        }
        let mut told = Ok(());
        for (keeping, repositories) in alike {
            told = told.and(self.storage.place(&repositories, keeping).await);
        }
        Ok(told?)
    }

    /// The same. Every run tells again of its own repository, so that a failure is only logged.
    pub async fn try_place_all(&self) {
        if let Err(error) = self.place_all().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "how repositories are kept is what was last said"
            );
        }
    }
}
