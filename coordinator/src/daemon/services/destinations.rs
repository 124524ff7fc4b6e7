//! Looks after destinations: tells when one begins to lack what others have, and when it has everything again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::catalog::state::State;
use crate::coordinator::Coordinator;
use crate::database::DatabaseError;
use crate::events::Event;
use crate::events::what::What;
use crate::status::DestinationLag;

/// How often one looks.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long the append-server may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// What waits for less long is on its way.
const BEHIND_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// Looks until `stop` is cancelled.
pub async fn watch_destinations(
    coordinator: watch::Receiver<Arc<Coordinator>>,
    stop: CancellationToken,
) {
    let mut behind = told_behind(&Arc::clone(&coordinator.borrow())).unwrap_or_else(|error| {
        tracing::error!(%error, "which destinations were behind is not known");
        BTreeSet::new()
    });
    loop {
        // Losing either arm is safe: a look is repeated, and a token stays cancelled.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let current = Arc::clone(&coordinator.borrow());
        let asked = timeout(DEADLINE, current.storage.destinations()).await;
        let Ok(Ok(states)) = asked else {
            tracing::warn!("the append-server does not say how destinations are");
            continue;
        };
        for state in states {
            let lag = DestinationLag::from(state);
            if let Some(what) = change(&mut behind, &lag, current.clock.now()) {
                current.events.tell(Event::new(what));
            }
        }
    }
}

/// The destinations of which people were told that they are behind: one may have caught up while no daemon ran.
fn told_behind(current: &Coordinator) -> Result<BTreeSet<String>, DatabaseError> {
    let state = State::open(&current.state_dir.state_file())?;
    let names = state.conditions()?.into_iter().filter_map(|condition| {
        let name = condition.subject.strip_prefix("destination:")?;
        Some(name.to_owned())
    });
    Ok(names.collect())
}

/// What is to be told of a destination, which was behind if it is in `behind`.
fn change(behind: &mut BTreeSet<String>, lag: &DestinationLag, now: Timestamp) -> Option<What> {
    let destination = lag.destination.clone();
    // Far in the future is what a clock has written that was ahead: nobody knows for how long that has waited.
    let waits_long = lag
        .since
        .is_some_and(|since| now.duration_since(since).abs() > BEHIND_AFTER);
    // What is not filled stays so until a person does something.
    if lag.not_filled || lag.objects > 0 && (waits_long || lag.problem.is_some()) {
        return behind
            .insert(destination.clone())
            .then(|| What::DestinationBehind {
                destination,
                bytes: lag.bytes,
                objects: lag.objects,
                since: lag.since,
                problem: lag.problem.clone(),
            });
    }
    // One that still has some on its way is not said to be back.
    let is_back = lag.objects == 0 && !lag.not_filled && behind.remove(&destination);
    is_back.then_some(What::DestinationBack { destination })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;

    use super::{BEHIND_AFTER, change};
    use crate::status::DestinationLag;

    #[test]
    fn a_destination_is_told_of_when_it_falls_behind_and_when_it_has_everything_again() {
        let mut behind = BTreeSet::new();
        let lag = |objects, problem: Option<&str>| DestinationLag {
            destination: "nas".to_owned(),
            objects,
            bytes: objects,
            since: (objects > 0).then_some(Timestamp::UNIX_EPOCH),
            problem: problem.map(str::to_owned),
            not_filled: false,
        };
        let soon = Timestamp::UNIX_EPOCH;
        let late = Timestamp::UNIX_EPOCH + BEHIND_AFTER + BEHIND_AFTER;
        let mut told =
            |lag: DestinationLag, now| change(&mut behind, &lag, now).map(|what| what.word());
        assert_eq!(told(lag(0, None), soon), None);
        assert_eq!(told(lag(7, None), soon), None);
        assert_eq!(told(lag(7, None), late), Some("destination-behind"));
        assert_eq!(told(lag(9, Some("away")), late), None);
        assert_eq!(told(lag(1, None), soon), None);
        assert_eq!(told(lag(0, None), late), Some("destination-back"));
        assert_eq!(told(lag(0, None), late), None);
        assert_eq!(told(lag(2, Some("away")), soon), Some("destination-behind"));
        assert_eq!(told(lag(0, None), soon), Some("destination-back"));
        let before = soon - BEHIND_AFTER - BEHIND_AFTER;
        assert_eq!(told(lag(1, None), before), Some("destination-behind"));
        assert_eq!(told(lag(0, None), soon), Some("destination-back"));
        let not_filled = |objects| DestinationLag {
            not_filled: true,
            ..lag(objects, None)
        };
        assert_eq!(told(not_filled(0), soon), Some("destination-behind"));
        assert_eq!(told(not_filled(3), soon), None);
        assert_eq!(told(lag(3, None), soon), None);
        assert_eq!(told(lag(0, None), soon), Some("destination-back"));
    }
}
