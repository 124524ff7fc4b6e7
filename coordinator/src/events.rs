//! What happens, told by whoever does it to whoever wants to know: the audit log and the notifications. Telling never
//! blocks and never fails; a listener that is too slow loses the oldest events, and hears how many.

pub mod actor;
pub mod what;

use std::sync::Arc;

use formats::ids::RunId;
use jiff::Timestamp;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::clock::Clock;
use crate::events::actor::Actor;
use crate::events::what::What;

/// How many events wait for a listener.
pub const EVENTS_WAITING_MAX: usize = 1024;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The host that it is about, by its name in hosts.toml.
    pub host: Option<String>,
    /// The run in which it happened.
    pub run: Option<RunId>,
    /// Who did it, where that is not who runs this program.
    pub by: Option<Actor>,
    /// What.
    pub what: What,
}

impl Event {
    /// Something that is about no single host.
    pub fn new(what: What) -> Self {
        Self {
            host: None,
            run: None,
            by: None,
            what,
        }
    }

    /// Something that is about a host.
    pub fn of_host(host: &str, what: What) -> Self {
        Self {
            host: Some(host.to_owned()),
            ..Self::new(what)
        }
    }

    /// The same, in a run.
    pub fn in_run(self, run: RunId) -> Self {
        Self {
            run: Some(run),
            ..self
        }
    }

    /// The same, done by somebody else than who runs this program.
    pub fn by(self, actor: Actor) -> Self {
        Self {
            by: Some(actor),
            ..self
        }
    }
}

/// An event as it is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When it was told.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// What it was.
    pub event: Event,
}

/// Where events are told. Cheap to clone; all clones lead to the same listeners.
#[derive(Debug, Clone, Default)]
pub struct EventSink(Option<Channel>);

#[derive(Debug, Clone)]
struct Channel {
    sender: Sender<Told>,
    clock: Arc<dyn Clock>,
    actor: Actor,
}

impl EventSink {
    /// A sink to which nobody can listen.
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// A sink. What is told is done by `actor`, unless the event says otherwise.
    pub fn new(clock: Arc<dyn Clock>, actor: Actor) -> Self {
        let (sender, _) = broadcast::channel(EVENTS_WAITING_MAX);
        Self(Some(Channel {
            sender,
            clock,
            actor,
        }))
    }

    /// The same sink for what `actor` does.
    pub fn acting_as(&self, actor: Actor) -> Self {
        let channel = self.0.clone();
        Self(channel.map(|channel| Channel { actor, ..channel }))
    }

    /// Tells an event. Returns at once, whoever listens.
    pub fn tell(&self, event: Event) {
        let Some(channel) = &self.0 else {
            return;
        };
        let told = Told {
            at: channel.clock.now(),
            actor: event.by.clone().unwrap_or_else(|| channel.actor.clone()),
            event,
        };
        tracing::debug!(what = told.event.what.word(), "event");
        if let Err(unheard) = channel.sender.send(told) {
            tracing::debug!(what = unheard.0.event.what.word(), "nobody listens");
        }
    }

    /// Hears everything that is told from now on.
    pub fn listen(&self) -> EventStream {
        EventStream(self.0.as_ref().map(|channel| Listening {
            receiver: channel.sender.subscribe(),
            clock: Arc::clone(&channel.clock),
        }))
    }
}

/// A listener's end.
#[derive(Debug)]
pub struct EventStream(Option<Listening>);

#[derive(Debug)]
struct Listening {
    receiver: Receiver<Told>,
    clock: Arc<dyn Clock>,
}

impl EventStream {
    /// The next event; nothing once every sink is gone and all was heard. Losing the future loses no event.
    pub async fn next(&mut self) -> Option<Told> {
        let listening = self.0.as_mut()?;
        match listening.receiver.recv().await {
            Ok(told) => Some(told),
            Err(RecvError::Lagged(count)) => Some(listening.dropped(count)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event that is there already.
    pub fn next_waiting(&mut self) -> Option<Told> {
        let listening = self.0.as_mut()?;
        match listening.receiver.try_recv() {
            Ok(told) => Some(told),
            Err(TryRecvError::Lagged(count)) => Some(listening.dropped(count)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

impl Listening {
    fn dropped(&self, count: u64) -> Told {
        tracing::error!(count, "events were told faster than they were heard");
        Told {
            at: self.clock.now(),
            actor: Actor::Program,
            event: Event::new(What::EventsDropped { count }),
        }
    }
}

#[cfg(test)]
mod tests;
