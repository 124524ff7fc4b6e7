//! What is said over the daemon's control socket: one JSON object a line, a question first, then answers until the end. Both
//! ends are the same program; one of another version is refused by its number.

use serde::{Deserialize, Serialize};

use crate::daemon::health::Trouble;
use crate::status::behind::Behind;
use crate::status::json::DestinationJson;

/// The version of what is said.
pub const PROTOCOL: u32 = 2;
/// The longest question: the names of two thousand hosts, several times over.
pub const QUESTION_BYTES_MAX: u64 = 1 << 20;
/// The longest answer.
pub const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// A question with the version that it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The version.
    pub protocol: u32,
    /// The question.
    pub question: Question,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// Read the configuration again.
    Reload,
    /// Stop a host's run, or forget that one was asked for.
    Cancel {
        /// The host.
        host: String,
    },
    /// What goes on.
    Live,
    /// Back up hosts.
    Run(RunQuestion),
}

/// Which hosts are to be backed up, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunQuestion {
    /// The hosts.
    pub hosts: Vec<String>,
    /// Read every file.
    pub full_read: bool,
    /// Before all others that wait.
    pub first: bool,
    /// Whatever the window says.
    pub outside_window: bool,
    /// Who became the user that asks through sudo, as sudo's environment says. A word, not a proof.
    pub through: Option<String>,
}

/// What is answered. `Run` has many answers, everything else one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was done; what there is to say about it.
    Done(String),
    /// It was not, and why.
    Refused(String),
    /// What goes on.
    Live(Live),
    /// What becomes of a host that was to be backed up.
    Run {
        /// The host.
        host: String,
        /// What becomes of it.
        news: RunNews,
    },
    /// There is no more.
    End,
}

/// What becomes of a run that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunNews {
    /// It began.
    Began,
    /// How far it is, for people.
    Goes(String),
    /// It ended.
    Ended {
        /// The number to end with.
        code: u8,
        /// What `run --json` prints.
        json: serde_json::Value,
        /// The result, for people.
        out: String,
        /// What is wrong, for people.
        errors: String,
    },
    /// There is no run.
    Refused {
        /// The number to end with.
        code: u8,
        /// Why.
        why: String,
    },
}

/// What goes on in the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Its process.
    pub pid: u32,
    /// Since when it runs.
    pub since: String,
    /// The revision of the configuration that is in force.
    pub revision: String,
    /// Why the configuration that is there is not in force.
    pub refused: Option<String>,
    /// Hosts that are being backed up.
    pub running: Vec<LiveRun>,
    /// Hosts that are due and wait for their turn.
    pub waiting: Vec<String>,
    /// What of the daemon does not work.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
    /// How far destinations are behind; nothing when the append-server does not say.
    pub destinations: Option<Vec<DestinationJson>>,
    /// What they lack of each repository.
    #[serde(default)]
    pub behind: Option<Vec<Behind>>,
}

/// A run that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRun {
    /// The host.
    pub host: String,
    /// The run.
    pub run: String,
    /// Since when.
    pub since: String,
    /// The step.
    pub step: String,
    /// Entries so far.
    pub entries: u64,
    /// Bytes read so far.
    pub bytes_read: u64,
    /// New bytes so far.
    pub new_bytes: u64,
}
