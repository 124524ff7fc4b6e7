//! Finds what changed, from what was told before, what happened since, and how hosts are. Pure: the same input gives the same
//! alerts, and what holds already is not told again.

mod locks;

use std::collections::BTreeMap;

use formats::audit::AuditRecord;
use jiff::{SignedDuration, Timestamp};

use crate::audit::record::{actor_of, detail};
use crate::catalog::state::notifications::Condition;
use crate::clock::{from_nanos, utc};
use crate::notify::alert::{Alert, Level};
use crate::status::{Freshness, HostStatus};

pub use locks::FirstLock;

/// How old a host's first snapshot may become where no `sla` says so.
const FIRST_WITHIN: SignedDuration = SignedDuration::from_hours(26);
/// The subject of what is about no host and no destination.
const COORDINATOR: &str = "coordinator";
/// Facets that are kept and not told of.
const DAEMON_RUNS: &str = "daemon-runs";
const NEVER: &str = "never";

/// Goes through what happened, and keeps what is wrong.
#[derive(Debug)]
pub struct Tracker {
    before: BTreeMap<(String, String), Condition>,
    now: BTreeMap<(String, String), Condition>,
    alerts: Vec<Alert>,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Conditions that hold from now on, or with another detail.
    pub raised: Vec<Condition>,
    /// Conditions that hold no more.
    pub cleared: Vec<(String, String)>,
    /// What is to be told.
    pub alerts: Vec<Alert>,
}

/// When a condition that holds already is told of again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Never,
    WhenDetailChanges,
}

/// Something that is wrong.
struct Wrong {
    facet: String,
    level: Level,
    title: String,
    detail: String,
}

impl Tracker {
    /// Begins with what is wrong already.
    pub fn new(conditions: Vec<Condition>) -> Self {
        let keyed = conditions.into_iter().map(|condition| {
            let key = (condition.subject.clone(), condition.facet.clone());
            (key, condition)
        });
        let before: BTreeMap<_, _> = keyed.collect();
        Self {
            now: before.clone(),
            before,
            alerts: Vec::new(),
        }
    }

    /// What changed in all.
    pub fn finish(self) -> Changes {
        let changed = |(key, condition): (&(String, String), &Condition)| {
            (self.before.get(key) != Some(condition)).then(|| condition.clone())
        };
        let gone = |key: &&(String, String)| !self.now.contains_key(*key);
        Changes {
            raised: self.now.iter().filter_map(changed).collect(),
            cleared: self.before.keys().filter(gone).cloned().collect(),
            alerts: self.alerts,
        }
    }

    /// Takes in one thing that happened.
    pub fn hear(&mut self, record: &AuditRecord) {
        match &record.host {
            Some(host) => self.hear_of_host(host, record),
            None => self.hear_of_all(record),
        }
    }

    fn hear_of_host(&mut self, host: &str, record: &AuditRecord) {
        let told = |name| detail(record, name).unwrap_or_default();
        let subject = format!("host:{host}");
        if let Some((wrong, again)) = wrong_with_host(host, record) {
            return self.raise(&subject, wrong, again, record);
        }
        let by = actor_of(record);
        match record.what.as_str() {
            "run-ended" => self.run_ended(host, &subject, record),
            "hold-released" => {
                let kind = told("kind");
                let title = format!("{host}: the hold ({kind}) is released by {by}");
                self.clear(&subject, &format!("hold:{kind}"), title, record);
            }
            "identity-accepted" => {
                let title = format!("{host}: its new identity is accepted by {by}");
                self.clear(&subject, "identity", title, record);
            }
            "scan-clean" => {
                for facet in self.facets(&subject, "scan:") {
                    let title = format!("{host}: everything is where it should be again");
                    self.clear(&subject, &facet, title, record);
                }
            }
            "prune-done" => {
                self.clear(
                    &subject,
                    "prune",
                    format!("{host}: is pruned again"),
                    record,
                );
            }
            "log-reconciled" => {
                let title = format!("{host}: log records of another coordinator were accepted");
                let detail = format!("records {} to {}", told("first"), told("last"));
                self.notice(
                    &subject,
                    "reconciled",
                    Level::Warning,
                    title,
                    detail,
                    record,
                );
            }
            _ => {}
        }
    }

    fn run_ended(&mut self, host: &str, subject: &str, record: &AuditRecord) {
        let told = |name| detail(record, name).unwrap_or_default();
        let outcome = told("outcome");
        match outcome {
            "failed" | "died" => {
                let wrong = Wrong {
                    facet: "run".to_owned(),
                    level: Level::Warning,
                    title: format!("{host}: backing up fails"),
                    detail: match outcome {
                        "died" => "the coordinator ended in the middle of the run".to_owned(),
                        _ => told("error").to_owned(),
                    },
                };
                self.raise(subject, wrong, Again::Never, record);
            }
            "ok" | "warnings" | "held" => {
                self.clear(
                    subject,
                    "run",
                    format!("{host}: is backed up again"),
                    record,
                );
                let problems = told("problems");
                if outcome == "warnings" || !matches!(problems, "" | "0") {
                    let (title, detail) = match (problems, told("error")) {
                        ("0", "") => (
                            format!("{host}: is backed up, with warnings"),
                            "the log of the run tells more".to_owned(),
                        ),
                        ("0", error) => (
                            format!("{host}: is backed up, with warnings"),
                            error.to_owned(),
                        ),
                        (count, _) => (
                            format!("{host}: {count} things could not be read"),
                            format!("`coordinator show {host} latest` lists them"),
                        ),
                    };
                    let wrong = Wrong {
                        facet: "warnings".to_owned(),
                        level: Level::Warning,
                        title,
                        detail,
                    };
                    self.raise(subject, wrong, Again::Never, record);
                } else {
                    let title = format!("{host}: everything can be read again");
                    self.clear(subject, "warnings", title, record);
                }
                // What a run before found and this one did not.
                for facet in ["coverage", "quota", "quota-soft", "identity"] {
                    let key = (subject.to_owned(), facet.to_owned());
                    let known = self.now.get(&key);
                    if known.is_some_and(|known| known.run != record.run) {
                        let title = format!("{host}: {facet} is as it should be again");
                        self.clear(subject, facet, title, record);
                    }
                }
            }
            // A person stopped it, or nothing was to be done.
            _ => {}
        }
    }

    fn hear_of_all(&mut self, record: &AuditRecord) {
        let told = |name| detail(record, name).unwrap_or_default().to_owned();
        match record.what.as_str() {
            "destination-behind" => {
                let name = told("destination");
                let detail = match told("problem") {
                    problem if problem.is_empty() => format!("{} bytes wait", told("bytes")),
                    problem => problem,
                };
                let wrong = Wrong {
                    facet: "behind".to_owned(),
                    level: Level::Warning,
                    title: format!("destination {name} lacks what others have"),
                    detail,
                };
                self.raise(&format!("destination:{name}"), wrong, Again::Never, record);
            }
            "destination-back" => {
                let name = told("destination");
                let title = format!("destination {name} has everything again");
                self.clear(&format!("destination:{name}"), "behind", title, record);
            }
            "config-refused" => {
                let title = "the new configuration is wrong; the one before stays in force";
                let wrong = Wrong {
                    facet: "config".to_owned(),
                    level: Level::Warning,
                    title: title.to_owned(),
                    detail: told("problem"),
                };
                self.raise(COORDINATOR, wrong, Again::WhenDetailChanges, record);
            }
            "config-reloaded" => {
                let title = "the configuration is good again, and in force".to_owned();
                self.clear(COORDINATOR, "config", title, record);
            }
            "daemon-started" => self.daemon_started(record),
            "daemon-stopped" => {
                let key = (COORDINATOR.to_owned(), DAEMON_RUNS.to_owned());
                self.now.remove(&key);
            }
            _ => {
                if let Some((level, title, detail)) = to_be_known(record) {
                    self.notice(COORDINATOR, &record.what, level, title, detail, record);
                }
            }
        }
    }

    /// One that starts while another is said to run follows one that was killed.
    fn daemon_started(&mut self, record: &AuditRecord) {
        let key = (COORDINATOR.to_owned(), DAEMON_RUNS.to_owned());
        let at = from_nanos(record.at_nanos);
        if self.now.contains_key(&key) {
            let title = "the daemon runs again after it ended without being told to".to_owned();
            let detail = "it was killed, or the machine went down".to_owned();
            self.notice(COORDINATOR, "daemon", Level::Warning, title, detail, record);
        }
        self.now.insert(key, silent(COORDINATOR, DAEMON_RUNS, at));
    }

    /// Takes in how hosts are: whether their last good snapshots are as young as was promised.
    pub fn look(&mut self, hosts: &[HostStatus], now: Timestamp) {
        for host in hosts {
            self.look_at(host, now);
        }
        let is_gone = |subject: &str| {
            let name = subject.strip_prefix("host:");
            name.is_some_and(|name| !hosts.iter().any(|host| host.host == name))
        };
        // Nobody wants to hear of a host that is not there any more.
        self.now.retain(|(subject, _), _| !is_gone(subject));
    }

    fn look_at(&mut self, host: &HostStatus, now: Timestamp) {
        let subject = format!("host:{}", host.host);
        let sla = host
            .sla
            .and_then(|sla| SignedDuration::try_from(sla.duration()).ok());
        let never = (subject.clone(), NEVER.to_owned());
        let is_late = match host.freshness {
            Freshness::Ok => false,
            Freshness::Late => true,
            Freshness::Never => {
                let new = || silent(&subject, NEVER, now);
                let since = self.now.entry(never.clone()).or_insert_with(new).since;
                now.duration_since(since) > sla.unwrap_or(FIRST_WITHIN)
            }
        };
        if host.freshness != Freshness::Never {
            self.now.remove(&never);
        }
        let key = (subject.clone(), "late".to_owned());
        let alert = |level, title, detail| Alert {
            at: now,
            level,
            subject: subject.clone(),
            facet: "late".to_owned(),
            title,
            detail,
            run: None,
        };
        match (is_late, self.now.contains_key(&key)) {
            (true, false) => {
                let detail = match host.last_good {
                    Some(good) => format!("the last good one is of {}", utc(good.at)),
                    None => "there is none".to_owned(),
                };
                let promised = match host.sla {
                    Some(sla) => format!(" within {sla}"),
                    None => String::new(),
                };
                let title = format!("{}: no good snapshot{promised}", host.host);
                self.alerts
                    .push(alert(Level::Critical, title, detail.clone()));
                let condition = Condition {
                    detail,
                    ..silent(&subject, "late", now)
                };
                self.now.insert(key, condition);
            }
            (false, true) => {
                let title = format!("{}: has a good snapshot in time again", host.host);
                self.alerts.push(alert(Level::Ok, title, String::new()));
                self.now.remove(&key);
            }
            (true, true) | (false, false) => {}
        }
    }

    fn facets(&self, subject: &str, prefix: &str) -> Vec<String> {
        let of_subject = self.now.keys().filter(|(known, _)| known == subject);
        let facets = of_subject.map(|(_, facet)| facet.clone());
        facets.filter(|facet| facet.starts_with(prefix)).collect()
    }

    fn raise(&mut self, subject: &str, wrong: Wrong, again: Again, record: &AuditRecord) {
        let at = from_nanos(record.at_nanos);
        let key = (subject.to_owned(), wrong.facet.clone());
        let known = self.now.get(&key);
        let is_told = known.is_some_and(|known| match again {
            Again::Never => true,
            Again::WhenDetailChanges => known.detail == wrong.detail,
        });
        let condition = Condition {
            subject: subject.to_owned(),
            facet: wrong.facet.clone(),
            since: known.map_or(at, |known| known.since),
            detail: wrong.detail.clone(),
            run: record.run,
        };
        self.now.insert(key, condition);
        if !is_told {
            let facet = &wrong.facet;
            self.notice(
                subject,
                facet,
                wrong.level,
                wrong.title,
                wrong.detail,
                record,
            );
        }
    }

    fn clear(&mut self, subject: &str, facet: &str, title: String, record: &AuditRecord) {
        let key = (subject.to_owned(), facet.to_owned());
        if let Some(known) = self.now.remove(&key) {
            let detail = format!("it was not since {}", utc(known.since));
            self.notice(subject, facet, Level::Ok, title, detail, record);
        }
    }

    fn notice(
        &mut self,
        subject: &str,
        facet: &str,
        level: Level,
        title: String,
        detail: String,
        record: &AuditRecord,
    ) {
        self.alerts.push(Alert {
            at: from_nanos(record.at_nanos),
            level,
            subject: subject.to_owned(),
            facet: facet.to_owned(),
            title,
            detail,
            run: record.run,
        });
    }
}

/// What an event says is wrong with a host.
fn wrong_with_host(host: &str, record: &AuditRecord) -> Option<(Wrong, Again)> {
    let told = |name| detail(record, name).unwrap_or_default().to_owned();
    let wrong = |facet: &str, level, title, detail| Wrong {
        facet: facet.to_owned(),
        level,
        title,
        detail,
    };
    let (again, changes) = (Again::Never, Again::WhenDetailChanges);
    Some(match record.what.as_str() {
        // What is held because another machine answered is told as just that.
        "hold-added" if detail(record, "kind") == Some("identity") => return None,
        "hold-added" => (held(host, &told("kind"), told("reason")), again),
        "identity-mismatch" => {
            let title = format!("{host}: what answers is not the host that it was");
            (
                wrong("identity", Level::Critical, title, told("what")),
                changes,
            )
        }
        "coverage-gap" => {
            let title = format!("{host}: {} things on it are in no backup", told("count"));
            (
                wrong("coverage", Level::Warning, title, told("first")),
                changes,
            )
        }
        "quota-soft" | "quota-hard" => {
            let (facet, level, word) = match record.what.as_str() {
                "quota-hard" => ("quota", Level::Critical, "allowed"),
                _ => ("quota-soft", Level::Warning, "expected"),
            };
            let title = format!("{host}: more than is {word} for a {}", told("scope"));
            let detail = format!("{} bytes, the limit is {}", told("used"), told("limit"));
            (wrong(facet, level, title, detail), again)
        }
        "scan-damage" => {
            let place = told("destination");
            let place = if place.is_empty() { "storage" } else { &place };
            let title = format!("{host}: stored objects are missing or damaged at {place}");
            let detail = format!("{} objects, {} lost", told("objects"), told("lost"));
            let facet = format!("scan:{place}");
            (wrong(&facet, Level::Critical, title, detail), changes)
        }
        "prune-refused" => {
            let title = format!("{host}: old snapshots are not pruned");
            (
                wrong("prune", Level::Warning, title, told("reason")),
                changes,
            )
        }
        _ => return None,
    })
}

fn held(host: &str, kind: &str, reason: String) -> Wrong {
    Wrong {
        facet: format!("hold:{kind}"),
        level: match kind {
            "anomaly" => Level::Critical,
            _ => Level::Ok,
        },
        title: format!("{host}: snapshots are on hold ({kind})"),
        detail: reason,
    }
}

/// What happens once and does not last, and is to be known all the same.
fn to_be_known(record: &AuditRecord) -> Option<(Level, String, String)> {
    let told = |name| detail(record, name).unwrap_or_default().to_owned();
    let by = actor_of(record);
    Some(match record.what.as_str() {
        "lease-taken" => {
            let title = format!("the lease of {} was taken by {by}", told("repository"));
            (Level::Warning, title, told("from"))
        }
        "recovered" => {
            let title = "a coordinator was built anew from the recovery kit".to_owned();
            (Level::Warning, title, told("destination"))
        }
        "kit-exported" => {
            let title = format!("the recovery kit was written out by {by}");
            (Level::Warning, title, told("path"))
        }
        "keys-derived" => {
            let title = format!("keys of user {} were given out by {by}", told("user"));
            (Level::Warning, title, told("role"))
        }
        "token-added" => {
            let title = format!("token {} was made by {by}", told("name"));
            (Level::Ok, title, told("scopes"))
        }
        "audit-torn" => {
            let title = "the audit log ended in a record that was never finished".to_owned();
            let detail = format!("{} bytes were cut off", told("bytes"));
            (Level::Ok, title, detail)
        }
        "audit-damaged" => {
            let title = "the audit log is damaged".to_owned();
            let detail = format!("{}: `coordinator audit verify` says where", told("file"));
            (Level::Critical, title, detail)
        }
        "events-dropped" => {
            let title = format!("{} events are not in the audit log", told("count"));
            let detail = "more happened than could be written".to_owned();
            (Level::Warning, title, detail)
        }
        _ => return None,
    })
}

/// A condition that says no more than since when.
fn silent(subject: &str, facet: &str, since: Timestamp) -> Condition {
    Condition {
        subject: subject.to_owned(),
        facet: facet.to_owned(),
        since,
        detail: String::new(),
        run: None,
    }
}

#[cfg(test)]
mod tests;
