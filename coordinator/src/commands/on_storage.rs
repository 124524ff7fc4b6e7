//! The commands that need keys and storage: opens the coordinator for them, finds host and snapshot, and
//! gives their results to be written. Decides nothing of its own.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use append_server::destination::local_root::RootError;
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use crate::audit::alone;
use crate::catalog::selector::Selector;
use crate::catalog::{CatalogError, SnapshotRow};
use crate::cli::GlobalArgs;
use crate::cli::keys::{ExportKitArgs, VerifyKitArgs};
use crate::cli::run::RunArgs;
use crate::cli::setup::InitArgs;
use crate::cli::snapshot::SnapshotsArgs;
use crate::clock::{Clock, SystemClock};
use crate::commands::hosts_meant::is_pattern;
use crate::commands::init::report::InitReport;
use crate::commands::init::{AdminPassword, Elsewhere, InitError, InitOptions, InitPaths, init};
use crate::commands::key::{KeyCommandError, KitProof, export_kit, record_proof, verify_kit};
use crate::commands::run::choose::choose_hosts;
use crate::commands::run::here::{closed, run_hosts};
use crate::commands::run::{self, Presentation, by_daemon};
use crate::commands::snapshots::{SnapshotLine, write_snapshots};
use crate::config::error::ConfigErrors;
use crate::config::host::Host;
use crate::config::sample::{HOSTS_TOML, InitValues, coordinator_toml};
use crate::config::{Config, UnknownHost};
use crate::coordinator::{Coordinator, HostRepository, OpenError};
use crate::daemon::client::{AskError, Asked};
use crate::database::DatabaseError;
use crate::events::Event;
use crate::events::what::What;
use crate::exit_code::ExitCode;
use crate::keyring::kit::KitFacts;
use crate::keyring::password::{available_memory_kib, cost_for_memory};
use crate::keyring::unlock::UnlockFrom;
use crate::logging::Screen;
use crate::machine;
use crate::repository::layout::StateDir;
use crate::restore::error::RestoreError;
use crate::retention::holds::why_held;
use crate::safety::path_rules::PathRulesError;
use crate::storage::embedded::create_destination;

/// Why a command that needs storage failed before it did anything of its own.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No such host.
    #[error(transparent)]
    UnknownHost(#[from] UnknownHost),
    /// A key file of the host or of the coordinator.
    #[error(transparent)]
    Files(#[from] ConfigErrors),
    /// The coordinator or the host's repository.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No such snapshot.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The state file.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// Keys and kits.
    #[error(transparent)]
    Key(#[from] KeyCommandError),
    /// `init`.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The sample configuration could not be filled in.
    #[error("cannot fill in the sample configuration")]
    Sample(#[from] toml_edit::TomlError),
    /// A host that only serves others as a jump host.
    #[error("host {host} has no paths to back up: set paths in its table of {file}")]
    NoPaths {
        /// The host.
        host: String,
        /// Where it is defined.
        file: String,
    },
    /// No host has the tag.
    #[error("no host has the tag {tag:?}: `coordinator host ls` lists hosts and their tags")]
    NoSuchTag {
        /// The tag.
        tag: String,
    },
    /// No host's name matches.
    #[error("no host matches {glob:?}: {known}")]
    NoneMatches {
        /// The glob.
        glob: String,
        /// Which hosts there are.
        known: String,
    },
    /// A glob that does not compile.
    #[error("bad glob {glob:?} for hosts: write one as in 'web*', 'web[12]' or '{{web,db}}1'")]
    BadGlob {
        /// The glob.
        glob: String,
        /// Why.
        source: globset::Error,
    },
    /// No path on a host.
    #[error(transparent)]
    HostPath(RestoreError),
    /// The host's exclude rules are too many together.
    #[error(transparent)]
    ExcludeRules(#[from] PathRulesError),
    /// The host's window is closed.
    #[error("{why}")]
    Closed {
        /// Until when, and what to do.
        why: String,
    },
    /// The daemon.
    #[error(transparent)]
    Daemon(#[from] AskError),
    /// Writing the answer failed.
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::UnknownHost(_) | Self::NoSuchTag { .. } | Self::NoneMatches { .. } => {
                ExitCode::NotFound
            }
            Self::BadGlob { .. } | Self::HostPath(_) => ExitCode::Usage,
            Self::Daemon(error) => error.exit_code(),
            Self::Open(error) => error.exit_code(),
            Self::Catalog(error) if error.is_not_found() => ExitCode::NotFound,
            Self::Key(error) if error.is_wrong_key() => ExitCode::WrongKey,
            _ => ExitCode::Error,
        }
    }
}

/// An opened coordinator, for a command; one that reads a single destination when it is named.
pub async fn open_coordinator(
    config: Config,
    destination: Option<&str>,
) -> Result<Coordinator, CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(match destination {
        Some(name) => Coordinator::open_at(config, clock, name).await?,
        None => Coordinator::open(config, clock).await?,
    })
}

/// `init`: makes everything and says where it is.
pub fn init_directory(args: &InitArgs) -> Result<InitReport, CommandError> {
    let elsewhere = Elsewhere {
        state: args.state_dir.as_deref(),
        destination: args.destination.as_deref(),
        kit: args.kit.as_deref(),
    };
    let paths = InitPaths::resolve(&args.dir, elsewhere)?;
    let text = coordinator_toml(&InitValues {
        state_dir: args
            .state_dir
            .as_ref()
            .map_or(Path::new("state"), |_| &paths.state),
        destination: &paths.destination,
        bundle: "keys/daemon.bundle",
        key_file: "keys/daemon.key",
        socket_dir: args.socket_dir.as_deref(),
    })?;
    let admin = match (&args.admin_password_file, args.no_users) {
        (Some(file), _) => AdminPassword::File(file),
        (None, true) => AdminPassword::NoAdmin,
        (None, false) => AdminPassword::Random,
    };
    let options = InitOptions {
        paths: &paths,
        coordinator_toml: &text,
        hosts_toml: HOSTS_TOML,
        admin,
        password_cost: cost_for_memory(available_memory_kib()),
        coordinator: &machine::name(),
        now: SystemClock.now(),
    };
    // An append-server of its own makes its destinations itself, as the user that owns them.
    Ok(match args.socket_dir {
        Some(_) => init(&options, |_| Ok::<(), RootError>(()))?,
        None => init(&options, create_destination)?,
    })
}

/// `run HOST…`: backups, shown while they go on; the number to end with. A daemon is asked where one runs.
pub async fn run_command(
    args: &RunArgs,
    config: Config,
    global: &GlobalArgs,
    screen: &Screen,
    stop: &CancellationToken,
) -> Result<ExitCode, CommandError> {
    let mut hosts = choose_hosts(args, &config)?;
    for host in &hosts {
        host.check_files()?;
    }
    let is_one = !args.all && matches!(args.hosts.as_slice(), [only] if !is_pattern(only));
    let socket = StateDir::new(&config.state_dir).daemon_socket();
    let out = &mut io::stdout();
    match Asked::ask(&socket, by_daemon::question(args, &hosts)).await {
        Ok(asked) => {
            let errors = &mut io::stderr();
            // Losing what is followed is safe: the daemon does it all the same.
            return tokio::select! {
                code = by_daemon::follow(asked, is_one, global, out, errors) => Ok(code?),
                () = stop.cancelled() => Ok(ExitCode::Cancelled),
            };
        }
        Err(AskError::NotRunning { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let clock = Arc::new(SystemClock);
    if !is_one {
        let coordinator = open_coordinator(config, None).await?;
        return Ok(run_hosts(coordinator, hosts, args, stop, global, screen, out).await?);
    }
    let Some(host) = hosts.pop() else {
        return Ok(ExitCode::Ok);
    };
    if let Some(why) = closed(&host, args, clock.as_ref()) {
        return Err(CommandError::Closed { why });
    }
    let presentation = Presentation {
        global,
        screen,
        out,
        errors: &mut io::stderr(),
    };
    Ok(run::run_command(&config, &host, args, clock, stop, presentation).await?)
}

/// `snapshots [HOST]`.
pub async fn snapshots_command(
    args: &SnapshotsArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, CommandError> {
    let hosts: Vec<Host> = match &args.host {
        Some(name) => vec![config.host(name)?.clone()],
        None => config.hosts.values().cloned().collect(),
    };
    let coordinator = open_coordinator(config, args.from.destination.as_deref()).await?;
    let (mut lines, mut notes) = (Vec::new(), Vec::new());
    let mut code = ExitCode::Ok;
    let zone = TimeZone::system();
    for host in &hosts {
        let Some(found) = coordinator.find(host).await? else {
            continue;
        };
        if found.log_problem.is_some() {
            code = ExitCode::Integrity; // There may be more.
        }
        let name = host.name.to_string();
        let records = found.catalog.unread()?.len();
        if records > 0 {
            tracing::warn!(
                host = name,
                records,
                "these keys do not open log records of another coordinator: its snapshots are not listed, and what it forgot is"
            );
        }
        let (held_runs, holds) = {
            let state = coordinator.state.lock().await;
            (state.held_runs(&name)?, state.holds(Some(&name))?)
        };
        for row in found.catalog.snapshots(Some(&name))? {
            let line = SnapshotLine::of(&row);
            let line = match held_runs.contains(&row.run) {
                true => line.held(),
                false => line,
            };
            lines.push(match holds.is_empty() {
                true => line,
                false => line.on_hold(),
            });
        }
        if let Some(why) = why_held(&holds, &name, &zone) {
            notes.push(format!(
                "{name} is on hold, nothing of it is dropped: {why}"
            ));
        }
    }
    write_snapshots(lines, json, &zone, out)?;
    if !json {
        for note in notes {
            writeln!(out, "{note}")?;
        }
    }
    coordinator.close().await;
    Ok(code)
}

/// A host's name and repository.
pub async fn open_host(
    coordinator: &Coordinator,
    host: &str,
) -> Result<(String, HostRepository), CommandError> {
    let host = coordinator.config.host(host)?;
    let opened = coordinator.open_existing(host).await?;
    Ok((host.name.to_string(), opened))
}

/// A host's repository and the one snapshot of it that is meant.
pub async fn find_snapshot(
    coordinator: &Coordinator,
    host: &str,
    selector: &Selector,
) -> Result<(HostRepository, SnapshotRow), CommandError> {
    let (name, opened) = open_host(coordinator, host).await?;
    let row = select_snapshot(&opened, &name, selector)?;
    Ok((opened, row))
}

/// The one snapshot of a host that is meant, in its repository.
pub fn select_snapshot(
    opened: &HostRepository,
    host: &str,
    selector: &Selector,
) -> Result<SnapshotRow, CommandError> {
    if let Some(problem) = &opened.log_problem
        && !matches!(selector, Selector::IdPrefix(_))
    {
        let (host, problem) = (host.to_owned(), problem.clone());
        return Err(OpenError::LogEnds { host, problem }.into());
    }
    let zone = TimeZone::system();
    Ok(opened.catalog.resolve(Some(host), selector, &zone)?)
}

/// `key export-kit FILE`.
pub fn export_kit_command(args: &ExportKitArgs, config: &Config) -> Result<(), CommandError> {
    let bundle = config.keys.bundle.as_ref().ok_or(OpenError::NoBundle)?;
    let destinations: Vec<String> = config
        .destinations
        .iter()
        .map(|destination| destination.url.clone())
        .collect();
    let facts = KitFacts {
        coordinator: &machine::name(),
        written: SystemClock.now(),
        destinations: &destinations,
    };
    let admin = bundle.with_file_name("admin.bundle");
    export_kit(
        &args.file,
        &facts,
        &admin,
        &UnlockFrom::environment_or_prompt(),
    )?;
    let path = args.file.display().to_string();
    alone::record(
        &StateDir::new(&config.state_dir),
        &SystemClock,
        vec![Event::new(What::KitExported { path })],
    );
    Ok(())
}

/// `key verify-kit KIT`.
pub async fn verify_kit_command(
    args: &VerifyKitArgs,
    config: Config,
) -> Result<KitProof, CommandError> {
    let coordinator = open_coordinator(config, None).await?;
    let known = coordinator.state.lock().await.repositories()?;
    let proof = verify_kit(
        &args.kit,
        &coordinator.keyring,
        &known,
        &coordinator.storage,
    )
    .await?;
    record_proof(&coordinator.config.state_dir, coordinator.clock.now())?;
    coordinator.close().await;
    Ok(proof)
}
