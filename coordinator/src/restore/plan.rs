//! Which entries are restored, in the listing's order: all of them, or selected paths with the directories
//! above them. Selected paths are looked up before anything is written.

use std::collections::{BTreeSet, VecDeque};

use formats::listing::entry::{EntryKind, check_path};
use formats::listing::order::{compare_directories, is_within};

use crate::restore::error::RestoreError;
use crate::snapshot::listing::{EntryStream, Listing, split_path};
use crate::snapshot::pages::PlacedEntry;

/// A part of what is restored.
#[derive(Debug, Clone)]
enum Part {
    One(Box<PlacedEntry>),
    Below(Vec<u8>),
    All,
}

/// What is restored. Can be walked more than once.
#[derive(Debug, Clone)]
pub struct Selection {
    listing: Listing,
    parts: Vec<Part>,
}

impl Selection {
    /// Looks the paths up; no path is everything.
    pub async fn find(listing: Listing, paths: &[Vec<u8>]) -> Result<Self, RestoreError> {
        let mut wanted = Vec::with_capacity(paths.len());
        for path in paths {
            let path = clean_path(path)?;
            if !path.is_empty() {
                look_up(&listing, &path).await?;
            }
            wanted.push(path);
        }
        wanted.sort_by(|a, b| compare_directories(a, b));
        // A path below another comes with it.
        wanted.dedup_by(|next, before| is_within(next, before));
        let everything = wanted.first().is_none_or(Vec::is_empty);
        if everything {
            return Ok(Self {
                listing,
                parts: vec![Part::All],
            });
        }
        let mut parts = Vec::new();
        let mut above: BTreeSet<Vec<u8>> = BTreeSet::new();
        for path in wanted {
            for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                let ancestor = path.get(..end).unwrap_or_default();
                if above.insert(ancestor.to_vec()) {
                    let placed = look_up(&listing, ancestor).await?;
                    if placed.1.stat.kind != EntryKind::Directory {
                        return Err(RestoreError::NoSuchPath { path });
                    }
                    parts.push(Part::One(Box::new(placed)));
                }
            }
            let placed = look_up(&listing, &path).await?;
            let is_directory = placed.1.stat.kind == EntryKind::Directory;
            parts.push(Part::One(Box::new(placed)));
            if is_directory {
                parts.push(Part::Below(path));
            }
        }
        Ok(Self { listing, parts })
    }

    /// The listing.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// The entries, from the first on.
    pub fn entries(&self) -> SelectedEntries {
        SelectedEntries {
            listing: self.listing.clone(),
            parts: self.parts.iter().cloned().collect(),
            stream: None,
        }
    }
}

async fn look_up(listing: &Listing, path: &[u8]) -> Result<PlacedEntry, RestoreError> {
    let (directory, _) = split_path(path);
    match listing.entry(path).await? {
        Some(entry) => Ok((directory.into(), entry)),
        None => Err(RestoreError::NoSuchPath {
            path: path.to_vec(),
        }),
    }
}

/// A path as an operator writes it, in a listing's form: slashes around it and doubled ones are nothing.
pub fn clean_path(path: &[u8]) -> Result<Vec<u8>, RestoreError> {
    let names: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .collect();
    let clean = names.join(&b'/');
    check_path(&clean).map_err(|_| RestoreError::BadPath {
        path: path.to_vec(),
    })?;
    Ok(clean)
}

/// The selected entries, one after another.
#[derive(Debug)]
pub struct SelectedEntries {
    listing: Listing,
    parts: VecDeque<Part>,
    stream: Option<EntryStream>,
}

impl SelectedEntries {
    /// The next entry, with its directory; `None` after the last.
    pub async fn next_entry(&mut self) -> Result<Option<PlacedEntry>, RestoreError> {
        loop {
            if let Some(stream) = &mut self.stream {
                if let Some(placed) = stream.next_entry().await? {
                    return Ok(Some(placed));
                }
                self.stream = None;
            }
            match self.parts.pop_front() {
                None => return Ok(None),
                Some(Part::One(placed)) => return Ok(Some(*placed)),
                Some(Part::Below(path)) => self.stream = Some(self.listing.subtree(&path)?),
                Some(Part::All) => self.stream = Some(self.listing.entries()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::clean_path;

    #[test]
    fn paths_are_taken_as_people_write_them_and_never_lead_upwards() {
        for (given, expected) in [
            ("/", ""),
            ("/etc/", "etc"),
            ("etc//ssh", "etc/ssh"),
            ("/./srv", "srv"),
        ] {
            assert_eq!(
                clean_path(given.as_bytes()).ok().as_deref(),
                Some(expected.as_bytes())
            );
        }
        assert!(clean_path(b"/etc/../root").is_err());
        assert!(clean_path(b"/a\0b").is_err());
    }
}
