//! What a run came to so far, as the agent counts it.

use crate::codec::{DecodeError, Put, Reader};

/// Counts of a run so far; the agent's own word, compared with what arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Entries sent.
    pub entries: u64,
    /// Files read.
    pub files_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Plain bytes of wanted chunks.
    pub bytes_new: u64,
    /// Bytes of acknowledged packs.
    pub bytes_stored: u64,
    /// Packs acknowledged.
    pub packs: u64,
    /// Problems sent.
    pub problems: u64,
    /// The agent's peak resident memory in bytes.
    pub memory_peak: u64,
    /// The CPU time that the agent has used, in milliseconds; not that of the commands it ran.
    pub cpu_millis: u64,
}

impl Totals {
    fn fields(&self) -> [u64; 9] {
        [
            self.entries,
            self.files_read,
            self.bytes_read,
            self.bytes_new,
            self.bytes_stored,
            self.packs,
            self.problems,
            self.memory_peak,
            self.cpu_millis,
        ]
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for field in self.fields() {
            out.put_varint(field);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            entries: reader.varint("entries")?,
            files_read: reader.varint("files read")?,
            bytes_read: reader.varint("bytes read")?,
            bytes_new: reader.varint("bytes new")?,
            bytes_stored: reader.varint("bytes stored")?,
            packs: reader.varint("packs")?,
            problems: reader.varint("problems")?,
            memory_peak: reader.varint("memory")?,
            cpu_millis: reader.varint("CPU time")?,
        })
    }
}
