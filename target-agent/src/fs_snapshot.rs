//! Snapshots of the filesystems that sources are on: taken before the walk, put together as a view of the whole tree that
//! nothing else on the machine sees, and removed after the walk. Never reads a source that has no snapshot, and leaves nothing
//! mounted: the view lives in a mount namespace that one thread is in, and goes with it. So commands of streams, which other
//! threads start, see the machine as it is.

mod container;
mod places;
mod tool;
mod view;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use formats::ids::{RepositoryId, RunId};
use formats::wire::control::{Problem, ProblemKind};
use formats::wire::start::Rules;

use crate::filter::Filter;
use crate::fs_snapshot::container::ContainerError;
use crate::fs_snapshot::places::NotBtrfs;
use crate::fs_snapshot::tool::ToolError;
use crate::fs_snapshot::view::View;
use crate::threads::chain;
use crate::walk::ground::Ground;

const STACK_BYTES: usize = 512 << 10;

/// Why there is no snapshot to read from.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The agent may not.
    #[error("it needs root on the host: log in as root, or set `become`, such as to `sudo -n`")]
    NotRoot,
    /// A source is elsewhere.
    #[error(
        "{source_path} is on {mount}, which is {kind} and not Btrfs: take it out of `paths`, or set `fs_snapshot` to none"
    )]
    NotBtrfs {
        /// The source.
        source_path: String,
        /// Where its filesystem is mounted.
        mount: String,
        /// The type of that.
        kind: String,
    },
    /// The kernel gives no mount namespace.
    #[error("make a mount namespace of its own")]
    Namespace(#[source] io::Error),
    /// There is no place to mount anything.
    #[error("make a work area over /sys")]
    WorkArea(#[source] io::Error),
    /// A filesystem's top.
    #[error("mount the top of the Btrfs filesystem on {device}")]
    Top {
        /// What it is made of.
        device: String,
        /// Why.
        source: io::Error,
    },
    /// Others than root could have its snapshots removed where they are not.
    #[error(
        "the top of the Btrfs filesystem on {device} belongs to user {uid}, with mode {mode:o}: it must be root's and writable by nobody else; move the data into a subvolume or directory of it"
    )]
    TopNotRoots {
        /// What the filesystem is made of.
        device: String,
        /// Whose it is.
        uid: u32,
        /// Its mode.
        mode: u32,
    },
    /// Its subvolumes.
    #[error("list the subvolumes of {device}")]
    List {
        /// What the filesystem is made of.
        device: String,
        /// Why.
        source: ToolError,
    },
    /// The directory for snapshots.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A snapshot.
    #[error("take a snapshot for {path}")]
    Take {
        /// The place.
        path: String,
        /// Why.
        source: ToolError,
    },
    /// What is mounted is not in the filesystem any more.
    #[error("what {path} shows was removed from its filesystem")]
    Gone {
        /// The place.
        path: String,
    },
    /// A place of the view.
    #[error("show {path} in the view that is walked")]
    Show {
        /// The place.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The thread that has the view.
    #[error("start a thread")]
    Thread(#[source] io::Error),
}

impl From<NotBtrfs> for SnapshotError {
    fn from(found: NotBtrfs) -> Self {
        Self::NotBtrfs {
            source_path: shown(&found.source),
            mount: shown(&found.mount),
            kind: found.kind,
        }
    }
}

/// What snapshots are taken for.
#[derive(Debug)]
pub struct SnapshotOptions {
    /// The repository: leftovers of its earlier runs are removed.
    pub repository: RepositoryId,
    /// This run.
    pub run: RunId,
    /// The sources and what to leave out of them.
    pub rules: Rules,
    /// The patterns of the rules.
    pub filter: Arc<Filter>,
}

/// Snapshots that stand. Dropping it removes them too, without a word.
#[derive(Debug)]
pub struct FsSnapshot {
    /// What to walk.
    pub ground: Ground,
    /// What is worth telling.
    pub problems: Vec<Problem>,
    /// The view's root, by which it is walked.
    root: File,
    release: Sender<()>,
    keeper: JoinHandle<Vec<ContainerError>>,
}

/// Takes them.
pub fn take(options: SnapshotOptions) -> Result<FsSnapshot, SnapshotError> {
    let (tell, told) = bounded(1);
    let (release, released) = bounded(0);
    let keeper = Builder::new()
        .name("snapshot".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || keep(&options, &tell, &released))
        .map_err(SnapshotError::Thread)?;
    let View {
        root,
        own_directories,
        snapshots_of,
        problems,
    } = told
        .recv()
        .map_err(|error| SnapshotError::Thread(io::Error::other(error)))??;
    // The dot, for the root of a tree is never opened through a link.
    let walked = format!("/proc/self/fd/{}/.", root.as_raw_fd());
    Ok(FsSnapshot {
        ground: Ground {
            root: walked.into_bytes(),
            own_directories,
            snapshots_of,
        },
        problems,
        root,
        release,
        keeper,
    })
}

impl FsSnapshot {
    /// Removes them; gives what could not be removed.
    pub fn remove(self) -> Vec<Problem> {
        drop(self.root);
        drop(self.release);
        let left = self.keeper.join().unwrap_or_default();
        left.iter()
            .map(|error| problem(b"", &chain(error)))
            .collect()
    }
}

/// The thread that is in the namespace: it has the view until it is told to go.
fn keep(
    options: &SnapshotOptions,
    tell: &Sender<Result<View, SnapshotError>>,
    released: &Receiver<()>,
) -> Vec<ContainerError> {
    let (view, containers) = match view::make(options) {
        Ok(made) => made,
        Err(error) => {
            tell.send(Err(error)).ok();
            return Vec::new();
        }
    };
    tell.send(Ok(view)).ok();
    // Nothing is ever sent: the other end goes when the walk is over.
    released.recv().ok();
    let left = containers.into_iter().map(container::Container::remove);
    left.filter_map(Result::err).collect()
}

fn problem(path: &[u8], text: &str) -> Problem {
    Problem {
        kind: ProblemKind::Other,
        path: path.to_vec(),
        errno: 0,
        text: text.to_owned(),
    }
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
