//! Decides for each snapshot of a host whether it is kept, and why. Pure: values in, values out.
//!
//! What makes it safe against a host that lies and floods:
//!
//! - Times are the coordinator's. One that contradicts the log's order, or lies ahead of now, is doubted, and what has it is kept.
//! - A snapshot counts when it is complete and verified. The first that counts takes its slot (an hour, a day…); what
//!   comes later in the same slot never takes its place. So more runs, whatever they hold, take nothing away but by `last`.
//! - What does not count is thinned by the same rules among itself, and never takes a place from what does.
//! - The last verified ones (`keep_floor`), pinned ones, and everything of a host on hold are kept.
//!
//! Complete means: all configured sources were found, and there is at least one entry. Single files that could not be read
//! do not make a snapshot incomplete: live hosts have some every night.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use formats::ids::RecordId;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::retention::keep::Keep;
use crate::retention::slot::{Slot, SlotKind};

/// What is known of a snapshot, oldest first in the order of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its record.
    pub id: RecordId,
    /// When its run began, by the coordinator's clock.
    pub at: Timestamp,
    /// Whether all sources were found and there is something in it.
    pub complete: bool,
    /// Whether every pack was read back and checked.
    pub verified: bool,
}

impl Candidate {
    fn counts(&self) -> bool {
        self.complete && self.verified
    }
}

/// By what is decided.
#[derive(Debug, Clone)]
pub struct Policy<'a> {
    /// The host's rules; without any, everything is kept.
    pub keep: Option<Keep>,
    /// How many of the last verified ones are never dropped.
    pub floor: u32,
    /// Whose calendar.
    pub zone: &'a TimeZone,
    /// The time now.
    pub now: Timestamp,
    /// Pinned snapshots, and why.
    pub pinned: &'a HashMap<RecordId, String>,
    /// Why nothing of the host may be dropped.
    pub held: Option<&'a str>,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No rules.
    NoPolicy,
    /// The host is on hold.
    Held(String),
    /// Pinned.
    Pinned(String),
    /// Its time is not to be relied on.
    TimeInDoubt(&'static str),
    /// Younger than `within`.
    Within(String),
    /// Among the last.
    Last(u32),
    /// The first of its slot.
    Slot(SlotKind, String),
    /// Among the last verified ones.
    Floor,
    /// The newest, which is what a restore begins with.
    Newest,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoPolicy => out.write_str("no keep rules"),
            Self::Held(why) => write!(out, "held: {why}"),
            Self::Pinned(why) if why.is_empty() => out.write_str("pinned"),
            Self::Pinned(why) => write!(out, "pinned: {why}"),
            Self::TimeInDoubt(why) => write!(out, "its time is in doubt: {why}"),
            Self::Within(span) => write!(out, "within {span}"),
            Self::Last(place) => write!(out, "last {place}"),
            Self::Slot(kind, slot) => write!(out, "{} {slot}", kind.rule()),
            Self::Floor => out.write_str("floor"),
            Self::Newest => out.write_str("newest"),
        }
    }
}

/// What becomes of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The snapshot.
    pub candidate: Candidate,
    /// Why it is kept; without a reason it is forgotten.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether it is kept.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Decides about a host's snapshots, given in the order of the log.
pub fn decide(candidates: &[Candidate], policy: &Policy<'_>) -> Vec<Decision> {
    let mut reasons: Vec<BTreeSet<Reason>> = vec![BTreeSet::new(); candidates.len()];
    let keep = policy.keep.filter(|keep| !keep.is_empty());
    for (place, candidate) in candidates.iter().enumerate() {
        if let Some(why) = policy.held {
            reasons[place].insert(Reason::Held(why.to_owned()));
        }
        if let Some(why) = policy.pinned.get(&candidate.id) {
            reasons[place].insert(Reason::Pinned(why.clone()));
        }
        if keep.is_none() {
            reasons[place].insert(Reason::NoPolicy);
        }
    }
    let doubted = doubted(candidates, policy.now);
    for (place, why) in &doubted {
        reasons[*place].insert(Reason::TimeInDoubt(why));
    }
    if let Some(keep) = keep {
        let sure = |place: &usize| !doubted.contains_key(place);
        let places = (0..candidates.len()).filter(sure);
        let (counted, others): (Vec<usize>, Vec<usize>) =
            places.partition(|place| candidates[*place].counts());
        for series in [&counted, &others] {
            apply(&keep, candidates, series, policy, &mut reasons);
        }
    }
    keep_the_last(candidates, policy.floor, &mut reasons);
    candidates
        .iter()
        .zip(reasons)
        .map(|(candidate, reasons)| Decision {
            candidate: *candidate,
            reasons: reasons.into_iter().collect(),
        })
        .collect()
}

/// One run of a host follows another, so that times must grow with the log. One that lies before an earlier record's was
/// taken with the clock set back, or the earlier one with the clock set forward.
fn doubted(candidates: &[Candidate], now: Timestamp) -> BTreeMap<usize, &'static str> {
    let mut found = BTreeMap::new();
    let mut latest: Option<Timestamp> = None;
    for (place, candidate) in candidates.iter().enumerate() {
        if candidate.at > now {
            found.insert(place, "it lies ahead of now");
        } else if latest.is_some_and(|latest| candidate.at < latest) {
            found.insert(place, "an earlier snapshot has a later one");
        } else {
            latest = Some(candidate.at);
        }
    }
    found
}

/// Applies the rules to a series, in the order of time.
fn apply(
    keep: &Keep,
    candidates: &[Candidate],
    series: &[usize],
    policy: &Policy<'_>,
    reasons: &mut [BTreeSet<Reason>],
) {
    if let Some(within) = keep.within {
        let since = policy.now.checked_sub(within.duration());
        for place in series {
            // A span that reaches before all time keeps everything.
            if since
                .as_ref()
                .map_or(true, |since| candidates[*place].at >= *since)
            {
                reasons[*place].insert(Reason::Within(within.to_string()));
            }
        }
    }
    let last = usize::try_from(keep.last.unwrap_or(0)).unwrap_or(usize::MAX);
    for (number, place) in (1..).zip(series.iter().rev().take(last)) {
        reasons[*place].insert(Reason::Last(number));
    }
    for (kind, count) in keep.slots() {
        let mut first: BTreeMap<Slot, usize> = BTreeMap::new();
        for place in series {
            let slot = Slot::of(kind, candidates[*place].at, policy.zone);
            first.entry(slot).or_insert(*place);
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for (slot, place) in first.iter().rev().take(count) {
            reasons[*place].insert(Reason::Slot(kind, slot.name(kind)));
        }
    }
}

/// Whatever the rules say: the last verified ones, in the order of the log, and the newest of all.
fn keep_the_last(candidates: &[Candidate], floor: u32, reasons: &mut [BTreeSet<Reason>]) {
    let floor = usize::try_from(floor.max(1)).unwrap_or(usize::MAX);
    let places = (0..candidates.len()).rev();
    let counted = places.filter(|place| candidates[*place].counts());
    for place in counted.take(floor) {
        reasons[place].insert(Reason::Floor);
    }
    if let Some(newest) = reasons.last_mut() {
        newest.insert(Reason::Newest);
    }
}

#[cfg(test)]
mod tests;
