//! An object that is not there or is not what was stored: noted, told, and healed from another destination where that is
//! asked for. Never heals over what may be a second history, or what nobody here knows to be wrong.

use std::fmt;

use append_server::destination::DestinationName;
use formats::ids::RecordId;
use formats::limits::RECORD_BYTES_MAX;
use formats::log::record::{RecordError, RecordPlace, SealedRecord};
use formats::object::ObjectName;
use formats::wire::upload::repairs::HealedObject;

use crate::scan::{DestinationScan, Scan};
use crate::storage::{ReadRange, StorageError};
use crate::terminal::error_line;

/// What is wrong with an object at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not there.
    Missing,
    /// The destination's list has it with another size.
    OtherSize {
        /// Which.
        bytes: u64,
    },
    /// It was read, and is longer than any object; in the words of what read it.
    TooLong(String),
    /// It was read, and is not what was stored.
    OtherBytes,
    /// It cannot be read, while others can: a bad sector, a right that is lacking; in the words of what tried.
    Unreadable(String),
}

impl Fault {
    /// Whether the object's own bytes showed it.
    fn was_read(&self) -> bool {
        matches!(self, Self::TooLong(_) | Self::OtherBytes)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => out.write_str("is missing"),
            Self::OtherSize { bytes } => write!(out, "has {bytes} bytes"),
            Self::TooLong(words) => out.write_str(words),
            Self::Unreadable(words) => write!(out, "cannot be read: {words}"),
            Self::OtherBytes => out.write_str("has other bytes than were stored"),
        }
    }
}

impl Scan<'_> {
    /// Counts and tells an object that is not there, or is not what it should be, and puts it right where that is asked
    /// for.
    pub(super) async fn found_bad(
        &mut self,
        destination: &DestinationName,
        name: &ObjectName,
        fault: Fault,
        here: &mut DestinationScan,
    ) {
        match fault {
            Fault::Missing => here.missing += 1,
            _ => here.damaged += 1,
        }
        if fault.was_read() {
            self.rotten.insert(name.clone());
        }
        if matches!(fault, Fault::Unreadable(_)) {
            self.unreadable.insert(name.clone());
        }
        let places = self.bad.entry(name.clone()).or_default();
        if !places.insert(destination.clone()) {
            return; // Told before, by another step.
        }
        let Some(digest) = self.expected.digest(name) else {
            here.problem(format!(
                "{name} {fault}, and nobody knows what it should be"
            ));
            return;
        };
        if !self.options.repair {
            here.problem(format!("{name} {fault}"));
            return;
        }
        if let Some(reason) = self.must_stay(destination, name, &fault).await {
            here.problem(format!("{name} {fault}, and stays so: {reason}"));
            return;
        }
        let storage = &self.coordinator.storage;
        let healed = storage
            .heal(destination, self.repository, name, digest)
            .await;
        let became = match healed {
            Ok(healed) => healed_text(healed),
            Err(error) => {
                let reason = error_line(&error);
                here.problem(format!("{name} {fault}, and stays so: {reason}"));
                return;
            }
        };
        here.healed += 1;
        here.problem(format!("{name} {fault}{became}"));
        if let Some(places) = self.bad.get_mut(name) {
            places.remove(destination);
        }
    }

    /// Why an object must not be replaced, though it is not what it should be.
    async fn must_stay(
        &mut self,
        destination: &DestinationName,
        name: &ObjectName,
        fault: &Fault,
    ) -> Option<String> {
        match name {
            ObjectName::Keys(_) if *fault != Fault::Missing && !self.expected.is_trusted(name) => {
                Some("nobody here knows which copy of it is right".to_owned())
            }
            ObjectName::Log(sequence) if *fault != Fault::Missing => {
                match self.is_record_of_ours(destination, *sequence).await {
                    Some(false) => None,
                    // Nothing is put in the place of what might be one.
                    None => Some(
                        "it cannot be read now, and may be a record of this repository's own"
                            .to_owned(),
                    ),
                    Some(true) => {
                        self.problems.push(format!(
                            "the log at {destination} was forked: its record {sequence} is signed by this repository's key \
                             and is another than the one that is known"
                        ));
                        Some("it is another record of this repository's own, and there are two histories".to_owned())
                    }
                }
            }
            _ => None,
        }
    }

    /// Whether a record that is not the known one was signed for this very place: then it is no damage. Nothing when that
    /// cannot be told.
    async fn is_record_of_ours(
        &self,
        destination: &DestinationName,
        sequence: u64,
    ) -> Option<bool> {
        let name = ObjectName::Log(sequence);
        let storage = self.storage_at(destination);
        let read = storage.get(self.repository, &name, ReadRange::All, RECORD_BYTES_MAX);
        let bytes = match read.await {
            Ok(bytes) => bytes,
            // Gone by now, or too long for one.
            Err(StorageError::Absent { .. } | StorageError::TooLong { .. }) => return Some(false),
            Err(_) => return None,
        };
        let verifying = self.opened.repository.keys.verifying().ok()?;
        let place = RecordPlace {
            repository: self.repository,
            epoch: self.opened.repository.config.epoch,
            sequence,
            previous: RecordId([0; 32]),
        };
        let checked = SealedRecord::check(&bytes, &verifying, &place);
        Some(matches!(checked, Ok(_) | Err(RecordError::Chain { .. })))
    }
}

/// What became of an object that was bad, to be told after what was wrong with it.
fn healed_text(healed: HealedObject) -> String {
    match healed {
        HealedObject::Good => {
            ", and was good when it was looked at again: what this destination answers cannot be relied on".to_owned()
        }
        HealedObject::Pending => ", and is on its way".to_owned(),
        HealedObject::Stored { from } => format!(": copied from {from}"),
        HealedObject::Replaced { from, kept } => {
            format!(": replaced from {from}; the damaged bytes are kept as {kept}")
        }
    }
}
