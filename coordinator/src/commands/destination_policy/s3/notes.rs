//! What a bucket's policy cannot see to, and what to do about it.

use crate::cli::destination::DestinationRole;
use crate::commands::destination_policy::s3::{BucketRole, Flavour};

impl BucketRole<'_> {
    /// What whoever attaches it should know.
    pub(super) fn notes(&self) -> Vec<&'static str> {
        match self.role {
            DestinationRole::Ingest => {
                let reads = match self.flavour {
                    Flavour::Ceph => {
                        "It reads nothing, not even what it put: give restore a user of its own."
                    }
                    _ => {
                        "It reads nothing: what is there already is read as restore. A user for both needs both policies."
                    }
                };
                let mut notes = vec![reads];
                if self.refuses_overwriting() {
                    notes.push(
                        "A put without `If-None-Match` is refused, so these credentials cannot overwrite anything.",
                    );
                } else {
                    self.note_overwriting(&mut notes);
                }
                self.note_locks(&mut notes);
                notes
            }
            DestinationRole::Restore => {
                vec![
                    "What it reads is sealed: without the repository's keys it is sizes and times.",
                ]
            }
            DestinationRole::Maintain => {
                let mut notes =
                    vec!["To repair, it may put a good copy over a damaged one, and so over any."];
                self.note_overwriting(&mut notes);
                self.note_locks(&mut notes);
                notes
            }
            DestinationRole::Prune => vec![
                "Locks stay in force: what is locked is kept until its time has come.",
                "These credentials can destroy backups: give them to the machine that prunes, and to no other.",
            ],
        }
    }

    /// What there is against overwriting where the policy cannot refuse it.
    fn note_overwriting(&self, notes: &mut Vec<&'static str>) {
        if self.role == DestinationRole::Ingest {
            notes.push(
                "It cannot refuse a put over a name that is taken. Capstan never does that; who steals the key might.",
            );
        }
        notes.push(
            "Let the bucket keep versions: what was there stays as an earlier one, which this role cannot remove.",
        );
        if self.flavour == Flavour::Ceph {
            notes.push(
                "Ceph 16 ignores conditional writes in a bucket that keeps versions; see `destination test`.",
            );
        }
    }

    fn note_locks(&self, notes: &mut Vec<&'static str>) {
        match self.lock {
            None => notes.push(
                "Nothing is locked: `retain` in coordinator.toml keeps whoever has more rights from removing, too.",
            ),
            Some(lock) if lock.legal_hold && self.flavour == Flavour::Ceph => notes.push(
                "It may lift legal holds as well: Ceph cannot tell putting one from lifting it.",
            ),
            Some(_) => {}
        }
    }
}
