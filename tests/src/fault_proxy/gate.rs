//! A gate on a request's way: the test sees when the request stands before it, does something else meanwhile, and opens it.

use tokio::sync::watch;

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing has come yet.
    Far,
    /// It waits.
    Waiting,
    /// It may pass, and so may all that come later.
    Open,
}

/// A gate, closed at first. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<Stage>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(Stage::Far))
    }
}

impl Gate {
    /// Whether a request waits before it.
    pub fn is_reached(&self) -> bool {
        *self.0.borrow() == Stage::Waiting
    }

    /// Opens it for good.
    pub fn open(&self) {
        self.0.send_replace(Stage::Open);
    }

    /// A request's way through it.
    pub(super) async fn pass(&self) {
        self.0.send_if_modified(|stage| {
            let first = *stage == Stage::Far;
            if first {
                *stage = Stage::Waiting;
            }
            first
        });
        let mut stage = self.0.subscribe();
        // The sender is this gate itself, so there is always an answer.
        drop(stage.wait_for(|stage| *stage == Stage::Open).await);
    }
}
