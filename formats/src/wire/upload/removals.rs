//! What a sweep of the packs that prune condemned came to.

use crate::codec::{DecodeError, Put, Reader};
use crate::wire::upload::destinations::{DESTINATION_TEXT_BYTES_MAX, DESTINATIONS_MAX, put_text};

/// What a sweep came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemovalReport {
    /// Copies that were removed.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Packs whose time has not come.
    pub too_young: u64,
    /// Packs that are for another day.
    pub over_limit: u64,
    /// What is still to be removed, by destination.
    pub waiting: Vec<RemovalsWaiting>,
}

/// What is still to be removed at one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalsWaiting {
    /// Its name.
    pub destination: String,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why one of them was not removed, if it was tried.
    pub problem: Option<String>,
}

impl RemovalReport {
    /// Its bytes. Texts are cut to what a reader takes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for field in [
            self.removed,
            self.removed_bytes,
            self.too_young,
            self.over_limit,
        ] {
            out.put_varint(field);
        }
        let limit = usize::try_from(DESTINATIONS_MAX).unwrap_or(usize::MAX);
        let waiting = self.waiting.iter().take(limit);
        out.put_varint(waiting.len() as u64);
        for one in waiting {
            put_text(&mut out, &one.destination);
            out.put_varint(one.objects);
            out.put_varint(one.bytes);
            out.put_flag(one.problem.is_some());
            if let Some(problem) = &one.problem {
                put_text(&mut out, problem);
            }
        }
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut report = Self {
            removed: reader.varint("removed")?,
            removed_bytes: reader.varint("removed bytes")?,
            too_young: reader.varint("too young")?,
            over_limit: reader.varint("over limit")?,
            waiting: Vec::new(),
        };
        let count = reader.count("waiting", DESTINATIONS_MAX, 4)?;
        for _ in 0..count {
            report.waiting.push(RemovalsWaiting {
                destination: reader.text("destination", DESTINATION_TEXT_BYTES_MAX)?,
                objects: reader.varint("objects")?,
                bytes: reader.varint("bytes")?,
                problem: match reader.flag("problem")? {
                    true => Some(reader.text("problem", DESTINATION_TEXT_BYTES_MAX)?),
                    false => None,
                },
            });
        }
        reader.finish("removal report")?;
        Ok(report)
    }
}
