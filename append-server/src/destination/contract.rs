//! What every kind of destination must do, as one suite that runs against any of them: in tests, and against
//! a real destination that somebody wants to try. Works in fresh repositories of random names, and removes
//! what it made. Never touches other repositories.

mod trial;

use std::collections::BTreeSet;
use std::sync::Arc;

use formats::ids::PackId;
use formats::keys::secret::RandomError;
use formats::object::{ObjectKind, ObjectName};
use futures_util::future::join_all;

use crate::destination::contract::trial::{Trial, absent, broken, collect, equal, pack, sample};
use crate::destination::{Destination, DestinationError, PutOutcome};
use crate::grants::{MaintenanceGrant, RepairGrant};
use crate::limits::IO_BYTES;
use crate::spool::{Purpose, Spool, SpoolError, spool_bytes};

/// What the suite runs with.
#[derive(Debug)]
pub struct Workbench {
    /// The destination on trial.
    pub destination: Arc<dyn Destination>,
    /// Where its objects are gathered.
    pub spool: Arc<Spool>,
    /// How many objects the listing is tried with; more than a page shows what paging does.
    pub listed_objects: usize,
}

/// A destination does not keep the contract, or could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// It does not keep it.
    #[error("{rule}: expected {expected}, found {found}")]
    Broken {
        /// Which rule.
        rule: &'static str,
        /// What it should have done.
        expected: String,
        /// What it did.
        found: String,
    },
    /// It failed where it should have worked.
    #[error("the destination failed during the trial")]
    Destination(#[from] DestinationError),
    /// The spool failed.
    #[error("the spool failed during the trial")]
    Spool(#[from] SpoolError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
}

type Verdict = Result<(), ContractError>;

/// Runs every rule.
pub async fn check(bench: &Workbench) -> Verdict {
    first_put_creates_and_the_same_again_is_the_same(bench).await?;
    other_bytes_are_a_conflict_and_the_first_stay(bench).await?;
    a_race_has_exactly_one_winner(bench).await?;
    sizes_and_digests_are_exact(bench).await?;
    ranges_are_exact(bench).await?;
    what_is_absent_is_absent(bench).await?;
    every_kind_of_name_is_kept_apart(bench).await?;
    lists_are_complete_sorted_and_paged(bench).await?;
    what_was_not_finished_is_not_visible(bench).await?;
    deleted_is_absent(bench).await?;
    a_damaged_object_is_kept_beside_the_good_one(bench).await?;
    repositories_are_found(bench).await
}

/// The outcome of the first put, and of the same one again.
pub async fn first_put_creates_and_the_same_again_is_the_same(bench: &Workbench) -> Verdict {
    let rule = "a first put creates, the same bytes again are the same";
    let trial = Trial::new(bench)?;
    for name in [ObjectName::Log(1), ObjectName::Config] {
        let bytes = sample(1_000, 1);
        let first = trial.put(&name, bytes.clone()).await?;
        equal(rule, &PutOutcome::Created, &first)?;
        let second = trial.put(&name, bytes).await?;
        equal(rule, &PutOutcome::ExistsSame, &second)?;
    }
    trial.clean_up().await
}

/// A put of other bytes, of the same length and of others.
pub async fn other_bytes_are_a_conflict_and_the_first_stay(bench: &Workbench) -> Verdict {
    let rule = "other bytes under a name are a conflict, and the first stay";
    let trial = Trial::new(bench)?;
    let name = ObjectName::Log(7);
    let bytes = sample(5_000, 1);
    trial.put(&name, bytes.clone()).await?;
    for other in [sample(5_000, 2), sample(4_999, 1), sample(5_001, 1)] {
        let outcome = trial.put(&name, other).await?;
        equal(rule, &PutOutcome::ExistsDifferent, &outcome)?;
        equal(rule, &bytes, &trial.get(&name).await?)?;
    }
    trial.clean_up().await
}

/// Eight writers with different bytes, at once.
pub async fn a_race_has_exactly_one_winner(bench: &Workbench) -> Verdict {
    let rule = "of eight writers at once exactly one wins, and its bytes are there";
    let trial = Trial::new(bench)?;
    for sequence in 0..8 {
        let name = ObjectName::Log(sequence);
        let bodies: Vec<_> = (0..8).map(|writer| sample(60_000, writer)).collect();
        let puts = bodies.iter().map(|body| trial.put(&name, body.clone()));
        let mut winners = Vec::new();
        for (body, outcome) in bodies.iter().zip(join_all(puts).await) {
            match outcome? {
                PutOutcome::Created => winners.push(body.clone()),
                other => equal(rule, &PutOutcome::ExistsDifferent, &other)?,
            }
        }
        equal(rule, &vec![trial.get(&name).await?], &winners)?;
    }
    trial.clean_up().await
}

/// Objects of many lengths.
pub async fn sizes_and_digests_are_exact(bench: &Workbench) -> Verdict {
    let rule = "an object has the size and bytes that were put";
    let trial = Trial::new(bench)?;
    let lengths = [1, IO_BYTES - 1, IO_BYTES, IO_BYTES + 1, 3 * IO_BYTES + 7];
    for (seed, length) in (0..).zip(lengths) {
        let bytes = sample(length, seed);
        let id = PackId(*blake3::hash(&bytes).as_bytes());
        let name = ObjectName::Pack(id);
        trial.put(&name, bytes.clone()).await?;
        equal(rule, &(length as u64), &trial.head(&name).await?)?;
        equal(rule, &bytes, &trial.get(&name).await?)?;
        let digest = PackId(*blake3::hash(&trial.get(&name).await?).as_bytes());
        equal(rule, &id, &digest)?;
    }
    trial.clean_up().await
}

/// Parts of an object: its start, middle and end, and past it.
pub async fn ranges_are_exact(bench: &Workbench) -> Verdict {
    let rule = "a range has exactly its bytes, cut at the end";
    let trial = Trial::new(bench)?;
    let name = ObjectName::Log(3);
    let length = 2 * IO_BYTES + 100;
    let bytes = sample(length, 9);
    trial.put(&name, bytes.clone()).await?;
    for (start, count) in [
        (0, 1),
        (0, length),
        (1, IO_BYTES),
        (IO_BYTES - 1, 2),
        (IO_BYTES, IO_BYTES),
        (length - 1, 1),
        (length - 1, 1_000),
        (length - 10, usize::MAX >> 8),
    ] {
        let read = trial.read(&name, start, Some(count)).await?;
        let end = length.min(start.saturating_add(count));
        equal(rule, &(length as u64), &read.total)?;
        equal(rule, &bytes.slice(start..end), &collect(read).await?)?;
    }
    let rest = trial.read(&name, IO_BYTES + 5, None).await?;
    equal(rule, &bytes.slice(IO_BYTES + 5..), &collect(rest).await?)?;
    for start in [length, length + 1, length * 10] {
        match trial.read(&name, start, Some(1)).await {
            Err(DestinationError::PastEnd { total, .. }) => {
                equal(rule, &(length as u64), &total)?;
            }
            other => {
                let found = other.map(|read| read.bytes);
                return broken(rule, "past the end", &found);
            }
        }
    }
    trial.clean_up().await
}

/// Reading what is not there.
pub async fn what_is_absent_is_absent(bench: &Workbench) -> Verdict {
    let rule = "what is not there is absent, in an unknown repository too";
    let trial = Trial::new(bench)?;
    for step in 0..2 {
        for name in [ObjectName::Config, ObjectName::Log(2), pack(4)] {
            let head = trial.bench.destination.head(trial.key(&name)).await;
            absent(rule, &head)?;
            let read = trial.read(&name, 0, None).await;
            absent(rule, &read.map(|read| read.bytes))?;
        }
        for kind in ObjectKind::ALL {
            let expected = usize::from(step == 1 && kind == ObjectKind::Log);
            equal(rule, &expected, &trial.list(kind, 10).await?.len())?;
        }
        // Once more with a neighbour there.
        trial.put(&ObjectName::Log(1), sample(10, 1)).await?;
    }
    trial.clean_up().await
}

/// One object of each kind, in two repositories.
pub async fn every_kind_of_name_is_kept_apart(bench: &Workbench) -> Verdict {
    let rule = "objects of other names, kinds and repositories are other objects";
    let trials = [Trial::new(bench)?, Trial::new(bench)?];
    let names = [
        Some(ObjectName::Config),
        "a".parse().ok().map(ObjectName::Keys),
        "z-_.9".parse().ok().map(ObjectName::Keys),
        Some(pack(5)),
        Some(ObjectName::Meta(PackId([5; 32]))),
        Some(ObjectName::Log(0)),
        Some(ObjectName::Log(u64::MAX)),
    ];
    let names: Vec<_> = names.into_iter().flatten().collect();
    for (seed, trial) in (0..).zip(&trials) {
        for (index, name) in (0..).zip(&names) {
            let outcome = trial.put(name, sample(100, seed * 100 + index)).await?;
            equal(rule, &PutOutcome::Created, &outcome)?;
        }
    }
    for (seed, trial) in (0..).zip(&trials) {
        for (index, name) in (0..).zip(&names) {
            let expected = sample(100, seed * 100 + index);
            equal(rule, &expected, &trial.get(name).await?)?;
        }
        trial.clean_up().await?;
    }
    Ok(())
}

/// Many objects, listed in small pages and in large ones.
pub async fn lists_are_complete_sorted_and_paged(bench: &Workbench) -> Verdict {
    let rule = "lists are complete, sorted and without duplicates over all pages";
    let trial = Trial::new(bench)?;
    let mut packs = BTreeSet::new();
    let mut logs = BTreeSet::new();
    for index in 0..bench.listed_objects as u64 {
        let id = PackId(*blake3::hash(&index.to_le_bytes()).as_bytes());
        packs.insert(ObjectName::Pack(id).to_string());
        logs.insert(ObjectName::Log(index * 7).to_string());
        trial.put(&ObjectName::Pack(id), sample(16, index)).await?;
        trial
            .put(&ObjectName::Log(index * 7), sample(16, index))
            .await?;
    }
    for (kind, expected) in [(ObjectKind::Pack, packs), (ObjectKind::Log, logs)] {
        let expected: Vec<_> = expected.into_iter().collect();
        for limit in [1_000, 97, expected.len(), expected.len() + 1] {
            let found = trial.list(kind, limit).await?;
            let names: Vec<_> = found.iter().map(|(name, _)| name.to_string()).collect();
            equal(rule, &expected, &names)?;
            equal(rule, &true, &found.iter().all(|(_, bytes)| *bytes == 16))?;
        }
    }
    trial.clean_up().await
}

/// Puts that nobody waits for: each is there whole or not at all.
pub async fn what_was_not_finished_is_not_visible(bench: &Workbench) -> Verdict {
    let rule = "an object is there whole or not at all";
    let trial = Trial::new(bench)?;
    let length = 8 * IO_BYTES;
    for sequence in 0..16 {
        let name = ObjectName::Log(sequence);
        let body = spool_bytes(&bench.spool, sample(length, sequence), Purpose::Data).await?;
        let put = bench.destination.put_if_absent(trial.key(&name), body);
        if sequence % 2 == 0 {
            drop(put);
        } else {
            let _given_up = tokio::time::timeout(std::time::Duration::ZERO, put).await;
        }
        match bench.destination.head(trial.key(&name)).await {
            Ok(bytes) => {
                equal(rule, &(length as u64), &bytes)?;
                equal(rule, &sample(length, sequence), &trial.get(&name).await?)?;
            }
            Err(error) => absent::<()>(rule, &Err(error))?,
        }
        // Whatever became of it, the same again succeeds and is whole.
        trial.put(&name, sample(length, sequence)).await?;
        equal(rule, &sample(length, sequence), &trial.get(&name).await?)?;
    }
    trial.clean_up().await
}

/// Deleting, and deleting again.
pub async fn deleted_is_absent(bench: &Workbench) -> Verdict {
    let rule = "what was deleted is absent, and can be put again";
    let trial = Trial::new(bench)?;
    let grant = MaintenanceGrant::of_this_process();
    for name in [ObjectName::Config, ObjectName::Log(1), pack(6)] {
        trial.put(&name, sample(10, 1)).await?;
        let destination = &bench.destination;
        destination.delete(trial.key(&name), &grant).await?;
        absent(rule, &destination.head(trial.key(&name)).await)?;
        absent(rule, &destination.delete(trial.key(&name), &grant).await)?;
        equal(rule, &0, &trial.list(name.kind(), 10).await?.len())?;
        let outcome = trial.put(&name, sample(10, 2)).await?;
        equal(rule, &PutOutcome::Created, &outcome)?;
        equal(rule, &sample(10, 2), &trial.get(&name).await?)?;
    }
    trial.clean_up().await
}

/// Good bytes in the place of others: those stay, and are no object any more.
pub async fn a_damaged_object_is_kept_beside_the_good_one(bench: &Workbench) -> Verdict {
    let rule = "a damaged object is replaced, kept elsewhere, and not listed";
    let trial = Trial::new(bench)?;
    let grant = RepairGrant::of_this_process();
    for name in [ObjectName::Config, ObjectName::Log(1), pack(9)] {
        trial.put(&name, sample(70_000, 1)).await?;
        for repair in 2..4 {
            let good = spool_bytes(&bench.spool, sample(80_000, repair), Purpose::Data).await?;
            let replacing = bench
                .destination
                .replace_damaged(trial.key(&name), good, &grant);
            let kept = replacing.await?;
            equal(rule, &false, &kept.is_empty())?;
            equal(rule, &sample(80_000, repair), &trial.get(&name).await?)?;
            equal(rule, &1, &trial.list(name.kind(), 10).await?.len())?;
        }
    }
    trial.clean_up().await
}

/// A repository with a single object.
pub async fn repositories_are_found(bench: &Workbench) -> Verdict {
    let rule = "a repository that has something is found, and one that has nothing is not";
    let (trial, empty) = (Trial::new(bench)?, Trial::new(bench)?);
    trial.put(&pack(3), sample(10, 1)).await?;
    let found = bench.destination.repositories().await?;
    let repository = trial.key(&ObjectName::Config).repository;
    equal(rule, &true, &found.contains(&repository))?;
    let none = empty.key(&ObjectName::Config).repository;
    equal(rule, &false, &found.contains(&none))?;
    trial.clean_up().await
}
