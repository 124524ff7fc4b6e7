//! How far a lock is prolonged, as a pure function: for the configured time from now, and never past the limit that counts from
//! when the object was stored. A lock cannot be taken back, so that whatever is wrong here would be paid for until it ends.

use formats::wire::upload::repairs::LockOutcome;

use crate::destination::LockState;
use crate::destination::s3::options::ObjectLock;

/// Clocks of two machines may differ by so much before a lock counts as somebody else's.
const SLACK_SECS: u64 = 24 * 3_600;

/// A lock as the service shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ShownLock {
    /// Until when nobody may remove the object; 0 without a lock.
    pub(super) until_unix_secs: u64,
    /// Whether nobody at all may lift it.
    pub(super) is_compliance: bool,
    /// Whether it is held besides, until a person lifts that.
    pub(super) is_held: bool,
    /// When the object was stored, as far as the service says.
    pub(super) stored_unix_secs: Option<u64>,
}

/// What is to be done about a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Renewal {
    /// Until when it is to be prolonged, if it is.
    pub(super) prolong_to: Option<u64>,
    /// How it is afterwards.
    pub(super) state: LockState,
}

/// What is to be done about a lock now.
pub(super) fn renewal(lock: ObjectLock, shown: ShownLock, now_unix_secs: u64) -> Renewal {
    let (retain, present) = (lock.retain.as_secs(), shown.until_unix_secs);
    let stays = |outcome| Renewal {
        prolong_to: None,
        state: state(present, outcome, shown),
    };
    let wanted = now_unix_secs.saturating_add(retain);
    if present > wanted.saturating_add(SLACK_SECS) {
        return stays(LockOutcome::Longer);
    }
    if present >= now_unix_secs.saturating_add(retain / 2) {
        return stays(LockOutcome::Enough);
    }
    let limit = limit(lock, shown, now_unix_secs);
    if limit <= present.max(now_unix_secs) {
        return stays(LockOutcome::AtLimit);
    }
    let until = wanted.min(limit);
    if until <= present.saturating_add(SLACK_SECS.min(retain / 4)) {
        return stays(LockOutcome::AtLimit);
    }
    let outcome = if until < wanted {
        LockOutcome::AtLimit
    } else {
        LockOutcome::Renewed
    };
    Renewal {
        prolong_to: Some(until),
        state: state(until, outcome, shown),
    }
}

/// The time past which no lock of this object is made to reach. A service that says that the object is from the future is
/// not believed.
pub(super) fn limit(lock: ObjectLock, shown: ShownLock, now_unix_secs: u64) -> u64 {
    let stored = shown.stored_unix_secs.unwrap_or(now_unix_secs);
    stored
        .min(now_unix_secs)
        .saturating_add(lock.longest.as_secs())
}

fn state(until_unix_secs: u64, outcome: LockOutcome, shown: ShownLock) -> LockState {
    LockState {
        until_unix_secs,
        outcome,
        is_held: shown.is_held,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use formats::wire::upload::repairs::LockOutcome;

    use super::{Renewal, ShownLock, limit, renewal};
    use crate::destination::s3::options::{LockMode, ObjectLock};

    const DAY: u64 = 86_400;
    const NOW: u64 = 20_000 * DAY;

    const LOCK: ObjectLock = ObjectLock {
        retain: Duration::from_secs(30 * DAY),
        longest: Duration::from_secs(100 * DAY),
        mode: LockMode::Compliance,
        legal_hold: false,
    };

    /// Of an object that is so many days old, with so many days left of its lock.
    fn at(age_days: u64, left_days: u64) -> Renewal {
        let shown = ShownLock {
            until_unix_secs: NOW + left_days * DAY,
            stored_unix_secs: Some(NOW - age_days * DAY),
            ..ShownLock::default()
        };
        renewal(LOCK, shown, NOW)
    }

    fn days(renewal: Renewal) -> Option<u64> {
        renewal.prolong_to.map(|until| (until - NOW) / DAY)
    }

    #[test]
    fn a_lock_is_prolonged_when_less_than_half_is_left() {
        assert_eq!(days(at(20, 15)), None);
        assert_eq!(at(20, 15).state.outcome, LockOutcome::Enough);
        assert_eq!(days(at(20, 14)), Some(30));
        assert_eq!(at(20, 14).state.outcome, LockOutcome::Renewed);
    }

    #[test]
    fn no_lock_is_prolonged_past_its_limit() {
        assert_eq!(days(at(70, 5)), Some(30));
        // 100 days after it was stored are 20 days from now.
        assert_eq!(days(at(80, 5)), Some(20));
        assert_eq!(at(80, 5).state.outcome, LockOutcome::AtLimit);
        // Then there is nothing more to do, however often it is looked at.
        assert_eq!(days(at(95, 5)), None);
        assert_eq!(at(95, 5).state.outcome, LockOutcome::AtLimit);
        assert_eq!(days(at(400, 0)), None);
        assert_eq!(at(400, 0).state.until_unix_secs, NOW);
    }

    #[test]
    fn what_somebody_else_locked_for_longer_is_told_and_left() {
        let longer = at(5, 4_000);
        assert_eq!(days(longer), None);
        assert_eq!(longer.state.outcome, LockOutcome::Longer);
        // Another machine's clock makes none of it somebody else's.
        assert_eq!(at(0, 31).state.outcome, LockOutcome::Enough);
    }

    #[test]
    fn a_service_cannot_lengthen_a_lock_by_what_it_says_of_its_age() {
        for stored_unix_secs in [None, Some(NOW + 5_000 * DAY), Some(u64::MAX)] {
            let shown = ShownLock {
                stored_unix_secs,
                ..ShownLock::default()
            };
            assert_eq!(limit(LOCK, shown, NOW), NOW + 100 * DAY);
            assert_eq!(days(renewal(LOCK, shown, NOW)), Some(30));
        }
        let ancient = ShownLock {
            stored_unix_secs: Some(0),
            is_held: true,
            ..ShownLock::default()
        };
        let renewal = renewal(LOCK, ancient, NOW);
        assert_eq!(renewal.prolong_to, None);
        assert!(renewal.state.is_held);
    }

    #[test]
    fn no_clock_makes_it_overflow() {
        let shown = ShownLock {
            until_unix_secs: u64::MAX - 1,
            stored_unix_secs: Some(u64::MAX),
            ..ShownLock::default()
        };
        let told = renewal(LOCK, shown, u64::MAX - 5);
        assert_eq!(told.prolong_to, None);
    }
}
