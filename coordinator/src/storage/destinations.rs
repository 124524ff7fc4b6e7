//! What the append-server is asked about single destinations: how each is doing, filling one, healing objects, prolonging
//! their locks.

use std::time::Duration;

use append_server::destination::DestinationName;
use bytes::Bytes;
use formats::ids::{PackId, RepositoryId};
use formats::object::ObjectName;
use formats::wire::upload::PATH_DESTINATIONS;
use formats::wire::upload::destinations::{DestinationState, DestinationStates, Placed};
use formats::wire::upload::objects::ObjectPage;
use formats::wire::upload::repairs::{HealedObject, LockedObject, Queued};
use hyper::Method;

use crate::storage::client::{PAGE_BYTES_MAX, StorageClient, collect, request, small_body, wrong};
use crate::storage::error::{StorageError, Subject};

/// Why a destination takes nothing at present, or does not have what nobody brings there by itself.
pub fn problem_of(state: &DestinationState) -> Option<String> {
    let problem = state.problem.clone();
    problem.or_else(|| match state.placed {
        Placed::Unfilled => Some(not_filled(&state.name)),
        Placed::Kept | Placed::LeftOut => None,
    })
}

/// What is wrong with a destination that hosts are kept at again, and what to do.
pub fn not_filled(name: &str) -> String {
    format!("not filled: run `coordinator destination sync {name}`")
}

/// The most bytes of all destinations' states.
const STATES_BYTES_MAX: u64 = 512 << 10;
/// How long it may take to heal an object: to read it where it is and where it is good, and to write it, on a slow line.
const HEAL_DEADLINE: Duration = Duration::from_secs(3_600);

impl StorageClient {
    /// How every destination is doing.
    pub async fn destinations(&self) -> Result<Vec<DestinationState>, StorageError> {
        self.states(PATH_DESTINATIONS).await
    }

    /// The same, with what each lacks of one repository alone.
    pub async fn destinations_of(
        &self,
        repository: RepositoryId,
    ) -> Result<Vec<DestinationState>, StorageError> {
        let path = format!("{PATH_DESTINATIONS}?repository={repository}");
        self.states(&path).await
    }

    async fn states(&self, path: &str) -> Result<Vec<DestinationState>, StorageError> {
        let subject = Subject::Destinations;
        let request = request(Method::GET, path, Bytes::new());
        let answer = self.send(request, &subject).await?;
        let body = collect(answer, &subject, STATES_BYTES_MAX).await?;
        let states = DestinationStates::decode(&body);
        let states = states.map_err(|source| StorageError::Decode { subject, source })?;
        Ok(states.0)
    }

    /// Queues what a destination lacks of a repository.
    pub async fn sync_destination(
        &self,
        name: &str,
        repository: RepositoryId,
    ) -> Result<Queued, StorageError> {
        let subject = Subject::Destinations;
        let path = format!("{PATH_DESTINATIONS}/{name}/sync?repository={repository}");
        let request = request(Method::POST, &path, Bytes::new());
        let answer = self.send(request, &subject).await?;
        let body = small_body(answer, &subject).await?;
        Queued::decode(&body).map_err(|source| StorageError::Decode { subject, source })
    }

    /// What a destination is still to get of a repository: one page after a name, and whether there are more.
    pub async fn pending_page(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        after: Option<&ObjectName>,
    ) -> Result<(Vec<ObjectName>, bool), StorageError> {
        let subject = Subject::Destinations;
        let mut path = format!("{PATH_DESTINATIONS}/{destination}/pending?repository={repository}");
        if let Some(after) = after {
            path.push_str(&format!("&after={after}"));
        }
        let answer = self
            .send(request(Method::GET, &path, Bytes::new()), &subject)
            .await?;
        let body = collect(answer, &subject, PAGE_BYTES_MAX).await?;
        let page = ObjectPage::decode(&body).map_err(|source| StorageError::Decode {
            subject: subject.clone(),
            source,
        })?;
        let names = page.objects.iter().map(|(text, _)| text.parse());
        let names: Result<Vec<ObjectName>, _> = names.collect();
        let names = names.map_err(|_| wrong(&subject, "it lists a name that is no object's"))?;
        if page.more && names.last() <= after {
            return Err(wrong(&subject, "its names are not in order"));
        }
        Ok((names, page.more))
    }

    /// Heals one object of a destination from another that has it with this digest.
    pub async fn heal(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        name: &ObjectName,
        digest: PackId,
    ) -> Result<HealedObject, StorageError> {
        let subject = Subject::Object(repository, name.clone());
        let path = format!(
            "{PATH_DESTINATIONS}/{destination}/heal?repository={repository}&object={name}&digest={digest}"
        );
        let request = request(Method::POST, &path, Bytes::new());
        let answer = self.pool.send(request, &subject, HEAL_DEADLINE).await?;
        let body = small_body(answer, &subject).await?;
        HealedObject::decode(&body).map_err(|source| StorageError::Decode { subject, source })
    }

    /// Prolongs an object's lock at one destination when less than half of its time is left.
    pub async fn renew_lock(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        name: &ObjectName,
    ) -> Result<LockedObject, StorageError> {
        let subject = Subject::Object(repository, name.clone());
        let path =
            format!("{PATH_DESTINATIONS}/{destination}/lock?repository={repository}&object={name}");
        let request = request(Method::POST, &path, Bytes::new());
        let body = small_body(self.send(request, &subject).await?, &subject).await?;
        LockedObject::decode(&body).map_err(|source| StorageError::Decode { subject, source })
    }
}
