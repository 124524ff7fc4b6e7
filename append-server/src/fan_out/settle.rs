//! Names that are chosen (log records, configs, key bundles), stored on all destinations or on none that counts, whenever
//! the process is killed and whichever destination fails.
//!
//! The order of a put is: a durable intent (name and digest) → the first required destination, which decides between two
//! writers → the other required ones → a delivery for each that follows → as many copies as the policy asks for → the
//! intent removed → the acknowledgement. Two rules make that enough:
//!
//! - *Before a name of a repository is put, every other intent of it is settled*: the bytes are read where they are, compared
//!   with the intent's digest, and stored again from the second step on; the same bytes that are there already are a
//!   success. While that cannot be done, the put is refused. So no record follows one that some destination lacks.
//! - *A list of the log leaves out a record whose intent is open and cannot be settled now.* So a record is never seen as
//!   committed before it is on every required destination.
//!
//! Cut short before the first destination has the bytes, a put leaves an intent of something that is nowhere. It stays,
//! because its writer may still live and go on; it hides nothing and holds up nothing, and goes with the next object that
//! gets its name. Cut short anywhere later, the bytes are on a destination, where the next put or list finds them. Once the
//! first destination has other bytes of the name, an intent is void: what is created there is never replaced.
//!
//! Packs have no intents. Nothing refers to one before it is acknowledged, so one that is not does no harm.

use formats::ids::RepositoryId;
use formats::object::ObjectKind;

use crate::destination::{DestinationName, ObjectKey, ObjectList, PutOutcome};
use crate::fan_out::followers::Followers;
use crate::fan_out::heal::{GatherError, gather};
use crate::fan_out::queue::intents::Intent;
use crate::fan_out::{FanOut, FanOutError, FanOutPolicy};
use crate::limits::READ_PATIENCE_MAX;
use crate::spool::{Purpose, SpooledObject};

/// Where an intent's bytes are.
enum Found {
    /// Somewhere; here they are.
    Copy(SpooledObject),
    /// Nowhere, and the name has gone to others.
    Void,
    /// Nowhere yet.
    Nowhere,
}

impl FanOut {
    /// Stores an object whose name was chosen.
    pub(super) async fn put_named(
        &self,
        followers: &Followers,
        key: &ObjectKey,
        source: &SpooledObject,
    ) -> Result<PutOutcome, FanOutError> {
        let intent = Intent {
            key: key.clone(),
            bytes: source.bytes(),
            digest: source.digest(),
        };
        for other in followers.intents(key.repository)? {
            if other != intent {
                self.settle_one(followers, &other).await?;
            }
        }
        followers.intend(&intent).await?;
        let put = self.put_everywhere(key, source, self.policy).await;
        match &put {
            Ok(_) => followers.settled(key).await?,
            Err(error) => self.note_cut_short(followers, &intent, error).await?,
        }
        put
    }

    /// Stores everywhere what earlier puts of a repository's names have left on some destinations.
    pub async fn settle(&self, repository: RepositoryId) -> Result<(), FanOutError> {
        let Some(followers) = &self.followers else {
            return Ok(());
        };
        for intent in followers.intents(repository)? {
            self.settle_one(followers, &intent).await?;
        }
        Ok(())
    }

    async fn settle_one(&self, followers: &Followers, intent: &Intent) -> Result<(), FanOutError> {
        let copy = match self.ask_patiently(|| self.find(intent)).await? {
            Found::Copy(copy) => copy,
            Found::Void => return followers.forget(intent).await,
            Found::Nowhere => return Ok(()),
        };
        let policy = FanOutPolicy {
            patience: self.policy.patience.min(READ_PATIENCE_MAX),
            ..self.policy
        };
        match self.put_everywhere(&intent.key, &copy, policy).await {
            Ok(_) => {
                tracing::info!(object = %intent.key, "what was stored by halves is everywhere now");
                followers.settled(&intent.key).await
            }
            Err(error) => {
                self.note_cut_short(followers, intent, &error).await?;
                Err(FanOutError::StoredByHalves {
                    key: intent.key.clone(),
                    source: Box::new(error),
                })
            }
        }
    }

    async fn find(&self, intent: &Intent) -> Result<Found, FanOutError> {
        let mut unclear = None;
        for (place, destination) in self.required.iter().enumerate() {
            let found = gather(destination, &intent.key, &self.spool, Purpose::Commit).await;
            match found {
                Ok(Some(copy)) if copy.digest() == intent.digest => return Ok(Found::Copy(copy)),
                Ok(_) if place == 0 => return Ok(Found::Void),
                Ok(_) => {}
                Err(GatherError::Spool(error)) => return Err(error.into()),
                Err(GatherError::Source(error)) if error.is_absent() => {}
                Err(GatherError::Source(error)) => unclear = Some(error),
            }
        }
        match unclear {
            Some(error) => Err(FanOutError::Read(Box::new(error))),
            None => Ok(Found::Nowhere),
        }
    }

    /// Notes whom a put still owes what it was to store, for whoever asks how destinations are doing.
    async fn note_cut_short(
        &self,
        followers: &Followers,
        intent: &Intent,
        error: &FanOutError,
    ) -> Result<(), FanOutError> {
        let destination: &DestinationName = match error {
            // Refused by the first: it is nowhere.
            FanOutError::Conflict { destination, .. } if self.is_first(destination) => {
                return followers.forget(intent).await;
            }
            FanOutError::Conflict { destination, .. } => destination,
            FanOutError::TooFewReplicas { missing, .. } => missing,
            // The others have deliveries of their own.
            _ => return Ok(()),
        };
        followers.note_owed(intent, destination, error).await
    }

    fn is_first(&self, name: &DestinationName) -> bool {
        self.required
            .first()
            .is_some_and(|first| first.name() == name)
    }

    /// A page of the log without what is not on every required destination, and cannot be brought there now.
    pub(super) async fn without_halves(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        mut list: ObjectList,
    ) -> Result<ObjectList, FanOutError> {
        let Some(followers) = self.followers.as_ref().filter(|_| kind == ObjectKind::Log) else {
            return Ok(list);
        };
        // After the list was made: whatever is in it had its intent before.
        for intent in followers.intents(repository)? {
            let name = &intent.key.name;
            if !list.objects.iter().any(|(listed, _)| listed == name) {
                continue;
            }
            let settling = self.settle_one(followers, &intent);
            let is_half = match tokio::time::timeout(READ_PATIENCE_MAX, settling).await {
                // Settled; or none of those that could be read has these bytes, so that the listed one has others.
                Ok(Ok(()) | Err(FanOutError::Read(_))) => false,
                _ => true,
            };
            if is_half {
                tracing::warn!(record = %intent.key, "a record is not on every required destination, and is not shown");
                list.objects.retain(|(listed, _)| listed != name);
            }
        }
        Ok(list)
    }
}
