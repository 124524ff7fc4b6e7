//! Compares two listings of a repository in one pass: what is in one of them alone, and what differs. Holds one entry of
//! each at a time, whatever their size.
//!
//! Content is compared by the names of its chunks, so nothing of a file is read. Inode, ctime and count of links only
//! help to back up; they are no difference. Neither is the time of a directory that is still one: it says that names in
//! it came or went, and those are told themselves.

use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};

use formats::listing::content::Content;
use formats::listing::entry::{Entry, EntryFlags, EntryKind, Timestamp, join};
use formats::listing::order::{compare_directories, compare_places, is_within};

use crate::restore::error::RestoreError;
use crate::restore::plan::clean_path;
use crate::snapshot::further::whole;
use crate::snapshot::listing::{EntryStream, Listing, ListingError};
use crate::snapshot::pages::PlacedEntry;

/// Files that are remembered on each side to find those that only moved. Past it, moved ones count as removed and added only.
const MOVABLE_MAX: usize = 1 << 16;

/// What differs between two entries of the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Facet {
    /// File, directory, symlink…
    Type,
    /// A file's content.
    Content,
    /// A file's content could be read for one of the two snapshots only.
    Unreadable,
    /// Where a symbolic link points.
    Target,
    /// A device's numbers.
    Device,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// The time of the last change.
    Mtime,
    /// Extended attributes: ACLs and capabilities, too.
    Xattrs,
    /// It is gone from the host, and kept by `keep_deleted`, in one of the two only.
    KeptDeleted,
}

impl Facet {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Content => "content",
            Self::Unreadable => "unreadable",
            Self::Target => "target",
            Self::Device => "device",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Mtime => "mtime",
            Self::Xattrs => "xattrs",
            Self::KeptDeleted => "kept-deleted",
        }
    }

    /// Whether it is about what something holds, not about how it is kept.
    pub fn is_content(self) -> bool {
        matches!(
            self,
            Self::Content | Self::Unreadable | Self::Target | Self::Device
        )
    }
}

/// How one path differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the second listing has it.
    Added(Box<Entry>),
    /// Only the first listing has it.
    Removed(Box<Entry>),
    /// Both have it.
    Changed {
        /// As the first has it.
        before: Box<Entry>,
        /// As the second has it.
        after: Box<Entry>,
        /// In what they differ; never empty.
        facets: Vec<Facet>,
    },
}

/// Counts of what is in one listing alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct OneSided {
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

impl OneSided {
    fn count(&mut self, entry: &Entry) {
        match entry.stat.kind {
            EntryKind::File => self.files += 1,
            EntryKind::Directory => self.directories += 1,
            _ => self.others += 1,
        }
        // A further name of a file has no bytes of its own.
        if entry.hard_link_to.is_none() {
            self.bytes = self.bytes.saturating_add(entry.stat.size);
        }
    }
}

/// Counts of all differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    /// In the second listing alone.
    pub added: OneSided,
    /// In the first listing alone.
    pub removed: OneSided,
    /// Files that were removed and added under another name, as their inode, size and time say; counted in both, too.
    pub moved: u64,
    /// Of another type.
    pub type_changed: u64,
    /// Of the same type with another content.
    pub content_changed: u64,
    /// With other metadata alone.
    pub metadata_changed: u64,
    /// The same in both.
    pub unchanged: u64,
}

#[derive(Debug)]
enum Part {
    One(Vec<u8>),
    Below(Vec<u8>),
    All,
}

#[derive(Debug)]
struct Pair {
    before: EntryStream,
    after: EntryStream,
    next_before: Option<PlacedEntry>,
    next_after: Option<PlacedEntry>,
}

/// The differences of two listings, in the listings' order.
#[derive(Debug)]
pub struct Differences {
    before: Listing,
    after: Listing,
    parts: VecDeque<Part>,
    pair: Option<Pair>,
    totals: Totals,
    gone: HashSet<(u64, u64, Timestamp)>,
    come: HashSet<(u64, u64, Timestamp)>,
}

impl Differences {
    /// Compares everything, or what is at and below these paths; a path must be in one of the listings.
    pub async fn between(
        before: Listing,
        after: Listing,
        paths: &[Vec<u8>],
    ) -> Result<Self, RestoreError> {
        let cleaned: Result<Vec<_>, _> = paths.iter().map(|path| clean_path(path)).collect();
        let mut wanted = cleaned?;
        wanted.sort_by(|a, b| compare_directories(a, b));
        // A path below another comes with it.
        wanted.dedup_by(|next, before| is_within(next, before));
        let mut parts = VecDeque::new();
        for path in wanted {
            if path.is_empty() {
                parts.push_back(Part::All);
                continue;
            }
            if before.entry(&path).await?.is_none() && after.entry(&path).await?.is_none() {
                return Err(RestoreError::NoSuchPath { path });
            }
            parts.push_back(Part::One(path.clone()));
            parts.push_back(Part::Below(path));
        }
        if parts.is_empty() {
            parts.push_back(Part::All);
        }
        Ok(Self {
            before,
            after,
            parts,
            pair: None,
            totals: Totals::default(),
            gone: HashSet::new(),
            come: HashSet::new(),
        })
    }

    /// The next path that differs, and how; `None` after the last.
    pub async fn next_change(&mut self) -> Result<Option<(Vec<u8>, Change)>, ListingError> {
        loop {
            let (path, before, after) = match &mut self.pair {
                Some(pair) => match pair.next_both().await? {
                    Some(both) => both,
                    None => {
                        self.pair = None;
                        continue;
                    }
                },
                None => match self.parts.pop_front() {
                    None => return Ok(None),
                    Some(Part::One(path)) => {
                        let before = self.before.entry(&path).await?;
                        let after = self.after.entry(&path).await?;
                        (path, before, after)
                    }
                    Some(Part::Below(path)) => {
                        let (before, after) =
                            (self.before.subtree(&path)?, self.after.subtree(&path)?);
                        self.pair = Some(Pair::begin(before, after).await?);
                        continue;
                    }
                    Some(Part::All) => {
                        let (before, after) = (self.before.entries(), self.after.entries());
                        self.pair = Some(Pair::begin(before, after).await?);
                        continue;
                    }
                },
            };
            if let Some(change) = self.judge(before, after).await? {
                self.count(&change);
                return Ok(Some((path, change)));
            }
        }
    }

    /// What was counted so far.
    pub fn totals(&self) -> Totals {
        Totals {
            moved: self.gone.intersection(&self.come).count() as u64,
            ..self.totals
        }
    }

    async fn judge(
        &mut self,
        before: Option<Entry>,
        after: Option<Entry>,
    ) -> Result<Option<Change>, ListingError> {
        let (before, after) = match (before, after) {
            (None, None) => return Ok(None),
            (None, Some(entry)) => return Ok(Some(Change::Added(Box::new(entry)))),
            (Some(entry), None) => return Ok(Some(Change::Removed(Box::new(entry)))),
            (Some(before), Some(after)) => (before, after),
        };
        let both_further = before.hard_link_to.is_some() && after.hard_link_to.is_some();
        let (before, after) = match both_further && inode(&before) == inode(&after) {
            true => (before, after),
            false => (
                whole(&self.before, before).await?,
                whole(&self.after, after).await?,
            ),
        };
        let mut facets = facets_of_stat(&before, &after);
        let both_files = before.stat.kind == EntryKind::File && after.stat.kind == EntryKind::File;
        if both_files && let Some(facet) = content_facet(&before, &after) {
            facets.push(facet);
            facets.sort_unstable();
        }
        if facets.is_empty() {
            self.totals.unchanged += 1;
            return Ok(None);
        }
        Ok(Some(Change::Changed {
            before: Box::new(before),
            after: Box::new(after),
            facets,
        }))
    }

    fn count(&mut self, change: &Change) {
        let remember = |known: &mut HashSet<_>, entry: &Entry| {
            let stat = &entry.stat;
            if stat.kind == EntryKind::File && known.len() < MOVABLE_MAX {
                known.insert((stat.inode, stat.size, stat.mtime));
            }
        };
        match change {
            Change::Added(entry) => {
                self.totals.added.count(entry);
                remember(&mut self.come, entry);
            }
            Change::Removed(entry) => {
                self.totals.removed.count(entry);
                remember(&mut self.gone, entry);
            }
            Change::Changed { facets, .. } if facets.contains(&Facet::Type) => {
                self.totals.type_changed += 1;
            }
            Change::Changed { facets, .. } if facets.iter().any(|facet| facet.is_content()) => {
                self.totals.content_changed += 1;
            }
            Change::Changed { .. } => self.totals.metadata_changed += 1,
        }
    }
}

impl Pair {
    async fn begin(mut before: EntryStream, mut after: EntryStream) -> Result<Self, ListingError> {
        Ok(Self {
            next_before: before.next_entry().await?,
            next_after: after.next_entry().await?,
            before,
            after,
        })
    }

    /// The next path of either listing, with what each has there.
    async fn next_both(
        &mut self,
    ) -> Result<Option<(Vec<u8>, Option<Entry>, Option<Entry>)>, ListingError> {
        let order = match (&self.next_before, &self.next_after) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => {
                compare_places((&before.0, &before.1.name), (&after.0, &after.1.name))
            }
        };
        let (mut before, mut after) = (None, None);
        if order != Ordering::Greater {
            before = self.next_before.take();
            self.next_before = self.before.next_entry().await?;
        }
        if order != Ordering::Less {
            after = self.next_after.take();
            self.next_after = self.after.next_entry().await?;
        }
        let path = before.as_ref().or(after.as_ref());
        let path = path.map(|(directory, entry)| join(directory, &entry.name));
        let entry = |placed: Option<PlacedEntry>| placed.map(|(_, entry)| entry);
        Ok(path.map(|path| (path, entry(before), entry(after))))
    }
}

/// What differs as the entries alone say, in order; not a file's content.
fn facets_of_stat(before: &Entry, after: &Entry) -> Vec<Facet> {
    let (was, is) = (&before.stat, &after.stat);
    let carried = |entry: &Entry| entry.flags.contains(EntryFlags::CARRIED);
    let is_other_type = was.kind != is.kind;
    let stays_directory = !is_other_type && is.kind == EntryKind::Directory;
    [
        (Facet::Type, is_other_type),
        (
            Facet::Target,
            !is_other_type && before.link_target != after.link_target,
        ),
        (Facet::Device, !is_other_type && was.device != is.device),
        (Facet::Mode, was.mode != is.mode),
        (Facet::Owner, (was.uid, was.gid) != (is.uid, is.gid)),
        (Facet::Mtime, was.mtime != is.mtime && !stays_directory),
        (Facet::Xattrs, before.xattrs != after.xattrs),
        (Facet::KeptDeleted, carried(before) != carried(after)),
    ]
    .into_iter()
    .filter_map(|(facet, differs)| differs.then_some(facet))
    .collect()
}

/// How the contents of two files differ.
fn content_facet(before: &Entry, after: &Entry) -> Option<Facet> {
    let is_missing = |entry: &Entry| entry.content == Content::Missing;
    match (is_missing(before), is_missing(after)) {
        (true, true) => None,
        (false, false) => (before.content != after.content).then_some(Facet::Content),
        _ => Some(Facet::Unreadable),
    }
}

/// What a file is still the same by, without a look at its first name.
fn inode(entry: &Entry) -> (u64, u64, Timestamp, Timestamp) {
    let stat = &entry.stat;
    (stat.inode, stat.size, stat.mtime, stat.ctime)
}

#[cfg(test)]
mod tests;
