//! What tells each host's machine from another one, as it was when it was first backed up, or last accepted by a person.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use crate::catalog::state::State;
use crate::clock::to_nanos;
use crate::database::DatabaseError;
use crate::safety::identity::Identity;

macro_rules! identity_tables {
    () => {
        "
CREATE TABLE host_identities (
    host TEXT PRIMARY KEY,
    machine_id TEXT NOT NULL,     -- empty where it is not known
    machine_uuid TEXT NOT NULL,
    root_filesystem TEXT NOT NULL,
    since INTEGER NOT NULL        -- nanoseconds since 1970
) STRICT, WITHOUT ROWID;
CREATE TABLE offered_identities (
    host TEXT PRIMARY KEY,        -- what answered last and differed, until it is accepted or answers as before
    machine_id TEXT NOT NULL,
    machine_uuid TEXT NOT NULL,
    root_filesystem TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"
    };
}
pub(super) use identity_tables;

impl State {
    /// The machine that a host is.
    pub fn host_identity(&self, host: &str) -> Result<Option<Identity>, DatabaseError> {
        self.identity_in("host_identities", host)
    }

    /// What answered last in a host's place and differed from what it is.
    pub fn offered_identity(&self, host: &str) -> Result<Option<Identity>, DatabaseError> {
        self.identity_in("offered_identities", host)
    }

    fn identity_in(
        &self,
        table: &'static str,
        host: &str,
    ) -> Result<Option<Identity>, DatabaseError> {
        let query = format!(
            "SELECT machine_id, machine_uuid, root_filesystem FROM {table} WHERE host = ?1"
        );
        self.database.read(|connection| {
            connection
                .prepare_cached(&query)?
                .query_row([host], |row| {
                    Ok(Identity {
                        machine_id: row.get(0)?,
                        machine_uuid: row.get(1)?,
                        root_filesystem: row.get(2)?,
                    })
                })
                .optional()
        })
    }

    /// Notes which machine a host is; what differed is settled with it.
    pub fn note_identity(
        &mut self,
        host: &str,
        identity: &Identity,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO host_identities (host, machine_id, machine_uuid, root_filesystem, since)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET machine_id = ?2, machine_uuid = ?3, root_filesystem = ?4",
                params![
                    host,
                    identity.machine_id,
                    identity.machine_uuid,
                    identity.root_filesystem,
                    to_nanos(at)
                ],
            )?;
            transaction.execute("DELETE FROM offered_identities WHERE host = ?1", [host])?;
            Ok(())
        })
    }

    /// Notes what answered in a host's place and differs. Says whether that is news.
    pub fn offer_identity(
        &mut self,
        host: &str,
        identity: &Identity,
        at: Timestamp,
    ) -> Result<bool, DatabaseError> {
        let known = self.offered_identity(host)?;
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO offered_identities (host, machine_id, machine_uuid, root_filesystem, at)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET machine_id = ?2, machine_uuid = ?3, root_filesystem = ?4, at = ?5",
                params![
                    host,
                    identity.machine_id,
                    identity.machine_uuid,
                    identity.root_filesystem,
                    to_nanos(at)
                ],
            )?;
            Ok(())
        })?;
        Ok(known.as_ref() != Some(identity))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use crate::catalog::state::State;
    use crate::safety::identity::Identity;

    #[test]
    fn another_identity_is_news_once_and_gone_when_it_is_accepted() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut state = State::open(&dir.path().join("state.db")).expect("opens");
        let (now, host) = (Timestamp::UNIX_EPOCH, "web1");
        let identity = |machine_id: &str| Identity {
            machine_id: machine_id.to_owned(),
            ..Identity::default()
        };
        assert_eq!(state.host_identity(host).expect("reads"), None);
        state
            .note_identity(host, &identity("a"), now)
            .expect("writes");
        assert!(
            state
                .offer_identity(host, &identity("b"), now)
                .expect("writes")
        );
        assert!(
            !state
                .offer_identity(host, &identity("b"), now)
                .expect("writes")
        );
        assert!(
            state
                .offer_identity(host, &identity("c"), now)
                .expect("writes")
        );
        assert_eq!(
            state.host_identity(host).expect("reads"),
            Some(identity("a"))
        );
        assert_eq!(
            state.offered_identity(host).expect("reads"),
            Some(identity("c"))
        );
        state
            .note_identity(host, &identity("c"), now)
            .expect("writes");
        assert_eq!(
            state.host_identity(host).expect("reads"),
            Some(identity("c"))
        );
        assert_eq!(state.offered_identity(host).expect("reads"), None);
    }
}
