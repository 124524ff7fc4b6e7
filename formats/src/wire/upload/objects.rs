//! Pages of object names: what a listing answers, and what a removal is about.

use crate::codec::{DecodeError, Put, Reader};

/// The most objects in a listing's page.
pub const OBJECT_PAGE_MAX: u64 = 1_000;

/// The longest object name.
pub const OBJECT_NAME_BYTES_MAX: u64 = 128;

/// A listing's page: names in byte order, each with its bytes; ask again after the last while `more`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectPage {
    /// Names (without the repository) and sizes.
    pub objects: Vec<(String, u64)>,
    /// Whether there are more.
    pub more: bool,
}

impl ObjectPage {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_flag(self.more);
        out.put_varint(self.objects.len() as u64);
        for (name, bytes) in &self.objects {
            out.put_prefixed(name.as_bytes());
            out.put_varint(*bytes);
        }
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let more = reader.flag("more")?;
        let count = reader.count("objects", OBJECT_PAGE_MAX, 2)?;
        let mut objects: Vec<(String, u64)> = Vec::with_capacity(count);
        for _ in 0..count {
            let name = reader.text("object name", OBJECT_NAME_BYTES_MAX)?;
            if objects.last().is_some_and(|(last, _)| *last >= name) {
                return Err(DecodeError::NotCanonical { what: "objects" });
            }
            objects.push((name, reader.varint("object bytes")?));
        }
        reader.finish("objects")?;
        Ok(Self { objects, more })
    }
}
