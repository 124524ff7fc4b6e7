//! The benchmark: makes the data, runs Capstan and each peer in turn through a private sshd, measures what the machine
//! can do beside it, and writes tables, JSON and plots. It never touches a real repository, host or tree: a tree given
//! by path is copied first.

mod options;

mod change;
mod set;

mod ground;
mod product;
mod restored;
mod turn;

mod interruption;
mod limits;
mod proc_files;
mod step;

mod machine;
mod plot;
mod report;
mod results;
mod rounds;
mod statistics;
mod targets;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::options::Options;
use crate::results::Results;

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.report_only.is_empty() {
        measure(&options)
    } else {
        Results::merged_from(&options.report_only)
            .and_then(|results| report::write(&options.results, &results))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    interruption::listen()?;
    let mut results = Results::empty(machine::describe(options)?, options.scale);
    let outcome = rounds::run(options, &mut results);
    // What was measured before a failure is worth keeping.
    report::write(&options.results, &results)?;
    outcome
}
