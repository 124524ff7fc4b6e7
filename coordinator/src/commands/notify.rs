//! `notify test`: sends a message to the targets of coordinator.toml, and says what came of it.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::notify::NotifyTestArgs;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::config::notify_settings::Target;
use crate::exit_code::ExitCode;
use crate::machine;
use crate::notify::deliver::deliver;
use crate::notify::http::Poster;
use crate::notify::notifier::test_message;
use crate::terminal::{error_line, write_json};

/// `notify` failed.
#[derive(Debug, thiserror::Error)]
pub enum NotifyCommandError {
    /// No such target.
    #[error("there is no target {name:?} in coordinator.toml: there are {known}")]
    NoSuchTarget {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Nobody to tell.
    #[error("nobody is told of anything: add a [[notify.target]] to coordinator.toml")]
    NoTargets,
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl NotifyCommandError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoSuchTarget { .. } => ExitCode::NotFound,
            _ => ExitCode::Error,
        }
    }
}

/// One element of what `notify test --json` prints.
#[derive(Debug, Serialize)]
struct TriedJson {
    target: String,
    kind: &'static str,
    error: Option<String>,
}

/// `notify test [TARGET]`.
pub async fn notify_test(
    args: &NotifyTestArgs,
    config: &Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, NotifyCommandError> {
    let poster = Poster::new();
    let coordinator = machine::name();
    let message = test_message(&coordinator, SystemClock.now());
    let mut tried = Vec::new();
    for target in targets(config, args.target.as_deref())? {
        let delivered = deliver(target, &message, &coordinator, &poster).await;
        let error = delivered.err().map(|error| error_line(&error));
        if !json {
            let result = error.as_deref().unwrap_or("took it");
            writeln!(out, "{}: {result}", target.name)?;
        }
        tried.push(TriedJson {
            target: target.name.clone(),
            kind: target.way.kind(),
            error,
        });
    }
    if json {
        write_json(out, &tried)?;
    }
    Ok(match tried.iter().all(|one| one.error.is_none()) {
        true => ExitCode::Ok,
        false => ExitCode::Error,
    })
}

fn targets<'a>(
    config: &'a Config,
    only: Option<&str>,
) -> Result<Vec<&'a Target>, NotifyCommandError> {
    let all = &config.notify.targets;
    if all.is_empty() {
        return Err(NotifyCommandError::NoTargets);
    }
    let Some(only) = only else {
        return Ok(all.iter().collect());
    };
    let found = all.iter().find(|target| target.name == only);
    found.map(|target| vec![target]).ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|target| target.name.as_str()).collect();
        NotifyCommandError::NoSuchTarget {
            name: only.to_owned(),
            known: known.join(", "),
        }
    })
}
