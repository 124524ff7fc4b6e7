//! Which followers a repository is kept at. Those that are left out are brought nothing and count for nothing; one that is named
//! again counts once it was filled. Destinations that are waited for take every repository, whatever is said here.

use std::sync::Arc;

use formats::ids::RepositoryId;
use formats::wire::upload::Placed;

use crate::destination::{DestinationName, ObjectKey};
use crate::fan_out::courier::Courier;
use crate::fan_out::followers::Followers;
use crate::fan_out::queue::QueueError;
use crate::fan_out::queue::placing::KeptAt;
use crate::fan_out::{FanOut, FanOutError};
use crate::grants::PlacingGrant;

/// The followers that a repository is kept at.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    /// Those that have what the others have, or will without anybody's doing, unless they came later (`complete`).
    pub(super) counted: Vec<&'a Arc<Courier>>,
    /// Those that were left out, and were not filled since.
    pub(super) unfilled: Vec<&'a Arc<Courier>>,
}

impl Kept<'_> {
    fn count(&self) -> usize {
        self.counted.len() + self.unfilled.len()
    }
}

impl FanOut {
    /// Says where repositories are kept, from now on and for good.
    pub async fn place(
        &self,
        repositories: Vec<RepositoryId>,
        kept_at: KeptAt,
        _grant: PlacingGrant,
    ) -> Result<(), FanOutError> {
        let Some(followers) = &self.followers else {
            return Ok(()); // There is one destination, which takes everything.
        };
        let kept = followers.names().filter(|name| kept_at.names(name));
        self.check_reach(kept.count())?;
        followers.place(repositories, kept_at).await
    }

    /// Whether a destination is left out of a repository.
    pub(super) fn is_left_out(
        &self,
        name: &DestinationName,
        repository: RepositoryId,
    ) -> Result<bool, FanOutError> {
        match &self.followers {
            Some(followers) => Ok(followers.leaves_out(name, repository)?),
            None => Ok(false),
        }
    }

    /// Whether a destination has a repository.
    pub fn placed(
        &self,
        name: &DestinationName,
        repository: RepositoryId,
    ) -> Result<Placed, FanOutError> {
        match &self.followers {
            Some(followers) => Ok(followers.placed(name, Some(repository))?),
            None => Ok(Placed::Kept),
        }
    }

    /// Refuses where as many copies as the policy asks for can never be, or not before somebody fills a destination.
    pub(super) fn check_kept(
        &self,
        followers: &Followers,
        repository: RepositoryId,
    ) -> Result<(), FanOutError> {
        let kept = followers.kept(repository)?;
        self.check_reach(kept.count())?;
        let required = self.required.iter().map(|destination| destination.name());
        for name in required {
            if followers.queue.unfilled(name, repository)?.is_some() {
                let name = name.clone();
                return Err(FanOutError::Unfilled { name, repository });
            }
        }
        let is_short = self.required.len() + kept.counted.len() < self.policy.copies_min;
        match kept.unfilled.first().filter(|_| is_short) {
            None => Ok(()),
            Some(courier) => Err(FanOutError::Unfilled {
                name: courier.destination.name().clone(),
                repository,
            }),
        }
    }

    fn check_reach(&self, kept: usize) -> Result<(), FanOutError> {
        let destinations = self.required.len() + kept;
        match destinations < self.policy.copies_min {
            false => Ok(()),
            true => Err(FanOutError::KeptAtTooFew {
                copies_min: self.policy.copies_min,
                destinations,
            }),
        }
    }
}

impl Followers {
    fn names(&self) -> impl Iterator<Item = &DestinationName> {
        self.couriers
            .iter()
            .map(|courier| courier.destination.name())
    }

    async fn place(
        &self,
        repositories: Vec<RepositoryId>,
        kept_at: KeptAt,
    ) -> Result<(), FanOutError> {
        let names: Vec<DestinationName> = self.names().cloned().collect();
        let placing = self.write(move |queue| queue.place(&repositories, &kept_at, &names));
        for change in placing.await? {
            let (repository, destination) = (change.repository, change.destination);
            match change.is_kept {
                true => {
                    tracing::warn!(%repository, %destination, "is kept there from now on, and counts once `coordinator destination sync` has filled it");
                }
                false => {
                    let dropped = change.dropped;
                    tracing::info!(%repository, %destination, dropped, "is not kept there any more");
                }
            }
        }
        for courier in &self.couriers {
            courier.wake(); // What it holds for nobody is let go.
        }
        Ok(())
    }

    /// Where a repository is kept.
    pub(super) fn kept(&self, repository: RepositoryId) -> Result<Kept<'_>, QueueError> {
        let placed = self.queue.kept_at(repository)?;
        let (mut counted, mut unfilled) = (Vec::new(), Vec::new());
        for courier in &self.couriers {
            let name = courier.destination.name();
            if !placed.names(name) {
                continue;
            }
            match self.queue.unfilled(name, repository)? {
                None => counted.push(courier),
                Some(_) => unfilled.push(courier),
            }
        }
        Ok(Kept { counted, unfilled })
    }

    /// Whether a destination has a repository; without one, whether it has each that is to be there.
    pub(super) fn placed(
        &self,
        name: &DestinationName,
        of: Option<RepositoryId>,
    ) -> Result<Placed, QueueError> {
        let is_unfilled = match of {
            Some(repository) if self.leaves_out(name, repository)? => return Ok(Placed::LeftOut),
            Some(repository) => self.queue.unfilled(name, repository)?.is_some(),
            None => {
                let follows = self.names().any(|follower| follower == name);
                let kept_at = self.queue.unfilled_kept_at(name)?;
                kept_at.iter().any(|kept| !follows || kept.names(name))
            }
        };
        Ok(match is_unfilled {
            true => Placed::Unfilled,
            false => Placed::Kept,
        })
    }

    /// Whether one of them is left out of a repository.
    pub(super) fn leaves_out(
        &self,
        name: &DestinationName,
        repository: RepositoryId,
    ) -> Result<bool, QueueError> {
        let follows = self.names().any(|follower| follower == name);
        Ok(follows && !self.queue.kept_at(repository)?.names(name))
    }

    /// Those that an object's repository is kept at.
    pub(super) fn couriers_of(&self, key: &ObjectKey) -> Result<Vec<&Arc<Courier>>, QueueError> {
        let placed = self.queue.kept_at(key.repository)?;
        let kept = |courier: &&Arc<Courier>| placed.names(courier.destination.name());
        Ok(self.couriers.iter().filter(kept).collect())
    }
}
