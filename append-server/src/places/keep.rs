//! `keep`, as it stands in a table: how many snapshots of which kinds stay. Only read here, so that a mistake in it is told with
//! its place in the file; what it means is the coordinator's business alone.

use serde::Deserialize;
use toml::Spanned;

/// `keep`. Counts are read as signed, so that a negative one can be told to be one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepTable {
    /// The last snapshots.
    pub last: Option<Spanned<i64>>,
    /// Of each of the last hours.
    pub hourly: Option<Spanned<i64>>,
    /// Of each of the last days.
    pub daily: Option<Spanned<i64>>,
    /// Of each of the last weeks.
    pub weekly: Option<Spanned<i64>>,
    /// Of each of the last months.
    pub monthly: Option<Spanned<i64>>,
    /// Of each of the last years.
    pub yearly: Option<Spanned<i64>>,
    /// Everything that is younger, such as `14d`.
    pub within: Option<Spanned<String>>,
}
