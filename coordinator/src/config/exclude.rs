//! Exclude rules in the manner of gitignore, checked when they are read. Never matches a path itself:
//! the agent does, with the same glob dialect.
//!
//! A rule is a glob. A leading `!` brings back what an earlier rule excluded: the last rule that matches
//! wins. A trailing `/` makes it match directories only. A rule with a `/` at its start or middle is
//! anchored at the root of the host; one without matches a name at any depth.

use std::fmt;
use std::str::FromStr;

use globset::GlobBuilder;

/// The longest rule, in bytes.
pub const RULE_BYTES_MAX: usize = 4096;

/// Why a text is not an exclude rule or a marker name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExcludeError {
    /// Nothing is left once `!` and `/` are taken away.
    #[error(
        "exclude rule {text:?} matches nothing: write a glob such as \"*.tmp\" or \"/var/cache/**\""
    )]
    Empty {
        /// The refused rule.
        text: String,
    },
    /// Longer than [`RULE_BYTES_MAX`].
    #[error("exclude rule has {bytes} bytes: shorten it to {RULE_BYTES_MAX}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Holds "." or ".." as a directory, which no walked path has.
    #[error(
        "exclude rule {text:?} holds \".\" or \"..\" as a directory and can never match: write the path from \"/\""
    )]
    DotComponent {
        /// The refused rule.
        text: String,
    },
    /// Holds a NUL, which no file name has.
    #[error("exclude rule {text:?} holds a NUL character and can never match: take it out")]
    HoldsNul {
        /// The refused rule.
        text: String,
    },
    /// The glob does not compile.
    #[error(
        "bad glob {text:?}: {reason}; escape a literal *, ?, [ or {{ with a backslash",
        reason = source.kind()
    )]
    BadGlob {
        /// The refused rule.
        text: String,
        /// What the glob compiler says.
        source: globset::Error,
    },
    /// A marker of `exclude_if_present` that is not a plain file name.
    #[error(
        "{text:?} is not a file name: write the bare name of a marker file, such as \".nobackup\""
    )]
    BadMarker {
        /// The refused text.
        text: String,
    },
}

/// One exclude rule whose glob is known to compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExcludeRule {
    text: String,
    glob: String,
    negated: bool,
    directory_only: bool,
}

impl ExcludeRule {
    /// The rule as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The glob to match against a path from the root without its leading slash, with `*` and `?` not
    /// crossing a slash.
    pub fn glob(&self) -> &str {
        &self.glob
    }

    /// Whether the rule brings back what an earlier one excluded.
    pub fn negated(&self) -> bool {
        self.negated
    }

    /// Whether the rule matches directories only.
    pub fn directory_only(&self) -> bool {
        self.directory_only
    }
}

impl FromStr for ExcludeRule {
    type Err = ExcludeError;

    fn from_str(text: &str) -> Result<Self, ExcludeError> {
        let owned = || text.to_owned();
        if text.len() > RULE_BYTES_MAX {
            return Err(ExcludeError::TooLong { bytes: text.len() });
        }
        if text.contains('\0') {
            return Err(ExcludeError::HoldsNul { text: owned() });
        }
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
        if body.is_empty() {
            return Err(ExcludeError::Empty { text: owned() });
        }
        if body.split('/').any(|part| part == "." || part == "..") {
            return Err(ExcludeError::DotComponent { text: owned() });
        }
        let glob = if anchored {
            body.to_owned()
        } else {
            format!("**/{body}")
        };
        compile(&glob).map_err(|source| ExcludeError::BadGlob {
            text: owned(),
            source,
        })?;
        Ok(Self {
            text: owned(),
            glob,
            negated,
            directory_only,
        })
    }
}

impl fmt::Display for ExcludeRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// Compiles a glob in the one dialect that configuration, agent and restore share.
pub fn compile(glob: &str) -> Result<globset::Glob, globset::Error> {
    GlobBuilder::new(glob)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
}

/// The name of a file whose presence excludes the directory it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkerName(String);

impl MarkerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MarkerName {
    type Err = ExcludeError;

    fn from_str(text: &str) -> Result<Self, ExcludeError> {
        let bad = text.is_empty() || text.len() > 255 || text == "." || text == "..";
        if bad || text.contains(['/', '\0']) {
            return Err(ExcludeError::BadMarker {
                text: text.to_owned(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::{ExcludeRule, compile};

    #[track_caller]
    fn assert_matches(rule: &str, path: &str, expected: bool) {
        let parsed: ExcludeRule = rule.parse().unwrap();
        let matcher = compile(parsed.glob()).unwrap().compile_matcher();
        assert_eq!(matcher.is_match(path), expected, "{rule} on {path}");
    }

    #[test]
    fn rules_match_as_in_gitignore() {
        for (rule, path, expected) in [
            ("*.tmp", "a.tmp", true),
            ("*.tmp", "var/x/a.tmp", true),
            ("*.tmp", "a.tmp/b", false),
            ("/a.tmp", "a.tmp", true),
            ("/a.tmp", "var/a.tmp", false),
            ("/var/cache/**", "var/cache/x/y", true),
            ("/var/cache/**", "var/cache", false),
            ("/var/*", "var/a/b", false),
            ("var/cache", "var/cache", true),
            ("var/cache", "srv/var/cache", false),
            ("**/node_modules", "a/b/node_modules", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("\\!important", "x/!important", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("cache/", "x/cache", true),
        ] {
            assert_matches(rule, path, expected);
        }
    }

    #[test]
    fn marks_of_a_rule_are_told_apart() {
        let rule: ExcludeRule = "!/srv/keep/".parse().unwrap();
        assert!(rule.negated() && rule.directory_only());
        assert_eq!((rule.as_str(), rule.glob()), ("!/srv/keep/", "srv/keep"));
        let rule: ExcludeRule = "cache/".parse().unwrap();
        assert!(!rule.negated() && rule.directory_only());
        assert_eq!(rule.glob(), "**/cache");
    }

    #[test]
    fn rules_that_can_never_match_are_refused() {
        for text in [
            "", "!", "/", "!/", "//", "a/../b", "./a", "..", "a\0b", "[", "a{b", "a\\",
        ] {
            assert!(text.parse::<ExcludeRule>().is_err(), "{text}");
        }
    }
}
