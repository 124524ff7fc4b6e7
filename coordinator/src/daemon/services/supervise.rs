//! Keeps a service going: one that fails or panics is begun again, each time after a longer wait, for as long as the daemon runs.
//! Until it has run for a while again it counts as down.

use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::daemon::health::Health;
use crate::listener::serve::ListenError;
use crate::notify::notifier::NotifyError;
use crate::terminal::error_line;

/// How long one waits before a service is begun again: at first, and at most.
const RESTART_FIRST: Duration = Duration::from_secs(1);
const RESTART_MAX: Duration = Duration::from_secs(300);
/// One that has run for so long is up again.
const STEADY_AFTER: Duration = Duration::from_secs(5);
/// One that has run for so long had no trouble before.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// Why a service cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The notifier.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// The listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// The one task of a service. It ends well when the daemon does, or when there is nothing for it to do.
pub type Running = JoinSet<Result<(), ServiceError>>;

/// Watches over a service, which `running` is and `begin` begins again, until it ends well or `stop` is cancelled.
pub async fn supervise(
    name: &'static str,
    mut running: Running,
    mut begin: impl FnMut() -> Running,
    health: Health,
    stop: CancellationToken,
) {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let Err(problem) = watch(name, &mut running, &health).await else {
            health.service_up(name);
            return;
        };
        if stop.is_cancelled() {
            tracing::error!(service = name, problem, "a service failed at the end");
            return;
        }
        if began.elapsed() > FORGIVEN_AFTER {
            failures = 0;
        }
        let wait = restart_after(failures);
        failures += 1;
        let again_secs = wait.as_secs();
        tracing::error!(
            service = name,
            problem,
            again_secs,
            "a service is down, and is begun again"
        );
        health.service_down(name, problem);
        // Losing either arm is safe: a wait is begun anew, and a token stays cancelled.
        tokio::select! {
            () = sleep(wait) => {}
            () = stop.cancelled() => return,
        }
        running = begin();
    }
}

/// Waits for a service's end; meanwhile it is up once it has run for a while.
async fn watch(name: &'static str, running: &mut Running, health: &Health) -> Result<(), String> {
    let steady = Instant::now() + STEADY_AFTER;
    // Losing either arm is safe: the task stays in its set, and the time stays the same.
    let ended = tokio::select! {
        ended = running.join_next() => ended,
        () = sleep_until(steady) => {
            health.service_up(name);
            running.join_next().await
        }
    };
    ended.map_or(Ok(()), result)
}

fn result(ended: Result<Result<(), ServiceError>, JoinError>) -> Result<(), String> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error_line(&error)),
        Err(error) => Err(error_line(&error)),
    }
}

fn restart_after(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures);
    RESTART_FIRST.saturating_mul(factor).min(RESTART_MAX)
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        reason = "a test fails by panicking, and so does a service in it"
    )]

    use std::time::{Duration, Instant};

    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    use super::{RESTART_MAX, Running, STEADY_AFTER, restart_after, supervise};
    use crate::daemon::health::Health;

    #[tokio::test(start_paused = true)]
    async fn a_service_that_panics_is_down_until_it_runs_again() {
        let (health, stop) = (Health::new(Instant::now()), CancellationToken::new());
        let down = || health.down(Instant::now());
        let mut begun = 0;
        let ending = stop.clone();
        let mut begin = move || {
            begun += 1;
            let (mut running, ending) = (Running::new(), ending.clone());
            running.spawn(async move {
                if begun <= 2 {
                    sleep(Duration::from_millis(100)).await;
                    "no number".parse::<u8>().unwrap();
                }
                ending.cancelled().await;
                Ok(())
            });
            running
        };
        let first = begin();
        let watching = supervise("notifier", first, begin, health.clone(), stop.clone());
        let watching = tokio::spawn(watching);
        sleep(Duration::from_millis(50)).await;
        assert!(down().is_empty());
        // It has panicked once, and then a second time.
        for _ in 0..2 {
            sleep(Duration::from_millis(1_000)).await;
            assert_eq!(down(), ["notifier"]);
        }
        sleep(restart_after(2) + STEADY_AFTER).await;
        assert!(down().is_empty());
        stop.cancel();
        watching.await.unwrap();
        assert!(down().is_empty());
    }

    #[test]
    fn waits_grow_to_a_bound() {
        assert_eq!(restart_after(0), Duration::from_secs(1));
        assert_eq!(restart_after(3), Duration::from_secs(8));
        assert_eq!(restart_after(u32::MAX), RESTART_MAX);
    }
}
