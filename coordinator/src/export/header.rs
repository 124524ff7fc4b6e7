//! Headers of a tar stream: POSIX ustar, and before it a pax header for whatever does not fit: long names, big numbers, parts
//! of seconds, extended attributes. Pure: values go in, blocks of 512 bytes come out.

use formats::listing::entry::{Timestamp, Xattr};

/// What everything in a tar stream is a multiple of.
pub const BLOCK_BYTES: usize = 512;

const NAME: Field = Field(0, 100);
const MODE: Field = Field(100, 8);
const UID: Field = Field(108, 8);
const GID: Field = Field(116, 8);
const SIZE: Field = Field(124, 12);
const MTIME: Field = Field(136, 12);
const CHECKSUM: Field = Field(148, 8);
const TYPE: Field = Field(156, 1);
const LINK: Field = Field(157, 100);
const MAGIC: Field = Field(257, 8);
const USER: Field = Field(265, 32);
const GROUP: Field = Field(297, 32);
const MAJOR: Field = Field(329, 8);
const MINOR: Field = Field(337, 8);

/// Where a field begins in the header, and its bytes.
#[derive(Debug, Clone, Copy)]
struct Field(usize, usize);

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarKind {
    /// A regular file.
    File,
    /// Another name of an entry before it.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
}

impl TarKind {
    fn flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::CharDevice => b'3',
            Self::BlockDevice => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// One entry of a tar stream.
#[derive(Debug, Clone)]
pub struct TarEntry<'a> {
    /// Its path, without a slash in front.
    pub path: &'a [u8],
    /// What it is.
    pub kind: TarKind,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's name, where it is known.
    pub user: &'a str,
    /// The group's name, where it is known.
    pub group: &'a str,
    /// Bytes of content that follow.
    pub size: u64,
    /// Last change of content.
    pub mtime: Timestamp,
    /// What a link points to; the path of the entry before it for a hard link.
    pub link: &'a [u8],
    /// A device's numbers.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: &'a [Xattr],
}

/// Appends an entry's header, with a pax header before it where it needs one.
pub fn put_header(entry: &TarEntry<'_>, out: &mut Vec<u8>) {
    let mut header = Header::new(entry.kind.flag());
    let mut records = Records::default();
    let mut path = entry.path.to_vec();
    if entry.kind == TarKind::Directory {
        path.push(b'/');
    }
    records.text(&mut header, NAME, "path", &path);
    records.text(&mut header, LINK, "linkpath", entry.link);
    records.text(&mut header, USER, "uname", entry.user.as_bytes());
    records.text(&mut header, GROUP, "gname", entry.group.as_bytes());
    records.number(&mut header, UID, "uid", entry.uid.into());
    records.number(&mut header, GID, "gid", entry.gid.into());
    records.number(&mut header, SIZE, "size", entry.size);
    let (major, minor) = entry.device;
    records.number(&mut header, MAJOR, "SCHILY.devmajor", major.into());
    records.number(&mut header, MINOR, "SCHILY.devminor", minor.into());
    records.time(&mut header, entry.mtime);
    for xattr in entry.xattrs {
        records.xattr(xattr);
    }
    header.octal(MODE, entry.mode.into());
    records.put(out);
    out.extend_from_slice(&header.finish());
}

/// How many zeros follow so many bytes of content.
pub fn padding(size: u64) -> usize {
    let past = usize::try_from(size % BLOCK_BYTES as u64).unwrap_or(0);
    (BLOCK_BYTES - past) % BLOCK_BYTES
}

struct Header([u8; BLOCK_BYTES]);

impl Header {
    fn new(flag: u8) -> Self {
        let mut header = Self([0; BLOCK_BYTES]);
        header.bytes(MAGIC, b"ustar\x0000");
        header.bytes(TYPE, &[flag]);
        header
    }

    /// As many of the bytes as there is room for; whether that is all of them.
    fn bytes(&mut self, Field(at, room): Field, bytes: &[u8]) -> bool {
        let count = bytes.len().min(room);
        for (place, byte) in self.0.iter_mut().skip(at).zip(bytes.iter().take(count)) {
            *place = *byte;
        }
        count == bytes.len()
    }

    /// The number with a NUL behind it; whether there is room for it. Zero where there is not.
    fn octal(&mut self, field: Field, number: u64) -> bool {
        let digits = field.1 - 1;
        let text = format!("{number:0digits$o}");
        let fits = text.len() == digits;
        let zero = "0".repeat(digits);
        self.bytes(field, if fits { &text } else { &zero }.as_bytes());
        fits
    }

    fn finish(mut self) -> [u8; BLOCK_BYTES] {
        self.bytes(CHECKSUM, b"        ");
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.bytes(CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

/// The records of a pax header.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    /// A text in it is not UTF-8, which pax wants to be told.
    is_binary: bool,
}

impl Records {
    /// `LENGTH KEY=VALUE\n`, where the length counts itself.
    fn record(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        self.bytes
            .extend_from_slice(format!("{length} ").as_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value);
        self.bytes.push(b'\n');
    }

    /// Other programs take the header's texts for ASCII, so that anything else gets a record, too.
    fn text(&mut self, header: &mut Header, field: Field, key: &str, value: &[u8]) {
        let fits = header.bytes(field, value);
        if !fits || !value.is_ascii() {
            self.is_binary |= std::str::from_utf8(value).is_err();
            self.record(key.as_bytes(), value);
        }
    }

    fn number(&mut self, header: &mut Header, field: Field, key: &str, value: u64) {
        if !header.octal(field, value) {
            self.record(key.as_bytes(), value.to_string().as_bytes());
        }
    }

    fn time(&mut self, header: &mut Header, time: Timestamp) {
        let whole = u64::try_from(time.seconds);
        let fits = header.octal(MTIME, whole.unwrap_or(0)) && whole.is_ok();
        if !fits || time.nanoseconds > 0 {
            self.record(b"mtime", time_text(time).as_bytes());
        }
    }

    fn xattr(&mut self, xattr: &Xattr) {
        let mut key = b"SCHILY.xattr.".to_vec();
        for byte in &xattr.name {
            // As GNU tar does, which ends a key at the first equals sign.
            match byte {
                b'=' => key.extend_from_slice(b"%3D"),
                b'%' => key.extend_from_slice(b"%25"),
                byte => key.push(*byte),
            }
        }
        self.record(&key, &xattr.value);
    }

    fn put(mut self, out: &mut Vec<u8>) {
        if self.bytes.is_empty() {
            return;
        }
        if self.is_binary {
            let others = std::mem::take(&mut self.bytes);
            self.record(b"hdrcharset", b"BINARY");
            self.bytes.extend_from_slice(&others);
        }
        let mut header = Header::new(b'x');
        header.bytes(NAME, b"PaxHeaders/entry");
        header.octal(MODE, 0o644);
        for field in [UID, GID, MTIME, MAJOR, MINOR] {
            header.octal(field, 0);
        }
        let bytes = self.bytes.len() as u64;
        // A listing's entry is far below the eight gigabytes that there is room for.
        header.octal(SIZE, bytes);
        out.extend_from_slice(&header.finish());
        out.extend_from_slice(&self.bytes);
        out.resize(out.len() + padding(bytes), 0);
    }
}

/// Seconds since 1970 with their parts, as a decimal number.
fn time_text(time: Timestamp) -> String {
    let Timestamp {
        seconds,
        nanoseconds,
    } = time;
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    if seconds >= 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    // A time is its seconds and a part forward; a negative number counts its part backward.
    let (whole, part) = (seconds + 1, 1_000_000_000 - nanoseconds);
    format!("-{}.{part:09}", whole.unsigned_abs())
}

#[cfg(test)]
mod tests;
