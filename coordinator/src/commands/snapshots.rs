//! `snapshots`: one line for each snapshot, the newest last. Reads nothing itself: it is given the records.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::catalog::SnapshotRow;
use crate::clock::{local, utc};
use crate::terminal::{Align, count_text, size_text, write_json, write_table};

/// One snapshot in the list; also one element of what `snapshots --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotLine {
    id: String,
    seq: u64,
    host: String,
    time: String,
    files: u64,
    directories: u64,
    bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    outcome: &'static str,
    problem_count: u64,
    verified: bool,
    on_hold: bool,
    #[serde(skip)]
    committed: Timestamp,
}

impl SnapshotLine {
    /// The line of a snapshot of the catalog.
    pub fn of(row: &SnapshotRow) -> Self {
        let totals = &row.totals;
        Self {
            id: row.id.to_string(),
            seq: row.sequence,
            host: row.host.clone(),
            time: utc(row.committed),
            files: totals.files + totals.others,
            directories: totals.directories,
            bytes: totals.bytes,
            new_bytes: totals.bytes_new,
            stored_bytes: totals.bytes_stored,
            outcome: if totals.problems == 0 {
                "ok"
            } else {
                "warnings"
            },
            problem_count: totals.problems,
            verified: row.verified,
            on_hold: false,
            committed: row.committed,
        }
    }

    /// The same, of a run that looked wrong.
    pub fn held(self) -> Self {
        Self {
            outcome: "held",
            ..self
        }
    }

    /// The same, of a host that is on hold.
    pub fn on_hold(self) -> Self {
        Self {
            on_hold: true,
            ..self
        }
    }

    fn row(&self, zone: &TimeZone) -> Vec<String> {
        let outcome = match self.problem_count {
            0 => self.outcome.to_owned(),
            count => format!("{}({})", self.outcome, count_text(count)),
        };
        vec![
            self.host.clone(),
            self.id.chars().take(ID_CHARS_SHOWN).collect(),
            local(self.committed, zone),
            count_text(self.files),
            size_text(self.bytes),
            size_text(self.new_bytes),
            outcome,
            if self.verified { "yes" } else { "no" }.to_owned(),
        ]
    }
}

/// As many characters of an id as people are shown; every command takes them.
const ID_CHARS_SHOWN: usize = 8;

const COLUMNS: [(&str, Align); 8] = [
    ("host", Align::Left),
    ("snapshot", Align::Left),
    ("time", Align::Left),
    ("files", Align::Right),
    ("size", Align::Right),
    ("new", Align::Right),
    ("outcome", Align::Left),
    ("verified", Align::Left),
];

/// Writes the snapshots, each host's oldest first: in the order of its log, whatever its times say.
pub fn write_snapshots(
    mut lines: Vec<SnapshotLine>,
    json: bool,
    zone: &TimeZone,
    out: &mut dyn Write,
) -> io::Result<()> {
    lines.sort_by(|one, other| (&one.host, one.seq).cmp(&(&other.host, other.seq)));
    if json {
        return write_json(out, &lines);
    }
    let rows: Vec<Vec<String>> = lines.iter().map(|line| line.row(zone)).collect();
    write_table(out, &COLUMNS, &rows)
}

#[cfg(test)]
mod tests;
