//! Makes one listing of the entries that were kept: in listing order, with every directory listed before what is
//! in it, and every further name of a file after its first. What cannot be in it is told as a problem.

use std::sync::Arc;

use formats::codec::Reader;
use formats::ids::ChunkId;
use formats::keys::secret::ChunkingKey;
use formats::listing::content::Content;
use formats::listing::entry::{Entry, EntryFlags, EntryKind, Stat, Timestamp, join};
use formats::listing::order::is_within;
use formats::listing::page::{Page, PageBuilder};
use formats::listing::page_index::PageRef;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use crate::database::{DatabaseError, bad_value};
use crate::rescue::entries::{link_ids, path_of_key, sort_key};
use crate::rescue::store::Store;
use crate::restore::summary::{ProblemKind, Tally};
use crate::snapshot::listing::split_path;

/// Rows taken at once.
const ROWS_AT_ONCE: i64 = 1_024;

/// Makes the listing; gives the table of its pages. Blocks.
pub(crate) fn compose(
    store: &Store,
    key: &ChunkingKey,
    tally: &Tally,
) -> Result<Arc<[PageRef]>, DatabaseError> {
    add_directories(store)?;
    let mut composer = Composer {
        builder: PageBuilder::new(key),
        table: Vec::new(),
        block: None,
        displaced: None,
        tally,
    };
    let mut after: Option<(Vec<u8>, Vec<u8>)> = None;
    loop {
        let last = store.with(|transaction| {
            let rows = next_rows(transaction, after.as_ref())?;
            let last = rows.last().map(|row| (row.key.clone(), row.name.clone()));
            for row in rows {
                composer.add(transaction, row)?;
            }
            if last.is_none() {
                let page = composer.builder.finish();
                composer.keep(transaction, page)?;
            }
            Ok(last)
        })?;
        match last {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    composer.end_displaced();
    Ok(composer.table.into())
}

/// Lists the directories that hold something and whose own entry is in no page.
fn add_directories(store: &Store) -> Result<(), DatabaseError> {
    let mut after: Vec<u8> = Vec::new();
    loop {
        let last = store.with(|transaction| {
            let mut next = transaction.prepare_cached(
                "SELECT DISTINCT directory FROM entries WHERE directory > ?1 ORDER BY directory LIMIT ?2",
            )?;
            let keys = next.query_map(params![after, ROWS_AT_ONCE], |row| row.get(0))?;
            let keys = keys.collect::<rusqlite::Result<Vec<Vec<u8>>>>()?;
            for key in &keys {
                add_above(transaction, &path_of_key(key))?;
            }
            Ok(keys.into_iter().next_back())
        })?;
        match last {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

fn add_above(transaction: &Transaction<'_>, path: &[u8]) -> rusqlite::Result<()> {
    let mut path = path;
    while !path.is_empty() {
        let (parent, name) = split_path(path);
        let mut body = Vec::new();
        stand_in(name).put(&mut body);
        let added = transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO entries (directory, name, is_directory, made, has_content,
                 seconds, nanoseconds, is_first, body) VALUES (?1, ?2, 1, 1, 1, 0, 0, 1, ?3)",
            )?
            .execute(params![sort_key(parent), name, body])?;
        if added == 0 {
            break; // What is above it was seen to already.
        }
        path = parent;
    }
    Ok(())
}

/// A directory that nothing is known of: for its owner alone, whoever restores it.
fn stand_in(name: &[u8]) -> Entry {
    Entry {
        name: name.to_vec(),
        stat: Stat {
            kind: EntryKind::Directory,
            mode: 0o700,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            size: 0,
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            inode: 0,
            links: 1,
            device: (0, 0),
        },
        flags: EntryFlags::default(),
        xattrs: Vec::new(),
        link_target: Vec::new(),
        hard_link_to: None,
        content: Content::None,
    }
}

struct EntryRow {
    key: Vec<u8>,
    name: Vec<u8>,
    made: bool,
    entry: Entry,
}

fn next_rows(
    transaction: &Transaction<'_>,
    after: Option<&(Vec<u8>, Vec<u8>)>,
) -> rusqlite::Result<Vec<EntryRow>> {
    let mut next = transaction.prepare_cached(
        "SELECT directory, name, made, body FROM entries WHERE (directory, name) > (?1, ?2)
         ORDER BY directory, name LIMIT ?3",
    )?;
    // No name is empty, so this is before the first.
    let (key, name) = after.map_or((&[][..], &[][..]), |(key, name)| (key, name));
    let rows = next.query_map(params![key, name, ROWS_AT_ONCE], |row| {
        Ok(EntryRow {
            key: row.get(0)?,
            name: row.get(1)?,
            made: row.get(2)?,
            entry: entry_at(row, 3)?,
        })
    })?;
    rows.collect()
}

pub(super) fn entry_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Entry> {
    let body: Vec<u8> = row.get(column)?;
    Entry::read(&mut Reader::new(&body)).map_err(|source| bad_value(column, source))
}

struct Composer<'a> {
    builder: PageBuilder,
    table: Vec<PageRef>,
    /// The directory whose entries are being added.
    block: Option<Vec<u8>>,
    /// A directory that is none in its newest entry, and how much below it was left out.
    displaced: Option<(Vec<u8>, u64)>,
    tally: &'a Tally,
}

impl Composer<'_> {
    fn add(&mut self, transaction: &Transaction<'_>, row: EntryRow) -> rusqlite::Result<()> {
        let directory = path_of_key(&row.key);
        if self.block.as_ref() != Some(&directory) {
            self.enter(transaction, &directory)?;
            self.block = Some(directory.clone());
        }
        if let Some((_, left_out)) = &mut self.displaced {
            *left_out += u64::from(!row.made);
            return Ok(());
        }
        let path = join(&directory, &row.name);
        if row.made {
            let text = "its own entry is lost: made for its owner alone, with mode 0700";
            self.tally
                .problem(&path, ProblemKind::Metadata, text.to_owned());
        }
        let Some(entry) = settle_links(transaction, &path, row.entry)? else {
            let text = "it is a further name of something whose entry is lost";
            self.tally
                .problem(&path, ProblemKind::Damaged, text.to_owned());
            return Ok(());
        };
        let page = self.builder.push(&directory, &entry);
        self.keep(transaction, page)
    }

    /// Notes where a block begins whose directory is something else by now.
    fn enter(&mut self, transaction: &Transaction<'_>, directory: &[u8]) -> rusqlite::Result<()> {
        if let Some((above, _)) = &self.displaced {
            if is_within(directory, above) {
                return Ok(());
            }
            self.end_displaced();
        }
        if directory.is_empty() {
            return Ok(());
        }
        let (parent, name) = split_path(directory);
        let is_directory: Option<bool> = transaction
            .prepare_cached("SELECT is_directory FROM entries WHERE directory = ?1 AND name = ?2")?
            .query_row(params![sort_key(parent), name], |row| row.get(0))
            .optional()?;
        if is_directory != Some(true) {
            self.displaced = Some((directory.to_vec(), 0));
        }
        Ok(())
    }

    fn end_displaced(&mut self) {
        if let Some((path, left_out)) = self.displaced.take() {
            let text = format!(
                "it is no directory in its newest entry: {left_out} older objects below it are left out"
            );
            self.tally.problem(&path, ProblemKind::Refused, text);
        }
    }

    fn keep(&mut self, transaction: &Transaction<'_>, page: Option<Page>) -> rusqlite::Result<()> {
        let Some(page) = page else {
            return Ok(());
        };
        // Named by what it holds, as pages are; no key is needed for what does not leave this machine.
        let id = ChunkId(blake3::hash(&page.plain).into());
        transaction
            .prepare_cached("INSERT INTO pages (id, body) VALUES (?1, ?2)")?
            .execute(params![id.as_bytes(), page.plain])?;
        self.table.push(PageRef {
            id,
            bytes: u32::try_from(page.plain.len()).unwrap_or(u32::MAX),
            entries: page.entries,
            first_directory: page.first_directory,
            first_name: page.first_name,
        });
        Ok(())
    }
}

/// Makes the first of a file's names that are listed the one with the content, and the others names of it. The
/// first name that an entry refers to may have been another file since, or be in no page.
fn settle_links(
    transaction: &Transaction<'_>,
    path: &[u8],
    entry: Entry,
) -> rusqlite::Result<Option<Entry>> {
    let has_names = entry.stat.kind != EntryKind::Directory && entry.stat.links > 1;
    if entry.hard_link_to.is_none() && !has_names {
        return Ok(Some(entry));
    }
    let first_path = entry.hard_link_to.as_deref().unwrap_or(path);
    let ids = link_ids(first_path, &entry.stat);
    let mut placed = transaction.prepare_cached("SELECT path FROM placed WHERE id = ?1")?;
    let placed: Option<Vec<u8>> = first_of(&ids, |id| {
        placed.query_row([id], |row| row.get(0)).optional()
    })?;
    if let Some(placed) = placed {
        return Ok(Some(Entry {
            hard_link_to: Some(placed),
            content: Content::None,
            ..entry
        }));
    }
    let entry = match entry.hard_link_to {
        None => entry,
        Some(_) => {
            let mut first = transaction.prepare_cached("SELECT body FROM firsts WHERE id = ?1")?;
            let first = first_of(&ids, |id| {
                first.query_row([id], |row| entry_at(row, 0)).optional()
            })?;
            match first {
                Some(first) => Entry {
                    name: entry.name,
                    ..first
                },
                // A first name that does not count its names is linked to as it is listed.
                None => {
                    let listed = lists(transaction, first_path, &ids)?;
                    return Ok(listed.then_some(entry));
                }
            }
        }
    };
    for id in ids {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO placed (id, path) VALUES (?1, ?2)")?
            .execute(params![id, path])?;
    }
    Ok(Some(entry))
}

/// Whether the entry that is listed at a path is the file of these ids.
fn lists(transaction: &Transaction<'_>, path: &[u8], ids: &[[u8; 32]]) -> rusqlite::Result<bool> {
    let (directory, name) = split_path(path);
    let listed = transaction
        .prepare_cached("SELECT body FROM entries WHERE directory = ?1 AND name = ?2")?
        .query_row(params![sort_key(directory), name], |row| entry_at(row, 0))
        .optional()?;
    Ok(listed.is_some_and(|listed| {
        let same = link_ids(path, &listed.stat);
        listed.hard_link_to.is_none() && same.iter().zip(ids).any(|(a, b)| a == b)
    }))
}

/// What is found by the first id that finds something.
fn first_of<T>(
    ids: &[[u8; 32]],
    mut find: impl FnMut(&[u8; 32]) -> rusqlite::Result<Option<T>>,
) -> rusqlite::Result<Option<T>> {
    for id in ids {
        if let Some(found) = find(id)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
