//! `host explain HOST PATH`: whether the configuration has a path backed up, and by which of its words.

use std::io::{self, Write};

use serde::Serialize;

use crate::commands::on_storage::CommandError;
use crate::config::host::Host;
use crate::restore::plan::clean_path;
use crate::safety::kept::KeptPaths;
use crate::safety::path_verdict::{PathVerdict, judge};
use crate::snapshot::shown::shown_path;
use crate::terminal::write_json;

/// What `host explain HOST PATH --json` prints.
#[derive(Debug, Serialize)]
struct PathJson {
    host: String,
    path: String,
    /// "yes", "no", or "itself" for a directory of which only what leads to a path of the host is kept.
    backed_up: &'static str,
    /// The path of the host that it is below, or that is below it.
    source: Option<String>,
    /// The rule of `exclude` that decides.
    rule: Option<String>,
    /// What that rule takes: the path, or a directory above it.
    at: Option<String>,
    /// Whether it stays in later snapshots once it is gone from the host.
    kept_when_deleted: bool,
}

/// Judges a path as an operator writes it.
pub(super) fn explain_path(
    host: &Host,
    written: &[u8],
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), CommandError> {
    let path = clean_path(written).map_err(CommandError::HostPath)?;
    let is_directory = path.is_empty() || written.ends_with(b"/");
    let verdict = judge(&host.paths, &host.exclude, &path, is_directory);
    let verdict = verdict.map_err(CommandError::ExcludeRules)?;
    let kept = KeptPaths::new(&host.safety.keep_deleted).is_some_and(|kept| kept.keeps(&path));
    let told = told(host, &path, &verdict, kept);
    if json {
        write_json(out, &told)?;
        return Ok(());
    }
    write_verdict(&told, &verdict, out)?;
    if matches!(verdict, PathVerdict::Included { .. }) {
        write_what_else(host, out)?;
    }
    if kept {
        writeln!(
            out,
            "keep_deleted: it stays in later snapshots when it is gone from the host"
        )?;
    }
    Ok(())
}

fn told(host: &Host, path: &[u8], verdict: &PathVerdict<'_>, kept: bool) -> PathJson {
    let (backed_up, source, rule, at) = match verdict {
        PathVerdict::Outside => ("no", None, None, None),
        PathVerdict::OnTheWay { to } => ("itself", Some(*to), None, None),
        PathVerdict::Excluded { at, rule } => ("no", None, Some(*rule), Some(shown_path(at))),
        PathVerdict::Included {
            source,
            brought_back,
        } => ("yes", Some(*source), *brought_back, None),
    };
    PathJson {
        host: host.name.to_string(),
        path: shown_path(path),
        backed_up,
        source: source.map(ToString::to_string),
        rule: rule.map(|rule| rule.as_str().to_owned()),
        at,
        kept_when_deleted: kept,
    }
}

fn write_verdict(
    told: &PathJson,
    verdict: &PathVerdict<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (host, path) = (&told.host, &told.path);
    match verdict {
        PathVerdict::Outside => writeln!(
            out,
            "{path} is not backed up: none of the paths of {host} leads to it"
        ),
        PathVerdict::OnTheWay { to } => writeln!(
            out,
            "{path} itself is kept, with its owner and mode, and of what is in it what leads to {to}"
        ),
        PathVerdict::Excluded { at, rule } => writeln!(
            out,
            "{path} is left out: the exclude rule {:?} takes {}",
            rule.as_str(),
            shown_path(at)
        ),
        PathVerdict::Included {
            source,
            brought_back,
        } => {
            write!(out, "{path} is backed up, by the path {source}")?;
            match brought_back {
                Some(rule) => {
                    writeln!(out, "; the exclude rule {:?} brings it back", rule.as_str())
                }
                None => writeln!(out),
            }
        }
    }
}

/// What the configuration says that only the host can apply.
fn write_what_else(host: &Host, out: &mut dyn Write) -> io::Result<()> {
    let mut unless = Vec::new();
    if host.exclude_caches {
        unless.push("a directory above it holds a CACHEDIR.TAG".to_owned());
    }
    let markers = host.exclude_if_present.iter();
    let markers: Vec<_> = markers
        .map(|marker| format!("{:?}", marker.as_str()))
        .collect();
    if !markers.is_empty() {
        unless.push(format!("one holds {}", markers.join(" or ")));
    }
    if host.one_file_system {
        unless.push("it is on another filesystem than that path".to_owned());
    }
    match unless.is_empty() {
        true => Ok(()),
        false => writeln!(out, "unless {}", unless.join(", or ")),
    }
}
