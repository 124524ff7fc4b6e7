//! A number of bytes per second as people write it: "10MiB/s", a size and "/s".

use std::fmt;
use std::str::FromStr;

use crate::quantity::Size;

/// With less, services and servers would take a transfer for one that hangs.
const BYTES_PER_SEC_MIN: u64 = 64 << 10;

/// How much a destination may send and receive per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth(Size);

/// Text that is no bandwidth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is {text:?}: write bytes per second, as in \"10MiB/s\" or \"500KB/s\", and at least \"64KiB/s\""
)]
pub struct ParseBandwidthError {
    text: String,
}

impl Bandwidth {
    /// Bytes per second, which are never few.
    pub fn bytes_per_sec(self) -> u64 {
        self.0.bytes()
    }
}

impl FromStr for Bandwidth {
    type Err = ParseBandwidthError;

    fn from_str(text: &str) -> Result<Self, ParseBandwidthError> {
        let per_sec = text.strip_suffix("/s").and_then(|size| size.parse().ok());
        let enough = per_sec.filter(|size: &Size| size.bytes() >= BYTES_PER_SEC_MIN);
        enough.map(Self).ok_or_else(|| ParseBandwidthError {
            text: text.chars().take(80).collect(),
        })
    }
}

impl fmt::Display for Bandwidth {
    /// Writes the largest binary unit that loses nothing, so that the text parses back to the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Bandwidth;

    #[test]
    fn bandwidths_need_a_unit_and_stay_exact() {
        for (text, bytes, shown) in [
            ("10MiB/s", 10 << 20, "10MiB/s"),
            ("10 MiB/s", 10 << 20, "10MiB/s"),
            ("1.5GiB/s", 3 << 29, "1536MiB/s"),
            ("500KB/s", 500_000, "500000B/s"),
            ("64kib/s", 64 << 10, "64KiB/s"),
        ] {
            let bandwidth: Bandwidth = text.parse().unwrap();
            assert_eq!(bandwidth.bytes_per_sec(), bytes, "{text}");
            assert_eq!(bandwidth.to_string(), shown);
            assert_eq!(shown.parse::<Bandwidth>().unwrap(), bandwidth);
        }
        for text in [
            "",
            "10",
            "10MiB",
            "10/s",
            "MiB/s",
            "10MiB/m",
            "10Mbit/s",
            "-1MiB/s",
            "1.MiB/s",
            ".5MiB/s",
            "1.2.3MiB/s",
            "1.0001MiB/s",
            "63KiB/s",
            "0B/s",
            "99999999999999999999B/s",
            "99999999999999999GiB/s",
        ] {
            let error = text.parse::<Bandwidth>().unwrap_err();
            assert!(error.to_string().contains("\"10MiB/s\""), "{text}");
        }
    }
}
