//! What the agent says of the machine around it: what tells it from another one, what is mounted, and where databases and
//! containers keep their data. It is compared with what was said before and with the configuration; a host that lies here
//! loses a warning, or has its run refused, and harms nobody else.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::{MOUNTS_MAX, STORES_MAX, TEXT_BYTES_MAX};
use crate::listing::entry::read_path;

/// The machine around the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// The machine's number by its firmware (DMI product UUID); empty where it has none, or only root may read it.
    pub machine_uuid: String,
    /// What the root filesystem is called by itself: its UUID or its like; empty where it has nothing such.
    pub root_filesystem: String,
    /// Mounted filesystems that can hold files of their own, by path.
    pub mounts: Vec<Mount>,
    /// Directories where databases and containers keep their data, and which hold something.
    pub stores: Vec<Store>,
}

/// A mounted filesystem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// Where, without a slash in front; empty is the root.
    pub path: Vec<u8>,
    /// Its type, as the mount table has it.
    pub kind: String,
}

/// A directory of a program that keeps data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Store {
    /// Where it is in truth, without a slash in front.
    pub path: Vec<u8>,
    /// Whose it is, such as `postgresql`.
    pub of: String,
}

impl Surroundings {
    /// Appends them.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_prefixed(self.machine_uuid.as_bytes());
        out.put_prefixed(self.root_filesystem.as_bytes());
        out.put_varint(self.mounts.len() as u64);
        for mount in &self.mounts {
            put_place(out, &mount.path, &mount.kind);
        }
        out.put_varint(self.stores.len() as u64);
        for store in &self.stores {
            put_place(out, &store.path, &store.of);
        }
    }

    /// Reads them.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let machine_uuid = reader.text("machine uuid", TEXT_BYTES_MAX)?;
        let root_filesystem = reader.text("root filesystem", TEXT_BYTES_MAX)?;
        let count = reader.count("mounts", MOUNTS_MAX, 2)?;
        let mut mounts = Vec::with_capacity(count);
        for _ in 0..count {
            let (path, kind) = read_place(reader)?;
            mounts.push(Mount { path, kind });
        }
        let count = reader.count("stores", STORES_MAX, 2)?;
        let mut stores = Vec::with_capacity(count);
        for _ in 0..count {
            let (path, of) = read_place(reader)?;
            stores.push(Store { path, of });
        }
        Ok(Self {
            machine_uuid,
            root_filesystem,
            mounts,
            stores,
        })
    }
}

fn put_place(out: &mut Vec<u8>, path: &[u8], text: &str) {
    out.put_prefixed(path);
    out.put_prefixed(text.as_bytes());
}

fn read_place(reader: &mut Reader<'_>) -> Result<(Vec<u8>, String), DecodeError> {
    Ok((
        read_path(reader)?,
        reader.text("what a place is", TEXT_BYTES_MAX)?,
    ))
}
