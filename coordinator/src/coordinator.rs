//! What every command works with: the configuration, the unlocked keys, the append-server, the state. Opened
//! once; never writes the configuration.

pub mod log;
mod placing;
mod repositories;

use std::path::Path;
use std::sync::Arc;

use append_server::destination::DestinationName;
use append_server::places::Place;
use bytes::Bytes;
use formats::ids::CoordinatorId;
use formats::keys::repository::MissingKeyError;
use formats::keys::secret::{RandomError, random};
use formats::object::UserName;
use tokio::sync::Mutex;

use crate::audit::AUDIT_FILE_BYTES_MAX;
use crate::audit::log::AuditLog;
use crate::audit::recorder::Recorder;
use crate::catalog::CatalogError;
use crate::catalog::state::State;
use crate::catalog::sync::SyncError;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::coordinator_file::{AppendServer, Unlock};
use crate::coordinator::log::LogError;
use crate::daemon::client::answers;
use crate::database::DatabaseError;
use crate::events::EventSink;
use crate::events::actor::Actor;
use crate::exit_code::ExitCode;
use crate::keyring::unlock::UnlockFrom;
use crate::keyring::{Keyring, KeyringError, read_sealed_bundle, readers_bundles};
use crate::machine;
use crate::repository::RepositoryError;
use crate::repository::catch_up::CatchUpError;
use crate::repository::layout::StateDir;
use crate::storage::StorageClient;
use crate::storage::embedded::{EmbeddedError, EmbeddedLimits, EmbeddedServer, QueueUse};
use crate::storage::ingest::Ingest;

pub use crate::coordinator::repositories::HostRepository;

/// Why the coordinator could not be opened, or a host's repository.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The keys stay locked.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// No bundle is configured.
    #[error(
        "no key bundle is configured: set [keys] bundle in coordinator.toml, or run `coordinator init`"
    )]
    NoBundle,
    /// The append-server does not start.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The state file.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// A host's repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Its catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A key that the role lacks.
    #[error(transparent)]
    MissingKey(#[from] MissingKeyError),
    /// Its log on storage.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// Its log is damaged, and what comes after is not known.
    #[error(
        "the log of {host} cannot be read to its end, and a newer snapshot may be there: {problem}. Name a snapshot by its id, \
         read another destination with --destination, or heal this one with `coordinator scan --repair`"
    )]
    LogEnds {
        /// The host.
        host: String,
        /// Why.
        problem: String,
    },
    /// Its index, which is behind the log.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// No such destination.
    #[error("there is no destination {name:?} in coordinator.toml: there are {known}")]
    NoSuchDestination {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// It may not be written to, or could not be.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The host was never backed up, or only after this coordinator was recovered.
    #[error(
        "host {host} has no snapshot yet: run `coordinator run {host}`, or, on a coordinator with keys that only read, \
         `coordinator recover` into a new directory, which finds what is new"
    )]
    NoRepository {
        /// The host.
        host: String,
    },
}

impl OpenError {
    /// Whether a log or an index is not what was stored.
    fn is_integrity(&self) -> bool {
        match self {
            Self::Sync(error) => error.is_integrity(),
            Self::CatchUp(error) => error.is_integrity(),
            _ => false,
        }
    }

    fn is_integrity_of_index(&self) -> bool {
        matches!(self, Self::CatchUp(error) if error.is_integrity())
    }

    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Keyring(error) if error.is_wrong_key() => ExitCode::WrongKey,
            Self::MissingKey(_) => ExitCode::WrongKey,
            Self::Repository(error) if error.is_wrong_key() => ExitCode::WrongKey,
            Self::Repository(RepositoryError::Config { .. } | RepositoryError::Lost { .. }) => {
                ExitCode::Integrity
            }
            Self::Sync(error) if error.is_integrity() => ExitCode::Integrity,
            Self::LogEnds { .. } => ExitCode::Integrity,
            Self::Log(error) => error.exit_code(),
            Self::NoRepository { .. } | Self::NoSuchDestination { .. } => ExitCode::NotFound,
            _ => ExitCode::Error,
        }
    }
}

/// An opened coordinator.
#[derive(Debug)]
pub struct Coordinator {
    /// The configuration.
    pub config: Config,
    /// Where state is.
    pub state_dir: StateDir,
    /// The unlocked keys.
    pub keyring: Arc<Keyring>,
    /// The append-server's control socket.
    pub storage: StorageClient,
    /// Where tunnels' connections go.
    pub ingest: Ingest,
    /// The only clock.
    pub clock: Arc<dyn Clock>,
    /// Repositories and the history of runs.
    pub state: Arc<Mutex<State>>,
    /// What leases call it.
    pub id: CoordinatorId,
    /// Where what happens is told, as done by whoever runs this program. All of it is in the audit log when the coordinator
    /// is closed or dropped.
    pub events: EventSink,
    /// Writes it there.
    pub recorder: Arc<Recorder>,
    bundles: Arc<[(UserName, Bytes)]>,
    embedded: Option<EmbeddedServer>,
    reading: Reading,
}

/// What of the destinations is read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reading {
    Everywhere,
    One(DestinationName),
}

impl Coordinator {
    /// Unlocks the keys, opens the state, and starts the append-server or finds the one that runs.
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::open_to(config, clock, Reading::Everywhere).await
    }

    /// The same, to read one destination alone, whatever the others are like. Nothing can be backed up with it.
    pub async fn open_at(
        mut config: Config,
        clock: Arc<dyn Clock>,
        destination: &str,
    ) -> Result<Self, OpenError> {
        if matches!(config.append_server, AppendServer::Embedded) {
            let mut alone = find_place(&config.destinations, destination)?.clone();
            alone.required = true;
            config.destinations = vec![alone];
            config.limits.min_copies = 1;
        }
        let name = destination
            .parse()
            .map_err(|_| no_such_destination(&config.destinations, destination))?;
        Self::open_to(config, clock, Reading::One(name)).await
    }

    async fn open_to(
        config: Config,
        clock: Arc<dyn Clock>,
        reading: Reading,
    ) -> Result<Self, OpenError> {
        let bundle = config.keys.bundle.clone().ok_or(OpenError::NoBundle)?;
        let keyring = Keyring::unlock(&bundle, &unlock_from(&config.keys.unlock))?;
        let state_dir = StateDir::new(&config.state_dir);
        let mut state = State::open(&state_dir.state_file())?;
        let id = state.coordinator_id(machine::digest(), CoordinatorId(random()?))?;
        let bundles = stored_bundles(&bundle, &keyring)?;
        let (embedded, storage, ingest) = match &config.append_server {
            AppendServer::Embedded => {
                let server = start_embedded(&config, &reading).await?;
                let (client, ingest) = (server.client(), server.ingest());
                let places = config.destinations.iter();
                let names = places.map(|place| place.name.clone()).collect();
                (Some(server), client.with_destinations(names), ingest)
            }
            AppendServer::External { socket_dir } => {
                let client = StorageClient::new(&socket_dir.join("control"));
                let client = match &reading {
                    Reading::One(name) => client.at(name),
                    Reading::Everywhere => {
                        let names = names_told(&client).await;
                        client.with_destinations(names)
                    }
                };
                (None, client, Ingest::Socket(socket_dir.join("ingest")))
            }
        };
        let events = EventSink::new(Arc::clone(&clock), Actor::current_user());
        let log = AuditLog::new(&state_dir.audit_dir(), id.to_string(), AUDIT_FILE_BYTES_MAX);
        let recorder = Arc::new(Recorder::start(log, &events));
        let opened = Self {
            config,
            state_dir,
            keyring: Arc::new(keyring),
            storage,
            ingest,
            clock,
            state: Arc::new(Mutex::new(state)),
            id,
            events,
            recorder,
            bundles: bundles.into(),
            embedded,
            reading,
        };
        // A daemon's configuration may be another than what the files say by now, and who only reads decides nothing.
        let says_where = opened.reading == Reading::Everywhere
            && opened.keyring.may_write().is_ok()
            && !answers(&opened.state_dir.daemon_socket()).await;
        if says_where {
            opened.try_place_all().await;
        }
        Ok(opened)
    }

    /// The same coordinator with another configuration, whose hosts alone differ: state, keys and storage are shared. It must
    /// not be used any more once the one that was opened is closed.
    pub fn with_config(&self, config: Config) -> Self {
        Self {
            config,
            state_dir: self.state_dir.clone(),
            keyring: Arc::clone(&self.keyring),
            storage: self.storage.clone(),
            ingest: self.ingest.clone(),
            clock: Arc::clone(&self.clock),
            state: Arc::clone(&self.state),
            id: self.id,
            events: self.events.clone(),
            recorder: Arc::clone(&self.recorder),
            bundles: Arc::clone(&self.bundles),
            embedded: None,
            reading: self.reading.clone(),
        }
    }

    /// The same coordinator, whose acts are told as somebody's.
    pub fn acting_as(&self, actor: Actor) -> Self {
        Self {
            events: self.events.acting_as(actor),
            ..self.with_config(self.config.clone())
        }
    }

    /// The users' sealed bundles that this coordinator has.
    pub fn bundles(&self) -> &[(UserName, Bytes)] {
        &self.bundles
    }

    /// Ends the embedded append-server; what it acknowledged is durable anyway.
    pub async fn close(self) {
        self.recorder.flush();
        if let Some(server) = self.embedded {
            server.shutdown().await;
        }
    }
}

/// Where the configured secret comes from; a person, or the file that the environment names, when none is.
pub fn unlock_from(unlock: &Unlock) -> UnlockFrom {
    match unlock {
        Unlock::KeyFile(file) => UnlockFrom::KeyFile(file.path().to_owned()),
        Unlock::Key(source) => UnlockFrom::Key(source.clone()),
        Unlock::PasswordFile(file) => UnlockFrom::PasswordFile(file.path().to_owned()),
        Unlock::Password(source) => UnlockFrom::Password(source.clone()),
        Unlock::Prompt => UnlockFrom::environment_or_prompt(),
    }
}

/// The sealed bundles beside the configured one: they go into every new repository, so that one destination
/// and a password or key file are enough to read it.
fn stored_bundles(bundle: &Path, keyring: &Keyring) -> Result<Vec<(UserName, Bytes)>, OpenError> {
    let sealed = read_sealed_bundle(bundle)?;
    let mut bundles = vec![(keyring.user().clone(), Bytes::copy_from_slice(&sealed))];
    let admin = bundle.with_file_name("admin.bundle");
    if let Ok(name) = "admin".parse::<UserName>()
        && name != *keyring.user()
        && admin.exists()
    {
        bundles.push((name, Bytes::copy_from_slice(&read_sealed_bundle(&admin)?)));
    }
    let readers = readers_bundles(bundle.parent().unwrap_or(Path::new(".")));
    for (user, sealed) in readers {
        if user != *keyring.user() {
            bundles.push((user, Bytes::copy_from_slice(&sealed)));
        }
    }
    Ok(bundles)
}

/// The destinations of an append-server of its own. One that does not answer now is asked for more, and says why, later.
async fn names_told(client: &StorageClient) -> Vec<DestinationName> {
    let states = client.destinations().await.unwrap_or_default();
    let names = states.iter().filter_map(|state| state.name.parse().ok());
    names.collect()
}

/// The destination of a name.
pub fn find_place<'a>(places: &'a [Place], name: &str) -> Result<&'a Place, OpenError> {
    let found = places.iter().find(|place| place.name.to_string() == name);
    found.ok_or_else(|| no_such_destination(places, name))
}

fn no_such_destination(places: &[Place], name: &str) -> OpenError {
    let names: Vec<_> = places.iter().map(|place| place.name.to_string()).collect();
    OpenError::NoSuchDestination {
        name: name.to_owned(),
        known: names.join(", "),
    }
}

async fn start_embedded(config: &Config, reading: &Reading) -> Result<EmbeddedServer, OpenError> {
    let limits = EmbeddedLimits {
        spool_bytes_max: config.limits.spool.bytes(),
        reserve_bytes: config.limits.reserve.bytes(),
        patience: config.limits.patience.duration(),
        copies_min: usize::try_from(config.limits.min_copies).unwrap_or(usize::MAX),
        grace: config.prune.grace.duration(),
        daily_bytes_max: config.prune.delete_max.bytes(),
    };
    let queue = match reading {
        Reading::Everywhere => QueueUse::Deliver,
        Reading::One(_) => QueueUse::LeaveAlone,
    };
    let places = &config.destinations;
    Ok(EmbeddedServer::start(&config.state_dir, places, limits, queue).await?)
}
