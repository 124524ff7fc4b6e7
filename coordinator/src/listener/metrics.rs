//! Figures for Prometheus, in its text format. Names and labels never change their meaning. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::catalog::state::Outcome;
use crate::scan::known::Scanned;
use crate::status::severity::{Severity, severity};
use crate::status::{DestinationLag, HostStatus};

/// What the figures are of.
#[derive(Debug, Clone, Copy)]
pub struct Figures<'a> {
    /// Every host.
    pub hosts: &'a [HostStatus],
    /// Every destination that is known of.
    pub destinations: &'a [DestinationLag],
    /// What scans know of every repository at every destination.
    pub scanned: &'a [Scanned],
    /// The listener's requests, by the class of their answers.
    pub requests: &'a [(&'static str, u64)],
}

/// All figures as one text. One that is not known has no line.
pub fn write_metrics(figures: &Figures<'_>) -> String {
    let mut out = Text::default();
    out.family("backup_build_info", "The coordinator's version.");
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    out.sample("backup_build_info", &version, 1.0);
    for family in HOST_FAMILIES {
        out.family(family.name, family.help);
        for host in figures.hosts {
            if let Some(value) = (family.value)(host) {
                out.sample(family.name, &[("host", &host.host)], value);
            }
        }
    }
    let name = "backup_last_run_outcome";
    out.family(name, "1 for the outcome of the last run.");
    for host in figures.hosts {
        for outcome in Outcome::ALL {
            let Some(run) = &host.last_run else { continue };
            let labels = [("host", host.host.as_str()), ("outcome", outcome.as_str())];
            out.sample(name, &labels, f64::from(u8::from(run.outcome == outcome)));
        }
    }
    for family in DESTINATION_FAMILIES {
        out.family(family.name, family.help);
        for destination in figures.destinations {
            if let Some(value) = (family.value)(destination) {
                let labels = [("destination", destination.destination.as_str())];
                out.sample(family.name, &labels, value);
            }
        }
    }
    for family in SCAN_FAMILIES {
        out.family(family.name, family.help);
        for scanned in figures.scanned {
            if let Some(value) = (family.value)(scanned) {
                let labels = [
                    ("repository", scanned.repository.as_str()),
                    ("destination", scanned.destination.as_str()),
                ];
                out.sample(family.name, &labels, value);
            }
        }
    }
    let name = "backup_requests_total";
    out.counter(
        name,
        "Requests to this listener, by the class of their answers.",
    );
    for (class, count) in figures.requests {
        out.sample(name, &[("class", class)], number(*count));
    }
    out.0
}

/// One figure of many things.
struct Family<T> {
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> Option<f64>,
}

const HOST_FAMILIES: &[Family<HostStatus>] = &[
    Family {
        name: "backup_last_success_timestamp",
        help: "When the last good snapshot was committed, in seconds since 1970.",
        value: |host| host.last_good.map(|good| seconds(good.at)),
    },
    Family {
        name: "backup_duration",
        help: "How long the run of the last good snapshot took, in seconds.",
        value: |host| host.last_good.map(|good| good.took.as_secs_f64()),
    },
    Family {
        name: "backup_new_bytes",
        help: "Bytes of the last good snapshot that were new.",
        value: |host| host.last_good.map(|good| number(good.totals.bytes_new)),
    },
    Family {
        name: "backup_bytes",
        help: "Bytes of the last good snapshot.",
        value: |host| host.last_good.map(|good| number(good.totals.bytes)),
    },
    Family {
        name: "backup_files",
        help: "Files in the last good snapshot.",
        value: |host| host.last_good.map(|good| number(good.totals.files)),
    },
    Family {
        name: "backup_warnings",
        help: "Things that the last good snapshot lacks, because they could not be read.",
        value: |host| host.last_good.map(|good| number(good.totals.problems)),
    },
    Family {
        name: "backup_last_verified_timestamp",
        help: "When data was last read back and found whole, in seconds since 1970.",
        value: |host| host.verified.map(seconds),
    },
    Family {
        name: "backup_last_run_timestamp",
        help: "When the last run ended, whatever came of it, in seconds since 1970.",
        value: |host| host.last_run.as_ref().map(|run| seconds(run.finished)),
    },
    Family {
        name: "backup_next_run_timestamp",
        help: "When the next run is due, in seconds since 1970.",
        value: |host| host.next_run.map(seconds),
    },
    Family {
        name: "backup_running",
        help: "1 while the host is being backed up.",
        value: |host| Some(f64::from(u8::from(host.running_since.is_some()))),
    },
    Family {
        name: "backup_sla_seconds",
        help: "How old the last good snapshot may be, in seconds.",
        value: |host| host.sla.map(|sla| sla.duration().as_secs_f64()),
    },
    Family {
        name: "backup_severity",
        help: "0 ok, 1 warning, 2 critical: no snapshot that is as young as was promised.",
        value: |host| {
            Some(match severity(host) {
                Severity::Ok => 0.0,
                Severity::Warning => 1.0,
                Severity::Critical => 2.0,
            })
        },
    },
    Family {
        name: "backup_holds",
        help: "What keeps the host's snapshots from being forgotten.",
        value: |host| Some(number(host.holds.len() as u64)),
    },
];

const DESTINATION_FAMILIES: &[Family<DestinationLag>] = &[
    Family {
        name: "backup_destination_lag_bytes",
        help: "Bytes that a destination does not have yet.",
        value: |destination| Some(number(destination.bytes)),
    },
    Family {
        name: "backup_destination_lag_objects",
        help: "Objects that a destination does not have yet.",
        value: |destination| Some(number(destination.objects)),
    },
    Family {
        name: "backup_destination_lag_since_timestamp",
        help: "Since when the oldest object waits for a destination, in seconds since 1970.",
        value: |destination| destination.since.map(seconds),
    },
    Family {
        name: "backup_destination_failing",
        help: "1 while a destination takes nothing.",
        value: |destination| Some(f64::from(u8::from(destination.problem.is_some()))),
    },
];

const SCAN_FAMILIES: &[Family<Scanned>] = &[
    Family {
        name: "backup_oldest_unverified_seconds",
        help: "Nothing of the repository at the destination was left unread for longer, in seconds.",
        value: |scanned| scanned.unread.map(|unread| unread.as_secs_f64()),
    },
    Family {
        name: "backup_lock_min_remaining_seconds",
        help: "How long the first lock to end lasts, as the last scan of all locks found them, in seconds.",
        value: |scanned| scanned.lock_left.map(|left| left.as_secs_f64()),
    },
];

/// Whole seconds are exact for as long as anybody will ask.
fn seconds(at: Timestamp) -> f64 {
    at.as_second() as f64
}

fn number(value: u64) -> f64 {
    value as f64
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, help: &str) {
        self.push(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.push(&format!("# HELP {name} {help}\n# TYPE {name} counter\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        self.push(&format!("{name}{{{}}} {value}\n", labels.join(",")));
    }

    fn push(&mut self, text: &str) {
        write!(self.0, "{text}").expect("writing to a String cannot fail");
    }
}

/// As the format wants label values: no other character is special.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
