//! gitignore-style excludes. Patterns are matched against paths from the root of the tree; the last that
//! matches decides, and `!` brings back. What is inside an excluded directory is never asked about.
//!
//! A pattern with a slash at its front or in its middle is anchored at the root; any other matches a name in
//! every directory. A slash at the end means directories only. `*` and `?` do not cross slashes, `**` does.
//! `\` takes the next character as it is, also a leading `!`. `#` is no comment here: these are values of a
//! configuration file, which has its own.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

#[cfg(test)]
mod tests;

/// A pattern that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("exclude pattern {pattern:?} is not valid")]
pub struct FilterError {
    pattern: String,
    source: globset::Error,
}

/// The patterns, ready to match.
#[derive(Debug, Default)]
pub struct Filter {
    set: GlobSet,
    /// For each pattern, in order, what it means when it matches.
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    includes: bool,
    directories_only: bool,
}

impl Filter {
    /// Prepares the patterns; empty ones count for nothing.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, FilterError> {
        let mut builder = GlobSetBuilder::new();
        let mut rules = Vec::new();
        let mut last = "";
        for pattern in patterns {
            last = pattern;
            let Some((glob, rule)) = parse(pattern) else {
                continue;
            };
            let glob = GlobBuilder::new(&glob)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|source| FilterError {
                    pattern: pattern.to_owned(),
                    source,
                })?;
            builder.add(glob);
            rules.push(rule);
        }
        let set = builder.build().map_err(|source| FilterError {
            pattern: last.to_owned(),
            source,
        })?;
        Ok(Self { set, rules })
    }

    /// Whether the entry at a path (no slash in front) is left out.
    pub fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let candidate = Candidate::new(Path::new(OsStr::from_bytes(path)));
        let deciding = self
            .set
            .matches_candidate(&candidate)
            .into_iter()
            .filter_map(|index| Some((index, self.rules.get(index)?)))
            .filter(|(_, rule)| is_directory || !rule.directories_only)
            .max_by_key(|(index, _)| *index);
        deciding.is_some_and(|(_, rule)| !rule.includes)
    }
}

/// A pattern as a glob over whole paths.
fn parse(pattern: &str) -> Option<(String, Rule)> {
    let (includes, rest) = match pattern.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let directories_only = rest.ends_with('/');
    let body = rest.trim_end_matches('/');
    let anchored = body.contains('/');
    let body = body.trim_start_matches('/');
    if body.is_empty() {
        return None;
    }
    let glob = if anchored {
        body.to_owned()
    } else {
        format!("**/{body}")
    };
    let rule = Rule {
        includes,
        directories_only,
    };
    Some((glob, rule))
}
