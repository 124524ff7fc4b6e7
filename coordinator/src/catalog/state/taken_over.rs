//! What a state that is built anew takes over from a copy of an earlier one: what no log has. Not tokens, messages on their way or
//! what was due: those are for whoever sets the coordinator up again.

use std::path::Path;

use rusqlite::Transaction;
use serde::Serialize;

use crate::catalog::state::State;
use crate::database::{DatabaseError, unsigned};

/// How much was taken over; also part of what `recover --json` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TakenOver {
    /// Holds that had not ended.
    pub holds: u64,
    /// Hosts of which it is known which machine they are.
    pub identities: usize,
    /// Runs, with what was counted of them.
    pub runs: usize,
}

impl State {
    /// Takes over what the state in a file has, which is brought to this version for it.
    pub fn take_over(&mut self, before: &Path) -> Result<TakenOver, DatabaseError> {
        drop(State::open(before)?);
        self.database.write_beside(before, take_over)
    }
}

/// Tables of one version have the same columns in the same order.
fn take_over(transaction: &Transaction<'_>) -> rusqlite::Result<TakenOver> {
    let all_of = |table: &str| {
        let sql = format!("INSERT OR IGNORE INTO main.{table} SELECT * FROM beside.{table}");
        transaction.execute(&sql, [])
    };
    // Numbers are this state's own; what ended stays as history.
    transaction.execute(
        "INSERT INTO main.holds (host, kind, reason, added_by, since, run, released, released_by)
         SELECT host, kind, reason, added_by, since, run, released, released_by FROM beside.holds ORDER BY number",
        [],
    )?;
    let holds = "SELECT count(*) FROM beside.holds WHERE released IS NULL";
    all_of("stream_sizes")?;
    all_of("figures")?;
    all_of("run_changes")?;
    all_of("changed_paths")?;
    Ok(TakenOver {
        holds: transaction.query_row(holds, [], |row| unsigned(row, 0))?,
        identities: all_of("host_identities")?,
        // One that goes on there never ends here.
        runs: transaction.execute(
            "INSERT OR IGNORE INTO main.runs SELECT * FROM beside.runs WHERE finished IS NOT NULL",
            [],
        )?,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use formats::ids::RunId;
    use jiff::Timestamp;

    use crate::catalog::state::holds::{HoldKind, NewHold};
    use crate::catalog::state::{Outcome, State};
    use crate::safety::identity::Identity;

    #[test]
    fn a_new_state_has_the_holds_machines_and_ended_runs_of_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let at = Timestamp::UNIX_EPOCH;
        let hold = |reason: &'static str| NewHold {
            host: "web1",
            kind: HoldKind::Legal,
            reason,
            by: "user:root(0)",
            at,
            run: None,
        };
        let mut before = State::open(&dir.path().join("state.db")).unwrap();
        let ended = before.add_hold(&hold("ended")).unwrap().unwrap();
        before
            .release_hold(ended.number, "user:root(0)", at)
            .unwrap();
        before.add_hold(&hold("a trial")).unwrap();
        let machine = Identity {
            machine_id: "5f".to_owned(),
            ..Identity::default()
        };
        before.note_identity("web1", &machine, at).unwrap();
        before.run_started("web1", RunId([1; 16]), at).unwrap();
        before
            .run_finished(RunId([1; 16]), at, Outcome::Ok, None)
            .unwrap();
        before.run_started("web1", RunId([2; 16]), at).unwrap();
        let copy = dir.path().join("copy.db");
        before.copy_to(&copy).unwrap();

        let mut state = State::open(&dir.path().join("new.db")).unwrap();
        state.add_hold(&hold("was rebuilt")).unwrap();
        let taken = state.take_over(&copy).unwrap();
        assert_eq!((taken.holds, taken.identities, taken.runs), (1, 1, 1));
        let reasons: Vec<String> = state
            .holds(Some("web1"))
            .unwrap()
            .into_iter()
            .map(|hold| hold.reason)
            .collect();
        assert_eq!(reasons, ["was rebuilt", "a trial"]);
        assert_eq!(state.host_identity("web1").unwrap(), Some(machine));
        let other = dir.path().join("other");
        std::fs::write(&other, "no database, whatever it is called").unwrap();
        assert!(state.take_over(&other).is_err());
        assert_eq!(state.holds(Some("web1")).unwrap().len(), 2);
    }
}
