//! What a host has and no path of its configuration covers: mounted filesystems, and directories of databases and containers.
//! Nobody decided to leave those out; whoever does names them in `coverage_ignore`.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use formats::listing::entry::join;
use formats::listing::order::is_within;
use formats::wire::surroundings::{Mount, Surroundings};
use globset::Candidate;

use crate::config::exclude::{ExcludeRule, compile};
use crate::snapshot::shown::shown_path;
use crate::terminal::visible;

/// Filesystems in memory, of read-only images, and layers of containers: none of them is lost when a disk is.
const NOT_MISSED: [&str; 11] = [
    "tmpfs",
    "ramfs",
    "overlay",
    "squashfs",
    "erofs",
    "iso9660",
    "rootfs",
    "fuse.lxcfs",
    "fuse.snapfuse",
    "fuse.portal",
    "fuse.gvfsd-fuse",
];
/// A name that no rule for single files means.
const ANY_NAME: &[u8] = b".capstan-any-name";

/// What becomes of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Coverage {
    /// Nothing is looked for.
    #[default]
    Off,
    /// The run ends with warnings.
    Warn,
    /// The run fails before it stores anything.
    Fail,
}

impl Coverage {
    /// Its word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Why something is not backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// No path of the configuration leads to it.
    NoPath,
    /// An exclude rule leaves it out.
    Excluded,
    /// It is on another filesystem, and the walk stays on that of its path.
    OneFileSystem,
}

/// Something that is not backed up, and nobody said that it need not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Where, without a slash in front.
    pub path: Vec<u8>,
    /// What it is.
    pub what: String,
    /// Why it is not backed up.
    pub why: Why,
}

impl fmt::Display for Gap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::NoPath => "is in no path",
            Why::Excluded => "is excluded",
            Why::OneFileSystem => "is another filesystem, which one_file_system leaves out",
        };
        let path = shown_path(&self.path);
        write!(out, "{path} ({}) {why}", visible(&self.what))
    }
}

/// What is backed up of a host. Paths are without a slash in front.
#[derive(Debug, Clone, Copy)]
pub struct Covered<'a> {
    /// The source paths.
    pub sources: &'a [Vec<u8>],
    /// The exclude rules.
    pub exclude: &'a [ExcludeRule],
    /// Whether the walk stays on the filesystem of each source.
    pub one_file_system: bool,
    /// What may be missing, with all below it.
    pub ignored: &'a [Vec<u8>],
}

/// What of the surroundings is not covered, by path.
pub fn gaps(around: &Surroundings, covered: &Covered<'_>) -> Vec<Gap> {
    let missed = |mount: &&Mount| !NOT_MISSED.contains(&mount.kind.as_str());
    let mounts = around.mounts.iter().filter(missed).filter_map(|mount| {
        let why = why_mount(around, covered, &mount.path)?;
        Some((&mount.path, format!("filesystem, {}", mount.kind), why))
    });
    let stores = around.stores.iter().filter_map(|store| {
        let why = why_store(around, covered, &store.path)?;
        Some((&store.path, store.of.clone(), why))
    });
    let mut gaps: Vec<Gap> = mounts
        .chain(stores)
        .filter(|(path, _, _)| !covered.ignored.iter().any(|above| is_within(path, above)))
        .map(|(path, what, why)| Gap {
            path: path.clone(),
            what,
            why,
        })
        .collect();
    gaps.sort_by(|one, other| one.path.cmp(&other.path));
    gaps
}

/// A filesystem is covered by a path that lies on it, whichever part of it that is: somebody has chosen.
fn why_mount(around: &Surroundings, covered: &Covered<'_>, mount: &[u8]) -> Option<Why> {
    let on_it = |source: &Vec<u8>| mount_of(around, source) == Some(mount);
    match covered.sources.iter().any(on_it) {
        true => None,
        false => why_not(around, covered, mount),
    }
}

fn why_store(around: &Surroundings, covered: &Covered<'_>, store: &[u8]) -> Option<Why> {
    let in_it = |source: &Vec<u8>| is_within(source, store);
    match covered.sources.iter().any(in_it) {
        true => None,
        false => why_not(around, covered, store),
    }
}

/// Why a directory is not walked; nothing when it is.
fn why_not(around: &Surroundings, covered: &Covered<'_>, path: &[u8]) -> Option<Why> {
    let mut above = covered
        .sources
        .iter()
        .filter(|source| is_within(path, source))
        .peekable();
    if above.peek().is_none() {
        return Some(Why::NoPath);
    }
    let mut why = None;
    for source in above {
        if excludes(covered.exclude, source, path) {
            why = Some(Why::Excluded);
        } else if covered.one_file_system && mount_of(around, source) != mount_of(around, path) {
            why = Some(Why::OneFileSystem);
        } else {
            return None;
        }
    }
    why
}

/// The mount that a path lies on.
fn mount_of<'a>(around: &'a Surroundings, path: &[u8]) -> Option<&'a [u8]> {
    let mounts = around.mounts.iter().map(|mount| mount.path.as_slice());
    mounts
        .filter(|mount| is_within(path, mount))
        .max_by_key(|mount| mount.len())
}

/// Whether a directory below a source, one on the way to it, or everything in it is left out.
fn excludes(rules: &[ExcludeRule], source: &[u8], directory: &[u8]) -> bool {
    let below = directory.len().saturating_sub(source.len());
    let rest = directory.get(directory.len() - below..).unwrap_or_default();
    let mut at = source.to_vec();
    for name in rest
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
    {
        at = join(&at, name);
        if last_match(rules, &at, true) {
            return true;
        }
    }
    last_match(rules, &join(&at, ANY_NAME), false)
}

fn last_match(rules: &[ExcludeRule], path: &[u8], is_directory: bool) -> bool {
    let candidate = Candidate::new(Path::new(OsStr::from_bytes(path)));
    let matching = rules.iter().rev().find(|rule| {
        let glob = compile(rule.glob());
        let matches = glob.is_ok_and(|glob| glob.compile_matcher().is_match_candidate(&candidate));
        matches && (is_directory || !rule.directory_only())
    });
    matching.is_some_and(|rule| !rule.negated())
}

#[cfg(test)]
mod tests {
    use formats::wire::surroundings::{Mount, Store, Surroundings};

    use super::{Covered, Why, gaps};
    use crate::config::exclude::ExcludeRule;

    fn around() -> Surroundings {
        let mount = |path: &str, kind: &str| Mount {
            path: path.as_bytes().to_vec(),
            kind: kind.to_owned(),
        };
        Surroundings {
            mounts: vec![
                mount("", "ext4"),
                mount("boot/efi", "vfat"),
                mount("run", "tmpfs"),
                mount("srv", "xfs"),
                mount("srv/images", "xfs"),
            ],
            stores: vec![Store {
                path: b"var/lib/mysql".to_vec(),
                of: "mysql".to_owned(),
            }],
            ..Surroundings::default()
        }
    }

    fn found(sources: &[&str], exclude: &[&str], one_file_system: bool) -> Vec<(String, Why)> {
        let sources: Vec<Vec<u8>> = sources
            .iter()
            .map(|path| path.as_bytes().to_vec())
            .collect();
        let exclude: Vec<ExcludeRule> = exclude
            .iter()
            .map(|rule| rule.parse().expect("a rule"))
            .collect();
        let covered = Covered {
            sources: &sources,
            exclude: &exclude,
            one_file_system,
            ignored: &[b"boot".to_vec()],
        };
        let gaps = gaps(&around(), &covered);
        let gaps = gaps.into_iter();
        gaps.map(|gap| (String::from_utf8_lossy(&gap.path).into_owned(), gap.why))
            .collect()
    }

    fn gap(path: &str, why: Why) -> (String, Why) {
        (path.to_owned(), why)
    }

    #[test]
    fn the_whole_host_has_no_gaps() {
        assert_eq!(found(&[""], &["*.tmp", "/var/cache/**"], false), []);
    }

    #[test]
    fn what_no_path_leads_to_is_a_gap_and_what_may_be_missing_is_not() {
        assert_eq!(
            found(&["etc", "home"], &[], false),
            [
                gap("srv", Why::NoPath),
                gap("srv/images", Why::NoPath),
                gap("var/lib/mysql", Why::NoPath)
            ]
        );
        // Somebody chose a part of it.
        assert_eq!(
            found(&["etc", "srv/www", "var/lib/mysql/dumps"], &[], false),
            [gap("srv/images", Why::NoPath)]
        );
    }

    #[test]
    fn a_walk_that_stays_on_its_filesystem_leaves_the_others_out() {
        assert_eq!(
            found(&["", "srv"], &[], true),
            [gap("srv/images", Why::OneFileSystem)]
        );
        assert_eq!(found(&["", "srv"], &[], false), []);
    }

    #[test]
    fn what_is_excluded_on_the_way_itself_or_within_is_a_gap() {
        for rule in ["/var/lib", "mysql", "/var/lib/mysql/**", "/var/lib/mysql/"] {
            assert_eq!(
                found(&[""], &[rule], false),
                [gap("var/lib/mysql", Why::Excluded)],
                "{rule}"
            );
        }
        assert_eq!(found(&[""], &["mysql", "!/var/lib/mysql"], false), []);
        assert_eq!(found(&["", "var/lib/mysql"], &["/var/lib"], false), []);
        assert_eq!(
            found(&[""], &["images"], false),
            [gap("srv/images", Why::Excluded)]
        );
    }
}
