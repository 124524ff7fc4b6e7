//! `export`: writes a snapshot to standard output, for tapes and other programs.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::ffi::OsStrExt as _;

use crate::cli::export::{ExportArgs, ExportFormat};
use crate::commands::opened_snapshot::{OpenedSnapshot, SnapshotCommandError};
use crate::commands::restore::Answer;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::export::{Exported, export};
use crate::terminal::{count_text, size_text, write_json};

/// What is gathered before it is written: a pipe takes no more at once.
const BUFFER_BYTES: usize = 1 << 20;

/// `export HOST SNAP [PATH…]`.
pub async fn export_command(
    args: &ExportArgs,
    config: Config,
    answer: Answer,
) -> Result<ExitCode, SnapshotCommandError> {
    let ExportFormat::Tar = args.format;
    if io::stdout().is_terminal() {
        return Err(SnapshotCommandError::ToTerminal);
    }
    let destination = args.from.destination.as_deref();
    let opened = OpenedSnapshot::open(config, &args.host, &args.snapshot, destination).await?;
    opened.expect_kept()?;
    let listing = opened.listing().await?;
    // One dash alone is standard output, as other programs have it; a file of that name is `/-`.
    let paths = args.paths.iter().filter(|_| args.paths != ["-"]);
    let paths: Vec<Vec<u8>> = paths.map(|path| path.as_bytes().to_vec()).collect();
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
    let exported = export(&listing, &paths, &opened.snapshot.names, &mut out).await?;
    opened.coordinator.close().await;
    write_exported(&exported, answer, &mut io::stderr())?;
    Ok(match exported.unread {
        0 => ExitCode::Ok,
        _ => ExitCode::Warnings,
    })
}

fn write_exported(exported: &Exported, answer: Answer, out: &mut dyn Write) -> io::Result<()> {
    if answer.json {
        return write_json(out, exported);
    }
    if exported.unread > 0 {
        writeln!(
            out,
            "left out {} files that could not be read when they were backed up",
            count_text(exported.unread)
        )?;
    }
    if exported.sockets > 0 {
        let sockets = count_text(exported.sockets);
        writeln!(
            out,
            "left out {sockets} sockets, which a tar stream cannot have"
        )?;
    }
    match answer.quiet {
        true => Ok(()),
        false => writeln!(
            out,
            "wrote {} entries, {}",
            count_text(exported.entries),
            size_text(exported.bytes)
        ),
    }
}
