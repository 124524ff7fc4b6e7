//! Lets go of what runs came to long ago, so that years of runs do not grow the state without bound. Never of a run that goes on,
//! nor of the last good ones, however long ago they were.

use rusqlite::{Transaction, params};

use crate::catalog::state::State;
use crate::catalog::state::changes::forget_changes;
use crate::database::DatabaseError;

/// How many runs of each host are kept: 52 days of a run every quarter of an hour, or 13 years of one a day.
pub const RUNS_KEPT: u32 = 5_000;
/// The last good ones are kept besides.
const GOOD_KEPT: u32 = 100;
/// How many are let go of in one step: others write between steps.
const STEP_RUNS_MAX: u32 = 1_000;

impl State {
    /// Lets go of all but the newest runs of each host, with what they came to. Gives how many went.
    pub fn trim_runs(&mut self, kept: u32) -> Result<usize, DatabaseError> {
        let hosts: Vec<String> = self.database.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT DISTINCT host FROM runs")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })?;
        let mut gone = 0;
        for host in hosts {
            loop {
                let now_gone = self
                    .database
                    .write(|transaction| trim(transaction, &host, kept))?;
                if now_gone == 0 {
                    break;
                }
                gone += now_gone;
            }
        }
        Ok(gone)
    }
}

/// One step for one host. Rows are in the order in which runs began.
fn trim(transaction: &Transaction<'_>, host: &str, kept: u32) -> rusqlite::Result<usize> {
    let old: Vec<[u8; 16]> = transaction
        .prepare_cached(
            "SELECT run FROM runs WHERE host = ?1 AND finished IS NOT NULL
             AND rowid NOT IN (SELECT rowid FROM runs WHERE host = ?1 ORDER BY rowid DESC LIMIT ?2)
             AND rowid NOT IN (SELECT runs.rowid FROM runs JOIN run_results USING (run)
                               WHERE runs.host = ?1 AND good = 1 ORDER BY runs.rowid DESC LIMIT ?3)
             LIMIT ?4",
        )?
        .query_map(params![host, kept, GOOD_KEPT, STEP_RUNS_MAX], |row| {
            row.get(0)
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut results = transaction.prepare_cached("DELETE FROM run_results WHERE run = ?1")?;
    let mut runs = transaction.prepare_cached("DELETE FROM runs WHERE run = ?1")?;
    for run in &old {
        forget_changes(transaction, run)?;
        results.execute([run])?;
        runs.execute([run])?;
    }
    Ok(old.len())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use formats::ids::{RecordId, RunId};
    use formats::log::snapshot::SnapshotTotals;
    use jiff::Timestamp;

    use super::GOOD_KEPT;
    use crate::backup::changes::Changes;
    use crate::catalog::state::results::RunResult;
    use crate::catalog::state::{Outcome, State};
    use crate::clock::from_nanos;

    fn id(number: u32) -> RunId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        RunId(bytes)
    }

    fn at(number: u32) -> Timestamp {
        from_nanos(number.into())
    }

    fn commit(state: &mut State, host: &str, number: u32, good: bool) {
        let result = RunResult {
            snapshot: RecordId([0; 32]),
            committed: at(number),
            good,
            verified: true,
            totals: SnapshotTotals::default(),
        };
        state.run_started(host, id(number), at(number)).unwrap();
        state.note_result(host, id(number), &result).unwrap();
        let changes = Changes::default();
        state.note_changes(host, id(number), &changes).unwrap();
        state
            .run_finished(id(number), at(number), Outcome::Ok, None)
            .unwrap();
    }

    #[test]
    fn the_newest_runs_of_each_host_stay_and_the_last_good_one_however_old() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(&dir.path().join("state.db")).unwrap();
        // One good run, and nothing good since: half of them failed, half of them wait for a person.
        commit(&mut state, "web1", 1, true);
        for number in (10..1_300).step_by(2) {
            state.run_started("web1", id(number), at(number)).unwrap();
            commit(&mut state, "web1", number + 1, false);
        }
        let good = 3_000..3_000 + GOOD_KEPT + 50;
        good.clone()
            .for_each(|number| commit(&mut state, "db1", number, true));
        state.run_started("new", id(9_000), at(9_000)).unwrap();

        // Of web1 1,280, of db1 50.
        assert_eq!(state.trim_runs(10).unwrap(), 1_330);
        let runs = state.runs("web1", 10_000).unwrap();
        let kept: Vec<RunId> = runs.iter().map(|run| run.run).collect();
        let newest = (1_290..1_300).rev().map(id);
        assert_eq!(kept, newest.chain([id(1)]).collect::<Vec<_>>());
        assert_eq!(state.last_good("web1").unwrap().unwrap().0, id(1));
        assert!(state.result(id(1_299)).unwrap().is_some());
        assert!(state.result(id(11)).unwrap().is_none());
        assert!(state.changes(id(1_299)).unwrap().is_some());
        assert!(state.changes(id(11)).unwrap().is_none());
        // Of good ones more stay, and one that goes on stays.
        assert_eq!(state.runs("db1", 10_000).unwrap().len(), GOOD_KEPT as usize);
        assert!(state.result(id(good.end - 1)).unwrap().is_some());
        assert_eq!(state.open_runs().unwrap().len(), 1);
        assert_eq!(state.trim_runs(10).unwrap(), 0);
    }
}
