//! What was read of an entry that the coordinator wants: the extents of a file, and the details that close it.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::{CONTENT_EXTENTS_MAX, LINK_TARGET_BYTES_MAX};
use crate::listing::content::Extent;
use crate::listing::entry::{
    EntryFlags, EntryKind, Stat, Xattr, check_link_target, put_xattrs, read_xattrs,
};
use crate::wire::control::entries::EntryRef;

/// Some of a file's extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentPart {
    /// The file.
    pub of: EntryRef,
    /// The next extents.
    pub extents: Vec<Extent>,
}

impl ContentPart {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        self.of.put(out);
        out.put_varint(self.extents.len() as u64);
        for extent in &self.extents {
            extent.put(out);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let of = EntryRef::read(reader)?;
        let count = reader.count("extents", CONTENT_EXTENTS_MAX, 2)?;
        let mut extents = Vec::with_capacity(count);
        for _ in 0..count {
            extents.push(Extent::read(reader)?);
        }
        Ok(Self { of, extents })
    }
}

/// What became of a wanted entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadOutcome {
    /// Read.
    Read,
    /// Gone between the walk and the read: not part of the snapshot.
    Vanished,
    /// Content, link target or attributes could not be read; the errno of the first failure.
    Unreadable {
        /// The kernel's error number.
        errno: u32,
    },
}

/// The rest of a wanted entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// The entry.
    pub of: EntryRef,
    /// What became of it.
    pub outcome: ReadOutcome,
    /// What to note.
    pub flags: EntryFlags,
    /// Its metadata as read with the content; for a file, `size` is what was read.
    pub stat: Stat,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// A symbolic link's target.
    pub link_target: Vec<u8>,
}

impl Details {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        self.of.put(out);
        match self.outcome {
            ReadOutcome::Read => out.put_u8(1),
            ReadOutcome::Vanished => out.put_u8(2),
            ReadOutcome::Unreadable { errno } => {
                out.put_u8(3);
                out.put_u32(errno);
            }
        }
        out.put_u8(self.flags.bits());
        self.stat.put(out);
        put_xattrs(&self.xattrs, out);
        out.put_prefixed(&self.link_target);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let details = Self {
            of: EntryRef::read(reader)?,
            outcome: match reader.u8("read outcome")? {
                1 => ReadOutcome::Read,
                2 => ReadOutcome::Vanished,
                3 => ReadOutcome::Unreadable {
                    errno: reader.u32("errno")?,
                },
                tag => {
                    return Err(DecodeError::UnknownTag {
                        what: "read outcome",
                        tag: tag.into(),
                    });
                }
            },
            flags: EntryFlags::read(reader)?,
            stat: Stat::read(reader)?,
            xattrs: read_xattrs(reader)?,
            link_target: reader
                .prefixed("link target", LINK_TARGET_BYTES_MAX)?
                .to_vec(),
        };
        details.check()?;
        Ok(details)
    }

    /// What would make an entry that no reader takes is refused here, before it can reach a listing.
    fn check(&self) -> Result<(), DecodeError> {
        if self.flags.contains(EntryFlags::CARRIED) {
            return Err(DecodeError::Invalid {
                what: "entry flags",
                rule: "an agent has nothing to carry over",
            });
        }
        if self.stat.kind != EntryKind::Symlink && !self.link_target.is_empty() {
            return Err(DecodeError::Invalid {
                what: "link target",
                rule: "only a symbolic link has one",
            });
        }
        match (self.stat.kind, self.outcome) {
            (EntryKind::Symlink, ReadOutcome::Read) => {
                check_link_target(&self.link_target, self.flags)
            }
            // An entry of either is flagged unreadable, or not kept.
            _ => check_link_target(&self.link_target, EntryFlags::UNREADABLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Details, ReadOutcome};
    use crate::listing::entry::{EntryFlags, EntryKind, Stat, Timestamp};
    use crate::wire::control::FromAgent;
    use crate::wire::control::entries::EntryRef;

    fn details(kind: EntryKind, link_target: &[u8]) -> Details {
        Details {
            of: EntryRef { batch: 0, entry: 0 },
            outcome: ReadOutcome::Read,
            flags: EntryFlags::default(),
            stat: Stat {
                kind,
                mode: 0o777,
                uid: 0,
                gid: 0,
                size: 0,
                mtime: Timestamp::default(),
                ctime: Timestamp::default(),
                inode: 1,
                links: 1,
                device: (0, 0),
            },
            xattrs: Vec::new(),
            link_target: link_target.to_vec(),
        }
    }

    fn reads(details: Details) -> bool {
        let message = FromAgent::Details(details);
        FromAgent::decode(&message.encode()) == Ok(message)
    }

    #[test]
    fn details_keep_the_rules_of_the_entry_they_become() {
        assert!(reads(details(EntryKind::Symlink, b"target")));
        assert!(!reads(details(EntryKind::Symlink, b"tar\0get")));
        assert!(!reads(details(EntryKind::Symlink, b"")));
        assert!(!reads(details(EntryKind::File, b"target")));
        assert!(reads(Details {
            outcome: ReadOutcome::Unreadable { errno: 13 },
            ..details(EntryKind::Symlink, b"")
        }));
        assert!(!reads(Details {
            flags: EntryFlags::CARRIED,
            ..details(EntryKind::File, b"")
        }));
    }
}
