//! `destination ls`, `create`, `test` and `sync`: how destinations are doing, making one, trying one out, and filling one
//! that came later.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use append_server::claimed_dir::{ClaimError, ClaimedDir};
use append_server::examination::{Finding, Verdict, examine};
use append_server::io_faults::IoFaults;
use append_server::limits::SPOOL_BYTES_DEFAULT;
use append_server::places::Place;
use append_server::spool::{Spool, SpoolError, SpoolOptions};
use formats::ids::RepositoryId;
use formats::wire::upload::destinations::{ConditionalWrites, DestinationState, Placed};
use formats::wire::upload::repairs::Queued;
use jiff::{Timestamp, ToSpan as _};
use serde::Serialize;

use crate::cli::destination::{DestinationCreateArgs, DestinationSyncArgs, DestinationTestArgs};
use crate::clock::{SystemClock, utc};
use crate::commands::destination_policy::PolicyError;
use crate::commands::destination_role::{OtherCredentialsError, destination_test_role};
use crate::config::Config;
use crate::config::placing::is_kept;
use crate::coordinator::{Coordinator, OpenError, find_place};
use crate::exit_code::ExitCode;
use crate::retention::thin::tell_condemned_at;
use crate::status::hosts_backed_up;
use crate::storage::destinations::problem_of;
use crate::storage::error::StorageError;
use crate::terminal::{Align, count_text, size_text, write_json, write_table};

/// How often a destination is looked at while it is filled.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a list waits for a destination that is behind.
const LOOKS_AT_ONCE: usize = 6;

/// A command about destinations failed.
#[derive(Debug, thiserror::Error)]
pub enum DestinationCommandError {
    /// The coordinator.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The append-server.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state file.
    #[error(transparent)]
    State(#[from] crate::database::DatabaseError),
    /// The destination itself.
    #[error(transparent)]
    Destination(#[from] append_server::places::OpenError),
    /// A place for what is tried out.
    #[error("could not make a place for the trial's objects")]
    Place(#[from] ClaimError),
    /// A place for what is tried out.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Its rights cannot be printed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Other credentials cannot be tried.
    #[error(transparent)]
    Credentials(#[from] OtherCredentialsError),
    /// The destination takes nothing.
    #[error(
        "destination {name} still lacks {objects} objects: {problem}; what is left goes on by itself"
    )]
    Behind {
        /// Which.
        name: String,
        /// What it lacks.
        objects: u64,
        /// Why.
        problem: String,
    },
    /// Something that it may lack is where nobody could ask.
    #[error(
        "destination {name} has what could be found, and is not filled: another destination did not say what it has; sync it again when \
         every one answers (`coordinator destination ls`)"
    )]
    NotFilled {
        /// Which.
        name: String,
    },
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl DestinationCommandError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Open(error) => error.exit_code(),
            _ => ExitCode::Error,
        }
    }
}

/// One destination; also one element of what `destination ls --json` prints.
#[derive(Debug, Serialize)]
struct DestinationLine {
    name: String,
    url: String,
    required: bool,
    /// Hosts that are not kept there.
    not_kept: Vec<String>,
    objects_behind: u64,
    bytes_behind: u64,
    behind_since: Option<String>,
    /// Nothing for a kind of destination that has none.
    conditional_writes: Option<&'static str>,
    conditional_writes_found: Option<String>,
    problem: Option<String>,
}

/// Seconds since 1970 as they are printed.
fn time_text(unix_secs: u64) -> Option<String> {
    let secs = i64::try_from(unix_secs).ok()?;
    let time = Timestamp::UNIX_EPOCH.checked_add(secs.seconds()).ok()?;
    Some(utc(time))
}

/// What is known of conditional writes, and since when.
fn conditional_writes(known: ConditionalWrites) -> (Option<&'static str>, Option<String>) {
    match known {
        ConditionalWrites::NoneNeeded => (None, None),
        ConditionalWrites::NotTried => (Some("not tried"), None),
        ConditionalWrites::Off => (Some("off"), None),
        ConditionalWrites::Tried {
            found,
            at_unix_secs,
        } => (Some(found.word()), time_text(at_unix_secs)),
    }
}

impl DestinationLine {
    fn of(state: DestinationState, config: &Config) -> Self {
        let mut places = config.destinations.iter();
        let place = places.find(|place| place.name.to_string() == state.name);
        let (writes, writes_found) = conditional_writes(state.conditional_writes);
        let problem = problem_of(&state);
        Self {
            url: place.map_or_else(String::new, |place| place.url.clone()),
            not_kept: place.map_or_else(Vec::new, |place| not_kept(place, config)),
            name: state.name,
            required: state.required,
            objects_behind: state.objects_behind,
            bytes_behind: state.bytes_behind,
            behind_since: state.oldest_unix_secs.and_then(time_text),
            conditional_writes: writes,
            conditional_writes_found: writes_found,
            problem,
        }
    }

    fn row(&self) -> Vec<String> {
        let required = if self.required { "required" } else { "follows" };
        vec![
            self.name.clone(),
            self.url.clone(),
            required.to_owned(),
            match self.not_kept.len() {
                0 => "-".to_owned(),
                hosts => format!("{hosts} hosts"),
            },
            count_text(self.objects_behind),
            size_text(self.bytes_behind),
            self.behind_since.clone().unwrap_or_else(|| "-".to_owned()),
            self.conditional_writes.unwrap_or("-").to_owned(),
            self.problem.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

fn not_kept(place: &Place, config: &Config) -> Vec<String> {
    let hosts = hosts_backed_up(config).filter(|host| !is_kept(place, host));
    hosts.map(|host| host.name.to_string()).collect()
}

/// `destination ls`.
pub async fn destination_ls(
    config: Config,
    json: bool,
    out: &mut impl Write,
) -> Result<ExitCode, DestinationCommandError> {
    let coordinator = Coordinator::open(config, Arc::new(SystemClock)).await?;
    let states = settled(&coordinator).await?;
    let config = &coordinator.config;
    let lines: Vec<_> = states
        .into_iter()
        .map(|state| DestinationLine::of(state, config))
        .collect();
    if json {
        write_json(out, &lines)?;
    } else {
        let head = [
            "name",
            "url",
            "role",
            "not kept",
            "behind",
            "bytes",
            "since",
            "conditional writes",
            "problem",
        ];
        let aligned = [
            Align::Left,
            Align::Left,
            Align::Left,
            Align::Left,
            Align::Right,
            Align::Right,
            Align::Left,
            Align::Left,
            Align::Left,
        ];
        let columns: Vec<_> = head.into_iter().zip(aligned).collect();
        let rows: Vec<_> = lines.iter().map(DestinationLine::row).collect();
        write_table(out, &columns, &rows)?;
    }
    coordinator.close().await;
    Ok(ExitCode::Ok)
}

/// How destinations are doing once each that is behind has had the time to say why, or to take something.
async fn settled(coordinator: &Coordinator) -> Result<Vec<DestinationState>, StorageError> {
    let mut states = coordinator.storage.destinations().await?;
    for _ in 0..LOOKS_AT_ONCE {
        let unclear =
            |state: &DestinationState| state.objects_behind > 0 && state.problem.is_none();
        if !states.iter().any(unclear) {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        states = coordinator.storage.destinations().await?;
    }
    Ok(states)
}

/// `destination create NAME`.
pub async fn destination_create(
    args: &DestinationCreateArgs,
    config: &Config,
    out: &mut impl Write,
) -> Result<ExitCode, DestinationCommandError> {
    let place = find_place(&config.destinations, &args.name)?;
    let what = if place.create().await? {
        "is ready"
    } else {
        "is a new, empty destination"
    };
    writeln!(out, "{} ({}) {what}", place.name, place.url)?;
    Ok(ExitCode::Ok)
}

/// One thing that was tried; also one element of what `destination test --json` prints.
#[derive(Debug, Serialize)]
struct TestLine {
    tried: &'static str,
    verdict: &'static str,
    found: String,
}

impl TestLine {
    fn of(finding: Finding) -> Self {
        Self {
            tried: finding.what,
            verdict: verdict_word(finding.verdict),
            found: finding.found,
        }
    }
}

/// A verdict as it is printed.
pub(super) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Warning => "warning",
        Verdict::Bad => "bad",
    }
}

/// `destination test NAME`.
pub async fn destination_test(
    args: &DestinationTestArgs,
    config: &Config,
    json: bool,
    out: &mut impl Write,
) -> Result<ExitCode, DestinationCommandError> {
    if let Some(role) = args.role {
        return destination_test_role(args, role.role(), config, json, out).await;
    }
    let place = find_place(&config.destinations, &args.name)?;
    let destination = place.open()?;
    let directory = ClaimedDir::claim(&config.state_dir, "test-")?;
    let options = SpoolOptions {
        dir: directory.path().join("spool"),
        bytes_max: SPOOL_BYTES_DEFAULT,
        reserve_bytes: 0,
    };
    let spool = Spool::open(&options, IoFaults::none())?;
    let findings = examine(&destination, &spool).await;
    let worst = findings.iter().map(|finding| finding.verdict).max();
    let lines: Vec<_> = findings.into_iter().map(TestLine::of).collect();
    if json {
        write_json(out, &lines)?;
    } else {
        let columns = ["tried", "verdict", "found"].map(|head| (head, Align::Left));
        let rows: Vec<_> = lines
            .iter()
            .map(|line| {
                vec![
                    line.tried.to_owned(),
                    line.verdict.to_owned(),
                    line.found.clone(),
                ]
            })
            .collect();
        write_table(out, &columns, &rows)?;
    }
    Ok(match worst {
        Some(Verdict::Good | Verdict::Warning) => ExitCode::Ok,
        Some(Verdict::Bad) | None => ExitCode::Error,
    })
}

/// What `destination sync --json` prints.
#[derive(Debug, Serialize)]
struct SyncReport {
    destination: String,
    objects: u64,
    bytes: u64,
    /// Repositories that are not kept there.
    not_kept: u64,
}

/// `destination sync NAME`.
pub async fn destination_sync(
    args: &DestinationSyncArgs,
    config: Config,
    json: bool,
    out: &mut impl Write,
) -> Result<ExitCode, DestinationCommandError> {
    let coordinator = Coordinator::open(config, Arc::new(SystemClock)).await?;
    find_place(&coordinator.config.destinations, &args.name)?;
    let repositories = coordinator.state.lock().await.repositories()?;
    let mut queued = Queued::default();
    let mut not_kept = 0;
    for repository in repositories {
        let repository_name = repository.name;
        let repository = repository.repository;
        if is_left_out(&coordinator, &args.name, repository).await? {
            not_kept += 1;
            continue;
        }
        tell_thinned(&coordinator, &args.name, &repository_name).await;
        let syncing = coordinator.storage.sync_destination(&args.name, repository);
        let more = syncing.await?;
        queued.objects += more.objects;
        queued.bytes += more.bytes;
    }
    wait(&coordinator, &args.name).await?;
    let report = SyncReport {
        destination: args.name.clone(),
        objects: queued.objects,
        bytes: queued.bytes,
        not_kept,
    };
    if json {
        write_json(out, &report)?;
    } else {
        writeln!(
            out,
            "{} has everything; it lacked {} objects ({})",
            report.destination,
            count_text(report.objects),
            size_text(report.bytes)
        )?;
        if not_kept > 0 {
            writeln!(
                out,
                "{} repositories are not kept there",
                count_text(not_kept)
            )?;
        }
    }
    coordinator.close().await;
    Ok(ExitCode::Ok)
}

/// An append-server whose list of removals is lost does not know what the destination does not keep, and would bring it there.
/// That does no harm, and the next prune removes it again.
async fn tell_thinned(coordinator: &Coordinator, name: &str, repository: &str) {
    let told = async {
        let opened = coordinator.open_named(repository).await?;
        tell_condemned_at(coordinator, &opened, |row| row.destination == name).await
    };
    if let Err(error) = told.await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "what the destination does not keep may be brought there"
        );
    }
}

async fn is_left_out(
    coordinator: &Coordinator,
    name: &str,
    repository: RepositoryId,
) -> Result<bool, StorageError> {
    let states = coordinator.storage.destinations_of(repository).await?;
    let mut named = states.iter().filter(|state| state.name == name);
    Ok(named.any(|state| state.placed == Placed::LeftOut))
}

/// Waits until a destination has everything, or takes nothing any more.
async fn wait(coordinator: &Coordinator, name: &str) -> Result<(), DestinationCommandError> {
    let mut last_told = coordinator.clock.now();
    loop {
        let states = coordinator.storage.destinations().await?;
        let Some(state) = states.into_iter().find(|state| state.name == name) else {
            return Ok(());
        };
        if state.objects_behind == 0 {
            return match state.placed {
                Placed::Unfilled => Err(DestinationCommandError::NotFilled { name: state.name }),
                Placed::Kept | Placed::LeftOut => Ok(()),
            };
        }
        if let Some(problem) = state.problem {
            return Err(DestinationCommandError::Behind {
                name: state.name,
                objects: state.objects_behind,
                problem,
            });
        }
        let now = coordinator.clock.now();
        if now.duration_since(last_told).as_secs() >= 10 {
            tracing::info!(
                destination = name,
                objects = state.objects_behind,
                bytes = state.bytes_behind,
                "still to be delivered"
            );
            last_told = now;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
