//! One host as a run sees it: its own table over those of its groups over `[defaults]` over what is built in. Never half
//! set: every field has its final value.

use std::path::PathBuf;
use std::sync::Arc;

use append_server::destination::DestinationName;
use append_server::quantity::Span;

use crate::config::address::{Address, LoginUser};
use crate::config::commit_setting::Commit;
use crate::config::cpu_limit::CpuLimit;
use crate::config::error::{ConfigErrors, ErrorList, ValueError};
use crate::config::exclude::{ExcludeRule, MarkerName};
use crate::config::fs_snapshot::FsSnapshot;
use crate::config::hook_settings::Hook;
use crate::config::io_priority::IoPriority;
use crate::config::layers::Layers;
use crate::config::login_fields::{BecomeCommand, HostKeyFingerprint};
use crate::config::name::{GroupName, HostName, RepositoryName, Tag};
use crate::config::path::SourcePath;
use crate::config::raw::Transport;
use crate::config::safety_settings::{Safety, merge_safety};
use crate::config::secret_file::SecretFile;
use crate::config::settings::Settings;
use crate::config::source_text::Location;
use crate::config::stream_settings::Stream;
use crate::config::table_keys::TableKeys;
use crate::config::timing_settings::merge_timing;
use crate::repository::layout::is_state_copy;
use crate::retention::keep::{KEEP_FLOOR_DEFAULT, Keep};
use crate::schedule::rates::Rates;
use crate::schedule::timing::Timing;

/// What stands in the place of an address and a user where nobody logs in.
const LOCAL_ADDRESS: &str = "localhost";
const LOCAL_USER: &str = "coordinator";

/// The most hops on the way to a host.
pub const JUMPS_MAX: usize = 8;

/// One `[host.NAME]`, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// Where it is defined; the file is the one that `host trust` edits.
    pub defined_at: Location,
    /// The groups it takes settings from; a later one is stronger.
    pub groups: Vec<GroupName>,
    /// Whether it is the machine that the coordinator is on: it is not logged in to, and a copy of the coordinator's own state is
    /// backed up with it.
    pub local: bool,
    /// Where and as whom to log in; means nothing where it is local.
    pub login: Login,
    /// The hosts to go over, the first hop first; empty when the host is reached directly.
    pub jumps: Vec<Jump>,
    /// What the agent is started through.
    pub become_command: BecomeCommand,
    /// What to back up; empty only for a host that serves others as a jump host.
    pub paths: Vec<SourcePath>,
    /// Whether the walk stays on the filesystem of each path.
    pub one_file_system: bool,
    /// The exclude rules, those of `[defaults]` first, then those of its groups; the last one that matches wins.
    pub exclude: Arc<[ExcludeRule]>,
    /// Whether directories with a CACHEDIR.TAG are left out.
    pub exclude_caches: bool,
    /// Files whose presence leaves their directory out.
    pub exclude_if_present: Arc<[MarkerName]>,
    /// What is read instead of its filesystems as they are.
    pub fs_snapshot: FsSnapshot,
    /// How the upload comes back.
    pub transport: Transport,
    /// Labels.
    pub tags: Vec<Tag>,
    /// The destinations that are named for it, besides the required ones; without it every one.
    pub destinations: Option<Vec<DestinationName>>,
    /// On how many of those that it is kept at its objects must be before they are acknowledged.
    pub commit: Commit,
    /// Which snapshots stay; without any rule all, and prune refuses.
    pub keep: Option<Keep>,
    /// How many of the last verified snapshots are never dropped.
    pub keep_floor: u32,
    /// What its runs are guarded by.
    pub safety: Safety,
    /// When it is backed up.
    pub timing: Timing,
    /// The repository it writes to: its own name unless it is grouped.
    pub repository: RepositoryName,
    /// Commands around a run, in their order.
    pub hooks: Vec<Hook>,
    /// Commands whose output is kept, by name.
    pub streams: Vec<Stream>,
    /// Deadlines and parallelism.
    pub limits: HostLimits,
    /// The tables its values come from, its own first, each stronger than those behind it.
    pub(super) tables: Vec<Arc<TableKeys>>,
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

    /// What it was told to back up: the copy of the state not among it.
    pub fn paths_given(&self) -> impl Iterator<Item = &SourcePath> {
        let is_given = |path: &&SourcePath| !self.local || !is_state_copy(path.as_bytes());
        self.paths.iter().filter(is_given)
    }

    /// Whether it is known by which key it is the right one.
    pub fn is_trusted(&self) -> bool {
        self.local || !self.login.host_keys.is_empty()
    }

    /// Whether a command that names a tag means this host: by one of its tags, or as a member of a group of that name.
    pub fn is_labelled(&self, name: &str) -> bool {
        let tagged = self.tags.iter().any(|tag| tag.as_str() == name);
        tagged || self.groups.iter().any(|group| group.as_str() == name)
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// How far the agent stands back at the processors: 0, not at all, to 19.
    pub nice: u8,
    /// How it stands back at the disks.
    pub io_priority: Option<IoPriority>,
    /// The CPU time that it may use.
    pub cpu: CpuLimit,
    /// The most that it uploads, by the hours of its time zone.
    pub bandwidth: Option<Rates>,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            connect: Span::from_secs(30),
            idle: Span::from_secs(300),
            run: Span::from_secs(7 * 24 * 3600),
            tunnel_connections: 4,
            agent_threads: None,
            nice: 0,
            io_priority: None,
            cpu: CpuLimit::default(),
            bandwidth: None,
        }
    }
}

/// Where a host is defined, and what it inherits from.
#[derive(Debug)]
pub(super) struct Descent {
    pub(super) defined_at: Location,
    pub(super) groups: Vec<GroupName>,
    pub(super) tables: Vec<Arc<TableKeys>>,
}

/// The host that its tables give, still without its jumps.
pub(super) fn merge(
    name: &HostName,
    descent: Descent,
    layers: &Layers<'_>,
) -> Result<Host, ValueError> {
    let of_here = layers.own().filter(|own| own.local == Some(true));
    Ok(Host {
        name: name.clone(),
        local: of_here.is_some(),
        defined_at: descent.defined_at,
        groups: descent.groups,
        tables: descent.tables,
        login: match of_here {
            Some(own) => local_login(own)?,
            None => merge_login(layers)?,
        },
        jumps: Vec::new(),
        become_command: match of_here {
            // What it is started through on other hosts is seldom set up here.
            Some(own) => own.become_command.clone(),
            None => layers.pick(|table| &table.become_command),
        }
        .unwrap_or_default(),
        paths: layers.pick(|table| &table.paths).unwrap_or_default(),
        one_file_system: layers
            .pick(|table| &table.one_file_system)
            .unwrap_or_default(),
        exclude: join_rules(&layers.all(|table| &table.exclude)),
        exclude_caches: layers
            .pick(|table| &table.exclude_caches)
            .unwrap_or_default(),
        exclude_if_present: layers
            .pick(|table| &table.exclude_if_present)
            .unwrap_or_default(),
        fs_snapshot: layers.pick(|table| &table.fs_snapshot).unwrap_or_default(),
        transport: layers.pick(|table| &table.transport).unwrap_or_default(),
        tags: layers.pick(|table| &table.tags).unwrap_or_default(),
        destinations: layers
            .pick(|table| &table.destinations)
            .map(|list| list.names()),
        commit: layers
            .pick(|table| &table.commit)
            .map(|setting| setting.commit)
            .unwrap_or_default(),
        keep: layers.pick(|table| &table.keep),
        keep_floor: layers
            .pick(|table| &table.keep_floor)
            .unwrap_or(KEEP_FLOOR_DEFAULT),
        safety: merge_safety(&layers.part(|table| &table.safety)),
        timing: merge_timing(&layers.part(|table| &table.timing))?,
        repository: layers
            .pick(|table| &table.repository)
            .unwrap_or_else(|| RepositoryName::from(name)),
        hooks: layers.pick(|table| &table.hooks).unwrap_or_default(),
        streams: layers.pick(|table| &table.streams).unwrap_or_default(),
        limits: merge_limits(layers),
    })
}

/// What stands in the place of a login where none is made; its own table may say nothing of one.
fn local_login(own: &Settings) -> Result<Login, ValueError> {
    let said = [
        ("address", own.address.is_some()),
        ("user", own.user.is_some()),
        ("identity_file", own.identity_file.is_some()),
        ("certificate_file", own.certificate_file.is_some()),
        ("use_agent", own.use_agent.is_some()),
        ("host_key", own.host_keys.is_some()),
        ("jump", own.jump.is_some()),
    ];
    if let Some((key, _)) = said.into_iter().find(|(_, is_said)| *is_said) {
        return Err(ValueError::LoginOfLocal { key });
    }
    Ok(Login {
        address: LOCAL_ADDRESS.parse()?,
        user: LOCAL_USER.parse()?,
        identity_file: None,
        certificate_file: None,
        use_agent: false,
        host_keys: Vec::new(),
    })
}

/// The login that these tables give.
///
/// A table that sets a key of its own never combines it with an inherited certificate, which belongs to
/// another key.
pub(super) fn merge_login(layers: &Layers<'_>) -> Result<Login, ValueError> {
    let with_key = layers.down_to(|table| &table.identity_file);
    let login = Login {
        address: layers
            .pick(|table| &table.address)
            .ok_or(ValueError::Missing {
                key: "address",
                example: "address = \"web1.example.com:22\"",
                inheritable: false,
            })?,
        user: layers
            .pick(|table| &table.user)
            .ok_or(ValueError::Missing {
                key: "user",
                example: "user = \"backup\"",
                inheritable: true,
            })?,
        identity_file: layers.pick(|table| &table.identity_file),
        certificate_file: with_key.pick(|table| &table.certificate_file),
        use_agent: layers.pick(|table| &table.use_agent).unwrap_or_default(),
        host_keys: layers.pick(|table| &table.host_keys).unwrap_or_default(),
    };
    if login.identity_file.is_none() && !login.use_agent {
        return Err(match login.certificate_file {
            Some(_) => ValueError::CertificateWithoutKey,
            None => ValueError::NoCredential,
        });
    }
    Ok(login)
}

/// A host's rules come after those it inherits, so that its `!rule` can bring something back.
fn join_rules(lists: &[&Arc<[ExcludeRule]>]) -> Arc<[ExcludeRule]> {
    match lists {
        [only] => Arc::clone(only),
        lists => lists.iter().flat_map(|list| list.iter().cloned()).collect(),
    }
}

fn merge_limits(layers: &Layers<'_>) -> HostLimits {
    let built_in = HostLimits::default();
    HostLimits {
        connect: layers
            .pick(|table| &table.limits.connect)
            .unwrap_or(built_in.connect),
        idle: layers
            .pick(|table| &table.limits.idle)
            .unwrap_or(built_in.idle),
        run: layers
            .pick(|table| &table.limits.run)
            .unwrap_or(built_in.run),
        tunnel_connections: layers
            .pick(|table| &table.limits.tunnel_connections)
            .unwrap_or(built_in.tunnel_connections),
        agent_threads: layers.pick(|table| &table.limits.agent_threads),
        nice: layers
            .pick(|table| &table.limits.nice)
            .unwrap_or(built_in.nice),
        io_priority: layers.pick(|table| &table.limits.io_priority),
        cpu: layers.pick(|table| &table.limits.cpu).unwrap_or_default(),
        bandwidth: layers
            .pick(|table| &table.limits.bandwidth)
            .filter(|rates| !rates.entries().is_empty()),
    }
}
