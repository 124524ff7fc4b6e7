//! What changed in each run: its counts for as long as the run is known, and the first paths of the last runs.

use formats::ids::RunId;
use rusqlite::types::Type;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use crate::backup::changes::{ChangeKind, Changes};
use crate::catalog::state::State;
use crate::database::{DatabaseError, signed, unsigned};

/// Runs of a host whose changed paths are kept; counts stay.
const RUNS_WITH_PATHS: u32 = 50;

macro_rules! change_tables {
    () => {
        "
CREATE TABLE run_changes (
    run BLOB NOT NULL UNIQUE,     -- one that committed a snapshot and had a parent
    host TEXT NOT NULL,
    added INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    metadata INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    moved INTEGER NOT NULL        -- of those added and removed
) STRICT;
CREATE INDEX run_changes_by_host ON run_changes (host);
CREATE TABLE changed_paths (
    run BLOB NOT NULL,
    number INTEGER NOT NULL,      -- from 0, in the order in which they are told
    change TEXT NOT NULL,
    path BLOB NOT NULL,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
"
    };
}
pub(super) use change_tables;

impl State {
    /// Notes what changed in a run. The paths of the oldest runs of its host are let go.
    pub fn note_changes(
        &mut self,
        host: &str,
        run: RunId,
        changes: &Changes,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            let is_new = transaction.execute(
                "INSERT INTO run_changes (run, host, added, changed, metadata, removed, moved)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                params![
                    run.as_bytes(),
                    host,
                    signed(changes.added)?,
                    signed(changes.changed)?,
                    signed(changes.metadata)?,
                    signed(changes.removed)?,
                    signed(changes.moved)?,
                ],
            )? > 0;
            if !is_new {
                return Ok(());
            }
            let mut statement = transaction.prepare_cached(
                "INSERT INTO changed_paths (run, number, change, path) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for (number, (kind, path)) in (0i64..).zip(&changes.paths) {
                statement.execute(params![run.as_bytes(), number, kind.as_str(), path])?;
            }
            transaction.execute(
                "DELETE FROM changed_paths WHERE run IN
                 (SELECT run FROM run_changes WHERE host = ?1 ORDER BY rowid DESC LIMIT -1 OFFSET ?2)",
                params![host, RUNS_WITH_PATHS],
            )?;
            Ok(())
        })
    }

    /// What changed in a run; nothing for one that had no parent, or that this state does not know. Of one that was long ago there
    /// are counts and no paths.
    pub fn changes(&self, run: RunId) -> Result<Option<Changes>, DatabaseError> {
        self.database.read(|connection| {
            let counts = connection
                .prepare_cached(
                    "SELECT added, changed, metadata, removed, moved FROM run_changes WHERE run = ?1",
                )?
                .query_row([run.as_bytes()], |row| {
                    Ok(Changes {
                        added: unsigned(row, 0)?,
                        changed: unsigned(row, 1)?,
                        metadata: unsigned(row, 2)?,
                        removed: unsigned(row, 3)?,
                        moved: unsigned(row, 4)?,
                        paths: Vec::new(),
                    })
                })
                .optional()?;
            let Some(counts) = counts else {
                return Ok(None);
            };
            let mut statement = connection.prepare_cached(
                "SELECT change, path FROM changed_paths WHERE run = ?1 ORDER BY number",
            )?;
            let paths = statement.query_map([run.as_bytes()], read_path)?;
            Ok(Some(Changes {
                paths: paths.collect::<rusqlite::Result<_>>()?,
                ..counts
            }))
        })
    }
}

/// Lets go of what changed in a run.
pub(super) fn forget_changes(
    transaction: &Transaction<'_>,
    run: &[u8; 16],
) -> rusqlite::Result<()> {
    for table in ["run_changes", "changed_paths"] {
        transaction
            .prepare_cached(&format!("DELETE FROM {table} WHERE run = ?1"))?
            .execute([run])?;
    }
    Ok(())
}

fn read_path(row: &Row<'_>) -> rusqlite::Result<(ChangeKind, Vec<u8>)> {
    let word: String = row.get(0)?;
    let known = ChangeKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == word);
    let kind = known.ok_or(rusqlite::Error::InvalidColumnType(
        0,
        "change".to_owned(),
        Type::Text,
    ))?;
    Ok((kind, row.get(1)?))
}

#[cfg(test)]
mod tests {
    use formats::ids::RunId;

    use super::RUNS_WITH_PATHS;
    use crate::backup::changes::{ChangeKind, Changes};
    use crate::catalog::state::State;

    #[test]
    fn changes_are_read_back_and_only_the_last_runs_have_paths() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut state = State::open(&dir.path().join("state.db")).expect("opens");
        let changes = |added| Changes {
            added,
            changed: 2,
            metadata: 3,
            removed: 4,
            moved: 1,
            paths: vec![
                (ChangeKind::Added, b"etc/\xff".to_vec()),
                (ChangeKind::Removed, b"srv/a".to_vec()),
            ],
        };
        let run = |number: u32| RunId([u8::try_from(number).expect("few"); 16]);
        state
            .note_changes("db1", run(200), &changes(9))
            .expect("writes");
        for number in 0..=RUNS_WITH_PATHS {
            let noted = state.note_changes("web1", run(number), &changes(number.into()));
            noted.expect("writes");
        }
        let read = |number| state.changes(run(number)).expect("reads");
        assert_eq!(read(1), Some(changes(1)));
        assert_eq!(read(200), Some(changes(9)));
        let oldest = read(0).expect("it is known");
        assert_eq!((oldest.removed, oldest.paths), (4, Vec::new()));
        assert_eq!(read(201), None);
    }
}
