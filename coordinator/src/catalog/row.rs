//! A snapshot's row: what a list shows without opening the whole record.

use formats::ids::{RecordId, RunId};
use formats::log::snapshot::{Snapshot, SnapshotTotals};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::catalog::retention::ForgottenRow;
use crate::clock::from_nanos;
use crate::database::{signed, unsigned};

/// One snapshot in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its record's name.
    pub id: RecordId,
    /// Its place in the log.
    pub sequence: u64,
    /// The host's name.
    pub host: String,
    /// The run that made it.
    pub run: RunId,
    /// When the run began, by the coordinator's clock: the snapshot's time.
    pub started: Timestamp,
    /// When it was committed.
    pub committed: Timestamp,
    /// The snapshot it was compared with.
    pub parent: Option<RecordId>,
    /// Whether every pack of the run was opened and checked before the commit.
    pub verified: bool,
    /// Counts.
    pub totals: SnapshotTotals,
}

pub(super) fn insert_snapshot(
    connection: &Connection,
    sequence: u64,
    snapshot: &Snapshot,
) -> rusqlite::Result<()> {
    let mut payload = Vec::new();
    snapshot.put(&mut payload);
    let totals = &snapshot.totals;
    connection
        .prepare_cached(
            "INSERT INTO snapshots (sequence, host, run, started, committed, parent, verified, files,
             directories, others, bytes, bytes_read, bytes_new, bytes_stored, problems, payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            signed(sequence)?,
            snapshot.host,
            snapshot.run.as_bytes(),
            snapshot.started_nanos,
            snapshot.committed_nanos,
            snapshot.parent.as_ref().map(RecordId::as_bytes),
            snapshot.verified,
            saturated(totals.files),
            saturated(totals.directories),
            saturated(totals.others),
            saturated(totals.bytes),
            saturated(totals.bytes_read),
            saturated(totals.bytes_new),
            saturated(totals.bytes_stored),
            saturated(totals.problems),
            payload,
        ])?;
    Ok(())
}

/// A host's counts reach 2^64 (a few sparse files do); SQLite's numbers end at half of it. The payload has the
/// exact ones.
fn saturated(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The columns that [`read_row`] takes.
const COLUMNS: &str = "record_id, snapshots.sequence, host, run, started, committed, parent, verified, files, directories,
 others, bytes, bytes_read, bytes_new, bytes_stored, problems";

pub(super) fn snapshot_rows(
    connection: &Connection,
    host: Option<&str>,
) -> rusqlite::Result<Vec<SnapshotRow>> {
    let query = format!(
        "SELECT {COLUMNS} FROM snapshots JOIN records USING (sequence)
         WHERE (?1 IS NULL OR host = ?1) AND record_id NOT IN (SELECT record_id FROM forgotten)
         ORDER BY snapshots.sequence"
    );
    let mut statement = connection.prepare_cached(&query)?;
    let rows = statement.query_map([host], read_row)?;
    rows.collect()
}

pub(super) fn snapshots_after(
    connection: &Connection,
    sequence: u64,
) -> rusqlite::Result<Vec<SnapshotRow>> {
    let query = format!(
        "SELECT {COLUMNS} FROM snapshots JOIN records USING (sequence)
         WHERE snapshots.sequence > ?1 ORDER BY snapshots.sequence"
    );
    let mut statement = connection.prepare_cached(&query)?;
    let rows = statement.query_map([signed(sequence)?], read_row)?;
    rows.collect()
}

pub(super) fn forgotten_rows(
    connection: &Connection,
    host: Option<&str>,
) -> rusqlite::Result<Vec<ForgottenRow>> {
    let query = format!(
        "SELECT {COLUMNS}, forgotten.sequence, forgotten.at, by_person
         FROM snapshots JOIN records USING (sequence) JOIN forgotten USING (record_id)
         WHERE ?1 IS NULL OR host = ?1 ORDER BY snapshots.sequence"
    );
    let mut statement = connection.prepare_cached(&query)?;
    let rows = statement.query_map([host], |row| {
        Ok(ForgottenRow {
            snapshot: read_row(row)?,
            sequence: unsigned(row, 16)?,
            at: from_nanos(row.get(17)?),
            by_person: row.get(18)?,
        })
    })?;
    rows.collect()
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<SnapshotRow> {
    let parent: Option<[u8; 32]> = row.get(6)?;
    Ok(SnapshotRow {
        id: RecordId(row.get(0)?),
        sequence: unsigned(row, 1)?,
        host: row.get(2)?,
        run: RunId(row.get(3)?),
        started: from_nanos(row.get(4)?),
        committed: from_nanos(row.get(5)?),
        parent: parent.map(RecordId),
        verified: row.get(7)?,
        totals: SnapshotTotals {
            files: unsigned(row, 8)?,
            directories: unsigned(row, 9)?,
            others: unsigned(row, 10)?,
            bytes: unsigned(row, 11)?,
            bytes_read: unsigned(row, 12)?,
            bytes_new: unsigned(row, 13)?,
            bytes_stored: unsigned(row, 14)?,
            problems: unsigned(row, 15)?,
        },
    })
}
