//! Brings the catalog up to the log on storage. Every record's signature, place and chain is checked before
//! anything of it is believed; a log that is shorter, other or holed is refused by name, and the catalog
//! stays as it was. Never writes to storage.

use std::collections::BTreeSet;

use formats::ids::{RecordId, RepositoryId};
use formats::keys::repository::{MissingKeyError, RepositoryKeys};
use formats::keys::secret::KemSeed;
use formats::limits::RECORD_BYTES_MAX;
use formats::log::record::{RecordError, RecordPlace, SealedRecord};
use formats::object::{ObjectKind, ObjectName};
use tokio::join;

use crate::catalog::unread::Taken;
use crate::catalog::{Catalog, CatalogError};
use crate::repository::store::{ObjectStore, StoreError, tell_bad_copy};

/// How many records are taken in by one transaction.
const RECORDS_AT_ONCE: usize = 64;

/// Why the log on storage was refused.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Storage has less than was there before.
    #[error(
        "repository {repository} was rolled back: its log ends with record {stored}, but record {known} was \
         committed; read another destination with --destination, and heal this one with `coordinator scan --repair` \
         before anything is backed up to it"
    )]
    Rollback {
        /// The repository.
        repository: RepositoryId,
        /// The last record on storage, 0 for none.
        stored: u64,
        /// The last record known.
        known: u64,
    },
    /// Storage has another record than was there before.
    #[error(
        "repository {repository} was forked: its log record {sequence} is {found}, but {known} was committed \
         there; a second coordinator wrote to it, or storage was altered"
    )]
    Fork {
        /// The repository.
        repository: RepositoryId,
        /// The record's place.
        sequence: u64,
        /// What is there now.
        found: RecordId,
        /// What was there.
        known: RecordId,
    },
    /// A record is missing between others.
    #[error(
        "repository {repository} lost log record {missing}, though record {last} is there: fetch it from \
         another destination"
    )]
    Gap {
        /// The repository.
        repository: RepositoryId,
        /// The first one missing.
        missing: u64,
        /// The last one there.
        last: u64,
    },
    /// A record was refused.
    #[error("repository {repository}: its log record {sequence} was refused")]
    Record {
        /// The repository.
        repository: RepositoryId,
        /// The record's place.
        sequence: u64,
        /// Why.
        source: RecordError,
    },
    /// The unlocked role cannot read the log.
    #[error(transparent)]
    MissingKey(#[from] MissingKeyError),
    /// Storage failed.
    #[error("could not read the log of the repository")]
    Store(#[from] StoreError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl SyncError {
    /// Whether records are missing or damaged, and what is known of the log is good as far as it goes.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Gap { .. } | Self::Record { .. } | Self::Store(StoreError::Missing { .. })
        )
    }

    /// Whether stored data is not what was stored, as opposed to not being reachable now.
    pub fn is_integrity(&self) -> bool {
        matches!(
            self,
            Self::Rollback { .. }
                | Self::Fork { .. }
                | Self::Gap { .. }
                | Self::Record { .. }
                | Self::Store(StoreError::Missing { .. } | StoreError::TooLarge { .. })
        )
    }
}

impl Catalog {
    /// Takes in what the log on storage has beyond the catalog; says how many records that were. Where one is missing or
    /// damaged, those before it are taken in all the same. With keys that do not open the log, what a record says that was not
    /// made here stays unread.
    pub async fn sync<S: ObjectStore>(
        &mut self,
        store: &S,
        keys: &RepositoryKeys,
    ) -> Result<u64, SyncError> {
        self.open_unread(store, keys).await?;
        let known = self.last()?.map(|(sequence, _)| sequence);
        let last_place = self.last_place()?;
        let not_forked = async {
            match &last_place {
                Some((place, id)) => check_not_forked(store, &keys.verifying()?, place, *id).await,
                None => Ok(()),
            }
        };
        // On a long line each question costs a round trip, so both are asked at once.
        let (names, not_forked) = join!(store.list(self.repository, ObjectKind::Log), not_forked);
        let mut names = names?;
        let (last, gap) = match check_sequences(self.repository, &names, known) {
            Err(gap @ SyncError::Gap { .. }) => {
                for copy in store.copies() {
                    // One that does not answer has nothing to add.
                    let more = copy.list(self.repository, ObjectKind::Log).await;
                    names.extend(more.unwrap_or_default());
                }
                match check_sequences(self.repository, &names, known) {
                    Ok(last) => {
                        tell_bad_copy(&gap);
                        (last, None)
                    }
                    Err(SyncError::Gap { missing, .. }) => (missing - 1, Some(gap)),
                    Err(other) => return Err(other),
                }
            }
            checked => (checked?, None),
        };
        not_forked?;
        let taken = self.take_in(store, keys, last).await?;
        match gap {
            None => Ok(taken),
            Some(gap) => Err(gap),
        }
    }

    async fn take_in<S: ObjectStore>(
        &mut self,
        store: &S,
        keys: &RepositoryKeys,
        last: u64,
    ) -> Result<u64, SyncError> {
        let verifying = keys.verifying()?;
        let seed = keys.log().ok();
        let mut expected = self.head()?;
        let mut records = Vec::with_capacity(RECORDS_AT_ONCE);
        let mut taken = 0;
        while expected.sequence <= last {
            let read = match read_record(store, &verifying, seed, &expected).await {
                Ok(read) => read,
                Err(error) => {
                    self.append_all(&records)?;
                    return Err(error);
                }
            };
            let (place, id, mut says) = read;
            if let Taken::Sealed(_) = says
                && let Some(own) = self.intended(place.sequence, id)?
            {
                says = Taken::Opened(own);
            }
            expected = self.place_after(Some((expected.sequence, id)));
            records.push((place, id, says));
            taken += 1;
            if records.len() == RECORDS_AT_ONCE {
                self.append_all(&records)?;
                records.clear();
            }
        }
        self.append_all(&records)?;
        Ok(taken)
    }

    /// Opens what earlier keys did not open, before anything is asked that hangs on it.
    async fn open_unread<S: ObjectStore>(
        &mut self,
        store: &S,
        keys: &RepositoryKeys,
    ) -> Result<(), SyncError> {
        let Ok(seed) = keys.log() else {
            return Ok(());
        };
        let verifying = keys.verifying()?;
        for places in self.unread_places()?.chunks(RECORDS_AT_ONCE) {
            let mut opened = Vec::with_capacity(places.len());
            for (place, known) in places {
                let (_, found, taken) = read_record(store, &verifying, Some(seed), place).await?;
                if found != *known {
                    return Err(SyncError::Fork {
                        repository: place.repository,
                        sequence: place.sequence,
                        found,
                        known: *known,
                    });
                }
                if let Taken::Opened(payload) = taken {
                    opened.push((place.sequence, payload));
                }
            }
            self.note_opened(&opened)?;
        }
        Ok(())
    }
}

/// A record that was checked, and opened where the keys do.
type ReadRecord = (RecordPlace, RecordId, Taken);

/// The record of a place: where a copy is missing or refused, from another. The first copy's failure is what is told.
async fn read_record<S: ObjectStore>(
    store: &S,
    verifying: &[u8; 32],
    seed: Option<&KemSeed>,
    expected: &RecordPlace,
) -> Result<ReadRecord, SyncError> {
    let first = match read_copy(store, verifying, seed, expected).await {
        Ok(record) => return Ok(record),
        Err(error) => error,
    };
    for copy in store.copies() {
        if let Ok(record) = read_copy(&copy, verifying, seed, expected).await {
            tell_bad_copy(&first);
            return Ok(record);
        }
    }
    Err(first)
}

async fn read_copy<S: ObjectStore>(
    store: &S,
    verifying: &[u8; 32],
    seed: Option<&KemSeed>,
    expected: &RecordPlace,
) -> Result<ReadRecord, SyncError> {
    let (repository, sequence) = (expected.repository, expected.sequence);
    let bytes = fetch(store, repository, sequence).await?;
    let refused = |source| SyncError::Record {
        repository,
        sequence,
        source,
    };
    let record = SealedRecord::check(&bytes, verifying, expected).map_err(refused)?;
    let taken = match seed {
        Some(seed) => Taken::Opened(record.open(seed).map_err(refused)?),
        None => Taken::Sealed(record.kind()),
    };
    Ok((record.place, record.id, taken))
}

/// The last record known must still be the one on storage: it chains all before it. A copy that has it makes up for
/// one that is damaged, and never for one that is another record of ours: then there are two histories.
async fn check_not_forked<S: ObjectStore>(
    store: &S,
    verifying: &[u8; 32],
    place: &RecordPlace,
    known: RecordId,
) -> Result<(), SyncError> {
    let (repository, sequence) = (place.repository, place.sequence);
    let damage = match fetch(store, repository, sequence).await {
        Ok(bytes) => {
            let found = RecordId(blake3::hash(&bytes).into());
            if found == known {
                return Ok(());
            }
            match SealedRecord::check(&bytes, verifying, place) {
                Ok(_) | Err(RecordError::Chain { .. }) => {
                    return Err(SyncError::Fork {
                        repository,
                        sequence,
                        found,
                        known,
                    });
                }
                Err(source) => SyncError::Record {
                    repository,
                    sequence,
                    source,
                },
            }
        }
        Err(error) => error.into(),
    };
    for copy in store.copies() {
        let bytes = fetch(&copy, repository, sequence).await;
        if bytes.is_ok_and(|bytes| RecordId(blake3::hash(&bytes).into()) == known) {
            tell_bad_copy(&damage);
            return Ok(());
        }
    }
    Err(damage)
}

async fn fetch<S: ObjectStore>(
    store: &S,
    repository: RepositoryId,
    sequence: u64,
) -> Result<bytes::Bytes, StoreError> {
    let name = ObjectName::Log(sequence);
    store.get(repository, &name, RECORD_BYTES_MAX).await
}

/// The last sequence number on storage; the numbers must run from 1 to it, at least as far as is known.
fn check_sequences(
    repository: RepositoryId,
    names: &[ObjectName],
    known: Option<u64>,
) -> Result<u64, SyncError> {
    let sequences: BTreeSet<u64> = names
        .iter()
        .filter_map(|name| match name {
            ObjectName::Log(sequence) => Some(*sequence),
            _ => None,
        })
        .collect();
    let stored = sequences.last().copied().unwrap_or(0);
    let known = known.unwrap_or(0);
    if stored < known {
        return Err(SyncError::Rollback {
            repository,
            stored,
            known,
        });
    }
    let hole = (1..)
        .zip(&sequences)
        .find(|(wanted, found)| wanted != *found);
    match hole {
        None => Ok(stored),
        Some((missing, _)) => Err(SyncError::Gap {
            repository,
            missing,
            last: stored,
        }),
    }
}
