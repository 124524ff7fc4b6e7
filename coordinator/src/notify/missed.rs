//! What becomes of messages that a target did not take for long. What they told is over by the time it takes some again: one
//! message in their place says how many there were and names them, and what is still so is told in full. So it is with messages
//! that a target refuses for what they are; where it refuses the one in their place too, there is another one with nothing in it
//! that hosts say, and in the end none, if it takes others. Pure.

use std::collections::HashMap;

use formats::ids::RunId;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::catalog::state::notifications::{Condition, Waiting};
use crate::clock::{local, utc};
use crate::notify::alert::{Level, Message, SHORT_CHARS_MAX, shortened};
use crate::notify::digest::{Details, wrong_now};
use crate::terminal::visible;

/// A message that waits for longer has missed its time.
pub const MISSED_AFTER: SignedDuration = SignedDuration::from_hours(6);
/// A digest that waits for longer has: there is another one by then. Until then it is kept for the ends of logs in it.
const DIGEST_MISSED_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// The most messages that wait for one target: the oldest of more count as missed.
pub const WAITING_MAX: u32 = 500;
/// What missed its time and was refused as often counts as missed although it is still so: perhaps it is this very message that
/// the target does not take.
const ATTEMPTS_MAX: u32 = 10;
/// What was refused as often for what it is counts as missed: perhaps it is something in it that the target does not take. One
/// in the place of such messages is made anew when it was refused as often once more.
pub const REFUSED_MAX: u32 = 3;
/// What says nothing of what hosts say and was refused as often is given up, unless everything is refused.
const REFUSED_BRIEF_MAX: u32 = 10;
/// The most things that are named; the oldest of more are only counted.
const LINES_MAX: usize = 50;
/// The kind of such a message, in its JSON.
const KIND: &str = "missed";

/// A message that missed its time, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Old {
    id: i64,
    /// Whether it is one in the place of others.
    is_summary: bool,
    /// Whether that has no details.
    is_brief: bool,
    /// How often it was refused for what it is.
    refused: u32,
    is_digest: bool,
    created: Timestamp,
    /// Whether it counts as missed whatever it tells.
    is_given_up: bool,
    /// How many messages it is.
    count: u64,
    since: Timestamp,
    lines: Vec<Line>,
}

/// One thing that was to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    at: Timestamp,
    level: Level,
    subject: String,
    facet: String,
    title: String,
    detail: String,
    run: Option<RunId>,
}

/// How things are that lines tell.
#[derive(Debug)]
struct Known<'a> {
    /// What is wrong now.
    conditions: &'a [Condition],
    /// When something was told last to be right again, by subject and facet.
    ended: HashMap<(&'a str, &'a str), Timestamp>,
    details: Details,
}

/// One message, and those in whose place it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Their places, the oldest first.
    pub ids: Vec<i64>,
    /// The message.
    pub message: Message,
    /// How often it counts as refused: once to begin with where one of those was, so that it holds up nothing either.
    pub refused: u32,
}

/// Whether a message that was refused once more is given up, where the target takes others: the shortest one that there could be.
pub fn is_refused_for_good(waiting: &Waiting) -> bool {
    let json: Value = serde_json::from_str(&waiting.message.json).unwrap_or_default();
    json["brief"] == true && waiting.refused >= REFUSED_BRIEF_MAX
}

impl Old {
    /// A message that missed its time.
    pub fn of(waiting: Waiting, is_too_many: bool) -> Self {
        let Waiting {
            id,
            message,
            created,
            attempts,
            refused,
        } = waiting;
        let json: Value = serde_json::from_str(&message.json).unwrap_or_default();
        let is_summary = json["kind"] == KIND;
        let alerts = json["alerts"].as_array().into_iter().flatten();
        let mut lines: Vec<Line> = alerts.map(|alert| Line::of(alert, created)).collect();
        // A digest is one thing.
        if lines.is_empty() {
            lines.push(Line {
                at: created,
                level: Level::of_word(&message.level),
                subject: String::new(),
                facet: String::new(),
                title: message.title,
                detail: String::new(),
                run: None,
            });
        }
        let since = json["since"].as_str().and_then(|since| since.parse().ok());
        Self {
            id,
            is_summary,
            is_brief: json["brief"] == true,
            refused,
            is_digest: json["kind"] == "digest",
            created,
            is_given_up: is_too_many || attempts >= ATTEMPTS_MAX || refused >= REFUSED_MAX,
            count: json["count"].as_u64().filter(|_| is_summary).unwrap_or(1),
            since: since.filter(|_| is_summary).unwrap_or(created),
            lines,
        }
    }

    fn is_missed(&self, conditions: &[Condition], now: Timestamp) -> bool {
        let is_over = match self.is_digest {
            true => now.duration_since(self.created) > DIGEST_MISSED_AFTER,
            false => !self.lines.iter().any(|line| line.is_so(conditions)),
        };
        self.is_summary || self.is_given_up || is_over
    }

    /// Whether it is to be summed up anew, with less.
    fn is_to_be_brief(&self) -> bool {
        self.is_summary && !self.is_brief && self.refused > REFUSED_MAX
    }
}

impl Line {
    fn of(alert: &Value, created: Timestamp) -> Self {
        let text = |name: &str| alert[name].as_str().unwrap_or_default().to_owned();
        Self {
            at: text("at").parse().unwrap_or(created),
            level: Level::of_word(&text("level")),
            subject: text("subject"),
            facet: text("what"),
            title: text("title"),
            detail: shortened(&text("detail"), SHORT_CHARS_MAX),
            run: text("run").parse().ok(),
        }
    }

    /// What it is about.
    fn place(&self) -> (&str, &str) {
        (&self.subject, &self.facet)
    }

    /// Whether what it tells began then and lasts. What was wrong, ended, and is wrong again is told by a later one.
    fn is_so(&self, conditions: &[Condition]) -> bool {
        self.level != Level::Ok
            && conditions.iter().any(|condition| {
                condition.subject == self.subject
                    && condition.facet == self.facet
                    && condition.since <= self.at
            })
    }

    fn json(&self, known: &Known<'_>) -> Value {
        json!({
            "at": utc(self.at),
            "level": self.level.as_str(),
            "subject": self.subject,
            "what": self.facet,
            "title": self.title,
            "detail": known.detail(self),
            "run": self.run.map(|run| run.to_string()),
            "still": self.is_so(known.conditions),
        })
    }

    fn text(&self, known: &Known<'_>) -> String {
        let still = match self.is_so(known.conditions) {
            true => " (still so)",
            false => "",
        };
        let at = local(self.at, &TimeZone::UTC);
        let title = shortened(&self.title, SHORT_CHARS_MAX);
        let mut text = format!("{at} {}: {}{still}\n", self.level, visible(&title));
        let detail = known.detail(self);
        if !detail.is_empty() {
            text.push_str(&format!("  {}\n", visible(detail)));
        }
        text
    }
}

impl<'a> Known<'a> {
    fn of(lines: &[&'a Line], conditions: &'a [Condition], details: Details) -> Self {
        let mut ended: HashMap<(&str, &str), Timestamp> = HashMap::new();
        for line in lines.iter().filter(|line| line.level == Level::Ok) {
            let last = ended.entry(line.place()).or_insert(line.at);
            *last = line.at.max(*last);
        }
        Self {
            conditions,
            ended,
            details,
        }
    }

    /// Whether nobody was told that it is over. What happens once and does not last is never over.
    fn is_open(&self, line: &Line) -> bool {
        let ended = self.ended.get(&line.place());
        line.level != Level::Ok && ended.is_none_or(|ended| *ended < line.at)
    }

    /// What more is to be said of a line: of what is still so the conditions say it.
    fn detail<'l>(&self, line: &'l Line) -> &'l str {
        let is_said = line.is_so(self.conditions) || !self.is_open(line);
        match self.details {
            Details::Short if !is_said => &line.detail,
            Details::Short | Details::None => "",
        }
    }
}

/// The message in the place of those that are missed; nothing where there is none but such a message already, unless that is to
/// be made anew with less in it. `old` is a target's, the oldest first; `conditions` hold now.
pub fn summary(
    old: &[Old],
    conditions: &[Condition],
    coordinator: &str,
    now: Timestamp,
) -> Option<Summary> {
    let missed = old.iter().filter(|one| one.is_missed(conditions, now));
    let missed: Vec<&Old> = missed.collect();
    let is_brief = missed
        .iter()
        .any(|one| one.is_brief || one.is_to_be_brief());
    let is_new = |one: &&Old| !one.is_summary || one.is_to_be_brief();
    if !missed.iter().any(is_new) {
        return None;
    }
    let count: u64 = missed.iter().map(|one| one.count).sum();
    let since = missed.iter().map(|one| one.since).min()?;
    let lines: Vec<&Line> = missed.iter().flat_map(|one| &one.lines).collect();
    let named = lines
        .get(lines.len().saturating_sub(LINES_MAX)..)
        .unwrap_or_default();
    let details = match is_brief {
        true => Details::None,
        false => Details::Short,
    };
    let known = Known::of(&lines, conditions, details);
    let is_bad = |line: &&&Line| line.is_so(conditions) || known.is_open(line);
    let level = lines.iter().filter(is_bad).map(|line| line.level).max();
    // Whoever is not told for hours should look why, whatever it was.
    let level = level.unwrap_or(Level::Warning).max(Level::Warning);
    let title = title(count, since);
    let mut body = format!("{title}, in short:\n");
    if named.len() < lines.len() {
        body.push_str("(the last ones)\n");
    }
    body.extend(named.iter().map(|line| line.text(&known)));
    let at = local(now, &TimeZone::UTC);
    match wrong_now(conditions, &TimeZone::UTC, details) {
        wrong if wrong.is_empty() => body.push_str(&format!("\nAt {at} nothing was wrong.\n")),
        wrong => body.push_str(&format!("\nWhat was not as it should be at {at}:\n{wrong}")),
    }
    let ids: Vec<i64> = missed.iter().map(|one| one.id).collect();
    // One with less in it is another message.
    let brief = if is_brief { " brief" } else { "" };
    let key = format!(
        "{coordinator} {KIND} {} {}{brief}",
        ids.first()?,
        ids.last()?
    );
    let json = json!({
        "id": key,
        "kind": KIND,
        "coordinator": coordinator,
        "at": utc(now),
        "level": level.as_str(),
        "title": title,
        "text": body,
        "count": count,
        "since": utc(since),
        "brief": is_brief,
        "alerts": named.iter().map(|line| line.json(&known)).collect::<Value>(),
    });
    Some(Summary {
        ids,
        message: Message {
            key,
            level,
            title,
            body,
            json,
        },
        refused: counted_refusals(&missed, is_brief),
    })
}

fn title(count: u64, since: Timestamp) -> String {
    let (messages, were) = match count {
        1 => ("message", "was"),
        _ => ("messages", "were"),
    };
    let since = local(since, &TimeZone::UTC);
    format!("{count} {messages} {were} not delivered since {since}")
}

/// How often a message in the place of others counts as refused: a brief one begins anew, and another one goes on where such a
/// message was before.
fn counted_refusals(missed: &[&Old], is_brief: bool) -> u32 {
    if is_brief {
        return 1;
    }
    let of_one = |one: &&Old| match one.is_summary {
        true => one.refused,
        false => one.refused.min(1),
    };
    missed.iter().map(of_one).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use jiff::{SignedDuration, Timestamp};

    use super::{ATTEMPTS_MAX, LINES_MAX, Old, Summary, summary};
    use crate::catalog::state::notifications::{Condition, Outgoing, Waiting};
    use crate::notify::alert::{Alert, Level, Message};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn minute(number: i64) -> Timestamp {
        NOW + SignedDuration::from_mins(number)
    }

    fn alert(number: i64, level: Level, facet: &str) -> Alert {
        Alert {
            at: minute(number),
            level,
            subject: "host:web1".to_owned(),
            facet: facet.to_owned(),
            title: format!("{facet} {number}"),
            detail: "why".to_owned(),
            run: None,
        }
    }

    fn waiting(id: i64, message: &Message, attempts: u32) -> Waiting {
        Waiting {
            id,
            message: Outgoing {
                key: message.key.clone(),
                target: "hook".to_owned(),
                level: message.level.to_string(),
                title: message.title.clone(),
                body: message.body.clone(),
                json: message.json.to_string(),
            },
            created: minute(id),
            attempts,
            refused: 0,
        }
    }

    fn old(id: i64, level: Level, facet: &str, attempts: u32) -> Old {
        let alerts = [alert(id, level, facet)];
        let message = Message::of_alerts(&alerts, id.to_string(), "c", minute(id)).unwrap();
        Old::of(waiting(id, &message, attempts), false)
    }

    fn condition(facet: &str, since: i64) -> Condition {
        Condition {
            subject: "host:web1".to_owned(),
            facet: facet.to_owned(),
            since: minute(since),
            detail: "why".to_owned(),
            run: None,
        }
    }

    fn again(summary: &Summary) -> Old {
        Old::of(waiting(summary.ids[0], &summary.message, 0), false)
    }

    #[test]
    fn what_is_over_becomes_one_message_and_what_is_so_stays() {
        let waits = [
            old(1, Level::Warning, "run", 3),
            old(2, Level::Critical, "late", 0),
            old(3, Level::Ok, "run", 0),
            old(4, Level::Warning, "run", 0),
        ];
        // The run failed once more at 4, and the host is late.
        let wrong = [condition("late", 2), condition("run", 4)];
        let told = summary(&waits, &wrong, "c", minute(400)).unwrap();
        assert_eq!(told.ids, [1, 3]);
        assert_eq!(told.message.level, Level::Warning);
        assert_eq!(
            told.message.title,
            "2 messages were not delivered since 1970-01-01T00:01:00+00:00"
        );
        let body = &told.message.body;
        for words in ["warning: run 1\n", "ok: run 3\n", "web1 late: why"] {
            assert!(body.contains(words), "{words}: {body}");
        }
        assert!(!body.contains("still so"), "{body}");
        assert_eq!(summary(&waits[1..2], &wrong, "c", NOW), None);
    }

    #[test]
    fn what_is_so_and_is_refused_all_the_time_makes_way_and_is_marked() {
        let wrong = [condition("late", 1)];
        let waits = [old(1, Level::Critical, "late", ATTEMPTS_MAX)];
        let told = summary(&waits, &wrong, "c", minute(400)).unwrap();
        assert_eq!(told.message.level, Level::Critical);
        assert!(told.message.body.contains("late 1 (still so)"));
        assert_eq!(told.message.json["alerts"][0]["still"], true);
    }

    #[test]
    fn what_happened_once_keeps_its_level_and_its_text_and_what_ended_does_not() {
        let waits = [
            old(1, Level::Critical, "audit-damaged", 0),
            old(2, Level::Critical, "quota", 0),
            old(3, Level::Ok, "quota", 0),
        ];
        let told = summary(&waits, &[], "c", minute(400)).unwrap().message;
        assert_eq!(told.level, Level::Critical);
        let lines =
            "critical: audit-damaged 1\n  why\n1970-01-01T00:02:00+00:00 critical: quota 2\n1970";
        assert!(told.body.contains(lines), "{}", told.body);
        assert_eq!(told.json["alerts"][0]["detail"], "why");
        assert_eq!(told.json["alerts"][1]["detail"], "");
        let told = summary(&waits[1..], &[], "c", minute(400)).unwrap().message;
        assert_eq!(told.level, Level::Warning);
        // What was right and is wrong again is not over.
        let again = [&waits[2..], &[old(4, Level::Critical, "quota", 0)]].concat();
        let told = summary(&again, &[], "c", minute(400)).unwrap().message;
        assert_eq!(told.level, Level::Critical);
    }

    #[test]
    fn what_happened_once_is_told_in_full_when_more_is_added() {
        let once = [old(1, Level::Critical, "audit-damaged", 0)];
        let first = summary(&once, &[], "c", minute(400)).unwrap();
        let both = [again(&first), old(2, Level::Ok, "run", 0)];
        let told = summary(&both, &[], "c", minute(800)).unwrap().message;
        assert_eq!(told.level, Level::Critical);
        assert!(
            told.body.contains("audit-damaged 1\n  why\n"),
            "{}",
            told.body
        );
    }

    #[test]
    fn more_that_is_missed_is_added_and_the_oldest_only_counted() {
        let many: Vec<Old> = (1..=60).map(|id| old(id, Level::Ok, "run", 0)).collect();
        let first = summary(&many, &[], "c", minute(400)).unwrap();
        // By itself it stays as it is.
        assert_eq!(summary(&[again(&first)], &[], "c", minute(401)), None);
        let both = [again(&first), old(61, Level::Ok, "run", 0)];
        let told = summary(&both, &[], "c", minute(800)).unwrap();
        assert_eq!(told.ids, [1, 61]);
        assert_ne!(told.message.key, first.message.key);
        assert_eq!(
            told.message.title,
            "61 messages were not delivered since 1970-01-01T00:01:00+00:00"
        );
        let alerts = told.message.json["alerts"].as_array().unwrap();
        assert_eq!(alerts.len(), LINES_MAX);
        assert_eq!(alerts[LINES_MAX - 1]["title"], "run 61");
        assert_eq!(alerts[0]["title"], "run 12");
    }

    #[test]
    fn a_digest_has_a_day_and_is_named_by_its_title_then() {
        let mut message = Message::of_alerts(&[alert(1, Level::Ok, "x")], String::new(), "c", NOW);
        let digest = message.as_mut().unwrap();
        digest.title = "daily digest".to_owned();
        digest.json = serde_json::json!({"kind": "digest"});
        let waits = [Old::of(waiting(7, digest, 0), false)];
        assert_eq!(summary(&waits, &[], "c", minute(400)), None);
        let told = summary(&waits, &[], "c", minute(2_000)).unwrap();
        assert!(told.message.body.contains("ok: daily digest\n"));
        assert!(told.message.body.contains("nothing was wrong"));
    }
}
