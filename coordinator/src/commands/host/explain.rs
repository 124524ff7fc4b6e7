//! `host explain`: when a host is backed up next, and why then. Asks neither the host nor the daemon. A path of it is
//! `explain_path`'s.

use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;

use append_server::destination::DestinationName;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::catalog::state::State;
use crate::cli::host::HostExplainArgs;
use crate::clock::{Clock, local, utc};
use crate::commands::host::explain_path::explain_path;
use crate::commands::on_storage::CommandError;
use crate::config::Config;
use crate::config::commit_setting::{Commit, CopiesOfHost};
use crate::config::host::Host;
use crate::daemon::records::record_of;
use crate::repository::layout::StateDir;
use crate::schedule::outlook::{Outlook, Record, WaitsFor, outlook};
use crate::schedule::timing::{Occasion, Timing};
use crate::terminal::write_json;

/// Runs that are foretold.
const FORETOLD: usize = 3;

/// What `host explain --json` prints.
#[derive(Debug, Serialize)]
struct ExplainJson {
    host: String,
    schedule: Option<String>,
    timezone: String,
    window: Option<String>,
    jitter: String,
    catch_up: &'static str,
    retries: u32,
    concurrency_key: Option<String>,
    next: Vec<NextJson>,
    last_occasion: Option<String>,
    waits_for: String,
    /// The destinations that it is kept at.
    destinations: Vec<String>,
    commit: Commit,
    /// On how many of them its objects must be.
    copies: u64,
}

#[derive(Debug, Serialize)]
struct NextJson {
    occasion: String,
    begins: String,
}

/// `host explain HOST [PATH]`.
pub fn explain_command(
    args: &HostExplainArgs,
    config: &Config,
    clock: &dyn Clock,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), CommandError> {
    let host = config.host(&args.host)?;
    if let Some(path) = &args.path {
        return explain_path(host, path.as_bytes(), json, out);
    }
    let now = clock.now();
    let state = State::open(&StateDir::new(&config.state_dir).state_file())?;
    let name = host.name.as_str();
    let since = state.schedule_seen(name)?.unwrap_or(now);
    let record = record_of(&state, name, since, now)?;
    let next = foretell(host, now);
    let waits_for = waits_for(host, &record, now);
    let copies = config.copies_of(host);
    if json {
        write_json(out, &explained(host, &record, &next, waits_for, &copies))?;
        return Ok(());
    }
    write_copies(&copies, host.commit, out)?;
    write_timing(&host.timing, out)?;
    let zone = host.timing.zone.zone();
    match &record.last {
        Some(last) => writeln!(
            out,
            "last due at {}, tried {} times",
            local(last.at, zone),
            last.attempts
        )?,
        None => writeln!(out, "never due so far")?,
    }
    writeln!(out, "now: {waits_for}")?;
    for occasion in &next {
        writeln!(out, "next: {}", next_text(occasion, zone))?;
    }
    Ok(())
}

fn explained(
    host: &Host,
    record: &Record,
    next: &[Occasion],
    waits_for: String,
    copies: &CopiesOfHost<'_>,
) -> ExplainJson {
    let timing = &host.timing;
    let next = next.iter().map(|next| NextJson {
        occasion: utc(next.at),
        begins: utc(next.begins),
    });
    ExplainJson {
        host: host.name.to_string(),
        schedule: timing.calendar.as_ref().map(ToString::to_string),
        timezone: timing.zone.to_string(),
        window: timing.window.map(|window| window.to_string()),
        jitter: timing.jitter.to_string(),
        catch_up: timing.catch_up.as_str(),
        retries: timing.retries,
        concurrency_key: timing.concurrency_key.as_ref().map(ToString::to_string),
        next: next.collect(),
        last_occasion: record.last.map(|last| utc(last.at)),
        waits_for,
        destinations: copies.kept_at.iter().map(ToString::to_string).collect(),
        commit: host.commit,
        copies: copies.copies,
    }
}

/// The next occasions, whatever becomes of those before.
fn foretell(host: &Host, now: Timestamp) -> Vec<Occasion> {
    let mut after = now;
    let mut next = Vec::new();
    while next.len() < FORETOLD
        && let Some(occasion) = host.timing.next(host.name.as_str(), after)
    {
        after = occasion.at;
        next.push(occasion);
    }
    next
}

fn waits_for(host: &Host, record: &Record, now: Timestamp) -> String {
    let timing = &host.timing;
    let zone = timing.zone.zone();
    match outlook(host.name.as_str(), timing, record, Some(now), now) {
        Outlook::Idle if timing.calendar.is_none() => {
            "it has no schedule: only `coordinator run` backs it up".to_owned()
        }
        Outlook::Idle => "its schedule does not come any more".to_owned(),
        Outlook::Due { occasion, .. } => format!(
            "the run of {} is due, and begins when a place is free{}",
            local(occasion, zone),
            match &timing.concurrency_key {
                Some(key) => format!(" and no other host of {key} is being backed up"),
                None => String::new(),
            }
        ),
        Outlook::Missed { occasion } => format!(
            "the run of {} was missed, and catch_up is \"no\"",
            local(occasion, zone)
        ),
        Outlook::Waits { until, what } => match what {
            WaitsFor::Occasion(_) => format!("waits for its schedule until {}", local(until, zone)),
            WaitsFor::Window => format!(
                "was missed, and waits for its window to open at {}",
                local(until, zone)
            ),
            WaitsFor::Retry => format!(
                "failed, and is tried again at {} ({} of {} retries)",
                local(until, zone),
                record.last.map_or(0, |last| last.attempts),
                timing.retries
            ),
        },
    }
}

fn write_copies(
    copies: &CopiesOfHost<'_>,
    commit: Commit,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let names = |names: &[&DestinationName]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    writeln!(
        out,
        "kept at {}; stored is what is on {} of them, {} among them (commit = {commit})",
        names(&copies.kept_at),
        copies.copies,
        names(&copies.required),
    )
}

fn write_timing(timing: &Timing, out: &mut dyn Write) -> std::io::Result<()> {
    match &timing.calendar {
        Some(calendar) => writeln!(out, "schedule {calendar}, by the clocks of {}", timing.zone)?,
        None => writeln!(out, "no schedule")?,
    }
    match timing.window {
        Some(window) => writeln!(out, "begins and ends within {window}")?,
        None => writeln!(out, "at any hour")?,
    }
    writeln!(
        out,
        "up to {} later, each time otherwise; {} retries, the first after {}; missed runs: {}",
        timing.jitter,
        timing.retries,
        timing.retry_delay,
        timing.catch_up.as_str()
    )
}

fn next_text(occasion: &Occasion, zone: &TimeZone) -> String {
    match occasion.begins == occasion.at {
        true => local(occasion.at, zone),
        false => format!(
            "{}, which jitter makes {}",
            local(occasion.at, zone),
            local(occasion.begins, zone)
        ),
    }
}
