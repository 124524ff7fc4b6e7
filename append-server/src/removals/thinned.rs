//! The ledger's list of packs that are condemned at one destination alone, while others keep them.

use std::collections::HashSet;

use formats::ids::RepositoryId;
use formats::object::ObjectName;
use rusqlite::{OptionalExtension as _, params};

use crate::destination::DestinationName;
use crate::removals::ledger::{Condemned, Ledger, LedgerError, note_spent};

impl Ledger {
    pub(super) fn condemn_at(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        packs: &[(ObjectName, u64)],
        record: u64,
        age_secs: u64,
    ) -> Result<(), LedgerError> {
        self.work("write", |change| {
            let mut insert = change.prepare_cached(
                "INSERT INTO thinned (destination, repository, name, bytes, record, age_secs)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            )?;
            for (name, bytes) in packs {
                insert.execute(params![
                    destination.to_string(),
                    repository.to_string(),
                    name.to_string(),
                    bytes.cast_signed(),
                    record.cast_signed(),
                    age_secs.cast_signed()
                ])?;
            }
            Ok(())
        })
    }

    /// All or none: gives one that is swept there already.
    pub(super) fn spare_at(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        packs: &[(ObjectName, u64)],
    ) -> Result<Option<ObjectName>, LedgerError> {
        self.work("write", |change| {
            let (destination, repository) = (destination.to_string(), repository.to_string());
            let mut swept = change.prepare_cached(
                "SELECT 1 FROM thinned WHERE destination = ?1 AND repository = ?2 AND name = ?3 AND swept = 1",
            )?;
            for (name, _) in packs {
                if swept.exists(params![destination, repository, name.to_string()])? {
                    return Ok(Some(name.clone()));
                }
            }
            let mut delete = change.prepare_cached(
                "DELETE FROM thinned WHERE destination = ?1 AND repository = ?2 AND name = ?3",
            )?;
            for (name, _) in packs {
                delete.execute(params![destination, repository, name.to_string()])?;
            }
            Ok(None)
        })
    }

    pub(super) fn condemned_at(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        name: &ObjectName,
    ) -> Result<Option<Condemned>, LedgerError> {
        self.work("read", |change| {
            change
                .prepare_cached(
                    "SELECT bytes, age_secs, swept FROM thinned
                     WHERE destination = ?1 AND repository = ?2 AND name = ?3",
                )?
                .query_row(
                    params![
                        destination.to_string(),
                        repository.to_string(),
                        name.to_string()
                    ],
                    Condemned::from_row,
                )
                .optional()
        })
    }

    /// Notes that a pack is to be removed at this destination from an age on. Again for one that is listed there again.
    pub(super) fn sweep_at(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        name: &ObjectName,
        (from_secs, age_secs): (u64, u64),
    ) -> Result<(), LedgerError> {
        self.work("write", |change| {
            let destination = destination.to_string();
            let (repository, name) = (repository.to_string(), name.to_string());
            let bytes: i64 = change.query_row(
                "SELECT bytes FROM thinned WHERE destination = ?1 AND repository = ?2 AND name = ?3",
                params![destination, repository, name],
                |row| row.get(0),
            )?;
            let first = change.execute(
                "UPDATE thinned SET swept = 1
                 WHERE destination = ?1 AND repository = ?2 AND name = ?3 AND swept = 0",
                params![destination, repository, name],
            )?;
            if first > 0 {
                note_spent(change, age_secs, bytes)?;
            }
            change.execute(
                "INSERT INTO removal (destination, repository, name, bytes, not_before_secs)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
                params![
                    destination,
                    repository,
                    name,
                    bytes,
                    from_secs.cast_signed()
                ],
            )?;
            Ok(())
        })
    }

    /// The destinations at which a pack is condemned while others keep it.
    pub(super) fn thinned_where(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
    ) -> Result<HashSet<String>, LedgerError> {
        self.work("read", |change| {
            let mut select = change.prepare_cached(
                "SELECT destination FROM thinned WHERE repository = ?1 AND name = ?2",
            )?;
            let rows = select
                .query_map(params![repository.to_string(), name.to_string()], |row| {
                    row.get(0)
                })?;
            rows.collect()
        })
    }

    /// What is condemned at a destination while others keep it.
    pub(super) fn thinned_at(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
    ) -> Result<HashSet<ObjectName>, LedgerError> {
        self.work("read", |change| {
            let mut select = change.prepare_cached(
                "SELECT name FROM thinned WHERE destination = ?1 AND repository = ?2",
            )?;
            let rows = select.query_map(
                params![destination.to_string(), repository.to_string()],
                |row| row.get::<_, String>(0),
            )?;
            let names = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
        })
    }
}
