//! How the rest of the program asks the daemon's one task for something.

use tokio::sync::{mpsc, oneshot};

use crate::daemon::protocol::{Live, RunNews};
use crate::events::actor::Actor;

/// Orders that wait to be looked at.
pub const ORDERS_MAX: usize = 64;
/// News of a run that wait to be read; a reader that is slower gets fewer.
pub const NEWS_MAX: usize = 16;

/// An order, and where its answer goes.
#[derive(Debug)]
pub enum Order {
    /// Read the configuration again.
    Reload {
        /// Gets the new revision, or why the old one stays.
        answer: oneshot::Sender<Result<String, String>>,
    },
    /// Stop a host's run.
    Cancel {
        /// The host.
        host: String,
        /// Gets what was stopped, or why nothing was.
        answer: oneshot::Sender<Result<String, String>>,
    },
    /// What goes on.
    Live {
        /// Gets it.
        answer: oneshot::Sender<Live>,
    },
    /// Back up a host.
    Run(RunOrder),
}

/// A run that somebody wants.
#[derive(Debug)]
pub struct RunOrder {
    /// The host.
    pub host: String,
    /// Read every file.
    pub full_read: bool,
    /// Before all others that wait.
    pub first: bool,
    /// Whatever the window says.
    pub outside_window: bool,
    /// Who wants it.
    pub by: Actor,
    /// Gets what becomes of it; nobody need listen.
    pub news: mpsc::Sender<RunNews>,
}

/// The daemon has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is ending")]
pub struct Ending;

/// Where orders go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DaemonHandle(mpsc::Sender<Order>);

impl DaemonHandle {
    /// A handle, and where its orders come out.
    pub fn new() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        (Self(sender), receiver)
    }

    /// Has the configuration read again; gives the revision that is in force, or why the one before stays.
    pub async fn reload(&self) -> Result<Result<String, String>, Ending> {
        let (answer, answered) = oneshot::channel();
        self.send(Order::Reload { answer }).await?;
        answered.await.map_err(|_| Ending)
    }

    /// Stops a host's run.
    pub async fn cancel(&self, host: String) -> Result<Result<String, String>, Ending> {
        let (answer, answered) = oneshot::channel();
        self.send(Order::Cancel { host, answer }).await?;
        answered.await.map_err(|_| Ending)
    }

    /// What goes on.
    pub async fn live(&self) -> Result<Live, Ending> {
        let (answer, answered) = oneshot::channel();
        self.send(Order::Live { answer }).await?;
        answered.await.map_err(|_| Ending)
    }

    /// Orders a run.
    pub async fn run(&self, order: RunOrder) -> Result<(), Ending> {
        self.send(Order::Run(order)).await
    }

    async fn send(&self, order: Order) -> Result<(), Ending> {
        self.0.send(order).await.map_err(|_| Ending)
    }
}
