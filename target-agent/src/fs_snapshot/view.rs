//! The view of the tree: every place that the walk comes to, from its snapshot or as it is, bound together below one root. Made
//! in the mount namespace of the calling thread; what it mounts is seen by nobody else, and never stays.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use formats::listing::order::is_within;
use formats::wire::control::Problem;
use rustix::fs::makedev;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::geteuid;
use rustix::thread::UnshareFlags;

use crate::fs_snapshot::container::{self, Container, remove_leftovers};
use crate::fs_snapshot::places::{Place, Reading, add_nested, mounted, plan};
use crate::fs_snapshot::{SnapshotError, SnapshotOptions, problem, shown, tool};
use crate::mount_table;
use crate::threads::chain;

/// Where it is put together: every Linux has this directory, and no backup wants what it hides.
const WORK_AREA: &str = "/sys";
/// Its root, in the work area.
const ROOT: &str = "/sys/view";

/// A view.
#[derive(Debug)]
pub struct View {
    /// Its root.
    pub root: File,
    /// Filesystem and inode of directories in it that hold snapshots.
    pub own_directories: Vec<(u64, u64)>,
    /// The filesystems of which it shows snapshots.
    pub snapshots_of: Vec<u64>,
    /// What is worth telling.
    pub problems: Vec<Problem>,
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
    if !geteuid().is_root() {
        return Err(SnapshotError::NotRoot);
    }
    let mut places = mounted(&mount_table::read());
    let devices = devices_of(&plan(&places, &options.rules, &options.filter)?);
    enter_namespace()?;
    let mut problems = Vec::new();
    let mut tops = BTreeMap::new();
    for (number, (device, source)) in devices.into_iter().enumerate() {
        let top = mount_top(number, &source)?;
        for left in remove_leftovers(&top, options.repository) {
            problems.push(problem(b"", &chain(&left)));
        }
        let listed = tool::list(&top).map_err(|error| SnapshotError::List {
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
    let planned = plan(&places, &options.rules, &options.filter)?;
    let mut filesystems = BTreeMap::new();
    for (device, top) in tops {
        let container = Container::make(&top, options.repository, options.run)?;
        let filesystem = Filesystem {
            top,
            container,
            taken: BTreeMap::new(),
        };
        filesystems.insert(device, filesystem);
    }
    let sources = take_all(options, &planned, &mut filesystems)?;
    show_all(options, &planned, &sources, &mut problems)?;
    let view = View {
        root: open_root()?,
        own_directories: own_directories(&filesystems),
        snapshots_of: filesystems
            .keys()
            .filter_map(|device| number_of(device))
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

fn enter_namespace() -> Result<(), SnapshotError> {
    let of_kernel = |error: Errno| SnapshotError::Namespace(error.into());
    #[expect(
        deprecated,
        reason = "the other one is unsafe, for flags that take descriptors from other threads; this one does not"
    )]
    rustix::thread::unshare(UnshareFlags::NEWNS).map_err(of_kernel)?;
    // What the machine unmounts meanwhile goes here too, and nothing that is mounted here shows there.
    let propagation = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", propagation).map_err(of_kernel)?;
    let failed = |error: io::Error| SnapshotError::WorkArea(error);
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("capstan", WORK_AREA, "tmpfs", flags, c"mode=0700,size=1m")
        .map_err(|error| failed(error.into()))?;
    fs::create_dir(ROOT).map_err(failed)
}

/// Mounts a filesystem from its top, whatever of it is mounted elsewhere.
fn mount_top(number: usize, source: &[u8]) -> Result<PathBuf, SnapshotError> {
    let failed = |error: io::Error| SnapshotError::Top {
        device: lossy(source),
        source: error,
    };
    let top = Path::new(WORK_AREA).join(number.to_string());
    fs::create_dir(&top).map_err(failed)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    mount(source, &top, "btrfs", flags, c"subvolid=5").map_err(|error| failed(error.into()))?;
    Ok(top)
}

/// Takes every snapshot, one right after the other; gives where each place is bound from, none for those that are gone
/// or hidden by the work area.
fn take_all(
    options: &SnapshotOptions,
    planned: &[(&Place, Reading)],
    filesystems: &mut BTreeMap<Vec<u8>, Filesystem>,
) -> Result<Vec<Option<PathBuf>>, SnapshotError> {
    let mut sources = Vec::with_capacity(planned.len());
    for (place, reading) in planned {
        let filesystem = filesystems.get_mut(&place.device);
        let (Some(filesystem), Reading::Snapshot) = (filesystem, reading) else {
            let live = below(Path::new("/"), &place.path);
            sources.push(Some(live).filter(|live| !live.starts_with(WORK_AREA)));
            continue;
        };
        let source = filesystem.snapshot_of(place)?;
        let holds_source = options
            .rules
            .sources
            .iter()
            .any(|source| is_within(source, &place.path));
        if source.is_none() && holds_source {
            return Err(SnapshotError::Gone {
                path: shown(&place.path),
            });
        }
        sources.push(source);
    }
    Ok(sources)
}

impl Filesystem {
    /// Where the snapshot has what a place shows; none when the filesystem does not have it any more.
    fn snapshot_of(&mut self, place: &Place) -> Result<Option<PathBuf>, SnapshotError> {
        let live = below(&self.top, &place.root);
        let mut ways = live
            .ancestors()
            .take_while(|way| way.starts_with(&self.top));
        let subvolume = ways.find(|way| tool::is_subvolume(way));
        let Some(subvolume) = subvolume.filter(|_| fs::symlink_metadata(&live).is_ok()) else {
            return Ok(None);
        };
        let rest = live.strip_prefix(subvolume).unwrap_or(Path::new(""));
        if let Some(snapshot) = self.taken.get(subvolume) {
            return Ok(Some(with(snapshot, rest)));
        }
        match self.container.take(subvolume) {
            Ok(snapshot) => {
                let found = with(&snapshot, rest);
                self.taken.insert(subvolume.to_owned(), snapshot);
                Ok(Some(found))
            }
            // Removed between two looks.
            Err(_) if !tool::is_subvolume(subvolume) => Ok(None),
            Err(source) => Err(SnapshotError::Take {
                path: shown(&place.path),
                source,
            }),
        }
    }
}

/// Binds the places one below the other. What has no snapshot is told where it is walked; what cannot be shown and holds no
/// source, too.
fn show_all(
    options: &SnapshotOptions,
    planned: &[(&Place, Reading)],
    sources: &[Option<PathBuf>],
    problems: &mut Vec<Problem>,
) -> Result<(), SnapshotError> {
    for ((place, reading), source) in planned.iter().zip(sources) {
        let Some(source) = source else {
            continue;
        };
        if *reading == Reading::AsItIs {
            let text = format!(
                "read as it is, not from a snapshot: {} has none",
                place.kind
            );
            problems.push(problem(&place.path, &text));
        }
        let holds_source = options
            .rules
            .sources
            .iter()
            .any(|source| is_within(source, &place.path));
        match mount_bind(source, below(Path::new(ROOT), &place.path)) {
            Ok(()) => {}
            Err(error) if holds_source || *reading == Reading::Snapshot => {
                return Err(SnapshotError::Show {
                    path: shown(&place.path),
                    source: error.into(),
                });
            }
            Err(error) => {
                let text = format!("cannot be shown beside the snapshots: {error}");
                problems.push(problem(&place.path, &text));
            }
        }
    }
    Ok(())
}

fn open_root() -> Result<File, SnapshotError> {
    File::open(ROOT).map_err(|source| SnapshotError::Show {
        path: shown(b""),
        source,
    })
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

/// The number of a filesystem, from `major:minor`.
fn number_of(device: &[u8]) -> Option<u64> {
    let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// A path without a slash in front, below a directory.
fn below(directory: &Path, path: &[u8]) -> PathBuf {
    with(directory, Path::new(OsStr::from_bytes(path)))
}

/// Joins, without a slash at the end where there is nothing to join: a file may be bound, too.
fn with(directory: &Path, rest: &Path) -> PathBuf {
    match rest.as_os_str().is_empty() {
        true => directory.to_owned(),
        false => directory.join(rest),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
