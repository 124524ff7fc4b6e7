//! Whether every destination that an acknowledgement counts has what the others have of a repository. One that was added
//! later, or came back empty, does not: what it is given now is of no use without what came before. So nothing is put to a
//! repository before each that counts has its config, its key bundles and all of its log, or while one is being filled.
//!
//! The log stands for the packs: whoever fills a destination brings a record after everything it names, and the config
//! last of all. Looked at once for each repository and process; a single object that is lost later is a scan's business.

use std::collections::BTreeSet;

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use futures_util::future::join_all;

use crate::destination::{Destination, DestinationName, ObjectKey};
use crate::fan_out::filling::every_object;
use crate::fan_out::followers::Followers;
use crate::fan_out::patience::patiently;
use crate::fan_out::{FanOut, FanOutError};
use crate::limits::COMPARE_FOLLOWER_DEADLINE;

/// The folders that are compared: few and small objects, without which the others are worth nothing.
const COMPARED: [ObjectKind; 3] = [ObjectKind::Config, ObjectKind::Keys, ObjectKind::Log];

/// A destination and the names that it has, or will have without anybody's doing.
type Held<'a> = (&'a dyn Destination, BTreeSet<ObjectName>);

/// How a repository was found alike on the destinations that count.
#[derive(Debug, Clone)]
pub(super) struct Compared {
    /// How many copies were asked for then: for more of them, followers count that did not.
    copies: usize,
    /// Followers that count and did not answer.
    silent: Vec<DestinationName>,
}

impl FanOut {
    /// Whether a repository can be written to: nothing of it is stored by halves, and every destination that counts has
    /// what the others have.
    pub async fn ready_for(&self, repository: RepositoryId) -> Result<(), FanOutError> {
        self.settle(repository).await?;
        self.check_complete(repository).await
    }

    /// Refuses while a destination that counts lacks what others have.
    pub(super) async fn check_complete(&self, repository: RepositoryId) -> Result<(), FanOutError> {
        let Some(followers) = &self.followers else {
            return Ok(());
        };
        let asked = self.check_kept(followers, repository)?;
        followers
            .wait_until_filled(repository, self.policy.patience)
            .await?;
        let compared = self.complete().get(&repository).cloned();
        if compared.is_some_and(|compared| compared.copies >= asked.copies) {
            return Ok(());
        }
        let compared = self.compare_patiently(followers, repository).await?;
        self.complete().insert(repository, compared);
        Ok(())
    }

    /// The same once followers have taken something: one that did not answer before may have come back without what came before
    /// that.
    pub(super) async fn check_followers(
        &self,
        followers: &Followers,
        key: &ObjectKey,
    ) -> Result<(), FanOutError> {
        let repository = key.repository;
        let copies = self.asked(followers, repository)?.copies;
        if copies <= self.required.len() {
            return Ok(());
        }
        let compared = self.complete().get(&repository).cloned();
        if let Some(compared) = compared.filter(|compared| compared.copies >= copies) {
            let mut took = false;
            for name in &compared.silent {
                took |= !followers.is_pending(name, key)?;
            }
            if !took {
                return Ok(());
            }
        }
        self.complete().remove(&repository);
        let mut compared = self.compare_patiently(followers, repository).await?;
        for name in std::mem::take(&mut compared.silent) {
            // One that took this and does not list in time is slow; the others are looked at once they take something.
            if followers.is_pending(&name, key)? {
                compared.silent.push(name);
            }
        }
        self.complete().insert(repository, compared);
        Ok(())
    }

    async fn compare_patiently(
        &self,
        followers: &Followers,
        repository: RepositoryId,
    ) -> Result<Compared, FanOutError> {
        let may_pass = |error: &FanOutError| matches!(error, FanOutError::Read(source) if source.is_retryable());
        let compare = || self.compare(followers, repository);
        let compared = patiently(self.policy.patience, may_pass, compare).await;
        compared.map_err(|error| match error {
            FanOutError::Read(source) => FanOutError::NotSeen { repository, source },
            error => error,
        })
    }

    /// Refuses where one lacks what another has.
    async fn compare(
        &self,
        followers: &Followers,
        repository: RepositoryId,
    ) -> Result<Compared, FanOutError> {
        let (mut held, compared) = self.held(followers, repository).await?;
        // After they were listed: what is on its way there had its intent before.
        for intent in followers.intents(repository)? {
            for (_, names) in &mut held {
                names.remove(&intent.key.name);
            }
        }
        let all: BTreeSet<ObjectName> = held
            .iter()
            .flat_map(|(_, names)| names.iter().cloned())
            .collect();
        for (destination, names) in &held {
            let mut objects = 0;
            for name in all.difference(names) {
                // Another process may have stored it since the list was made.
                let name = name.clone();
                match destination.head(ObjectKey { repository, name }).await {
                    Ok(_) => {}
                    Err(error) if error.is_absent() => {
                        objects = all.difference(names).count();
                        break;
                    }
                    Err(error) => return Err(FanOutError::Read(Box::new(error))),
                }
            }
            if objects > 0 {
                return Err(FanOutError::Lacks {
                    name: destination.name().clone(),
                    objects,
                    repository,
                });
            }
        }
        Ok(compared)
    }

    /// What every required destination has, and every follower that copies are counted on and that answers.
    async fn held<'a>(
        &'a self,
        followers: &'a Followers,
        repository: RepositoryId,
    ) -> Result<(Vec<Held<'a>>, Compared), FanOutError> {
        let kept = followers.kept(repository)?;
        let asked = kept.asked(self.required.len(), self.policy.copies_min);
        let counted = match asked.copies > self.required.len() {
            true => kept.counted,
            false => Vec::new(),
        };
        let mut compared = Compared {
            copies: asked.copies,
            silent: Vec::new(),
        };
        if self.required.len() + counted.len() < 2 {
            return Ok((Vec::new(), compared));
        }
        let required = join_all(self.required.iter().map(|destination| async {
            let names = names_on(destination.as_ref(), repository).await?;
            Ok::<Held<'_>, FanOutError>((destination.as_ref(), names))
        }));
        let answers = join_all(counted.iter().map(|courier| async {
            let destination = courier.destination.as_ref();
            let names = names_on(destination, repository);
            // Who does not answer now is waited for by the put, and not counted before it has what it lacks.
            let names = tokio::time::timeout(COMPARE_FOLLOWER_DEADLINE, names).await;
            Some((destination, names.ok()?.ok()?))
        }));
        let (required, answers) = tokio::join!(required, answers);
        let mut held = required.into_iter().collect::<Result<Vec<_>, _>>()?;
        let silent = counted.iter().zip(&answers);
        let silent = silent.filter(|(_, answer)| answer.is_none());
        compared.silent = silent
            .map(|(courier, _)| courier.destination.name().clone())
            .collect();
        for (destination, mut names) in answers.into_iter().flatten() {
            let pending = followers.every_pending(destination.name(), repository)?;
            names.extend(pending);
            held.push((destination, names));
        }
        Ok((held, compared))
    }
}

async fn names_on(
    destination: &dyn Destination,
    repository: RepositoryId,
) -> Result<BTreeSet<ObjectName>, FanOutError> {
    let mut names = BTreeSet::new();
    for kind in COMPARED {
        let objects = every_object(destination, repository, kind).await?;
        names.extend(objects.into_iter().map(|(name, _)| name));
    }
    Ok(names)
}
