//! `config check`, `show`, `diff`, `schema` and `example`: reads the configuration and tells about it.
//! Never connects, never writes a file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::setup::{
    ConfigCheckArgs, ConfigCommand, ConfigDiffArgs, ConfigShowArgs, SampleFile, SchemaFile,
};
use crate::config::difference::{Change, changes};
use crate::config::error::{ConfigError, ConfigErrors};
use crate::config::revision::{AppliedError, ConfigRevision, read_applied};
use crate::config::sample::{APPEND_SERVER_TOML, COORDINATOR_TOML, HOSTS_TOML};
use crate::config::schema::{coordinator_schema, hosts_schema};
use crate::config::show::{effective, to_json, to_toml};
use crate::config::{Config, UnknownHost};
use crate::exit_code::ExitCode;
use crate::terminal::write_json;

/// Why a `config` command failed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigCommandError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The host asked for is not in it.
    #[error(transparent)]
    UnknownHost(#[from] UnknownHost),
    /// What was applied could not be read.
    #[error(transparent)]
    Applied(#[from] AppliedError),
    /// Nothing was applied yet.
    #[error("no configuration was applied yet: `coordinator daemon` writes it down in {} when it starts", state_dir.display())]
    NeverApplied {
        /// Where it would be.
        state_dir: PathBuf,
    },
    /// The output could not be written.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

impl ConfigCommandError {
    /// The number to end with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::UnknownHost(_) => ExitCode::NotFound,
            Self::Config(_) | Self::Applied(_) | Self::NeverApplied { .. } | Self::Output(_) => {
                ExitCode::Error
            }
        }
    }
}

/// Carries out one `config` command on the coordinator.toml at `path`; results go to `out`.
///
/// With `json`, `config check` writes its errors to `out` as well, so that scripts need one stream.
pub fn config_command(
    command: &ConfigCommand,
    path: &Path,
    json: bool,
    out: &mut dyn Write,
) -> Result<ExitCode, ConfigCommandError> {
    match command {
        ConfigCommand::Check(args) => check(*args, path, json, out)?,
        ConfigCommand::Show(args) => show(args, path, json, out)?,
        ConfigCommand::Diff(args) => return diff(*args, path, json, out),
        ConfigCommand::Schema(args) => schema(args.file, out)?,
        ConfigCommand::Example(args) => out.write_all(sample(args.file).as_bytes())?,
    }
    Ok(ExitCode::Ok)
}

fn check(
    args: ConfigCheckArgs,
    path: &Path,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ConfigCommandError> {
    let checked = load_and_check(args, path);
    match &checked {
        Ok(config) if json => write_json(out, &Report::good(config))?,
        Ok(config) => {
            let hosts = counted(config.hosts.len(), "host");
            let destinations = counted(config.destinations.len(), "destination");
            writeln!(
                out,
                "ok: {hosts}, {destinations}, revision {}, {}",
                ConfigRevision::of(config),
                config.file.display()
            )?;
        }
        Err(errors) if json => write_json(out, &Report::bad(errors))?,
        Err(_) => {}
    }
    Ok(checked.map(drop)?)
}

fn load_and_check(args: ConfigCheckArgs, path: &Path) -> Result<Config, ConfigErrors> {
    let config = Config::load(path)?;
    if !args.no_files {
        config.check_files()?;
    }
    Ok(config)
}

fn show(
    args: &ConfigShowArgs,
    path: &Path,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ConfigCommandError> {
    let config = Config::load(path)?;
    let only = args
        .host
        .as_deref()
        .map(|name| config.host(name))
        .transpose()?;
    if json {
        write_json(out, &to_json(&config, only))?;
    } else {
        out.write_all(to_toml(&config, only).as_bytes())?;
    }
    Ok(())
}

fn diff(
    args: ConfigDiffArgs,
    path: &Path,
    json: bool,
    out: &mut dyn Write,
) -> Result<ExitCode, ConfigCommandError> {
    let config = Config::load(path)?;
    let Some(applied) = read_applied(&config.state_dir)? else {
        let state_dir = config.state_dir;
        return Err(ConfigCommandError::NeverApplied { state_dir });
    };
    let changes = changes(&applied.effective, &effective(&config, None));
    let code = match args.exit_code && !changes.is_empty() {
        true => ExitCode::Error,
        false => ExitCode::Ok,
    };
    let revision = ConfigRevision::of(&config).full();
    if json {
        let report = Difference {
            applied_revision: applied.revision,
            applied_at: applied.applied_at,
            revision,
            changes,
        };
        write_json(out, &report)?;
    } else if changes.is_empty() {
        writeln!(out, "no change since {}", applied.applied_at)?;
    } else {
        writeln!(out, "changed since {}:", applied.applied_at)?;
        for change in &changes {
            writeln!(out, "{change}")?;
        }
    }
    Ok(code)
}

fn schema(file: SchemaFile, out: &mut dyn Write) -> io::Result<()> {
    let schema = match file {
        SchemaFile::Coordinator => coordinator_schema(),
        SchemaFile::Hosts => hosts_schema(),
    };
    writeln!(out, "{schema:#}")
}

fn sample(file: SampleFile) -> &'static str {
    match file {
        SampleFile::Coordinator => COORDINATOR_TOML,
        SampleFile::Hosts => HOSTS_TOML,
        SampleFile::AppendServer => APPEND_SERVER_TOML,
    }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// What `config diff --json` prints.
#[derive(Debug, Serialize)]
struct Difference {
    applied_revision: String,
    applied_at: String,
    revision: String,
    changes: Vec<Change>,
}

/// What `config check --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    hosts: Option<usize>,
    destinations: Option<usize>,
    revision: Option<String>,
    errors: Vec<ReportedError>,
    errors_left_off: usize,
}

#[derive(Debug, Serialize)]
struct ReportedError {
    file: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
    key: Option<String>,
    message: String,
}

impl Report {
    fn good(config: &Config) -> Self {
        Self {
            ok: true,
            hosts: Some(config.hosts.len()),
            destinations: Some(config.destinations.len()),
            revision: Some(ConfigRevision::of(config).full()),
            errors: Vec::new(),
            errors_left_off: 0,
        }
    }

    fn bad(errors: &ConfigErrors) -> Self {
        Self {
            ok: false,
            hosts: None,
            destinations: None,
            revision: None,
            errors: errors.errors().iter().map(ReportedError::of).collect(),
            errors_left_off: errors.left_off(),
        }
    }
}

impl ReportedError {
    fn of(error: &ConfigError) -> Self {
        let place = error.place();
        let location = place.as_ref().map(|place| &place.location);
        Self {
            file: location.map(|location| location.file.display().to_string()),
            line: location.map(|location| location.line),
            column: location.map(|location| location.column),
            key: place
                .as_ref()
                .map(|place| place.key.clone())
                .filter(|key| !key.is_empty()),
            message: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
