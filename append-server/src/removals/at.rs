//! Removals at one destination alone, of data packs that others keep. The same two steps and the same grace; and a copy goes only
//! while every other destination that keeps the repository, and at which the pack is not condemned too, shows it with its size, and
//! one of them gives the very bytes. So whatever a coordinator believes of its destinations, the last copy of what one of them keeps never goes by this.

use formats::ids::RepositoryId;
use formats::object::ObjectName;
use formats::wire::upload::destinations::Placed;
use formats::wire::upload::removals::RemovalReport;
use futures_util::StreamExt as _;

use crate::answer::chain;
use crate::destination::{ByteRange, Destination, DestinationError, DestinationName, ObjectKey};
use crate::fan_out::{FanOut, FanOutError};
use crate::grants::RemovalGrant;
use crate::removals::ledger::Due;
use crate::removals::{NotRemoved, Proof, RemovalError, Removals, check_proof};

impl Removals {
    /// Notes packs that are condemned at one destination. From the first time on that a pack is named, its grace counts.
    pub async fn condemn_at(
        &self,
        fan_out: &FanOut,
        (destination, repository): (&DestinationName, RepositoryId),
        proof: Proof,
        packs: &[(ObjectName, u64)],
        _grant: RemovalGrant,
    ) -> Result<(), RemovalError> {
        check_data_packs(packs)?;
        check_destination(fan_out, destination)?;
        check_proof(fan_out, repository, proof).await?;
        let age = self.age_secs()?;
        self.ledger
            .condemn_at(destination, repository, packs, proof.sequence, age)?;
        Ok(())
    }

    /// Takes packs off a destination's list, whose removal there has not begun.
    pub fn spare_at(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        packs: &[(ObjectName, u64)],
        _grant: RemovalGrant,
    ) -> Result<(), RemovalError> {
        match self.ledger.spare_at(destination, repository, packs)? {
            None => Ok(()),
            Some(name) => Err(RemovalError::Swept { name }),
        }
    }

    /// Has these packs removed at one destination as far as their grace is over and the day's bytes go, and goes on with what is
    /// due from before.
    pub async fn sweep_at(
        &self,
        fan_out: &FanOut,
        (destination, repository): (&DestinationName, RepositoryId),
        proof: Proof,
        packs: &[(ObjectName, u64)],
        _grant: RemovalGrant,
    ) -> Result<RemovalReport, RemovalError> {
        check_data_packs(packs)?;
        check_destination(fan_out, destination)?;
        check_proof(fan_out, repository, proof).await?;
        let mut report = RemovalReport::default();
        let age = self.age_secs()?;
        let rule = self.rule(destination);
        for (name, _) in packs.iter().filter(|_| rule.allow_delete) {
            let noted = self.ledger.condemned_at(destination, repository, name)?;
            let noted = noted.ok_or_else(|| RemovalError::NotCondemned { name: name.clone() })?;
            if !self.may_be_swept(&noted, age, &mut report)? {
                continue;
            }
            let name = name.clone();
            let key = ObjectKey { repository, name };
            fan_out.forget_delivery(destination, &key)?;
            let from = age + rule.delete_after.as_secs();
            self.ledger
                .sweep_at(destination, repository, &key.name, (from, age))?;
        }
        self.remove_due(fan_out, repository, age, &mut report)
            .await?;
        report.waiting = self.waiting(repository)?;
        Ok(report)
    }

    /// Whether a copy may go now. What is swept everywhere may; what is condemned there alone only where every other destination
    /// that is to keep it has it, and one at least.
    pub(super) async fn may_go_at(
        &self,
        fan_out: &FanOut,
        destination: &DestinationName,
        repository: RepositoryId,
        due: &Due,
    ) -> Result<(), NotRemoved> {
        let everywhere = self.ledger.condemned(repository, &due.name);
        let everywhere = everywhere.map_err(NotRemoved::Ledger)?;
        if everywhere.is_some_and(|noted| noted.swept) {
            return Ok(());
        }
        let thinned = self.ledger.thinned_where(repository, &due.name);
        let thinned = thinned.map_err(NotRemoved::Ledger)?;
        if !thinned.contains(&destination.to_string()) {
            let text = "it is not condemned there any more".to_owned();
            return Err(NotRemoved::Needed(text));
        }
        let mut keepers = Vec::new();
        for other in fan_out.destinations() {
            let name = other.name();
            if thinned.contains(&name.to_string()) {
                continue;
            }
            let placed = fan_out.placed(name, repository);
            if placed.map_err(NotRemoved::FanOut)? == Placed::LeftOut {
                continue;
            }
            let key = ObjectKey {
                repository,
                name: due.name.clone(),
            };
            match other.head(key).await {
                Ok(bytes) if bytes == due.bytes => keepers.push(other),
                Ok(bytes) => {
                    let text = format!("{name} has {bytes} bytes of it");
                    return Err(NotRemoved::Needed(text));
                }
                Err(error) if error.is_absent() => {
                    return Err(NotRemoved::Needed(format!("{name} does not have it")));
                }
                // The others would not be shown either.
                Err(error) if error.is_retryable() => return Err(NotRemoved::Destination(error)),
                Err(error) => {
                    let text = format!("{name} does not show that it has it: {}", chain(&error));
                    return Err(NotRemoved::Needed(text));
                }
            }
        }
        if keepers.is_empty() {
            let text = "no other destination is to keep it".to_owned();
            return Err(NotRemoved::Needed(text));
        }
        for keeper in keepers {
            let name = due.name.clone();
            match is_whole(keeper.as_ref(), ObjectKey { repository, name }).await {
                Ok(true) => return Ok(()),
                Err(error) if error.is_retryable() => return Err(NotRemoved::Destination(error)),
                Ok(false) | Err(_) => {}
            }
        }
        let text =
            "no other destination has it as it was stored: `coordinator scan --full --repair`";
        Err(NotRemoved::Needed(text.to_owned()))
    }
}

/// Whether a copy has the bytes that its name says.
async fn is_whole(keeper: &dyn Destination, key: ObjectKey) -> Result<bool, DestinationError> {
    let digest = key.name.digest();
    let mut read = keeper.get_range(key, ByteRange::ALL).await?;
    let mut hasher = blake3::Hasher::new();
    while let Some(piece) = read.body.next().await {
        hasher.update(&piece?);
    }
    Ok(digest.is_some_and(|digest| digest.as_bytes() == hasher.finalize().as_bytes()))
}

fn check_data_packs(packs: &[(ObjectName, u64)]) -> Result<(), RemovalError> {
    let is_data = |name: &ObjectName| matches!(name, ObjectName::Pack(_));
    match packs.iter().find(|(name, _)| !is_data(name)) {
        None => Ok(()),
        Some((name, _)) => Err(RemovalError::NoDataPack { name: name.clone() }),
    }
}

fn check_destination(fan_out: &FanOut, name: &DestinationName) -> Result<(), RemovalError> {
    let is_there = fan_out.destinations().any(|other| other.name() == name);
    match is_there {
        true => Ok(()),
        false => Err(FanOutError::NoSuchDestination { name: name.clone() }.into()),
    }
}
