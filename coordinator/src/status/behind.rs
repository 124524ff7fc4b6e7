//! What destinations lack of each repository, so that it can be told of each host.

use std::time::Duration;

use formats::wire::upload::DestinationState;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::catalog::state::KnownRepository;
use crate::status::DestinationLag;
use crate::status::json::DestinationJson;
use crate::storage::StorageClient;
use crate::storage::error::StorageError;

/// How long the append-server may take to say how its destinations are, and what they lack of repositories.
const PATIENCE: Duration = Duration::from_secs(3);

/// A destination that lacks something of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// The repository's name.
    pub repository: String,
    /// The destination, and what it lacks of that repository.
    #[serde(flatten)]
    pub lag: DestinationJson,
}

/// How far destinations are behind, together and for each of these repositories, where they are known and if the append-server
/// says so soon.
pub async fn ask_soon(
    storage: &StorageClient,
    known: Option<Vec<KnownRepository>>,
) -> (Option<Vec<DestinationJson>>, Option<Vec<Behind>>) {
    let Ok(Ok(states)) = timeout(PATIENCE, storage.destinations()).await else {
        return (None, None);
    };
    let behind = match known {
        Some(known) => {
            let behind = timeout(PATIENCE, ask_behind(storage, &states, &known)).await;
            behind.ok().and_then(Result::ok)
        }
        None => None,
    };
    let lags = states.into_iter().map(DestinationLag::from);
    let lags = lags.map(|lag| DestinationJson::from(&lag)).collect();
    (Some(lags), behind)
}

/// Asks what destinations lack of each of these repositories; nothing is asked where none lacks anything.
async fn ask_behind(
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
