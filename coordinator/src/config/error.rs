//! What can be wrong with the configuration: each error names file, line, key and remedy.

use std::fmt;
use std::io;
use std::path::PathBuf;

use append_server::destination::ParseDestinationNameError;
use append_server::destination::bandwidth::ParseBandwidthError;
use append_server::places::PlaceError;
use append_server::places::table::KeyError;
use append_server::quantity::QuantityError;
use formats::object::UserName;
use formats::wire::upload::destinations::DESTINATIONS_MAX;

use crate::config::address::AddressError;
use crate::config::cpu_limit::ParseCpuLimitError;
use crate::config::exclude::ExcludeError;
use crate::config::fs_snapshot::ParseFsSnapshotError;
use crate::config::io_priority::ParseIoPriorityError;
use crate::config::listener_settings::ListenAddressError;
use crate::config::login_fields::LoginFieldError;
use crate::config::name::NameError;
use crate::config::notify_settings::TargetError;
use crate::config::path::PathError;
use crate::config::secret_file::SecretFileError;
use crate::config::source_text::{FILE_BYTES_MAX, Location, Place};
use crate::config::stream_settings::StreamNameError;
use crate::schedule::error::ScheduleError;

/// How many errors one load reports; a broken file of 100,000 hosts must not print 100,000 lines.
pub const ERRORS_MAX: usize = 20;

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be opened or read.
    #[error("{}: cannot be read: {source}{}", path.display(), read_remedy(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// coordinator.toml names a hosts file that is not there.
    #[error("{p}: there is no hosts file: `coordinator config example hosts > {p}` writes a sample", p = path.display())]
    NoHostsFile {
        /// Where it should be.
        path: PathBuf,
    },
    /// A directory, socket or FIFO lies where a file should.
    #[error("{}: is not a regular file: put a TOML file there, or name another with --config", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Any local user could change what is run on every host.
    #[error("{p}: is writable by every local user (mode {mode:04o}): run `chmod o-w {p}`", p = path.display())]
    WorldWritable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A setting for keys that open what is stored.
    #[error(
        "{place}: {setting}: needs to read what is stored, which the keys of user {user} (role write) do not: take it out here, \
         or name keys of role data in [keys]"
    )]
    NeedsOpening {
        /// Where.
        place: String,
        /// Which.
        setting: String,
        /// Whose keys.
        user: UserName,
    },
    /// More than [`FILE_BYTES_MAX`].
    #[error("{}: is larger than {} MiB: split it over hosts.d/*.toml", path.display(), FILE_BYTES_MAX >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Bytes that are not text.
    #[error("{location}: the file is not UTF-8 here: save it as UTF-8")]
    NotUtf8 {
        /// The first such byte.
        location: Location,
    },
    /// Not TOML, or not of the shape that is asked for.
    #[error("{place}: {complaint}")]
    Toml {
        /// Where.
        place: Place,
        /// What is wrong, with a remedy where there is one.
        complaint: String,
        /// What the reader said.
        source: Box<toml::de::Error>,
    },
    /// A value that its type refuses.
    #[error("{place}: {source}")]
    Value {
        /// Where.
        place: Place,
        /// Why.
        source: ValueError,
    },
    /// One name in two files, or twice in one under two spellings.
    #[error("{location}: {table}: is already defined at {first}: rename one of the two")]
    DuplicateTable {
        /// The dotted key, such as `host.web1`.
        table: String,
        /// The later definition.
        location: Location,
        /// The earlier one.
        first: Location,
    },
    /// A secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
}

impl ConfigError {
    /// Where in a file it is, when it is at one place.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Toml { place, .. } | Self::Value { place, .. } => Some(place.clone()),
            Self::NotUtf8 { location } => Some(Place {
                location: location.clone(),
                key: String::new(),
            }),
            Self::DuplicateTable {
                table, location, ..
            } => Some(Place {
                location: location.clone(),
                key: table.clone(),
            }),
            Self::Secret(error) => error.named_at.clone(),
            Self::Read { .. }
            | Self::NoHostsFile { .. }
            | Self::NotAFile { .. }
            | Self::WorldWritable { .. }
            | Self::TooLarge { .. }
            | Self::NeedsOpening { .. } => None,
        }
    }
}

/// Why a value that is proper TOML is refused.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An address or a user.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A fingerprint or a `become` command.
    #[error(transparent)]
    LoginField(#[from] LoginFieldError),
    /// A size or a duration.
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    /// An exclude rule or a marker.
    #[error(transparent)]
    Exclude(#[from] ExcludeError),
    /// A path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A destination.
    #[error(transparent)]
    Destination(#[from] PlaceError),
    /// The keys of a secret.
    #[error(transparent)]
    Secret(#[from] KeyError),
    /// Where the listener listens.
    #[error(transparent)]
    Listen(#[from] ListenAddressError),
    /// Who is told.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A number outside its range.
    #[error("{value} is out of range: write a number from {min} to {max}")]
    OutOfRange {
        /// What was written.
        value: u64,
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A number of snapshots that cannot be meant.
    #[error(
        "{value} is no number of snapshots to keep: write one from 0 to {max}, and nothing is dropped until then"
    )]
    KeepCount {
        /// What was written.
        value: i64,
        /// The greatest.
        max: u64,
    },
    /// Not off, and no table.
    #[error("{word:?} is no word for anomaly: write \"off\", or a table such as {{ gone = 60 }}")]
    UnknownAnomaly {
        /// What was written.
        word: String,
    },
    /// A rule of `keep_deleted` that names no directory.
    #[error(
        "{text:?} would keep deleted files anywhere: begin with a directory, as in \"/var/lib/archive/**\""
    )]
    KeptAnywhere {
        /// What was written.
        text: String,
    },
    /// A soft limit that is never reached.
    #[error("the soft limit is above the hard one: swap them, or leave one out")]
    SoftAboveHard,
    /// A schedule, or a window.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Not a program with arguments.
    #[error(
        "is no command: write the program and its arguments, as in [\"systemctl\", \"stop\", \"x\"]"
    )]
    NoCommand,
    /// A hook that comes too late to stop the run.
    #[error("a {event} hook has nothing to abort: write \"warn\" or \"ignore\"")]
    NothingToAbort {
        /// When the hook is run.
        event: &'static str,
    },
    /// Not one of the two ways to say what a stream runs.
    #[error("a stream needs either `preset` (with `database` and `args`) or `run`, and not both")]
    PresetOrRun,
    /// A preset without the database that it needs, or with one that could be an option.
    #[error(
        "this preset needs `database`: its name, or the path of its file; it cannot begin with \"-\""
    )]
    NoDatabase,
    /// Streams that cannot lie beside each other.
    #[error("two streams have one name, or one lies below another: give each a file of its own")]
    StreamNamesClash,
    /// Commands that do not fit into the agent's orders.
    #[error(
        "the streams' commands have more than {max} bytes together: shorten them, as with scripts on the host"
    )]
    CommandsTooLong {
        /// The most.
        max: usize,
    },
    /// A text to end with that is too long.
    #[error("is too long: write at most {max} bytes")]
    EndingTooLong {
        /// The most.
        max: usize,
    },
    /// A bandwidth.
    #[error(transparent)]
    Bandwidth(#[from] ParseBandwidthError),
    /// A rate after one for all hours.
    #[error(
        "never applies, as the rate before it has no hours: write the one without `from` and `to` last"
    )]
    NeverApplies,
    /// Hours without a beginning or an end.
    #[error("has one of `from` and `to`: write both, or neither for all other hours")]
    HalfHours,
    /// What a host is read from.
    #[error(transparent)]
    FsSnapshot(#[from] ParseFsSnapshotError),
    /// An I/O priority.
    #[error(transparent)]
    IoPriority(#[from] ParseIoPriorityError),
    /// A limit of CPU time.
    #[error(transparent)]
    CpuLimit(#[from] ParseCpuLimitError),
    /// A stream's name.
    #[error(transparent)]
    StreamName(#[from] StreamNameError),
    /// More of something than anybody means.
    #[error("there are too many of them: write at most {max}")]
    TooMany {
        /// The most.
        max: usize,
    },
    /// No such zone.
    #[error("there is no time zone {zone:?}: write one as in \"Europe/Zurich\" or \"UTC\"")]
    UnknownZone {
        /// What was written.
        zone: String,
    },
    /// A duration that would stop everything at once.
    #[error("{value} is too short: write at least {min}")]
    TooShort {
        /// What was written.
        value: String,
        /// The least.
        min: String,
    },
    /// A duration that nobody else waits for.
    #[error("{value} is too long: write at most {max}")]
    TooLong {
        /// What was written.
        value: String,
        /// The greatest.
        max: String,
    },
    /// A key that every host needs and neither it nor a group nor `[defaults]` sets.
    #[error("`{key}` is missing: add `{example}` here{}", if *inheritable { " or under [defaults]" } else { "" })]
    Missing {
        /// The key.
        key: &'static str,
        /// How it could be written.
        example: &'static str,
        /// Whether `[defaults]` may hold it.
        inheritable: bool,
    },
    /// No way to log in.
    #[error(
        "has no way to log in: set `identity_file = \"PATH\"` or `use_agent = true` here or under [defaults]"
    )]
    NoCredential,
    /// A certificate without the key it belongs to.
    #[error(
        "`certificate_file` needs the key it certifies: set `identity_file` or `use_agent = true` too"
    )]
    CertificateWithoutKey,
    /// A key in `[defaults]` or a group that only one host can have.
    #[error("`{key}` cannot be shared: move it from [{table}] to the [host.NAME] it belongs to")]
    NotShared {
        /// The key.
        key: &'static str,
        /// Where it stands.
        table: String,
    },
    /// `groups` names no group.
    #[error(
        "group {name:?} is not defined{}: name a [group.*] of this configuration, or add [group.NAME]",
        did_you_mean(nearest.as_deref())
    )]
    UnknownGroup {
        /// What was written.
        name: String,
        /// A group whose name is close.
        nearest: Option<String>,
    },
    /// `[defaults]` in a file of hosts.d.
    #[error("[defaults] stands in the main hosts file only: move it to {}", main.display())]
    DefaultsOutsideMain {
        /// That file.
        main: PathBuf,
    },
    /// `jump` names no host.
    #[error(
        "jump {name:?} is not a host of this configuration{}: name a [host.*], or write jump = {{ address = \"host:port\", user = \"…\", host_key = [\"SHA256:…\"] }}",
        did_you_mean(nearest.as_deref())
    )]
    UnknownJump {
        /// What was written.
        name: String,
        /// A host whose name is close.
        nearest: Option<String>,
    },
    /// `jump` leads back to a host that is already on the way.
    #[error("jump leads in a circle ({}): let one of these hosts be reached directly", route.join(" -> "))]
    JumpCircle {
        /// The names on the way.
        route: Vec<String>,
    },
    /// `jump` names the machine that the coordinator is on.
    #[error("jump {name:?} is local, and every way begins there: take `jump` out")]
    LocalJump {
        /// The host.
        name: String,
    },
    /// A login of a host that is not logged in to.
    #[error(
        "`local = true` is the machine of the coordinator, which nobody logs in to: take `{key}` or `local` out"
    )]
    LoginOfLocal {
        /// The key.
        key: &'static str,
    },
    /// More hops than anybody means.
    #[error("jump leads over more than {max} hosts: shorten the way")]
    JumpTooLong {
        /// The most hops.
        max: usize,
    },
    /// More than one way to unlock the bundle.
    #[error("a key file, a key credential and a password exclude each other: keep one")]
    TwoUnlockWays,
    /// A way to unlock without the bundle.
    #[error("`{key}` needs `bundle`: add bundle = \"keys/daemon.bundle\"")]
    NoBundle {
        /// The key that was set.
        key: &'static str,
    },
    /// `destinations` holds what cannot be a name.
    #[error(transparent)]
    DestinationName(#[from] ParseDestinationNameError),
    /// `destinations` names none.
    #[error(
        "there is no destination {name:?} in coordinator.toml{}: there are {known}",
        did_you_mean(nearest.as_deref())
    )]
    UnknownDestination {
        /// What was written.
        name: String,
        /// What there is.
        known: String,
        /// A destination whose name is close.
        nearest: Option<String>,
    },
    /// `destinations` leaves fewer than an object must be on.
    #[error(
        "leaves {left} destinations, the required ones among them, and min_copies = {copies_min} in coordinator.toml: name more, or ask for fewer copies"
    )]
    KeptAtTooFew {
        /// How many it leaves.
        left: usize,
        /// How many are asked for.
        copies_min: u64,
    },
    /// Hosts of one repository that are to be kept at different destinations.
    #[error(
        "hosts {host} and {other} share repository {repository:?} and have different `destinations`: give both the same"
    )]
    KeptElsewhere {
        /// The later one.
        host: String,
        /// The earlier one.
        other: String,
        /// What they share.
        repository: String,
    },
    /// `commit` is none of its values.
    #[error(
        "{text} is no number of destinations: write \"any\", \"all\", or a number from 1 to {DESTINATIONS_MAX}"
    )]
    NoCommit {
        /// What was written.
        text: String,
    },
    /// `commit` asks for more destinations than a host is kept at.
    #[error(
        "asks for {copies} destinations, and host {host} is kept at {left}, the required ones among them: name more in its `destinations`, add one to coordinator.toml, or ask for fewer"
    )]
    CommitTooMany {
        /// How many are asked for.
        copies: u64,
        /// A host that it holds for.
        host: String,
        /// How many it is kept at.
        left: usize,
    },
    /// Hosts of one repository that ask for different numbers of copies.
    #[error(
        "hosts {host} and {other} share repository {repository:?} and have different `commit`: give both the same"
    )]
    OtherCommit {
        /// The later one.
        host: String,
        /// The earlier one.
        other: String,
        /// What they share.
        repository: String,
    },
    /// No `[[destination]]`, or none that is required.
    #[error(
        "no destination is required, so nothing stored would be sure: add a [[destination]] with name and url, or set `required = true`"
    )]
    NoRequiredDestination,
    /// Two destinations with one name or one place.
    #[error("destination {name} has the same {what} as the one at {first}: change one of the two")]
    DuplicateDestination {
        /// The later one's name.
        name: String,
        /// "name" or "url".
        what: &'static str,
        /// The earlier one.
        first: Location,
    },
}

/// Everything that is wrong, in the order it was found; never empty.
#[derive(Debug)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    left_off: usize,
}

impl ConfigErrors {
    /// The errors, at most [`ERRORS_MAX`].
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// How many more there are.
    pub fn left_off(&self) -> usize {
        self.left_off
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self {
            errors: vec![error],
            left_off: 0,
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.errors.iter().enumerate() {
            if number > 0 {
                out.write_str("\n")?;
            }
            error.fmt(out)?;
        }
        if self.left_off > 0 {
            write!(out, "\nand {} more", self.left_off)?;
        }
        Ok(())
    }
}

/// Each line already says everything its error knows, so there is no further source.
impl std::error::Error for ConfigErrors {}

/// Gathers errors so that one load shows them all.
#[derive(Debug, Default)]
pub(super) struct ErrorList {
    errors: Vec<ConfigError>,
    left_off: usize,
}

impl ErrorList {
    /// Takes the error that `make` builds, or only counts it when there are enough.
    ///
    /// Building one reads the whole file again, so the ones not shown are not built.
    pub(super) fn push(&mut self, make: impl FnOnce() -> ConfigError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(make());
        } else {
            self.left_off += 1;
        }
    }

    /// How many errors there were so far.
    pub(super) fn count(&self) -> usize {
        self.errors.len() + self.left_off
    }

    /// `value`, unless there were errors.
    pub(super) fn finish<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(value);
        }
        Err(self.into_errors())
    }

    /// What was gathered, for a caller that knows it is something.
    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors {
            errors: self.errors,
            left_off: self.left_off,
        }
    }
}

fn read_remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => {
            ": run `coordinator init --dir DIR`, or name the file with --config"
        }
        io::ErrorKind::PermissionDenied => ": run as the user that owns it",
        _ => "",
    }
}

fn did_you_mean(name: Option<&str>) -> String {
    name.map(|name| format!(" (did you mean {name:?}?)"))
        .unwrap_or_default()
}
