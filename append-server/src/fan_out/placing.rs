//! Which followers a repository is kept at, and on how many destinations its objects must be. Followers that are left out are
//! brought nothing and count for nothing; one that is named again counts once it was filled. Destinations that are waited for take
//! every repository, whatever is said here, and no repository goes below the server's own `min_copies`.

use std::sync::Arc;

use formats::ids::RepositoryId;
use formats::wire::placing::Copies;
use formats::wire::upload::destinations::Placed;

use crate::destination::{DestinationName, ObjectKey};
use crate::fan_out::copies::CopiesAsked;
use crate::fan_out::courier::Courier;
use crate::fan_out::followers::Followers;
use crate::fan_out::queue::QueueError;
use crate::fan_out::queue::placing::Keeping;
use crate::fan_out::{FanOut, FanOutError};
use crate::grants::PlacingGrant;

/// The followers that a repository is kept at.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    /// Those that have what the others have, or will without anybody's doing, unless they came later (`complete`).
    pub(super) counted: Vec<&'a Arc<Courier>>,
    /// Those that were left out, and were not filled since.
    pub(super) unfilled: Vec<&'a Arc<Courier>>,
    /// What is asked for the repository.
    copies: Copies,
}

impl Kept<'_> {
    fn count(&self) -> usize {
        self.counted.len() + self.unfilled.len()
    }

    /// On how many destinations an object must be, where so many are waited for.
    pub(super) fn asked(&self, required: usize, floor: usize) -> CopiesAsked {
        CopiesAsked::of(self.copies, required + self.count(), floor)
    }
}

impl FanOut {
    /// Says how repositories are kept, from now on and for good.
    pub async fn place(
        &self,
        repositories: Vec<RepositoryId>,
        keeping: Keeping,
        _grant: PlacingGrant,
    ) -> Result<(), FanOutError> {
        let Some(followers) = &self.followers else {
            // There is one destination, which takes everything.
            return self.check_reach(0, keeping.copies);
        };
        let kept = followers.names().filter(|name| keeping.kept_at.names(name));
        self.check_reach(kept.count(), keeping.copies)?;
        followers.place(repositories, keeping).await
    }

    /// Says that nobody writes to repositories any more: nothing more is asked for them than for any other. Where they stay on
    /// fewer destinations than that, which nobody could mend, they are kept everywhere.
    pub async fn place_as_before(
        &self,
        repositories: Vec<RepositoryId>,
        _grant: PlacingGrant,
    ) -> Result<(), FanOutError> {
        let Some(followers) = &self.followers else {
            return Ok(());
        };
        let mut short = Vec::new();
        for repository in &repositories {
            let kept = followers.kept(*repository)?.count();
            if self.check_reach(kept, Copies::Floor).is_err() {
                tracing::warn!(%repository, "is kept on fewer destinations than min_copies says, and everywhere from now on");
                short.push(*repository);
            }
        }
        followers
            .write(move |queue| queue.forget_copies(&repositories))
            .await?;
        match short.is_empty() {
            true => Ok(()),
            false => followers.place(short, Keeping::PLAIN).await,
        }
    }

    /// On how many destinations an object of a repository must be.
    pub(super) fn asked(
        &self,
        followers: &Followers,
        repository: RepositoryId,
    ) -> Result<CopiesAsked, FanOutError> {
        let kept = followers.kept(repository)?;
        Ok(kept.asked(self.required.len(), self.policy.copies_min))
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

    /// Refuses where as many copies as are asked for can never be, or not before somebody fills a destination; says how many
    /// those are.
    pub(super) fn check_kept(
        &self,
        followers: &Followers,
        repository: RepositoryId,
    ) -> Result<CopiesAsked, FanOutError> {
        let kept = followers.kept(repository)?;
        self.check_reach(kept.count(), kept.copies)?;
        let asked = kept.asked(self.required.len(), self.policy.copies_min);
        let required = self.required.iter().map(|destination| destination.name());
        for name in required {
            if followers.queue.unfilled(name, repository)?.is_some() {
                let name = name.clone();
                return Err(FanOutError::Unfilled { name, repository });
            }
        }
        let is_short = self.required.len() + kept.counted.len() < asked.copies;
        match kept.unfilled.first().filter(|_| is_short) {
            None => Ok(asked),
            Some(courier) => Err(FanOutError::Unfilled {
                name: courier.destination.name().clone(),
                repository,
            }),
        }
    }

    fn check_reach(&self, kept: usize, copies: Copies) -> Result<(), FanOutError> {
        let destinations = self.required.len() + kept;
        let asked = CopiesAsked::of(copies, destinations, self.policy.copies_min);
        match destinations < asked.copies {
            false => Ok(()),
            true => Err(FanOutError::KeptAtTooFew {
                asked,
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
        keeping: Keeping,
    ) -> Result<(), FanOutError> {
        let names: Vec<DestinationName> = self.names().cloned().collect();
        let placing = self.write(move |queue| queue.place(&repositories, &keeping, &names));
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

    /// How a repository is kept.
    pub(super) fn kept(&self, repository: RepositoryId) -> Result<Kept<'_>, QueueError> {
        let placed = self.queue.keeping(repository)?;
        let (mut counted, mut unfilled) = (Vec::new(), Vec::new());
        for courier in &self.couriers {
            let name = courier.destination.name();
            if !placed.kept_at.names(name) {
                continue;
            }
            match self.queue.unfilled(name, repository)? {
                None => counted.push(courier),
                Some(_) => unfilled.push(courier),
            }
        }
        Ok(Kept {
            counted,
            unfilled,
            copies: placed.copies,
        })
    }

    /// Whether a destination has a repository; without one, whether it has each that is to be there.
    pub(super) fn placed(
        &self,
        name: &DestinationName,
        of: Option<RepositoryId>,
    ) -> Result<Placed, QueueError> {
        let follows = self.names().any(|follower| follower == name);
        self.queue.placed(name, follows, of)
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
