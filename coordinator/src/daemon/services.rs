//! What runs in the daemon beside the backups, for as long as it does. This is the one place where such services are started:
//! a function that takes what it needs of [`Parts`], spawned onto the set. It ends when [`Parts::stop`] is cancelled; the daemon
//! waits for it for a while. One that fails is begun again by [`supervise()`], and the daemon goes on without it meanwhile.

pub mod destinations;
pub mod housekeeping;
pub mod supervise;
pub mod telling;

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backup::threaded::spawn;
use crate::coordinator::Coordinator;
use crate::daemon::handle::DaemonHandle;
use crate::daemon::health::Health;
use crate::daemon::services::destinations::watch_destinations;
use crate::daemon::services::housekeeping::keep_house;
use crate::daemon::services::supervise::{Running, supervise};
use crate::daemon::services::telling::{answer_others, tell_people};
use crate::events::{EventSink, EventStream};

/// What a service has to work with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The coordinator with the configuration that is in force; changes when that does.
    pub coordinator: watch::Receiver<Arc<Coordinator>>,
    /// Where events are told. Who listens from within [`start`] hears all of them, the daemon's own start included.
    pub events: EventSink,
    /// Asks the daemon: what goes on, a reload, a run.
    pub daemon: DaemonHandle,
    /// How the daemon is, for whoever asks.
    pub health: Health,
    /// Cancelled when the daemon ends, after the last run has.
    pub stop: CancellationToken,
}

/// How a service is begun.
type Begin = fn(&Parts) -> Running;

/// The services, by the names that people see.
const SERVICES: [(&str, Begin); 5] = [
    ("event log", |parts| {
        let events = parts.events.listen();
        running(log_events(events, parts.stop.clone()))
    }),
    ("housekeeping", |parts| {
        let (parts, mut running) = (parts.clone(), Running::new());
        spawn(&mut running, move || keep_house(parts).map(Ok));
        running
    }),
    ("listener", |parts| {
        let mut running = Running::new();
        running.spawn(answer_others(parts.clone()));
        running
    }),
    ("destinations", |parts| {
        let (coordinator, stop) = (parts.coordinator.clone(), parts.stop.clone());
        running(watch_destinations(coordinator, stop))
    }),
    ("notifier", tell_people),
];

/// Starts all services, and begins those again that fail.
pub fn start(parts: &Parts) -> JoinSet<()> {
    let mut services = JoinSet::new();
    for (name, begin) in SERVICES {
        let (first, again) = (begin(parts), parts.clone());
        let (health, stop) = (parts.health.clone(), parts.stop.clone());
        let begin = move || begin(&again);
        services.spawn(supervise(name, first, begin, health, stop));
    }
    services
}

fn running(work: impl Future<Output = ()> + Send + 'static) -> Running {
    let mut running = Running::new();
    running.spawn(work.map(Ok));
    running
}

/// Every event in the program's own log, for whoever watches that.
async fn log_events(mut events: EventStream, stop: CancellationToken) {
    loop {
        // Losing either arm is safe: an event stays in its channel, and a token stays cancelled.
        let told = tokio::select! {
            told = events.next() => told,
            () = stop.cancelled() => return,
        };
        let Some(told) = told else { return };
        let event = &told.event;
        let details: Vec<String> = event
            .what
            .details()
            .into_iter()
            .map(|(name, text)| format!("{name}={text}"))
            .collect();
        tracing::info!(
            what = event.what.word(),
            host = event.host.as_deref(),
            by = %told.actor,
            details = details.join(" "),
            "event"
        );
    }
}
