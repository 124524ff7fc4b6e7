//! Who may ask the listener, and for what: the digests of tokens, never the tokens themselves.

use jiff::Timestamp;
use rusqlite::{Row, params};

use crate::catalog::state::State;
use crate::clock::{from_nanos, to_nanos};
use crate::database::{DatabaseError, bad_value};
use crate::listener::address_range::AddressRange;
use crate::listener::token::{Scope, TokenDigest};

macro_rules! token_tables {
    () => {
        "
CREATE TABLE tokens (
    name TEXT PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,  -- of the token; the token itself is nowhere
    scopes TEXT NOT NULL,         -- words with spaces between
    allow_from TEXT NOT NULL,     -- ranges of addresses with spaces between; none for everywhere
    created INTEGER NOT NULL,     -- nanoseconds since 1970
    expires INTEGER,
    last_used INTEGER
) STRICT, WITHOUT ROWID;
"
    };
}
pub(super) use token_tables;

/// A token as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// What it is called.
    pub name: String,
    /// What tells it from others.
    pub digest: TokenDigest,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// From where; from everywhere where there is none.
    pub allow_from: Vec<AddressRange>,
    /// When it was made.
    pub created: Timestamp,
    /// Until when it is good.
    pub expires: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
}

impl State {
    /// Adds a token; false when there is one of that name.
    pub fn add_token(&mut self, token: &TokenRow) -> Result<bool, DatabaseError> {
        self.database.write(|transaction| {
            let added = transaction.execute(
                "INSERT INTO tokens (name, digest, scopes, allow_from, created, expires)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO NOTHING",
                params![
                    token.name,
                    token.digest.as_bytes(),
                    words(&token.scopes),
                    words(&token.allow_from),
                    to_nanos(token.created),
                    token.expires.map(to_nanos)
                ],
            )?;
            Ok(added == 1)
        })
    }

    /// All tokens, by name.
    pub fn tokens(&self) -> Result<Vec<TokenRow>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT name, digest, scopes, allow_from, created, expires, last_used FROM tokens
                 ORDER BY name",
            )?;
            let rows = statement.query_map([], read_token)?;
            rows.collect()
        })
    }

    /// Takes a token away; false when there is none of that name.
    pub fn remove_token(&mut self, name: &str) -> Result<bool, DatabaseError> {
        self.database.write(|transaction| {
            let removed = transaction.execute("DELETE FROM tokens WHERE name = ?1", [name])?;
            Ok(removed == 1)
        })
    }

    /// Notes that a token was used.
    pub fn token_used(&mut self, name: &str, at: Timestamp) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "UPDATE tokens SET last_used = ?2 WHERE name = ?1",
                params![name, to_nanos(at)],
            )?;
            Ok(())
        })
    }
}

fn words<T: ToString>(items: &[T]) -> String {
    let words: Vec<String> = items.iter().map(ToString::to_string).collect();
    words.join(" ")
}

fn read_token(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    let parsed = |column| -> rusqlite::Result<String> { row.get(column) };
    let scopes = parsed(2)?
        .split_whitespace()
        .map(|word| word.parse().map_err(|source| bad_value(2, source)))
        .collect::<rusqlite::Result<_>>()?;
    let allow_from = parsed(3)?
        .split_whitespace()
        .map(|word| word.parse().map_err(|source| bad_value(3, source)))
        .collect::<rusqlite::Result<_>>()?;
    let time = |column| -> rusqlite::Result<Option<Timestamp>> {
        let nanos: Option<i64> = row.get(column)?;
        Ok(nanos.map(from_nanos))
    };
    Ok(TokenRow {
        name: row.get(0)?,
        digest: TokenDigest::from_bytes(row.get(1)?),
        scopes,
        allow_from,
        created: from_nanos(row.get(4)?),
        expires: time(5)?,
        last_used: time(6)?,
    })
}
