//! Snapshots of the filesystems that sources are on: taken before the walk, put together as a view of the whole tree that
//! nothing else on the machine sees, and removed after the walk. Never reads a source that has no snapshot, and leaves nothing
//! mounted: the view lives in a mount namespace that one thread is in, and goes with it. So commands of streams, which other
//! threads start, see the machine as it is.

mod btrfs;
mod guard;
mod lvm;
mod places;
mod program;
mod view;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use formats::ids::{RepositoryId, RunId};
use formats::wire::control::problem::{Problem, ProblemKind};
use formats::wire::start::{self, Rules};
use rustix::process::geteuid;

use crate::filter::Filter;
use crate::fs_snapshot::btrfs::{BtrfsError, Container};
use crate::fs_snapshot::lvm::{LvmError, Volumes};
use crate::fs_snapshot::places::NoSnapshots;
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
        "{source_path} is on {mount}, which is {kind} on {device} and not {wanted}: take it out of `paths`, or set `fs_snapshot` to none"
    )]
    Elsewhere {
        /// The source.
        source_path: String,
        /// Where its filesystem is mounted.
        mount: String,
        /// The type of that.
        kind: String,
        /// What it is made of.
        device: String,
        /// What snapshots were asked of.
        wanted: &'static str,
    },
    /// The kernel gives no mount namespace.
    #[error("make a mount namespace of its own")]
    Namespace(#[source] io::Error),
    /// There is no place to mount anything.
    #[error("make a work area over /sys")]
    WorkArea(#[source] io::Error),
    /// Of Btrfs.
    #[error(transparent)]
    Btrfs(#[from] BtrfsError),
    /// Of LVM.
    #[error(transparent)]
    Lvm(#[from] LvmError),
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

impl SnapshotError {
    fn elsewhere(found: NoSnapshots, wanted: &'static str) -> Self {
        Self::Elsewhere {
            source_path: shown(&found.source),
            mount: shown(&found.mount),
            kind: found.kind,
            device: lossy(&found.device),
            wanted,
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
    keeper: JoinHandle<()>,
    taken: Taken,
}

/// What was taken.
#[derive(Debug)]
enum Taken {
    Btrfs(Vec<Container>),
    Lvm(Volumes),
}

/// Takes them.
pub fn take(options: SnapshotOptions) -> Result<FsSnapshot, SnapshotError> {
    if !geteuid().is_root() {
        return Err(SnapshotError::NotRoot);
    }
    let (tell, told) = bounded(1);
    let (release, released) = bounded(0);
    let keeper = Builder::new()
        .name("snapshot".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || keep(&options, &tell, &released))
        .map_err(SnapshotError::Thread)?;
    let (view, taken) = told
        .recv()
        .map_err(|error| SnapshotError::Thread(io::Error::other(error)))??;
    let View {
        root,
        own_directories,
        snapshots_of,
        problems,
    } = view;
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
        taken,
    })
}

impl FsSnapshot {
    /// Removes them, once all is read; gives what could not be removed. An error if what was read is not what was there.
    pub fn remove(self) -> Result<Vec<Problem>, SnapshotError> {
        if let Taken::Lvm(volumes) = &self.taken {
            volumes.check()?;
        }
        drop(self.root);
        drop(self.release);
        self.keeper.join().ok();
        let left: Vec<String> = match self.taken {
            Taken::Btrfs(containers) => {
                let left = containers.into_iter().map(Container::remove);
                left.filter_map(Result::err)
                    .map(|error| chain(&error))
                    .collect()
            }
            Taken::Lvm(volumes) => volumes
                .remove()
                .err()
                .iter()
                .map(|error| chain(error))
                .collect(),
        };
        Ok(left.iter().map(|text| problem(b"", text)).collect())
    }
}

/// The thread that is in the namespace: it has the view until it is told to go.
fn keep(
    options: &SnapshotOptions,
    tell: &Sender<Result<(View, Taken), SnapshotError>>,
    released: &Receiver<()>,
) {
    let is_lvm = options.rules.fs_snapshot == start::FsSnapshot::Lvm;
    let made = match is_lvm {
        true => lvm::make(options).map(|(view, volumes)| (view, Taken::Lvm(volumes))),
        false => btrfs::make(options).map(|(view, containers)| (view, Taken::Btrfs(containers))),
    };
    let is_made = made.is_ok();
    tell.send(made).ok();
    if is_made {
        // Nothing is ever sent: the other end goes when the walk is over.
        released.recv().ok();
    }
    // What is mounted of a volume keeps it from being removed; the guards of Btrfs, which are in here, need what is.
    if is_lvm && is_made {
        view::leave().ok();
    }
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

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
