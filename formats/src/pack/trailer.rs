//! A pack's end: sealed table, run headers, footer. The footer has a fixed size, so a pack is read from it
//! backwards; every length in it is checked against the pack's own.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::{PACK_BYTES_MAX, PACK_RUN_HEADERS_MAX, PACK_TABLE_BYTES_MAX};
use crate::seal::run_header::{RUN_HEADER_BYTES, RunHeader};

const MAGIC: &[u8; 8] = b"CAPSPACK";
const VERSION: u16 = 1;

/// Bytes of the footer: table length, run header count, version, magic.
pub const FOOTER_BYTES: usize = 4 + 2 + 2 + 8;

/// What the footer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Bytes of the sealed table.
    pub table_bytes: u32,
    /// How many run headers there are; the first is of the run that wrote the pack.
    pub run_headers: u16,
}

impl Footer {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.put_u32(self.table_bytes);
        out.put_u16(self.run_headers);
        out.put_u16(VERSION);
        out.put(MAGIC);
        out
    }

    /// Reads the footer of a pack of `pack_bytes`.
    pub fn decode(bytes: &[u8; FOOTER_BYTES], pack_bytes: u64) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let footer = Self {
            table_bytes: reader.u32("table")?,
            run_headers: reader.u16("run headers")?,
        };
        let found = reader.u16("pack version")?;
        if reader.array::<8>("pack")? != *MAGIC {
            return Err(DecodeError::Invalid {
                what: "pack",
                rule: "does not end with its magic bytes",
            });
        }
        if found != VERSION {
            return Err(DecodeError::UnknownVersion {
                what: "pack",
                found,
                known: VERSION,
            });
        }
        let limits = [
            ("pack", pack_bytes, PACK_BYTES_MAX),
            ("table", footer.table_bytes.into(), PACK_TABLE_BYTES_MAX),
            (
                "run headers",
                footer.run_headers.into(),
                PACK_RUN_HEADERS_MAX,
            ),
        ];
        for (what, found, limit) in limits {
            if found > limit {
                return Err(DecodeError::AboveLimit { what, found, limit });
            }
        }
        if footer.run_headers == 0 {
            return Err(DecodeError::Invalid {
                what: "run headers",
                rule: "there must be one",
            });
        }
        if footer.trailer_bytes() > pack_bytes {
            return Err(DecodeError::Truncated { what: "pack" });
        }
        Ok(footer)
    }

    /// Bytes of the run headers.
    pub fn headers_bytes(&self) -> u64 {
        u64::from(self.run_headers) * RUN_HEADER_BYTES as u64
    }

    /// Bytes of table, run headers and footer together: what to read from a pack's end.
    pub fn trailer_bytes(&self) -> u64 {
        u64::from(self.table_bytes) + self.headers_bytes() + FOOTER_BYTES as u64
    }
}

/// What a table's seal is bound to: the run that wrote the pack, and everything after the table.
pub(crate) fn table_associated(first: &RunHeader, headers_and_footer: &[u8]) -> Vec<u8> {
    let mut out = b"capstan 2026-11 pack table".to_vec();
    first.context.put(&mut out);
    out.put(blake3::hash(headers_and_footer).as_bytes());
    out
}
