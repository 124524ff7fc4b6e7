//! How much a host may store: a soft limit that is told, and a hard one at which the run is cut.

use append_server::quantity::Size;

/// What a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Bytes of the files of one snapshot.
    Snapshot,
    /// Bytes that one run stores.
    Run,
    /// Bytes of the packs that the host brought into its repository.
    Host,
}

impl Scope {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Run => "run",
            Self::Host => "host",
        }
    }

    /// The key that sets it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Snapshot => "max_snapshot",
            Self::Run => "max_new",
            Self::Host => "quota",
        }
    }
}

/// A soft and a hard limit; each may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// More is told.
    pub soft: Option<Size>,
    /// More is refused.
    pub hard: Option<Size>,
}

impl Quota {
    /// Whether there is no limit.
    pub fn is_empty(&self) -> bool {
        self.soft.is_none() && self.hard.is_none()
    }

    /// The hard limit in bytes.
    pub fn hard_bytes(&self) -> Option<u64> {
        self.hard.map(|size| size.bytes())
    }

    /// The soft limit, where more than that is used.
    pub fn passed_soft(&self, used: u64) -> Option<u64> {
        let soft = self.soft?.bytes();
        (used > soft).then_some(soft)
    }
}

/// The bytes that one run may store, and which of the two limits that is.
pub fn run_allowance(run: Quota, host: Quota, stored: u64) -> Option<(u64, Scope)> {
    let left = host.hard_bytes().map(|hard| hard.saturating_sub(stored));
    let left = left.map(|left| (left, Scope::Host));
    let run = run.hard_bytes().map(|hard| (hard, Scope::Run));
    match (run, left) {
        (Some(run), Some(left)) => Some(if left.0 < run.0 { left } else { run }),
        (run, left) => run.or(left),
    }
}

#[cfg(test)]
mod tests {
    use append_server::quantity::Size;

    use super::{Quota, Scope, run_allowance};

    fn hard(bytes: u64) -> Quota {
        Quota {
            soft: None,
            hard: Some(Size::from_bytes(bytes)),
        }
    }

    #[test]
    fn a_run_may_store_what_the_tighter_limit_leaves() {
        let none = Quota::default();
        assert_eq!(run_allowance(none, none, 7), None);
        assert_eq!(run_allowance(hard(100), none, 7), Some((100, Scope::Run)));
        assert_eq!(run_allowance(none, hard(100), 7), Some((93, Scope::Host)));
        assert_eq!(
            run_allowance(hard(95), hard(100), 7),
            Some((93, Scope::Host))
        );
        assert_eq!(
            run_allowance(hard(50), hard(100), 7),
            Some((50, Scope::Run))
        );
        assert_eq!(run_allowance(none, hard(100), 200), Some((0, Scope::Host)));
    }

    #[test]
    fn a_soft_limit_is_passed_by_more_than_it() {
        let quota = Quota {
            soft: Some(Size::from_bytes(10)),
            hard: None,
        };
        assert_eq!(quota.passed_soft(10), None);
        assert_eq!(quota.passed_soft(11), Some(10));
        assert_eq!(hard(5).passed_soft(11), None);
    }
}
