//! Arguments of `export`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use crate::catalog::selector::Selector;
use crate::cli::read_from::ReadFromArgs;

/// `export`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The stream is POSIX tar with pax headers: GNU tar, bsdtar and others read it. It has owners,
times to the nanosecond, hard links, devices, extended attributes, ACLs and capabilities; GNU
tar takes those with --xattrs --xattrs-include='*', and needs --delay-directory-restore for
the times and modes of directories, as what is in one may come much later. Where a name is
no text it says that it ignores hdrcharset, which does no harm. Holes are written out, sockets left out.
A further name of a file comes as a whole file where its first name is not among PATH.
What was written is told on stderr.

Exit codes: 0 everything was written; 3 files are left out, as they could not be read when
they were backed up; 15 damage was found, and the stream ends before its end.

Examples:
  coordinator export web1 latest --format tar > web1.tar
  coordinator export web1 latest /etc | tar -tv
  coordinator export web1 latest | mbuffer -P 90 -o /dev/nst0")]
pub struct ExportArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// latest, latest~2, the beginning of an id, 2026-11-20, or before:2026-11-20
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
    /// Only these files and directories, as they were on the host [default: everything]
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// What to write
    #[arg(long, value_enum, default_value_t = ExportFormat::Tar)]
    pub format: ExportFormat,
    /// From where it is read.
    #[command(flatten)]
    pub from: ReadFromArgs,
}

/// What a snapshot is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// POSIX tar, with pax headers
    Tar,
}
