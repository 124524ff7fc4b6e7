//! A number of bytes per second as people write it: "10MiB/s". Never guesses a missing unit.

use std::fmt;
use std::str::FromStr;

const UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Digits after the point that a number may have.
const FRACTION_DIGITS_MAX: usize = 3;

/// With less, services and servers would take a transfer for one that hangs.
const BYTES_PER_SEC_MIN: u64 = 64 << 10;

/// How much a destination may send and receive per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth(u64);

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
        self.0
    }
}

impl FromStr for Bandwidth {
    type Err = ParseBandwidthError;

    fn from_str(text: &str) -> Result<Self, ParseBandwidthError> {
        let bytes = bytes_per_sec(text).filter(|bytes| *bytes >= BYTES_PER_SEC_MIN);
        bytes.map(Self).ok_or_else(|| ParseBandwidthError {
            text: text.chars().take(80).collect(),
        })
    }
}

fn bytes_per_sec(text: &str) -> Option<u64> {
    let amount = text.strip_suffix("/s")?;
    let digits = amount.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = amount.split_at_checked(digits)?;
    let unit = unit.trim_start();
    let known = UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let (_, factor) = known?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(*factor)?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(*factor)? / scale;
    whole.checked_add(part)
}

impl fmt::Display for Bandwidth {
    /// Writes the largest binary unit that loses nothing, so that the text parses back to the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |factor: u64| self.0 >= factor && self.0.is_multiple_of(factor);
        let binary = UNITS.iter().take(4).rev();
        match binary.into_iter().find(|(_, factor)| exact(*factor)) {
            Some((name, factor)) => write!(f, "{}{name}/s", self.0 / factor),
            None => write!(f, "{}B/s", self.0),
        }
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
