//! The shapes of coordinator.toml and hosts.toml as TOML, before any value is checked. Keeps where
//! each value stands, so that a refusal can point at it.

use std::collections::BTreeMap;
use std::fmt;

use append_server::places::keep::KeepTable;
use append_server::places::table::DestinationTable;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use toml::Spanned;

use crate::config::bandwidth_settings::RawBandwidth;
use crate::config::commit_setting::RawCommit;
use crate::config::hook_settings::RawHook;
use crate::config::listener_settings::RawListener;
use crate::config::notify_settings::RawNotify;
use crate::config::prune_settings::RawPrune;
use crate::config::safety_settings::{RawAnomaly, RawCoverage, RawQuota};
use crate::config::scan_settings::RawScan;
use crate::config::secret_keys::SecretText;
use crate::config::stream_settings::RawStream;
use crate::config::table_keys::Keyed;
use crate::config::timing_settings::CatchUp;

/// A text and where it stands.
pub(super) type Text = Spanned<String>;

/// coordinator.toml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCoordinator {
    pub(super) state_dir: Text,
    pub(super) hosts: Option<Text>,
    #[serde(default)]
    pub(super) destination: Vec<Spanned<DestinationTable>>,
    #[serde(default)]
    pub(super) keys: RawKeys,
    #[serde(default)]
    pub(super) limits: RawCoordinatorLimits,
    #[serde(default)]
    pub(super) prune: RawPrune,
    #[serde(default)]
    pub(super) scan: RawScan,
    #[serde(default)]
    pub(super) agents: RawAgents,
    #[serde(default)]
    pub(super) append_server: RawAppendServer,
    #[serde(default)]
    pub(super) log: RawLog,
    #[serde(default)]
    pub(super) listener: RawListener,
    #[serde(default)]
    pub(super) notify: RawNotify,
}

/// `[keys]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeys {
    pub(super) user: Option<Text>,
    pub(super) bundle: Option<Text>,
    pub(super) key_file: Option<Text>,
    pub(super) key_credential: Option<Text>,
    pub(super) password: Option<Spanned<SecretText>>,
    pub(super) password_file: Option<Text>,
    pub(super) password_command: Option<Spanned<Vec<String>>>,
    pub(super) password_env: Option<Text>,
    pub(super) password_credential: Option<Text>,
}

/// `[limits]` of coordinator.toml.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCoordinatorLimits {
    pub(super) spool: Option<Text>,
    pub(super) reserve: Option<Text>,
    pub(super) patience: Option<Text>,
    pub(super) min_copies: Option<Spanned<u64>>,
    pub(super) max_parallel: Option<Spanned<u64>>,
}

/// `[agents]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgents {
    pub(super) directory: Option<Text>,
}

/// `[append_server]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAppendServer {
    pub(super) socket_dir: Option<Text>,
}

/// `[log]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: Option<LogLevel>,
    pub(super) format: Option<LogFormat>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What a person must act on.
    Error,
    /// And problems.
    Warn,
    /// And a few lines for each run.
    #[default]
    Info,
    /// And every step.
    Debug,
    /// And every message.
    Trace,
}

impl LogLevel {
    /// The word for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The word for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// hosts.toml, or one file of hosts.d.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHosts {
    pub(super) defaults: Option<Spanned<Keyed<RawSettings>>>,
    #[serde(default)]
    pub(super) group: BTreeMap<Text, Keyed<RawSettings>>,
    #[serde(default)]
    pub(super) host: BTreeMap<Text, Keyed<RawSettings>>,
}

/// `[defaults]`, one `[group.NAME]` or one `[host.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSettings {
    pub(super) address: Option<Text>,
    pub(super) user: Option<Text>,
    pub(super) identity_file: Option<Text>,
    pub(super) certificate_file: Option<Text>,
    pub(super) use_agent: Option<bool>,
    pub(super) host_key: Option<Spanned<Vec<Text>>>,
    pub(super) jump: Option<Spanned<RawJump>>,
    pub(super) local: Option<Spanned<bool>>,
    pub(super) r#become: Option<Text>,
    pub(super) paths: Option<Spanned<Vec<Text>>>,
    pub(super) one_file_system: Option<bool>,
    pub(super) exclude: Option<Vec<Text>>,
    pub(super) exclude_caches: Option<bool>,
    pub(super) exclude_if_present: Option<Vec<Text>>,
    pub(super) fs_snapshot: Option<Text>,
    pub(super) transport: Option<Transport>,
    pub(super) tags: Option<Vec<Text>>,
    pub(super) destinations: Option<Spanned<Vec<Text>>>,
    pub(super) commit: Option<Spanned<RawCommit>>,
    pub(super) groups: Option<Spanned<Vec<Text>>>,
    pub(super) keep: Option<KeepTable>,
    pub(super) keep_floor: Option<Spanned<u64>>,
    pub(super) max_new: Option<Spanned<RawQuota>>,
    pub(super) max_snapshot: Option<Spanned<RawQuota>>,
    pub(super) quota: Option<Spanned<RawQuota>>,
    pub(super) anomaly: Option<Spanned<RawAnomaly>>,
    pub(super) coverage: Option<RawCoverage>,
    pub(super) coverage_ignore: Option<Vec<Text>>,
    pub(super) schedule: Option<Text>,
    pub(super) timezone: Option<Text>,
    pub(super) jitter: Option<Text>,
    pub(super) window: Option<Text>,
    pub(super) catch_up: Option<CatchUp>,
    pub(super) retries: Option<Spanned<u64>>,
    pub(super) retry_delay: Option<Text>,
    pub(super) concurrency_key: Option<Text>,
    pub(super) sla: Option<Text>,
    pub(super) keep_deleted: Option<Vec<Text>>,
    pub(super) repository: Option<Text>,
    pub(super) hook: Option<Spanned<Vec<Spanned<RawHook>>>>,
    pub(super) stream: Option<Spanned<Vec<Spanned<RawStream>>>>,
    pub(super) limits: Option<RawHostLimits>,
}

/// `limits` of a host.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHostLimits {
    pub(super) connect: Option<Text>,
    pub(super) idle: Option<Text>,
    pub(super) run: Option<Text>,
    pub(super) tunnel_connections: Option<Spanned<u64>>,
    pub(super) agent_threads: Option<Spanned<u64>>,
    pub(super) nice: Option<Spanned<u64>>,
    pub(super) ionice: Option<Text>,
    pub(super) cpu: Option<Text>,
    pub(super) bandwidth: Option<Spanned<RawBandwidth>>,
}

/// `jump`: the name of a host, or a login written out.
#[derive(Debug)]
pub(super) enum RawJump {
    Host(String),
    Login(Box<RawJumpLogin>),
}

/// A jump host that is no `[host.*]` itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJumpLogin {
    pub(super) address: Text,
    pub(super) user: Option<Text>,
    pub(super) identity_file: Option<Text>,
    pub(super) certificate_file: Option<Text>,
    pub(super) use_agent: Option<bool>,
    #[serde(default)]
    pub(super) host_key: Vec<Text>,
}

// Derived code for an untagged enum would lose the places of the values.
impl<'de> Deserialize<'de> for RawJump {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JumpVisitor)
    }
}

struct JumpVisitor;

impl<'de> Visitor<'de> for JumpVisitor {
    type Value = RawJump;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the name of a host, or a table with `address` and `host_key`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawJump, E> {
        Ok(RawJump::Host(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawJump, A::Error> {
        RawJumpLogin::deserialize(MapAccessDeserializer::new(map))
            .map(|login| RawJump::Login(Box::new(login)))
    }
}

/// How the agent's upload comes back over the SSH connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// The first of the others that the SSH server allows.
    #[default]
    Auto,
    /// A forwarded Unix socket.
    Unix,
    /// A forwarded port on the host's loopback.
    Tcp,
    /// The agent's own standard input and output.
    Stdio,
}

impl Transport {
    /// The word for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Unix => "unix",
            Self::Tcp => "tcp",
            Self::Stdio => "stdio",
        }
    }
}
