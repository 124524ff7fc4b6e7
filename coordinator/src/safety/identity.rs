//! Whether what answered is the host that answered before. The SSH host key is pinned and checked before anything else; this
//! looks at what a copied key does not bring along.
//!
//! One fact that changed is a warning: a disk was replaced, a machine-id written anew after a reinstallation, a virtual machine
//! given another number by another hypervisor. Two at once hardly happen to one machine, and to a clone or an impostor with the
//! host's key always. Continuity of the listing counts as a further one: nearly no file is the inode that it was. A new root
//! filesystem brings that with it, so beside that one alone it counts nothing. A fact that is not told any more is a warning: a
//! login with fewer rights does not see all of them. One that tells none of those that were known is another machine, or an
//! impostor who does not know them.

use std::fmt;

use crate::safety::anomaly::{Compared, percent};

/// Files that the parent must have had before continuity says anything.
const FILES_FOR_CONTINUITY: u64 = 100;
/// Below so many percent of files that are the same inode, the listing is not continued.
const SAME_INODE_MIN: u64 = 5;
/// So many differences make another machine.
const DIFFERENCES_MAX: usize = 2;

/// What tells a machine from another. Empty is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's number of the machine.
    pub machine_uuid: String,
    /// The root filesystem's name for itself.
    pub root_filesystem: String,
}

/// A fact that is another than it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub what: Fact,
    /// What it was.
    pub was: String,
    /// What it is; empty where it is not told any more.
    pub is: String,
}

/// The facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fact {
    /// `/etc/machine-id`.
    MachineId,
    /// The firmware's number.
    MachineUuid,
    /// The root filesystem.
    RootFilesystem,
}

impl Fact {
    fn text(self) -> &'static str {
        match self {
            Self::MachineId => "machine-id",
            Self::MachineUuid => "DMI UUID",
            Self::RootFilesystem => "root filesystem",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (was, is) = (self.was.escape_debug(), self.is.escape_debug());
        match self.is.is_empty() {
            true => write!(
                out,
                "{} was {was} and is not told any more",
                self.what.text()
            ),
            false => write!(out, "{} was {was} and is {is}", self.what.text()),
        }
    }
}

/// Differences in one line.
pub fn differences_text(differences: &[Difference]) -> String {
    let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

impl Identity {
    /// Where another identity differs. What was not known differs in nothing.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let facts = [
            (Fact::MachineId, &self.machine_id, &other.machine_id),
            (Fact::MachineUuid, &self.machine_uuid, &other.machine_uuid),
            (
                Fact::RootFilesystem,
                &self.root_filesystem,
                &other.root_filesystem,
            ),
        ];
        facts
            .into_iter()
            .filter(|(_, was, is)| !was.is_empty() && was != is)
            .map(|(what, was, is)| Difference {
                what,
                was: was.clone(),
                is: is.clone(),
            })
            .collect()
    }

    fn facts_known(&self) -> usize {
        let facts = [&self.machine_id, &self.machine_uuid, &self.root_filesystem];
        facts.iter().filter(|fact| !fact.is_empty()).count()
    }

    /// The same with what another knows beside it.
    pub fn filled_from(&self, other: &Self) -> Self {
        let filled = |own: &String, other: &String| match own.is_empty() {
            true => other.clone(),
            false => own.clone(),
        };
        Self {
            machine_id: filled(&self.machine_id, &other.machine_id),
            machine_uuid: filled(&self.machine_uuid, &other.machine_uuid),
            root_filesystem: filled(&self.root_filesystem, &other.root_filesystem),
        }
    }
}

/// Whether facts alone say that it is another machine than one that was known.
pub fn is_other(known: &Identity, differences: &[Difference]) -> bool {
    let changed = differences.iter().filter(|one| !one.is.is_empty()).count();
    let hidden = differences.len() - changed;
    let confirmed = known.facts_known().saturating_sub(differences.len());
    changed >= DIFFERENCES_MAX || (hidden > 0 && confirmed == 0)
}

/// Whether one difference and the listing together say so.
pub fn is_other_by_listing(differences: &[Difference], compared: &Compared) -> bool {
    let elsewhere = differences
        .iter()
        .any(|difference| difference.what != Fact::RootFilesystem && !difference.is.is_empty());
    elsewhere
        && compared.before >= FILES_FOR_CONTINUITY
        && percent(compared.same_inode, compared.before) < SAME_INODE_MIN
}

#[cfg(test)]
mod tests {
    use super::{Identity, differences_text, is_other, is_other_by_listing};
    use crate::safety::anomaly::Compared;

    fn identity(machine_id: &str, machine_uuid: &str, root_filesystem: &str) -> Identity {
        Identity {
            machine_id: machine_id.to_owned(),
            machine_uuid: machine_uuid.to_owned(),
            root_filesystem: root_filesystem.to_owned(),
        }
    }

    #[test]
    fn one_changed_fact_is_the_same_host_and_two_are_not() {
        let known = identity("a", "b", "c");
        let reinstalled = known.differences(&identity("x", "b", "c"));
        assert!(!is_other(&known, &reinstalled));
        assert_eq!(differences_text(&reinstalled), "machine-id was a and is x");
        let cloned = known.differences(&identity("x", "b", "y"));
        assert!(is_other(&known, &cloned));
        assert!(known.differences(&known).is_empty());
    }

    #[test]
    fn who_tells_less_is_warned_of_and_who_tells_nothing_is_another() {
        let known = identity("a", "b", "c");
        let fewer = known.differences(&identity("a", "", ""));
        assert!(!is_other(&known, &fewer));
        assert_eq!(
            differences_text(&fewer),
            "DMI UUID was b and is not told any more, root filesystem was c and is not told any more"
        );
        assert!(is_other(&known, &known.differences(&identity("", "", ""))));
        // One changed and the others hidden is as much.
        let hidden = known.differences(&identity("x", "", ""));
        assert!(is_other(&known, &hidden));
    }

    #[test]
    fn what_was_not_known_differs_in_nothing_and_is_learnt() {
        let known = identity("a", "", "c");
        let found = identity("a", "b", "c");
        assert!(known.differences(&found).is_empty());
        assert_eq!(known.filled_from(&found), found);
        let nothing = Identity::default();
        assert!(nothing.differences(&found).is_empty());
    }

    #[test]
    fn a_listing_that_is_not_continued_counts_beside_anything_but_a_new_disk() {
        let broken = Compared {
            before: 500,
            same_inode: 3,
            ..Compared::default()
        };
        let continued = Compared {
            same_inode: 400,
            ..broken
        };
        let few = Compared {
            before: 20,
            same_inode: 0,
            ..Compared::default()
        };
        let known = identity("a", "b", "c");
        let machine_id = known.differences(&identity("x", "b", "c"));
        let disk = known.differences(&identity("a", "b", "x"));
        assert!(is_other_by_listing(&machine_id, &broken));
        assert!(!is_other_by_listing(&machine_id, &continued));
        assert!(!is_other_by_listing(&machine_id, &few));
        assert!(!is_other_by_listing(&disk, &broken));
        assert!(!is_other_by_listing(&[], &broken));
    }
}
