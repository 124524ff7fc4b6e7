//! The coordinator program: reads the command line, starts what the command needs, and ends with its number.
//! Carries out no command itself.

use std::io::{self, Write as _};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use coordinator::agents::for_machine;
use coordinator::allocator::bind_allocator;
use coordinator::cli::audit::AuditCommand;
use coordinator::cli::destination::DestinationCommand;
use coordinator::cli::documents::{write_completions, write_man_pages};
use coordinator::cli::hold::HoldCommand;
use coordinator::cli::host::{HostCommand, HostTrustArgs};
use coordinator::cli::keys::KeyCommand;
use coordinator::cli::lease::LeaseCommand;
use coordinator::cli::notify::NotifyCommand;
use coordinator::cli::rescue::RescueArgs;
use coordinator::cli::{Cli, Command, GlobalArgs};
use coordinator::clock::SystemClock;
use coordinator::commands::audit::{AuditError, audit_check, audit_head, audit_reconcile};
use coordinator::commands::audit_log::{AuditLogCommandError, audit_log, audit_verify};
use coordinator::commands::cat::cat_command;
use coordinator::commands::config_check::{ConfigCommandError, config_command};
use coordinator::commands::daemon::{cancel_command, reload_command};
use coordinator::commands::demo::demo_command;
use coordinator::commands::destination::{
    DestinationCommandError, destination_create, destination_ls, destination_sync, destination_test,
};
use coordinator::commands::destination_policy::destination_policy;
use coordinator::commands::diff::{changes_command, diff_command};
use coordinator::commands::doctor::doctor_command;
use coordinator::commands::export::export_command;
use coordinator::commands::history::history_command;
use coordinator::commands::hold::{HoldError, hold_command};
use coordinator::commands::host::explain::explain_command;
use coordinator::commands::host::identity::{AcceptIdentityError, accept_identity_command};
use coordinator::commands::host::trust::{Consent, TrustError, ask_on_terminal, trust};
use coordinator::commands::host::{list, trial, trust as trusting};
use coordinator::commands::key::derive::derive_command;
use coordinator::commands::lease::{LeaseError, lease_ls, lease_take};
use coordinator::commands::ls::ls_command;
use coordinator::commands::notify::{NotifyCommandError, notify_test};
use coordinator::commands::on_storage::{self, CommandError};
use coordinator::commands::opened_snapshot::SnapshotCommandError;
use coordinator::commands::recover::{RecoverError, recover_command};
use coordinator::commands::rescue::{RescueCommandError, rescue_command};
use coordinator::commands::restore::{Answer, restore_command};
use coordinator::commands::retention::{
    RetentionError, forget_command, pin_command, prune_command, undelete_command,
};
use coordinator::commands::scan::{ScanCommandError, scan_command};
use coordinator::commands::show::show_command;
use coordinator::commands::status::status_command;
use coordinator::commands::token::{TokenError, token_command};
use coordinator::commands::verify::verify_command;
use coordinator::config::Config;
use coordinator::config::coordinator_file::Log;
use coordinator::config::raw::LogLevel;
use coordinator::daemon::start::{DaemonError, run_daemon};
use coordinator::exit_code::ExitCode;
use coordinator::keyring::{KeyringError, refuse_readers_bundle, refuse_writers_bundle};
use coordinator::logging::{self, Screen};
use coordinator::ssh::deploy::MissingAgent;
use coordinator::ssh::janitor::Platform;
use coordinator::terminal::{write_error, write_json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Threads on which tasks go on. Some of them look at other files of a disk that may hang: the others still answer.
const WORKERS_MIN: usize = 8;
/// How long work on other threads may go on after a command has ended.
const WIND_DOWN: Duration = Duration::from_secs(2);

fn main() -> std::process::ExitCode {
    bind_allocator();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return told_by_clap(&error).into(),
    };
    match in_runtime(&cli) {
        Ok(code) => code.into(),
        Err(failure) => failure.tell().into(),
    }
}

/// `--help` and `--version` are answers; everything else is a wrong command line.
fn told_by_clap(error: &clap::Error) -> ExitCode {
    let told = error.print();
    match told.is_ok() && !error.use_stderr() {
        true => ExitCode::Ok,
        false => ExitCode::Usage,
    }
}

/// Why a command failed, and the number to end with.
struct Failure {
    error: anyhow::Error,
    code: ExitCode,
}

impl Failure {
    fn new(error: impl Into<anyhow::Error>, code: ExitCode) -> Self {
        Self {
            error: error.into(),
            code,
        }
    }

    /// Makes a command's error a failure with the number it has for it.
    fn with<E: Into<anyhow::Error>>(code: impl Fn(&E) -> ExitCode) -> impl Fn(E) -> Self {
        move |error| {
            let code = code(&error);
            Self::new(error, code)
        }
    }

    fn tell(&self) -> ExitCode {
        let closed = |cause: &(dyn std::error::Error + 'static)| {
            let error = cause.downcast_ref::<io::Error>();
            error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        };
        // Whoever closed the pipe, as `head` does, has seen enough.
        if !self.error.chain().any(closed)
            && let Err(error) = write_error(&mut io::stderr(), self.error.as_ref())
        {
            tracing::debug!(%error, "the error could not be told");
        }
        self.code
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let code = error
            .downcast_ref::<CommandError>()
            .map(CommandError::exit_code)
            .or_else(|| {
                error
                    .downcast_ref::<SnapshotCommandError>()
                    .map(SnapshotCommandError::exit_code)
            })
            .unwrap_or(ExitCode::Error);
        Self { error, code }
    }
}

fn in_runtime(cli: &Cli) -> Result<ExitCode, Failure> {
    if cli.command.writes() {
        refuse_bundle(&cli.global, refuse_readers_bundle)?;
    }
    if cli.command.opens() {
        refuse_bundle(&cli.global, refuse_writers_bundle)?;
    }
    let cores = thread::available_parallelism().map_or(WORKERS_MIN, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(WORKERS_MIN))
        .enable_all()
        .build()
        .context("cannot start the threads")?;
    let result = match &cli.command {
        // It heeds signals itself.
        Command::Daemon(_) => runtime.block_on(daemon(&cli.global)),
        _ => runtime.block_on(until_interrupted(cli)),
    };
    // A thread that reads the terminal or a slow disk must not keep a program that is done.
    runtime.shutdown_timeout(WIND_DOWN);
    result
}

/// Keys that only read write nothing, and those that only add open nothing: said before anything is opened.
fn refuse_bundle(
    global: &GlobalArgs,
    refuse: fn(&Path) -> Result<(), KeyringError>,
) -> Result<(), Failure> {
    match Config::load(&global.config)?.keys.bundle {
        Some(bundle) => refuse(&bundle).map_err(|error| Failure::new(error, ExitCode::WrongKey)),
        None => Ok(()),
    }
}

/// Carries the command out, or drops it when the operator has had enough.
///
/// Dropping is clean: connections close with it, the host removes the agent when its input ends, and
/// nothing is committed but by one single write.
async fn until_interrupted(cli: &Cli) -> Result<ExitCode, Failure> {
    let interrupted = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = interrupted.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            // Losing either arm is safe: the other signal is still there next time.
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if token.is_cancelled() {
                // Asked for twice: whoever asks does not want to wait.
                std::process::exit(ExitCode::Cancelled.number().into());
            }
            token.cancel();
        }
    });
    let screen = Screen::default();
    // Losing the command is safe, see above; losing the other arm too, the token stays cancelled.
    tokio::select! {
        result = carry_out(cli, &screen, &interrupted) => result,
        () = droppable(&cli.command, &interrupted) => {
            writeln!(io::stderr(), "interrupted")?;
            Ok(ExitCode::Cancelled)
        }
    }
}

async fn daemon(global: &GlobalArgs) -> Result<ExitCode, Failure> {
    let config = Config::load(&global.config)?;
    // Nobody watches it: the few lines of each run are its only trace.
    let informs = config.log.level == LogLevel::Info && !global.quiet;
    let global = GlobalArgs {
        verbose: global.verbose.max(u8::from(informs)),
        ..global.clone()
    };
    start_log(&global, config.log, &Screen::default())?;
    config.check_files()?;
    run_daemon(&global.config, config, Arc::new(SystemClock))
        .await
        .map_err(Failure::with(DaemonError::exit_code))
}

/// Waits until the command may be dropped. A run never may: it is asked to stop, and its host's `finally` hooks are run.
async fn droppable(command: &Command, interrupted: &CancellationToken) {
    match command {
        Command::Run(_) => std::future::pending().await,
        _ => interrupted.cancelled().await,
    }
}

async fn carry_out(
    cli: &Cli,
    screen: &Screen,
    interrupted: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Config(command) => {
            config_command(command, &global.config, global.json, &mut io::stdout())
                .map_err(Failure::with(ConfigCommandError::exit_code))
        }
        Command::Doctor => {
            start_log(global, Log::default(), screen)?;
            Ok(
                doctor_command(&global.config, &SystemClock, global.json, &mut io::stdout())
                    .await?,
            )
        }
        Command::Completions(_) | Command::Man(_) | Command::Init(_) => {
            write_files(&cli.command, global, screen)
        }
        Command::Recover(args) => {
            start_log(global, Log::default(), screen)?;
            recover_command(args, global.json, &mut io::stdout())
                .await
                .map_err(Failure::with(RecoverError::exit_code))
        }
        Command::Rescue(args) => rescue_from(args, global, screen).await,
        Command::Demo(args) => {
            start_log(global, Log::default(), screen)?;
            let clock = Arc::new(SystemClock);
            Ok(demo_command(args, global, screen, clock, &mut io::stdout()).await?)
        }
        Command::Host(command) => host_command(command, &open(global, screen)?, global).await,
        Command::Run(args) => {
            let config = open(global, screen)?;
            Ok(on_storage::run_command(args, config, global, screen, interrupted).await?)
        }
        Command::Daemon(_) => daemon(global).await,
        Command::Reload(_) | Command::Cancel(_) | Command::Status(_) | Command::History(_) => {
            on_daemon(&cli.command, &open(global, screen)?, global.json).await
        }
        Command::Destination(command) => {
            destination_command(command, open(global, screen)?, global.json)
                .await
                .map_err(Failure::with(DestinationCommandError::exit_code))
        }
        Command::Scan(args) => {
            let config = open(global, screen)?;
            scan_command(args, config, global.json, &mut io::stdout())
                .await
                .map_err(Failure::with(ScanCommandError::exit_code))
        }
        Command::Prune(_) | Command::Forget(_) | Command::Undelete(_) | Command::Pin(_) => {
            on_retention(&cli.command, open(global, screen)?, global.json).await
        }
        Command::Hold(command) => on_holds(command, open(global, screen)?, global.json).await,
        Command::Audit(command) => on_logs(command, open(global, screen)?, global.json).await,
        Command::Token(command) => {
            let config = open(global, screen)?;
            token_command(command, &config, global.json, &mut io::stdout())
                .map_err(Failure::with(TokenError::exit_code))
        }
        Command::Notify(NotifyCommand::Test(args)) => {
            let config = open(global, screen)?;
            notify_test(args, &config, global.json, &mut io::stdout())
                .await
                .map_err(Failure::with(NotifyCommandError::exit_code))
        }
        Command::Lease(command) => on_leases(command, open(global, screen)?, global.json).await,
        Command::Key(command) => key_command(command, open(global, screen)?, global).await,
        stored => on_snapshots(stored, open(global, screen)?, global).await,
    }
}

/// The commands that write something which is not there yet, and need nothing.
fn write_files(
    command: &Command,
    global: &GlobalArgs,
    screen: &Screen,
) -> Result<ExitCode, Failure> {
    match command {
        Command::Completions(args) => write_completions(args.shell, &mut io::stdout())?,
        Command::Man(args) => write_man_pages(&args.directory)
            .with_context(|| format!("cannot write into {}", args.directory.display()))?,
        Command::Init(args) => {
            start_log(global, Log::default(), screen)?;
            let report = on_storage::init_directory(args)?;
            match global.json {
                true => write_json(&mut io::stdout(), &report)?,
                false => write!(io::stdout(), "{report}")?,
            }
        }
        other => return Err(anyhow::anyhow!("{other:?} writes no file").into()),
    }
    Ok(ExitCode::Ok)
}

/// The commands that ask the daemon, or the state that it keeps.
async fn on_daemon(command: &Command, config: &Config, json: bool) -> Result<ExitCode, Failure> {
    let out = &mut io::stdout();
    match command {
        Command::Reload(_) => reload_command(config, json, out).await?,
        Command::Cancel(args) => cancel_command(args, config, out).await?,
        Command::Status(args) => {
            return Ok(status_command(args, config, &SystemClock, json, out).await?);
        }
        Command::History(args) => history_command(args, config, json, out)?,
        other => return Err(anyhow::anyhow!("{other:?} does not ask the daemon").into()),
    }
    Ok(ExitCode::Ok)
}

async fn on_logs(command: &AuditCommand, config: Config, json: bool) -> Result<ExitCode, Failure> {
    let out = &mut io::stdout();
    let done = match command {
        AuditCommand::Log(args) => {
            return audit_log(args, &config, json, out)
                .map_err(Failure::with(AuditLogCommandError::exit_code));
        }
        AuditCommand::Verify(args) => {
            return audit_verify(args, &config, json, out)
                .map_err(Failure::with(AuditLogCommandError::exit_code));
        }
        AuditCommand::Head => audit_head(config, json, out).await,
        AuditCommand::Check(args) => audit_check(args, config, out).await,
        AuditCommand::Reconcile(args) => audit_reconcile(args, config, out).await,
    };
    done.map_err(Failure::with(AuditError::exit_code))
}

/// The commands of retention.
async fn on_retention(command: &Command, config: Config, json: bool) -> Result<ExitCode, Failure> {
    let out = &mut io::stdout();
    let done = match command {
        Command::Prune(args) => prune_command(args, config, json, out).await,
        Command::Forget(args) => forget_command(args, config, out).await,
        Command::Undelete(args) => undelete_command(args, config, json, out).await,
        Command::Pin(command) => pin_command(command, config, json, out).await,
        other => return Err(anyhow::anyhow!("{other:?} is no act of retention").into()),
    };
    done.map_err(Failure::with(RetentionError::exit_code))
}

async fn on_holds(command: &HoldCommand, config: Config, json: bool) -> Result<ExitCode, Failure> {
    hold_command(command, config, json, &mut io::stdout())
        .await
        .map_err(Failure::with(HoldError::exit_code))
}

async fn on_leases(
    command: &LeaseCommand,
    config: Config,
    json: bool,
) -> Result<ExitCode, Failure> {
    let out = &mut io::stdout();
    let done = match command {
        LeaseCommand::Ls => lease_ls(config, json, out).await,
        LeaseCommand::Take(args) => lease_take(args, config, out).await,
    };
    done.map_err(Failure::with(LeaseError::exit_code))
}

async fn rescue_from(
    args: &RescueArgs,
    global: &GlobalArgs,
    screen: &Screen,
) -> Result<ExitCode, Failure> {
    start_log(global, Log::default(), screen)?;
    let answer = Answer {
        json: global.json,
        quiet: global.quiet,
    };
    rescue_command(args, answer, &mut io::stdout())
        .await
        .map_err(Failure::with(RescueCommandError::exit_code))
}

/// The commands that read what is stored.
async fn on_snapshots(
    command: &Command,
    config: Config,
    global: &GlobalArgs,
) -> Result<ExitCode, Failure> {
    let (json, out) = (global.json, &mut io::stdout());
    let answer = Answer {
        json,
        quiet: global.quiet,
    };
    Ok(match command {
        Command::Snapshots(args) => on_storage::snapshots_command(args, config, json, out).await?,
        Command::Show(args) => show_command(args, config, json, out).await?,
        Command::Ls(args) => ls_command(args, config, json, out).await?,
        Command::Cat(args) => cat_command(args, config, out).await?,
        Command::Diff(args) => diff_command(args, config, json, out).await?,
        Command::Changes(args) => changes_command(args, config, json, out).await?,
        Command::Verify(args) => verify_command(args, config, json, out).await?,
        Command::Restore(args) => restore_command(args, config, answer, out).await?,
        Command::Export(args) => export_command(args, config, answer).await?,
        other => return Err(anyhow::anyhow!("{other:?} reads no snapshot").into()),
    })
}

async fn destination_command(
    command: &DestinationCommand,
    config: Config,
    json: bool,
) -> Result<ExitCode, DestinationCommandError> {
    let out = &mut io::stdout();
    match command {
        DestinationCommand::Ls => destination_ls(config, json, out).await,
        DestinationCommand::Create(args) => destination_create(args, &config, out).await,
        DestinationCommand::Test(args) => destination_test(args, &config, json, out).await,
        DestinationCommand::Sync(args) => destination_sync(args, config, json, out).await,
        DestinationCommand::Policy(args) => destination_policy(args, &config, json, out),
    }
}

async fn key_command(
    command: &KeyCommand,
    config: Config,
    global: &GlobalArgs,
) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::ExportKit(args) => on_storage::export_kit_command(args, &config)?,
        KeyCommand::Derive(args) => {
            let report = derive_command(args, config).await?;
            match global.json {
                true => write_json(&mut io::stdout(), &report)?,
                false => write!(io::stdout(), "{report}")?,
            }
        }
        KeyCommand::VerifyKit(args) => {
            let proof = on_storage::verify_kit_command(args, config).await?;
            match global.json {
                true => write_json(&mut io::stdout(), &proof)?,
                false => writeln!(
                    io::stdout(),
                    "{} opens the keys of {} and {} repositories",
                    proof.kit.display(),
                    proof.user,
                    proof.repositories.len()
                )?,
            }
        }
    }
    Ok(ExitCode::Ok)
}

/// Reads the configuration and starts the log as it says.
fn open(global: &GlobalArgs, screen: &Screen) -> Result<Config, Failure> {
    let config = Config::load(&global.config)?;
    start_log(global, config.log, screen)?;
    Ok(config)
}

fn start_log(global: &GlobalArgs, log: Log, screen: &Screen) -> Result<(), Failure> {
    logging::start(global, log, screen).context("cannot start the log")?;
    Ok(())
}

async fn host_command(
    command: &HostCommand,
    config: &Config,
    global: &GlobalArgs,
) -> Result<ExitCode, Failure> {
    match command {
        HostCommand::Ls(args) => {
            list::list_hosts(config, args, global.json, &mut io::stdout())?;
            Ok(ExitCode::Ok)
        }
        HostCommand::Explain(args) => {
            explain_command(args, config, &SystemClock, global.json, &mut io::stdout())?;
            Ok(ExitCode::Ok)
        }
        HostCommand::Trust(args) => trust_host(args, config, global)
            .await
            .map_err(Failure::with(TrustError::exit_code)),
        HostCommand::AcceptIdentity(args) => {
            let out = &mut io::stdout();
            accept_identity_command(args, config.clone(), global.json, out)
                .await
                .map_err(Failure::with(AcceptIdentityError::exit_code))
        }
        HostCommand::Test(args) => {
            let host = config
                .host(&args.host)
                .map_err(|error| Failure::new(error, ExitCode::NotFound))?;
            let agent_for = |platform: &Platform| {
                for_machine(&platform.machine, config.agents_dir.as_deref()).map_err(|error| {
                    MissingAgent {
                        machine: platform.machine.clone(),
                        reason: error.to_string(),
                    }
                })
            };
            let json = global.json;
            let mut show = |step: &trial::TrialStep| {
                if !json && let Err(error) = trial::write_step(step, &mut io::stdout()) {
                    tracing::debug!(%error, "a step could not be shown");
                }
            };
            let report = trial::try_host(host, &agent_for, &mut show).await;
            trial::write_report(&report, json, &mut io::stdout())?;
            Ok(report.exit_code())
        }
    }
}

async fn trust_host(
    args: &HostTrustArgs,
    config: &Config,
    global: &GlobalArgs,
) -> Result<ExitCode, TrustError> {
    let mut ask = ask_on_terminal;
    let consent = match &args.fingerprint {
        Some(text) => Consent::Only(text.parse()?),
        None if args.yes => Consent::Given,
        None => Consent::Ask(&mut ask),
    };
    let report = trust(config, &args.host, consent, &mut io::stderr()).await?;
    trusting::record(config, &report);
    trusting::write_report(&report, global.json, &mut io::stdout())?;
    Ok(ExitCode::Ok)
}
