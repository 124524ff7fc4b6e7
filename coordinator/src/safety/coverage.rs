//! What a host has and no path of its configuration covers: mounted filesystems, and directories of databases and containers.
//! Nobody decided to leave those out; whoever does names them in `coverage_ignore`.

use std::collections::HashSet;
use std::fmt;

use formats::listing::entry::join;
use formats::listing::order::is_within;
use formats::wire::surroundings::{Mount, Surroundings};

use crate::config::exclude::ExcludeRule;
use crate::safety::path_rules::{PathRules, PathRulesError};
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

/// The same, ready to be asked of many places: a host may have thousands.
struct Ready<'a> {
    covered: &'a Covered<'a>,
    mounts: HashSet<&'a [u8]>,
    /// For each source, the mount that it lies on.
    sources_on: Vec<Option<&'a [u8]>>,
    excludes: PathRules,
}

impl<'a> Ready<'a> {
    fn new(around: &'a Surroundings, covered: &'a Covered<'a>) -> Result<Self, PathRulesError> {
        let mounts = around.mounts.iter().map(|mount| mount.path.as_slice());
        let mut ready = Self {
            covered,
            mounts: mounts.collect(),
            sources_on: Vec::new(),
            excludes: PathRules::new(covered.exclude)?,
        };
        let sources = covered.sources.iter();
        ready.sources_on = sources.map(|source| ready.mount_of(source)).collect();
        Ok(ready)
    }
}

/// What of the surroundings is not covered, by path. An error when the rules, each of which compiles, do not together.
pub fn gaps(around: &Surroundings, covered: &Covered<'_>) -> Result<Vec<Gap>, PathRulesError> {
    let ready = Ready::new(around, covered)?;
    let missed = |mount: &&Mount| !NOT_MISSED.contains(&mount.kind.as_str());
    let mounts = around.mounts.iter().filter(missed).filter_map(|mount| {
        let why = ready.why_mount(&mount.path)?;
        Some((&mount.path, format!("filesystem, {}", mount.kind), why))
    });
    let stores = around.stores.iter().filter_map(|store| {
        let why = ready.why_store(&store.path)?;
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
    Ok(gaps)
}

impl<'a> Ready<'a> {
    /// A filesystem is covered by a path that lies on it, whichever part of it that is: somebody has chosen.
    fn why_mount(&self, mount: &[u8]) -> Option<Why> {
        match self.sources_on.contains(&Some(mount)) {
            true => None,
            false => self.why_not(mount),
        }
    }

    fn why_store(&self, store: &[u8]) -> Option<Why> {
        let in_it = |source: &Vec<u8>| is_within(source, store);
        match self.covered.sources.iter().any(in_it) {
            true => None,
            false => self.why_not(store),
        }
    }

    /// Why a directory is not walked; nothing when it is.
    fn why_not(&self, path: &[u8]) -> Option<Why> {
        let on = self.mount_of(path);
        let sources = self.covered.sources.iter().zip(&self.sources_on);
        let mut why = Some(Why::NoPath);
        for (source, source_on) in sources.filter(|(source, _)| is_within(path, source)) {
            if self.is_excluded(source, path) {
                why = Some(Why::Excluded);
            } else if self.covered.one_file_system && *source_on != on {
                why = Some(Why::OneFileSystem);
            } else {
                return None;
            }
        }
        why
    }

    /// The mount that a path lies on.
    fn mount_of(&self, path: &[u8]) -> Option<&'a [u8]> {
        let mut above = Some(path);
        while let Some(place) = above {
            if let Some(mount) = self.mounts.get(place).copied() {
                return Some(mount);
            }
            above = parent_of(place);
        }
        None
    }

    /// Whether a directory below a source, one on the way to it, or everything in it is left out.
    fn is_excluded(&self, source: &[u8], directory: &[u8]) -> bool {
        let below = directory.len().saturating_sub(source.len());
        let rest = directory.get(directory.len() - below..).unwrap_or_default();
        let mut at = source.to_vec();
        for name in rest
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
        {
            at = join(&at, name);
            if self.excludes.takes(&at, true) {
                return true;
            }
        }
        self.excludes.takes(&join(&at, ANY_NAME), false)
    }
}

/// The directory that a path is in; the root is in none.
fn parent_of(path: &[u8]) -> Option<&[u8]> {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).filter(|_| !path.is_empty())
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
        let gaps = gaps(&around(), &covered).expect("the rules compile");
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
    fn thousands_of_mounts_and_rules_are_looked_at_together() {
        let mounts = (0..4_000).map(|number| Mount {
            path: format!("srv/{number}/data/volume").into_bytes(),
            kind: "xfs".to_owned(),
        });
        let around = Surroundings {
            mounts: mounts.collect(),
            ..around()
        };
        let rules = (0..2_000).map(|number| format!("/srv/{number}/data/*").parse());
        let exclude: Vec<ExcludeRule> = rules.map(|rule| rule.expect("a rule")).collect();
        let covered = Covered {
            sources: &[Vec::new()],
            exclude: &exclude,
            one_file_system: false,
            ignored: &[],
        };
        let gaps = gaps(&around, &covered).expect("the rules compile");
        assert_eq!(gaps.len(), 2_000);
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
