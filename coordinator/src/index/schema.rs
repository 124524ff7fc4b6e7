//! The index's tables.
//!
//! `chunks` is the one big table: about 50 bytes a row with its id as the key, without a second index. The
//! packs' tables are kept whole beside it, about 36 bytes a chunk: they give a run's index object, the chunks of
//! the packs that are not in the big table yet, and the other places of a chunk when the pack of its first place
//! is quarantined.

use crate::database::Schema;

pub(super) const SCHEMA: Schema = Schema {
    what: "index",
    remedy: "delete it, and it is rebuilt from the repository by the next run",
    application_id: 0x4361_4958, // "CaIX"
    version: 5,
    cache_kib: 32 << 10,
    upgrades: &[
        (
            2,
            "ALTER TABLE quarantined ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;",
        ),
        (
            3,
            "ALTER TABLE facts ADD COLUMN heeded INTEGER NOT NULL DEFAULT 0;",
        ),
        (
            4,
            "ALTER TABLE packs ADD COLUMN thinned INTEGER NOT NULL DEFAULT 0;
             CREATE TABLE thinned_chunks (
                 id BLOB NOT NULL, frame INTEGER NOT NULL, offset INTEGER NOT NULL, bytes INTEGER NOT NULL,
                 PRIMARY KEY (id, frame, offset)
             ) STRICT, WITHOUT ROWID;",
        ),
    ],
    sql: "
CREATE TABLE facts (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    repository BLOB NOT NULL,
    covered INTEGER NOT NULL,     -- every log record up to this sequence has its packs here
    heeded INTEGER NOT NULL DEFAULT 0 -- it was emptied for this log record, which could not be read
) STRICT;
CREATE TABLE packs (
    id INTEGER PRIMARY KEY,
    pack_id BLOB NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    purpose INTEGER NOT NULL,     -- 1 data, 2 meta
    run BLOB NOT NULL,
    verified_at INTEGER NOT NULL, -- nanoseconds since 1970
    first_frame INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    in_chunks INTEGER NOT NULL,   -- 1 once its chunks are in the table of that name; until then:
    chunks INTEGER NOT NULL,      -- 0; then: whose first place is in this pack
    duplicates INTEGER NOT NULL,  -- 0; then: whose first place is elsewhere
    in_record INTEGER,            -- the log record whose index object has this pack
    thinned INTEGER NOT NULL DEFAULT 0 -- 1: some destination does not keep it, its chunks are in `thinned_chunks`
) STRICT;
CREATE INDEX packs_by_run ON packs (run);
CREATE INDEX packs_in_no_record ON packs (id) WHERE in_record IS NULL;
CREATE INDEX packs_not_in_chunks ON packs (id) WHERE in_chunks = 0;
CREATE TABLE tables (
    pack INTEGER PRIMARY KEY,
    body BLOB NOT NULL            -- formats::pack::table, without padding
) STRICT;
CREATE TABLE frames (
    id INTEGER PRIMARY KEY,
    pack INTEGER NOT NULL,
    place INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    sealed_bytes INTEGER NOT NULL,
    plain_bytes INTEGER NOT NULL,
    compression INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    run_header INTEGER NOT NULL
) STRICT;
CREATE TABLE chunks (
    id BLOB PRIMARY KEY,
    frame INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE thinned_chunks (
    id BLOB NOT NULL,
    frame INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (id, frame, offset)
) STRICT, WITHOUT ROWID;
CREATE TABLE quarantined (
    pack_id BLOB PRIMARY KEY,
    run BLOB NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    lost INTEGER NOT NULL DEFAULT 0 -- 1: nothing is wrong with it but that no destination has it; 2: one has it again
) STRICT, WITHOUT ROWID;
",
};
