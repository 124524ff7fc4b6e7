//! `cpu` of a host's limits: how much CPU time the agent may use. Never measures any.

use std::fmt;
use std::str::FromStr;

use formats::limits::CPU_PERCENT_MAX;

/// A share of one CPU, or of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuLimit {
    /// 0 is no limit.
    percent: u16,
}

impl CpuLimit {
    /// Percent of one CPU; nothing where there is no limit.
    pub fn percent(self) -> Option<u16> {
        (self.percent > 0).then_some(self.percent)
    }

    /// The same as the agent is told.
    pub fn order(self) -> u16 {
        self.percent
    }
}

/// Why a text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no share of a CPU: write percent of one, as in \"50%\" or \"150%\", from \"1%\" to \"{CPU_PERCENT_MAX}%\", or \"none\""
)]
pub struct ParseCpuLimitError {
    /// The refused text.
    text: String,
}

impl FromStr for CpuLimit {
    type Err = ParseCpuLimitError;

    fn from_str(text: &str) -> Result<Self, ParseCpuLimitError> {
        let digits = text.strip_suffix('%').unwrap_or_default();
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        match (text, digits.parse()) {
            ("none", _) => Ok(Self { percent: 0 }),
            (_, Ok(percent @ 1..=CPU_PERCENT_MAX)) if is_number => Ok(Self { percent }),
            _ => Err(ParseCpuLimitError {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for CpuLimit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.percent {
            0 => out.write_str("none"),
            percent => write!(out, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CpuLimit;

    #[test]
    fn a_share_is_percent_of_one_cpu_and_shown_as_it_is_written() {
        for (text, percent) in [("1%", 1), ("50%", 50), ("150%", 150), ("1600%", 1_600)] {
            let limit: CpuLimit = text.parse().expect("it is one");
            assert_eq!((limit.percent(), limit.order()), (Some(percent), percent));
            assert_eq!(limit.to_string(), text);
        }
        let none: CpuLimit = "none".parse().expect("it is one");
        assert_eq!(
            (none, none.percent(), none.order()),
            (CpuLimit::default(), None, 0)
        );
        assert_eq!(none.to_string(), "none");
        for wrong in [
            "",
            "%",
            "0%",
            "1601%",
            "50",
            "+5%",
            "1.5%",
            "-5%",
            "50 %",
            "99999999999%",
        ] {
            let refused: Result<CpuLimit, _> = wrong.parse();
            assert!(refused.is_err(), "{wrong}");
        }
    }
}
