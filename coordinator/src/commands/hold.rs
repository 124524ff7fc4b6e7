//! `hold`: lists hosts on hold, puts a host on hold, ends that. What a hold does is in `retention::holds`.

use std::collections::BTreeSet;
use std::io::{self, Write};

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::catalog::state::State;
use crate::catalog::state::holds::{Hold, HoldKind};
use crate::cli::hold::{HoldAddArgs, HoldCommand, HoldLsArgs, HoldReleaseArgs};
use crate::clock::{local, utc};
use crate::commands::hosts_meant::{hosts_meant, is_pattern};
use crate::commands::on_storage::{CommandError, open_coordinator};
use crate::config::Config;
use crate::config::exclude::compile;
use crate::database::DatabaseError;
use crate::exit_code::ExitCode;
use crate::repository::layout::StateDir;
use crate::retention::holds::{hold, hold_text, release};
use crate::terminal::{Align, write_json, write_table};

/// A command on holds failed.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The coordinator, or no such host.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The state file.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// Nothing to end.
    #[error("host {host} is not on hold")]
    NotHeld {
        /// The host.
        host: String,
    },
    /// No such hold.
    #[error("host {host} has no hold {number}: `coordinator hold ls {host}` lists them")]
    NoSuchHold {
        /// The host.
        host: String,
        /// What was asked for.
        number: u64,
    },
    /// Which one is not said.
    #[error(
        "host {host} has {count} holds: say which by its number, from `coordinator hold ls {host}`"
    )]
    Several {
        /// The host.
        host: String,
        /// How many.
        count: usize,
    },
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl HoldError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Command(error) => error.exit_code(),
            Self::NotHeld { .. } | Self::NoSuchHold { .. } => ExitCode::NotFound,
            Self::Several { .. } => ExitCode::Usage,
            Self::State(_) | Self::Output(_) => ExitCode::Error,
        }
    }
}

/// `hold ls | add | release`.
pub async fn hold_command(
    command: &HoldCommand,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, HoldError> {
    match command {
        HoldCommand::Ls(args) => list(args, &config, json, out),
        HoldCommand::Add(args) => add(args, config, json, out).await,
        HoldCommand::Release(args) => end(args, config, json, out).await,
    }
}

/// One element of what `hold ls --json` prints.
#[derive(Debug, Serialize)]
struct HoldJson {
    number: u64,
    host: String,
    kind: &'static str,
    reason: String,
    by: String,
    since: String,
    run: Option<String>,
    released: Option<String>,
    released_by: Option<String>,
}

impl HoldJson {
    fn of(hold: &Hold) -> Self {
        let released = hold.released.as_ref();
        Self {
            number: hold.number,
            host: hold.host.clone(),
            kind: hold.kind.as_str(),
            reason: hold.reason.clone(),
            by: hold.by.clone(),
            since: utc(hold.since),
            run: hold.run.map(|run| run.to_string()),
            released: released.map(|(at, _)| utc(*at)),
            released_by: released.map(|(_, by)| by.clone()),
        }
    }
}

/// Needs neither keys nor storage: what is on hold must be seen when those are away.
fn list(
    args: &HoldLsArgs,
    config: &Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, HoldError> {
    let state = State::open(&StateDir::new(&config.state_dir).state_file())?;
    let host = args.host.as_deref();
    let holds = match args.all {
        true => state.holds_ever(host)?,
        false => state.holds(host)?,
    };
    if json {
        let holds: Vec<HoldJson> = holds.iter().map(HoldJson::of).collect();
        write_json(out, &holds)?;
        return Ok(ExitCode::Ok);
    }
    let zone = TimeZone::system();
    let columns = [
        ("number", Align::Right),
        ("host", Align::Left),
        ("kind", Align::Left),
        ("since", Align::Left),
        ("by", Align::Left),
        ("ended", Align::Left),
        ("reason", Align::Left),
    ];
    let ended = |hold: &Hold| match &hold.released {
        Some((at, by)) => format!("{} by {by}", local(*at, &zone)),
        None => "no".to_owned(),
    };
    let rows: Vec<Vec<String>> = holds
        .iter()
        .map(|hold| {
            vec![
                hold.number.to_string(),
                hold.host.clone(),
                hold.kind.to_string(),
                local(hold.since, &zone),
                hold.by.clone(),
                ended(hold),
                hold.reason.clone(),
            ]
        })
        .collect();
    write_table(out, &columns, &rows)?;
    Ok(ExitCode::Ok)
}

async fn add(
    args: &HoldAddArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, HoldError> {
    let host = config.host(&args.host).map_err(CommandError::from)?;
    let host = host.name.to_string();
    let coordinator = open_coordinator(config, None).await?;
    let added = hold(&coordinator, &host, args.kind.kind(), &args.reason, None).await?;
    if let Some(hold) = &added {
        tell(hold, json, "nothing of it is dropped from now on", out)?;
    }
    coordinator.close().await;
    Ok(ExitCode::Ok)
}

async fn end(
    args: &HoldReleaseArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, HoldError> {
    // Of a tag, hosts.toml says whose it is.
    let tagged: BTreeSet<String> = match args.host.starts_with('@') {
        true => {
            let hosts = hosts_meant(std::slice::from_ref(&args.host), &config)?;
            hosts.iter().map(|host| host.name.to_string()).collect()
        }
        false => BTreeSet::new(),
    };
    let are_several = is_pattern(&args.host);
    let coordinator = open_coordinator(config, None).await?;
    let mut holds = coordinator.state.lock().await.holds(None)?;
    if are_several {
        // What the law wants kept is ended host by host.
        holds.retain(|hold| hold.kind != HoldKind::Legal);
    }
    let meant = match are_several {
        true => each_of(&holds, &tagged, args)?,
        false => vec![which(&holds, &args.host, args.number)?],
    };
    let mut released = Vec::new();
    for hold in meant {
        released.extend(release(&coordinator, hold.number).await?);
    }
    if json && are_several {
        let released: Vec<HoldJson> = released.iter().map(HoldJson::of).collect();
        write_json(out, &released)?;
    } else {
        for hold in &released {
            let after = match hold.kind {
                HoldKind::Identity => {
                    "ended; the machine that is known stays the one that is let in"
                }
                _ => "ended; the keep rules hold again",
            };
            tell(hold, json, after, out)?;
        }
    }
    coordinator.close().await;
    Ok(ExitCode::Ok)
}

/// The hold on a host that is meant; without a number, the only one.
fn which<'a>(holds: &'a [Hold], host: &str, number: Option<u64>) -> Result<&'a Hold, HoldError> {
    let host = host.to_owned();
    let holds: Vec<&Hold> = holds.iter().filter(|hold| hold.host == host).collect();
    match (number, holds.as_slice()) {
        (_, []) => Err(HoldError::NotHeld { host }),
        (None, [only]) => Ok(only),
        (None, several) => Err(HoldError::Several {
            host,
            count: several.len(),
        }),
        (Some(number), holds) => {
            let found = holds.iter().find(|hold| hold.number == number);
            found.copied().ok_or(HoldError::NoSuchHold { host, number })
        }
    }
}

/// The only hold of each host that is meant: one of those with the tag, or any that the glob matches, in hosts.toml or not. Before
/// any of them ends, each is known to be clear.
fn each_of<'a>(
    holds: &'a [Hold],
    tagged: &BTreeSet<String>,
    args: &HoldReleaseArgs,
) -> Result<Vec<&'a Hold>, HoldError> {
    let glob = compile(&args.host).map_err(|source| CommandError::BadGlob {
        glob: args.host.clone(),
        source,
    })?;
    let glob = glob.compile_matcher();
    let held: BTreeSet<&String> = holds.iter().map(|hold| &hold.host).collect();
    let meant = |host: &&String| tagged.contains(*host) || glob.is_match(host.as_str());
    let held: Vec<&String> = held.into_iter().filter(meant).collect();
    if held.is_empty() {
        let host = args.host.clone();
        return Err(HoldError::NotHeld { host });
    }
    let meant = held.into_iter().map(|host| which(holds, host, args.number));
    meant.collect()
}

fn tell(
    hold: &Hold,
    json: bool,
    after: &str,
    out: &mut (dyn Write + Send),
) -> Result<(), HoldError> {
    match json {
        true => write_json(out, &HoldJson::of(hold))?,
        false => writeln!(
            out,
            "hold {} on {} ({}): {after}",
            hold.number,
            hold.host,
            hold_text(hold, &TimeZone::system())
        )?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{HoldError, each_of, which};
    use crate::catalog::state::holds::{Hold, HoldKind};
    use crate::cli::hold::HoldReleaseArgs;

    fn hold(number: u64) -> Hold {
        Hold {
            number,
            host: "web1".to_owned(),
            kind: HoldKind::Manual,
            reason: String::new(),
            by: "user:root(0)".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            run: None,
            released: None,
        }
    }

    #[test]
    fn a_glob_means_every_host_that_is_held_and_each_must_be_clear() {
        let of = |number, host: &str| Hold {
            host: host.to_owned(),
            ..hold(number)
        };
        let args = |host: &str| HoldReleaseArgs {
            host: host.to_owned(),
            number: None,
        };
        let holds = [of(1, "web1"), of(2, "web2"), of(3, "db1"), of(4, "db1")];
        let numbers = |glob: &str, tagged: &[&str]| {
            let tagged = tagged.iter().map(|host| (*host).to_owned()).collect();
            let meant = each_of(&holds, &tagged, &args(glob))?;
            Ok::<_, HoldError>(meant.iter().map(|hold| hold.number).collect::<Vec<_>>())
        };
        assert_eq!(numbers("web*", &[]).ok(), Some(vec![1, 2]));
        assert_eq!(numbers("@prod", &["web2", "mail"]).ok(), Some(vec![2]));
        assert!(matches!(
            numbers("*", &[]),
            Err(HoldError::Several { count: 2, .. })
        ));
        assert!(matches!(numbers("x*", &[]), Err(HoldError::NotHeld { .. })));
    }

    #[test]
    fn a_hold_among_several_is_named_by_its_number() {
        let one = [hold(4)];
        let two = [hold(4), hold(9)];
        assert!(matches!(
            which(&[], "web1", None),
            Err(HoldError::NotHeld { .. })
        ));
        assert_eq!(
            which(&one, "web1", None).map(|hold| hold.number).ok(),
            Some(4)
        );
        assert!(matches!(
            which(&two, "web1", None),
            Err(HoldError::Several { count: 2, .. })
        ));
        assert_eq!(
            which(&two, "web1", Some(9)).map(|hold| hold.number).ok(),
            Some(9)
        );
        assert!(matches!(
            which(&two, "web1", Some(5)),
            Err(HoldError::NoSuchHold { number: 5, .. })
        ));
    }
}
