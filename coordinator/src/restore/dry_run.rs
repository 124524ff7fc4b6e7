//! Tells what a restore would do, and does nothing: looks the same things up, asks the same policy.

use std::io;
use std::sync::Arc;

use formats::listing::content::Content;
use formats::listing::entry::{Entry, EntryKind, join};

use crate::restore::decide::{Decision, decide};
use crate::restore::error::RestoreError;
use crate::restore::open_target::{check_target, open_root, target_error};
use crate::restore::options::{Overwrite, RestoreOptions};
use crate::restore::patterns::Patterns;
use crate::restore::plan::Selection;
use crate::restore::staging::Existing;
use crate::restore::summary::{RestoreSummary, Tally};
use crate::restore::tree::{Directory, DirectoryTree, Walk, open_child};
use crate::snapshot::listing::Listing;

/// What would be done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Made.
    Create,
    /// Made in the place of what is there.
    Replace,
    /// Left as it is.
    Skip,
}

/// One object of a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedObject {
    /// Its path in the listing.
    pub path: Vec<u8>,
    /// Its type.
    pub kind: EntryKind,
    /// Its size.
    pub bytes: u64,
    /// What would be done.
    pub action: Action,
}

/// Hands every object that a restore would touch to `tell`, and gives the counts that it would end with.
pub async fn dry_run(
    listing: Listing,
    options: &RestoreOptions,
    tell: &mut (dyn FnMut(PlannedObject) -> io::Result<()> + Send),
) -> Result<RestoreSummary, RestoreError> {
    let selection = Selection::find(listing, &options.paths).await?;
    let mut patterns = Patterns::new(&options.include, &options.exclude)?;
    check_target(options)?;
    let failed = |source| target_error(&options.to, source);
    let mut target = Target::open(options).map_err(failed)?;
    let tally = Tally::default();
    let mut entries = selection.entries();
    while let Some((directory, entry)) = entries.next_entry().await? {
        let is_directory = entry.stat.kind == EntryKind::Directory;
        let verdict = patterns.verdict(&directory, &entry.name, is_directory);
        let is_device = matches!(
            entry.stat.kind,
            EntryKind::CharDevice | EntryKind::BlockDevice
        );
        if verdict.excluded || !verdict.included || entry.content == Content::Missing {
            continue;
        }
        if is_device && !options.metadata.devices {
            Tally::add(&tally.left_out, 1);
            continue;
        }
        let action = target.action(options.overwrite, &directory, &entry);
        match (action, is_directory) {
            (_, true) => Tally::add(&tally.directories, 1),
            (Action::Skip, false) => Tally::add(&tally.skipped, 1),
            (_, false) => {
                Tally::add(&tally.files, 1);
                if entry.hard_link_to.is_none() {
                    Tally::add(&tally.bytes, entry.stat.size);
                }
            }
        }
        tell(PlannedObject {
            path: join(&directory, &entry.name),
            kind: entry.stat.kind,
            bytes: entry.stat.size,
            action,
        })
        .map_err(failed)?;
    }
    Ok(tally.summary())
}

/// A directory's path, and the directory if it is there.
type LookedInto = (Arc<[u8]>, Option<Arc<Directory>>);

/// The target as it is, if it is there.
struct Target {
    tree: Option<DirectoryTree>,
    /// The directory last looked into: entries come directory by directory.
    last: Option<LookedInto>,
}

const WALK: Walk = Walk {
    create: false,
    make_accessible: false,
};

impl Target {
    fn open(options: &RestoreOptions) -> io::Result<Self> {
        let tree = match open_root(&options.to) {
            Ok(root) => Some(DirectoryTree::new(root, WALK)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { tree, last: None })
    }

    fn action(
        &mut self,
        overwrite: Option<Overwrite>,
        directory: &Arc<[u8]>,
        entry: &Entry,
    ) -> Action {
        // A directory that is not there yet holds nothing that could be in the way.
        let Some(open) = self.directory(directory) else {
            return Action::Create;
        };
        if entry.stat.kind == EntryKind::Directory {
            return match open_child(&open, &entry.name, WALK) {
                Ok(_) => Action::Skip,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Action::Create,
                Err(_) => Action::Replace,
            };
        }
        match decide(overwrite, &open, entry) {
            Ok(Decision::Skip { .. }) => Action::Skip,
            Ok(Decision::Make(Existing::Replace)) => Action::Replace,
            Ok(Decision::Make(Existing::Keep)) | Err(_) => Action::Create,
        }
    }

    fn directory(&mut self, path: &Arc<[u8]>) -> Option<Arc<Directory>> {
        if let Some((last, open)) = &self.last
            && last == path
        {
            return open.clone();
        }
        let open = self.tree.as_mut().and_then(|tree| tree.open(path).ok());
        self.last = Some((Arc::clone(path), open.clone()));
        open
    }
}
