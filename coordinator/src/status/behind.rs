//! What destinations lack of each repository, so that it can be told of each host.

use formats::wire::upload::DestinationState;
use serde::{Deserialize, Serialize};

use crate::catalog::state::KnownRepository;
use crate::status::DestinationLag;
use crate::status::json::DestinationJson;
use crate::storage::StorageClient;
use crate::storage::error::StorageError;

/// A destination that lacks something of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// The repository's name.
    pub repository: String,
    /// The destination, and what it lacks of that repository.
    #[serde(flatten)]
    pub lag: DestinationJson,
}

/// Asks what destinations lack of each of these repositories; nothing is asked where none lacks anything.
pub async fn ask_behind(
    storage: &StorageClient,
    states: &[DestinationState],
    repositories: &[KnownRepository],
) -> Result<Vec<Behind>, StorageError> {
    let mut behind = Vec::new();
    if states.iter().all(|state| state.objects_behind == 0) {
        return Ok(behind);
    }
    for known in repositories {
        let states = storage.destinations_of(known.repository).await?;
        let lacking = states.into_iter().filter(|state| state.objects_behind > 0);
        behind.extend(lacking.map(|state| Behind {
            repository: known.name.clone(),
            lag: DestinationJson::from(&DestinationLag::from(state)),
        }));
    }
    Ok(behind)
}
