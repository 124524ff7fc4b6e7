//! How much each stream of a host usually has, so that one that collapses is told from one that is as it was.

use std::collections::BTreeMap;

use rusqlite::params;

use crate::catalog::state::State;
use crate::database::{DatabaseError, signed, unsigned};
use crate::safety::stream_size::StreamSize;

macro_rules! stream_size_tables {
    () => {
        "
CREATE TABLE stream_sizes (
    host TEXT NOT NULL,
    name TEXT NOT NULL,
    usual INTEGER NOT NULL,       -- bytes that the next one is measured against
    last INTEGER NOT NULL,        -- bytes of the last one, whether it had collapsed or not
    PRIMARY KEY (host, name)
) STRICT, WITHOUT ROWID;
"
    };
}
pub(super) use stream_size_tables;

impl State {
    /// What each stream of a host is measured against, in bytes, by name.
    pub fn usual_stream_sizes(&self, host: &str) -> Result<BTreeMap<String, u64>, DatabaseError> {
        self.database.read(|connection| {
            let query = "SELECT name, usual FROM stream_sizes WHERE host = ?1";
            let mut statement = connection.prepare_cached(query)?;
            let rows = statement.query_map([host], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?;
            rows.collect()
        })
    }

    /// Notes how much the streams of a run have. Those that gave nothing stay as they were.
    pub fn note_stream_sizes(
        &mut self,
        host: &str,
        streams: &[StreamSize],
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO stream_sizes (host, name, usual, last) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET usual = excluded.usual, last = excluded.last",
            )?;
            for stream in streams {
                let (usual, last) = (signed(stream.usual)?, signed(stream.size)?);
                statement.execute(params![host, stream.name, usual, last])?;
            }
            Ok(())
        })
    }

    /// A person has looked: the streams of a host are as they should be.
    pub fn accept_stream_sizes(&mut self, host: &str) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            let query = "UPDATE stream_sizes SET usual = last WHERE host = ?1";
            transaction.execute(query, [host])?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::state::State;
    use crate::safety::stream_size::StreamSize;

    #[test]
    fn usual_sizes_stay_until_a_person_accepts_the_last_ones() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut state = State::open(&dir.path().join("state.db")).expect("opens");
        let stream = |name: &str, usual, size| StreamSize {
            name: name.to_owned(),
            size,
            usual,
            fell_from: None,
        };
        let noted = [stream("a", 100, 10), stream("b", 50, 50)];
        state.note_stream_sizes("web1", &noted).expect("noted");
        state
            .note_stream_sizes("web1", &[stream("b", 60, 55)])
            .expect("noted");
        state
            .note_stream_sizes("web2", &[stream("a", 7, 7)])
            .expect("noted");
        let usual = |state: &State, host: &str| {
            let sizes = state.usual_stream_sizes(host).expect("read");
            sizes.into_iter().collect::<Vec<(String, u64)>>()
        };
        let named = |name: &str, size: u64| (name.to_owned(), size);
        assert_eq!(usual(&state, "web1"), [named("a", 100), named("b", 60)]);
        state.accept_stream_sizes("web1").expect("accepted");
        assert_eq!(usual(&state, "web1"), [named("a", 10), named("b", 55)]);
        assert_eq!(usual(&state, "web2"), [named("a", 7)]);
    }
}
