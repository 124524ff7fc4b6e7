//! Which places of the tree are read from snapshots: a pure plan from the mounts, the subvolumes and the rules. A place is a
//! directory, or a file, at which another filesystem or subvolume begins.

use formats::listing::entry::join;
use formats::listing::order::is_within;
use formats::wire::start::Rules;

use crate::filter::Filter;
use crate::mount_table::{MountLine, visible, without_slash};
use crate::walk::pseudo::is_pseudo;

/// A filesystem that mounts others when it is looked at.
const AUTOFS: &str = "autofs";

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its path, without a slash in front; empty is the root.
    pub path: Vec<u8>,
    /// The type of what begins there.
    pub kind: String,
    /// The filesystem's number in the mount table.
    pub device: Vec<u8>,
    /// The directory of the filesystem that it shows, without a slash in front.
    pub root: Vec<u8>,
    /// What the filesystem is made of.
    pub source: Vec<u8>,
    /// Whether snapshots of it can be taken, of the kind that was asked for.
    pub has_snapshots: bool,
}

/// How a place is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// From a snapshot.
    Snapshot,
    /// As it is, and no more than its own entry or the way to a source.
    Passing,
    /// As it is, although it is walked: it has no snapshot.
    AsItIs,
}

/// A source that has no snapshot.
#[derive(Debug, PartialEq, Eq)]
pub struct NoSnapshots {
    /// The source.
    pub source: Vec<u8>,
    /// Where its filesystem is mounted.
    pub mount: Vec<u8>,
    /// That filesystem's type.
    pub kind: String,
    /// What it is made of.
    pub device: Vec<u8>,
}

/// The mounts that a path can lead to, those above before those below; snapshots can be taken of some.
pub fn mounted(table: &[MountLine], has_snapshots: impl Fn(&MountLine) -> bool) -> Vec<Place> {
    let place = |line: &&MountLine| Place {
        path: without_slash(&line.point),
        kind: line.kind.clone(),
        device: line.device.clone(),
        root: without_slash(&line.root),
        source: line.source.clone(),
        has_snapshots: has_snapshots(line),
    };
    visible(table).iter().map(place).collect()
}

/// Refuses sources of which there are no snapshots; gives the places that hold them.
pub fn of_sources<'a>(
    places: &'a [Place],
    sources: &[Vec<u8>],
) -> Result<Vec<&'a Place>, NoSnapshots> {
    let mut holding: Vec<&Place> = Vec::new();
    for source in sources {
        let found = innermost(places, source);
        let Some(place) = found.filter(|place| place.has_snapshots) else {
            return Err(NoSnapshots {
                source: source.clone(),
                mount: found.map_or_else(Vec::new, |place| place.path.clone()),
                kind: found.map_or_else(|| "unknown".to_owned(), |place| place.kind.clone()),
                device: found.map_or_else(Vec::new, |place| place.source.clone()),
            });
        };
        if !holding.contains(&place) {
            holding.push(place);
        }
    }
    Ok(holding)
}

/// Adds the subvolumes of a filesystem that can be seen below its mounts without being mounted themselves; each is named by
/// its path in the filesystem, without a slash in front.
pub fn add_nested(places: &mut Vec<Place>, device: &[u8], subvolumes: &[Vec<u8>]) {
    let mut nested = Vec::new();
    for mount in places.iter().filter(|place| place.device == device) {
        for root in subvolumes {
            if *root == mount.root || !is_within(root, &mount.root) {
                continue;
            }
            let below = root.get(mount.root.len()..).unwrap_or_default();
            let path = join(&mount.path, &without_slash(below));
            let is_seen = innermost(places, &path) == Some(mount);
            if is_seen {
                nested.push(Place {
                    path,
                    root: root.clone(),
                    ..mount.clone()
                });
            }
        }
    }
    places.extend(nested);
    places.sort_by(|one, other| one.path.cmp(&other.path));
}

/// How each place that matters is read, those above before those below.
pub fn plan<'a>(
    places: &'a [Place],
    rules: &Rules,
    filter: &Filter,
) -> Result<Vec<(&'a Place, Reading)>, NoSnapshots> {
    let holding = of_sources(places, &rules.sources)?;
    let mut chosen: Vec<(&Place, Reading)> = Vec::new();
    // What is not walked has nothing below it that is, but for sources.
    let mut closed: Vec<&[u8]> = Vec::new();
    for place in places {
        let leads_to_source = rules
            .sources
            .iter()
            .any(|source| is_within(source, &place.path));
        let reading = if holding.contains(&place) {
            Reading::Snapshot
        } else if leads_to_source {
            Reading::Passing
        } else if closed.iter().any(|above| is_within(&place.path, above))
            || !is_walked(&place.path, rules, filter)
        {
            continue;
        } else if place.kind == AUTOFS {
            closed.push(&place.path);
            continue;
        } else if rules.one_file_system || is_pseudo(&place.kind) {
            closed.push(&place.path);
            Reading::Passing
        } else if place.has_snapshots {
            Reading::Snapshot
        } else {
            Reading::AsItIs
        };
        chosen.push((place, reading));
    }
    Ok(chosen)
}

/// Whether the walk comes to a path that leads to no source: it is below one, and no rule leaves it or a directory above out.
fn is_walked(path: &[u8], rules: &Rules, filter: &Filter) -> bool {
    let below = rules
        .sources
        .iter()
        .filter(|source| is_within(path, source));
    // From the innermost source on, which no rule keeps from being entered.
    let Some(source) = below.max_by_key(|source| source.len()) else {
        return false;
    };
    let ends = (source.len() + 1..=path.len())
        .filter(|end| path.get(*end).is_none_or(|byte| *byte == b'/'));
    let mut ways = ends.filter_map(|end| path.get(..end));
    !ways.any(|way| filter.excludes(way, true))
}

/// The place that a path is in.
fn innermost<'a>(places: &'a [Place], path: &[u8]) -> Option<&'a Place> {
    let above = places.iter().filter(|place| is_within(path, &place.path));
    above.max_by_key(|place| place.path.len())
}

#[cfg(test)]
mod tests {
    use formats::wire::start::Rules;

    use super::{NoSnapshots, Place, Reading, add_nested, mounted, of_sources, plan};
    use crate::filter::Filter;
    use crate::mount_table::{MountLine, parse};

    fn table() -> Vec<MountLine> {
        let lines = [
            "27 1 0:30 /@ / rw - btrfs /dev/vda rw",
            "28 27 0:30 /@home /home rw - btrfs /dev/vda rw",
            "29 27 0:21 / /proc rw - proc proc rw",
            "30 29 0:22 / /proc/misc rw - binfmt_misc binfmt_misc rw",
            "31 27 8:1 / /boot rw - ext4 /dev/sda1 rw",
            "32 28 0:40 / /home/kim/net rw - autofs systemd-1 rw",
            "33 28 0:41 / /home/kim/scratch rw - tmpfs tmpfs rw",
            "34 27 0:50 / /srv rw - btrfs /dev/vdb rw",
        ];
        lines
            .iter()
            .filter_map(|line| parse(line.as_bytes()))
            .collect()
    }

    fn places() -> Vec<Place> {
        let mut places = mounted(&table(), |line| line.kind == "btrfs");
        let subvolumes = ["@", "@/var/lib/machines", "@home", "@home/kim/vm", "@other"];
        let subvolumes = subvolumes.map(|path| path.as_bytes().to_vec());
        add_nested(&mut places, b"0:30", &subvolumes);
        let subvolumes = ["a", "a/b"].map(|path| path.as_bytes().to_vec());
        add_nested(&mut places, b"0:50", &subvolumes);
        places
    }

    fn planned(sources: &[&str], one_file_system: bool, exclude: &[&str]) -> Vec<String> {
        let rules = Rules {
            sources: sources
                .iter()
                .map(|path| path.as_bytes().to_vec())
                .collect(),
            one_file_system,
            ..Rules::default()
        };
        let filter = Filter::new(exclude.iter().copied()).expect("patterns");
        let places = places();
        let planned = plan(&places, &rules, &filter).expect("all on Btrfs");
        let said = |(place, reading): &(&Place, Reading)| {
            let sign = match reading {
                Reading::Snapshot => '+',
                Reading::Passing => '.',
                Reading::AsItIs => '!',
            };
            format!("{sign}{}", String::from_utf8_lossy(&place.path))
        };
        planned.iter().map(said).collect()
    }

    #[test]
    fn subvolumes_are_found_below_what_shows_them() {
        let paths: Vec<_> = places()
            .iter()
            .filter(|place| place.has_snapshots)
            .map(|place| String::from_utf8_lossy(&place.path).into_owned())
            .collect();
        let expected = [
            "",
            "home",
            "home/kim/vm",
            "srv",
            "srv/a",
            "srv/a/b",
            "var/lib/machines",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn everything_below_the_root_is_read_from_snapshots_where_it_can_be() {
        assert_eq!(
            planned(&[""], false, &["/srv/a/b"]),
            [
                "+",
                "!boot",
                "+home",
                "!home/kim/scratch",
                "+home/kim/vm",
                ".proc",
                "+srv",
                "+srv/a",
                "+var/lib/machines",
            ]
        );
    }

    #[test]
    fn what_is_excluded_is_not_touched_and_a_source_in_it_is() {
        assert_eq!(
            planned(&["", "srv/a"], false, &["/srv", "boot", "kim/"]),
            [
                "+",
                "+home",
                ".proc",
                ".srv",
                "+srv/a",
                "+srv/a/b",
                "+var/lib/machines"
            ]
        );
    }

    #[test]
    fn a_walk_that_stays_on_one_filesystem_passes_the_others() {
        assert_eq!(
            planned(&["", "home"], true, &[]),
            [
                "+",
                ".boot",
                "+home",
                ".home/kim/scratch",
                ".home/kim/vm",
                ".proc",
                ".srv",
                ".var/lib/machines",
            ]
        );
        assert_eq!(
            planned(&["srv/a"], true, &[]),
            [".", ".srv", "+srv/a", ".srv/a/b"]
        );
    }

    #[test]
    fn a_source_elsewhere_is_named_with_its_mount() {
        let places = places();
        let refused = of_sources(&places, &[b"home".to_vec(), b"boot/grub".to_vec()]);
        let expected = NoSnapshots {
            source: b"boot/grub".to_vec(),
            mount: b"boot".to_vec(),
            kind: "ext4".to_owned(),
            device: b"/dev/sda1".to_vec(),
        };
        assert_eq!(refused, Err(expected));
    }
}
