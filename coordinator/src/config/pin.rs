//! Writes trusted host keys into a hosts file. Never touches anything else in it: comments, order and
//! formatting stay, and the file is replaced whole or not at all.

use std::io;
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, TableLike, Value};

use crate::config::login_fields::HostKeyFingerprint;
use crate::config::name::HostName;
use crate::config::replace_file::replace_file;

/// The key that holds the fingerprints.
const HOST_KEY: &str = "host_key";

/// What pinning changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// So many fingerprints were added.
    Added(usize),
    /// All of them were there already; the file was not written.
    Unchanged,
}

/// Why host keys could not be pinned; the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}: is not valid TOML: run `coordinator config check`", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<toml_edit::TomlError>,
    },
    /// The file does not define the host.
    #[error("{}: has no [host.{host}]: add it first", path.display())]
    NoSuchHost {
        /// The file.
        path: PathBuf,
        /// The host.
        host: HostName,
    },
    /// `host_key` is something other than a list.
    #[error("{}: host.{host}.host_key is not a list: write host_key = []", path.display())]
    NotAList {
        /// The file.
        path: PathBuf,
        /// The host.
        host: HostName,
    },
    /// The new file cannot be written.
    #[error("{}: cannot be replaced; it is unchanged", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Adds fingerprints to a host's `host_key` in the hosts file at `path`.
pub fn add_host_keys(
    path: &Path,
    host: &HostName,
    fingerprints: &[HostKeyFingerprint],
) -> Result<Pinned, PinError> {
    let read_error = |source| PinError::Read {
        path: path.to_owned(),
        source,
    };
    // A hosts file that is a link into a version-controlled tree stays one.
    let real_path = path.canonicalize().map_err(read_error)?;
    let text = std::fs::read_to_string(&real_path).map_err(read_error)?;
    let Some((text, added)) = with_host_keys(path, &text, host, fingerprints)? else {
        return Ok(Pinned::Unchanged);
    };
    replace_file(&real_path, text.as_bytes()).map_err(|source| PinError::Write {
        path: path.to_owned(),
        source,
    })?;
    Ok(Pinned::Added(added))
}

/// The text with the fingerprints added, and how many were new; nothing when none was.
fn with_host_keys(
    path: &Path,
    text: &str,
    host: &HostName,
    fingerprints: &[HostKeyFingerprint],
) -> Result<Option<(String, usize)>, PinError> {
    let mut document: DocumentMut = text.parse().map_err(|source| PinError::Toml {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let table = document
        .get_mut("host")
        .and_then(Item::as_table_like_mut)
        .and_then(|hosts| hosts.get_mut(host.as_str()))
        .and_then(Item::as_table_like_mut)
        .ok_or_else(|| PinError::NoSuchHost {
            path: path.to_owned(),
            host: host.clone(),
        })?;
    let list = host_key_list(table).ok_or_else(|| PinError::NotAList {
        path: path.to_owned(),
        host: host.clone(),
    })?;
    let mut added = 0;
    for fingerprint in fingerprints {
        let written = fingerprint.to_string();
        if !list.iter().any(|value| value.as_str() == Some(&written)) {
            push_alike(list, written);
            added += 1;
        }
    }
    Ok((added > 0).then(|| (document.to_string(), added)))
}

fn host_key_list(table: &mut dyn TableLike) -> Option<&mut Array> {
    if table.get(HOST_KEY).is_none() {
        table.insert(HOST_KEY, Item::Value(Value::Array(Array::new())));
    }
    table.get_mut(HOST_KEY).and_then(Item::as_array_mut)
}

/// Appends a text that starts on a line of its own when the one before it does.
fn push_alike(list: &mut Array, text: String) {
    let last_prefix = list
        .get(list.len().wrapping_sub(1))
        .and_then(|last| last.decor().prefix())
        .and_then(|prefix| prefix.as_str())
        // A comment in front of the last value is about that value.
        .and_then(|prefix| prefix.rfind('\n').map(|at| prefix[at..].to_owned()));
    match last_prefix {
        Some(prefix) => {
            let mut value = Value::from(text);
            *value.decor_mut() = toml_edit::Decor::new(prefix, "");
            list.push_formatted(value);
        }
        None => list.push(text),
    }
}

#[cfg(test)]
mod tests;
