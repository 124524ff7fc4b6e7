//! Tries again what may pass by itself, for as long as there is patience. The pauses grow, and differ at random, so that
//! those who failed together do not come back together.

use std::error::Error;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{BACK_OFF_MAX, BACK_OFF_MIN};

/// The first answer that is good, or that trying again would not change, or that came when there was no time left.
pub(super) async fn patiently<T, E, F>(
    patience: Duration,
    may_pass: impl Fn(&E) -> bool,
    attempt: impl Fn() -> F,
) -> Result<T, E>
where
    E: Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + patience;
    let mut back_off = BACK_OFF_MIN;
    loop {
        let error = match attempt().await {
            Err(error) if may_pass(&error) && Instant::now() + back_off < deadline => error,
            done => return done,
        };
        tracing::warn!(error = &error as &dyn Error, "trying again");
        tokio::time::sleep(scattered(back_off)).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Half of a pause to all of it.
fn scattered(pause: Duration) -> Duration {
    // Without random numbers everybody comes back at once, which is no reason not to.
    let [byte] = formats::keys::secret::random::<1>().unwrap_or([u8::MAX]);
    pause * (u32::from(byte) + 256) / 512
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::scattered;

    #[test]
    fn pauses_are_scattered_between_half_and_whole() {
        let pause = Duration::from_secs(8);
        let pauses: std::collections::HashSet<_> = (0..64).map(|_| scattered(pause)).collect();
        assert!(
            pauses
                .iter()
                .all(|found| *found >= pause / 2 && *found < pause)
        );
        assert!(pauses.len() > 1, "sixty-four pauses are all {pauses:?}");
    }
}
