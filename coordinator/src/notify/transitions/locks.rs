//! Whether somebody still prolongs the locks of stored objects. A scan does when half of their time is over; when three quarters
//! are, none has for long, and what nobody prolongs can soon be deleted by whoever has credentials that delete.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Tracker, silent};
use crate::catalog::state::notifications::Condition;
use crate::clock::utc;
use crate::notify::alert::{Alert, Level};

/// The facet of a destination.
const FACET: &str = "locks";

/// The first lock to end of a repository at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstLock {
    /// The repository's name.
    pub repository: String,
    /// The destination's name.
    pub destination: String,
    /// How long it lasts yet.
    pub left: SignedDuration,
    /// How long objects are locked there.
    pub retain: SignedDuration,
}

impl FirstLock {
    fn runs_out(&self) -> bool {
        self.left < self.retain / 4
    }
}

impl Tracker {
    /// Takes in when locks end, as the last scans of all locks found them.
    pub fn look_at_locks(&mut self, locks: &[FirstLock], now: Timestamp) {
        let mut wrong: BTreeMap<String, &FirstLock> = BTreeMap::new();
        for lock in locks.iter().filter(|lock| lock.runs_out()) {
            let first = wrong
                .entry(format!("destination:{}", lock.destination))
                .or_insert(lock);
            if lock.left < first.left {
                *first = lock;
            }
        }
        for (subject, lock) in &wrong {
            let key = (subject.clone(), FACET.to_owned());
            if self.now.contains_key(&key) {
                continue;
            }
            let title = format!(
                "destination {}: locks run out, and no scan prolongs them",
                lock.destination
            );
            let detail = format!(
                "the first one, of repository {}, ends at {}: `coordinator scan --extend-locks`",
                lock.repository,
                utc(now + lock.left)
            );
            let condition = Condition {
                detail: detail.clone(),
                ..silent(subject, FACET, now)
            };
            self.now.insert(key, condition);
            self.tell_of_locks(subject, Level::Critical, title, detail, now);
        }
        let over: Vec<(String, String)> = self
            .now
            .keys()
            .filter(|(subject, facet)| facet == FACET && !wrong.contains_key(subject))
            .cloned()
            .collect();
        for key in over {
            self.now.remove(&key);
            let name = key.0.trim_start_matches("destination:");
            let title = format!("destination {name}: locks are prolonged again");
            self.tell_of_locks(&key.0, Level::Ok, title, String::new(), now);
        }
    }

    fn tell_of_locks(
        &mut self,
        subject: &str,
        level: Level,
        title: String,
        detail: String,
        at: Timestamp,
    ) {
        self.alerts.push(Alert {
            at,
            level,
            subject: subject.to_owned(),
            facet: FACET.to_owned(),
            title,
            detail,
            run: None,
        });
    }
}
