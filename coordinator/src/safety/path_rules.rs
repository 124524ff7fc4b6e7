//! Which paths a list of rules takes, as the agent decides it of `exclude`: for judging what is not backed up, and what stays.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{Candidate, GlobSet, GlobSetBuilder};

use crate::config::exclude::{ExcludeRule, compile};

/// The rules, compiled once for however many paths.
#[derive(Debug, Clone)]
pub struct PathRules {
    globs: GlobSet,
    rules: Vec<Means>,
}

#[derive(Debug, Clone, Copy)]
struct Means {
    negated: bool,
    directory_only: bool,
}

/// The rules are too many or too long to be matched together.
#[derive(Debug, thiserror::Error)]
#[error("the exclude rules, each of which compiles, do not together: write fewer or shorter ones")]
pub struct PathRulesError(#[from] globset::Error);

impl PathRules {
    /// Prepares rules, each of which compiles; an error when they do not together.
    pub fn new(rules: &[ExcludeRule]) -> Result<Self, PathRulesError> {
        let mut globs = GlobSetBuilder::new();
        for rule in rules {
            globs.add(compile(rule.glob())?);
        }
        let means = rules.iter().map(|rule| Means {
            negated: rule.negated(),
            directory_only: rule.directory_only(),
        });
        Ok(Self {
            globs: globs.build()?,
            rules: means.collect(),
        })
    }

    /// Whether a path, without a slash in front, is taken by itself. The last rule that matches decides.
    pub fn takes(&self, path: &[u8], is_directory: bool) -> bool {
        let deciding = self.deciding(path, is_directory);
        deciding.is_some_and(|(_, means)| !means.negated)
    }

    /// The place in the list of the rule that decides about a path.
    pub fn decides(&self, path: &[u8], is_directory: bool) -> Option<usize> {
        self.deciding(path, is_directory).map(|(place, _)| place)
    }

    fn deciding(&self, path: &[u8], is_directory: bool) -> Option<(usize, Means)> {
        let candidate = Candidate::new(Path::new(OsStr::from_bytes(path)));
        let matching = self.globs.matches_candidate(&candidate).into_iter();
        let meant = matching.filter_map(|place| Some((place, *self.rules.get(place)?)));
        meant
            .filter(|(_, means)| is_directory || !means.directory_only)
            .max_by_key(|(place, _)| *place)
    }
}

#[cfg(test)]
mod tests {
    use super::PathRules;

    #[test]
    fn the_last_rule_that_matches_decides() {
        let rules = ["*.tmp", "cache/", "!keep.tmp", "/srv/keep.tmp"];
        let rules = rules.map(|rule| rule.parse().expect("a rule"));
        let rules = PathRules::new(&rules).expect("they compile");
        for (path, is_directory, expected) in [
            ("a/x.tmp", false, true),
            ("a/keep.tmp", false, false),
            ("srv/keep.tmp", false, true),
            ("a/cache", true, true),
            ("a/cache", false, false),
            ("a/cache/x", false, false),
        ] {
            let taken = rules.takes(path.as_bytes(), is_directory);
            assert_eq!(taken, expected, "{path}");
        }
    }
}
