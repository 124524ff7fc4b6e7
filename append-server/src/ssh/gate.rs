//! The state of a connection, and the decisions on what a server may do on it: which channels
//! belong to the tunnel, how many of the others are too many, and why the connection ended.
//! Never forgets the first reason.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::Channel;
use russh::client::{ChannelOpenHandle, Msg};
use russh::keys::{Algorithm, PublicKey};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::ssh::error::{SshError, Stage};
use crate::ssh::escape::escape_trimmed;
use crate::ssh::host_key::{Fingerprint, ScannedKey};
use crate::ssh::peer::PeerError;
use crate::ssh::stream::ChannelStream;

/// Channels that were never asked for after which the connection is closed.
pub const UNASKED_CHANNELS_MAX: u32 = 32;

/// Why the connection was ended from our side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The server's key is not pinned.
    WrongHostKey {
        /// Its key.
        presented: ScannedKey,
    },
    /// The key exchange went by without a check of the key.
    UncheckedHostKey,
    /// The server has another key than before.
    ChangedHostKey,
    /// Something was agreed on that was not offered.
    WeakAlgorithms,
    /// The server opened channels that nobody asked for.
    TooManyChannels {
        /// How many.
        refused: u32,
    },
}

/// Which keys are accepted at the first key exchange.
#[derive(Debug)]
pub(super) enum Trust {
    Pinned(Vec<Fingerprint>),
    /// Accepts no key: ends the connection at the check, having noted the key.
    ScanOnly,
}

/// What the callbacks and the connection share: the state of one connection.
#[derive(Debug)]
pub struct Gate {
    pub(super) trust: Trust,
    /// Cancelled when the connection is over, whoever ended it.
    pub closed: CancellationToken,
    pub(super) rekeyed: Notify,
    refused_unasked: AtomicU32,
    refused_busy: AtomicU32,
    /// Whether the server has announced that it can prove the pinned key again.
    pub proves_host_key: AtomicBool,
    kept: Mutex<Kept>,
}

/// What is learnt as the connection goes on.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) host_key: Option<PublicKey>,
    pub(super) negotiated_key: Option<Algorithm>,
    pub(super) banner: Vec<u8>,
    /// What the server said when it ended the connection.
    pub(super) last_words: Vec<u8>,
    pub(super) violation: Option<Violation>,
    pub(super) route: Option<Route>,
}

/// The one forwarding that the server was asked for.
#[derive(Debug)]
pub struct Route {
    /// What the server forwards.
    pub endpoint: Endpoint,
    /// Where its connections go.
    pub deliver: mpsc::Sender<ChannelStream>,
    /// How many may be open.
    pub slots: Arc<Semaphore>,
}

/// What a server forwards to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket there.
    Socket(String),
    /// A port of its loopback address.
    LoopbackPort(u32),
}

impl Gate {
    pub(super) fn new(trust: Trust) -> Arc<Self> {
        Arc::new(Self {
            trust,
            closed: CancellationToken::new(),
            rekeyed: Notify::new(),
            refused_unasked: AtomicU32::new(0),
            refused_busy: AtomicU32::new(0),
            proves_host_key: AtomicBool::new(false),
            kept: Mutex::new(Kept::default()),
        })
    }

    /// The key that passed the check.
    pub(super) fn host_key(&self) -> Option<PublicKey> {
        self.kept().host_key.clone()
    }

    pub(super) fn banner(&self) -> Vec<u8> {
        self.kept().banner.clone()
    }

    pub(super) fn violation(&self) -> Option<Violation> {
        self.kept().violation.clone()
    }

    /// The keys that would have been accepted.
    pub(super) fn pinned(&self) -> Vec<Fingerprint> {
        match &self.trust {
            Trust::Pinned(pinned) => pinned.clone(),
            Trust::ScanOnly => Vec::new(),
        }
    }

    pub(super) fn proves_host_key(&self) -> bool {
        self.proves_host_key.load(Ordering::Relaxed)
    }

    pub(super) fn refused_unasked(&self) -> u32 {
        self.refused_unasked.load(Ordering::Relaxed)
    }

    pub(super) fn refused_busy(&self) -> u32 {
        self.refused_busy.load(Ordering::Relaxed)
    }

    /// Admits the channels of this forwarding from now on, or of none.
    pub fn set_route(&self, route: Option<Route>) {
        self.kept().route = route;
    }

    /// The error for a connection that the other side or the network ended.
    pub(super) fn lost(&self, host: &str, stage: Stage) -> SshError {
        let words = escape_trimmed(&self.kept().last_words);
        SshError::Lost {
            host: host.to_owned(),
            stage,
            said: if words.is_empty() {
                String::new()
            } else {
                format!("; it says: {words}")
            },
        }
    }

    /// Notes the first reason and ends the connection.
    pub(super) fn violate(&self, violation: Violation) -> PeerError {
        self.kept()
            .violation
            .get_or_insert_with(|| violation.clone());
        self.closed.cancel();
        PeerError::Violation(violation)
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while holding it; a poisoned lock would still hold whole values.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refuse_unasked(&self, what: &str) -> Result<(), PeerError> {
        let refused = self.refused_unasked.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(
            channel = what,
            refused,
            "refused a channel that was not asked for"
        );
        if refused > UNASKED_CHANNELS_MAX {
            return Err(self.violate(Violation::TooManyChannels { refused }));
        }
        Ok(())
    }

    /// A place for one more channel of the tunnel, if this endpoint is the tunnel's.
    fn admit(&self, endpoint: &Endpoint) -> Admission {
        let kept = self.kept();
        let Some(route) = kept.route.as_ref().filter(|r| r.endpoint == *endpoint) else {
            return Admission::Unasked;
        };
        let slot = Arc::clone(&route.slots).try_acquire_owned();
        let place = route.deliver.clone().try_reserve_owned();
        match (slot, place) {
            (Ok(slot), Ok(place)) => Admission::Yes { slot, place },
            _ => Admission::Busy,
        }
    }

    pub(super) async fn deliver(
        &self,
        endpoint: &Endpoint,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
    ) -> Result<(), PeerError> {
        match self.admit(endpoint) {
            Admission::Yes { slot, place } => {
                reply.accept().await;
                place.send(ChannelStream::open(
                    channel,
                    self.closed.clone(),
                    Some(slot),
                ));
                Ok(())
            }
            Admission::Busy => {
                self.refuse_busy();
                Ok(())
            }
            Admission::Unasked => self.refuse_unasked("forwarded"),
        }
    }

    /// A local user of the target can cause these, so they never end the connection.
    pub(super) fn refuse_busy(&self) {
        self.refused_busy.fetch_add(1, Ordering::Relaxed);
    }
}

enum Admission {
    Yes {
        slot: OwnedSemaphorePermit,
        place: mpsc::OwnedPermit<ChannelStream>,
    },
    Busy,
    Unasked,
}
