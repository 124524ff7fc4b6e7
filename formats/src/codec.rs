//! The canonical byte codec under every format: little-endian integers, minimal LEB128 varints and
//! length-prefixed bytes. Never allocates for a length before that length is checked against a limit and
//! against the bytes that are really there.

use std::ops::RangeInclusive;

/// Why bytes from outside were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("{what}: the data ends too early")]
    Truncated {
        /// The field being read.
        what: &'static str,
    },
    /// A length or count is above its limit.
    #[error("{what}: {found} is above the limit of {limit}")]
    AboveLimit {
        /// The field being read.
        what: &'static str,
        /// The value found.
        found: u64,
        /// The limit of `formats::limits`.
        limit: u64,
    },
    /// The value has another, shorter or ordered, encoding: only that one is accepted.
    #[error("{what}: not in its canonical form")]
    NotCanonical {
        /// The field being read.
        what: &'static str,
    },
    /// A tag this version does not know.
    #[error("{what}: unknown tag {tag}")]
    UnknownTag {
        /// The field being read.
        what: &'static str,
        /// The tag found.
        tag: u64,
    },
    /// The data is of another format version.
    #[error(
        "{what}: format version {found}, this build reads version {known}; use a build that reads version {found}"
    )]
    UnknownVersion {
        /// The format.
        what: &'static str,
        /// The version found.
        found: u16,
        /// The version this build reads.
        known: u16,
    },
    /// Bytes are left after the last field.
    #[error("{what}: {left} bytes left after the end")]
    TrailingBytes {
        /// The format being read.
        what: &'static str,
        /// How many.
        left: u64,
    },
    /// A value that the field's rules exclude.
    #[error("{what}: {rule}")]
    Invalid {
        /// The field being read.
        what: &'static str,
        /// The rule that it breaks.
        rule: &'static str,
    },
}

/// Reads fields from a slice, refusing anything that is not exactly as it should be.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::Truncated { what })?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated { what })?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    /// A fixed 16-bit number.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// A fixed 32-bit number.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// A fixed 64-bit number.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A fixed signed 64-bit number.
    pub fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array(what)?))
    }

    /// A yes or no: 0 or 1, nothing else.
    pub fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(DecodeError::UnknownTag {
                what,
                tag: tag.into(),
            }),
        }
    }

    /// A minimal LEB128 number.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::NotCanonical { what });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::NotCanonical { what });
                }
                return Ok(value);
            }
        }
        Err(DecodeError::NotCanonical { what })
    }

    /// A varint that must fit 32 bits.
    pub fn varint32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let found = self.varint(what)?;
        u32::try_from(found).map_err(|_| DecodeError::AboveLimit {
            what,
            found,
            limit: u32::MAX.into(),
        })
    }

    /// A count of things of at least `each_bytes_min` bytes, at most `limit`: safe to allocate for.
    pub fn count(
        &mut self,
        what: &'static str,
        limit: u64,
        each_bytes_min: usize,
    ) -> Result<usize, DecodeError> {
        let found = self.varint(what)?;
        if found > limit {
            return Err(DecodeError::AboveLimit { what, found, limit });
        }
        let count = usize::try_from(found).map_err(|_| DecodeError::Truncated { what })?;
        if count.saturating_mul(each_bytes_min) > self.remaining() {
            return Err(DecodeError::Truncated { what });
        }
        Ok(count)
    }

    /// Bytes with a varint length, at most `limit` of them.
    pub fn prefixed(&mut self, what: &'static str, limit: u64) -> Result<&'a [u8], DecodeError> {
        let length = self.count(what, limit, 1)?;
        self.bytes(what, length)
    }

    /// UTF-8 text with a varint length in bytes.
    pub fn text(&mut self, what: &'static str, limit: u64) -> Result<String, DecodeError> {
        let bytes = self.prefixed(what, limit)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::Invalid {
                what,
                rule: "must be UTF-8",
            }),
        }
    }

    /// Checks that nothing is left.
    pub fn finish(self, what: &'static str) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes {
                what,
                left: left as u64,
            }),
        }
    }
}

/// Reads a format's magic bytes and version; a version is refused before anything else is read.
pub fn read_magic(
    reader: &mut Reader<'_>,
    what: &'static str,
    magic: &[u8; 8],
    known: u16,
) -> Result<(), DecodeError> {
    read_magic_and_version(reader, what, magic, known..=known).map(drop)
}

/// Reads magic bytes and one of several versions, the same way.
pub fn read_magic_and_version(
    reader: &mut Reader<'_>,
    what: &'static str,
    magic: &[u8; 8],
    known: RangeInclusive<u16>,
) -> Result<u16, DecodeError> {
    if reader.array::<8>(what)? != *magic {
        return Err(DecodeError::Invalid {
            what,
            rule: "does not begin with its magic bytes",
        });
    }
    let found = reader.u16(what)?;
    if !known.contains(&found) {
        let known = *known.end();
        return Err(DecodeError::UnknownVersion { what, found, known });
    }
    Ok(found)
}

/// Appends fields to a buffer in the form that [`Reader`] accepts.
pub trait Put {
    /// Appends raw bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Appends a fixed 16-bit number.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    /// Appends a fixed 32-bit number.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    /// Appends a fixed 64-bit number.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// Appends a fixed signed 64-bit number.
    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }

    /// Appends a yes or no.
    fn put_flag(&mut self, value: bool) {
        self.put_u8(value.into());
    }

    /// Appends a minimal LEB128 number.
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8((value & 0x7f) as u8);
    }

    /// Appends bytes after their varint length.
    fn put_prefixed(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put(bytes);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{DecodeError, Put, Reader};

    #[test]
    fn varints_round_trip_and_only_in_their_shortest_form() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint("value"), Ok(value));
            assert_eq!(reader.finish("value"), Ok(()));
        }
        for long in [&[0x80, 0x00][..], &[0xff; 10], &[0x81, 0x80, 0x00]] {
            assert_eq!(
                Reader::new(long).varint("value"),
                Err(DecodeError::NotCanonical { what: "value" })
            );
        }
    }

    #[test]
    fn a_count_never_exceeds_what_the_bytes_can_hold() {
        let mut bytes = Vec::new();
        bytes.put_varint(1 << 40);
        assert!(matches!(
            Reader::new(&bytes).count("things", 1 << 50, 1),
            Err(DecodeError::Truncated { .. })
        ));
        assert!(matches!(
            Reader::new(&bytes).count("things", 10, 1),
            Err(DecodeError::AboveLimit { .. })
        ));
    }
}
