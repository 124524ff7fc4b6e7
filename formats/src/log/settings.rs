//! A host's settings as its coordinator had them: what a coordinator that is built anew needs to back it up again.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::{HOST_SETTINGS_BYTES_MAX, TEXT_BYTES_MAX};

/// How a host is reached and what of it is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSettings {
    /// The host's name in the coordinator's configuration.
    pub host: String,
    /// A `hosts.toml` with this host alone, every value in it. It names the files of secrets and holds none.
    pub toml: String,
}

impl HostSettings {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_prefixed(self.host.as_bytes());
        out.put_prefixed(self.toml.as_bytes());
    }

    /// Reads it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            host: reader.text("host", TEXT_BYTES_MAX)?,
            toml: reader.text("settings", HOST_SETTINGS_BYTES_MAX)?,
        })
    }
}
