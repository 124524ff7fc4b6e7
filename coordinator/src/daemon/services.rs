//! What runs in the daemon beside the backups, for as long as it does. This is the one place where such services are started:
//! a function that takes what it needs of [`Parts`], spawned onto the set. It ends when [`Parts::stop`] is cancelled; the daemon
//! waits for it for a while, and goes on without it if it fails.

pub mod destinations;
pub mod housekeeping;
pub mod telling;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backup::threaded::spawn;
use crate::coordinator::Coordinator;
use crate::daemon::handle::DaemonHandle;
use crate::daemon::services::destinations::watch_destinations;
use crate::daemon::services::housekeeping::keep_house;
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
    /// Cancelled when the daemon ends, after the last run has.
    pub stop: CancellationToken,
}

/// Starts all services.
pub fn start(parts: &Parts) -> JoinSet<()> {
    let mut services = JoinSet::new();
    let events = parts.events.listen();
    services.spawn(log_events(events, parts.stop.clone()));
    let house = parts.clone();
    spawn(&mut services, move || keep_house(house));
    services.spawn(answer_others(parts.coordinator.clone(), parts.stop.clone()));
    services.spawn(watch_destinations(
        parts.coordinator.clone(),
        parts.stop.clone(),
    ));
    tell_people(&mut services, parts);
    services
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
