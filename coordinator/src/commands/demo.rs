//! `demo`: runs the demo and presents it. What it does is `demo::flow`.

use std::io::{self, Write};
use std::sync::Arc;

use crate::cli::GlobalArgs;
use crate::cli::run::DemoArgs;
use crate::clock::Clock;
use crate::demo::error::DemoError;
use crate::demo::flow::{Demo, DemoReport, run_demo};
use crate::demo::table::write_steps;
use crate::exit_code::ExitCode;
use crate::logging::Screen;
use crate::terminal::{count_text, write_json};

/// Runs the demo; the exit code is 0 only if everything was verified and restored identically.
pub async fn demo_command(
    args: &DemoArgs,
    global: &GlobalArgs,
    screen: &Screen,
    clock: Arc<dyn Clock>,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, DemoCommandError> {
    let demo = Demo {
        path: args.path.as_deref(),
        keep: args.keep,
        embedded_sshd: args.embedded_sshd,
        global,
        screen,
        clock,
    };
    let report = run_demo(&demo).await?;
    match global.json {
        true => write_json(out, &report)?,
        false => write_report(&report, out)?,
    }
    Ok(match report.passed() {
        true => ExitCode::Ok,
        false => ExitCode::Error,
    })
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum DemoCommandError {
    /// The demo stopped.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The output could not be written.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

fn write_report(report: &DemoReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nover {}:\n", report.server)?;
    write_steps(&report.steps, out)?;
    writeln!(out)?;
    for difference in &report.comparison.differences {
        writeln!(out, "  {difference}")?;
    }
    if let Some(kept) = &report.kept {
        writeln!(out, "kept: {kept}")?;
    }
    let comparison = &report.comparison;
    let files = count_text(comparison.files);
    let bytes = count_text(comparison.bytes);
    match (comparison.identical(), report.passed()) {
        (true, true) => writeln!(
            out,
            "restored tree is identical: {files} files, {bytes} bytes"
        ),
        (true, false) => writeln!(
            out,
            "restored tree is identical: {files} files, {bytes} bytes; but something was not verified or not read"
        ),
        (false, _) => writeln!(
            out,
            "restored tree DIFFERS in {} places",
            count_text(comparison.difference_count)
        ),
    }
}
