//! Whether `doctor` reaches each destination: opens it and lists its repositories, and stores nothing.

use std::time::Duration;

use append_server::destination::DestinationError;
use append_server::places::{OpenError, Place};
use futures_util::future::join_all;

use crate::commands::doctor::{Finding, Verdict};
use crate::config::Config;
use crate::config::coordinator_file::AppendServer;
use crate::storage::StorageClient;
use crate::storage::destinations::problem_of;
use crate::terminal::{error_line, size_text};

/// How long a destination may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A destination cannot be used.
#[derive(Debug, thiserror::Error)]
enum ReachError {
    /// Not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Not read.
    #[error(transparent)]
    Destination(#[from] DestinationError),
}

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    match &config.append_server {
        AppendServer::Embedded => join_all(config.destinations.iter().map(one)).await,
        // It alone has the credentials; it is asked.
        AppendServer::External { socket_dir } => {
            ask(&StorageClient::new(&socket_dir.join("control"))).await
        }
    }
}

async fn one(place: &Place) -> Finding {
    let about = format!("destination {}", place.name);
    // What only follows holds nothing up.
    let bad = match place.required {
        true => Verdict::Fail,
        false => Verdict::Warn,
    };
    match tokio::time::timeout(PATIENCE, read(place)).await {
        Ok(Ok(text)) => Finding::new(about, Verdict::Ok, text),
        Ok(Err(error)) => Finding::new(about, bad, error_line(&error)),
        Err(_) => {
            let text = format!("{} does not answer within {PATIENCE:?}", place.url);
            Finding::new(about, bad, text)
        }
    }
}

async fn read(place: &Place) -> Result<String, ReachError> {
    let destination = place.open()?;
    let repositories = destination.repositories().await?.len();
    let free = destination.free_bytes().await?;
    let free = free.map_or_else(String::new, |free| format!(", {} free", size_text(free)));
    Ok(format!("{}, {repositories} repositories{free}", place.url))
}

async fn ask(client: &StorageClient) -> Vec<Finding> {
    match client.destinations().await {
        Ok(states) => states
            .into_iter()
            .map(|state| {
                let about = format!("destination {}", state.name);
                match problem_of(&state) {
                    Some(problem) if state.required => Finding::new(about, Verdict::Fail, problem),
                    Some(problem) => Finding::new(about, Verdict::Warn, problem),
                    None if state.objects_behind > 0 => {
                        let text = format!("lacks {} objects still", state.objects_behind);
                        Finding::new(about, Verdict::Warn, text)
                    }
                    None => Finding::new(about, Verdict::Ok, "has everything"),
                }
            })
            .collect(),
        Err(error) => vec![Finding::new(
            "append-server",
            Verdict::Fail,
            error_line(&error),
        )],
    }
}
