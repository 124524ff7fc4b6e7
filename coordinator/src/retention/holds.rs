//! Putting hosts on hold and ending that. While a host is on hold nothing of it is forgotten, and nothing that any of its
//! snapshots needs is removed, those included that were forgotten before. Only a person ends a hold.

use jiff::tz::TimeZone;

use formats::ids::RunId;

use crate::catalog::CatalogError;
use crate::catalog::state::holds::{Hold, HoldKind, NewHold};
use crate::clock::local;
use crate::coordinator::{Coordinator, HostRepository};
use crate::database::DatabaseError;
use crate::events::Event;
use crate::events::actor::Actor;
use crate::events::what::What;

/// The longest reason that is kept, in bytes.
const REASON_BYTES_MAX: usize = 2_000;

/// Puts a host on hold, and tells it. Nothing when the host is on hold for a run of the same kind already.
pub async fn hold(
    coordinator: &Coordinator,
    host: &str,
    kind: HoldKind,
    reason: &str,
    run: Option<RunId>,
) -> Result<Option<Hold>, DatabaseError> {
    let by = match run {
        Some(_) => Actor::Program,
        None => Actor::current_user(),
    };
    let end = reason.floor_char_boundary(REASON_BYTES_MAX.min(reason.len()));
    let new = NewHold {
        host,
        kind,
        reason: &reason[..end],
        by: &by.to_string(),
        at: coordinator.clock.now(),
        run,
    };
    let added = coordinator.state.lock().await.add_hold(&new)?;
    let Some(hold) = added else {
        return Ok(None);
    };
    tracing::warn!(host, kind = %hold.kind, reason = hold.reason, "the host is on hold");
    let told = Event::of_host(
        host,
        What::HoldAdded {
            kind: hold.kind.to_string(),
            reason: hold.reason.clone(),
        },
    );
    coordinator.events.tell(match run {
        Some(run) => told.in_run(run),
        None => told,
    });
    Ok(Some(hold))
}

/// Ends a hold because a person says so, and tells it; nothing when it has ended already. What looked wrong is history like any
/// other then, or the next run would look wrong again.
pub async fn release(
    coordinator: &Coordinator,
    number: u64,
) -> Result<Option<Hold>, DatabaseError> {
    let by = Actor::current_user().to_string();
    let at = coordinator.clock.now();
    let mut state = coordinator.state.lock().await;
    let released = state.release_hold(number, &by, at)?;
    if let Some(hold) = released.as_ref()
        && hold.kind == HoldKind::Anomaly
    {
        state.accept_figures(&hold.host)?;
        state.accept_results(&hold.host)?;
        state.accept_stream_sizes(&hold.host)?;
    }
    drop(state);
    if let Some(hold) = &released {
        let told = What::HoldReleased {
            kind: hold.kind.to_string(),
            reason: hold.reason.clone(),
        };
        coordinator.events.tell(Event::of_host(&hold.host, told));
    }
    Ok(released)
}

/// The holds on hosts that have snapshots in a repository, forgotten ones included.
pub(super) async fn holds_on(
    coordinator: &Coordinator,
    opened: &HostRepository,
) -> Result<Vec<Hold>, HoldsError> {
    let mut holds = coordinator.state.lock().await.holds(None)?;
    if holds.is_empty() {
        return Ok(holds);
    }
    let listed = opened.catalog.snapshots(None)?;
    let forgotten = opened.catalog.forgotten(None)?;
    holds.retain(|hold| {
        let mut hosts = listed.iter().map(|row| &row.host);
        let mut gone = forgotten.iter().map(|row| &row.snapshot.host);
        hosts.any(|host| *host == hold.host) || gone.any(|host| *host == hold.host)
    });
    Ok(holds)
}

/// The holds on a repository are not known.
#[derive(Debug, thiserror::Error)]
pub enum HoldsError {
    /// The state file.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Why a host is on hold, in one line; nothing where it is not.
pub fn why_held(holds: &[Hold], host: &str, zone: &TimeZone) -> Option<String> {
    let of_host = holds.iter().filter(|hold| hold.host == host);
    let texts: Vec<String> = of_host.map(|hold| hold_text(hold, zone)).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// A hold in one line.
pub fn hold_text(hold: &Hold, zone: &TimeZone) -> String {
    let since = local(hold.since, zone);
    match hold.reason.is_empty() {
        true => format!("{} since {since}", hold.kind),
        false => format!("{} since {since}: {}", hold.kind, hold.reason),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::why_held;
    use crate::catalog::state::holds::{Hold, HoldKind};

    #[test]
    fn a_line_says_why_and_since_when() {
        let hold = |host: &str, kind, reason: &str| Hold {
            number: 1,
            host: host.to_owned(),
            kind,
            reason: reason.to_owned(),
            by: "program".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            run: None,
            released: None,
        };
        let holds = [
            hold("web1", HoldKind::Anomaly, "no files"),
            hold("web2", HoldKind::Manual, ""),
            hold("web1", HoldKind::Legal, "case 7"),
        ];
        assert_eq!(
            why_held(&holds, "web1", &TimeZone::UTC).as_deref(),
            Some(
                "anomaly since 1970-01-01T00:00:00+00:00: no files; legal since 1970-01-01T00:00:00+00:00: case 7"
            )
        );
        assert_eq!(
            why_held(&holds, "web2", &TimeZone::UTC).as_deref(),
            Some("manual since 1970-01-01T00:00:00+00:00")
        );
        assert_eq!(why_held(&holds, "web3", &TimeZone::UTC), None);
    }
}
