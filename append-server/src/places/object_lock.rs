//! `retain` and what belongs to it: how objects of a bucket are locked, and past when no lock is prolonged. A lock cannot be
//! taken back, so that what is asked for must be meant.

use std::time::Duration;

use crate::destination::s3::options::{LockMode, ObjectLock};
use crate::places::s3::choose;
use crate::places::table::{DestinationTable, KeyError};

const DAY_SECS: u64 = 86_400;
/// Past which no lock is prolonged unless that is configured: ten years from when an object was stored.
const LOCK_DAYS_MAX_DEFAULT: u64 = 3_650;

/// The lock that a table asks for.
pub(super) fn lock(table: &DestinationTable) -> Result<Option<ObjectLock>, KeyError> {
    let mode = choose(
        "retain_mode",
        table.retain_mode.as_deref(),
        LockMode::Governance,
        &[
            ("governance", LockMode::Governance),
            ("compliance", LockMode::Compliance),
        ],
    )?;
    let legal_hold = table.legal_hold.unwrap_or(false);
    let Some(retain) = &table.retain else {
        let alone = [
            ("retain_mode", table.retain_mode.is_some()),
            ("legal_hold", legal_hold),
            ("lock_max", table.lock_max.is_some()),
        ];
        return match alone.into_iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((key, _)) => Err(KeyError {
                key,
                problem: "needs `retain`, such as \"30d\"".to_owned(),
            }),
        };
    };
    let retain = days("retain", retain)?;
    let longest = match &table.lock_max {
        None => LOCK_DAYS_MAX_DEFAULT,
        Some(longest) => days("lock_max", longest)?,
    };
    if retain > longest {
        return Err(KeyError {
            key: "retain",
            problem: format!(
                "is {retain}d, and no lock may last longer than {longest}d: a lock cannot be taken back, so that `lock_max` \
                 has to say so too if it is meant"
            ),
        });
    }
    Ok(Some(ObjectLock {
        retain: Duration::from_secs(retain * DAY_SECS),
        longest: Duration::from_secs(longest * DAY_SECS),
        mode,
        legal_hold,
    }))
}

fn days(key: &'static str, text: &str) -> Result<u64, KeyError> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<u64>().ok())
        .filter(|days| (1..=36_500).contains(days));
    days.ok_or_else(|| KeyError {
        key,
        problem: format!("is {text:?}: write days, as in \"30d\", up to 36500"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::{DAY_SECS, lock};
    use crate::destination::s3::options::{LockMode, ObjectLock};
    use crate::places::table::{DestinationTable, KeyError};

    fn read(keys: &str) -> Result<Option<ObjectLock>, KeyError> {
        let text = format!("name = \"s3\"\nurl = \"s3://bucket\"\n{keys}\n");
        let table: DestinationTable = toml::from_str(&text).unwrap();
        lock(&table)
    }

    #[test]
    fn a_lock_has_a_limit_of_ten_years_unless_that_is_said() {
        let days = |days: u64| Duration::from_secs(days * DAY_SECS);
        assert_eq!(read("").unwrap(), None);
        let plain = ObjectLock {
            retain: days(30),
            longest: days(3_650),
            mode: LockMode::Governance,
            legal_hold: false,
        };
        assert_eq!(read("retain = \"30d\"").unwrap(), Some(plain));
        let long = "retain = \"5000d\"\nlock_max = \"5000d\"\nretain_mode = \"compliance\"";
        let long = read(long).unwrap().unwrap();
        assert_eq!((long.retain, long.longest), (days(5_000), days(5_000)));
        assert_eq!(long.mode, LockMode::Compliance);
    }

    #[test]
    fn what_is_hardly_meant_is_refused() {
        for (keys, words) in [
            ("retain = \"36500d\"", "lock_max"),
            ("retain = \"30d\"\nlock_max = \"29d\"", "longer than 29d"),
            ("lock_max = \"90d\"", "needs `retain`"),
            ("retain = \"30\"", "write days"),
            ("retain = \"30d\"\nlock_max = \"1y\"", "write days"),
            ("retain = \"0d\"", "write days"),
        ] {
            let error = read(keys).unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }
}
