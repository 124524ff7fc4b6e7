//! Tries out whether credentials have the rights of one role and no others: what the role needs must work, and what it must
//! not do must be refused. Each kind of destination brings its own requests; here is what they are judged by. Works on
//! names of its own beside the repositories, never on an object of one.

use std::fmt;

use crate::examination::Verdict;
use crate::role::Role;

/// What is to become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The role needs it.
    Works,
    /// The role must not.
    Refused,
    /// The role does not need it, and this kind of destination has no way to refuse it.
    NotRefusable,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Works => "works",
            Self::Refused => "is refused",
            Self::NotRefusable => "cannot be refused",
        })
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It was done.
    Works,
    /// The credentials may not.
    Refused,
    /// The service does not know what was asked, so that nobody may.
    NoSuchThing,
    /// Neither; why.
    Unclear(String),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("works"),
            Self::Refused => f.write_str("is refused"),
            Self::NoSuchThing => f.write_str("is nothing that is known there"),
            Self::Unclear(why) => write!(f, "not clear: {why}"),
        }
    }
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialRow {
    /// What.
    pub what: &'static str,
    /// What the role's rights are.
    pub expected: Expected,
    /// What the credentials' rights are.
    pub found: Found,
}

impl TrialRow {
    /// Whether the two agree. What could not be found out agrees with nothing.
    pub fn verdict(&self) -> Verdict {
        match (self.expected, &self.found) {
            (_, Found::NoSuchThing)
            | (Expected::Works, Found::Works)
            | (Expected::Refused | Expected::NotRefusable, Found::Refused) => Verdict::Good,
            (Expected::NotRefusable, Found::Works) => Verdict::Warning,
            (_, Found::Unclear(_))
            | (Expected::Works, Found::Refused)
            | (Expected::Refused, Found::Works) => Verdict::Bad,
        }
    }
}

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleTrial {
    /// Whose credentials were tried.
    pub who: String,
    /// Everything that was tried.
    pub rows: Vec<TrialRow>,
    /// What the trial made and could not remove: where, and why.
    pub left: Vec<String>,
}

impl RoleTrial {
    /// The worst of its rows; bad without any.
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.rows.iter().map(TrialRow::verdict);
        verdicts.max().unwrap_or(Verdict::Bad)
    }
}

/// What one request is to do for each role, in the order of [`Role::ALL`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rights([Expected; 4]);

impl Rights {
    /// From ingest's, restore's, maintain's and prune's.
    pub(crate) const fn new(
        ingest: Expected,
        restore: Expected,
        maintain: Expected,
        prune: Expected,
    ) -> Self {
        Self([ingest, restore, maintain, prune])
    }

    /// What nobody may.
    pub(crate) const NOBODYS: Self = Self([Expected::Refused; 4]);

    pub(crate) fn of(self, role: Role) -> Expected {
        let [ingest, restore, maintain, prune] = self.0;
        match role {
            Role::Ingest => ingest,
            Role::Restore => restore,
            Role::Maintain => maintain,
            Role::Prune => prune,
        }
    }
}

/// A name that no other trial has, for an object of a few bytes.
pub(crate) fn trial_name() -> String {
    // Without random numbers the name is one that was used before, and the trial says so.
    let random: [u8; 8] = formats::keys::secret::random().unwrap_or_default();
    format!("capstan-trial-{}", formats::ids::to_hex(&random))
}

#[cfg(test)]
mod tests {
    use super::Expected::{NotRefusable, Refused, Works};
    use super::{Found, RoleTrial, TrialRow};
    use crate::examination::Verdict;

    fn row(expected: super::Expected, found: Found) -> TrialRow {
        TrialRow {
            what: "something",
            expected,
            found,
        }
    }

    #[test]
    fn more_and_fewer_rights_and_what_is_not_clear_are_bad() {
        let unclear = Found::Unclear("no answer".to_owned());
        for (expected, found, verdict) in [
            (Works, Found::Works, Verdict::Good),
            (Works, Found::Refused, Verdict::Bad),
            (Refused, Found::Refused, Verdict::Good),
            (Refused, Found::Works, Verdict::Bad),
            (NotRefusable, Found::Refused, Verdict::Good),
            (NotRefusable, Found::Works, Verdict::Warning),
            (Refused, Found::NoSuchThing, Verdict::Good),
            (Refused, unclear.clone(), Verdict::Bad),
            (NotRefusable, unclear, Verdict::Bad),
        ] {
            let row = row(expected, found);
            assert_eq!(row.verdict(), verdict, "{row:?}");
        }
    }

    #[test]
    fn a_trial_is_as_good_as_its_worst_row_and_nothing_without_any() {
        let mut trial = RoleTrial {
            who: "somebody".to_owned(),
            rows: Vec::new(),
            left: Vec::new(),
        };
        assert_eq!(trial.verdict(), Verdict::Bad);
        trial.rows.push(row(Works, Found::Works));
        assert_eq!(trial.verdict(), Verdict::Good);
        trial.rows.push(row(Refused, Found::Works));
        trial.rows.push(row(NotRefusable, Found::Works));
        assert_eq!(trial.verdict(), Verdict::Bad);
    }
}
