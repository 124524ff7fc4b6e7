//! Fills windows with what entries have become, and sees that each is worked off while the next is filled.
//! Never has more than two windows in memory.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use formats::listing::content::{Content, Extent};
use formats::listing::entry::{Entry, EntryKind, join};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::restore::after::AfterWorker;
use crate::restore::error::RestoreError;
use crate::restore::fetch::{WindowEnd, work_off};
use crate::restore::place::{PlacedObject, place_file};
use crate::restore::site::Site;
use crate::restore::staging::Existing;
use crate::restore::summary::ProblemKind;
use crate::restore::window::{Destination, Follower, Window, WindowLimits};
use crate::restore::write::{FileJob, FilePlace};
use crate::snapshot::chunk_error::FailureClass;
use crate::snapshot::content::ExtentStream;
use crate::snapshot::further::may_stand_for;
use crate::snapshot::listing::Listing;
use crate::terminal::error_line;

/// What filling works with.
pub(crate) struct FillingParts<'a> {
    /// The snapshot's listing.
    pub(crate) listing: Listing,
    /// What all workers share.
    pub(crate) site: Arc<Site>,
    /// How much a window may hold.
    pub(crate) limits: WindowLimits,
    /// The target, for messages.
    pub(crate) target: &'a Path,
    /// Stops the restore.
    pub(crate) cancel: CancellationToken,
}

/// Fills windows and sees that they are worked off, one while the next is filled.
pub(crate) struct Filling<'a> {
    parts: FillingParts<'a>,
    window: Window,
    after: Option<AfterWorker>,
    running: Option<AbortOnDropHandle<Result<WindowEnd, RestoreError>>>,
    unresolved: VecDeque<Follower>,
    /// First names that are restored under a further name in the window being filled.
    copied: HashSet<Vec<u8>>,
}

impl<'a> Filling<'a> {
    /// With an empty window.
    pub(crate) fn new(parts: FillingParts<'a>, after: AfterWorker) -> Self {
        Self {
            parts,
            window: Window::default(),
            after: Some(after),
            running: None,
            unresolved: VecDeque::new(),
            copied: HashSet::new(),
        }
    }

    /// One more directory is held open by the window.
    pub(crate) fn count_directory(&mut self) {
        self.window.count_directory();
    }

    /// Adds what an entry has become.
    pub(crate) async fn add(&mut self, object: PlacedObject) -> Result<(), RestoreError> {
        match object {
            PlacedObject::Follower(follower) => {
                self.window.count_metadata(&follower.entry);
                self.window.followers.push(*follower);
            }
            PlacedObject::File(job, content) => self.add_file(job, content).await?,
        }
        if self.window.is_full(&self.parts.limits) {
            self.flush().await?;
        }
        Ok(())
    }

    async fn add_file(&mut self, job: Arc<FileJob>, content: Content) -> Result<(), RestoreError> {
        self.window.count_metadata(job.entry());
        let several = !matches!(&content, Content::Extents(extents) if extents.len() <= 1);
        if several {
            self.window.count_open_file();
        }
        let mut extents = ExtentStream::new(self.parts.listing.chunks().clone(), content);
        let mut offset = 0u64;
        loop {
            let group = match extents.next_extents().await {
                Ok(Some(group)) => group,
                Ok(None) => break,
                Err(error) => {
                    let kind = match error.class() {
                        FailureClass::Integrity => ProblemKind::Damaged,
                        FailureClass::Storage | FailureClass::Key => ProblemKind::Other,
                    };
                    job.fail(kind, error_line(&error));
                    break;
                }
            };
            for extent in group {
                if let Extent::Chunk { id, bytes } = extent {
                    job.expect_chunk();
                    let destination = Destination {
                        job: Arc::clone(&job),
                        offset,
                        bytes,
                    };
                    self.window.add(id, destination);
                }
                offset = offset.saturating_add(extent.bytes());
                if self.window.is_full(&self.parts.limits) {
                    self.flush().await?;
                }
            }
        }
        if job.release() {
            self.window.complete.push(job);
        }
        Ok(())
    }

    /// Starts working off what was gathered, once the window before is done.
    async fn flush(&mut self) -> Result<(), RestoreError> {
        self.wait().await?;
        let Some(after) = self.after.take() else {
            return Err(RestoreError::Stopped);
        };
        let window = std::mem::take(&mut self.window);
        self.copied.clear();
        let task = tokio::spawn(work_off(
            window,
            self.parts.listing.chunks().clone(),
            Arc::clone(&self.parts.site),
            after,
        ));
        self.running = Some(AbortOnDropHandle::new(task));
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), RestoreError> {
        if let Some(running) = self.running.take() {
            let end = running.await.map_err(|_| RestoreError::Stopped)??;
            self.after = Some(end.after);
            self.unresolved.extend(end.unresolved);
        }
        if let Some(errno) = self.parts.site.full.get() {
            return Err(RestoreError::TargetFull {
                path: self.parts.target.to_path_buf(),
                source: io::Error::from(*errno),
            });
        }
        match self.parts.cancel.is_cancelled() {
            true => Err(RestoreError::Cancelled),
            false => Ok(()),
        }
    }

    /// Works everything off.
    pub(crate) async fn drain(&mut self) -> Result<(), RestoreError> {
        loop {
            self.flush().await?;
            self.wait().await?;
            self.resolve_all().await?;
            if self.window.is_empty() {
                return Ok(());
            }
        }
    }

    /// Further names whose first name was not restored: they get the content themselves.
    pub(crate) async fn resolve_all(&mut self) -> Result<(), RestoreError> {
        while let Some(follower) = self.unresolved.pop_front() {
            self.resolve(follower).await?;
        }
        Ok(())
    }

    async fn resolve(&mut self, follower: Follower) -> Result<(), RestoreError> {
        let Some(first_path) = follower.entry.hard_link_to.clone() else {
            return Ok(());
        };
        if self.parts.site.firsts.get(&first_path).is_some() || self.copied.contains(&first_path) {
            // Another further name brings the content in this window; this one is linked to it after.
            self.window.followers.push(follower);
            return Ok(());
        }
        let path = join(&follower.directory_path, &follower.entry.name);
        let first = self.parts.listing.entry(&first_path).await?;
        let first = match first {
            Some(first) if may_stand_for(&first, &follower.entry) => first,
            _ => {
                let text = "it is a further name of something that the snapshot does not have";
                self.parts
                    .site
                    .tally
                    .problem(&path, ProblemKind::Refused, text.to_owned());
                return Ok(());
            }
        };
        if self.parts.site.firsts.overflowed() {
            let text = "too many hard links at once: restored as a copy of its own".to_owned();
            self.parts
                .site
                .tally
                .problem(&path, ProblemKind::Metadata, text);
        }
        let entry = Entry {
            name: follower.entry.name.clone(),
            ..first
        };
        self.copied.insert(first_path.clone());
        if entry.stat.kind != EntryKind::File {
            return Box::pin(self.add(PlacedObject::Follower(Box::new(Follower {
                entry,
                first_path: Some(first_path),
                ..follower
            }))))
            .await;
        }
        let place = FilePlace {
            directory: follower.directory,
            directory_path: follower.directory_path,
            existing: Existing::Keep,
            first_path: Some(first_path),
        };
        match place_file(&self.parts.site, place, entry) {
            Ok(Some(object)) => self.add(object).await,
            Ok(None) => Ok(()),
            Err(error) => {
                self.parts.site.not_made(&path, "cannot be made", &error);
                Ok(())
            }
        }
    }
}
