//! What the agent says of itself and its host: information, kept as such, never trusted for a decision that
//! could harm another run.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::TEXT_BYTES_MAX;

/// The agent's and its host's facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// `uname -s`, `-r`, `-m`, space-separated.
    pub system: String,
    /// The host's own name for itself.
    pub hostname: String,
    /// `/etc/machine-id`, if there is one.
    pub machine_id: String,
    /// The agent's effective user id.
    pub uid: u32,
    /// The host's clock when the run began, nanoseconds since 1970; shown as skew, never used as time.
    pub clock_nanos: i64,
}

impl HostFacts {
    /// Appends them.
    pub fn put(&self, out: &mut Vec<u8>) {
        for text in [&self.system, &self.hostname, &self.machine_id] {
            out.put_prefixed(text.as_bytes());
        }
        out.put_u32(self.uid);
        out.put_i64(self.clock_nanos);
    }

    /// Reads them.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            system: reader.text("system", TEXT_BYTES_MAX)?,
            hostname: reader.text("hostname", TEXT_BYTES_MAX)?,
            machine_id: reader.text("machine id", TEXT_BYTES_MAX)?,
            uid: reader.u32("uid")?,
            clock_nanos: reader.i64("clock")?,
        })
    }
}
