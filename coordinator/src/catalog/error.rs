//! Why the catalog could not answer.

use std::path::PathBuf;

use formats::ids::{RecordId, RepositoryId};
use formats::keys::derive::Epoch;
use jiff::Timestamp;

use crate::catalog::selector::Selector;
use crate::clock;
use crate::database::DatabaseError;

/// Why the catalog could not answer or change.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file is damaged, or could not be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The file is another repository's.
    #[error(
        "the catalog {} is of repository {found}, epoch {found_epoch}, not of {expected}, epoch {expected_epoch}: \
         name the right state_dir, or delete the file and it is read again from the log",
        path.display()
    )]
    OtherRepository {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        found: RepositoryId,
        /// Its generation of keys.
        found_epoch: Epoch,
        /// Whose it should be.
        expected: RepositoryId,
        /// The generation it should be.
        expected_epoch: Epoch,
    },
    /// The record does not stand where the next one goes.
    #[error(
        "log record {offered} does not follow record {head}, the last one known: another coordinator wrote to \
         this repository; run again"
    )]
    NotNext {
        /// The record's sequence number.
        offered: u64,
        /// The last one known.
        head: u64,
    },
    /// There is none.
    #[error("{} no snapshot yet: `coordinator run` makes the first", owner(host.as_deref()))]
    NoSnapshots {
        /// The host asked for.
        host: Option<String>,
    },
    /// None of them is meant.
    #[error(
        "{} no snapshot {selector}: `coordinator snapshots` lists the {count} there are",
        owner(host.as_deref())
    )]
    NoSuchSnapshot {
        /// The host asked for.
        host: Option<String>,
        /// What was asked for.
        selector: Selector,
        /// How many there are.
        count: usize,
    },
    /// Several begin so.
    #[error(
        "snapshot id {prefix} is ambiguous, give more digits: {}",
        list(candidates)
    )]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// Those that begin so, oldest first.
        candidates: Vec<(RecordId, Timestamp)>,
    },
}

impl CatalogError {
    /// Whether there is simply no such snapshot, or not just one.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::NoSnapshots { .. } | Self::NoSuchSnapshot { .. } | Self::Ambiguous { .. }
        )
    }
}

/// How many candidates an error names.
const CANDIDATES_SHOWN: usize = 8;

fn owner(host: Option<&str>) -> String {
    match host {
        Some(host) => format!("host {host} has"),
        None => "the repository has".to_owned(),
    }
}

fn list(candidates: &[(RecordId, Timestamp)]) -> String {
    let mut shown: Vec<String> = candidates
        .iter()
        .take(CANDIDATES_SHOWN)
        .map(|(id, at)| {
            let digits: String = id.to_string().chars().take(16).collect();
            format!("{digits} of {}", clock::utc(*at))
        })
        .collect();
    let more = candidates.len().saturating_sub(CANDIDATES_SHOWN);
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}
