//! The view of the tree: every place that the walk comes to, from its snapshot or as it is, bound together below one root. Made
//! in the mount namespace of the calling thread; what it mounts is seen by nobody else, and never stays.
//!
//! Users of the host can put links where they like, and directories in the place of links, while all this goes on. So nothing is
//! bound, and nothing bound upon, that a link leads to, and each snapshot is taken of what was looked at.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use formats::listing::order::is_within;
use formats::wire::control::Problem;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::geteuid;
use rustix::thread::UnshareFlags;

use crate::fs_snapshot::container::{self, Container, remove_leftovers};
use crate::fs_snapshot::places::{Place, Reading, add_nested, mounted, plan};
use crate::fs_snapshot::{SnapshotError, SnapshotOptions, problem, shown, tool};
use crate::mount_table;
use crate::threads::chain;

/// Bits of a mode by which others than its owner write.
const OTHERS_WRITE: u32 = 0o022;
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
    let sources = take_all(options, &planned, &mut filesystems, &mut problems)?;
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
    let found = fs::metadata(&top).map_err(failed)?;
    // Whoever may rename there could lead the removal of a snapshot elsewhere.
    match found.uid() == 0 && found.mode() & OTHERS_WRITE == 0 {
        true => Ok(top),
        false => Err(SnapshotError::TopNotRoots {
            device: lossy(source),
            uid: found.uid(),
            mode: found.mode() & 0o7777,
        }),
    }
}

/// Opens what a path is, if no part of it is a link.
fn open_plain(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    Ok(opened)
}

/// A name for what is open that no rename changes, for this process and those that it starts.
fn by_descriptor(opened: &OwnedFd) -> PathBuf {
    let (process, number) = (std::process::id(), opened.as_raw_fd());
    PathBuf::from(format!("/proc/{process}/fd/{number}"))
}

/// Takes every snapshot, one right after the other; gives where each place is bound from, none for those that are gone
/// or hidden by the work area, and for those that hold no source and of which no snapshot can be taken.
fn take_all(
    options: &SnapshotOptions,
    planned: &[(&Place, Reading)],
    filesystems: &mut BTreeMap<Vec<u8>, Filesystem>,
    problems: &mut Vec<Problem>,
) -> Result<Vec<Option<PathBuf>>, SnapshotError> {
    let mut sources = Vec::with_capacity(planned.len());
    for (place, reading) in planned {
        let filesystem = filesystems.get_mut(&place.device);
        let (Some(filesystem), Reading::Snapshot) = (filesystem, reading) else {
            let live = below(Path::new("/"), &place.path);
            sources.push(Some(live).filter(|live| !live.starts_with(WORK_AREA)));
            continue;
        };
        let holds_source = holds_source(options, place);
        let source = match filesystem.snapshot_of(place) {
            Ok(source) => source,
            // Such as one with a file that is swapped to.
            Err(error) if !holds_source => {
                let text = format!("left out: {}", chain(&error));
                problems.push(problem(&place.path, &text));
                None
            }
            Err(error) => return Err(error),
        };
        if source.is_none() && holds_source {
            return Err(SnapshotError::Gone {
                path: shown(&place.path),
            });
        }
        sources.push(source);
    }
    Ok(sources)
}

fn holds_source(options: &SnapshotOptions, place: &Place) -> bool {
    let mut sources = options.rules.sources.iter();
    sources.any(|source| is_within(source, &place.path))
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
        let subvolume = ways.find_map(|way| {
            let opened = open_plain(way).ok()?;
            tool::is_open_subvolume(&opened).then_some((way, opened))
        });
        let Some((subvolume, opened)) = subvolume else {
            return Ok(None);
        };
        let rest = live.strip_prefix(subvolume).unwrap_or(Path::new(""));
        if let Some(snapshot) = self.taken.get(subvolume) {
            return Ok(Some(with(snapshot, rest)));
        }
        match self.container.take(&by_descriptor(&opened)) {
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
        match show(source, &below(Path::new(ROOT), &place.path)) {
            Ok(()) => {}
            Err(error) if holds_source(options, place) => {
                return Err(SnapshotError::Show {
                    path: shown(&place.path),
                    source: error,
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

/// Binds one over the other, whatever becomes of their paths meanwhile.
fn show(source: &Path, place: &Path) -> io::Result<()> {
    let (source, place) = (open_plain(source)?, open_plain(place)?);
    Ok(mount_bind(by_descriptor(&source), by_descriptor(&place))?)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{by_descriptor, open_plain};

    #[test]
    fn nothing_is_opened_that_a_link_leads_to() {
        let top = tempfile::tempdir().expect("a directory");
        let path = |name: &str| top.path().join(name);
        fs::create_dir_all(path("home/data")).expect("makes it");
        symlink("home", path("link")).expect("links");
        symlink("/etc", path("home/etc")).expect("links");
        for refused in ["link", "link/data", "home/etc", "home/etc/passwd", "gone"] {
            assert!(open_plain(&path(refused)).is_err(), "{refused}");
        }
        let opened = open_plain(&path("home/data")).expect("is no link");
        // Whatever comes into its place, it is what it was.
        fs::rename(path("home"), path("moved")).expect("renames");
        symlink("/etc", path("home")).expect("links");
        fs::write(path("moved/data/file"), "here").expect("writes");
        let seen = fs::read_to_string(by_descriptor(&opened).join("file"));
        assert_eq!(seen.expect("reads"), "here");
    }
}
