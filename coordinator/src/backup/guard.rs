//! What a run is guarded by beside its data: whether the host is the one it was, whether all of it is covered, how much it may
//! store, and whether what it sent looks right. Judging is in `safety`; here facts are gathered, events told, and holds added.
//! Never changes what is stored.

use std::collections::HashSet;

use formats::ids::RunId;
use formats::log::snapshot::{Snapshot, SnapshotTotals};
use formats::wire::control::problem::{Problem, ProblemKind};
use formats::wire::facts::HostFacts;
use formats::wire::surroundings::Surroundings;

use crate::backup::comparison::Comparing;
use crate::backup::error::RunError;
use crate::backup::newly_excluded::NewlyExcluded;
use crate::backup::report::{Warning, WarningKind};
use crate::backup::shared_index::NewData;
use crate::catalog::state::holds::HoldKind;
use crate::clock::{from_nanos, utc};
use crate::config::host::Host;
use crate::coordinator::Coordinator;
use crate::events::Event;
use crate::events::what::What;
use crate::retention::holds::hold;
use crate::safety::absence::periods_passed;
use crate::safety::anomaly::{Figures, Passed, signs};
use crate::safety::coverage::{Coverage, Covered, gaps};
use crate::safety::identity::{
    Difference, Identity, differences_text, is_other, is_other_by_listing,
};
use crate::safety::quota::{Quota, Scope, run_allowance};
use crate::safety::stream_size::StreamSize;
use crate::snapshot::shown::shown_path;
use crate::terminal::{count_text, size_text};

/// Gaps and paths that a warning names.
const NAMED_MAX: usize = 20;

/// One run's guard.
#[derive(Debug)]
pub struct Guard<'a> {
    coordinator: &'a Coordinator,
    host: &'a Host,
    run: RunId,
    sources: &'a [Vec<u8>],
    identity: Identity,
    differences: Vec<Difference>,
    /// Bytes of the repository's packs before the run.
    stored: u64,
}

/// What a run brought, for its last examination.
#[derive(Debug)]
pub struct Brought<'a> {
    /// Counts of the snapshot to be.
    pub totals: SnapshotTotals,
    /// Files of it that are gone from the host and carried over.
    pub carried: u64,
    /// Whether the parent kept more that is gone, and its listing is too damaged to tell what.
    pub lacks_kept: bool,
    /// The bytes of its files without holes.
    pub data_bytes: u64,
    /// What could not be read.
    pub problems: &'a [Problem],
    /// How it differs from the parent.
    pub comparing: Option<Comparing>,
    /// The parent.
    pub parent: Option<&'a Snapshot>,
    /// What is new, by the packs of the runs since.
    pub new: NewData,
    /// What the parent has and the exclude rules leave out now, if that is counted.
    pub newly_excluded: Option<&'a NewlyExcluded>,
    /// The good streams.
    pub streams: &'a [StreamSize],
}

impl<'a> Guard<'a> {
    /// Looks at who answered, what is there to be covered, and what may still be stored. An error ends the run before anything
    /// of it is stored.
    pub async fn begin(
        coordinator: &'a Coordinator,
        host: &'a Host,
        run: RunId,
        sources: &'a [Vec<u8>],
        answered: (&HostFacts, &Surroundings),
        stored: u64,
    ) -> Result<(Self, Vec<Warning>), RunError> {
        let (facts, around) = answered;
        let mut guard = Self {
            coordinator,
            host,
            run,
            sources,
            identity: Identity {
                machine_id: facts.machine_id.clone(),
                machine_uuid: around.machine_uuid.clone(),
                root_filesystem: around.root_filesystem.clone(),
            },
            differences: Vec::new(),
            stored,
        };
        let mut warnings = Vec::new();
        warnings.extend(guard.check_identity().await?);
        warnings.extend(guard.check_coverage(around)?);
        Ok((guard, warnings))
    }

    /// The bytes that the run may store, and by which limit; an error when nothing is left.
    pub fn allowance(&self) -> Result<Option<(u64, Scope)>, RunError> {
        let safety = &self.host.safety;
        let allowance = run_allowance(safety.max_new, safety.quota, self.stored);
        match allowance {
            Some((0, scope)) => Err(RunError::Quota {
                scope,
                used: self.stored,
                limit: hard_bytes(self.host, scope),
            }),
            allowance => Ok(allowance),
        }
    }

    async fn check_identity(&mut self) -> Result<Option<Warning>, RunError> {
        let name = self.host.name.as_str();
        let known = self.coordinator.state.lock().await.host_identity(name)?;
        let Some(known) = known else {
            return Ok(None);
        };
        self.differences = known.differences(&self.identity);
        if self.differences.is_empty() {
            self.identity = known.filled_from(&self.identity);
            return Ok(None);
        }
        let other = is_other(&known, &self.differences);
        let text = differences_text(&self.differences);
        let mut state = self.coordinator.state.lock().await;
        let now = self.coordinator.clock.now();
        let news = state.offer_identity(name, &self.identity, now)?;
        drop(state);
        if news || other {
            self.tell(What::IdentityMismatch { what: text.clone() });
        }
        match other {
            true => Err(self.refuse_identity(text).await?),
            false => Ok(Some(Warning::new(
                WarningKind::Identity,
                format!("{text}: if that is right, `coordinator host accept-identity {name}`"),
            ))),
        }
    }

    /// Believes who answered. Only what is about to be committed makes a machine the host: what failed says nothing.
    async fn note_identity(&self) -> Result<(), RunError> {
        let now = self.coordinator.clock.now();
        let mut state = self.coordinator.state.lock().await;
        state.note_identity(self.host.name.as_str(), &self.identity, now)?;
        Ok(())
    }

    async fn refuse_identity(&self, text: String) -> Result<RunError, RunError> {
        let host = self.host.name.to_string();
        let reason = format!("another machine answered: {text}");
        let run = Some(self.run);
        hold(self.coordinator, &host, HoldKind::Identity, &reason, run).await?;
        Ok(RunError::OtherMachine { host, what: text })
    }

    fn check_coverage(&self, around: &Surroundings) -> Result<Option<Warning>, RunError> {
        let safety = &self.host.safety;
        if safety.coverage == Coverage::Off {
            return Ok(None);
        }
        let covered = Covered {
            sources: self.sources,
            exclude: &self.host.exclude,
            one_file_system: self.host.one_file_system,
            ignored: &safety.coverage_ignore,
        };
        let gaps = gaps(around, &covered).map_err(RunError::ExcludeRules)?;
        let Some(first) = gaps.first() else {
            return Ok(None);
        };
        let (count, first) = (gaps.len(), first.to_string());
        self.tell(What::CoverageGap {
            count: count as u64,
            first: first.clone(),
        });
        if safety.coverage == Coverage::Fail {
            return Err(RunError::NotCovered { count, first });
        }
        let named = listed(gaps.iter().map(ToString::to_string), count as u64);
        Ok(Some(Warning::new(
            WarningKind::Coverage,
            format!("not backed up, and not in coverage_ignore: {named}"),
        )))
    }

    /// Looks at what the run brought, before it is committed. Gives why the host is on hold, if it is now; an error refuses the
    /// commit.
    pub async fn examine(
        &self,
        brought: &Brought<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<String>, RunError> {
        let comparing = brought.comparing.clone().unwrap_or_default();
        if is_other_by_listing(&self.differences, &comparing.counts) {
            let what = format!(
                "{}, and hardly any file is the inode it was",
                differences_text(&self.differences)
            );
            self.tell(What::IdentityMismatch { what: what.clone() });
            return Err(self.refuse_identity(what).await?);
        }
        warnings.extend(self.newly_unreadable(brought));
        warnings.extend(self.newly_excluded(brought));
        warnings.extend(self.check_soft(brought));
        if self.differences.is_empty() {
            self.note_identity().await?;
        }
        self.note_streams(brought.streams).await?;
        let reasons = [
            self.judge(brought, comparing).await?,
            self.hold_unkept(brought).await?,
        ];
        let reasons: Vec<String> = reasons.into_iter().flatten().collect();
        Ok((!reasons.is_empty()).then(|| reasons.join("; ")))
    }

    async fn note_streams(&self, streams: &[StreamSize]) -> Result<(), RunError> {
        let mut state = self.coordinator.state.lock().await;
        Ok(state.note_stream_sizes(self.host.name.as_str(), streams)?)
    }

    /// The older snapshots have what `keep_deleted` keeps and this one lacks: they stay until a person has looked.
    async fn hold_unkept(&self, brought: &Brought<'_>) -> Result<Option<String>, RunError> {
        if !brought.lacks_kept {
            return Ok(None);
        }
        let reason = "the last snapshot's listing is damaged, so that files which keep_deleted keeps are only in older \
                      snapshots: `coordinator scan` tells more";
        let host = self.host.name.as_str();
        let run = Some(self.run);
        hold(self.coordinator, host, HoldKind::Anomaly, reason, run).await?;
        Ok(Some(reason.to_owned()))
    }

    /// Paths that the parent had no trouble with. They are problems of the snapshot, too; here they are told apart from those
    /// of every night.
    fn newly_unreadable(&self, brought: &Brought<'_>) -> Option<Warning> {
        let parent = brought.parent?;
        let all_listed = parent.problems.len() as u64 == parent.totals.problems;
        if self.host.safety.coverage == Coverage::Off || !all_listed {
            return None;
        }
        let before: HashSet<&[u8]> = unreadable(&parent.problems).collect();
        let new: Vec<&[u8]> = unreadable(brought.problems)
            .filter(|path| !before.contains(path))
            .collect();
        let first = shown_path(new.first()?);
        self.tell(What::CoverageGap {
            count: new.len() as u64,
            first: format!("{first} cannot be read any more"),
        });
        let named = listed(new.iter().map(|path| shown_path(path)), new.len() as u64);
        Some(Warning::new(
            WarningKind::Coverage,
            format!("cannot be read any more: {named}"),
        ))
    }

    /// Paths that the parent has and the exclude rules leave out now.
    fn newly_excluded(&self, brought: &Brought<'_>) -> Option<Warning> {
        let NewlyExcluded { count, first, .. } = brought.newly_excluded?;
        self.tell(What::CoverageGap {
            count: *count,
            first: format!("{} is excluded now", shown_path(first.first()?)),
        });
        let named = listed(first.iter().map(|path| shown_path(path)), *count);
        Some(Warning::new(
            WarningKind::Coverage,
            format!("excluded now, and in the snapshot before: {named}"),
        ))
    }

    fn check_soft(&self, brought: &Brought<'_>) -> Vec<Warning> {
        let safety = &self.host.safety;
        let run = brought.totals.bytes_stored;
        let used = [
            (Scope::Snapshot, safety.max_snapshot, brought.totals.bytes),
            (Scope::Run, safety.max_new, run),
            (Scope::Host, safety.quota, self.stored.saturating_add(run)),
        ];
        used.into_iter()
            .filter_map(|(scope, quota, used)| self.soft(scope, quota, used))
            .collect()
    }

    fn soft(&self, scope: Scope, quota: Quota, used: u64) -> Option<Warning> {
        let limit = quota.passed_soft(used)?;
        self.tell(What::QuotaSoft {
            scope: scope.as_str().to_owned(),
            used,
            limit,
        });
        Some(Warning::new(
            WarningKind::Quota,
            format!(
                "{} are more than the soft limit of {} ({}, {})",
                size_text(used),
                size_text(limit),
                scope.key(),
                scope.as_str()
            ),
        ))
    }

    async fn judge(
        &self,
        brought: &Brought<'_>,
        comparing: Comparing,
    ) -> Result<Option<String>, RunError> {
        let name = self.host.name.as_str();
        let doubted = self.doubted_since(name).await?;
        let Some(parent) = brought.parent else {
            return Ok(doubted); // Everything of a first run is new.
        };
        let figures = Figures {
            files: brought.totals.files.saturating_sub(brought.carried),
            bytes: brought.data_bytes,
            bytes_with_holes: Some(brought.totals.bytes),
            new_bytes: brought.new.plain,
            incompressible: brought.new.incompressible,
            compared: comparing.counts,
            new_ending: comparing.new_ending,
            streams: brought.streams.to_vec(),
            rules: rules_digest(self.host, self.sources),
        };
        let now = self.coordinator.clock.now();
        let found = match &self.host.safety.anomaly {
            Some(limits) => {
                let state = self.coordinator.state.lock().await;
                let (past, times) = (state.good_figures(name)?, state.good_times(name)?);
                let passed = Passed {
                    periods: periods_passed(from_nanos(parent.committed_nanos), now, &times),
                    accepted_runs: state.accepted_runs(name)?,
                };
                signs(&figures, &past, limits, passed)
            }
            None => Vec::new(),
        };
        let mut state = self.coordinator.state.lock().await;
        let good = found.is_empty() && doubted.is_none();
        state.note_figures(name, self.run, now, &figures, good)?;
        drop(state);
        if found.is_empty() {
            return Ok(doubted);
        }
        let reasons: Vec<String> = found.iter().map(ToString::to_string).collect();
        let reason = reasons.join("; ");
        // Before the commit: a coordinator that dies now has the host on hold, at worst for a run that does not count.
        let run = Some(self.run);
        hold(self.coordinator, name, HoldKind::Anomaly, &reason, run).await?;
        Ok(Some(reason))
    }

    /// Why the host is on hold because an earlier run looked wrong, if it is. What is like a wreck is a wreck: until a person has
    /// looked, no run after it is good either, and none is what later ones are judged by.
    async fn doubted_since(&self, name: &str) -> Result<Option<String>, RunError> {
        let holds = self.coordinator.state.lock().await.holds(Some(name))?;
        let mut anomalies = holds
            .into_iter()
            .filter(|hold| hold.kind == HoldKind::Anomaly);
        Ok(anomalies
            .next()
            .map(|hold| format!("on hold since {}: {}", utc(hold.since), hold.reason)))
    }

    fn tell(&self, what: What) {
        let told = Event::of_host(self.host.name.as_str(), what).in_run(self.run);
        self.coordinator.events.tell(told);
    }
}

/// A run that sent more than it might was cut by the append-server: what it is to end with.
pub fn cut_at(host: &Host, scope: Scope) -> RunError {
    let limit = hard_bytes(host, scope);
    RunError::Quota {
        scope,
        used: limit,
        limit,
    }
}

fn hard_bytes(host: &Host, scope: Scope) -> u64 {
    let safety = &host.safety;
    let quota = match scope {
        Scope::Snapshot => safety.max_snapshot,
        Scope::Run => safety.max_new,
        Scope::Host => safety.quota,
    };
    quota.hard_bytes().unwrap_or(u64::MAX)
}

fn unreadable(problems: &[Problem]) -> impl Iterator<Item = &[u8]> {
    problems
        .iter()
        .filter(|problem| problem.kind == ProblemKind::Unreadable)
        .map(|problem| problem.path.as_slice())
}

/// The first ones, and how many more of all there are.
fn listed(texts: impl Iterator<Item = String>, all: u64) -> String {
    let mut named: Vec<String> = texts.take(NAMED_MAX).collect();
    let more = all.saturating_sub(named.len() as u64);
    if more > 0 {
        named.push(format!("and {} more", count_text(more)));
    }
    named.join("; ")
}

/// What was asked for, in one number: with other paths or excludes, files are missing on purpose.
fn rules_digest(host: &Host, sources: &[Vec<u8>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for source in sources {
        part(source);
    }
    part(&[
        b'/',
        u8::from(host.one_file_system),
        u8::from(host.exclude_caches),
    ]);
    for rule in host.exclude.iter() {
        part(rule.as_str().as_bytes());
    }
    part(b"/");
    for marker in host.exclude_if_present.iter() {
        part(marker.as_str().as_bytes());
    }
    hasher.finalize().into()
}

/// Says that the machine that answered last in a host's place is the host from now on, because a person says so. Nothing when
/// nothing else has answered.
pub async fn accept_identity(
    coordinator: &Coordinator,
    host: &Host,
) -> Result<Option<Vec<Difference>>, RunError> {
    let name = host.name.as_str();
    let now = coordinator.clock.now();
    let mut state = coordinator.state.lock().await;
    let Some(offered) = state.offered_identity(name)? else {
        return Ok(None);
    };
    let known = state.host_identity(name)?.unwrap_or_default();
    let differences = known.differences(&offered);
    // What it does not tell any more is accepted with the rest, and learnt when it tells it again.
    state.note_identity(name, &offered, now)?;
    let holds = state.holds(Some(name))?;
    drop(state);
    for one in holds.iter().filter(|hold| hold.kind == HoldKind::Identity) {
        crate::retention::holds::release(coordinator, one.number).await?;
    }
    let what = differences_text(&differences);
    let told = Event::of_host(name, What::IdentityAccepted { what });
    coordinator.events.tell(told);
    Ok(Some(differences))
}
