//! Names of users and groups. Snapshots keep these too, in the same bytes.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::{NAME_BYTES_MAX, SNAPSHOT_NAMES_MAX};

/// Numeric ids and their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Users, sorted by id.
    pub users: Vec<(u32, String)>,
    /// Groups, sorted by id.
    pub groups: Vec<(u32, String)>,
}

impl Names {
    /// Appends them.
    pub fn put(&self, out: &mut Vec<u8>) {
        for names in [&self.users, &self.groups] {
            out.put_varint(names.len() as u64);
            for (id, name) in names {
                out.put_varint((*id).into());
                out.put_prefixed(name.as_bytes());
            }
        }
    }

    /// Reads them: sorted by id, each once.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            users: read_names(reader)?,
            groups: read_names(reader)?,
        })
    }
}

fn read_names(reader: &mut Reader<'_>) -> Result<Vec<(u32, String)>, DecodeError> {
    let count = reader.count("names", SNAPSHOT_NAMES_MAX, 2)?;
    let mut names: Vec<(u32, String)> = Vec::with_capacity(count);
    for _ in 0..count {
        let id = reader.varint32("id")?;
        let name = reader.text("name", NAME_BYTES_MAX)?;
        if names.last().is_some_and(|(last, _)| *last >= id) {
            return Err(DecodeError::NotCanonical { what: "names" });
        }
        names.push((id, name));
    }
    Ok(names)
}
