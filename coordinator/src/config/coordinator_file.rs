//! coordinator.toml: from its text to checked values. Never reads the files it names.

use std::path::PathBuf;

use append_server::limits::PATIENCE_SECS_MAX;
use append_server::places::table::DestinationTable;
use append_server::places::{FileFacts, Place, PlaceError};
use append_server::quantity::{Size, Span};
use formats::wire::upload::DESTINATIONS_MAX;
use toml::Spanned;

use crate::config::error::{ErrorList, ValueError};
use crate::config::name::KeyUser;
use crate::config::path::resolve_local;
use crate::config::prune_settings::{PruneSettings, read_prune};
use crate::config::raw::{
    LogFormat, LogLevel, RawCoordinator, RawCoordinatorLimits, RawKeys, Text,
};
use crate::config::secret_file::SecretFile;
use crate::config::settings::ValueReader;
use crate::config::source_text::{Location, SourceText};

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
    /// A file with the password.
    PasswordFile(SecretFile),
    /// A password typed on the terminal; a program without one has to refuse.
    Prompt,
}

/// The longest a run waits for its destinations.
const PATIENCE_MAX: Span = Span::from_secs(PATIENCE_SECS_MAX);

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
}

impl Default for CoordinatorLimits {
    fn default() -> Self {
        Self {
            spool: Size::from_bytes(4 << 30),
            reserve: Size::from_bytes(1 << 30),
            patience: PATIENCE_MAX,
            min_copies: 1,
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
    pub(super) keys: Keys,
    pub(super) limits: CoordinatorLimits,
    pub(super) prune: PruneSettings,
    pub(super) agents_dir: Option<PathBuf>,
    pub(super) append_server: AppendServer,
    pub(super) log: Log,
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
    let keys = read_keys(&mut reader, &raw.keys);
    let limits = read_limits(&mut reader, &raw.limits);
    let prune = read_prune(&mut reader, &raw.prune);
    let agents_dir = reader.local_path(raw.agents.directory.as_ref());
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
        keys,
        limits,
        prune,
        agents_dir,
        append_server,
        log: Log {
            level: raw.log.level.unwrap_or_default(),
            format: raw.log.format.unwrap_or_default(),
        },
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
    let same_url = earlier.iter().find(|(_, other)| other.url == place.url);
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
    if let (Some(_), Some(password)) = (&raw.key_file, &raw.password_file) {
        reader.refuse(&password.span(), ValueError::TwoUnlockWays);
    }
    if raw.bundle.is_none() {
        let set: [(&'static str, Option<&Text>); 3] = [
            ("user", raw.user.as_ref()),
            ("key_file", raw.key_file.as_ref()),
            ("password_file", raw.password_file.as_ref()),
        ];
        if let Some((key, Some(text))) = set.into_iter().find(|(_, text)| text.is_some()) {
            reader.refuse(&text.span(), ValueError::NoBundle { key });
        }
    }
    Keys {
        user: reader.maybe(raw.user.as_ref()),
        bundle: reader.local_path(raw.bundle.as_ref()),
        unlock: match (key_file, password_file) {
            (Some(file), _) => Unlock::KeyFile(file),
            (None, Some(file)) => Unlock::PasswordFile(file),
            (None, None) => Unlock::Prompt,
        },
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
    }
}
