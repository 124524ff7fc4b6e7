//! `status`: one line for each host, and what the daemon is at. Opens no key and no repository.

use std::io::{self, Write};

use append_server::fan_out::queue::QUEUE_FILE;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::catalog::state::State;
use crate::cli::daemon::StatusArgs;
use crate::clock::{Clock, local, utc};
use crate::commands::hosts_meant::hosts_meant;
use crate::commands::on_storage::CommandError;
use crate::config::Config;
use crate::config::coordinator_file::AppendServer;
use crate::config::revision::ConfigRevision;
use crate::daemon::client::live;
use crate::daemon::protocol::Live;
use crate::exit_code::ExitCode;
use crate::repository::layout::StateDir;
use crate::status::behind::{Behind, ask_soon, read_queue};
use crate::status::json::{DestinationJson, HostStatusJson};
use crate::status::{Freshness, HostStatus, fleet_status, host_status};
use crate::storage::StorageClient;
use crate::terminal::{Align, count_text, error_line, size_text, visible, write_json, write_table};

/// What `status --json` prints.
#[derive(Debug, Serialize)]
struct StatusJson {
    time: String,
    /// The revision of the configuration as the files are now.
    revision: String,
    /// What the daemon is at; null where none runs.
    daemon: Option<Live>,
    hosts: Vec<HostStatusJson>,
    /// How far destinations are behind; null when nobody can say.
    destinations: Option<Vec<DestinationJson>>,
}

/// `status [HOST]…`.
pub async fn status_command(
    args: &StatusArgs,
    config: &Config,
    clock: &dyn Clock,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, CommandError> {
    let now = clock.now();
    let state_dir = StateDir::new(&config.state_dir);
    let state = State::open(&state_dir.state_file())?;
    let hosts = match args.hosts.is_empty() {
        true => fleet_status(&state, config, now)?,
        false => hosts_meant(&args.hosts, config)?
            .into_iter()
            .map(|host| host_status(&state, &state_dir, host, now))
            .collect::<Result<_, _>>()?,
    };
    let (mut daemon, is_silent) = match live(&state_dir.daemon_socket()).await {
        Ok(live) => (live, false),
        // What is known without it is shown all the same.
        Err(error) => {
            tracing::warn!(
                error = error_line(&error),
                "the daemon does not say what it is at"
            );
            (None, true)
        }
    };
    let told = daemon
        .as_mut()
        .map(|live| (live.destinations.take(), live.behind.take()));
    let (destinations, behind) = match told {
        Some((Some(destinations), behind)) => (Some(destinations), behind),
        _ => asked_destinations(config, &state).await,
    };
    let behind = HostsBehind { config, behind };
    let bad = hosts.iter().any(|host| host.freshness != Freshness::Ok);
    if json {
        let value = StatusJson {
            time: utc(now),
            revision: ConfigRevision::of(config).full(),
            daemon,
            hosts: hosts
                .iter()
                .map(|host| HostStatusJson::of(host, now).with_behind(behind.of(&host.host)))
                .collect(),
            destinations,
        };
        write_json(out, &value)?;
    } else {
        let shown: Vec<_> = hosts
            .iter()
            .map(|host| (host, behind.text(&host.host)))
            .collect();
        write_hosts(&shown, now, out)?;
        match &daemon {
            Some(live) => write_daemon(live, out)?,
            None if is_silent => writeln!(out, "a daemon runs and does not answer")?,
            None => writeln!(out, "no daemon runs")?,
        }
        write_destinations(destinations.as_deref().unwrap_or_default(), out)?;
        if daemon.is_some_and(|live| live.revision != ConfigRevision::of(config).full()) {
            writeln!(
                out,
                "the configuration has changed since: `coordinator reload`"
            )?;
        }
    }
    Ok(match args.check && bad {
        true => ExitCode::Error,
        false => ExitCode::Ok,
    })
}

/// An append-server of its own can be asked without a daemon; without either, the queue says what is still to be brought.
async fn asked_destinations(
    config: &Config,
    state: &State,
) -> (Option<Vec<DestinationJson>>, Option<Vec<Behind>>) {
    let AppendServer::External { socket_dir } = &config.append_server else {
        let known = state.repositories().unwrap_or_default();
        let queue = config.state_dir.join(QUEUE_FILE);
        return read_queue(&queue, &config.destinations, &known).unzip();
    };
    let client = StorageClient::new(&socket_dir.join("control"));
    ask_soon(&client, state.repositories().ok()).await
}

/// What destinations lack of hosts' repositories; nothing when nobody can say.
struct HostsBehind<'a> {
    config: &'a Config,
    behind: Option<Vec<Behind>>,
}

impl HostsBehind<'_> {
    fn of(&self, host: &str) -> Option<Vec<DestinationJson>> {
        let repository = self.config.host(host).ok()?.repository.as_str();
        let of_host = self.behind.as_ref()?.iter();
        let of_host = of_host.filter(|behind| behind.repository == repository);
        Some(of_host.map(|behind| behind.lag.clone()).collect())
    }

    /// `nas 1.2 GiB`, or `nas not filled`, for each destination that lacks something; `?` when nobody can say which do.
    fn text(&self, host: &str) -> String {
        match self.of(host) {
            // A single destination has all that there is.
            None if self.config.destinations.len() < 2 => String::new(),
            None => "?".to_owned(),
            Some(lags) => {
                let lags = lags.iter();
                let lags = lags.map(|lag| match lag.not_filled {
                    true => format!("{} not filled", lag.destination),
                    false => format!("{} {}", lag.destination, size_text(lag.bytes_behind)),
                });
                lags.collect::<Vec<_>>().join(", ")
            }
        }
    }
}

const COLUMNS: [(&str, Align); 10] = [
    ("host", Align::Left),
    ("", Align::Left),
    ("last good", Align::Left),
    ("age", Align::Right),
    ("size", Align::Right),
    ("new", Align::Right),
    ("last run", Align::Left),
    ("next", Align::Left),
    ("behind", Align::Left),
    ("holds", Align::Left),
];

fn write_hosts(
    hosts: &[(&HostStatus, String)],
    now: Timestamp,
    out: &mut dyn Write,
) -> io::Result<()> {
    let zone = TimeZone::system();
    let rows: Vec<Vec<String>> = hosts
        .iter()
        .map(|(host, behind)| row(host, behind, now, &zone))
        .collect();
    write_table(out, &COLUMNS, &rows)?;
    for (host, _) in hosts {
        if let Some(error) = host.last_run.as_ref().and_then(|run| run.error.as_ref()) {
            writeln!(out, "{}: {}", host.host, visible(error))?;
        }
    }
    Ok(())
}

fn write_destinations(destinations: &[DestinationJson], out: &mut dyn Write) -> io::Result<()> {
    for lag in destinations {
        if lag.objects_behind > 0 || lag.problem.is_some() {
            let problem = lag.problem.as_deref().map(visible).unwrap_or_default();
            writeln!(
                out,
                "destination {}: {} objects, {} behind {problem}",
                lag.destination,
                count_text(lag.objects_behind),
                size_text(lag.bytes_behind)
            )?;
        }
    }
    Ok(())
}

fn row(status: &HostStatus, behind: &str, now: Timestamp, zone: &TimeZone) -> Vec<String> {
    let good = status.last_good.as_ref();
    let size = |bytes: Option<u64>| bytes.map(size_text).unwrap_or_default();
    let last_run = match (&status.last_run, status.running_since) {
        (_, Some(_)) => "running".to_owned(),
        (Some(run), None) => run.outcome.to_string(),
        (None, None) => String::new(),
    };
    let holds: Vec<&str> = status.holds.iter().map(|hold| hold.kind.as_str()).collect();
    vec![
        status.host.clone(),
        status.freshness.as_str().to_owned(),
        good.map(|good| local(good.at, zone)).unwrap_or_default(),
        status.age(now).map(age_text).unwrap_or_default(),
        size(good.map(|good| good.totals.bytes)),
        size(good.map(|good| good.totals.bytes_new)),
        last_run,
        status
            .next_run
            .map(|at| local(at, zone))
            .unwrap_or_default(),
        behind.to_owned(),
        holds.join(","),
    ]
}

/// An age for people: `40s`, `12m`, `26h`, `9d`.
pub fn age_text(age: SignedDuration) -> String {
    match age.as_secs() {
        secs @ ..120 => format!("{secs}s"),
        secs @ 120..7_200 => format!("{}m", secs / 60),
        secs @ 7_200..172_800 => format!("{}h", secs / 3_600),
        secs => format!("{}d", secs / 86_400),
    }
}

fn write_daemon(live: &Live, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "daemon {} since {}, configuration {}",
        live.pid,
        live.since,
        short(&live.revision)
    )?;
    for run in &live.running {
        writeln!(
            out,
            "  {}: {}, {} entries, {} read, {} new",
            run.host,
            run.step,
            count_text(run.entries),
            size_text(run.bytes_read),
            size_text(run.new_bytes)
        )?;
    }
    if !live.waiting.is_empty() {
        writeln!(out, "  waiting for their turn: {}", live.waiting.join(" "))?;
    }
    for trouble in &live.troubles {
        let problem = visible(&trouble.problem);
        writeln!(out, "  {} does not work: {problem}", visible(&trouble.what))?;
    }
    if let Some(refused) = &live.refused {
        writeln!(
            out,
            "  the configuration that is there is not in force: {}",
            visible(refused)
        )?;
    }
    Ok(())
}

/// The first digits of a revision, as other commands show them.
fn short(revision: &str) -> String {
    revision.chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::age_text;

    #[test]
    fn ages_are_short_and_never_rounded_up() {
        for (secs, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_199, "119m"),
            (7_200, "2h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (864_000, "10d"),
        ] {
            assert_eq!(age_text(SignedDuration::from_secs(secs)), text);
        }
    }
}
