//! Arguments of `audit`.

use std::path::PathBuf;

use append_server::quantity::Span;
use clap::{Args, Subcommand};
use formats::audit::AuditHead;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// `audit …`.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// Print where every log ends, for a witness outside of this machine
    #[command(after_help = "\
One line for each repository: its id, the number and the id of its last record, when
that was committed, and its name. A record's id stands for all records before it, so
whoever keeps these lines elsewhere can tell later whether history was changed, also
by the coordinator itself.

Example:
  coordinator audit head | mail -s heads witness@example.com")]
    Head,
    /// Check that history still has what `audit head` printed at some time
    #[command(after_help = "\
Exit codes: 0 every line still holds, 15 one does not.

Example:
  coordinator audit check heads.txt")]
    Check(AuditCheckArgs),
    /// Show who did what at this coordinator
    #[command(after_help = "\
The audit log has every run, prune, restore, hold, pin, change of keys and tokens,
and who asked for it. It is in the state directory, apart from the backups.

Exit codes: 0 all of it was read, 15 it is damaged.

Examples:
  coordinator audit log --since 7d
  coordinator audit log --host web1 --what run-ended --json")]
    Log(AuditLogArgs),
    /// Check that the audit log is whole and was not changed
    #[command(after_help = "\
Each record names the one before by its digest, so that a change or a gap shows. Whoever
can write the state directory can write all of it anew: that shows only against a head
that was kept elsewhere, as the daily digest has it.

Exit codes: 0 it is whole, 15 it is not; the first bad record is named.

Example:
  coordinator audit verify --witness 4711:5d5b09f6...")]
    Verify(AuditVerifyArgs),
    /// Accept log records that this coordinator did not write, so that it may write again
    #[command(after_help = "\
A coordinator that was restored from an old copy of itself finds records in the log
that it knows nothing of, and refuses to back up to that repository: another one may
still be writing. When that is settled, this accepts what is there.

Example:
  coordinator audit reconcile web1")]
    Reconcile(AuditReconcileArgs),
}

/// `audit check`.
#[derive(Debug, Clone, Args)]
pub struct AuditCheckArgs {
    /// Lines of `audit head`; - for standard input
    pub file: PathBuf,
}

/// `audit log`.
#[derive(Debug, Clone, Args)]
pub struct AuditLogArgs {
    /// Only what happened since a time, a day or so long ago: 7d, 2026-11-20, 2026-11-20T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub since: Option<Since>,
    /// Only what is about this host
    #[arg(long)]
    pub host: Option<String>,
    /// Only this kind of events, such as run-ended
    #[arg(long, value_name = "WORD")]
    pub what: Option<String>,
}

/// `audit verify`.
#[derive(Debug, Clone, Args)]
pub struct AuditVerifyArgs {
    /// A record that is known to be in the log: its number and its id
    #[arg(long, value_name = "NUMBER:ID", value_parser = parse_witness)]
    pub witness: Vec<AuditHead>,
}

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Span),
    /// A day, in local time.
    Day(Date),
    /// A time.
    At(Timestamp),
}

impl Since {
    /// The time it means.
    pub fn at(self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        match self {
            Self::Ago(span) => {
                let then = now.checked_sub(span.duration());
                then.unwrap_or(Timestamp::MIN)
            }
            Self::At(at) => at,
            Self::Day(day) => zone
                .to_ambiguous_zoned(day.at(0, 0, 0, 0))
                .compatible()
                .map_or(Timestamp::MIN, |zoned| zoned.timestamp()),
        }
    }
}

fn parse_since(text: &str) -> Result<Since, String> {
    let is_day = text.len() == "2026-11-20".len();
    let day = || text.parse().ok().filter(|_| is_day).map(Since::Day);
    let span = || text.parse().ok().map(Since::Ago);
    let at = || text.parse().ok().map(Since::At);
    span()
        .or_else(day)
        .or_else(at)
        .ok_or_else(|| "write 7d, 2026-11-20 or 2026-11-20T12:00:00Z".to_owned())
}

fn parse_witness(text: &str) -> Result<AuditHead, String> {
    let parsed = text.split_once(':').and_then(|(sequence, id)| {
        Some(AuditHead {
            sequence: sequence.parse().ok()?,
            id: id.parse().ok()?,
        })
    });
    parsed.ok_or_else(|| "write a record's number, a colon, and the 64 digits of its id".to_owned())
}

/// `audit reconcile`.
#[derive(Debug, Clone, Args)]
pub struct AuditReconcileArgs {
    /// The host's name in hosts.toml
    pub host: String,
}
