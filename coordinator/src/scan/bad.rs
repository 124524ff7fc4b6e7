//! An object that is not there or is not what was stored: noted, told, and healed from another destination where that is
//! asked for. Never heals over what may be a second history, or what nobody here knows to be wrong.

use append_server::destination::DestinationName;
use formats::ids::RecordId;
use formats::limits::RECORD_BYTES_MAX;
use formats::log::record::{RecordError, RecordPlace, SealedRecord};
use formats::object::ObjectName;
use formats::wire::upload::HealedObject;

use crate::scan::{DestinationScan, Scan, ScanError};
use crate::storage::{ReadRange, StorageError};
use crate::terminal::error_line;

/// What is said of an object that is not there.
pub(super) const IS_MISSING: &str = "is missing";

impl Scan<'_> {
    /// Notes an object that is not there, or is not what it should be, and puts it right where that is asked for.
    pub(super) async fn found_bad(
        &mut self,
        destination: &DestinationName,
        name: &ObjectName,
        what: &str,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        let places = self.bad.entry(name.clone()).or_default();
        if !places.insert(destination.clone()) {
            return Ok(()); // Told before, by another step.
        }
        let Some(digest) = self.expected.digest(name) else {
            here.problem(format!("{name} {what}, and nobody knows what it should be"));
            return Ok(());
        };
        if !self.options.repair {
            here.problem(format!("{name} {what}"));
            return Ok(());
        }
        if let Some(reason) = self.must_stay(destination, name, what).await {
            here.problem(format!("{name} {what}, and stays so: {reason}"));
            return Ok(());
        }
        let storage = &self.coordinator.storage;
        let healed = storage
            .heal(destination, self.repository, name, digest)
            .await;
        match healed {
            Ok(HealedObject::Good) => {
                here.healed += 1;
                here.problem(format!(
                    "{name} {what}, and was good when it was looked at again: what this destination answers cannot be \
                     relied on"
                ));
            }
            Ok(HealedObject::Pending) => {
                here.healed += 1;
                here.problem(format!("{name} {what}, and is on its way"));
            }
            Ok(HealedObject::Stored { from }) => {
                here.healed += 1;
                here.problem(format!("{name} {what}: copied from {from}"));
            }
            Ok(HealedObject::Replaced { from, kept }) => {
                here.healed += 1;
                here.problem(format!(
                    "{name} {what}: replaced from {from}; the damaged bytes are kept as {kept}"
                ));
            }
            Err(error) => {
                here.problem(format!(
                    "{name} {what}, and stays so: {}",
                    error_line(&error)
                ));
                return Ok(());
            }
        }
        if let Some(places) = self.bad.get_mut(name) {
            places.remove(destination);
        }
        Ok(())
    }

    /// Why an object must not be replaced, though it is not what it should be.
    async fn must_stay(
        &mut self,
        destination: &DestinationName,
        name: &ObjectName,
        what: &str,
    ) -> Option<String> {
        match name {
            ObjectName::Keys(_) if what != IS_MISSING && !self.expected.is_trusted(name) => {
                Some("nobody here knows which copy of it is right".to_owned())
            }
            ObjectName::Log(sequence) if what != IS_MISSING => {
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
