//! What a recovered coordinator takes over from the copy of its state that was backed up with the lost one's machine. A copy that
//! is not there, or cannot be read, is told and holds nothing up.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use formats::keys::repository::MissingKeyError;
use serde::Serialize;
use toml_edit::{DocumentMut, Item};

use crate::catalog::state::taken_over::TakenOver;
use crate::catalog::{CatalogError, SnapshotRow};
use crate::clock::utc;
use crate::commands::cat::write_file;
use crate::commands::opened_snapshot::SnapshotCommandError;
use crate::coordinator::{Coordinator, OpenError};
use crate::database::DatabaseError;
use crate::repository::layout::{STATE_FILE, is_state_copy};
use crate::snapshot::listing::{Listing, ListingError};
use crate::terminal::error_line;

/// Where the copy is while it is read; goes with the staging directory.
const COPY: &str = "state-before.db";
/// So many snapshots are tried, the newest first.
const COPIES_TRIED: usize = 20;

/// What came of the copy; also part of what `recover --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct StateBefore {
    /// The host that has it.
    pub(super) host: String,
    /// When it was committed.
    pub(super) time: String,
    /// What was taken over.
    #[serde(flatten)]
    pub(super) taken: TakenOver,
    /// Why nothing was.
    pub(super) problem: Option<String>,
}

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
enum StateBeforeError {
    #[error("it has no copy of the state")]
    NoCopy,
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Key(#[from] MissingKeyError),
    #[error("its listing cannot be read")]
    Listing(#[from] ListingError),
    #[error("it cannot be read")]
    Content(#[from] SnapshotCommandError),
    #[error("it cannot be written here")]
    Write(#[from] io::Error),
    #[error(transparent)]
    State(#[from] DatabaseError),
}

/// Takes over what the newest copy has that can be read; nothing where no host of these is the coordinator's own machine.
pub(super) async fn take_over(coordinator: &Coordinator, hosts_toml: &str) -> Option<StateBefore> {
    let mut all: Vec<(String, String, SnapshotRow)> = Vec::new();
    for (host, repository) in local_hosts(coordinator, hosts_toml) {
        let Ok(Some(opened)) = coordinator.find_named(&repository).await else {
            continue; // What is wrong with it was told.
        };
        let rows = opened.catalog.snapshots(Some(&host)).unwrap_or_default();
        let rows = rows.into_iter();
        all.extend(rows.map(|row| (host.clone(), repository.clone(), row)));
    }
    all.sort_by_key(|(_, _, row)| Reverse(row.committed));
    let path = coordinator.state_dir.root().join(COPY);
    let mut newest = None;
    for (host, repository, row) in all.into_iter().take(COPIES_TRIED) {
        let taken = from_snapshot(coordinator, &repository, &row, &path).await;
        let removed = remove(&path);
        let is_taken = taken.is_ok();
        let (taken, problem) = match taken {
            Ok(taken) => (taken, removed.err().map(|error| error_line(&error))),
            Err(error) => (TakenOver::default(), Some(error_line(&error))),
        };
        let found = StateBefore {
            host,
            time: utc(row.committed),
            taken,
            problem,
        };
        if is_taken {
            return Some(found);
        }
        newest.get_or_insert(found);
    }
    newest
}

/// The hosts that are the coordinator's own machine, and their repositories.
fn local_hosts(coordinator: &Coordinator, hosts_toml: &str) -> BTreeSet<(String, String)> {
    let configured = coordinator.config.hosts.values().filter(|host| host.local);
    let configured = configured.map(|host| (host.name.to_string(), host.repository.to_string()));
    let document = hosts_toml.parse::<DocumentMut>().unwrap_or_default();
    let tables = document.get("host").and_then(Item::as_table);
    let recovered = tables.into_iter().flatten().filter_map(|(name, table)| {
        let is_local = table.get("local")?.as_bool()?;
        let repository = table.get("repository").and_then(Item::as_str);
        is_local.then(|| (name.to_owned(), repository.unwrap_or(name).to_owned()))
    });
    configured.chain(recovered).collect()
}

async fn from_snapshot(
    coordinator: &Coordinator,
    repository: &str,
    row: &SnapshotRow,
    path: &Path,
) -> Result<TakenOver, StateBeforeError> {
    let opened = coordinator.open_named(repository).await?;
    let Some(snapshot) = opened.catalog.snapshot(row.id)? else {
        return Err(StateBeforeError::NoCopy);
    };
    let Some(source) = snapshot.sources.iter().find(|path| is_state_copy(path)) else {
        return Err(StateBeforeError::NoCopy);
    };
    let chunks = coordinator.chunk_reader(&opened)?;
    let listing = Listing::open(chunks, &snapshot.page_index).await?;
    let mut file = BufWriter::new(File::create_new(path)?);
    let name = [source.as_slice(), b"/", STATE_FILE.as_bytes()].concat();
    write_file(&listing, &name, &mut file).await?;
    file.flush()?;
    Ok(coordinator.state.lock().await.take_over(path)?)
}

/// Removes the copy and what SQLite made beside it.
fn remove(path: &Path) -> io::Result<()> {
    for end in ["", "-wal", "-shm"] {
        let mut path = path.as_os_str().to_owned();
        path.push(end);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
