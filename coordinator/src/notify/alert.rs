//! One thing that is told, and messages made of such things.

use std::fmt;

use formats::ids::RunId;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::catalog::state::notifications::Outgoing;
use crate::clock::{local, utc};
use crate::terminal::visible;

/// The most alerts that a message spells out.
const ALERTS_SHOWN_MAX: usize = 50;
/// The longest text of an alert: errors quote what hosts say.
const DETAIL_CHARS_MAX: usize = 2_000;
/// How much of a text is told where many are told together.
pub const SHORT_CHARS_MAX: usize = 200;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is right again, or is only to be known.
    Ok,
    /// Somebody should look.
    Warning,
    /// Somebody must act.
    Critical,
}

impl Level {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The level of a word; one that is not known is not made less of.
    pub fn of_word(word: &str) -> Self {
        let levels = [Self::Ok, Self::Warning, Self::Critical];
        let level = levels.into_iter().find(|level| level.as_str() == word);
        level.unwrap_or(Self::Critical)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// When.
    pub at: Timestamp,
    /// How bad it is.
    pub level: Level,
    /// With what: `host:web1`, `destination:nas`, `coordinator`.
    pub subject: String,
    /// What of it.
    pub facet: String,
    /// In one line.
    pub title: String,
    /// What more is known.
    pub detail: String,
    /// In which run.
    pub run: Option<RunId>,
}

impl Alert {
    fn json(&self) -> Value {
        json!({
            "at": utc(self.at),
            "level": self.level.as_str(),
            "subject": self.subject,
            "what": self.facet,
            "title": self.title,
            "detail": shortened(&self.detail, DETAIL_CHARS_MAX),
            "run": self.run.map(|run| run.to_string()),
        })
    }
}

/// What is delivered to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is of; the same message has the same one, however often it arrives.
    pub key: String,
    /// How bad it is.
    pub level: Level,
    /// In one line.
    pub title: String,
    /// In full, for people.
    pub body: String,
    /// In full, for programs.
    pub json: Value,
}

impl Message {
    /// The message of some alerts; nothing without any.
    pub fn of_alerts(
        alerts: &[Alert],
        key: String,
        coordinator: &str,
        now: Timestamp,
    ) -> Option<Self> {
        let level = alerts.iter().map(|alert| alert.level).max()?;
        let title = match alerts {
            [only] => visible(&only.title),
            many => {
                let critical = many.iter().filter(|alert| alert.level == Level::Critical);
                match critical.count() {
                    0 => format!("{} alerts", many.len()),
                    count => format!("{} alerts, {count} critical", many.len()),
                }
            }
        };
        let shown = alerts.get(..ALERTS_SHOWN_MAX).unwrap_or(alerts);
        let mut body = String::new();
        for alert in shown {
            body.push_str(&paragraph(alert));
        }
        if alerts.len() > shown.len() {
            body.push_str(&format!("and {} more\n", alerts.len() - shown.len()));
        }
        let shown: Vec<Value> = shown.iter().map(Alert::json).collect();
        let json = json!({
            "id": key,
            "kind": "alert",
            "coordinator": coordinator,
            "at": utc(now),
            "level": level.as_str(),
            "title": title,
            "text": body,
            "alerts": shown,
        });
        Some(Self {
            key,
            level,
            title,
            body,
            json,
        })
    }
}

impl Message {
    /// The message on its way to a target.
    pub fn to(&self, target: &str) -> Outgoing {
        Outgoing {
            key: self.key.clone(),
            target: target.to_owned(),
            level: self.level.to_string(),
            title: self.title.clone(),
            body: self.body.clone(),
            json: self.json.to_string(),
        }
    }
}

impl From<Outgoing> for Message {
    fn from(outgoing: Outgoing) -> Self {
        Self {
            key: outgoing.key,
            level: Level::of_word(&outgoing.level),
            title: outgoing.title,
            body: outgoing.body,
            json: serde_json::from_str(&outgoing.json).unwrap_or_default(),
        }
    }
}

fn paragraph(alert: &Alert) -> String {
    let mut text = format!(
        "{} {}: {}\n",
        local(alert.at, &TimeZone::UTC),
        alert.level,
        visible(&alert.title)
    );
    if !alert.detail.is_empty() {
        text.push_str(&format!(
            "  {}\n",
            visible(&shortened(&alert.detail, DETAIL_CHARS_MAX))
        ));
    }
    if let Some(run) = alert.run {
        text.push_str(&format!("  run {run}\n"));
    }
    text
}

/// A text, or its beginning where it is longer.
pub fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
