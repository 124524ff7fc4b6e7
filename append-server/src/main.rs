//! The append-server program: reads its configuration, serves until it is told to end. Standard output is its
//! own; logs go to standard error.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use append_server::config::Config;
use append_server::places::{Place, open_places};
use append_server::server::{AppendServer, ServerHandle};
use append_server::service_manager::ServiceManager;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Takes new objects, never overwrites, fans out to destinations.
#[derive(Debug, Parser)]
#[command(name = "append-server", version)]
struct Arguments {
    /// Configuration file.
    #[arg(short, long, default_value = "/etc/append-server/append-server.toml")]
    config: PathBuf,
    /// Make the configured destinations, which must be empty or missing directories, and end.
    #[arg(long)]
    create_destinations: bool,
    /// Check the configuration and that every destination can be opened, and end.
    #[arg(long, conflicts_with = "create_destinations")]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::read(&arguments.config)?;
    let places = config.places()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    if arguments.create_destinations {
        return runtime.block_on(create(&places));
    }
    let options = config.server_options()?;
    let placements = open_places(&places)?;
    if arguments.check {
        tracing::info!("the configuration can be used");
        return Ok(());
    }
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let server = AppendServer::start(options, placements).await?;
        tracing::info!(control = %server.control_socket().display(), "serving");
        let manager = ServiceManager::from_environment();
        manager.ready();
        tokio::select! {
            // These only wait.
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
            // Never done.
            () = manager.keep_alive() => {}
        }
        tracing::info!("ending");
        manager.stopping();
        server.shutdown(ServerHandle::SHUTDOWN_DEADLINE).await;
        Ok(())
    })
}

async fn create(places: &[Place]) -> anyhow::Result<()> {
    for place in places {
        let was_there = place.create().await?;
        let what = if was_there {
            "is there already"
        } else {
            "created"
        };
        tracing::info!(destination = %place.name, "{what}");
    }
    Ok(())
}
