//! One host as a run sees it: its own table over `[defaults]` over what is built in. Never half set:
//! every field has its final value.

use std::path::PathBuf;
use std::sync::Arc;

use append_server::quantity::Span;

use crate::config::address::{Address, LoginUser};
use crate::config::error::{ConfigErrors, ErrorList, ValueError};
use crate::config::exclude::{ExcludeRule, MarkerName};
use crate::config::login_fields::{BecomeCommand, HostKeyFingerprint};
use crate::config::name::{HostName, RepositoryName, Tag};
use crate::config::path::SourcePath;
use crate::config::raw::Transport;
use crate::config::safety_settings::{Safety, merge_safety};
use crate::config::secret_file::SecretFile;
use crate::config::settings::{LimitSettings, Settings};
use crate::config::source_text::Location;
use crate::retention::keep::{KEEP_FLOOR_DEFAULT, Keep};

/// The most hops on the way to a host.
pub const JUMPS_MAX: usize = 8;

/// One `[host.NAME]`, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// Where it is defined; the file is the one that `host trust` edits.
    pub defined_at: Location,
    /// Where and as whom to log in.
    pub login: Login,
    /// The hosts to go over, the first hop first; empty when the host is reached directly.
    pub jumps: Vec<Jump>,
    /// What the agent is started through.
    pub become_command: BecomeCommand,
    /// What to back up; empty only for a host that serves others as a jump host.
    pub paths: Vec<SourcePath>,
    /// Whether the walk stays on the filesystem of each path.
    pub one_file_system: bool,
    /// The exclude rules, those of `[defaults]` first; the last one that matches wins.
    pub exclude: Arc<[ExcludeRule]>,
    /// Whether directories with a CACHEDIR.TAG are left out.
    pub exclude_caches: bool,
    /// Files whose presence leaves their directory out.
    pub exclude_if_present: Arc<[MarkerName]>,
    /// How the upload comes back.
    pub transport: Transport,
    /// Labels.
    pub tags: Vec<Tag>,
    /// Which snapshots stay; without any rule all, and prune refuses.
    pub keep: Option<Keep>,
    /// How many of the last verified snapshots are never dropped.
    pub keep_floor: u32,
    /// What its runs are guarded by.
    pub safety: Safety,
    /// The repository it writes to: its own name unless it is grouped.
    pub repository: RepositoryName,
    /// Deadlines and parallelism.
    pub limits: HostLimits,
    /// The keys its own table sets.
    pub(super) own_keys: Vec<&'static str>,
}

impl Host {
    /// Refuses private keys that are missing or open to others, on the host and on the way to it.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        let mut errors = ErrorList::default();
        for file in self.secret_files() {
            if let Err(error) = file.check() {
                errors.push(|| error.into());
            }
        }
        errors.finish(())
    }

    /// The private keys of the host and of its jump hosts.
    pub fn secret_files(&self) -> impl Iterator<Item = &SecretFile> {
        let logins = self.jumps.iter().map(|jump| &jump.login);
        logins
            .chain([&self.login])
            .filter_map(|login| login.identity_file.as_ref())
    }
}

/// Where to connect, as whom, and what to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Host and port.
    pub address: Address,
    /// The user.
    pub user: LoginUser,
    /// A private key.
    pub identity_file: Option<SecretFile>,
    /// A certificate for that key, or for one of the agent's.
    pub certificate_file: Option<PathBuf>,
    /// Whether keys of the SSH agent at `$SSH_AUTH_SOCK` may be used.
    pub use_agent: bool,
    /// The host keys that are accepted; empty until the host is trusted.
    pub host_keys: Vec<HostKeyFingerprint>,
}

/// One hop on the way to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// The `[host.*]` it is, if it is one: then `host trust` can pin its key.
    pub host: Option<HostName>,
    /// How to log in there.
    pub login: Login,
}

/// Deadlines and parallelism of one host's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLimits {
    /// For connection, key exchange and login, each hop on its own.
    pub connect: Span,
    /// Longest silence of the host while something is expected of it.
    pub idle: Span,
    /// A whole run.
    pub run: Span,
    /// Parallel upload connections.
    pub tunnel_connections: u8,
    /// Threads of the agent; nothing for as many as the host has cores.
    pub agent_threads: Option<u16>,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            connect: Span::from_secs(30),
            idle: Span::from_secs(300),
            run: Span::from_secs(7 * 24 * 3600),
            tunnel_connections: 4,
            agent_threads: None,
        }
    }
}

/// The host that `own` over `defaults` gives, still without its jumps.
pub(super) fn merge(
    name: &HostName,
    defined_at: Location,
    own: &Settings,
    defaults: &Settings,
    own_keys: Vec<&'static str>,
) -> Result<Host, ValueError> {
    Ok(Host {
        name: name.clone(),
        defined_at,
        login: merge_login(own, defaults)?,
        jumps: Vec::new(),
        become_command: pick(&own.become_command, &defaults.become_command).unwrap_or_default(),
        paths: pick(&own.paths, &defaults.paths).unwrap_or_default(),
        one_file_system: pick(&own.one_file_system, &defaults.one_file_system).unwrap_or(false),
        exclude: join_rules(own.exclude.as_ref(), defaults.exclude.as_ref()),
        exclude_caches: pick(&own.exclude_caches, &defaults.exclude_caches).unwrap_or(false),
        exclude_if_present: pick(&own.exclude_if_present, &defaults.exclude_if_present)
            .unwrap_or_else(|| Arc::from([])),
        transport: pick(&own.transport, &defaults.transport).unwrap_or_default(),
        tags: pick(&own.tags, &defaults.tags).unwrap_or_default(),
        keep: own.keep.or(defaults.keep),
        keep_floor: own
            .keep_floor
            .or(defaults.keep_floor)
            .unwrap_or(KEEP_FLOOR_DEFAULT),
        safety: merge_safety(&own.safety, &defaults.safety),
        repository: own
            .repository
            .clone()
            .unwrap_or_else(|| RepositoryName::from(name)),
        limits: merge_limits(&own.limits, &defaults.limits),
        own_keys,
    })
}

/// The login that `own` over `defaults` gives.
///
/// A table that sets a key of its own never combines it with an inherited certificate, which belongs to
/// another key.
pub(super) fn merge_login(own: &Settings, defaults: &Settings) -> Result<Login, ValueError> {
    let own_credential = own.identity_file.is_some();
    let inherited_certificate = defaults
        .certificate_file
        .clone()
        .filter(|_| !own_credential);
    let login = Login {
        address: own.address.clone().ok_or(ValueError::Missing {
            key: "address",
            example: "address = \"web1.example.com:22\"",
            inheritable: false,
        })?,
        user: pick(&own.user, &defaults.user).ok_or(ValueError::Missing {
            key: "user",
            example: "user = \"backup\"",
            inheritable: true,
        })?,
        identity_file: pick(&own.identity_file, &defaults.identity_file),
        certificate_file: own.certificate_file.clone().or(inherited_certificate),
        use_agent: pick(&own.use_agent, &defaults.use_agent).unwrap_or(false),
        host_keys: own.host_keys.clone().unwrap_or_default(),
    };
    if login.identity_file.is_none() && !login.use_agent {
        return Err(match login.certificate_file {
            Some(_) => ValueError::CertificateWithoutKey,
            None => ValueError::NoCredential,
        });
    }
    Ok(login)
}

/// A host's rules come after the defaults' ones, so that its `!rule` can bring something back.
fn join_rules(
    own: Option<&Arc<[ExcludeRule]>>,
    defaults: Option<&Arc<[ExcludeRule]>>,
) -> Arc<[ExcludeRule]> {
    match (own, defaults) {
        (None, None) => Arc::from([]),
        (Some(only), None) | (None, Some(only)) => Arc::clone(only),
        (Some(own), Some(defaults)) => defaults.iter().chain(own.iter()).cloned().collect(),
    }
}

fn merge_limits(own: &LimitSettings, defaults: &LimitSettings) -> HostLimits {
    let built_in = HostLimits::default();
    HostLimits {
        connect: own.connect.or(defaults.connect).unwrap_or(built_in.connect),
        idle: own.idle.or(defaults.idle).unwrap_or(built_in.idle),
        run: own.run.or(defaults.run).unwrap_or(built_in.run),
        tunnel_connections: own
            .tunnel_connections
            .or(defaults.tunnel_connections)
            .unwrap_or(built_in.tunnel_connections),
        agent_threads: own.agent_threads.or(defaults.agent_threads),
    }
}

fn pick<T: Clone>(own: &Option<T>, default: &Option<T>) -> Option<T> {
    own.as_ref().or(default.as_ref()).cloned()
}
