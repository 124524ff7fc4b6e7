//! What destinations lack of each repository, so that it can be told of each host.

use std::path::Path;
use std::time::Duration;

use append_server::fan_out::queue::{Queue, QueueError};
use append_server::places::Place;
use formats::ids::RepositoryId;
use formats::wire::upload::destinations::{ConditionalWrites, DestinationState, Placed};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::catalog::state::KnownRepository;
use crate::status::DestinationLag;
use crate::status::json::DestinationJson;
use crate::storage::StorageClient;
use crate::storage::error::StorageError;
use crate::terminal::error_line;

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
    let lacks =
        |state: &DestinationState| state.objects_behind > 0 || state.placed == Placed::Unfilled;
    if !states.iter().any(lacks) {
        return Ok(behind);
    }
    for known in repositories {
        let states = storage.destinations_of(known.repository).await?;
        let lacking = states.into_iter().filter(lacks);
        behind.extend(lacking.map(|state| Behind {
            repository: known.name.clone(),
            lag: DestinationJson::from(&DestinationLag::from(state)),
        }));
    }
    Ok(behind)
}

/// The same from the queue of an embedded append-server, when no process is there that could be asked: what the last one knew.
/// Nothing where the queue cannot be read.
pub fn read_queue(
    path: &Path,
    places: &[Place],
    known: &[KnownRepository],
) -> Option<(Vec<DestinationJson>, Vec<Behind>)> {
    let read = || -> Result<_, QueueError> {
        let queue = Queue::open_to_read(path)?;
        let lags = places.iter().map(|place| noted(&queue, place, None));
        let lags = lags.collect::<Result<Vec<_>, _>>()?;
        let mut behind = Vec::new();
        for (place, _) in places.iter().zip(&lags).filter(|(_, lag)| lacks(lag)) {
            for known in known {
                let lag = noted(&queue, place, Some(known.repository))?;
                if lacks(&lag) {
                    let repository = known.name.clone();
                    behind.push(Behind { repository, lag });
                }
            }
        }
        Ok((lags, behind))
    };
    let read = read();
    if let Err(error) = &read {
        tracing::debug!(
            error = error_line(error),
            "what destinations lack is not known"
        );
    }
    read.ok()
}

fn lacks(lag: &DestinationJson) -> bool {
    lag.objects_behind > 0 || lag.not_filled
}

/// What a queue has noted of a destination, of one repository or of all.
fn noted(
    queue: &Queue,
    place: &Place,
    of: Option<RepositoryId>,
) -> Result<DestinationJson, QueueError> {
    let name = &place.name;
    let (mut lag, mut problem) = (queue.lag(name, of)?, queue.problem(name)?);
    if place.required {
        lag = lag.and(queue.owed(name, of)?);
        problem = match problem {
            None => queue.owed_problem(name)?,
            problem => problem,
        };
    }
    let state = DestinationState {
        name: name.to_string(),
        required: place.required,
        objects_behind: lag.objects,
        bytes_behind: lag.bytes,
        oldest_unix_secs: lag.oldest_unix_secs,
        problem,
        conditional_writes: ConditionalWrites::NotTried,
        placed: queue.placed(name, !place.required, of)?,
    };
    Ok(DestinationJson::from(&DestinationLag::from(state)))
}
