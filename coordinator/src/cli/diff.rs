//! Arguments of `diff` and `changes`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _, ValueParser};

use crate::catalog::selector::{ParseSelectorError, Selector};
use crate::cli::read_from::ReadFromArgs;

const MEANINGS: &str = "\
  + added    - removed    M other content    T other type
  U other metadata alone: mode, owner, mtime, xattrs, kept-deleted

Contents are compared by their chunks' names, without reading them. Times of directories
are left out: they say that names in them came or went. Totals come last; a file counts as
moved when its inode, size and time are found under another name (of 65,536 files on each
side at most).

Exit codes: 0 compared, whether or not anything differs; 10 no such snapshot or path.
";

/// `diff`.
#[derive(Debug, Clone, Args)]
#[command(after_help = format!("\
{MEANINGS}
Examples:
  coordinator diff web1 latest~7                     # a week of daily snapshots
  coordinator diff web1 2026-11-19 latest /etc /srv
  coordinator diff web1 latest~1 --stat --json"))]
pub struct DiffArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// From which snapshot: latest, latest~2, the beginning of an id, 2026-11-20, or before:2026-11-20
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
    /// To which snapshot, and of which paths.
    #[command(flatten)]
    pub compared: ComparedArgs,
}

/// `changes`.
#[derive(Debug, Clone, Args)]
#[command(after_help = format!("\
{MEANINGS}
Examples:
  coordinator changes web1                           # what the last run found
  coordinator changes web1 2026-11-20 /etc"))]
pub struct ChangesArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// Of which snapshot, and of which paths.
    #[command(flatten)]
    pub compared: ComparedArgs,
}

/// What both commands end with.
#[derive(Debug, Clone, Args)]
pub struct ComparedArgs {
    /// The snapshot to look at [default: latest]; or the first path
    #[arg(value_name = "SNAP|PATH", value_parser = snapshot_or_path())]
    first: Option<SnapshotOrPath>,
    /// Only what is at and below these paths, as they were on the host
    #[arg(value_name = "PATH", value_parser = path())]
    more: Vec<OsString>,
    /// Only the totals
    #[arg(long)]
    pub stat: bool,
    /// From where it is read.
    #[command(flatten)]
    pub from: ReadFromArgs,
}

#[derive(Debug, Clone)]
enum SnapshotOrPath {
    Snapshot(Selector),
    Path(OsString),
}

impl ComparedArgs {
    /// The snapshot that is looked at.
    pub fn snapshot(&self) -> Selector {
        match &self.first {
            Some(SnapshotOrPath::Snapshot(selector)) => selector.clone(),
            _ => Selector::Latest { back: 0 },
        }
    }

    /// The paths; none for everything.
    pub fn paths(&self) -> Vec<Vec<u8>> {
        let first = match &self.first {
            Some(SnapshotOrPath::Path(path)) => Some(path),
            _ => None,
        };
        let paths = first.into_iter().chain(&self.more);
        paths.map(|path| path.as_bytes().to_vec()).collect()
    }
}

/// A path begins with a slash, which no snapshot's name does.
fn snapshot_or_path() -> ValueParser {
    let parser = OsStringValueParser::new().try_map(|text| {
        if text.as_bytes().starts_with(b"/") {
            return Ok(SnapshotOrPath::Path(text));
        }
        let selector: Result<Selector, ParseSelectorError> = text.to_string_lossy().parse();
        selector.map(SnapshotOrPath::Snapshot)
    });
    parser.into()
}

fn path() -> ValueParser {
    let parser =
        OsStringValueParser::new().try_map(|text| match text.as_bytes().starts_with(b"/") {
            true => Ok(text),
            false => Err("a path begins with a slash, and snapshots come before paths"),
        });
    parser.into()
}
