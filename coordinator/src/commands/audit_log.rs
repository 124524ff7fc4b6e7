//! `audit log` and `verify`: shows the audit log, and whether it is what was written. Opens no key and no destination, and
//! changes nothing.

use std::collections::BTreeMap;
use std::io::{self, Write};

use formats::audit::ReadRecord;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::audit::AuditLogError;
use crate::audit::reader::AuditReader;
use crate::audit::record::{Details, actor_of};
use crate::audit::verify::{Verified, verify};
use crate::cli::audit::{AuditLogArgs, AuditVerifyArgs};
use crate::clock::{Clock, SystemClock, from_nanos, local, utc};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::repository::layout::StateDir;
use crate::terminal::{count_text, printable, visible, write_json};

/// `audit log` or `audit verify` failed.
#[derive(Debug, thiserror::Error)]
pub enum AuditLogCommandError {
    /// The log.
    #[error(transparent)]
    Log(#[from] AuditLogError),
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl AuditLogCommandError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Log(error) if error.is_integrity() => ExitCode::Integrity,
            _ => ExitCode::Error,
        }
    }
}

/// One element of what `audit log --json` prints.
#[derive(Debug, Serialize)]
struct RecordJson {
    sequence: u64,
    record: String,
    at: String,
    actor: String,
    what: String,
    host: Option<String>,
    run: Option<String>,
    details: BTreeMap<String, String>,
}

impl RecordJson {
    fn of(read: ReadRecord) -> Self {
        let actor = actor_of(&read.record).to_string();
        Self {
            sequence: read.record.sequence,
            record: read.id.to_string(),
            at: utc(from_nanos(read.record.at_nanos)),
            actor,
            what: read.record.what,
            host: read.record.host,
            run: read.record.run.map(|run| run.to_string()),
            details: read.record.details.into_iter().collect(),
        }
    }
}

/// `audit log`.
pub fn audit_log(
    args: &AuditLogArgs,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> Result<ExitCode, AuditLogCommandError> {
    let zone = TimeZone::system();
    let since = args.since.map(|since| since.at(SystemClock.now(), &zone));
    let mut shown = Vec::new();
    let is_meant = |read: &ReadRecord| {
        let record = &read.record;
        since.is_none_or(|since| from_nanos(record.at_nanos) >= since)
            && (args.host.is_none() || args.host == record.host)
            && args.what.as_ref().is_none_or(|what| *what == record.what)
    };
    let dir = StateDir::new(&config.state_dir).audit_dir();
    let read = AuditReader::new(&dir, 0).read(|read| {
        if is_meant(&read) {
            shown.push(read);
        }
    });
    if json {
        let records: Vec<RecordJson> = shown.into_iter().map(RecordJson::of).collect();
        write_json(out, &records)?;
    } else {
        for read in &shown {
            write_line(read, &zone, out)?;
        }
    }
    // What could be read is shown all the same.
    read?;
    Ok(ExitCode::Ok)
}

fn write_line(read: &ReadRecord, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    let record = &read.record;
    let line = format!(
        "{} {} {} {}{}",
        local(from_nanos(record.at_nanos), zone),
        printable(actor_of(record).to_string().as_bytes()),
        record.host.as_deref().unwrap_or("-"),
        record.what,
        record
            .run
            .map(|run| format!(" run={}", run.short()))
            .unwrap_or_default(),
    );
    writeln!(
        out,
        "{}",
        visible(format!("{line} {}", Details(record)).trim_end())
    )
}

/// What `audit verify --json` prints.
#[derive(Debug, Serialize)]
struct VerifyJson {
    whole: bool,
    files: u64,
    records: u64,
    first: Option<u64>,
    last: Option<u64>,
    head: Option<String>,
    torn_bytes: u64,
    problems: Vec<String>,
}

/// `audit verify`.
pub fn audit_verify(
    args: &AuditVerifyArgs,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> Result<ExitCode, AuditLogCommandError> {
    let dir = StateDir::new(&config.state_dir).audit_dir();
    let found = verify(&dir, &args.witness)?;
    match json {
        true => write_json(out, &verify_json(&found))?,
        false => write_verified(&found, out)?,
    }
    Ok(match found.problems.is_empty() {
        true => ExitCode::Ok,
        false => ExitCode::Integrity,
    })
}

fn verify_json(found: &Verified) -> VerifyJson {
    VerifyJson {
        whole: found.problems.is_empty(),
        files: found.files,
        records: found.records,
        first: found.first,
        last: found.last.map(|head| head.sequence),
        head: found.last.map(|head| head.id.to_string()),
        torn_bytes: found.torn_bytes,
        problems: found.problems.iter().map(ToString::to_string).collect(),
    }
}

fn write_verified(found: &Verified, out: &mut dyn Write) -> io::Result<()> {
    for problem in &found.problems {
        writeln!(out, "{}", visible(&problem.to_string()))?;
    }
    if found.torn_bytes > 0 {
        writeln!(
            out,
            "{} bytes of a record that was never finished; the next record replaces them",
            count_text(found.torn_bytes)
        )?;
    }
    let Some(last) = found.last else {
        return writeln!(out, "there is no audit record");
    };
    writeln!(
        out,
        "{} records in {} files{}; the last one is {}:{}",
        count_text(found.records),
        count_text(found.files),
        match found.problems.is_empty() {
            true => ", all as they were written",
            false => " can be read",
        },
        last.sequence,
        last.id
    )
}
