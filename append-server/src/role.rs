//! What credentials can be for, so that each can be given no more rights than that. Nothing but the words.

use std::fmt;

/// What a destination's credentials are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Puts new objects.
    Ingest,
    /// Reads and lists.
    Restore,
    /// Checks, repairs and extends locks.
    Maintain,
    /// Removes.
    Prune,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Restore, Self::Maintain, Self::Prune];

    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Restore => "restore",
            Self::Maintain => "maintain",
            Self::Prune => "prune",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
