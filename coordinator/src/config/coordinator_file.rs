//! coordinator.toml: from its text to checked values. Never reads the files it names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use append_server::destination::DestinationName;
use append_server::limits::PATIENCE_SECS_MAX;
use append_server::places::secret::SecretSource;
use append_server::places::table::DestinationTable;
use append_server::places::{FileFacts, Place, PlaceError};
use append_server::quantity::{Size, Span};
use formats::wire::upload::destinations::DESTINATIONS_MAX;
use serde_json::{Map, Value, json};
use toml::Spanned;

use crate::config::error::{ErrorList, ValueError};
use crate::config::listener_settings::{ListenAddress, read_listener};
use crate::config::name::KeyUser;
use crate::config::notify_settings::{NotifySettings, read_notify};
use crate::config::path::resolve_local;
use crate::config::prune_settings::{PruneSettings, read_destination_keep, read_prune};
use crate::config::raw::{LogFormat, LogLevel, RawCoordinator, RawCoordinatorLimits, RawKeys};
use crate::config::scan_settings::{ScanSettings, read_scan};
use crate::config::secret_file::SecretFile;
use crate::config::secret_keys::{RawSecret, read_secret};
use crate::config::settings::ValueReader;
use crate::config::source_text::{Location, SourceText};
use crate::retention::keep::Keep;

/// The hosts file beside coordinator.toml, when `hosts` does not say otherwise.
pub const HOSTS_FILE_DEFAULT: &str = "hosts.toml";

/// Where the key bundle is and how it is unlocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Whose bundle it is.
    pub user: Option<KeyUser>,
    /// The sealed bundle.
    pub bundle: Option<PathBuf>,
    /// What unlocks it.
    pub unlock: Unlock,
}

/// What unlocks the key bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlock {
    /// A key file.
    KeyFile(SecretFile),
    /// The text of a key file, which is had in another way.
    Key(SecretSource),
    /// A file with the password.
    PasswordFile(SecretFile),
    /// The password, which is had in another way.
    Password(SecretSource),
    /// A password typed on the terminal; a program without one has to refuse.
    Prompt,
}

/// The keys of a destination that hold a secret themselves.
const SECRETS: [&str; 2] = ["secret_key", "password"];

/// The longest a run waits for its destinations.
const PATIENCE_MAX: Span = Span::from_secs(PATIENCE_SECS_MAX);

/// The most hosts that can be backed up at once.
pub const PARALLEL_MAX: u64 = 256;

/// Bounds of what the coordinator itself uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoordinatorLimits {
    /// The most bytes that wait in the spool for a destination; a full spool slows runs down.
    pub spool: Size,
    /// Free space kept on the disks for the log, whatever runs want.
    pub reserve: Size,
    /// How long a run waits for destinations that it needs and that do not answer.
    pub patience: Span,
    /// On how many destinations an object must be before it is acknowledged, the required ones among them.
    pub min_copies: u64,
    /// How many hosts are backed up at once.
    pub max_parallel: u64,
}

impl Default for CoordinatorLimits {
    fn default() -> Self {
        Self {
            spool: Size::from_bytes(4 << 30),
            reserve: Size::from_bytes(1 << 30),
            patience: PATIENCE_MAX,
            min_copies: 1,
            max_parallel: 4,
        }
    }
}

/// Which append-server takes the data in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendServer {
    /// The one inside this program.
    Embedded,
    /// A program of its own, reached through the sockets in a directory.
    External {
        /// That directory.
        socket_dir: PathBuf,
    },
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    /// How much.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
}

/// What coordinator.toml says.
#[derive(Debug, Clone)]
pub(super) struct CoordinatorFile {
    pub(super) state_dir: PathBuf,
    pub(super) hosts_file: PathBuf,
    pub(super) destinations: Vec<Place>,
    pub(super) destination_keys: Vec<Map<String, Value>>,
    pub(super) destination_keep: BTreeMap<DestinationName, Keep>,
    pub(super) keys: Keys,
    pub(super) limits: CoordinatorLimits,
    pub(super) prune: PruneSettings,
    pub(super) scan: ScanSettings,
    pub(super) agents_dir: Option<PathBuf>,
    pub(super) append_server: AppendServer,
    pub(super) log: Log,
    pub(super) listener: Option<ListenAddress>,
    pub(super) notify: NotifySettings,
}

/// Checks every value of coordinator.toml; nothing when it is refused.
pub(super) fn read_coordinator(
    source: &SourceText,
    errors: &mut ErrorList,
) -> Option<CoordinatorFile> {
    let raw = match source.parse::<RawCoordinator>() {
        Ok(raw) => raw,
        Err(error) => {
            errors.push(|| error);
            return None;
        }
    };
    let mut reader = ValueReader::new(source, errors);
    let state_dir = reader.local_path(Some(&raw.state_dir));
    let destinations = read_destinations(&mut reader, source, &raw.destination);
    let destination_keep = read_destination_keep(&mut reader, &raw.destination);
    let keys = read_keys(&mut reader, &raw.keys);
    let limits = read_limits(&mut reader, &raw.limits);
    let prune = read_prune(&mut reader, &raw.prune);
    let scan = read_scan(&mut reader, &raw.scan);
    let agents_dir = reader.local_path(raw.agents.directory.as_ref());
    let listener = read_listener(&mut reader, &raw.listener);
    let directory = source.directory();
    let file = FileFacts {
        directory: &directory,
        is_private: source.is_private(),
    };
    let notify = read_notify(&mut reader, &raw.notify, file);
    let append_server = match reader.local_path(raw.append_server.socket_dir.as_ref()) {
        Some(socket_dir) => AppendServer::External { socket_dir },
        None => AppendServer::Embedded,
    };
    let hosts_file = match &raw.hosts {
        Some(_) => reader.local_path(raw.hosts.as_ref()),
        None => resolve_local(&source.directory(), HOSTS_FILE_DEFAULT).ok(),
    };
    Some(CoordinatorFile {
        state_dir: state_dir?,
        hosts_file: hosts_file?,
        destinations,
        destination_keys: given_keys(source),
        destination_keep,
        keys,
        limits,
        prune,
        scan,
        agents_dir,
        append_server,
        log: Log {
            level: raw.log.level.unwrap_or_default(),
            format: raw.log.format.unwrap_or_default(),
        },
        listener,
        notify,
    })
}

fn read_destinations(
    reader: &mut ValueReader<'_>,
    source: &SourceText,
    tables: &[Spanned<DestinationTable>],
) -> Vec<Place> {
    let directory = source.directory();
    let file = FileFacts {
        directory: &directory,
        is_private: source.is_private(),
    };
    let mut places: Vec<(Location, Place)> = Vec::new();
    let mut refused = false;
    for table in tables {
        let raw = table.get_ref();
        let place = match Place::read(raw, file) {
            Ok(place) => place,
            Err(error) => {
                let at = match &error {
                    PlaceError::Name(_) => raw.name.span(),
                    _ => raw.url.span(),
                };
                reader.refuse(&at, error);
                refused = true;
                continue;
            }
        };
        check_distinct(reader, raw, &place, &places);
        places.push((source.location(raw.name.span().start), place));
    }
    if !refused && !places.iter().any(|(_, place)| place.required) {
        let span = tables.first().map(Spanned::span).unwrap_or(0..0);
        reader.refuse(&span, ValueError::NoRequiredDestination);
    }
    places.into_iter().map(|(_, place)| place).collect()
}

/// Two copies in one place would be counted as two and be one.
fn check_distinct(
    reader: &mut ValueReader<'_>,
    raw: &DestinationTable,
    place: &Place,
    earlier: &[(Location, Place)],
) {
    let same_name = earlier.iter().find(|(_, other)| other.name == place.name);
    let same_url = earlier.iter().find(|(_, other)| other.is_where(place));
    let duplicates = [("name", &raw.name, same_name), ("url", &raw.url, same_url)];
    for (what, text, other) in duplicates {
        if let Some((first, _)) = other {
            reader.refuse(
                &text.span(),
                ValueError::DuplicateDestination {
                    name: place.name.to_string(),
                    what,
                    first: first.clone(),
                },
            );
        }
    }
}

fn read_keys(reader: &mut ValueReader<'_>, raw: &RawKeys) -> Keys {
    let key_file = reader.secret_file(raw.key_file.as_ref(), "keys.key_file");
    let password_file = reader.secret_file(raw.password_file.as_ref(), "keys.password_file");
    let key = RawSecret {
        key: "key",
        literal: None,
        file: None,
        command: None,
        variable: None,
        credential: raw.key_credential.as_ref(),
    };
    let password = RawSecret {
        key: "password",
        literal: raw.password.as_ref(),
        file: None,
        command: raw.password_command.as_ref(),
        variable: raw.password_env.as_ref(),
        credential: raw.password_credential.as_ref(),
    };
    let ways = [
        raw.key_file.as_ref().map(Spanned::span),
        key.span(),
        raw.password_file.as_ref().map(Spanned::span),
        password.span(),
    ];
    if let Some(second) = ways.iter().flatten().nth(1) {
        reader.refuse(second, ValueError::TwoUnlockWays);
    }
    if raw.bundle.is_none() {
        let names = ["key_file", "key_credential", "password_file", "password"];
        let user = raw.user.as_ref().map(|user| ("user", user.span()));
        let mut set = names.into_iter().zip(ways);
        let first = set.find_map(|(key, span)| Some((key, span?)));
        if let Some((key, span)) = user.or(first) {
            reader.refuse(&span, ValueError::NoBundle { key });
        }
    }
    Keys {
        user: reader.maybe(raw.user.as_ref()),
        bundle: reader.local_path(raw.bundle.as_ref()),
        unlock: [
            key_file.map(Unlock::KeyFile),
            read_secret(reader, &key).map(Unlock::Key),
            password_file.map(Unlock::PasswordFile),
            read_secret(reader, &password).map(Unlock::Password),
        ]
        .into_iter()
        .flatten()
        .next()
        .unwrap_or(Unlock::Prompt),
    }
}

/// What the tables of the destinations say, for `config show`, without the secrets.
fn given_keys(source: &SourceText) -> Vec<Map<String, Value>> {
    let file = source.parse::<toml::Table>().unwrap_or_default();
    let tables = file.get("destination").and_then(toml::Value::as_array);
    let tables = tables.into_iter().flatten();
    let shown = tables.filter_map(|table| match serde_json::to_value(table) {
        Ok(Value::Object(mut keys)) => {
            hide_secrets(&mut keys);
            Some(keys)
        }
        _ => None,
    });
    shown.collect()
}

fn hide_secrets(keys: &mut Map<String, Value>) {
    for (key, value) in keys {
        match value {
            Value::Object(inner) => hide_secrets(inner),
            value if SECRETS.contains(&key.as_str()) => *value = json!("(hidden)"),
            _ => {}
        }
    }
}

fn read_limits(reader: &mut ValueReader<'_>, raw: &RawCoordinatorLimits) -> CoordinatorLimits {
    let built_in = CoordinatorLimits::default();
    CoordinatorLimits {
        spool: reader.maybe(raw.spool.as_ref()).unwrap_or(built_in.spool),
        reserve: reader
            .maybe(raw.reserve.as_ref())
            .unwrap_or(built_in.reserve),
        patience: reader
            .deadline(raw.patience.as_ref())
            .and_then(|span| reader.at_most(span, PATIENCE_MAX, raw.patience.as_ref()))
            .unwrap_or(built_in.patience),
        min_copies: reader
            .number(raw.min_copies.as_ref(), DESTINATIONS_MAX)
            .unwrap_or(built_in.min_copies),
        max_parallel: reader
            .number(raw.max_parallel.as_ref(), PARALLEL_MAX)
            .unwrap_or(built_in.max_parallel),
    }
}
