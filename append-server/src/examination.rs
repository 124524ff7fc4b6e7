//! Tries out a destination as it is configured: what works, what is refused, and what should be refused and is not.
//! Works on objects of its own in a repository that no host has, and removes them where it may. Never touches others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use futures_util::StreamExt as _;
use futures_util::future::join_all;

use crate::answer::chain;
use crate::destination::{
    ByteRange, Destination, DestinationError, ObjectKey, ObjectRead, PutOutcome,
};
use crate::grants::MaintenanceGrant;
use crate::spool::{Purpose, Spool, spool_bytes};

/// No host's repository: identifiers are random.
const REPOSITORY: RepositoryId = RepositoryId([0; 16]);
/// How often the way there and back is measured.
const ROUND_TRIPS: usize = 5;
/// Writers of one name at once.
const RACERS: usize = 8;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// What happened.
    pub found: String,
    /// What to think of it.
    pub verdict: Verdict,
}

/// What to think of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Backups work, and something could be safer.
    Warning,
    /// Backups do not work like this, or do not last.
    Bad,
}

impl Finding {
    /// A finding.
    pub fn new(what: &'static str, found: impl Into<String>, verdict: Verdict) -> Self {
        Self {
            what,
            found: found.into(),
            verdict,
        }
    }

    /// Something that failed where it should have worked.
    pub fn failed(what: &'static str, error: &DestinationError) -> Self {
        Self::new(what, chain(error), Verdict::Bad)
    }
}

/// Tries everything out, in an order in which what fails first explains the rest.
pub async fn examine(destination: &Arc<dyn Destination>, spool: &Arc<Spool>) -> Vec<Finding> {
    let mut examination = Examination {
        destination,
        spool,
        key: random_key(),
        findings: Vec::new(),
    };
    if examination.reach().await && examination.store().await {
        examination.race().await;
        let own = destination.findings(examination.key.clone()).await;
        examination.findings.extend(own);
    }
    examination.clean_up().await;
    examination.findings
}

fn random_key() -> ObjectKey {
    // Without random numbers the name is one that was used before, and the trial says so.
    let random: [u8; 8] = formats::keys::secret::random().unwrap_or_default();
    ObjectKey {
        repository: REPOSITORY,
        name: ObjectName::Log(u64::from_le_bytes(random)),
    }
}

struct Examination<'a> {
    destination: &'a Arc<dyn Destination>,
    spool: &'a Arc<Spool>,
    key: ObjectKey,
    findings: Vec<Finding>,
}

impl Examination<'_> {
    fn note(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Whether it answers at all, and how quickly.
    async fn reach(&mut self) -> bool {
        let mut times = Vec::new();
        for _ in 0..=ROUND_TRIPS {
            let began = Instant::now();
            match self.destination.head(self.key.clone()).await {
                Err(error) if error.is_absent() => times.push(began.elapsed()),
                Ok(_) => {
                    let found = "an object is there that nobody put";
                    self.note(Finding::new("reaching it", found, Verdict::Bad));
                    return false;
                }
                Err(error) => {
                    self.note(Finding::failed("reaching it", &error));
                    return false;
                }
            }
        }
        // The first one connects.
        let mut later: Vec<Duration> = times.split_off(1);
        later.sort_unstable();
        let median = later.get(later.len() / 2).copied().unwrap_or_default();
        let found = format!("answers in {} ms", median.as_millis());
        self.note(Finding::new("reaching it", found, Verdict::Good));
        let listed = self
            .destination
            .list(REPOSITORY, ObjectKind::Log, None, 10)
            .await;
        match listed {
            Ok(_) => self.note(Finding::new("listing", "works", Verdict::Good)),
            Err(error) => self.note(Finding::failed("listing", &error)),
        }
        match self.destination.free_bytes().await {
            Ok(Some(bytes)) => {
                let found = format!("{} MiB", bytes >> 20);
                self.note(Finding::new("free space", found, Verdict::Good));
            }
            Ok(None) => self.note(Finding::new("free space", "not told", Verdict::Good)),
            Err(error) => self.note(Finding::failed("free space", &error)),
        }
        true
    }

    /// Whether it keeps what it is given, and the first of two.
    async fn store(&mut self) -> bool {
        let (first, other) = (Bytes::from_static(b"first"), Bytes::from_static(b"other"));
        for (what, bytes, expected) in [
            ("storing", &first, PutOutcome::Created),
            ("storing the same again", &first, PutOutcome::ExistsSame),
            ("overwriting", &other, PutOutcome::ExistsDifferent),
        ] {
            match self.put(&self.key, bytes.clone()).await {
                Ok(outcome) if outcome == expected => {
                    let found = match outcome {
                        PutOutcome::Created => "works",
                        PutOutcome::ExistsSame => "changes nothing",
                        PutOutcome::ExistsDifferent => "is refused",
                    };
                    self.note(Finding::new(what, found, Verdict::Good));
                }
                Ok(outcome) => {
                    let found = format!("{outcome:?} instead of {expected:?}");
                    self.note(Finding::new(what, found, Verdict::Bad));
                    return false;
                }
                Err(error) => {
                    self.note(Finding::failed(what, &error));
                    return false;
                }
            }
        }
        let read = self.read().await;
        let finding = match read {
            Ok(bytes) if bytes == first => Finding::new("reading back", "works", Verdict::Good),
            Ok(_) => Finding::new("reading back", "other bytes", Verdict::Bad),
            Err(error) => Finding::failed("reading back", &error),
        };
        let good = finding.verdict == Verdict::Good;
        self.note(finding);
        good
    }

    async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<PutOutcome, DestinationError> {
        let source = spool_bytes(self.spool, bytes, Purpose::Commit).await;
        let source = source.map_err(|error| DestinationError::Permanent {
            destination: self.destination.name().clone(),
            action: "prepare",
            subject: key.to_string(),
            source: Box::new(error),
        })?;
        self.destination.put_if_absent(key.clone(), source).await
    }

    async fn read(&self) -> Result<Bytes, DestinationError> {
        let read = self.destination.get_range(self.key.clone(), ByteRange::ALL);
        let ObjectRead { mut body, .. } = read.await?;
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes.into())
    }

    /// Whether one of several writers wins, and only one.
    async fn race(&mut self) {
        const WHAT: &str = "eight writers at once";
        let key = random_key();
        let puts = (0..RACERS).map(|racer| self.put(&key, format!("writer {racer}").into()));
        let outcomes = join_all(puts).await;
        let winners = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Ok(PutOutcome::Created)))
            .count();
        let failed = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
        let finding = match (winners, failed) {
            (1, None) => Finding::new(WHAT, "one wins", Verdict::Good),
            (1, Some(error)) => {
                let found = format!("one wins; another failed: {}", chain(error));
                Finding::new(WHAT, found, Verdict::Warning)
            }
            (0, Some(error)) => Finding::failed(WHAT, error),
            (winners, _) => {
                let found = format!(
                    "{winners} win: let no second coordinator use this destination's repositories"
                );
                Finding::new(WHAT, found, Verdict::Warning)
            }
        };
        self.note(finding);
        self.remove(&key).await;
    }

    async fn clean_up(&mut self) {
        let key = self.key.clone();
        if let Some(finding) = self.remove(&key).await {
            self.note(finding);
        }
    }

    async fn remove(&self, key: &ObjectKey) -> Option<Finding> {
        const WHAT: &str = "removing, as prune does";
        let grant = MaintenanceGrant::of_this_process();
        match self.destination.delete(key.clone(), &grant).await {
            Ok(()) => Some(Finding::new(WHAT, "works", Verdict::Good)),
            Err(error) if error.is_absent() => None,
            Err(error @ DestinationError::Locked { .. }) => {
                Some(Finding::new(WHAT, chain(&error), Verdict::Good))
            }
            Err(error) => {
                let found = format!("is refused, so {key} stays: {}", chain(&error));
                Some(Finding::new(WHAT, found, Verdict::Warning))
            }
        }
    }
}
