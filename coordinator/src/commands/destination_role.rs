//! `destination test --role`: whether credentials have exactly the rights that `destination policy` prints for a role. They
//! are those of coordinator.toml, or others that are given with `--set`, for the same place. Changes no file.

use std::io::{self, Write};

use append_server::examination::Verdict;
use append_server::places::table::DestinationTable;
use append_server::places::{FileFacts, Place, PlaceError, PlaceKind};
use append_server::role::Role;
use append_server::role_trial::{RoleTrial, TrialRow};
use serde::Serialize;
use toml_edit::{DocumentMut, Item, Table};

use crate::cli::destination::DestinationTestArgs;
use crate::commands::destination::{DestinationCommandError, verdict_word};
use crate::config::Config;
use crate::config::error::ConfigError;
use crate::config::source_text::SourceText;
use crate::config::table_setting::{SettingError, TableSetting};
use crate::coordinator::find_place;
use crate::exit_code::ExitCode;
use crate::terminal::{Align, write_json, write_table};

/// The keys of who asks a bucket; they stand in a role's own table.
const OF_BUCKETS: [&str; 6] = [
    "access_key_id",
    "secret_key",
    "secret_key_file",
    "secret_key_command",
    "secret_key_env",
    "secret_key_credential",
];

/// The keys of who logs in to an SFTP server, besides the user in its URL.
const OF_LOGINS: [&str; 6] = [
    "identity_file",
    "password",
    "password_file",
    "password_command",
    "password_env",
    "password_credential",
];

/// Other credentials cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum OtherCredentialsError {
    /// What was given sets no key.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A key that says something else than who asks.
    #[error("--set {key} does not say whose credentials are tried at {kind}: {keys} do")]
    Key {
        /// The key.
        key: String,
        /// What kind of destination it is.
        kind: &'static str,
        /// The keys that do.
        keys: String,
    },
    /// Another place.
    #[error("--set url={url} leads elsewhere than {configured}: only the user may differ")]
    Elsewhere {
        /// What was given.
        url: String,
        /// What coordinator.toml says.
        configured: String,
    },
    /// coordinator.toml.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It has changed since it was read a moment ago.
    #[error("destination {name} is not in coordinator.toml any more")]
    Gone {
        /// Which.
        name: String,
    },
    /// Its table cannot be written down anew.
    #[error("the destination's table cannot be filled in")]
    Write(#[from] toml::ser::Error),
    /// Its table cannot be read as a document.
    #[error("the destination's table cannot be filled in")]
    Document(#[from] toml_edit::TomlError),
    /// The table with what was set.
    #[error("--set and the destination's table do not go together")]
    Table(#[from] toml::de::Error),
    /// The table with what was set.
    #[error("--set and the destination's table do not go together")]
    Place(#[from] PlaceError),
}

/// What `destination test --role --json` prints.
#[derive(Debug, Serialize)]
struct RoleReport<'a> {
    destination: String,
    role: &'static str,
    credentials: &'a str,
    verdict: &'static str,
    rows: Vec<RowReport>,
    left: &'a [String],
}

/// One request.
#[derive(Debug, Serialize)]
struct RowReport {
    tried: &'static str,
    expected: String,
    found: String,
    verdict: &'static str,
}

impl RowReport {
    fn of(row: &TrialRow) -> Self {
        Self {
            tried: row.what,
            expected: row.expected.to_string(),
            found: row.found.to_string(),
            verdict: verdict_word(row.verdict()),
        }
    }
}

/// `destination test NAME --role ROLE`.
pub async fn destination_test_role(
    args: &DestinationTestArgs,
    role: Role,
    config: &Config,
    json: bool,
    out: &mut impl Write,
) -> Result<ExitCode, DestinationCommandError> {
    let configured = find_place(&config.destinations, &args.name)?;
    let others = if args.set.is_empty() {
        None
    } else {
        Some(with_other_credentials(configured, role, args, config)?)
    };
    let tried = others.as_ref().unwrap_or(configured);
    let trial = tried.try_role(role, configured).await?;
    let report = RoleReport {
        destination: args.name.clone(),
        role: role.word(),
        credentials: &trial.who,
        verdict: verdict_word(trial.verdict()),
        rows: trial.rows.iter().map(RowReport::of).collect(),
        left: &trial.left,
    };
    if json {
        write_json(out, &report)?;
    } else {
        write_report(&report, &trial, tried, out)?;
    }
    Ok(match trial.verdict() {
        Verdict::Good | Verdict::Warning => ExitCode::Ok,
        Verdict::Bad => ExitCode::Error,
    })
}

/// The place with the credentials that were given, in the role's own table where there are such.
fn with_other_credentials(
    configured: &Place,
    role: Role,
    args: &DestinationTestArgs,
    config: &Config,
) -> Result<Place, OtherCredentialsError> {
    let source = SourceText::read(&config.file)?;
    let mut document = table_of(&source, &args.name)?;
    let settings = args.set.iter().map(|given| TableSetting::read(given));
    let settings: Vec<_> = settings.collect::<Result<_, _>>()?;
    match configured.kind {
        PlaceKind::S3(_) => set_role(&mut document, role, settings)?,
        PlaceKind::Sftp(_) => set_login(&mut document, settings)?,
        PlaceKind::Local(_) => refuse_others(&settings, "a directory of this machine", &[])?,
    }
    let table: DestinationTable = toml::from_str(&document.to_string())?;
    let facts = FileFacts {
        directory: &source.directory(),
        // What was given stands in no file, and the file itself was checked when it was read.
        is_private: true,
    };
    let place = Place::read(&table, facts)?;
    if !place.is_where(configured) {
        return Err(OtherCredentialsError::Elsewhere {
            url: place.url,
            configured: configured.url.clone(),
        });
    }
    Ok(place)
}

/// A destination's table, alone in a document.
fn table_of(source: &SourceText, name: &str) -> Result<DocumentMut, OtherCredentialsError> {
    let all: toml::Table = source.parse()?;
    let tables = all.get("destination").and_then(toml::Value::as_array);
    let table = tables
        .into_iter()
        .flatten()
        .find(|table| table.get("name").and_then(toml::Value::as_str) == Some(name));
    let table = table.ok_or_else(|| OtherCredentialsError::Gone {
        name: name.to_owned(),
    })?;
    Ok(toml::to_string(table)?.parse()?)
}

/// Puts the credentials in the table of the role, instead of those that it has.
fn set_role(
    document: &mut DocumentMut,
    role: Role,
    settings: Vec<TableSetting>,
) -> Result<(), OtherCredentialsError> {
    refuse_others(&settings, "a bucket", &OF_BUCKETS)?;
    let mut own = Table::new();
    for setting in settings {
        own.insert(&setting.key, Item::Value(setting.value));
    }
    let roles = document
        .entry("role")
        .or_insert_with(|| Item::Table(Table::new()));
    if let Some(roles) = roles.as_table_like_mut() {
        roles.insert(role.word(), Item::Table(own));
    }
    Ok(())
}

/// Puts another login in the table. One way to log in takes the place of all others.
fn set_login(
    document: &mut DocumentMut,
    settings: Vec<TableSetting>,
) -> Result<(), OtherCredentialsError> {
    let with_url: Vec<_> = OF_LOGINS.into_iter().chain(["url"]).collect();
    refuse_others(&settings, "an SFTP server", &with_url)?;
    if settings.iter().any(|setting| setting.key != "url") {
        for key in OF_LOGINS {
            document.remove(key);
        }
    }
    for setting in settings {
        document.insert(&setting.key, Item::Value(setting.value));
    }
    Ok(())
}

fn refuse_others(
    settings: &[TableSetting],
    kind: &'static str,
    keys: &[&str],
) -> Result<(), OtherCredentialsError> {
    let foreign = settings
        .iter()
        .find(|setting| !keys.contains(&setting.key.as_str()));
    match foreign {
        None => Ok(()),
        Some(setting) => Err(OtherCredentialsError::Key {
            key: setting.key.clone(),
            kind,
            keys: if keys.is_empty() {
                "none".to_owned()
            } else {
                keys.join(", ")
            },
        }),
    }
}

fn write_report(
    report: &RoleReport<'_>,
    trial: &RoleTrial,
    place: &Place,
    out: &mut impl Write,
) -> io::Result<()> {
    let (name, role) = (&report.destination, report.role);
    writeln!(
        out,
        "{name} ({}), {} as {role}:\n",
        place.url, report.credentials
    )?;
    let columns = ["tried", "expected", "found", "verdict"].map(|head| (head, Align::Left));
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| {
            vec![
                row.tried.to_owned(),
                row.expected.clone(),
                row.found.clone(),
                row.verdict.to_owned(),
            ]
        })
        .collect();
    write_table(out, &columns, &rows)?;
    if !trial.left.is_empty() {
        writeln!(out, "\nLeft behind, a few bytes each:")?;
        for left in &trial.left {
            writeln!(out, "  {left}")?;
        }
    }
    match trial.verdict() {
        Verdict::Good => writeln!(out, "\nThese are the rights of {role}."),
        Verdict::Warning => writeln!(
            out,
            "\nThese are the rights of {role}, as far as this destination can keep rights apart."
        ),
        Verdict::Bad => writeln!(
            out,
            "\nThese are not the rights of {role}, which `coordinator destination policy {name} --role {role}` prints."
        ),
    }
}
