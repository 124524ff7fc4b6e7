//! `recover`: builds a coordinator anew from the recovery kit, or a user's key file, and one destination. Writes nothing to the destination, and
//! nothing into the directory before all of it is made.

mod kept_hosts;
mod new_keys;
mod repositories;
mod state_before;
pub(in crate::commands) mod table;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::keys::bundle::Role;
use formats::object::UserName;
use serde::Serialize;

use crate::audit::alone;
use crate::cli::recover::RecoverArgs;
use crate::clock::SystemClock;
use crate::commands::init::stage::Staging;
use crate::commands::init::{
    COORDINATOR_TOML, HOSTS_TOML, InitError, KEYS, STATE, exists, refuse_set_up_in,
};
use crate::commands::recover::kept_hosts::{SetAside, set_lists_aside};
use crate::commands::recover::new_keys::{NewKeys, users_of_before};
use crate::commands::recover::repositories::{Recovered, recover_repositories};
use crate::commands::recover::state_before::{StateBefore, take_over};
use crate::commands::recover::table::{TableError, coordinator_toml};
use crate::config::Config;
use crate::config::error::{ConfigError, ConfigErrors};
use crate::coordinator::{Coordinator, OpenError};
use crate::database::DatabaseError;
use crate::events::Event;
use crate::events::what::What;
use crate::exit_code::ExitCode;
use crate::index::IndexError;
use crate::keyring::private_file::{PrivateFileError, create_private};
use crate::keyring::{KeyringError, bundle_path};
use crate::repository::layout::StateDir;
use crate::repository::store::StoreError;
use crate::terminal::{Align, count_text, write_json, write_table};

/// The configuration that the recovery itself works with; goes with the staging directory.
const WORKING_TOML: &str = "working.toml";

/// `recover` failed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] InitError),
    /// The kit.
    #[error(transparent)]
    Kit(#[from] KeyringError),
    /// What was said of the destination.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The configuration that came of it.
    #[error("--destination and --set, or the hosts.toml that is there, make no configuration")]
    Config(#[from] ConfigErrors),
    /// A file.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The directory beside hosts.toml.
    #[error(transparent)]
    HostsFiles(#[from] ConfigError),
    /// A hosts file that was there.
    #[error("could not {action} {}; nothing was recovered", path.display())]
    KeptHosts {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The destination cannot be opened.
    #[error(transparent)]
    Place(#[from] append_server::places::OpenError),
    /// The destination cannot be listed.
    #[error("could not look for repositories")]
    Destination(#[from] append_server::destination::DestinationError),
    /// The destination does not answer.
    #[error("could not read a repository's config; nothing was recovered, try again")]
    Storage(#[from] crate::storage::error::StorageError),
    /// The destination does not answer.
    #[error("could not read the user's keys in a repository; nothing was recovered, try again")]
    Bundle(#[source] StoreError),
    /// The coordinator that is being built.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its state.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// An index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A catalog.
    #[error(transparent)]
    Catalog(#[from] crate::catalog::CatalogError),
    /// Nothing there.
    #[error("there is no repository at {url}: is this the right destination, with its prefix?")]
    NothingThere {
        /// Where.
        url: String,
    },
    /// No such user.
    #[error(
        "no repository at {url} has keys of user {user}: correct the name, or make them there with `coordinator key derive`"
    )]
    NoSuchUser {
        /// The name.
        user: UserName,
        /// Where.
        url: String,
    },
    /// Neither a kit nor a user's keys.
    #[error("give --kit, or --user with --key-file")]
    NoKeys,
    /// Only repositories of others.
    #[error(
        "there are {count} repositories at {url}, and none is of this kit or user: use the kit, or keys, of the coordinator \
         that made them"
    )]
    OtherKit {
        /// Where.
        url: String,
        /// How many.
        count: usize,
    },
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl RecoverError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NothingThere { .. } | Self::NoSuchUser { .. } => ExitCode::NotFound,
            Self::NoKeys => ExitCode::Usage,
            Self::OtherKit { .. } => ExitCode::WrongKey,
            Self::Kit(error) if error.is_wrong_key() => ExitCode::WrongKey,
            Self::Open(error) => error.exit_code(),
            _ => ExitCode::Error,
        }
    }
}

/// `recover`.
pub async fn recover_command(
    args: &RecoverArgs,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, RecoverError> {
    let report = recover(args).await?;
    let is_whole = report.repositories.iter().all(Recovered::is_whole);
    if json {
        write_json(out, &report)?;
    } else {
        write_report(&report, out)?;
    }
    Ok(match is_whole {
        true => ExitCode::Ok,
        false => ExitCode::Integrity,
    })
}

/// What was recovered; also what `recover --json` prints.
#[derive(Debug, Serialize)]
struct RecoverReport {
    dir: PathBuf,
    destination: String,
    /// What the keys are good for.
    role: String,
    #[serde(skip)]
    writes: bool,
    repositories: Vec<Recovered>,
    /// What is a comment now in hosts files that were there.
    lists_set_aside: Vec<SetAside>,
    /// Whose sealed keys were taken over from the repositories.
    users: Vec<String>,
    /// What was taken over from the copy of the state, where there is one.
    state_before: Option<StateBefore>,
    seconds: f64,
}

async fn recover(args: &RecoverArgs) -> Result<RecoverReport, RecoverError> {
    let began = std::time::Instant::now();
    let keys = NewKeys::read(args)?;
    let dir = absolute(&args.dir)?;
    let config_text = coordinator_toml(&args.destination, &args.set, keys.user())?;
    refuse_set_up_in(&dir)?;
    let staging = Staging::begin(&dir)?;
    // Again under the lock: another may have finished in between.
    refuse_set_up_in(&dir)?;
    staging.take_back()?;
    let has_hosts = exists(&dir.join(HOSTS_TOML))?;
    let pieces: Vec<&str> = [STATE, KEYS, HOSTS_TOML, COORDINATOR_TOML]
        .into_iter()
        .filter(|piece| *piece != HOSTS_TOML || !has_hosts)
        .collect();
    for piece in &pieces {
        let path = dir.join(piece);
        if exists(&path)? {
            return Err(InitError::Occupied { path }.into());
        }
    }
    let made = build(&staging, &dir, &pieces, &keys, &config_text).await;
    if made.is_err() {
        // What was moved already is of no use without the rest.
        staging.take_back()?;
    }
    staging.finish()?;
    let made = made?;
    let destination = args.destination.clone();
    alone::record(
        &StateDir::new(&dir.join(STATE)),
        &SystemClock,
        vec![Event::new(What::Recovered { destination })],
    );
    Ok(RecoverReport {
        dir,
        destination: args.destination.clone(),
        role: made.role.to_string(),
        writes: made.role.signs(),
        repositories: made.repositories,
        lists_set_aside: made.lists_set_aside,
        users: made.users.keys().map(UserName::to_string).collect(),
        state_before: made.state_before,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// What was built from the destination.
struct Made {
    role: Role,
    repositories: Vec<Recovered>,
    hosts_toml: String,
    users: BTreeMap<UserName, Vec<u8>>,
    lists_set_aside: Vec<SetAside>,
    state_before: Option<StateBefore>,
}

/// Makes everything in the staging directory, and moves it into place when it is whole.
async fn build(
    staging: &Staging,
    dir: &Path,
    pieces: &[&str],
    keys: &NewKeys,
    config_text: &str,
) -> Result<Made, RecoverError> {
    let has_hosts = !pieces.contains(&HOSTS_TOML);
    let config = staging.path(COORDINATOR_TOML);
    create_private(&config, "configuration", config_text.as_bytes())?;
    let hosts = if has_hosts {
        dir.join(HOSTS_TOML)
    } else {
        staging.path("no-hosts.toml")
    };
    if !has_hosts {
        create_private(&hosts, "hosts file", b"")?;
    }
    let working = staging.path(WORKING_TOML);
    let with_hosts = format!("hosts = {}\n{config_text}", quoted(&hosts));
    create_private(&working, "configuration", with_hosts.as_bytes())?;

    let config = Config::load_for_recovery(&working)?;
    let places = config.destinations.clone();
    keys.stage(staging, &config).await?;
    let made = recover_from(config).await?;
    if !has_hosts {
        let path = staging.path(HOSTS_TOML);
        create_private(&path, "hosts file", made.hosts_toml.as_bytes())?;
    }
    for (user, sealed) in &made.users {
        let path = bundle_path(&staging.path(KEYS), user);
        create_private(&path, "key bundle", sealed)?;
    }
    // Before the rest is in place: whatever comes between, a second recovery goes on from here.
    let lists_set_aside = set_lists_aside(&dir.join(HOSTS_TOML), has_hosts, &places)?;
    staging.mark_whole(pieces)?;
    staging.move_into_place(pieces)?;
    Ok(Made {
        lists_set_aside,
        ..made
    })
}

async fn recover_from(config: Config) -> Result<Made, RecoverError> {
    let coordinator = Coordinator::open(config, Arc::new(SystemClock)).await?;
    let made = read_everything(&coordinator).await;
    coordinator.close().await;
    made
}

async fn read_everything(coordinator: &Coordinator) -> Result<Made, RecoverError> {
    let (repositories, hosts_toml) = recover_repositories(coordinator).await?;
    let state_before = take_over(coordinator, &hosts_toml).await;
    Ok(Made {
        role: coordinator.keyring.role(),
        repositories,
        hosts_toml,
        users: users_of_before(coordinator).await?,
        lists_set_aside: Vec::new(),
        state_before,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, InitError> {
    std::path::absolute(path).map_err(|source| InitError::Io {
        action: "find",
        path: path.to_owned(),
        source,
    })
}

fn quoted(path: &Path) -> String {
    toml_edit::Value::from(path.display().to_string()).to_string()
}

fn write_report(report: &RecoverReport, out: &mut dyn Write) -> io::Result<()> {
    let columns = [
        ("repository", Align::Left),
        ("name", Align::Left),
        ("hosts", Align::Left),
        ("snapshots", Align::Right),
        ("last", Align::Left),
        ("packs", Align::Right),
    ];
    let rows: Vec<_> = report
        .repositories
        .iter()
        .map(|found| {
            vec![
                found.repository.clone(),
                found.name.clone().unwrap_or_else(|| "-".to_owned()),
                found.hosts.join(", "),
                count_text(found.snapshots),
                found.last.clone().unwrap_or_else(|| "-".to_owned()),
                count_text(found.packs),
            ]
        })
        .collect();
    write_table(out, &columns, &rows)?;
    for found in &report.repositories {
        for problem in &found.problems {
            writeln!(out, "  {}: {problem}", found.repository)?;
        }
        for note in &found.notes {
            writeln!(out, "  {}: {note}", found.repository)?;
        }
    }
    for list in &report.lists_set_aside {
        writeln!(out, "{list}")?;
    }
    if !report.users.is_empty() {
        let users = report.users.join(", ");
        writeln!(out, "\nSealed keys of users that are back: {users}")?;
    }
    if let Some(before) = &report.state_before {
        write_state_before(before, out)?;
    }
    let config = report.dir.join(COORDINATOR_TOML);
    let dir = report.dir.display();
    if !report.writes {
        return writeln!(
            out,
            "\nA coordinator stands in {dir} whose keys only read (role {}): it restores and verifies, and adds nothing.\n  \
             coordinator -c {config} scan --full --verify\n  \
             coordinator -c {config} restore HOST latest --to DIR",
            report.role,
            config = config.display()
        );
    }
    writeln!(
        out,
        "\nA coordinator stands in {dir} again. Look at hosts.toml there: files of private keys are not in backups. Then\n  \
         coordinator -c {config} scan --full\n  \
         coordinator -c {config} restore HOST latest --to DIR\n\
         Every host is on hold, so that nothing of it is dropped until you have looked, for not every hold of before may be known:\n  \
         coordinator -c {config} hold release '*'\n\
         It backs up once it has the leases, when the coordinator that had them is gone for good:\n  \
         coordinator -c {config} lease take --all",
        config = config.display()
    )
}

fn write_state_before(before: &StateBefore, out: &mut dyn Write) -> io::Result<()> {
    let StateBefore {
        host, time, taken, ..
    } = before;
    if let Some(problem) = &before.problem {
        return writeln!(
            out,
            "\nNothing was taken over from the copy of the state in the snapshot of {host} of {time}: {problem}"
        );
    }
    writeln!(
        out,
        "\nFrom the copy of the state in the snapshot of {host} of {time}: {} holds, {} identities of hosts, {} runs. \
         coordinator.toml and the files of hosts, as they were, are in that snapshot, too",
        taken.holds, taken.identities, taken.runs
    )?;
    match taken.holds {
        0 => Ok(()),
        _ => writeln!(
            out,
            "A host with holds of before has several now: `coordinator hold ls` shows them, and each is ended by its number. A glob \
             ends no legal one."
        ),
    }
}
