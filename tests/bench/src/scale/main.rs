//! Measures how Capstan's cost grows: over a long link, with many hosts, with many entries, with many bytes;
//! and what destinations of each kind do, near and far. It drives
//! the `coordinator` program as a person would and never links it. Each measurement prints a Markdown table and writes
//! the same as JSON; it ends by itself and leaves nothing behind.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::options::{Measurement, Options};

mod options;

mod bytes;
mod entries;
mod fleet;
mod link;
mod recover;
mod scan;
mod together;
mod upload;

mod bucket;
mod data;
mod delay_line;
mod isolation;
mod long_link;
mod real_tree;
mod rig;
mod slope;
mod stores;
mod synthetic_agent;
mod synthetic_tree;
mod table;
mod usage;
mod wire_monitor;

fn main() -> ExitCode {
    if let Some(ending) = synthetic_agent::main_if_deployed() {
        return ending;
    }
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let options = Options::parse();
    if let Measurement::DelayLine(line) = &options.measurement {
        return delay_line::carry(line).map(|()| ExitCode::SUCCESS);
    }
    let Some(place) = isolation::inside(&options)? else {
        return isolation::run_inside(&options);
    };
    match &options.measurement {
        Measurement::Link(link) => link::measure(&place, link),
        Measurement::Fleet(fleet) => fleet::measure(&place, fleet),
        Measurement::Entries(entries) => entries::measure(&place, entries),
        Measurement::Bytes(bytes) => bytes::measure(&place, bytes),
        Measurement::Upload(upload) => upload::measure(&place, upload),
        Measurement::Together(together) => together::measure(&place, together),
        Measurement::Recover(recover) => recover::measure(&place, recover),
        Measurement::Scan(scan) => scan::measure(&place, scan),
        Measurement::DelayLine(_) => Ok(()),
    }?;
    Ok(ExitCode::SUCCESS)
}
