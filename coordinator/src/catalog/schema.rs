//! The catalog's tables: a row for each log record, and what it says: of a snapshot what a list shows, and
//! the opened payload whole.

use crate::catalog::retention::retention_tables;
use crate::catalog::thinning::thinning_tables;
use crate::catalog::unread::unread_tables;
use crate::database::Schema;

/// New in version 2.
macro_rules! leases_and_settings {
    () => {
        "
CREATE TABLE leases (
    sequence INTEGER PRIMARY KEY,
    coordinator BLOB NOT NULL,
    machine TEXT NOT NULL,
    taken INTEGER NOT NULL         -- nanoseconds since 1970, the clock of the coordinator that took it
) STRICT;
CREATE TABLE host_settings (
    sequence INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    toml TEXT NOT NULL
) STRICT;
CREATE INDEX host_settings_by_host ON host_settings (host, sequence);
"
    };
}

pub(super) const SCHEMA: Schema = Schema {
    what: "catalog",
    remedy: "delete it, and it is read again from the repository's log (what it knew of the log's length, \
             by which a rollback is seen, goes with it)",
    application_id: 0x4361_4354, // "CaCT"
    version: 5,
    cache_kib: 8 << 10,
    upgrades: &[
        (1, leases_and_settings!()),
        (2, retention_tables!()),
        (3, unread_tables!()),
        (4, thinning_tables!()),
    ],
    sql: concat!(
        "
CREATE TABLE facts (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    repository BLOB NOT NULL,
    epoch INTEGER NOT NULL
) STRICT;
CREATE TABLE records (
    sequence INTEGER PRIMARY KEY,  -- from 1, without gaps
    record_id BLOB NOT NULL UNIQUE -- BLAKE3 of the record's bytes
) STRICT;
CREATE TABLE snapshots (
    sequence INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    run BLOB NOT NULL,
    started INTEGER NOT NULL,      -- nanoseconds since 1970, the coordinator's clock
    committed INTEGER NOT NULL,
    parent BLOB,
    verified INTEGER NOT NULL,
    files INTEGER NOT NULL,
    directories INTEGER NOT NULL,
    others INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    bytes_read INTEGER NOT NULL,
    bytes_new INTEGER NOT NULL,
    bytes_stored INTEGER NOT NULL,
    problems INTEGER NOT NULL,
    payload BLOB NOT NULL          -- formats::log::snapshot
) STRICT;
CREATE INDEX snapshots_by_host ON snapshots (host, sequence);
",
        leases_and_settings!(),
        retention_tables!(),
        unread_tables!(),
        thinning_tables!()
    ),
};
