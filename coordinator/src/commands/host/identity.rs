//! `host accept-identity`: says that another machine is a host from now on.

use std::io::{self, Write};

use serde::Serialize;

use crate::backup::error::RunError;
use crate::backup::guard::accept_identity;
use crate::cli::host::AcceptIdentityArgs;
use crate::commands::on_storage::{CommandError, open_coordinator};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::terminal::write_json;

/// It was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptIdentityError {
    /// The coordinator, or no such host.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The state file.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Nothing else answered.
    #[error("nothing to accept: no other machine has answered in the place of {host}")]
    NothingOffered {
        /// The host.
        host: String,
    },
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl AcceptIdentityError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Command(error) => error.exit_code(),
            Self::Run(error) => error.exit_code(),
            Self::NothingOffered { .. } => ExitCode::NotFound,
            Self::Output(_) => ExitCode::Error,
        }
    }
}

/// What `host accept-identity --json` prints.
#[derive(Debug, Serialize)]
struct AcceptedJson {
    host: String,
    accepted: Vec<String>,
}

/// `host accept-identity HOST`.
pub async fn accept_identity_command(
    args: &AcceptIdentityArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, AcceptIdentityError> {
    let host = config.host(&args.host).map_err(CommandError::from)?.clone();
    let coordinator = open_coordinator(config, None).await?;
    let accepted = accept_identity(&coordinator, &host).await?;
    coordinator.close().await;
    let name = host.name.to_string();
    let Some(accepted) = accepted else {
        return Err(AcceptIdentityError::NothingOffered { host: name });
    };
    let accepted: Vec<String> = accepted.iter().map(ToString::to_string).collect();
    match json {
        true => write_json(
            out,
            &AcceptedJson {
                host: name,
                accepted,
            },
        )?,
        false => {
            for difference in &accepted {
                writeln!(out, "{name}: {difference}")?;
            }
            writeln!(out, "{name}: this machine is the host from now on")?;
        }
    }
    Ok(ExitCode::Ok)
}
