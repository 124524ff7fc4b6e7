//! Entries: one filesystem object each, as a snapshot keeps it. Names are raw bytes; nothing of them is
//! trusted beyond the rules checked here.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::{
    LINK_TARGET_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX, XATTR_NAME_BYTES_MAX,
    XATTR_VALUE_BYTES_MAX, XATTRS_BYTES_MAX, XATTRS_MAX,
};
use crate::listing::content::Content;

/// The type of a filesystem object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::File,
        Self::Directory,
        Self::Symlink,
        Self::Fifo,
        Self::Socket,
        Self::CharDevice,
        Self::BlockDevice,
    ];

    /// Its tag.
    pub fn tag(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::Symlink => 3,
            Self::Fifo => 4,
            Self::Socket => 5,
            Self::CharDevice => 6,
            Self::BlockDevice => 7,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = reader.u8("entry kind")?;
        Self::ALL
            .into_iter()
            .find(|kind| kind.tag() == tag)
            .ok_or(DecodeError::UnknownTag {
                what: "entry kind",
                tag: tag.into(),
            })
    }
}

/// A time as the kernel gives it: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 UTC, negative before.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Timestamp {
    fn put(self, out: &mut Vec<u8>) {
        // Zigzag, so that times before 1970 stay short.
        out.put_varint(((self.seconds << 1) ^ (self.seconds >> 63)).cast_unsigned());
        out.put_varint(self.nanoseconds.into());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let zigzag = reader.varint("time")?;
        let seconds = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        let nanoseconds = reader.varint32("nanoseconds")?;
        if nanoseconds > 999_999_999 {
            return Err(DecodeError::Invalid {
                what: "nanoseconds",
                rule: "must be below one second",
            });
        }
        Ok(Self {
            seconds,
            nanoseconds,
        })
    }
}

/// What `lstat` says of an object, without its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stat {
    /// The type.
    pub kind: EntryKind,
    /// Permission, setuid, setgid and sticky bits: `st_mode & 0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file's content; 0 for every other type.
    pub size: u64,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of content or metadata; only for change detection.
    pub ctime: Timestamp,
    /// Inode number; only for change detection and hard links.
    pub inode: u64,
    /// Names of the inode.
    pub links: u64,
    /// Device number of a device; (0, 0) for every other type.
    pub device: (u32, u32),
}

impl Stat {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.kind.tag());
        out.put_u16(self.mode);
        out.put_varint(self.uid.into());
        out.put_varint(self.gid.into());
        self.mtime.put(out);
        self.ctime.put(out);
        out.put_varint(self.inode);
        out.put_varint(self.links);
        match self.kind {
            EntryKind::File => out.put_varint(self.size),
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                out.put_varint(self.device.0.into());
                out.put_varint(self.device.1.into());
            }
            _ => {}
        }
    }

    /// Reads it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = EntryKind::read(reader)?;
        let mode = reader.u16("mode")?;
        if mode > 0o7777 {
            return Err(DecodeError::Invalid {
                what: "mode",
                rule: "must be at most 0o7777",
            });
        }
        let mut stat = Self {
            kind,
            mode,
            uid: reader.varint32("uid")?,
            gid: reader.varint32("gid")?,
            size: 0,
            mtime: Timestamp::read(reader)?,
            ctime: Timestamp::read(reader)?,
            inode: reader.varint("inode")?,
            links: reader.varint("links")?,
            device: (0, 0),
        };
        match kind {
            EntryKind::File => stat.size = read_size(reader)?,
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                stat.device = (
                    reader.varint32("device major")?,
                    reader.varint32("device minor")?,
                );
            }
            _ => {}
        }
        Ok(stat)
    }
}

fn read_size(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let size = reader.varint("size")?;
    if i64::try_from(size).is_err() {
        return Err(DecodeError::AboveLimit {
            what: "size",
            found: size,
            limit: i64::MAX.cast_unsigned(),
        });
    }
    Ok(size)
}

/// One extended attribute; ACLs and capabilities are attributes too, kept byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Xattr {
    /// Its name, with the namespace.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// Appends extended attributes, which must be sorted by name.
pub fn put_xattrs(xattrs: &[Xattr], out: &mut Vec<u8>) {
    out.put_varint(xattrs.len() as u64);
    for xattr in xattrs {
        out.put_prefixed(&xattr.name);
        out.put_prefixed(&xattr.value);
    }
}

/// Reads extended attributes: sorted by name, each once, none without a name.
pub fn read_xattrs(reader: &mut Reader<'_>) -> Result<Vec<Xattr>, DecodeError> {
    let count = reader.count("xattrs", XATTRS_MAX, 3)?;
    let mut xattrs: Vec<Xattr> = Vec::with_capacity(count);
    let mut total = 0u64;
    for _ in 0..count {
        let name = reader.prefixed("xattr name", XATTR_NAME_BYTES_MAX)?;
        let value = reader.prefixed("xattr value", XATTR_VALUE_BYTES_MAX)?;
        total += (name.len() + value.len()) as u64;
        if total > XATTRS_BYTES_MAX {
            return Err(DecodeError::AboveLimit {
                what: "xattrs",
                found: total,
                limit: XATTRS_BYTES_MAX,
            });
        }
        if name.is_empty() || name.contains(&0) {
            return Err(DecodeError::Invalid {
                what: "xattr name",
                rule: "must not be empty or hold a NUL",
            });
        }
        if xattrs
            .last()
            .is_some_and(|last| last.name.as_slice() >= name)
        {
            return Err(DecodeError::NotCanonical { what: "xattrs" });
        }
        xattrs.push(Xattr {
            name: name.to_vec(),
            value: value.to_vec(),
        });
    }
    Ok(xattrs)
}

/// What the run noted about an entry; bits of one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EntryFlags(u8);

impl EntryFlags {
    /// Changed within the clock's granularity of being read: the next run reads it again.
    pub const UNSETTLED: Self = Self(1);
    /// Changed while it was read, twice: the content may mix two states.
    pub const CHANGED_WHILE_READ: Self = Self(2);
    /// Content, link target or attributes could not be read.
    pub const UNREADABLE: Self = Self(4);
    /// Gone from the host; kept from an earlier snapshot by `keep_deleted`.
    pub const CARRIED: Self = Self(8);

    const ALL: u8 = 15;

    /// Whether every bit of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Its byte.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Reads it; unknown bits are refused.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8("entry flags")? {
            bits if bits & !Self::ALL == 0 => Ok(Self(bits)),
            bits => Err(DecodeError::UnknownTag {
                what: "entry flags",
                tag: bits.into(),
            }),
        }
    }
}

/// One filesystem object of a snapshot. Its directory is its block's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its name in its directory.
    pub name: Vec<u8>,
    /// Its metadata.
    pub stat: Stat,
    /// What the run noted.
    pub flags: EntryFlags,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
    /// Where a symbolic link points; empty for every other type.
    pub link_target: Vec<u8>,
    /// For a further name of a file: the path of its first name in the listing, which has the content.
    pub hard_link_to: Option<Vec<u8>>,
    /// A file's content.
    pub content: Content,
}

const CONTENT_TAG_HARD_LINK: u8 = 3;

impl Entry {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_prefixed(&self.name);
        self.stat.put(out);
        out.put_u8(self.flags.bits());
        put_xattrs(&self.xattrs, out);
        if self.stat.kind == EntryKind::Symlink {
            out.put_prefixed(&self.link_target);
        }
        match &self.hard_link_to {
            Some(path) => {
                out.put_u8(CONTENT_TAG_HARD_LINK);
                out.put_prefixed(path);
            }
            None => self.content.put(out),
        }
    }

    /// Reads it, with every rule of an entry checked.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = read_name(reader)?;
        let stat = Stat::read(reader)?;
        let flags = EntryFlags::read(reader)?;
        let xattrs = read_xattrs(reader)?;
        let link_target = match stat.kind {
            EntryKind::Symlink => {
                let target = reader.prefixed("link target", LINK_TARGET_BYTES_MAX)?;
                check_link_target(target, flags)?;
                target.to_vec()
            }
            _ => Vec::new(),
        };
        let mut ahead = reader.clone();
        let (hard_link_to, content) = if ahead.u8("content")? == CONTENT_TAG_HARD_LINK {
            *reader = ahead;
            let path = reader.prefixed("hard link", PATH_BYTES_MAX + NAME_BYTES_MAX + 1)?;
            check_path(path)?;
            if stat.kind == EntryKind::Directory || path.is_empty() {
                return Err(DecodeError::Invalid {
                    what: "hard link",
                    rule: "must be another name of something that is no directory",
                });
            }
            (Some(path.to_vec()), Content::None)
        } else {
            (None, Content::read(reader, &stat, flags)?)
        };
        Ok(Self {
            name,
            stat,
            flags,
            xattrs,
            link_target,
            hard_link_to,
            content,
        })
    }
}

/// Checks the rules of a symbolic link's target; only one that could not be read is empty.
pub(crate) fn check_link_target(target: &[u8], flags: EntryFlags) -> Result<(), DecodeError> {
    let empty_is_fine = flags.contains(EntryFlags::UNREADABLE);
    if target.contains(&0) || (target.is_empty() && !empty_is_fine) {
        return Err(DecodeError::Invalid {
            what: "link target",
            rule: "must not be empty or hold a NUL",
        });
    }
    Ok(())
}

/// Reads an entry's name: 1 to 255 bytes, no slash, no NUL, not `.` or `..`.
pub fn read_name(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    let name = reader.prefixed("name", NAME_BYTES_MAX)?;
    check_name(name)?;
    Ok(name.to_vec())
}

/// Checks the rules of a name.
pub fn check_name(name: &[u8]) -> Result<(), DecodeError> {
    let bad = name.is_empty()
        || name.len() as u64 > NAME_BYTES_MAX
        || name == b"."
        || name == b".."
        || name.contains(&b'/')
        || name.contains(&0);
    if bad {
        return Err(DecodeError::Invalid {
            what: "name",
            rule: "must be 1 to 255 bytes, without slash or NUL, and not . or ..",
        });
    }
    Ok(())
}

/// Checks a path: names joined by single slashes, none in front; empty is the root.
pub fn check_path(path: &[u8]) -> Result<(), DecodeError> {
    if path.is_empty() {
        return Ok(());
    }
    let limit = PATH_BYTES_MAX + NAME_BYTES_MAX + 1;
    if path.len() as u64 > limit {
        return Err(DecodeError::AboveLimit {
            what: "path",
            found: path.len() as u64,
            limit,
        });
    }
    let mut depth = 0;
    for name in path.split(|byte| *byte == b'/') {
        check_name(name)?;
        depth += 1;
    }
    if depth > PATH_DEPTH_MAX {
        return Err(DecodeError::AboveLimit {
            what: "path depth",
            found: depth as u64,
            limit: PATH_DEPTH_MAX as u64,
        });
    }
    Ok(())
}

/// Reads a directory's path under the same rules.
pub fn read_path(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    let path = reader.prefixed("path", PATH_BYTES_MAX)?;
    check_path(path)?;
    Ok(path.to_vec())
}

/// A name below a directory as one path.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
