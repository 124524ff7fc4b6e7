//! Decides at which destinations each snapshot of a host is kept. Pure: values in, values out.
//!
//! A destination keeps by its own rules, or by the host's. A snapshot is forgotten when none of them keeps it. At one whose rules
//! drop what another keeps, it is dropped, for good: longer rules do not bring it back. So that this never costs the last copy:
//!
//! - it is dropped at a destination only while another one, which has it, keeps it;
//! - what only destinations would keep that do not have it any more stays wherever it is.

use std::collections::{BTreeSet, HashSet};

use append_server::destination::DestinationName;
use formats::ids::RecordId;

use crate::retention::decide::{Candidate, Decision, Policy, Reason, decide};
use crate::retention::keep::Keep;

/// A destination that the host is kept at.
#[derive(Debug, Clone)]
pub struct KeepingPlace {
    /// Its name.
    pub name: DestinationName,
    /// The rules that count there.
    pub keep: Option<Keep>,
    /// Whether they are its own.
    pub has_own: bool,
    /// Whether anything is removed there.
    pub may_drop: bool,
    /// What was dropped there.
    pub dropped: HashSet<RecordId>,
}

/// What becomes of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The snapshot.
    pub candidate: Candidate,
    /// Why it is kept, for people; without a reason it is forgotten.
    pub reasons: Vec<String>,
    /// Where it is kept from now on.
    pub at: Vec<DestinationName>,
    /// Where it is dropped now.
    pub drops: Vec<DestinationName>,
    /// Whether none of the destinations has it: those that have it are not among them any more.
    pub is_nowhere: bool,
}

impl Verdict {
    /// Whether it is kept anywhere.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// What a destination's rules say.
struct Wishes {
    /// Of the snapshots that it has.
    there: Vec<Option<Decision>>,
    /// Of all, as if it had them.
    wished: Vec<Decision>,
}

impl Wishes {
    fn keeps(&self, number: usize) -> bool {
        self.there[number].as_ref().is_some_and(Decision::is_kept)
    }
}

/// Decides about a host's snapshots, given in the order of the log, at the destinations that it is kept at. The policy's own rules
/// do not count.
pub fn decide_at(
    candidates: &[Candidate],
    policy: &Policy<'_>,
    places: &[KeepingPlace],
) -> Vec<Verdict> {
    let wishes: Vec<Wishes> = places
        .iter()
        .map(|place| wishes_of(candidates, policy, place))
        .collect();
    let verdict = |(number, candidate): (usize, &Candidate)| {
        let has: Vec<usize> = (0..places.len())
            .filter(|place| !places[*place].dropped.contains(&candidate.id))
            .collect();
        let is_kept = has.iter().any(|place| wishes[*place].keeps(number));
        let is_wished = is_kept || wishes.iter().any(|place| place.wished[number].is_kept());
        let stays = |place: &&usize| {
            is_wished && (!is_kept || wishes[**place].keeps(number) || !places[**place].may_drop)
        };
        let (stay, go): (Vec<&usize>, Vec<&usize>) = has.iter().partition(stays);
        let names = |chosen: &[&usize]| {
            let names = chosen.iter().map(|place| places[**place].name.clone());
            names.collect::<Vec<_>>()
        };
        Verdict {
            candidate: *candidate,
            reasons: reasons(places, &wishes, number),
            at: names(&stay),
            drops: if is_wished { names(&go) } else { Vec::new() },
            is_nowhere: has.is_empty(),
        }
    };
    candidates.iter().enumerate().map(verdict).collect()
}

fn wishes_of(candidates: &[Candidate], policy: &Policy<'_>, place: &KeepingPlace) -> Wishes {
    let policy = Policy {
        keep: place.keep,
        ..policy.clone()
    };
    let has = |candidate: &&Candidate| !place.dropped.contains(&candidate.id);
    let there: Vec<Candidate> = candidates.iter().filter(has).copied().collect();
    let mut decided = decide(&there, &policy).into_iter();
    let there = candidates.iter().map(|candidate| match has(&candidate) {
        true => decided.next(),
        false => None,
    });
    Wishes {
        there: there.collect(),
        wished: decide(candidates, &policy),
    }
}

/// Why it is kept where it is; where nothing keeps it that has it, why others would.
fn reasons(places: &[KeepingPlace], wishes: &[Wishes], number: usize) -> Vec<String> {
    let there = wishes.iter().map(|wishes| wishes.there[number].as_ref());
    let kept = reasons_of(places, there);
    match kept.is_empty() {
        true => reasons_of(
            places,
            wishes.iter().map(|wishes| Some(&wishes.wished[number])),
        ),
        false => kept,
    }
}

/// Each reason once. Those that come of a destination's own rules name it.
fn reasons_of<'d>(
    places: &[KeepingPlace],
    decisions: impl Iterator<Item = Option<&'d Decision>>,
) -> Vec<String> {
    let mut common: BTreeSet<&Reason> = BTreeSet::new();
    let mut own = Vec::new();
    for (place, decision) in places.iter().zip(decisions) {
        for reason in decision.into_iter().flat_map(|decision| &decision.reasons) {
            match place.has_own && is_of_rules(reason) {
                true => own.push((reason, &place.name)),
                false => {
                    common.insert(reason);
                }
            }
        }
    }
    own.retain(|(reason, _)| !common.contains(reason));
    let own = own
        .into_iter()
        .map(|(reason, name)| format!("{reason} at {name}"));
    common.iter().map(ToString::to_string).chain(own).collect()
}

fn is_of_rules(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Within(_) | Reason::Last(_) | Reason::Slot(..)
    )
}

/// Where a snapshot is kept, where not at all of these destinations.
pub fn only_at(verdict: &Verdict, places: &[KeepingPlace]) -> Vec<String> {
    match verdict.at.len() < places.len() {
        true => verdict.at.iter().map(ToString::to_string).collect(),
        false => Vec::new(),
    }
}

/// The snapshots that are not kept anywhere.
pub fn forgotten(verdicts: &[Verdict]) -> HashSet<RecordId> {
    let gone = verdicts.iter().filter(|verdict| !verdict.is_kept());
    gone.map(|verdict| verdict.candidate.id).collect()
}

#[cfg(test)]
mod tests;
