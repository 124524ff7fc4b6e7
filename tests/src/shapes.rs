//! The `--json` answers of `coordinator`, as the system tests read them. This file is the contract: a field named here
//! is printed under exactly this name. It never tolerates a missing field, and ignores fields it does not know.
//!
//! Rules that hold for every answer:
//! - stdout carries one JSON value and nothing else; progress, warnings and errors go to stderr;
//! - ids are printed in full, as lower-case hex; times are RFC 3339 in UTC, ending in `Z`;
//! - a path is absolute and escaped: a backslash is `\\`, every control character and every byte that is not part of
//!   valid UTF-8 is `\xNN` (before JSON's own escaping), so nothing printed can drive a terminal;
//! - a failed `run` still prints its object (outcome `failed`, `snapshot` null, `error` set) and its exit code says why.

//!
//! What the tests assume of the command line beyond the issue's own examples:
//! - `init --dir DIR --no-users` asks nothing; `--admin-password-file FILE` takes the admin's password from there;
//! - `restore --to OUT` puts `/srv/x` at `OUT/srv/x`; OUT may be missing or empty, anything else is refused;
//! - `append-server -c append-server.toml` listens on its two sockets until a signal ends it.

use serde::Deserialize;

/// How a run ended, as one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything asked for was read; exit code 0.
    Ok,
    /// A snapshot was committed, some source data is unread or changed while it was read; exit code 3.
    Warnings,
    /// A snapshot was committed that looks wrong; its host is on hold; exit code 3.
    Held,
    /// No snapshot was committed by this run.
    Failed,
}

/// Answer of `run HOST --json`: one object.
#[derive(Debug, Clone, Deserialize)]
pub struct RunReport {
    /// Name of the host in hosts.toml.
    pub host: String,
    /// How the run ended.
    pub outcome: Outcome,
    /// What was committed; null when the run failed.
    pub snapshot: Option<SnapshotRef>,
    /// Entries of the snapshot that are not directories.
    pub files: u64,
    /// Entries of the snapshot that are directories.
    pub directories: u64,
    /// Bytes of file content the agent read in this run (holes count nothing).
    pub bytes_read: u64,
    /// Plain bytes of the chunks that this run uploaded because storage lacked them.
    pub new_bytes: u64,
    /// Bytes of the objects this run added to the repository.
    pub stored_bytes: u64,
    /// The first problems, at most 20.
    pub problems: Vec<ProblemLine>,
    /// How many problems there were in truth.
    pub problem_count: u64,
    /// Why the run looks wrong; null unless it does.
    pub held: Option<String>,
    /// What a person should know beside the problems.
    pub warnings: Vec<WarningLine>,
    /// Wall-clock seconds of the run.
    pub duration_secs: f64,
    /// Peak resident memory of the agent.
    pub agent_rss_bytes: u64,
    /// CPU time of the agent.
    pub agent_cpu_secs: f64,
    /// Peak resident memory of the coordinator.
    pub coordinator_rss_bytes: u64,
    /// How packs came back: `unix`, `tcp` or `stdio`; null when the run failed before a tunnel stood.
    pub transport: Option<String>,
    /// What went wrong, in one line; null unless the run failed.
    pub error: Option<String>,
}

/// Something a person should know about a run.
#[derive(Debug, Clone, Deserialize)]
pub struct WarningLine {
    /// One of `identity`, `coverage`, `quota`, `hook`.
    pub kind: String,
    /// What it is.
    pub text: String,
}

/// The snapshot a run committed.
#[derive(Debug, Clone, Deserialize)]
pub struct SnapshotRef {
    /// Full id, hex.
    pub id: String,
    /// Its number in the log.
    pub seq: u64,
    /// The coordinator's time of the snapshot.
    pub time: String,
}

/// One thing that could not be backed up, or restored, as it should.
#[derive(Debug, Clone, Deserialize)]
pub struct ProblemLine {
    /// Escaped absolute path.
    pub path: String,
    /// One of `source_missing`, `unreadable`, `vanished`, `changed`, `beyond_limit`, `other`; in a restore also `metadata`
    /// (restored, but not with every attribute) and `refused` (not restored, because it would not be safe).
    pub kind: String,
    /// The cause, for people.
    pub text: String,
}

/// One element of the array that `snapshots HOST --json` prints, oldest first.
///
/// A host that exists and has no snapshot yet gives an empty array and exit code 0.
#[derive(Debug, Clone, Deserialize)]
pub struct SnapshotLine {
    /// Full id, hex.
    pub id: String,
    /// Its number in the log.
    pub seq: u64,
    /// Name of the host.
    pub host: String,
    /// The coordinator's time of the snapshot.
    pub time: String,
    /// Entries that are not directories.
    pub files: u64,
    /// Logical bytes of all regular files.
    pub bytes: u64,
    /// Plain bytes that the snapshot's run uploaded.
    pub new_bytes: u64,
    /// `ok`, `warnings` or `held`.
    pub outcome: Outcome,
    /// Whether its host is on hold, so that nothing of it is dropped.
    pub on_hold: bool,
    /// Whether everything it references was read back, opened and recomputed.
    pub verified: bool,
}

/// Answer of `restore HOST SNAPSHOT --to DIR --json`: one object. Exit code 3 when `problem_count` is not 0.
#[derive(Debug, Clone, Deserialize)]
pub struct RestoreReport {
    /// Name of the host.
    pub host: String,
    /// Full id of the snapshot restored.
    pub snapshot: String,
    /// Entries restored that are not directories.
    pub files: u64,
    /// Directories restored.
    pub directories: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// The first problems, at most 20.
    pub problems: Vec<ProblemLine>,
    /// How many problems there were in truth.
    pub problem_count: u64,
}

/// Answer of `verify HOST --json`: one object. Exit code 15 unless `outcome` is `ok`.
#[derive(Debug, Clone, Deserialize)]
pub struct VerifyReport {
    /// Name of the host.
    pub host: String,
    /// `ok` or `failed`.
    pub outcome: Outcome,
    /// Snapshots examined.
    pub snapshots: u64,
    /// Packs read back, data and meta.
    pub packs: u64,
    /// Chunks opened and recomputed.
    pub chunks: u64,
    /// Bytes read from the destination.
    pub bytes: u64,
    /// What is wrong, one line each, at most 20.
    pub errors: Vec<String>,
    /// How many errors there were in truth.
    pub error_count: u64,
}

/// One element of the array that `ls HOST SNAPSHOT [PATH] --json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct LsLine {
    /// Escaped absolute path.
    pub path: String,
    /// `file`, `directory`, `symlink`, `fifo`, `socket`, `char_device` or `block_device`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Permission bits, as a number (including setuid, setgid and sticky).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Logical size; 0 for what has none.
    pub size: u64,
    /// Modification time.
    pub mtime: String,
}

/// Answer of `host test HOST --json`: one object.
#[derive(Debug, Clone, Deserialize)]
pub struct HostTestReport {
    /// Name of the host.
    pub host: String,
    /// `ok` or `failed`.
    pub outcome: Outcome,
    /// How packs would come back: `unix`, `tcp` or `stdio`.
    pub transport: Option<String>,
    /// Each step taken, in order.
    pub steps: Vec<HostTestStep>,
}

/// One step of `host test`.
#[derive(Debug, Clone, Deserialize)]
pub struct HostTestStep {
    /// `connect`, `host-key`, `authenticate`, `upload`, `start`, `tunnel`, `sources`, `clean-up`.
    pub step: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// What was found, or the remedy.
    pub text: String,
}

/// Answer of `diff HOST SNAP --json` and of `changes HOST --json`: one object.
#[derive(Debug, Clone, Deserialize)]
pub struct DiffReport {
    /// Name of the host in hosts.toml.
    pub host: String,
    /// The snapshot that is compared with.
    pub from: ComparedSnapshot,
    /// The snapshot that is looked at.
    pub to: ComparedSnapshot,
    /// What differs, in the listing's order; each on a line of its own.
    pub changes: Vec<ChangeLine>,
    /// Counts of it.
    pub totals: DiffTotals,
}

/// One of two compared snapshots.
#[derive(Debug, Clone, Deserialize)]
pub struct ComparedSnapshot {
    /// Full snapshot id.
    pub id: String,
    /// When its run began.
    pub time: String,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChangeLine {
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// Escaped absolute path.
    pub path: String,
    /// In what it differs; nothing for what is in one snapshot alone.
    #[serde(default)]
    pub what: Vec<String>,
}

/// Counts of what differs.
#[derive(Debug, Clone, Deserialize)]
pub struct DiffTotals {
    /// What only the second one has.
    pub added: OneSided,
    /// What only the first one has.
    pub removed: OneSided,
    /// Files under another name.
    pub moved: u64,
    /// Other types.
    pub type_changed: u64,
    /// Other contents.
    pub content_changed: u64,
    /// Other metadata alone.
    pub metadata_changed: u64,
    /// No difference.
    pub unchanged: u64,
}

/// Counts of what one snapshot alone has.
#[derive(Debug, Clone, Deserialize)]
pub struct OneSided {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Exit codes of `coordinator`; anything not listed counts as failure.
pub mod exit {
    /// Done.
    pub const OK: i32 = 0;
    /// Failed.
    pub const ERROR: i32 = 1;
    /// The command line is wrong.
    pub const USAGE: i32 = 2;
    /// Finished, and some source data was not read.
    pub const WARNINGS: i32 = 3;
    /// No such host, snapshot or repository.
    pub const NOT_FOUND: i32 = 10;
    /// Another run of this host is under way.
    pub const LOCKED: i32 = 11;
    /// Wrong key or password.
    pub const WRONG_KEY: i32 = 12;
    /// The host's key is not the pinned one.
    pub const HOST_KEY: i32 = 13;
    /// Over quota.
    pub const QUOTA: i32 = 14;
    /// Stored or received data is not what it claims to be.
    pub const INTEGRITY: i32 = 15;
    /// Cancelled by a signal.
    pub const CANCELLED: i32 = 130;
}
