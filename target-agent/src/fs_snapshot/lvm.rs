//! Snapshots of logical volumes, classic and thin: each is taken while LVM holds its filesystem still, mounted read-only where
//! only the agent sees it, and removed after the walk. Never lets a run end well with a snapshot that LVM does not call sound at
//! the end, and never removes a volume that is not named as a run of this repository names its own.

mod commands;
mod error;
mod leftovers;
mod room;
mod volume;

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};

use formats::wire::control::problem::Problem;
use rustix::mount::{MountFlags, mount};

use crate::fs_snapshot::guard::Guard;
use crate::fs_snapshot::lvm::commands::State;
use crate::fs_snapshot::lvm::leftovers::remove_leftovers;
use crate::fs_snapshot::lvm::room::{Share, Wish, shares};
use crate::fs_snapshot::lvm::volume::{Volume, snapshot_name};
use crate::fs_snapshot::places::{Place, Reading, mounted, plan};
use crate::fs_snapshot::view::{
    PLAIN, View, below, enter_namespace, holds_source, mount_point, open_plain, open_root,
    show_all, sources_of,
};
use crate::fs_snapshot::{SnapshotError, SnapshotOptions, problem};
use crate::mount_table::{self, MountLine};
use crate::threads::chain;

pub use crate::fs_snapshot::lvm::error::LvmError;

/// What a source must be on.
const WANTED: &str = "a logical volume with ext4 or XFS";
/// The filesystems whose snapshots are mounted beside themselves, and how: ext4 must not stop the machine for an overflowed
/// snapshot, whatever it was told to do of errors, and XFS takes two of one identifier only so.
const FILESYSTEMS: [(&str, &CStr); 4] = [
    ("ext2", c"errors=remount-ro"),
    ("ext3", c"errors=remount-ro"),
    ("ext4", c"errors=remount-ro"),
    ("xfs", c"nouuid"),
];
/// Removes the volumes that are its arguments, unless they are not there; what an agent that was killed has mounted goes a
/// moment after it.
const SCRIPT: &str = "for s; do n=0; until said=$(lvremove --force --yes -- \"$s\" 2>&1 >/dev/null); do \
     there=$(lvs --noheadings -o lv_name -S \"lv_name=${s#*/}\" -- \"${s%%/*}\" 2>/dev/null) && [ -z \"$there\" ] && break; \
     n=$((n + 1)); [ $n -lt 20 ] || { printf '%s\\n' \"$said\" >&2; failed=1; break; }; sleep 1; \
     done; done; exit $failed";

/// The snapshots of one run. Dropping it has them removed, too.
#[derive(Debug)]
pub struct Volumes {
    taken: Vec<Taken>,
    guard: Guard,
}

/// A snapshot.
#[derive(Debug)]
struct Taken {
    snapshot: Volume,
    of: Volume,
    /// The number of the filesystem that it is a snapshot of.
    device: Vec<u8>,
    /// Its type.
    kind: String,
}

/// A volume to take a snapshot of.
#[derive(Debug)]
struct Wanted<'a> {
    volume: &'a Volume,
    /// Where it is seen first.
    place: &'a Place,
    /// Whether the run ends without it.
    has_source: bool,
}

/// Takes the snapshots and makes the view of them.
pub fn make(options: &SnapshotOptions) -> Result<(View, Volumes), SnapshotError> {
    let table = mount_table::read();
    let volumes = volumes_of(&table);
    let places = mounted(&table, |line| volumes.contains_key(&line.device));
    let planned = plan(&places, &options.rules, &options.filter)
        .map_err(|found| SnapshotError::elsewhere(found, WANTED))?;
    let wanted = wanted(options, &planned, &volumes);
    let groups = wanted.iter().map(|wanted| wanted.volume.group.as_str());
    let left = remove_leftovers(groups, options.repository);
    let mut problems: Vec<Problem> = left
        .iter()
        .map(|error| problem(b"", &chain(error)))
        .collect();
    // LVM's programs need what the work area hides, and the guard must not keep the namespace.
    let mut volumes = take_all(options, &wanted, &mut problems)?;
    enter_namespace()?;
    let mut tops = BTreeMap::new();
    for (number, taken) in volumes.taken.iter().enumerate() {
        let asked_for = wanted.iter().find(|wanted| *wanted.volume == taken.of);
        let top = mount_snapshot(number, taken);
        let top = match asked_for {
            Some(wanted) => wanted.or_left_out(top, &mut problems)?,
            None => top.map(Some)?,
        };
        tops.extend(top.map(|top| (taken.device.clone(), top)));
    }
    // Nothing is read of one that was left out, and nothing fails for it.
    let is_read = |taken: &Taken| tops.contains_key(&taken.device);
    volumes.taken.retain(is_read);
    let sources = sources_of(options, &planned, &mut problems, |place| {
        let shown = tops.get(&place.device);
        let found = shown.map(|top| below(top, &place.root));
        Ok(found.filter(|found| open_plain(found).is_ok()))
    })?;
    show_all(options, &planned, &sources, &mut problems)?;
    let view = View {
        root: open_root()?,
        own_directories: Vec::new(),
        snapshots_of: Vec::new(),
        problems,
    };
    Ok((view, volumes))
}

impl Volumes {
    /// Whether all of them were sound until now.
    pub fn check(&self) -> Result<(), LvmError> {
        for taken in &self.taken {
            let volume = taken.of.clone();
            let found = commands::attributes(&taken.snapshot);
            let attributes = match found {
                Ok(attributes) => attributes,
                Err(source) => return Err(LvmError::Look { volume, source }),
            };
            match attributes.state() {
                State::Sound => {}
                State::Overflowed => return Err(LvmError::Overflowed { volume }),
                State::Unsound => {
                    let attributes = attributes.as_str().to_owned();
                    return Err(LvmError::Unsound { volume, attributes });
                }
            }
        }
        Ok(())
    }

    /// Has all of them removed, which nothing may have mounted any more, and waits for it.
    pub fn remove(self) -> Result<(), LvmError> {
        self.guard.remove().map_err(LvmError::Remains)
    }
}

impl Wanted<'_> {
    /// An error only for a source; what else fails is told, and left out.
    fn or_left_out<T>(
        &self,
        made: Result<T, LvmError>,
        problems: &mut Vec<Problem>,
    ) -> Result<Option<T>, LvmError> {
        match made {
            Ok(made) => Ok(Some(made)),
            Err(error) if self.has_source => Err(error),
            Err(error) => {
                let text = format!("left out: {}", chain(&error));
                problems.push(problem(&self.place.path, &text));
                Ok(None)
            }
        }
    }
}

/// The logical volumes among what is mounted, by the number of the filesystem.
fn volumes_of(table: &[MountLine]) -> BTreeMap<Vec<u8>, Volume> {
    let known = |line: &&MountLine| FILESYSTEMS.iter().any(|(kind, _)| *kind == line.kind);
    let of_line = |line: &MountLine| Some((line.device.clone(), Volume::of_device(&line.device)?));
    table.iter().filter(known).filter_map(of_line).collect()
}

/// The volumes to take snapshots of, each once.
fn wanted<'a>(
    options: &SnapshotOptions,
    planned: &[(&'a Place, Reading)],
    volumes: &'a BTreeMap<Vec<u8>, Volume>,
) -> Vec<Wanted<'a>> {
    let mut found: Vec<Wanted<'a>> = Vec::new();
    for (place, reading) in planned {
        let volume = volumes.get(&place.device);
        let (Some(volume), Reading::Snapshot) = (volume, reading) else {
            continue;
        };
        let has_source = holds_source(options, place);
        match found.iter_mut().find(|wanted| wanted.volume == volume) {
            Some(wanted) => wanted.has_source |= has_source,
            None => found.push(Wanted {
                volume,
                place,
                has_source,
            }),
        }
    }
    found
}

/// Takes them one right after the other, once there is something to remove them.
fn take_all(
    options: &SnapshotOptions,
    wanted: &[Wanted<'_>],
    problems: &mut Vec<Problem>,
) -> Result<Volumes, LvmError> {
    let sized = sized(wanted, problems)?;
    let name = |number| snapshot_name(options.repository, options.run, number);
    let snapshots: Vec<Volume> = sized
        .iter()
        .enumerate()
        .map(|(number, (wanted, _))| Volume {
            group: wanted.volume.group.clone(),
            name: name(number),
        })
        .collect();
    let names: Vec<String> = snapshots.iter().map(Volume::to_string).collect();
    let guard = Guard::start(SCRIPT, &names, None)?;
    let mut taken = Vec::with_capacity(sized.len());
    for ((wanted, extents), snapshot) in sized.into_iter().zip(snapshots) {
        let made = commands::take(wanted.volume, &snapshot.name, extents, guard.hold()?);
        let made = made.map_err(|source| LvmError::Take {
            volume: wanted.volume.clone(),
            source,
        });
        let made = wanted.or_left_out(made, problems)?;
        taken.extend(made.map(|()| Taken {
            snapshot,
            of: wanted.volume.clone(),
            device: wanted.place.device.clone(),
            kind: wanted.place.kind.clone(),
        }));
    }
    Ok(Volumes { taken, guard })
}

/// The room for each snapshot, in extents; none for those of thin volumes.
fn sized<'w, 'a>(
    wanted: &'w [Wanted<'a>],
    problems: &mut Vec<Problem>,
) -> Result<Vec<(&'w Wanted<'a>, Option<u64>)>, LvmError> {
    let mut sized = Vec::with_capacity(wanted.len());
    let mut classic: Vec<(&Wanted<'_>, Wish)> = Vec::new();
    for wanted in wanted {
        let looked = commands::look(wanted.volume).map_err(|source| LvmError::Look {
            volume: wanted.volume.clone(),
            source,
        });
        match wanted.or_left_out(looked, problems)? {
            Some((attributes, _)) if attributes.is_thin() => sized.push((wanted, None)),
            Some((_, wish)) => classic.push((wanted, wish)),
            None => {}
        }
    }
    let wishes: Vec<Wish> = classic.iter().map(|(_, wish)| wish.clone()).collect();
    for ((wanted, wish), share) in classic.into_iter().zip(shares(&wishes)) {
        let room = match share {
            Share::Extents(extents) => Ok(extents),
            Share::TooSmall { extents, least } => {
                let mib = |extents: u64| extents.saturating_mul(wish.extent_bytes) >> 20;
                Err(LvmError::NoRoom {
                    volume: wanted.volume.clone(),
                    free_mib: mib(wish.free_extents),
                    share_mib: mib(extents),
                    least_mib: mib(least),
                })
            }
        };
        let room = wanted.or_left_out(room, problems)?;
        sized.extend(room.map(|extents| (wanted, Some(extents))));
    }
    Ok(sized)
}

/// Mounts a snapshot read-only. Its device can be written, so that the filesystem finishes what its journal has.
fn mount_snapshot(number: usize, taken: &Taken) -> Result<PathBuf, LvmError> {
    let failed = |source: io::Error| LvmError::Mount {
        volume: taken.of.clone(),
        source,
    };
    let top = mount_point(number).map_err(failed)?;
    let known = FILESYSTEMS.iter().find(|(kind, _)| *kind == taken.kind);
    let options = known.map_or(c"", |(_, options)| *options);
    let device = taken.snapshot.device();
    let mounted = mount(
        &device,
        Path::new(&top),
        taken.kind.as_str(),
        PLAIN | MountFlags::RDONLY,
        options,
    );
    mounted.map_err(|error| failed(error.into()))?;
    Ok(top)
}
