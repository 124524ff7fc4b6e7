//! What a run tells while it goes on. The run only writes here; a terminal or a log reads when it likes.

use std::sync::Mutex;
use std::sync::PoisonError;

/// The steps of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Taking the lock, opening the repository, catching up with its log.
    Prepare,
    /// Connecting and checking the host key.
    Connect,
    /// Sending the agent.
    Deploy,
    /// Handshake with the agent, tunnel.
    Handshake,
    /// Walking, reading, sealing, streaming, verifying.
    BackUp,
    /// Waiting for the last packs to be verified.
    Verify,
    /// Writing the listing's end, the index and the log record.
    Commit,
    /// Checking that nothing is left on the host.
    CleanUp,
}

impl Step {
    /// What people read.
    pub fn text(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Connect => "connect",
            Self::Deploy => "upload agent",
            Self::Handshake => "handshake",
            Self::BackUp => "back up",
            Self::Verify => "verify",
            Self::Commit => "commit",
            Self::CleanUp => "clean up",
        }
    }
}

/// Counts so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// The step.
    pub step: Step,
    /// Entries listed.
    pub entries: u64,
    /// Files in them.
    pub files: u64,
    /// Logical bytes in them.
    pub bytes: u64,
    /// Bytes read from the host, by the agent's word.
    pub bytes_read: u64,
    /// Plain bytes that were new, by the agent's word.
    pub bytes_new: u64,
    /// Bytes of packs that are verified.
    pub bytes_verified: u64,
    /// Problems so far.
    pub problems: u64,
    /// The parent's entries and bytes, as what is to be expected; 0 without a parent.
    pub expected: (u64, u64),
}

/// Shared between a run and whoever shows it.
#[derive(Debug)]
pub struct Progress {
    counts: Mutex<Counts>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            counts: Mutex::new(Counts {
                step: Step::Prepare,
                entries: 0,
                files: 0,
                bytes: 0,
                bytes_read: 0,
                bytes_new: 0,
                bytes_verified: 0,
                problems: 0,
                expected: (0, 0),
            }),
        }
    }
}

impl Progress {
    /// Changes the counts.
    pub fn update(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Goes to a step.
    pub fn step(&self, step: Step) {
        tracing::info!(step = step.text(), "step");
        self.update(|counts| counts.step = step);
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
