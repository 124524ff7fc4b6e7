//! A lease: the coordinator that writes to the repository from this record on, until another lease stands in the log. As
//! every record is created once and names the one before, a commit of a coordinator that lost its lease meanwhile fails.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::CoordinatorId;
use crate::limits::TEXT_BYTES_MAX;

/// Who writes to the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The coordinator.
    pub coordinator: CoordinatorId,
    /// What its machine is called, for people.
    pub machine: String,
    /// When it was taken, by that coordinator's clock: nanoseconds since 1970.
    pub taken_nanos: i64,
}

impl Lease {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put(self.coordinator.as_bytes());
        out.put_prefixed(self.machine.as_bytes());
        out.put_i64(self.taken_nanos);
    }

    /// Reads it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            coordinator: CoordinatorId::read(reader)?,
            machine: reader.text("machine", TEXT_BYTES_MAX)?,
            taken_nanos: reader.i64("taken")?,
        })
    }
}
