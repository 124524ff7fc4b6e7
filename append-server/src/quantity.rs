//! Sizes ("50GiB") and durations ("26h") as people write them. Never guesses a missing unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const DURATION_UNITS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// Digits after the point that a size may have.
const FRACTION_DIGITS_MAX: usize = 3;

/// Why a text is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number followed by a unit of size.
    #[error("size {text:?} is not a number with a unit: write \"50GiB\", \"1.5TiB\" or \"500MB\"")]
    BadSize {
        /// The refused text.
        text: String,
    },
    /// Not numbers followed by units of time.
    #[error(
        "duration {text:?} is not a number with a unit: write \"90s\", \"30m\", \"26h\", \"14d\" or \"1h30m\""
    )]
    BadDuration {
        /// The refused text.
        text: String,
    },
    /// More than the type holds.
    #[error("{text:?} is too large: write a smaller value")]
    TooLarge {
        /// The refused text.
        text: String,
    },
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size {
    bytes: u64,
}

impl Size {
    /// A size of so many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.bytes
    }
}

impl FromStr for Size {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let bad = || QuantityError::BadSize {
            text: text.to_owned(),
        };
        let (number, unit) = split_number(text).ok_or_else(bad)?;
        let (_, factor) = SIZE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim_start()))
            .ok_or_else(bad)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.len() > FRACTION_DIGITS_MAX {
            return Err(bad());
        }
        let too_large = || QuantityError::TooLarge {
            text: text.to_owned(),
        };
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let scale = 10_u64.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
        let fraction: u64 = fraction.parse().map_err(|_| bad())?;
        // A fraction of a byte means nothing.
        if *factor == 1 && fraction != 0 {
            return Err(bad());
        }
        // At most 999/1000 of a TiB: cannot overflow.
        let part = fraction * factor / scale;
        let bytes = whole
            .checked_mul(*factor)
            .and_then(|bytes| bytes.checked_add(part))
            .ok_or_else(too_large)?;
        Ok(Self { bytes })
    }
}

impl fmt::Display for Size {
    /// Writes the largest binary unit that loses nothing, so that the text parses back to the same size.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |factor: u64| self.bytes >= factor && self.bytes.is_multiple_of(factor);
        match SIZE_UNITS[1..5].iter().rev().find(|unit| exact(unit.1)) {
            Some((name, factor)) => write!(out, "{}{name}", self.bytes / factor),
            None => write!(out, "{}B", self.bytes),
        }
    }
}

/// A length of time, exact to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    millis: u64,
}

impl Span {
    /// A span of so many seconds.
    pub const fn from_secs(secs: u32) -> Self {
        Self {
            millis: secs as u64 * 1_000,
        }
    }

    /// The span for timers.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let bad = || QuantityError::BadDuration {
            text: text.to_owned(),
        };
        let too_large = || QuantityError::TooLarge {
            text: text.to_owned(),
        };
        let mut rest = text;
        let mut millis = 0_u64;
        let mut previous = u64::MAX;
        while !rest.is_empty() {
            let (number, after) = split_number(rest).ok_or_else(bad)?;
            let unit_bytes = after
                .find(|character: char| !character.is_ascii_alphabetic())
                .unwrap_or(after.len());
            let (unit, remaining) = after.split_at(unit_bytes);
            let (_, factor) = DURATION_UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(bad)?;
            // "30m1h" and "1h1h" are slips of the hand.
            if *factor >= previous || number.contains('.') {
                return Err(bad());
            }
            previous = *factor;
            let count: u64 = number.parse().map_err(|_| too_large())?;
            millis = count
                .checked_mul(*factor)
                .and_then(|part| millis.checked_add(part))
                .ok_or_else(too_large)?;
            rest = remaining;
        }
        if text.is_empty() {
            return Err(bad());
        }
        Ok(Self { millis })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis == 0 {
            return out.write_str("0s");
        }
        let mut left = self.millis;
        for (name, factor) in DURATION_UNITS.iter().rev().skip(1) {
            let count = left / factor;
            if count > 0 {
                write!(out, "{count}{name}")?;
            }
            left %= factor;
        }
        Ok(())
    }
}

/// The leading digits and points, and what follows; nothing when there is no digit.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    number
        .starts_with(|first: char| first.is_ascii_digit())
        .then_some((number, rest))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::{Size, Span};

    #[test]
    fn sizes_need_a_unit_and_stay_exact() {
        for (text, bytes) in [
            ("0B", 0),
            ("1KiB", 1024),
            ("50GiB", 50 << 30),
            ("50 GiB", 50 << 30),
            ("1.5TiB", 3 << 39),
            ("500MB", 500_000_000),
            ("0.001KB", 1),
            ("16777215TiB", 16_777_215 << 40),
        ] {
            assert_eq!(text.parse::<Size>().unwrap().bytes(), bytes, "{text}");
        }
        for text in [
            "",
            "50",
            "GiB",
            "-1GiB",
            "+1GiB",
            "1e3B",
            "1.GiB",
            ".5GiB",
            "1.2.3GiB",
            "1.5B",
            "1.0001GiB",
            "16777216TiB",
            "99999999999999999999B",
            "1GiB ",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_units_from_large_to_small() {
        for (text, millis) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("14d", 1_209_600_000),
            ("2w1d", 1_296_000_000),
        ] {
            assert_eq!(
                text.parse::<Span>().unwrap().duration().as_millis(),
                millis,
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "h",
            "-5s",
            "5 s",
            "30m1h",
            "1h1h",
            "1.5h",
            "5M",
            "99999999999999999999s",
            "999999999999999999w",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn printed_quantities_parse_back_to_themselves(number: u64) {
            let size = Size::from_bytes(number);
            proptest::prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
            let span = Span { millis: number };
            proptest::prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }

        #[test]
        fn any_text_is_a_quantity_or_an_error(text: String) {
            drop((text.parse::<Size>(), text.parse::<Span>()));
        }
    }
}
