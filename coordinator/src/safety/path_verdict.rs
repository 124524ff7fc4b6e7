//! Whether a host's configuration has a path backed up, and by which words of it: what can be said without asking the host.

use formats::listing::order::is_within;

use crate::config::exclude::ExcludeRule;
use crate::config::path::SourcePath;
use crate::safety::path_rules::{PathRules, PathRulesError};

/// What becomes of a path.
#[derive(Debug, PartialEq, Eq)]
pub enum PathVerdict<'a> {
    /// No path of the host leads to it.
    Outside,
    /// It is kept for its own attributes, and what leads to a path of the host with it.
    OnTheWay {
        /// One that is below it.
        to: &'a SourcePath,
    },
    /// A rule leaves it out, or a directory that it is in.
    Excluded {
        /// What the rule takes, without a slash in front.
        at: Vec<u8>,
        /// The rule.
        rule: &'a ExcludeRule,
    },
    /// It is backed up.
    Included {
        /// Below this.
        source: &'a SourcePath,
        /// The rule that brings it back from an earlier one.
        brought_back: Option<&'a ExcludeRule>,
    },
}

/// Judges a path without a slash in front; an error when the rules do not compile together.
pub fn judge<'a>(
    sources: &'a [SourcePath],
    excludes: &'a [ExcludeRule],
    path: &[u8],
    is_directory: bool,
) -> Result<PathVerdict<'a>, PathRulesError> {
    let holds = |source: &&SourcePath| is_within(path, without_root(source));
    let leads_to = |source: &&SourcePath| is_within(without_root(source), path);
    let nearest = sources.iter().filter(holds);
    let below = sources.iter().find(leads_to);
    let Some(source) = nearest.max_by_key(|source| source.as_bytes().len()) else {
        return Ok(below.map_or(PathVerdict::Outside, |to| PathVerdict::OnTheWay { to }));
    };
    let rules = PathRules::new(excludes)?;
    let rule = |place: usize| excludes.get(place);
    let source_bytes = without_root(source).len();
    // What a path of the host names itself, no rule leaves out.
    let parts = ends_of_parts(path).filter(|end| *end > source_bytes);
    for (end, at) in parts.filter_map(|end| Some((end, path.get(..end)?))) {
        let is_directory = is_directory || end < path.len();
        if rules.takes(at, is_directory)
            && let Some(rule) = rules.decides(at, is_directory).and_then(rule)
        {
            return Ok(match below {
                Some(to) => PathVerdict::OnTheWay { to },
                None => PathVerdict::Excluded {
                    at: at.to_vec(),
                    rule,
                },
            });
        }
    }
    let decided = (path.len() > source_bytes)
        .then(|| rules.decides(path, is_directory))
        .flatten();
    Ok(PathVerdict::Included {
        source,
        brought_back: decided.and_then(rule),
    })
}

fn without_root(source: &SourcePath) -> &[u8] {
    source.as_bytes().strip_prefix(b"/").unwrap_or_default()
}

/// Where each directory's name ends, and the last name.
fn ends_of_parts(path: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes
        .map(|(place, _)| place)
        .chain(std::iter::once(path.len()))
}

#[cfg(test)]
mod tests {
    use super::{PathVerdict, judge};

    fn verdict(path: &str, is_directory: bool) -> String {
        let sources = ["/srv", "/srv/cache/keep", "/var/lib"];
        let sources = sources.map(|path| path.parse().expect("a path"));
        let rules = ["/srv/cache", "*.tmp", "!good.tmp", "logs/", "/var/lib"];
        let rules = rules.map(|rule| rule.parse().expect("a rule"));
        let verdict = judge(&sources, &rules, path.as_bytes(), is_directory);
        match verdict.expect("rules that compile") {
            PathVerdict::Outside => "outside".to_owned(),
            PathVerdict::OnTheWay { to } => format!("on the way to {to}"),
            PathVerdict::Excluded { at, rule } => {
                format!("{} by {}", String::from_utf8_lossy(&at), rule.as_str())
            }
            PathVerdict::Included {
                source,
                brought_back,
            } => match brought_back {
                Some(rule) => format!("below {source}, back by {}", rule.as_str()),
                None => format!("below {source}"),
            },
        }
    }

    #[test]
    fn a_path_is_judged_as_the_agent_does() {
        for (path, is_directory, expected) in [
            ("etc", true, "outside"),
            ("var", true, "on the way to /var/lib"),
            ("", true, "on the way to /srv"),
            ("srv", true, "below /srv"),
            ("srv/a", false, "below /srv"),
            // No rule leaves out what a path names.
            ("var/lib", true, "below /var/lib"),
            ("var/lib/x", false, "below /var/lib"),
            ("srv/x.tmp", false, "srv/x.tmp by *.tmp"),
            ("srv/x.tmp/below/it", false, "srv/x.tmp by *.tmp"),
            ("srv/good.tmp", false, "below /srv, back by !good.tmp"),
            ("srv/logs", false, "below /srv"),
            ("srv/logs", true, "srv/logs by logs/"),
            ("srv/logs/a", false, "srv/logs by logs/"),
            ("srv/cache", true, "on the way to /srv/cache/keep"),
            ("srv/cache/other", false, "srv/cache by /srv/cache"),
            ("srv/cache/keep/x", false, "below /srv/cache/keep"),
        ] {
            assert_eq!(verdict(path, is_directory), expected, "{path}");
        }
    }
}
