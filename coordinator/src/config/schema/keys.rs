//! Every key of coordinator.toml and hosts.toml: its name, its kind with the unit, and its default where it has one. A test
//! holds this table to the types that read the files, and its defaults to the built-in ones.

use formats::wire::upload::destinations::DESTINATIONS_MAX;
use serde_json::{Value, json};

use crate::catalog::state::figures::RUNS_COMPARED;
use crate::config::coordinator_file::PARALLEL_MAX;
use crate::retention::keep::KEEP_COUNT_MAX;
use crate::schedule::timing::RETRIES_MAX;

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Option<&'static str>,
    pub(super) required: bool,
}

/// What a key's value is.
#[derive(Debug)]
pub(super) enum Kind {
    Flag,
    Number {
        min: u64,
        max: u64,
    },
    Text,
    Texts,
    Word(&'static [&'static str]),
    /// A word, or a number from 1 to this.
    WordOrCount(&'static [&'static str], u64),
    Size,
    Rate,
    Duration,
    /// One table; its keys may come from several lists.
    Table(&'static [&'static [Key]]),
    /// `[[name]]`.
    Tables(&'static [&'static [Key]]),
    /// `[name.ANY]`.
    Named(&'static [&'static [Key]]),
    /// One value, or the same written out as a table.
    Or(&'static Kind, &'static [&'static [Key]]),
    /// One value, or a list of tables.
    OrTables(&'static Kind, &'static [&'static [Key]]),
}

impl Kind {
    /// The value of a default.
    pub(super) fn value(&self, default: &str) -> Value {
        match self {
            Self::Flag => json!(default == "true"),
            Self::Number { .. } => json!(default.parse::<u64>().unwrap_or_default()),
            _ => json!(default),
        }
    }
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        default: None,
        required: false,
    }
}

impl Key {
    const fn or(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }
}

const fn number(min: u64, max: u64) -> Kind {
    Kind::Number { min, max }
}

/// coordinator.toml.
pub(super) const COORDINATOR: &[Key] = &[
    key("state_dir", Kind::Text).required(),
    key("hosts", Kind::Text).or("hosts.toml"),
    key("destination", Kind::Tables(&[DESTINATION])).required(),
    key("keys", Kind::Table(&[KEYS])),
    key("limits", Kind::Table(&[LIMITS])),
    key("prune", Kind::Table(&[PRUNE])),
    key("scan", Kind::Table(&[SCAN])),
    key("agents", Kind::Table(&[AGENTS])),
    key("append_server", Kind::Table(&[APPEND_SERVER])),
    key("log", Kind::Table(&[LOG])),
    key("listener", Kind::Table(&[LISTENER])),
    key("notify", Kind::Table(&[NOTIFY])),
];

const KEYS: &[Key] = &[
    key("user", Kind::Text),
    key("bundle", Kind::Text),
    key("key_file", Kind::Text),
    key("key_credential", Kind::Text),
    key("password", Kind::Text),
    key("password_file", Kind::Text),
    key("password_command", Kind::Texts),
    key("password_env", Kind::Text),
    key("password_credential", Kind::Text),
];

const LIMITS: &[Key] = &[
    key("spool", Kind::Size).or("4GiB"),
    key("reserve", Kind::Size).or("1GiB"),
    key("patience", Kind::Duration).or("2m"),
    key("min_copies", number(1, 255)).or("1"),
    key("max_parallel", number(1, PARALLEL_MAX)).or("4"),
];

const SCAN: &[Key] = &[
    key("schedule", Kind::Text),
    key("timezone", Kind::Text).or("UTC"),
    key("percent", number(1, 100)),
    key("verify", Kind::Flag).or("false"),
    key("repair", Kind::Flag).or("true"),
    key("extend_locks", Kind::Flag).or("true"),
    key("budget", Kind::Size),
];

const PRUNE: &[Key] = &[
    key("schedule", Kind::Text),
    key("grace", Kind::Duration).or("7d"),
    key("delete_max", Kind::Size).or("1TiB"),
    key("repack_above", number(1, 100)).or("30"),
    key("repack_max", Kind::Size).or("20GiB"),
    key("abort_uploads_after", Kind::Duration).or("7d"),
    key("timezone", Kind::Text).or("UTC"),
];

const AGENTS: &[Key] = &[key("directory", Kind::Text)];

const APPEND_SERVER: &[Key] = &[key("socket_dir", Kind::Text)];

const LOG: &[Key] = &[
    key(
        "level",
        Kind::Word(&["error", "warn", "info", "debug", "trace"]),
    )
    .or("info"),
    key("format", Kind::Word(&["text", "json"])).or("text"),
];

const LISTENER: &[Key] = &[
    key("address", Kind::Text),
    key("insecure", Kind::Flag).or("false"),
];

const NOTIFY: &[Key] = &[
    key("digest", Kind::Text),
    key("timezone", Kind::Text).or("UTC"),
    key("target", Kind::Tables(&[TARGET])),
];

const TARGET: &[Key] = &[
    key("name", Kind::Text).required(),
    key(
        "kind",
        Kind::Word(&["mail", "webhook", "ntfy", "gotify", "command", "ping"]),
    )
    .required(),
    key("digest", Kind::Flag).or("true"),
    key("alerts", Kind::Flag).or("true"),
    key("url", Kind::Text),
    key("server", Kind::Text),
    key("security", Kind::Word(&["starttls", "tls", "none"])).or("starttls"),
    key("from", Kind::Text),
    key("to", Kind::Texts),
    key("user", Kind::Text),
    key("run", Kind::Texts),
    key("timeout", Kind::Duration).or("30s"),
    key("every", Kind::Duration).or("5m"),
    key("secret", Kind::Text),
    key("secret_file", Kind::Text),
    key("secret_command", Kind::Texts),
    key("secret_env", Kind::Text),
    key("secret_credential", Kind::Text),
];

const DESTINATION: &[Key] = &[
    key("name", Kind::Text).required(),
    key("url", Kind::Text).required(),
    key("required", Kind::Flag).or("true"),
    key("allow_delete", Kind::Flag).or("true"),
    key("delete_after", Kind::Duration).or("0s"),
    key("keep", Kind::Table(&[KEEP])),
    key("bandwidth", Kind::Rate),
    key("provider", Kind::Text),
    key("endpoint", Kind::Text),
    key("region", Kind::Text),
    key("account", Kind::Text),
    key("addressing", Kind::Word(&["path", "virtual"])),
    key(
        "conditional_writes",
        Kind::Word(&["auto", "require", "off"]),
    ),
    key("checksums", Kind::Word(&["sha256", "off"])),
    key("retain", Kind::Duration),
    key("lock_max", Kind::Duration).or("3650d"),
    key("retain_mode", Kind::Word(&["governance", "compliance"])),
    key("legal_hold", Kind::Flag),
    key("storage_class", Kind::Or(&Kind::Text, &[STORAGE_CLASSES])),
    key("storage_class_meta", Kind::Text),
    key("ca_file", Kind::Text),
    key("credentials", Kind::Word(&["static", "chain"])),
    key("access_key_id", Kind::Text),
    key("secret_key", Kind::Text),
    key("secret_key_file", Kind::Text),
    key("secret_key_command", Kind::Texts),
    key("secret_key_env", Kind::Text),
    key("secret_key_credential", Kind::Text),
    key("role", Kind::Named(&[ROLE])),
    key("host_key", Kind::Texts),
    key("identity_file", Kind::Text),
    key("password", Kind::Text),
    key("password_file", Kind::Text),
    key("password_command", Kind::Texts),
    key("password_env", Kind::Text),
    key("password_credential", Kind::Text),
];

const STORAGE_CLASSES: &[Key] = &[
    key("packs", Kind::Text),
    key("meta", Kind::Text),
    key("log", Kind::Text),
    key("config", Kind::Text),
    key("keys", Kind::Text),
];

const ROLE: &[Key] = &[
    key("access_key_id", Kind::Text).required(),
    key("secret_key", Kind::Text),
    key("secret_key_file", Kind::Text),
    key("secret_key_command", Kind::Texts),
    key("secret_key_env", Kind::Text),
    key("secret_key_credential", Kind::Text),
];

/// hosts.toml and the files of hosts.d.
pub(super) const HOSTS: &[Key] = &[
    key("defaults", Kind::Table(&[SETTINGS])),
    key("group", Kind::Named(&[SETTINGS])),
    key("host", Kind::Named(&[HOST_ALONE, SETTINGS])),
];

/// What hosts cannot share.
const HOST_ALONE: &[Key] = &[
    key("local", Kind::Flag),
    key("address", Kind::Text),
    key("host_key", Kind::Texts),
    key("repository", Kind::Text),
    key("groups", Kind::Texts),
];

/// What `[defaults]`, groups and hosts may set.
const SETTINGS: &[Key] = &[
    key("user", Kind::Text),
    key("identity_file", Kind::Text),
    key("certificate_file", Kind::Text),
    key("use_agent", Kind::Flag).or("false"),
    key("jump", Kind::Or(&Kind::Text, &[JUMP])),
    key("become", Kind::Text).or(""),
    key("paths", Kind::Texts),
    key("one_file_system", Kind::Flag).or("false"),
    key("exclude", Kind::Texts),
    key("exclude_caches", Kind::Flag).or("false"),
    key("exclude_if_present", Kind::Texts),
    key("fs_snapshot", Kind::Text).or("none"),
    key("transport", Kind::Word(&["auto", "unix", "tcp", "stdio"])).or("auto"),
    key("tags", Kind::Texts),
    key("destinations", Kind::Texts),
    key(
        "commit",
        Kind::WordOrCount(&["any", "all"], DESTINATIONS_MAX),
    )
    .or("any"),
    key("keep", Kind::Table(&[KEEP])),
    key("keep_floor", number(1, KEEP_COUNT_MAX)).or("3"),
    key("schedule", Kind::Text),
    key("timezone", Kind::Text).or("UTC"),
    key("jitter", Kind::Duration).or("0s"),
    key("window", Kind::Text),
    key("catch_up", Kind::Word(&["once", "no"])).or("once"),
    key("retries", number(0, RETRIES_MAX)).or("2"),
    key("retry_delay", Kind::Duration).or("15m"),
    key("concurrency_key", Kind::Text),
    key("sla", Kind::Duration),
    key("max_new", Kind::Or(&Kind::Size, &[QUOTA])),
    key("max_snapshot", Kind::Or(&Kind::Size, &[QUOTA])),
    key("quota", Kind::Or(&Kind::Size, &[QUOTA])),
    key("anomaly", Kind::Or(&Kind::Word(&["off"]), &[ANOMALY])),
    key("coverage", Kind::Word(&["off", "warn", "fail"])).or("off"),
    key("coverage_ignore", Kind::Texts),
    key("hook", Kind::Tables(&[HOOK])),
    key("stream", Kind::Tables(&[STREAM])),
    key("keep_deleted", Kind::Texts),
    key("limits", Kind::Table(&[HOST_LIMITS])),
];

const HOOK: &[Key] = &[
    key(
        "on",
        Kind::Word(&["before-run", "after-run", "failed", "finally"]),
    )
    .required(),
    key("run", Kind::Texts).required(),
    key("timeout", Kind::Duration).or("5m"),
    key("on_failure", Kind::Word(&["abort", "warn", "ignore"])),
];

const STREAM: &[Key] = &[
    key("name", Kind::Text).required(),
    key(
        "preset",
        Kind::Word(&["postgres", "mysql", "sqlite", "mongodb"]),
    ),
    key("database", Kind::Text),
    key("args", Kind::Texts),
    key("run", Kind::Texts),
    key("through", Kind::Text),
    key("timeout", Kind::Duration).or("12h"),
    key("max_size", Kind::Size).or("4TiB"),
    key("min_percent", number(0, 100)).or("50"),
    key("ends_with", Kind::Text),
    key("allow_empty", Kind::Flag).or("false"),
    key("on_failure", Kind::Word(&["fail", "warn"])).or("fail"),
];

pub(super) const JUMP: &[Key] = &[
    key("address", Kind::Text).required(),
    key("user", Kind::Text),
    key("identity_file", Kind::Text),
    key("certificate_file", Kind::Text),
    key("use_agent", Kind::Flag),
    key("host_key", Kind::Texts),
];

const KEEP: &[Key] = &[
    key("last", number(0, KEEP_COUNT_MAX)),
    key("hourly", number(0, KEEP_COUNT_MAX)),
    key("daily", number(0, KEEP_COUNT_MAX)),
    key("weekly", number(0, KEEP_COUNT_MAX)),
    key("monthly", number(0, KEEP_COUNT_MAX)),
    key("yearly", number(0, KEEP_COUNT_MAX)),
    key("within", Kind::Duration),
];

pub(super) const QUOTA: &[Key] = &[key("soft", Kind::Size), key("hard", Kind::Size)];

pub(super) const ANOMALY: &[Key] = &[
    key("runs", number(1, RUNS_COMPARED as u64)).or("3"),
    key("files", number(1, 1 << 40)).or("100"),
    key("bytes", Kind::Size).or("64MiB"),
    key("gone", number(1, 100)).or("50"),
    key("changed", number(1, 100)).or("50"),
    key("new", number(1, 100)).or("50"),
    key("incompressible", number(1, 100)).or("90"),
    key("ending", number(1, 100)).or("30"),
    key("left", number(1, 100)).or("40"),
];

const HOST_LIMITS: &[Key] = &[
    key("connect", Kind::Duration).or("30s"),
    key("idle", Kind::Duration).or("5m"),
    key("run", Kind::Duration).or("7d"),
    key("tunnel_connections", number(1, 8)).or("4"),
    key("agent_threads", number(1, 256)),
    key("nice", number(1, 19)),
    key("ionice", Kind::Text),
    key("cpu", Kind::Text),
    key("bandwidth", Kind::OrTables(&Kind::Rate, &[RATE_HOURS])),
];

pub(super) const RATE_HOURS: &[Key] = &[
    key("from", Kind::Text),
    key("to", Kind::Text),
    key("rate", Kind::Rate).required(),
];
