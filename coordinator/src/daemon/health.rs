//! How the daemon itself is: whether its one task moves, which of its services are down, and whom it cannot reach. Whoever
//! knows notes it here; `status` and the listener's `/healthz` tell it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The daemon's task looks every few seconds; one that did not for so long hangs.
pub const STILL_MAX: Duration = Duration::from_secs(60);
/// What the daemon's task is called among the services.
const SCHEDULER: &str = "scheduler";

/// Something of the daemon that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// A service, or a target of notifications.
    pub what: String,
    /// Why it does not.
    pub problem: String,
}

/// How the daemon is. Cheap to clone; all clones say the same.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<Facts>>);

#[derive(Debug)]
struct Facts {
    moved: Instant,
    services: BTreeMap<&'static str, String>,
    targets: BTreeMap<String, String>,
    /// What was given up last, by target.
    given_up: BTreeMap<String, String>,
}

impl Health {
    /// A daemon that begins now, and in which nothing is wrong.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Facts {
            moved: now,
            services: BTreeMap::new(),
            targets: BTreeMap::new(),
            given_up: BTreeMap::new(),
        })))
    }

    /// The daemon's task looked at what is due.
    pub fn moved(&self, now: Instant) {
        self.facts().moved = now;
    }

    /// A service does not run.
    pub fn service_down(&self, name: &'static str, problem: String) {
        self.facts().services.insert(name, problem);
    }

    /// A service runs, or has nothing to do.
    pub fn service_up(&self, name: &'static str) {
        self.facts().services.remove(name);
    }

    /// A target of notifications takes nothing.
    pub fn target_fails(&self, name: &str, problem: String) {
        self.facts().targets.insert(name.to_owned(), problem);
    }

    /// A message to a target was given up, and somebody must hear of it otherwise: it is told until the daemon ends, whatever
    /// the target takes.
    pub fn target_lost(&self, name: &str, problem: String) {
        self.facts().given_up.insert(name.to_owned(), problem);
    }

    /// A target of notifications took something.
    pub fn target_took(&self, name: &str) {
        self.facts().targets.remove(name);
    }

    /// Forgets targets that are not there any more.
    pub fn keep_targets(&self, is_there: impl Fn(&str) -> bool) {
        let mut facts = self.facts();
        facts.targets.retain(|name, _| is_there(name));
        facts.given_up.retain(|name, _| is_there(name));
    }

    /// The names of what does not work of the daemon itself: with any of them it needs a person.
    pub fn down(&self, now: Instant) -> Vec<&'static str> {
        let facts = self.facts();
        let still = facts.still_for(now).map(|_| SCHEDULER);
        still
            .into_iter()
            .chain(facts.services.keys().copied())
            .collect()
    }

    /// Everything that does not work.
    pub fn troubles(&self, now: Instant) -> Vec<Trouble> {
        let facts = self.facts();
        let still = facts.still_for(now).map(|still| Trouble {
            what: SCHEDULER.to_owned(),
            problem: format!("it has not moved for {} s", still.as_secs()),
        });
        let services = facts.services.iter().map(|(name, problem)| Trouble {
            what: format!("service {name}"),
            problem: problem.clone(),
        });
        let targets = facts.targets.iter().chain(&facts.given_up);
        let targets = targets.map(|(name, problem)| Trouble {
            what: format!("notify target {name}"),
            problem: problem.clone(),
        });
        still.into_iter().chain(services).chain(targets).collect()
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // Every change is one insertion or removal: whoever panicked left nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn still_for(&self, now: Instant) -> Option<Duration> {
        let still = now.saturating_duration_since(self.moved);
        (still > STILL_MAX).then_some(still)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Health, STILL_MAX};

    #[test]
    fn a_scheduler_that_stands_still_and_a_service_that_is_down_are_named() {
        let began = Instant::now();
        let health = Health::new(began);
        let after = |since: Instant, more: u64| since + STILL_MAX + Duration::from_secs(more);
        assert!(health.down(after(began, 0)).is_empty());
        assert_eq!(health.down(after(began, 1)), ["scheduler"]);
        health.moved(after(began, 1));
        assert!(health.down(after(began, 2)).is_empty());
        health.service_down("notifier", "it panicked".to_owned());
        health.target_fails("hook", "refused".to_owned());
        assert_eq!(
            health.down(after(after(began, 1), 9)),
            ["scheduler", "notifier"]
        );
        assert_eq!(health.troubles(after(began, 2)).len(), 2);
        health.service_up("notifier");
        // A target that cannot be reached is no fault of the daemon's.
        assert!(health.down(after(began, 2)).is_empty());
        health.target_lost("hook", "given up".to_owned());
        health.target_took("hook");
        let troubles = health.troubles(after(began, 2));
        assert_eq!(troubles[0].problem, "given up");
        health.keep_targets(|name| name != "hook");
        assert!(health.troubles(after(began, 2)).is_empty());
    }
}
