//! Include and exclude patterns, gitignore-like, with the rules of `exclude` in hosts.toml. A pattern without
//! a slash in front or middle matches a name at any depth, one with a slash is anchored at the host's root;
//! a trailing slash matches directories only; `!` takes an exclusion back; the last match wins. `*` and `?`
//! do not cross a slash. What is excluded is left out with all that is below it; what is included comes with
//! all that is below it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

/// Why a pattern was refused.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// The glob does not compile.
    #[error("bad glob {text:?}; escape a literal *, ?, [ or {{ with a backslash")]
    BadGlob {
        /// The pattern.
        text: String,
        /// Why.
        source: globset::Error,
    },
    /// Nothing is left of it, or it can never match.
    #[error(
        "pattern {text:?} can never match: write a glob such as \"*.tmp\" or \"/var/cache/**\""
    )]
    Never {
        /// The pattern.
        text: String,
    },
    /// The patterns do not compile together.
    #[error("the patterns cannot be used together")]
    Together(#[source] globset::Error),
}

#[derive(Debug)]
struct Rule {
    negated: bool,
    directory_only: bool,
}

/// An ordered list of patterns.
#[derive(Debug)]
struct Rules {
    globs: GlobSet,
    rules: Vec<Rule>,
}

/// What is restored of a snapshot, by name.
#[derive(Debug)]
pub struct Patterns {
    include: Rules,
    exclude: Rules,
    /// The directories above the last path asked for, with what was found for each.
    walked: Vec<(Vec<u8>, Verdict)>,
}

/// What the patterns say of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// It is left out, and all below it.
    pub excluded: bool,
    /// It is wanted, and all below it.
    pub included: bool,
}

impl Patterns {
    /// Compiles the patterns.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, PatternError> {
        Ok(Self {
            include: Rules::new(include)?,
            exclude: Rules::new(exclude)?,
            walked: Vec::new(),
        })
    }

    /// Whether some paths are wanted and others not, so that directories are made only for what is in them.
    pub fn selects(&self) -> bool {
        !self.include.rules.is_empty()
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.include.rules.is_empty() && self.exclude.rules.is_empty()
    }

    /// What the patterns say of a directory's entry.
    pub fn verdict(&mut self, directory: &[u8], name: &[u8], is_directory: bool) -> Verdict {
        if self.is_empty() {
            return Verdict {
                excluded: false,
                included: true,
            };
        }
        let parent = self.directory_verdict(directory);
        let path = formats::listing::entry::join(directory, name);
        self.judge(parent, &path, is_directory)
    }

    fn judge(&self, parent: Verdict, path: &[u8], is_directory: bool) -> Verdict {
        Verdict {
            excluded: parent.excluded || self.exclude.last_match(path, is_directory) == Some(true),
            included: parent.included || self.include.last_match(path, is_directory) == Some(true),
        }
    }

    fn directory_verdict(&mut self, directory: &[u8]) -> Verdict {
        let root = Verdict {
            excluded: false,
            included: !self.selects(),
        };
        if directory.is_empty() {
            return root;
        }
        // Blocks come depth first, so nearly always only the last name is new.
        while let Some((walked, verdict)) = self.walked.last() {
            if walked == directory {
                return *verdict;
            }
            if formats::listing::order::is_within(directory, walked) {
                break;
            }
            self.walked.pop();
        }
        let (mut at, mut verdict) = match self.walked.last() {
            Some((walked, verdict)) => (walked.len() + 1, *verdict),
            None => (0, root),
        };
        while at <= directory.len() {
            let rest = directory.get(at..).unwrap_or_default();
            let length = rest.iter().position(|byte| *byte == b'/');
            let end = length.map_or(directory.len(), |length| at + length);
            let path = directory.get(..end).unwrap_or_default();
            verdict = self.judge(verdict, path, true);
            self.walked.push((path.to_vec(), verdict));
            at = end + 1;
        }
        verdict
    }
}

impl Rules {
    fn new(texts: &[String]) -> Result<Self, PatternError> {
        let mut globs = GlobSetBuilder::new();
        let mut rules = Vec::with_capacity(texts.len());
        for text in texts {
            let (rule, glob) = parse(text)?;
            rules.push(rule);
            globs.add(glob);
        }
        let globs = globs.build().map_err(PatternError::Together)?;
        Ok(Self { globs, rules })
    }

    /// Whether the last rule that matches is a plain one; `None` if none matches.
    fn last_match(&self, path: &[u8], is_directory: bool) -> Option<bool> {
        if self.rules.is_empty() {
            return None;
        }
        let candidate = Candidate::new(OsStr::from_bytes(path));
        self.globs
            .matches_candidate(&candidate)
            .into_iter()
            .filter_map(|number| self.rules.get(number))
            .rfind(|rule| is_directory || !rule.directory_only)
            .map(|rule| !rule.negated)
    }
}

fn parse(text: &str) -> Result<(Rule, globset::Glob), PatternError> {
    let never = || PatternError::Never {
        text: text.to_owned(),
    };
    let (negated, rest) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (directory_only, body) = match rest.strip_suffix('/') {
        Some(body) => (true, body),
        None => (false, rest),
    };
    let anchored = body.contains('/');
    let body = body.strip_prefix('/').unwrap_or(body);
    if body.is_empty() || body.contains('\0') || body.split('/').any(|part| part == "..") {
        return Err(never());
    }
    let glob = match anchored {
        true => body.to_owned(),
        false => format!("**/{body}"),
    };
    let glob = GlobBuilder::new(&glob)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|source| PatternError::BadGlob {
            text: text.to_owned(),
            source,
        })?;
    let rule = Rule {
        negated,
        directory_only,
    };
    Ok((rule, glob))
}

#[cfg(test)]
mod tests {
    use super::Patterns;

    fn patterns(include: &[&str], exclude: &[&str]) -> Patterns {
        let owned = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| (*text).to_owned()).collect()
        };
        Patterns::new(&owned(include), &owned(exclude)).expect("good patterns")
    }

    fn wanted(patterns: &mut Patterns, path: &str, is_directory: bool) -> bool {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let verdict = patterns.verdict(directory.as_bytes(), name.as_bytes(), is_directory);
        verdict.included && !verdict.excluded
    }

    #[test]
    fn exclusions_reach_down_and_the_last_match_wins() {
        let mut rules = patterns(&[], &["*.tmp", "/var/cache/", "!keep.tmp", "/srv/*/logs"]);
        assert!(!wanted(&mut rules, "a/b/x.tmp", false));
        assert!(wanted(&mut rules, "a/b/keep.tmp", false));
        assert!(!wanted(&mut rules, "var/cache/deep/down/file", false));
        assert!(
            wanted(&mut rules, "var/cache", false),
            "a file of that name"
        );
        assert!(!wanted(&mut rules, "srv/www/logs/old", false));
        assert!(wanted(&mut rules, "srv/www/more/logs", false));
        assert!(wanted(&mut rules, "", true));
    }

    #[test]
    fn inclusions_bring_all_that_is_below_them() {
        let mut rules = patterns(&["/etc/ssh/", "*.conf"], &["secret"]);
        assert!(rules.selects());
        assert!(wanted(&mut rules, "etc/ssh/keys/a", false));
        assert!(!wanted(&mut rules, "etc/ssh/secret", false));
        assert!(wanted(&mut rules, "srv/x.conf", false));
        assert!(!wanted(&mut rules, "srv/x", false));
        assert!(!wanted(&mut rules, "etc", true));
    }

    #[test]
    fn patterns_that_can_never_match_are_refused() {
        for bad in ["", "!", "/", "a/../b", "[", "a{b"] {
            assert!(Patterns::new(&[], &[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
