//! `keep_deleted`: which paths stay in later snapshots after they are gone from the host.

use formats::listing::order::is_within;

use crate::config::exclude::ExcludeRule;
use crate::safety::path_rules::PathRules;

/// The rules, ready to match.
#[derive(Debug, Clone)]
pub struct KeptPaths {
    rules: PathRules,
    /// Where what the rules keep can be.
    beginnings: Vec<Vec<u8>>,
}

impl KeptPaths {
    /// Prepares rules that were checked; nothing without any.
    pub fn new(rules: &[ExcludeRule]) -> Option<Self> {
        let ready = PathRules::new(rules).ok()?;
        (!rules.is_empty()).then(|| Self {
            rules: ready,
            beginnings: rules.iter().map(|rule| beginning(rule.glob())).collect(),
        })
    }

    /// Whether a file of this path is kept. The last rule that matches decides, those with a slash at the end among them.
    pub fn keeps(&self, path: &[u8]) -> bool {
        self.rules.takes(path, true)
    }

    /// Whether something that is kept may be in a directory, or it is itself in what is kept: it stays with it.
    pub fn may_hold(&self, directory: &[u8]) -> bool {
        self.beginnings
            .iter()
            .any(|place| is_within(place, directory) || is_within(directory, place))
    }
}

/// The directories that a glob begins with, as far as they are plain; empty where there is none.
pub fn beginning(glob: &str) -> Vec<u8> {
    let parts: Vec<&str> = glob.split('/').collect();
    let is_plain = |part: &&&str| !part.contains(['*', '?', '[', '{', '\\']);
    // The last part is a name, not a directory that is walked.
    let above = parts.len().saturating_sub(1);
    let plain: Vec<&str> = parts
        .iter()
        .take(above)
        .take_while(is_plain)
        .copied()
        .collect();
    plain.join("/").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::{KeptPaths, beginning};
    use crate::config::exclude::ExcludeRule;

    #[test]
    fn files_are_kept_by_the_last_rule_and_directories_where_files_may_be() {
        let rules = [
            "/var/lib/archive/**",
            "!/var/lib/archive/tmp/**",
            "/srv/*/dump.sql",
        ];
        let rules: Vec<ExcludeRule> = rules
            .iter()
            .map(|rule| rule.parse().expect("a rule"))
            .collect();
        let kept = KeptPaths::new(&rules).expect("there are some");
        for (path, expected) in [
            ("var/lib/archive/0001", true),
            ("var/lib/archive/a/b", true),
            ("var/lib/archive/tmp/x", false),
            ("var/lib/other", false),
            ("srv/web/dump.sql", true),
            ("srv/web/x/dump.sql", false),
        ] {
            assert_eq!(kept.keeps(path.as_bytes()), expected, "{path}");
        }
        for (path, expected) in [
            ("var", true),
            ("var/lib/archive", true),
            ("var/lib/archive/a", true),
            ("var/lib/other", false),
            ("srv/web", true),
            ("etc", false),
        ] {
            assert_eq!(kept.may_hold(path.as_bytes()), expected, "{path}");
        }
        assert!(KeptPaths::new(&[]).is_none());
    }

    #[test]
    fn a_glob_begins_with_its_plain_directories() {
        assert_eq!(beginning("var/lib/archive/**"), b"var/lib/archive");
        assert_eq!(beginning("srv/*/dump.sql"), b"srv");
        assert_eq!(beginning("**/dump.sql"), b"");
        assert_eq!(beginning("dump.sql"), b"");
    }
}
