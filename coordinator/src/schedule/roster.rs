//! All hosts together: who begins now, within the limits and in fair order. Keeps what is known of each; whoever uses it puts
//! in what happened and carries out what comes out.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::schedule::outlook::{Attempted, LastOccasion, Outlook, Record, outlook};
use crate::schedule::timing::Timing;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Back up a host for an occasion.
    Begin {
        /// The host.
        host: String,
        /// By the calendar.
        occasion: Timestamp,
    },
    /// Note that an occasion was let go.
    LetGo {
        /// The host.
        host: String,
        /// By the calendar.
        occasion: Timestamp,
    },
}

/// A run that was asked for by hand and waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The host.
    pub host: String,
    /// Before everybody else.
    pub first: bool,
}

#[derive(Debug, Clone)]
struct Member {
    timing: Timing,
    record: Record,
    /// The occasion that is due, and when that was first seen.
    seen: Option<(Timestamp, Timestamp)>,
    outlook: Option<Outlook>,
    /// When something else may be due than what is due now.
    recheck: Timestamp,
}

/// All hosts, and who of them is being backed up.
#[derive(Debug, Default)]
pub struct Roster {
    members: BTreeMap<String, Member>,
    running: BTreeMap<String, Option<String>>,
    asked: Vec<Asked>,
    max_parallel: usize,
}

impl Roster {
    /// A roster of nobody.
    pub fn new(max_parallel: usize) -> Self {
        Self {
            max_parallel,
            ..Self::default()
        }
    }

    /// Another limit; runs that are under way go on.
    pub fn set_max_parallel(&mut self, max_parallel: usize) {
        self.max_parallel = max_parallel;
    }

    /// Puts a host in, or what is known of it anew.
    pub fn put(&mut self, host: &str, timing: Timing, record: Record) {
        let seen = self.members.get(host).and_then(|member| member.seen);
        let member = Member {
            timing,
            record,
            seen,
            outlook: None,
            recheck: Timestamp::MIN,
        };
        self.members.insert(host.to_owned(), member);
    }

    /// Takes out the hosts that are not among these; their runs go on.
    pub fn keep_only(&mut self, hosts: &BTreeSet<String>) {
        self.members.retain(|host, _| hosts.contains(host));
    }

    /// The hosts that are in.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Who is being backed up.
    pub fn running(&self) -> impl Iterator<Item = &str> {
        self.running.keys().map(String::as_str)
    }

    /// Whether a host is being backed up.
    pub fn is_running(&self, host: &str) -> bool {
        self.running.contains_key(host)
    }

    /// Queues a run that was asked for by hand; one for each host.
    pub fn ask(&mut self, asked: Asked) {
        self.asked.retain(|other| other.host != asked.host);
        match asked.first {
            true => self.asked.insert(0, asked),
            false => self.asked.push(asked),
        }
    }

    /// Takes a run that was asked for out of the queue; whether it was in it.
    pub fn unask(&mut self, host: &str) -> bool {
        let before = self.asked.len();
        self.asked.retain(|asked| asked.host != host);
        self.asked.len() < before
    }

    /// What a host waits for, or is due for.
    pub fn outlook(&self, host: &str, now: Timestamp) -> Option<Outlook> {
        let member = self.members.get(host)?;
        Some(member.look(host, now))
    }

    /// The runs that were asked for and may begin now. They are taken as begun.
    pub fn poll_asked(&mut self, now: Timestamp) -> Vec<String> {
        let mut begun = Vec::new();
        let mut waiting = std::mem::take(&mut self.asked);
        waiting.retain(|asked| {
            let may = self.may_begin(&asked.host);
            if may {
                self.begin(&asked.host, now);
                begun.push(asked.host.clone());
            }
            !may
        });
        self.asked = waiting;
        begun
    }

    /// What is to be done now. Runs are taken as begun, and occasions as let go, as they are given out.
    pub fn poll(&mut self, now: Timestamp) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut due = Vec::new();
        for (host, member) in &mut self.members {
            if self.running.contains_key(host) {
                continue;
            }
            match member.refresh(host, now) {
                Outlook::Due { occasion, since } => {
                    due.push((member.record.served(), since, host.clone(), occasion));
                }
                Outlook::Missed { occasion } => {
                    member.attempt(occasion, now, Attempted::Done);
                    acts.push(Act::LetGo {
                        host: host.clone(),
                        occasion,
                    });
                }
                Outlook::Idle | Outlook::Waits { .. } => {}
            }
        }
        // Whoever has waited longest: never backed up first, then by the oldest.
        due.sort();
        for (_, _, host, occasion) in due {
            if !self.may_begin(&host) {
                continue;
            }
            self.begin(&host, now);
            if let Some(member) = self.members.get_mut(&host) {
                member.attempt(occasion, now, Attempted::Running);
            }
            acts.push(Act::Begin { host, occasion });
        }
        acts
    }

    /// When there may be something to do next, if nothing happens before. A host that is due and waits for others is no
    /// reason: their end is.
    pub fn wake(&self) -> Option<Timestamp> {
        let idle = self
            .members
            .iter()
            .filter(|(host, _)| !self.is_running(host));
        let untils = idle.filter_map(|(_, member)| match member.outlook {
            Some(Outlook::Waits { until, .. }) => Some(until),
            Some(Outlook::Missed { .. }) | None => Some(Timestamp::MIN),
            Some(Outlook::Idle | Outlook::Due { .. }) => None,
        });
        untils.min()
    }

    /// Notes that a run ended. `good` is when it committed a snapshot; `result` is what it means for its occasion, if it had
    /// one.
    pub fn ended(
        &mut self,
        host: &str,
        result: Option<Attempted>,
        good: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.running.remove(host);
        let Some(member) = self.members.get_mut(host) else {
            return;
        };
        member.record.last_good = good.or(member.record.last_good);
        member.record.last_tried = Some(now);
        if let (Some(result), Some(last)) = (result, &mut member.record.last) {
            last.result = result;
            last.tried = now;
            if result == Attempted::PutOff {
                last.attempts = last.attempts.saturating_sub(1);
            }
        }
        member.outlook = None;
    }

    fn may_begin(&self, host: &str) -> bool {
        let key = self.key(host);
        let taken = |key: &String| self.running.values().flatten().any(|other| other == key);
        !self.running.contains_key(host)
            && self.running.len() < self.max_parallel
            && !key.as_ref().is_some_and(taken)
    }

    fn begin(&mut self, host: &str, now: Timestamp) {
        let key = self.key(host);
        self.running.insert(host.to_owned(), key);
        if let Some(member) = self.members.get_mut(host) {
            member.record.last_tried = Some(now);
            member.outlook = None;
        }
    }

    fn key(&self, host: &str) -> Option<String> {
        let key = self.members.get(host)?.timing.concurrency_key.as_ref()?;
        Some(key.as_str().to_owned())
    }
}

impl Member {
    /// The outlook, looked for again only when it may have changed.
    fn refresh(&mut self, host: &str, now: Timestamp) -> Outlook {
        if let Some(outlook) = self.outlook {
            match outlook {
                Outlook::Idle => return outlook,
                Outlook::Waits { until, .. } if now < until => return outlook,
                Outlook::Due { .. } if now < self.recheck => return outlook,
                _ => {}
            }
        }
        let found = self.look(host, now);
        if let Outlook::Due { occasion, .. } = found {
            if self.seen.is_none_or(|(seen, _)| seen != occasion) {
                self.seen = Some((occasion, now));
            }
            let newer = self.timing.next(host, occasion).map(|next| next.begins);
            let changes = [newer, self.timing.closes(now)].into_iter().flatten();
            self.recheck = changes.min().unwrap_or(Timestamp::MAX);
        }
        self.outlook = Some(found);
        found
    }

    fn look(&self, host: &str, now: Timestamp) -> Outlook {
        let found = outlook(host, &self.timing, &self.record, None, now);
        // An occasion that waits for its turn was not missed, however long it waits.
        match (found, self.seen) {
            (Outlook::Missed { occasion }, Some((seen, at))) if seen == occasion => {
                outlook(host, &self.timing, &self.record, Some(at), now)
            }
            _ => found,
        }
    }

    fn attempt(&mut self, occasion: Timestamp, now: Timestamp, result: Attempted) {
        let before = self.record.last.filter(|last| last.at == occasion);
        self.record.last = Some(LastOccasion {
            at: occasion,
            attempts: before.map_or(0, |last| last.attempts) + 1,
            tried: now,
            result,
        });
        self.outlook = None;
    }
}

#[cfg(test)]
mod tests;
