//! Snapshots of Btrfs: of each subvolume that is walked, in a directory at the top of its filesystem. Each is taken of what was
//! looked at, whatever users of the host put into its place meanwhile.

mod container;
mod subvolume;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::mount;

use crate::fs_snapshot::btrfs::container::remove_leftovers;
pub use crate::fs_snapshot::btrfs::container::{Container, ContainerError};
use crate::fs_snapshot::places::{NoSnapshots, Place, Reading, add_nested, mounted, plan};
use crate::fs_snapshot::program::ProgramError;
use crate::fs_snapshot::view::{
    PLAIN, View, below, by_descriptor, enter_namespace, mount_point, open_plain, open_root,
    show_all, sources_of, with,
};
use crate::fs_snapshot::{SnapshotError, SnapshotOptions, lossy, problem, shown};
use crate::mount_table;
use crate::threads::chain;

/// The type of Btrfs in the mount table.
const KIND: &str = "btrfs";
/// Bits of a mode by which others than its owner write.
const OTHERS_WRITE: u32 = 0o022;

/// Why there is no snapshot of Btrfs.
#[derive(Debug, thiserror::Error)]
pub enum BtrfsError {
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
        source: ProgramError,
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
        source: ProgramError,
    },
}

/// One Btrfs filesystem, and the snapshots that were taken of it.
#[derive(Debug)]
struct Filesystem {
    /// Where its top is mounted.
    top: PathBuf,
    container: Container,
    /// The snapshot of each subvolume, by the path of its own directory below `top`.
    taken: BTreeMap<PathBuf, PathBuf>,
}

/// Takes the snapshots and makes the view of them.
pub fn make(options: &SnapshotOptions) -> Result<(View, Vec<Container>), SnapshotError> {
    let elsewhere = |found: NoSnapshots| SnapshotError::elsewhere(found, "Btrfs");
    let mut places = mounted(&mount_table::read(), |line| line.kind == KIND);
    let planned = plan(&places, &options.rules, &options.filter);
    let devices = devices_of(&planned.map_err(elsewhere)?);
    enter_namespace()?;
    let mut problems = Vec::new();
    let mut tops = BTreeMap::new();
    for (number, (device, source)) in devices.into_iter().enumerate() {
        let top = mount_top(number, &source)?;
        for left in remove_leftovers(&top, options.repository) {
            problems.push(problem(b"", &chain(&left)));
        }
        let listed = subvolume::list(&top).map_err(|error| BtrfsError::List {
            device: lossy(&source),
            source: error,
        })?;
        let subvolumes: Vec<_> = listed
            .into_iter()
            .filter(|path| !container::is_inside(path))
            .collect();
        add_nested(&mut places, &device, &subvolumes);
        tops.insert(device, top);
    }
    let planned = plan(&places, &options.rules, &options.filter).map_err(elsewhere)?;
    let mut filesystems = BTreeMap::new();
    for (device, top) in tops {
        let container = Container::make(&top, options.repository, options.run);
        let filesystem = Filesystem {
            top,
            container: container.map_err(BtrfsError::Container)?,
            taken: BTreeMap::new(),
        };
        filesystems.insert(device, filesystem);
    }
    let sources = sources_of(options, &planned, &mut problems, |place| {
        let filesystem = filesystems.get_mut(&place.device);
        filesystem.map_or(Ok(None), |filesystem| filesystem.snapshot_of(place))
    })?;
    show_all(options, &planned, &sources, &mut problems)?;
    let view = View {
        root: open_root()?,
        own_directories: own_directories(&filesystems),
        snapshots_of: filesystems
            .keys()
            .filter_map(|device| mount_table::number_of(device))
            .collect(),
        problems,
    };
    let containers = filesystems.into_values();
    Ok((
        view,
        containers.map(|filesystem| filesystem.container).collect(),
    ))
}

/// The filesystems to take snapshots of, and what each is made of.
fn devices_of(planned: &[(&Place, Reading)]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let snapshots = planned
        .iter()
        .filter(|(_, reading)| *reading == Reading::Snapshot);
    snapshots
        .map(|(place, _)| (place.device.clone(), place.source.clone()))
        .collect()
}

/// Mounts a filesystem from its top, whatever of it is mounted elsewhere.
fn mount_top(number: usize, source: &[u8]) -> Result<PathBuf, BtrfsError> {
    let failed = |error: io::Error| BtrfsError::Top {
        device: lossy(source),
        source: error,
    };
    let top = mount_point(number).map_err(failed)?;
    mount(source, &top, KIND, PLAIN, c"subvolid=5").map_err(|error| failed(error.into()))?;
    let found = fs::metadata(&top).map_err(failed)?;
    // Whoever may rename there could lead the removal of a snapshot elsewhere.
    match found.uid() == 0 && found.mode() & OTHERS_WRITE == 0 {
        true => Ok(top),
        false => Err(BtrfsError::TopNotRoots {
            device: lossy(source),
            uid: found.uid(),
            mode: found.mode() & 0o7777,
        }),
    }
}

impl Filesystem {
    /// Where the snapshot has what a place shows; none when the filesystem does not have it any more.
    fn snapshot_of(&mut self, place: &Place) -> Result<Option<PathBuf>, SnapshotError> {
        let live = below(&self.top, &place.root);
        if open_plain(&live).is_err() {
            return Ok(None);
        }
        let mut ways = live
            .ancestors()
            .take_while(|way| way.starts_with(&self.top));
        let found = ways.find_map(|way| {
            let opened = open_plain(way).ok()?;
            subvolume::is_open_subvolume(&opened).then_some((way, opened))
        });
        let Some((own, opened)) = found else {
            return Ok(None);
        };
        let rest = live.strip_prefix(own).unwrap_or(Path::new(""));
        if let Some(snapshot) = self.taken.get(own) {
            return Ok(Some(with(snapshot, rest)));
        }
        match self.container.take(&by_descriptor(&opened)) {
            Ok(snapshot) => {
                let found = with(&snapshot, rest);
                self.taken.insert(own.to_owned(), snapshot);
                Ok(Some(found))
            }
            // Removed between two looks.
            Err(_) if !subvolume::is_subvolume(own) => Ok(None),
            Err(source) => Err(BtrfsError::Take {
                path: shown(&place.path),
                source,
            }
            .into()),
        }
    }
}

/// Directories of snapshots, this run's and others', as a snapshot of the top has them: empty, and no part of what is backed up.
fn own_directories(filesystems: &BTreeMap<Vec<u8>, Filesystem>) -> Vec<(u64, u64)> {
    let tops = filesystems
        .values()
        .filter_map(|filesystem| filesystem.taken.get(&filesystem.top));
    let found = tops
        .filter_map(|snapshot| container::all(snapshot).ok())
        .flatten();
    found
        .filter_map(|path| fs::symlink_metadata(path).ok())
        .map(|found| (found.dev(), found.ino()))
        .collect()
}
