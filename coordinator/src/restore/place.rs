//! Takes a directory's entries one batch at a time: makes directories at once, turns files into jobs, and puts
//! aside what has to wait. Decides here what existing things mean for an entry.

use std::io;
use std::sync::Arc;

use formats::listing::content::Content;
use formats::listing::entry::{Entry, EntryKind, join};
use rustix::fs::AtFlags;

use crate::restore::decide::{Decision, decide};
use crate::restore::links::First;
use crate::restore::options::Overwrite;
use crate::restore::patterns::Patterns;
use crate::restore::site::Site;
use crate::restore::summary::{ProblemKind, Tally};
use crate::restore::tree::{Directory, DirectoryTree, make_directory};
use crate::restore::window::Follower;
use crate::restore::write::{FileJob, FilePlace};

/// Some entries of one directory.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The directory's path.
    pub(crate) directory: Arc<[u8]>,
    /// The entries.
    pub(crate) entries: Vec<Entry>,
}

/// What an entry has become.
#[derive(Debug)]
pub(crate) enum PlacedObject {
    /// A file to write, with its content.
    File(Arc<FileJob>, Content),
    /// To be made when the files before it are there.
    Follower(Box<Follower>),
}

/// Places entries below the target.
#[derive(Debug)]
pub(crate) struct Placer {
    tree: DirectoryTree,
    patterns: Patterns,
    site: Arc<Site>,
}

impl Placer {
    /// A placer at the target.
    pub(crate) fn new(tree: DirectoryTree, patterns: Patterns, site: Arc<Site>) -> Self {
        Self {
            tree,
            patterns,
            site,
        }
    }

    /// Places a batch.
    pub(crate) fn place(&mut self, batch: Batch) -> Vec<PlacedObject> {
        let Batch {
            directory: path,
            mut entries,
        } = batch;
        let patterns = &mut self.patterns;
        entries.retain(|entry| {
            let is_directory = entry.stat.kind == EntryKind::Directory;
            let verdict = patterns.verdict(&path, &entry.name, is_directory);
            verdict.included && !verdict.excluded
        });
        if entries.is_empty() {
            return Vec::new();
        }
        let directory = match self.tree.open(&path) {
            Ok(directory) => directory,
            Err(error) => {
                for entry in &entries {
                    let path = join(&path, &entry.name);
                    self.site
                        .not_made(&path, "its directory cannot be opened", &error);
                }
                return Vec::new();
            }
        };
        let mut placed = Vec::with_capacity(entries.len());
        for entry in entries {
            let full = join(&path, &entry.name);
            match self.place_one(&directory, &path, entry) {
                Ok(object) => placed.extend(object),
                Err(error) => self.site.not_made(&full, "cannot be made", &error),
            }
        }
        placed
    }

    fn place_one(
        &self,
        directory: &Arc<Directory>,
        directory_path: &Arc<[u8]>,
        entry: Entry,
    ) -> io::Result<Option<PlacedObject>> {
        match entry.stat.kind {
            EntryKind::Directory => {
                self.place_directory(directory, &entry)?;
                return Ok(None);
            }
            EntryKind::File if entry.hard_link_to.is_none() => {}
            _ => {
                return Ok(Some(PlacedObject::Follower(Box::new(Follower {
                    directory: Arc::clone(directory),
                    directory_path: Arc::clone(directory_path),
                    entry,
                    first_path: None,
                }))));
            }
        }
        let place = FilePlace {
            directory: Arc::clone(directory),
            directory_path: Arc::clone(directory_path),
            existing: crate::restore::staging::Existing::Keep,
            first_path: None,
        };
        place_file(&self.site, place, entry)
    }

    fn place_directory(&self, parent: &Directory, entry: &Entry) -> io::Result<()> {
        let name = entry.name.as_slice();
        match make_directory(parent, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Not a directory. A link is removed here, never gone through.
                let may_replace = matches!(
                    self.site.overwrite,
                    Some(Overwrite::Always | Overwrite::IfChanged)
                );
                if !may_replace {
                    return Err(error);
                }
                rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
                make_directory(parent, name)
            }
            made => made,
        }
    }
}

/// Makes a job of a file, unless what is there stays.
pub(crate) fn place_file(
    site: &Site,
    mut place: FilePlace,
    entry: Entry,
) -> io::Result<Option<PlacedObject>> {
    let path = join(&place.directory_path, &entry.name);
    if entry.content == Content::Missing {
        let text = "its content could not be read when it was backed up".to_owned();
        site.tally.problem(&path, ProblemKind::Unreadable, text);
        return Ok(None);
    }
    match decide(site.overwrite, &place.directory, &entry)? {
        Decision::Make(existing) => place.existing = existing,
        Decision::Skip { device, inode } => {
            Tally::add(&site.tally.skipped, 1);
            if entry.stat.links > 1 || place.first_path.is_some() {
                let first = |at| First {
                    device,
                    inode,
                    links: entry.stat.links,
                    at,
                };
                match place.first_path {
                    Some(first_path) => {
                        site.firsts.remember(&first_path, first(Some(path.into())));
                    }
                    None => site.firsts.remember(&path, first(None)),
                }
            }
            return Ok(None);
        }
    }
    let (job, content) = FileJob::new(place, entry);
    Ok(Some(PlacedObject::File(job, content)))
}
