//! Arguments of the commands of retention: `prune`, `forget`, `undelete`, `pin`.

use append_server::quantity::{QuantityError, Span};
use clap::{Args, Subcommand};

use crate::catalog::selector::Selector;

/// `prune`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Shows for every snapshot whether it is kept and why, and what would be freed; on
a terminal it then asks, and elsewhere does nothing without --yes. Snapshots that
are not kept are forgotten at once, and can be brought back with `undelete`
within [prune] grace; then what only they needed is removed, by the next prune.

A prune refuses when it is not sure: the clock was set, a destination cannot be
listed or lost its log, something that a snapshot needs is in no pack, or far
less would be left than the last time.

Exit codes: 0 done, 1 refused or failed, 11 a run or restore is at it.

Examples:
  coordinator prune web1
  coordinator prune 'web*' --dry-run
  coordinator prune --all --yes
  coordinator prune web1 --simulate 2y --every 1d")]
pub struct PruneArgs {
    /// Names of hosts, globs such as 'web*', or @TAG
    #[arg(value_name = "HOST|GLOB|@TAG", required_unless_present = "all")]
    pub hosts: Vec<String>,
    /// Every host that has keep rules
    #[arg(long, conflicts_with = "hosts")]
    pub all: bool,
    /// Only show
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Show what the rules would keep of runs over such a time, and do nothing
    #[arg(long, value_name = "TIME", value_parser = years_or_span, conflicts_with = "yes")]
    pub simulate: Option<Span>,
    /// Of the simulation: the time from run to run
    #[arg(long, value_name = "TIME", default_value = "1d", requires = "simulate")]
    pub every: Span,
    /// Far less may be left than the last prune left
    #[arg(long)]
    pub force_shrink: bool,
    /// The clock is right, whatever the log and the last prune say
    #[arg(long)]
    pub force_clock: bool,
}

/// `2y`, or any other time.
fn years_or_span(text: &str) -> Result<Span, QuantityError> {
    match text.strip_suffix('y').map(str::parse::<u32>) {
        Some(Ok(years)) => format!("{}d", u64::from(years) * 365).parse(),
        _ => text.parse(),
    }
}

/// `forget`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The snapshot is gone from every list at once. What only it needs is removed by a
later prune, after [prune] grace; until then `undelete` brings it back. Pinned
snapshots, and the last `keep_floor` verified ones, are refused.

Example:
  coordinator forget web1 1f3a9c04")]
pub struct ForgetArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// latest, latest~2, the beginning of an id, 2026-11-20, or before:2026-11-20
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
}

/// `undelete`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Brings back snapshots that were forgotten, while what they need is still there:
for [prune] grace after the prune that condemned it.

Examples:
  coordinator undelete web1
  coordinator undelete web1 1f3a9c04")]
pub struct UndeleteArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// Only this snapshot [default: all that can be]
    #[arg(value_name = "SNAP")]
    pub snapshot: Option<Selector>,
}

/// `pin`.
#[derive(Debug, Clone, Subcommand)]
pub enum PinCommand {
    /// Keep a snapshot whatever the keep rules say
    Add(PinAddArgs),
    /// Leave it to the keep rules again
    Rm(PinRmArgs),
    /// List pinned snapshots
    Ls(PinLsArgs),
}

/// `pin add`.
#[derive(Debug, Clone, Args)]
pub struct PinAddArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// latest, latest~2, the beginning of an id, 2026-11-20, or before:2026-11-20
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
    /// Why, for people
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// `pin rm`.
#[derive(Debug, Clone, Args)]
pub struct PinRmArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// latest, latest~2, the beginning of an id, 2026-11-20, or before:2026-11-20
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
}

/// `pin ls`.
#[derive(Debug, Clone, Args)]
pub struct PinLsArgs {
    /// Only this host
    pub host: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::years_or_span;

    #[test]
    fn years_are_365_days() {
        let days = |text| years_or_span(text).map(|span| span.duration().as_secs() / 86_400);
        assert_eq!(days("2y"), Ok(730));
        assert_eq!(days("90d"), Ok(90));
        assert!(years_or_span("y").is_err());
        assert!(years_or_span("two years").is_err());
    }
}
