//! Events as records of the audit log, and records as they are shown.

use std::fmt;

use formats::audit::{AuditActor, AuditHead, AuditRecord};

use crate::clock::to_nanos;
use crate::events::Told;
use crate::events::actor::Actor;

/// The record of an event, behind `head`.
pub fn record_of(told: &Told, head: &AuditHead) -> AuditRecord {
    let details = told.event.what.details().into_iter();
    AuditRecord {
        sequence: head.sequence.saturating_add(1),
        previous: head.id,
        at_nanos: to_nanos(told.at),
        actor: audit_actor(&told.actor),
        what: told.event.what.word().to_owned(),
        host: told.event.host.clone(),
        run: told.event.run,
        details: details
            .map(|(name, text)| (name.to_owned(), text))
            .collect(),
    }
}

fn audit_actor(actor: &Actor) -> AuditActor {
    match actor {
        Actor::User { uid, name, through } => AuditActor::User {
            uid: *uid,
            name: name.clone(),
            through: through.clone(),
        },
        Actor::Daemon => AuditActor::Daemon,
        Actor::Token { name } => AuditActor::Token { name: name.clone() },
        Actor::Program => AuditActor::Program,
    }
}

/// Whoever did what a record says.
pub fn actor_of(record: &AuditRecord) -> Actor {
    match &record.actor {
        AuditActor::User { uid, name, through } => Actor::User {
            uid: *uid,
            name: name.clone(),
            through: through.clone(),
        },
        AuditActor::Daemon => Actor::Daemon,
        AuditActor::Token { name } => Actor::Token { name: name.clone() },
        AuditActor::Program => Actor::Program,
    }
}

/// A detail of a record, by its name.
pub fn detail<'a>(record: &'a AuditRecord, name: &str) -> Option<&'a str> {
    let found = record.details.iter().find(|(known, _)| known == name);
    found.map(|(_, text)| text.as_str())
}

/// A record's details on one line, `name=value`.
pub struct Details<'a>(pub &'a AuditRecord);

impl fmt::Display for Details<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, text)) in self.0.details.iter().enumerate() {
            let gap = if number > 0 { " " } else { "" };
            match text.contains(char::is_whitespace) || text.is_empty() {
                true => write!(out, "{gap}{name}={text:?}")?,
                false => write!(out, "{gap}{name}={text}")?,
            }
        }
        Ok(())
    }
}
