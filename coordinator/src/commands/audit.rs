//! `audit head`, `check` and `reconcile`: where logs end, whether history still has what a witness kept, and accepting
//! what another coordinator wrote. Writes nothing to storage.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use formats::ids::{RecordId, RepositoryId};
use serde::Serialize;

use crate::cli::audit::{AuditCheckArgs, AuditReconcileArgs};
use crate::clock::utc;
use crate::commands::on_storage::{CommandError, open_coordinator, open_host};
use crate::config::Config;
use crate::events::Event;
use crate::events::what::What;
use crate::exit_code::ExitCode;
use crate::terminal::write_json;

/// The most bytes of a file with heads.
const HEADS_BYTES_MAX: u64 = 16 << 20;

/// `audit` failed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The coordinator, a repository, or no such host.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The file of heads.
    #[error("could not read {}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of it.
    #[error("{}:{line}: not a line of `audit head`", path.display())]
    Line {
        /// Where.
        path: PathBuf,
        /// Which line.
        line: usize,
    },
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl AuditError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Command(error) => error.exit_code(),
            _ => ExitCode::Error,
        }
    }
}

/// Where a log ends; also one element of what `audit head --json` prints.
#[derive(Debug, Serialize)]
struct Head {
    repository: String,
    sequence: u64,
    record: String,
    committed: Option<String>,
    name: String,
}

/// `audit head`.
pub async fn audit_head(
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, AuditError> {
    let coordinator = open_coordinator(config, None).await?;
    let mut heads = Vec::new();
    for name in coordinator
        .repository_names()
        .await
        .map_err(CommandError::from)?
    {
        let opened = coordinator
            .open_named(&name)
            .await
            .map_err(CommandError::from)?;
        let (repository, catalog) = (opened.repository.id(), opened.catalog);
        let Some((sequence, record)) = catalog.last().map_err(CommandError::from)? else {
            continue;
        };
        let rows = catalog.snapshots(None).map_err(CommandError::from)?;
        heads.push(Head {
            repository: repository.to_string(),
            sequence,
            record: record.to_string(),
            committed: rows.last().map(|row| utc(row.committed)),
            name,
        });
    }
    if json {
        write_json(out, &heads)?;
    } else {
        for head in &heads {
            let committed = head.committed.as_deref().unwrap_or("-");
            writeln!(
                out,
                "{} {} {} {committed} {}",
                head.repository, head.sequence, head.record, head.name
            )?;
        }
    }
    coordinator.close().await;
    Ok(ExitCode::Ok)
}

/// `audit check FILE`.
pub async fn audit_check(
    args: &AuditCheckArgs,
    config: Config,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, AuditError> {
    let witnessed = read_heads(&args.file)?;
    let coordinator = open_coordinator(config, None).await?;
    let mut catalogs = BTreeMap::new();
    for name in coordinator
        .repository_names()
        .await
        .map_err(CommandError::from)?
    {
        let opened = coordinator
            .open_named(&name)
            .await
            .map_err(CommandError::from)?;
        catalogs.insert(opened.repository.id(), opened.catalog);
    }
    let mut code = ExitCode::Ok;
    for (repository, sequence, record) in witnessed {
        let found = catalogs.get(&repository);
        let now = match found {
            None => None,
            Some(catalog) => catalog.record_id(sequence).map_err(CommandError::from)?,
        };
        let verdict = match now {
            Some(id) if id == record => "holds".to_owned(),
            Some(id) => format!("CHANGED: the record is {id} now"),
            None if found.is_none() => "UNKNOWN: there is no such repository".to_owned(),
            None => "ROLLED BACK: there is no such record".to_owned(),
        };
        if now != Some(record) {
            code = ExitCode::Integrity;
        }
        writeln!(out, "{repository} {sequence} {verdict}")?;
    }
    coordinator.close().await;
    Ok(code)
}

/// `audit reconcile HOST`.
pub async fn audit_reconcile(
    args: &AuditReconcileArgs,
    config: Config,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, AuditError> {
    let coordinator = open_coordinator(config, None).await?;
    let (name, opened) = open_host(&coordinator, &args.host).await?;
    let repository = opened.repository.id();
    let mut state = coordinator.state.lock().await;
    match state.foreign(repository).map_err(CommandError::from)? {
        None => writeln!(out, "{name}: nothing to reconcile")?,
        Some(records) => {
            let rows = opened.catalog.snapshots(None).map_err(CommandError::from)?;
            let foreign = |sequence| (records.first..=records.last).contains(&sequence);
            for row in rows.iter().filter(|row| foreign(row.sequence)) {
                writeln!(
                    out,
                    "record {}: {} {} {}",
                    row.sequence,
                    row.host,
                    row.id.short(),
                    utc(row.committed)
                )?;
            }
            state
                .accept_foreign(repository)
                .map_err(CommandError::from)?;
            let what = What::LogReconciled {
                repository: name.clone(),
                first: records.first,
                last: records.last,
            };
            coordinator.events.tell(Event::of_host(&name, what));
            writeln!(
                out,
                "{name}: accepted records {} to {}; backups go on after them",
                records.first, records.last
            )?;
        }
    }
    drop(state);
    coordinator.close().await;
    Ok(ExitCode::Ok)
}

fn read_heads(path: &Path) -> Result<Vec<(RepositoryId, u64, RecordId)>, AuditError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().take(HEADS_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(HEADS_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|source| AuditError::File {
        path: path.to_owned(),
        source,
    })?;
    if text.len() as u64 >= HEADS_BYTES_MAX || text.trim().is_empty() {
        let (path, line) = (path.to_owned(), text.lines().count());
        return Err(AuditError::Line { path, line });
    }
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            parse_head(line).ok_or_else(|| AuditError::Line {
                path: path.to_owned(),
                line: number + 1,
            })
        })
        .collect()
}

fn parse_head(line: &str) -> Option<(RepositoryId, u64, RecordId)> {
    let mut words = line.split_whitespace();
    Some((
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
    ))
}
