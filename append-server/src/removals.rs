//! Removing packs that nothing needs: the one way in which anything of a destination ever goes.
//!
//! Two steps with a time in between, whoever asks. A pack is condemned with the log record that says so, which must be durable
//! here; from that moment its grace counts, by this server's own [`crate::age_clock`]. Only then can it be swept, no more bytes
//! a day than are allowed, and only where the destination's `allow_delete` does. So whoever takes a coordinator over leaves a
//! trace in the log, and everything there is, for as long as the grace. Never removes a log record, a config or a bundle.
//!
//! A data pack can be condemned at one destination alone, which then keeps less than others (`at`): it is removed there only while
//! the others show that they have it.

mod at;
mod ledger;
mod thinned;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use formats::ids::{PackId, RepositoryId};
use formats::object::ObjectName;
use formats::wire::upload::destinations::Placed;
use formats::wire::upload::removals::{RemovalReport, RemovalsWaiting};
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::age_clock::Reading;
use crate::answer::chain;
use crate::clock::{Clock, SystemClock};
use crate::destination::{ByteRange, Destination, DestinationError, DestinationName, ObjectKey};
use crate::fan_out::{FanOut, FanOutError};
use crate::grants::{MaintenanceGrant, RemovalGrant};
use crate::limits::{REMOVAL_FAILURES_MAX, REMOVAL_RETRY_SECS, REMOVALS_AT_ONCE, REMOVALS_DUE_MAX};
use crate::removals::ledger::{Condemned, Due, Ledger};

pub use ledger::LedgerError;

/// The usual name of the ledger's file.
pub const LEDGER_FILE: &str = "removals.sqlite";

/// What a server's removals are bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalPolicy {
    /// How long a condemned pack stays.
    pub grace: Duration,
    /// The most bytes that are swept in 24 hours.
    pub daily_bytes_max: u64,
    /// What is different at single destinations.
    pub rules: HashMap<DestinationName, RemovalRule>,
}

/// What is different at one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovalRule {
    /// Whether anything is removed there.
    pub allow_delete: bool,
    /// How much longer than the grace what is condemned stays there.
    pub delete_after: Duration,
}

impl Default for RemovalRule {
    fn default() -> Self {
        Self {
            allow_delete: true,
            delete_after: Duration::ZERO,
        }
    }
}

/// The log record that says that packs are condemned, or swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// Its place in the log.
    pub sequence: u64,
    /// BLAKE3 of its bytes.
    pub digest: PackId,
}

/// A removal that is refused, or could not be noted.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The record that should stand for it.
    #[error("log record {sequence} that should say so cannot be read")]
    NoProof {
        /// Its place.
        sequence: u64,
        /// Why.
        source: FanOutError,
    },
    /// Another record stands there.
    #[error("log record {sequence} is another one than was named: nothing is removed on its word")]
    OtherProof {
        /// Its place.
        sequence: u64,
    },
    /// Something that prune never removes.
    #[error("{name} is no pack: nothing else is ever removed")]
    NoPack {
        /// What was asked for.
        name: ObjectName,
    },
    /// It was not condemned.
    #[error("{name} was not condemned here: it must be, and wait, before it can be removed")]
    NotCondemned {
        /// What was asked for.
        name: ObjectName,
    },
    /// Something of which every destination has a copy.
    #[error("{name} is no data pack: only data packs are removed at single destinations")]
    NoDataPack {
        /// What was asked for.
        name: ObjectName,
    },
    /// It is being removed.
    #[error("{name} is being removed, and does not come back")]
    Swept {
        /// What was asked for.
        name: ObjectName,
    },
    /// The queue of deliveries.
    #[error(transparent)]
    FanOut(#[from] FanOutError),
    /// The task was cut.
    #[error("noting removals was cut off")]
    Cut(#[from] tokio::task::JoinError),
}

/// The removals of one server.
#[derive(Debug)]
pub struct Removals {
    ledger: Ledger,
    policy: RemovalPolicy,
    clock: Arc<dyn Clock>,
}

impl Removals {
    /// With the ledger at this path, made when it is not there.
    pub fn open(path: &Path, policy: RemovalPolicy) -> Result<Self, LedgerError> {
        Ok(Self {
            ledger: Ledger::open(path)?,
            policy,
            clock: Arc::new(SystemClock),
        })
    }

    /// By how much certain time this server's ledger is old: graces are measured by it.
    fn age_secs(&self) -> Result<u64, LedgerError> {
        self.ledger
            .advance(&Reading::now(self.clock.now_unix_secs()))
    }

    fn rule(&self, destination: &DestinationName) -> RemovalRule {
        let rule = self.policy.rules.get(destination);
        rule.copied().unwrap_or_default()
    }

    /// Whether anything is removed at a destination.
    pub fn allows(&self, destination: &DestinationName) -> bool {
        self.rule(destination).allow_delete
    }

    /// Notes condemned packs. From the first time on that a pack is named, its grace counts.
    pub async fn condemn(
        &self,
        fan_out: &FanOut,
        repository: RepositoryId,
        proof: Proof,
        packs: &[(ObjectName, u64)],
        _grant: RemovalGrant,
    ) -> Result<(), RemovalError> {
        check_packs(packs)?;
        check_proof(fan_out, repository, proof).await?;
        let age = self.age_secs()?;
        self.ledger
            .condemn(repository, packs, proof.sequence, age)?;
        Ok(())
    }

    /// Takes packs off the list, whose removal has not begun.
    pub fn spare(
        &self,
        repository: RepositoryId,
        packs: &[(ObjectName, u64)],
        _grant: RemovalGrant,
    ) -> Result<(), RemovalError> {
        match self.ledger.spare(repository, packs)? {
            None => Ok(()),
            Some(name) => Err(RemovalError::Swept { name }),
        }
    }

    /// Has these packs removed as far as their grace is over and the day's bytes go, and goes on with what is due from
    /// before. Absent is removed; what cannot be removed now is tried again by a later call.
    pub async fn sweep(
        &self,
        fan_out: &FanOut,
        repository: RepositoryId,
        proof: Option<Proof>,
        packs: &[(ObjectName, u64)],
        _grant: RemovalGrant,
    ) -> Result<RemovalReport, RemovalError> {
        check_packs(packs)?;
        let mut report = RemovalReport::default();
        let age = self.age_secs()?;
        if let Some(proof) = proof {
            check_proof(fan_out, repository, proof).await?;
            let places: Vec<(DestinationName, RemovalRule)> = fan_out
                .destinations()
                .map(|destination| destination.name().clone())
                .map(|name| (name.clone(), self.rule(&name)))
                .collect();
            for (name, _) in packs {
                let noted = self.ledger.condemned(repository, name)?;
                let noted =
                    noted.ok_or_else(|| RemovalError::NotCondemned { name: name.clone() })?;
                if !self.may_be_swept(&noted, age, &mut report)? {
                    continue;
                }
                let places: Vec<(DestinationName, u64)> = places
                    .iter()
                    .filter(|(_, rule)| rule.allow_delete)
                    .map(|(place, rule)| (place.clone(), age + rule.delete_after.as_secs()))
                    .collect();
                // What was to be brought somewhere yet is not brought there any more.
                fan_out.forget_deliveries(&ObjectKey {
                    repository,
                    name: name.clone(),
                })?;
                self.ledger.sweep(repository, name, &places, age)?;
            }
        }
        self.remove_due(fan_out, repository, age, &mut report)
            .await?;
        report.waiting = self.waiting(repository)?;
        Ok(report)
    }

    /// Whether the grace of what is condemned is over, and the day's bytes allow it; counts what does not go yet.
    fn may_be_swept(
        &self,
        noted: &Condemned,
        age: u64,
        report: &mut RemovalReport,
    ) -> Result<bool, LedgerError> {
        if noted.age_secs.saturating_add(self.policy.grace.as_secs()) > age {
            report.too_young += 1;
            return Ok(false);
        }
        let spent = self.ledger.spent(age)?;
        if !noted.swept && spent.saturating_add(noted.bytes) > self.policy.daily_bytes_max {
            report.over_limit += 1;
            return Ok(false);
        }
        Ok(true)
    }

    async fn remove_due(
        &self,
        fan_out: &FanOut,
        repository: RepositoryId,
        age: u64,
        report: &mut RemovalReport,
    ) -> Result<(), RemovalError> {
        for destination in fan_out.destinations() {
            let name = destination.name();
            if !self.rule(name).allow_delete {
                continue;
            }
            // What it still is to get, on its way or by a filling, may need a place that stands for what is removed.
            let is_behind = fan_out.objects_behind(name, repository)? > 0;
            if is_behind || fan_out.placed(name, repository)? == Placed::Unfilled {
                continue;
            }
            let due = self.ledger.due(name, repository, age, REMOVALS_DUE_MAX)?;
            let removing = due
                .into_iter()
                .map(|due| self.remove_one(fan_out, destination, repository, due));
            let mut removing = stream::iter(removing).buffer_unordered(REMOVALS_AT_ONCE);
            let mut failures = 0;
            while let Some((due, removed)) = removing.next().await {
                match removed {
                    Ok(()) => {
                        report.removed += 1;
                        report.removed_bytes += due.bytes;
                        self.ledger.removed(name, repository, &due.name)?;
                    }
                    Err(NotRemoved::Needed(text)) => {
                        let until = age + REMOVAL_RETRY_SECS;
                        self.ledger
                            .postpone(name, repository, &due.name, until, &text)?;
                    }
                    Err(NotRemoved::Ledger(error)) => return Err(error.into()),
                    Err(NotRemoved::FanOut(error)) => return Err(error.into()),
                    Err(NotRemoved::Destination(error)) => {
                        let until = age + retry_secs(&error);
                        failures += usize::from(error.is_retryable());
                        let text = chain(&error);
                        self.ledger
                            .postpone(name, repository, &due.name, until, &text)?;
                    }
                }
                if failures >= REMOVAL_FAILURES_MAX {
                    break; // It does not answer: the rest would fail alike, and stays due.
                }
            }
        }
        Ok(())
    }

    /// Removes one copy. What is condemned there alone must be seen at the others first.
    async fn remove_one(
        &self,
        fan_out: &FanOut,
        destination: &Arc<dyn Destination>,
        repository: RepositoryId,
        due: Due,
    ) -> (Due, Result<(), NotRemoved>) {
        if let Err(needed) = self
            .may_go_at(fan_out, destination.name(), repository, &due)
            .await
        {
            return (due, Err(needed));
        }
        let key = ObjectKey {
            repository,
            name: due.name.clone(),
        };
        // The grace is over and everything was checked above: here the right comes into being.
        let grant = MaintenanceGrant::of_this_process();
        let removed = match destination.delete(key, &grant).await {
            Err(error) if error.is_absent() => Ok(()),
            removed => removed.map_err(NotRemoved::Destination),
        };
        (due, removed)
    }

    fn waiting(&self, repository: RepositoryId) -> Result<Vec<RemovalsWaiting>, LedgerError> {
        self.ledger.waiting(repository)
    }

    /// Whether an object is being removed at a destination, or was: it is not stored there again.
    pub fn is_swept(
        &self,
        key: &ObjectKey,
        destination: &DestinationName,
    ) -> Result<bool, LedgerError> {
        let noted = self.ledger.condemned(key.repository, &key.name)?;
        let thinned = self
            .ledger
            .condemned_at(destination, key.repository, &key.name)?;
        Ok(noted.is_some_and(|noted| noted.swept) || thinned.is_some())
    }

    /// The names of a repository that are not stored again at a destination.
    pub fn swept(
        &self,
        repository: RepositoryId,
        destination: &DestinationName,
    ) -> Result<HashSet<ObjectName>, LedgerError> {
        let mut swept = self.ledger.swept(repository)?;
        swept.extend(self.ledger.thinned_at(destination, repository)?);
        Ok(swept)
    }
}

/// Why a copy is still there.
#[derive(Debug)]
enum NotRemoved {
    /// Another destination does not show that it has it.
    Needed(String),
    Destination(DestinationError),
    Ledger(LedgerError),
    FanOut(FanOutError),
}

/// A lock ends at a time that its storage knows; what does not answer may answer soon.
fn retry_secs(error: &DestinationError) -> u64 {
    match error {
        DestinationError::Locked { .. } => REMOVAL_RETRY_SECS * 24,
        // By the next call.
        DestinationError::Retryable { .. } => 0,
        _ => REMOVAL_RETRY_SECS,
    }
}

fn check_packs(packs: &[(ObjectName, u64)]) -> Result<(), RemovalError> {
    match packs.iter().find(|(name, _)| name.digest().is_none()) {
        None => Ok(()),
        Some((name, _)) => Err(RemovalError::NoPack { name: name.clone() }),
    }
}

/// The record must be durable here: whatever is removed, the log tells of it.
async fn check_proof(
    fan_out: &FanOut,
    repository: RepositoryId,
    proof: Proof,
) -> Result<(), RemovalError> {
    let sequence = proof.sequence;
    let no_proof = |source| RemovalError::NoProof { sequence, source };
    let key = ObjectKey {
        repository,
        name: ObjectName::Log(sequence),
    };
    let read = fan_out.get_range(None, &key, ByteRange::ALL).await;
    let mut read = read.map_err(no_proof)?;
    if read.total > formats::limits::RECORD_BYTES_MAX {
        return Err(RemovalError::OtherProof { sequence });
    }
    let mut hasher = blake3::Hasher::new();
    while let Some(piece) = read.body.next().await {
        let piece = piece.map_err(|error| no_proof(FanOutError::Read(Box::new(error))))?;
        hasher.update(&piece);
    }
    match hasher.finalize().as_bytes() == proof.digest.as_bytes() {
        true => Ok(()),
        false => Err(RemovalError::OtherProof { sequence }),
    }
}

#[cfg(test)]
mod tests;
