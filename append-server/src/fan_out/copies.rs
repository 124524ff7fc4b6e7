//! On how many destinations an object of a repository must be before it is acknowledged, and what says so: the server's own
//! `min_copies`, which is the floor for every repository, or what is asked for that one.

use std::fmt;

use formats::wire::placing::Copies;

/// So many copies, and what asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopiesAsked {
    /// How many, those included that are waited for anyway.
    pub copies: usize,
    /// What asks for them.
    pub by: AskedBy,
}

/// What asks for copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// The server's own configuration.
    MinCopies,
    /// What was said of the repository: so many.
    Commit,
    /// What was said of the repository: every one.
    CommitAll,
}

impl CopiesAsked {
    /// Of a repository that is kept at so many destinations. Never fewer than the floor.
    pub(super) fn of(copies: Copies, kept: usize, floor: usize) -> Self {
        let (copies, by) = match copies {
            Copies::Floor => (floor, AskedBy::MinCopies),
            // More than can be counted can never be met, and is refused.
            Copies::AtLeast(copies) => (
                usize::try_from(copies).unwrap_or(usize::MAX),
                AskedBy::Commit,
            ),
            Copies::All => (kept, AskedBy::CommitAll),
        };
        match copies < floor {
            true => Self {
                copies: floor,
                by: AskedBy::MinCopies,
            },
            false => Self { copies, by },
        }
    }
}

impl fmt::Display for CopiesAsked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copies = self.copies;
        match self.by {
            AskedBy::MinCopies => write!(out, "min_copies = {copies}"),
            AskedBy::Commit => write!(out, "commit = {copies}"),
            // Quotes are escaped by whoever passes the text on.
            AskedBy::CommitAll => write!(out, "commit = all, which is {copies}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use formats::wire::placing::Copies;

    use super::{AskedBy, CopiesAsked};

    #[test]
    fn what_is_asked_for_a_repository_never_goes_below_the_floor() {
        for (asked, kept, floor, copies, by) in [
            (Copies::Floor, 3, 1, 1, AskedBy::MinCopies),
            (Copies::Floor, 3, 2, 2, AskedBy::MinCopies),
            (Copies::AtLeast(1), 3, 2, 2, AskedBy::MinCopies),
            (Copies::AtLeast(2), 3, 2, 2, AskedBy::Commit),
            (Copies::AtLeast(3), 2, 1, 3, AskedBy::Commit),
            (Copies::All, 3, 1, 3, AskedBy::CommitAll),
            (Copies::All, 1, 1, 1, AskedBy::CommitAll),
            (Copies::All, 1, 2, 2, AskedBy::MinCopies),
        ] {
            let found = CopiesAsked::of(asked, kept, floor);
            assert_eq!(found, CopiesAsked { copies, by }, "{asked:?} of {kept}");
        }
        let shown = |copies| CopiesAsked::of(copies, 3, 1).to_string();
        assert_eq!(shown(Copies::Floor), "min_copies = 1");
        assert_eq!(shown(Copies::AtLeast(2)), "commit = 2");
        assert_eq!(shown(Copies::All), "commit = all, which is 3");
    }
}
