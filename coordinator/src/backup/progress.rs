//! What a run tells while it goes on, and the one thing that it can be told: to stop. The run only writes here; a terminal or a
//! log reads when it likes.

use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::watch;

/// The steps of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Taking the lock, opening the repository, catching up with its log.
    Prepare,
    /// Connecting and checking the host key.
    Connect,
    /// Running the hooks before the run.
    Hooks,
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
            Self::Hooks => "hooks",
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

/// Why a run is to stop before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A person said so.
    Cancelled,
    /// The host's window closes.
    WindowClosed,
    /// The coordinator is ending.
    Ending,
}

/// Shared between a run and whoever watches it.
#[derive(Debug)]
pub struct Progress {
    counts: Mutex<Counts>,
    stop: watch::Sender<Option<Stop>>,
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
            stop: watch::Sender::new(None),
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

    /// Asks the run to stop as soon as it can in an orderly way. One that commits already is let do so. The first reason stays.
    pub fn ask_to_stop(&self, why: Stop) {
        self.stop.send_if_modified(|asked| {
            let is_first = asked.is_none();
            asked.get_or_insert(why);
            is_first
        });
    }

    /// Why it was asked to stop, if it was.
    pub fn asked_to_stop(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    /// Waits until it is asked to stop.
    pub async fn stopped(&self) -> Stop {
        let mut asked = self.stop.subscribe();
        loop {
            if let Some(why) = *asked.borrow_and_update() {
                return why;
            }
            // Never an error: the sender lives as long as this borrow of it.
            if asked.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
