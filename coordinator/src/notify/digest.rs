//! The daily digest: how every host and destination is, and where logs end. With the ends of the logs in it, whoever keeps
//! the digests can tell later whether history was changed, also by the coordinator itself. Pure.

use formats::audit::AuditHead;
use formats::ids::{RecordId, RepositoryId};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::catalog::state::notifications::Condition;
use crate::clock::{local, utc};
use crate::notify::alert::{Level, Message, SHORT_CHARS_MAX, shortened};
use crate::status::json::{DestinationJson, HostStatusJson};
use crate::status::severity::{Severity, severity};
use crate::status::{DestinationLag, HostStatus};
use crate::storage::destinations::not_filled;
use crate::terminal::{Align, duration_text, size_text, visible, write_table};

/// The most conditions that are told, and how long that is at most.
const WRONG_LINES_MAX: usize = 200;
const WRONG_BYTES_MAX: usize = 64 << 10;

/// The end of a repository's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// The host's or the group's name.
    pub name: String,
    /// The repository.
    pub repository: RepositoryId,
    /// The number of its last record.
    pub sequence: u64,
    /// That record.
    pub record: RecordId,
}

/// What a digest tells.
#[derive(Debug, Clone, Copy)]
pub struct Digest<'a> {
    /// Every host.
    pub hosts: &'a [HostStatus],
    /// Every destination that is known of.
    pub destinations: &'a [DestinationLag],
    /// What is wrong at present.
    pub conditions: &'a [Condition],
    /// Where each log ends.
    pub logs: &'a [LogHead],
    /// Where the audit log ends.
    pub audit: AuditHead,
    /// The coordinator's machine.
    pub coordinator: &'a str,
    /// Whose hours are shown.
    pub zone: &'a TimeZone,
    /// When it was due; one goes out for each such time.
    pub due: Timestamp,
    /// The time now.
    pub now: Timestamp,
}

/// How much of conditions is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Details {
    /// What more is known, shortened.
    Short,
    /// Nothing of what hosts and others say.
    None,
}

/// When a digest was due last, at or before `now`.
pub fn last_due(at: Time, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    let today = now.to_zoned(zone.clone()).date();
    let days: [Span; 2] = [0.days(), 1.days()];
    days.into_iter().find_map(|back| {
        let day = today.checked_sub(back).ok()?;
        // A time that is skipped is as much later, one that is there twice is the first.
        let due = zone.to_ambiguous_zoned(day.to_datetime(at)).compatible();
        due.ok()
            .map(|due| due.timestamp())
            .filter(|due| *due <= now)
    })
}

impl Digest<'_> {
    /// The message.
    pub fn message(&self) -> Message {
        let of = |wanted: Severity| {
            let hosts = self.hosts.iter();
            hosts.filter(|host| severity(host) == wanted).count()
        };
        let (critical, warnings) = (of(Severity::Critical), of(Severity::Warning));
        let level = match (critical, warnings) {
            (0, 0) => Level::Ok,
            (0, _) => Level::Warning,
            _ => Level::Critical,
        };
        let title = format!(
            "daily digest: {} hosts, {critical} critical, {warnings} with warnings",
            self.hosts.len()
        );
        let key = format!("digest {}", utc(self.due));
        let body = self.body();
        let json = json!({
            "id": key,
            "kind": "digest",
            "coordinator": self.coordinator,
            "at": utc(self.now),
            "level": level.as_str(),
            "title": title,
            "text": body,
            "hosts": self.hosts.iter().map(|host| host_json(host, self.now)).collect::<Value>(),
            "destinations": self
                .destinations
                .iter()
                .map(|one| json!(DestinationJson::from(one)))
                .collect::<Value>(),
            "logs": self.logs.iter().map(log_json).collect::<Value>(),
            "audit": { "sequence": self.audit.sequence, "record": self.audit.id.to_string() },
        });
        Message {
            key,
            level,
            title,
            body,
            json,
        }
    }

    fn body(&self) -> String {
        let mut out = format!("{}\n\n", local(self.now, self.zone));
        out.push_str(&self.hosts_table());
        let wrong = wrong_now(self.conditions, self.zone, Details::Short);
        if !wrong.is_empty() {
            out.push_str("\nWhat is not as it should be:\n");
            out.push_str(&wrong);
        }
        for lag in self.destinations.iter().filter(|lag| lag.objects > 0) {
            let (name, bytes) = (&lag.destination, size_text(lag.bytes));
            out.push_str(&format!("\nDestination {name} lacks {bytes}\n"));
        }
        for lag in self.destinations.iter().filter(|lag| lag.not_filled) {
            let name = &lag.destination;
            let remedy = not_filled(name);
            out.push_str(&format!("\nDestination {name} is {remedy}\n"));
        }
        out.push_str("\nWhere logs end, as `audit check` and `audit verify --witness` take it:\n");
        for log in self.logs {
            let (repository, sequence) = (log.repository, log.sequence);
            out.push_str(&format!(
                "{repository} {sequence} {} - {}\n",
                log.record,
                visible(&log.name)
            ));
        }
        out.push_str(&format!(
            "audit {}:{}\n",
            self.audit.sequence, self.audit.id
        ));
        out
    }

    fn hosts_table(&self) -> String {
        let columns = [
            ("host", Align::Left),
            ("", Align::Left),
            ("last good", Align::Left),
            ("age", Align::Right),
            ("size", Align::Right),
            ("new", Align::Right),
            ("last run", Align::Left),
        ];
        let mut worst_first: Vec<&HostStatus> = self.hosts.iter().collect();
        worst_first.sort_by_key(|host| std::cmp::Reverse(severity(host)));
        let dash = || "-".to_owned();
        let rows: Vec<Vec<String>> = worst_first
            .into_iter()
            .map(|host| {
                let good = host.last_good.as_ref();
                let age = host
                    .age(self.now)
                    .map(|age| duration_text(age.unsigned_abs()));
                vec![
                    host.host.clone(),
                    severity(host).as_str().to_owned(),
                    good.map_or_else(dash, |good| local(good.at, self.zone)),
                    age.unwrap_or_else(dash),
                    good.map_or_else(dash, |good| size_text(good.totals.bytes)),
                    good.map_or_else(dash, |good| size_text(good.totals.bytes_new)),
                    host.last_run
                        .as_ref()
                        .map_or_else(dash, |run| run.outcome.to_string()),
                ]
            })
            .collect();
        let mut table = Vec::new();
        write_table(&mut table, &columns, &rows).expect("writing to a Vec cannot fail");
        String::from_utf8_lossy(&table).into_owned()
    }
}

/// What is not as it should be, a line for each that says more than since when.
/// There is an end to it, however much is wrong.
pub fn wrong_now(conditions: &[Condition], zone: &TimeZone, details: Details) -> String {
    let told = conditions.iter().filter(|one| !one.detail.is_empty());
    let told: Vec<&Condition> = told.collect();
    let mut out = String::new();
    for (number, condition) in told.iter().enumerate() {
        let subject = condition.subject.trim_start_matches("host:");
        let since = local(condition.since, zone);
        let detail = match details {
            Details::Short => format!(": {}", shortened(&condition.detail, SHORT_CHARS_MAX)),
            Details::None => String::new(),
        };
        let line = format!("{subject} {}{detail}", condition.facet);
        let line = format!("  since {since} {}\n", visible(&line));
        if number == WRONG_LINES_MAX || out.len() + line.len() > WRONG_BYTES_MAX {
            out.push_str(&format!("  and {} more\n", told.len() - number));
            break;
        }
        out.push_str(&line);
    }
    out
}

fn host_json(host: &HostStatus, now: Timestamp) -> Value {
    let mut value = json!(HostStatusJson::of(host, now));
    if let Some(map) = value.as_object_mut() {
        map.insert("severity".to_owned(), json!(severity(host).as_str()));
    }
    value
}

fn log_json(log: &LogHead) -> Value {
    json!({
        "name": log.name,
        "repository": log.repository.to_string(),
        "sequence": log.sequence,
        "record": log.record.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::civil::time;
    use jiff::tz::TimeZone;

    use super::{Details, SHORT_CHARS_MAX, WRONG_BYTES_MAX, WRONG_LINES_MAX, last_due, wrong_now};
    use crate::catalog::state::notifications::Condition;

    fn due(now: &str) -> String {
        let zone = TimeZone::get("Europe/Zurich").expect("a zone");
        let now: Timestamp = now.parse().expect("a time");
        let due = last_due(time(2, 30, 0, 0), &zone, now).expect("there is always one");
        due.to_string()
    }

    #[test]
    fn what_is_wrong_has_an_end_however_much_and_whatever_it_is() {
        let wrong = |count: usize, detail: &str| {
            let one = |number| Condition {
                subject: format!("host:web{number}"),
                facet: "run".to_owned(),
                since: Timestamp::UNIX_EPOCH,
                detail: detail.to_owned(),
                run: None,
            };
            (0..count).map(one).collect::<Vec<_>>()
        };
        let told = |wrong: &[Condition], details| wrong_now(wrong, &TimeZone::UTC, details);
        let long = told(&wrong(1, &"x".repeat(5_000)), Details::Short);
        assert!(long.ends_with("x...\n"), "{long}");
        assert!(long.len() < SHORT_CHARS_MAX + 100, "{long}");
        let many = told(&wrong(WRONG_LINES_MAX + 3, "x"), Details::Short);
        assert_eq!(many.lines().count(), WRONG_LINES_MAX + 1);
        assert!(many.ends_with("web199 run: x\n  and 3 more\n"), "{many}");
        // What is shown of a control character is longer than it.
        let wide = told(
            &wrong(WRONG_LINES_MAX, &"\u{9b}".repeat(500)),
            Details::Short,
        );
        assert!(wide.len() < WRONG_BYTES_MAX + 100);
        assert!(wide.ends_with(" more\n"));
        let bare = told(&wrong(1, "x"), Details::None);
        assert!(bare.ends_with(" web0 run\n"), "{bare}");
    }

    #[test]
    fn a_digest_is_due_once_a_day_also_when_the_clocks_change() {
        assert_eq!(due("2026-11-20T01:29:59Z"), "2026-11-19T01:30:00Z");
        assert_eq!(due("2026-11-20T01:30:00Z"), "2026-11-20T01:30:00Z");
        // 02:30 is skipped on the 29th of March, and there twice on the 25th of October.
        assert_eq!(due("2026-03-29T01:29:59Z"), "2026-03-28T01:30:00Z");
        assert_eq!(due("2026-03-29T01:30:00Z"), "2026-03-29T01:30:00Z");
        assert_eq!(due("2026-10-25T00:30:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(due("2026-10-25T23:00:00Z"), "2026-10-25T00:30:00Z");
    }
}
