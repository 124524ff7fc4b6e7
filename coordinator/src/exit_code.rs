//! The numbers this program ends with. A number that is not in this table means failure.

use std::fmt;

/// How a command ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything was done.
    Ok = 0,
    /// Failed, for a reason without a number of its own.
    Error = 1,
    /// The command line was wrong; nothing was done.
    Usage = 2,
    /// Finished, but some source data could not be read.
    Warnings = 3,
    /// There is no such host, snapshot or repository.
    NotFound = 10,
    /// Another run holds the lock.
    Locked = 11,
    /// The key or password does not open the repository.
    WrongKey = 12,
    /// The host's key or identity is not the one that is pinned.
    HostKeyMismatch = 13,
    /// A quota would be exceeded.
    Quota = 14,
    /// Stored data is not what was stored.
    Integrity = 15,
    /// Interrupted by the operator.
    Cancelled = 130,
}

impl ExitCode {
    /// Every code, in the order of its number.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Error,
        Self::Usage,
        Self::Warnings,
        Self::NotFound,
        Self::Locked,
        Self::WrongKey,
        Self::HostKeyMismatch,
        Self::Quota,
        Self::Integrity,
        Self::Cancelled,
    ];

    /// The number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The worse of two, for a command that did several things: a failure is worse than warnings, whatever its number.
    pub fn worse(self, other: Self) -> Self {
        let rank = |code: Self| match code {
            Self::Ok => (0, 0),
            Self::Warnings => (1, 0),
            failure => (2, failure.number()),
        };
        std::cmp::max_by_key(self, other, |code| rank(*code))
    }

    /// What the number says, for `--help`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "everything was done",
            Self::Error => "failed",
            Self::Usage => "wrong command line, nothing was done",
            Self::Warnings => {
                "finished with warnings: some source data could not be read, or the run looks wrong"
            }
            Self::NotFound => "no such host, snapshot or repository",
            Self::Locked => "another run holds the lock, or another coordinator the lease",
            Self::WrongKey => "wrong key or password",
            Self::HostKeyMismatch => "host key or identity is not the pinned one",
            Self::Quota => "a quota would be exceeded",
            Self::Integrity => "stored data is damaged",
            Self::Cancelled => "interrupted",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

impl fmt::Display for ExitCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.number(), self.meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode;

    #[test]
    fn a_failure_is_worse_than_warnings() {
        assert_eq!(ExitCode::Warnings.worse(ExitCode::Error), ExitCode::Error);
        assert_eq!(ExitCode::Error.worse(ExitCode::Warnings), ExitCode::Error);
        assert_eq!(ExitCode::Ok.worse(ExitCode::Warnings), ExitCode::Warnings);
        assert_eq!(ExitCode::Quota.worse(ExitCode::Error), ExitCode::Quota);
    }

    #[test]
    fn numbers_are_the_documented_ones() {
        let numbers: Vec<u8> = ExitCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 130]);
    }
}
