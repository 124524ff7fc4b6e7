//! Emptying an index whose packs may be condemned by a record that cannot be read: whoever does not know which they are builds
//! upon none of them.

use crate::database::{signed, unsigned};
use crate::index::{Index, IndexError};

impl Index {
    /// The last record that it was emptied for, 0 for none.
    pub fn heeded(&self) -> Result<u64, IndexError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached("SELECT heeded FROM facts")?
                .query_row([], |row| unsigned(row, 0))
        })?)
    }

    /// Forgets every verified pack, for the record at `sequence`, unless that was done for it before. What is in quarantine stays
    /// there. Covers nothing from then on, so that whoever can read the records takes them all in again. Says whether it did.
    pub fn empty(&mut self, sequence: u64) -> Result<bool, IndexError> {
        let emptied = self.database.write(|transaction| {
            let sequence = signed(sequence)?;
            let due = transaction
                .prepare_cached("UPDATE facts SET heeded = ?1, covered = 0 WHERE heeded < ?1")?
                .execute([sequence])?;
            if due == 0 {
                return Ok(false);
            }
            transaction.execute_batch(
                "DELETE FROM chunks; DELETE FROM thinned_chunks; DELETE FROM frames; DELETE FROM tables;
                 DELETE FROM packs;",
            )?;
            Ok(true)
        })?;
        if emptied {
            self.recent.get_mut().clear();
            self.heeded = sequence;
        }
        Ok(emptied)
    }
}
