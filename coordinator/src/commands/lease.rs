//! `lease ls` and `take`: who writes to which repository, and taking that over.

use std::collections::BTreeSet;
use std::io::{self, Write};

use formats::log::lease::Lease;
use serde::Serialize;

use crate::cli::lease::LeaseTakeArgs;
use crate::commands::on_storage::{CommandError, open_coordinator};
use crate::config::Config;
use crate::coordinator::log::{LogError, since};
use crate::coordinator::{Coordinator, HostRepository};
use crate::events::Event;
use crate::events::what::What;
use crate::exit_code::ExitCode;
use crate::terminal::{Align, write_json, write_table};

/// `lease` failed.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The coordinator, a repository, or no such host.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A log could not be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl LeaseError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Command(error) => error.exit_code(),
            Self::Log(error) => error.exit_code(),
            Self::Output(_) => ExitCode::Error,
        }
    }
}

/// One repository's lease; also an element of what `lease ls --json` prints.
#[derive(Debug, Serialize)]
struct LeaseLine {
    name: String,
    repository: String,
    /// Nothing where nobody has taken it yet.
    coordinator: Option<String>,
    machine: Option<String>,
    taken: Option<String>,
    /// Whether this coordinator has it.
    own: bool,
    /// Whether a later record may be another's, which these keys do not open.
    hidden: bool,
}

/// `lease ls`.
pub async fn lease_ls(
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, LeaseError> {
    let coordinator = open_coordinator(config, None).await?;
    let mut lines = Vec::new();
    for name in coordinator
        .repository_names()
        .await
        .map_err(CommandError::from)?
    {
        let opened = coordinator
            .open_named(&name)
            .await
            .map_err(CommandError::from)?;
        let hidden = opened.catalog.hidden_lease_at(u64::MAX);
        let hidden = hidden.map_err(CommandError::from)?.is_some();
        let lease = opened.catalog.lease().map_err(CommandError::from)?;
        let lease = lease.filter(|_| !hidden);
        lines.push(LeaseLine {
            hidden,
            name,
            repository: opened.repository.id().to_string(),
            own: lease
                .as_ref()
                .is_some_and(|lease| lease.coordinator == coordinator.id),
            coordinator: lease.as_ref().map(|lease| lease.coordinator.to_string()),
            taken: lease.as_ref().map(|lease| since(lease.taken_nanos)),
            machine: lease.map(|lease| lease.machine),
        });
    }
    coordinator.close().await;
    if json {
        write_json(out, &lines)?;
        return Ok(ExitCode::Ok);
    }
    let columns = ["name", "held by", "since"].map(|title| (title, Align::Left));
    let rows: Vec<_> = lines.into_iter().map(row).collect();
    write_table(out, &columns, &rows)?;
    Ok(ExitCode::Ok)
}

fn row(line: LeaseLine) -> Vec<String> {
    let holder = match line.machine {
        None if line.hidden => "another coordinator, perhaps: these keys do not tell".to_owned(),
        None => "nobody yet".to_owned(),
        Some(machine) if line.own => format!("this coordinator, on {machine}"),
        Some(machine) => format!("another coordinator, on {machine}"),
    };
    vec![
        line.name,
        holder,
        line.taken.unwrap_or_else(|| "-".to_owned()),
    ]
}

/// `lease take`.
pub async fn lease_take(
    args: &LeaseTakeArgs,
    config: Config,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, LeaseError> {
    let coordinator = open_coordinator(config, None).await?;
    let mut names = BTreeSet::new();
    for host in &args.hosts {
        let host = coordinator.config.host(host).map_err(CommandError::from)?;
        names.insert(host.repository.to_string());
    }
    if args.all {
        names.extend(
            coordinator
                .repository_names()
                .await
                .map_err(CommandError::from)?,
        );
    }
    for name in names {
        let HostRepository {
            repository,
            mut catalog,
            ..
        } = coordinator
            .open_named(&name)
            .await
            .map_err(CommandError::from)?;
        let hidden = catalog.hidden_lease_at(u64::MAX);
        let hidden = hidden.map_err(CommandError::from)?;
        let before = coordinator.take_lease(&repository, &mut catalog).await?;
        if let Some(sequence) = hidden {
            coordinator.events.tell(Event::new(What::LeaseTaken {
                repository: name.clone(),
                from: None,
            }));
            writeln!(
                out,
                "{name}: taken; whose it was, in log record {sequence}, these keys do not tell"
            )?;
            continue;
        }
        let is_own = |lease: &Lease| lease.coordinator == coordinator.id;
        if !before.as_ref().is_some_and(is_own) {
            let what = What::LeaseTaken {
                repository: name.clone(),
                from: before.as_ref().map(|lease| lease.machine.clone()),
            };
            coordinator.events.tell(Event::new(what));
        }
        writeln!(out, "{name}: {}", taken_text(&coordinator, before))?;
    }
    coordinator.close().await;
    Ok(ExitCode::Ok)
}

fn taken_text(coordinator: &Coordinator, before: Option<Lease>) -> String {
    match before {
        None => "taken; nobody had it".to_owned(),
        Some(lease) if lease.coordinator == coordinator.id => {
            "this coordinator has it already".to_owned()
        }
        Some(lease) => format!(
            "taken over from {}, which had it since {}",
            lease.machine,
            since(lease.taken_nanos)
        ),
    }
}
