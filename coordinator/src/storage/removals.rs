//! What prune asks the append-server: to condemn packs, to take that back, to remove what waited long enough, whether there is room,
//! and to store the packs that live frames were copied into.

use std::time::Duration;

use append_server::destination::DestinationName;
use bytes::Bytes;
use formats::ids::{PackId, RecordId, RepositoryId};
use formats::object::ObjectName;
use formats::wire::upload::objects::{OBJECT_PAGE_MAX, ObjectPage};
use formats::wire::upload::removals::RemovalReport;
use formats::wire::upload::repairs::Queued;
use formats::wire::upload::{PATH_DESTINATIONS, PATH_REMOVALS, Stored};
use hyper::Method;

use crate::storage::client::{StorageClient, collect, request, small_body, wrong};
use crate::storage::error::{StorageError, Subject};

/// The most bytes of a report.
const REPORT_BYTES_MAX: u64 = 512 << 10;
/// How long a thousand removals may take.
const SWEEP_DEADLINE: Duration = Duration::from_secs(3_600);

/// The log record that says so: its place and its name.
pub type RecordProof = (u64, RecordId);

impl StorageClient {
    /// Has packs condemned, with the record that says so.
    pub async fn condemn(
        &self,
        repository: RepositoryId,
        proof: RecordProof,
        packs: &[(ObjectName, u64)],
    ) -> Result<(), StorageError> {
        let path = removal_path(repository, "condemn", Some(proof));
        self.post_all(repository, &path, packs).await
    }

    /// The same for one destination alone, which does not keep what others do.
    pub async fn condemn_at(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        proof: RecordProof,
        packs: &[(ObjectName, u64)],
    ) -> Result<(), StorageError> {
        let path = removal_path(repository, "condemn", Some(proof));
        let path = format!("{path}&destination={destination}");
        self.post_all(repository, &path, packs).await
    }

    /// Takes packs off the list of what is condemned. Refused for those that are being removed.
    pub async fn spare(
        &self,
        repository: RepositoryId,
        packs: &[(ObjectName, u64)],
    ) -> Result<(), StorageError> {
        let path = removal_path(repository, "spare", None);
        self.post_all(repository, &path, packs).await
    }

    /// The same at one destination.
    pub async fn spare_at(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        packs: &[(ObjectName, u64)],
    ) -> Result<(), StorageError> {
        let path = removal_path(repository, "spare", None);
        let path = format!("{path}?destination={destination}");
        self.post_all(repository, &path, packs).await
    }

    async fn post_all(
        &self,
        repository: RepositoryId,
        path: &str,
        packs: &[(ObjectName, u64)],
    ) -> Result<(), StorageError> {
        let subject = Subject::Repository(repository);
        for body in bodies(packs) {
            let answer = self
                .send(request(Method::POST, path, body), &subject)
                .await?;
            small_body(answer, &subject).await?;
        }
        Ok(())
    }

    /// Has packs removed, with the record that says so, and goes on with what is due from before.
    pub async fn sweep(
        &self,
        repository: RepositoryId,
        proof: RecordProof,
        packs: &[(ObjectName, u64)],
    ) -> Result<RemovalReport, StorageError> {
        let path = removal_path(repository, "sweep", Some(proof));
        self.sweep_all(repository, &path, packs).await
    }

    /// The same at one destination, of what others keep.
    pub async fn sweep_at(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        proof: RecordProof,
        packs: &[(ObjectName, u64)],
    ) -> Result<RemovalReport, StorageError> {
        let path = removal_path(repository, "sweep", Some(proof));
        let path = format!("{path}&destination={destination}");
        self.sweep_all(repository, &path, packs).await
    }

    async fn sweep_all(
        &self,
        repository: RepositoryId,
        path: &str,
        packs: &[(ObjectName, u64)],
    ) -> Result<RemovalReport, StorageError> {
        let mut all = RemovalReport::default();
        for body in bodies(packs) {
            add(&mut all, self.sweep_once(repository, path, body).await?);
        }
        Ok(all)
    }

    /// Whether so many bytes can be written anew: [`StorageError::NoSpace`] where a required destination has no room for them
    /// beside its reserve.
    pub async fn check_room(
        &self,
        repository: RepositoryId,
        bytes: u64,
    ) -> Result<(), StorageError> {
        let path = format!("{PATH_REMOVALS}/{repository}/room?bytes={bytes}");
        let subject = Subject::Repository(repository);
        let asked = request(Method::GET, &path, Bytes::new());
        let answer = self.send(asked, &subject).await?;
        small_body(answer, &subject).await.map(drop)
    }

    /// Goes on with what is due from before.
    pub async fn sweep_due(&self, repository: RepositoryId) -> Result<RemovalReport, StorageError> {
        let path = removal_path(repository, "sweep", None);
        self.sweep_once(repository, &path, Bytes::new()).await
    }

    async fn sweep_once(
        &self,
        repository: RepositoryId,
        path: &str,
        body: Bytes,
    ) -> Result<RemovalReport, StorageError> {
        let subject = Subject::Repository(repository);
        let request = request(Method::POST, path, body);
        let answer = self.pool.send(request, &subject, SWEEP_DEADLINE).await?;
        let body = collect(answer, &subject, REPORT_BYTES_MAX).await?;
        RemovalReport::decode(&body).map_err(|source| StorageError::Decode { subject, source })
    }

    /// Stores a data pack of copied frames; durable when this returns.
    pub async fn put_moved(
        &self,
        repository: RepositoryId,
        pack: PackId,
        bytes: Bytes,
    ) -> Result<(), StorageError> {
        let name = ObjectName::Pack(pack);
        let subject = Subject::Object(repository, name.clone());
        let path = format!("{PATH_REMOVALS}/{repository}/{name}");
        let answer = self
            .send(request(Method::PUT, &path, bytes), &subject)
            .await?;
        let body = small_body(answer, &subject).await?;
        let stored = Stored::decode(&body).map_err(|source| StorageError::Decode {
            subject: subject.clone(),
            source,
        })?;
        match stored.digest == pack {
            true => Ok(()),
            false => Err(wrong(&subject, "it stored other bytes than were sent")),
        }
    }

    /// Ends uploads in parts to a destination that nobody completed; says how many.
    pub async fn abort_uploads(
        &self,
        destination: &DestinationName,
        older_than: Duration,
    ) -> Result<u64, StorageError> {
        let subject = Subject::Destinations;
        let path = format!(
            "{PATH_DESTINATIONS}/{destination}/uploads?older_than_secs={}",
            older_than.as_secs()
        );
        let answer = self
            .send(request(Method::POST, &path, Bytes::new()), &subject)
            .await?;
        let body = small_body(answer, &subject).await?;
        let queued = Queued::decode(&body);
        let queued = queued.map_err(|source| StorageError::Decode { subject, source })?;
        Ok(queued.objects)
    }
}

fn removal_path(repository: RepositoryId, what: &str, proof: Option<RecordProof>) -> String {
    let path = format!("{PATH_REMOVALS}/{repository}/{what}");
    match proof {
        Some((sequence, id)) => format!("{path}?record={sequence}&digest={id}"),
        None => path,
    }
}

/// Pages of packs in byte order of names, each name once.
fn bodies(packs: &[(ObjectName, u64)]) -> Vec<Bytes> {
    let mut names: Vec<(String, u64)> = packs
        .iter()
        .map(|(name, bytes)| (name.to_string(), *bytes))
        .collect();
    names.sort_unstable();
    names.dedup_by(|one, other| one.0 == other.0);
    let page = usize::try_from(OBJECT_PAGE_MAX).unwrap_or(usize::MAX);
    let pages = names.chunks(page).map(|objects| ObjectPage {
        objects: objects.to_vec(),
        more: false,
    });
    pages.map(|page| page.encode().into()).collect()
}

/// Both reports as one; what waits is what the later one says.
fn add(all: &mut RemovalReport, one: RemovalReport) {
    all.removed += one.removed;
    all.removed_bytes += one.removed_bytes;
    all.too_young += one.too_young;
    all.over_limit += one.over_limit;
    all.waiting = one.waiting;
}
