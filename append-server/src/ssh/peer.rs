//! What a server may do to us: the one place that answers its callbacks. Checks the host key,
//! admits forwarded channels that belong to the open tunnel and refuses every other channel.
//! Never accepts a key that is not pinned and never reacts to what a server merely announces.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, Names};
use tokio_util::sync::DropGuard;

use crate::ssh::algorithms;
use crate::ssh::gate::{Endpoint, Gate, Trust, Violation};
use crate::ssh::host_key::ScannedKey;

/// Bytes that are kept of the banner before login, and of the last words.
const WORDS_BYTES_MAX: usize = 4096;

/// An error of the callbacks: what ends the session.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The library's.
    #[error(transparent)]
    Ssh(#[from] russh::Error),
    /// Ours.
    #[error("the server broke a rule of this connection: {0:?}")]
    Violation(Violation),
}

/// The callbacks of one connection.
pub struct Peer {
    gate: Arc<Gate>,
    /// The library drops the callbacks when its session ends, for whatever reason.
    _closed: DropGuard,
}

impl Peer {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        let closed = gate.closed.clone().drop_guard();
        Self {
            gate,
            _closed: closed,
        }
    }
}

// Dropping a `ChannelOpenHandle` refuses the channel; every callback that does nothing with it
// relies on that.
impl Handler for Peer {
    type Error = PeerError;

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), PeerError> {
        keep_some(&mut self.gate.kept().banner, banner);
        Ok(())
    }

    async fn check_server_key(
        &mut self,
        presented: &PublicKeyOrCertificate,
    ) -> Result<bool, PeerError> {
        let key = match presented {
            PublicKeyOrCertificate::PublicKey { key, .. } => key,
            // None was offered, so a server that sends one does not keep to the negotiation.
            PublicKeyOrCertificate::Certificate(_) => return Ok(false),
        };
        let scanned = ScannedKey::of(key);
        let pinned = match &self.gate.trust {
            Trust::Pinned(pinned) => pinned.contains(&scanned.fingerprint),
            Trust::ScanOnly => false,
        };
        if !pinned {
            return Err(self
                .gate
                .violate(Violation::WrongHostKey { presented: scanned }));
        }
        self.gate.kept().host_key = Some(key.clone());
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        names: &Names,
        _: &mut Session,
    ) -> Result<(), PeerError> {
        if !algorithms::acceptable(names) {
            return Err(self.gate.violate(Violation::WeakAlgorithms));
        }
        let (checked, before) = {
            let mut kept = self.gate.kept();
            let before = kept.negotiated_key.replace(names.key.clone());
            (kept.host_key.is_some(), before)
        };
        if !checked {
            return Err(self.gate.violate(Violation::UncheckedHostKey));
        }
        match before {
            None => {}
            Some(before) if before != names.key => {
                return Err(self.gate.violate(Violation::ChangedHostKey));
            }
            // The library does not show the key of a later exchange: see `guard_rekeys`.
            Some(_) => self.gate.rekeyed.notify_one(),
        }
        Ok(())
    }

    async fn openssh_ext_host_keys_announced(
        &mut self,
        keys: Vec<PublicKey>,
        _: &mut Session,
    ) -> Result<(), PeerError> {
        let pinned = self.gate.host_key();
        let announced = keys.iter().any(|key| {
            pinned
                .as_ref()
                .is_some_and(|p| p.key_data() == key.key_data())
        });
        self.gate
            .proves_host_key
            .fetch_or(announced, Ordering::Relaxed);
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        connected_address: &str,
        connected_port: u32,
        originator_address: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), PeerError> {
        if connected_address != "127.0.0.1" {
            return self.gate.refuse_unasked("forwarded-tcpip");
        }
        // With GatewayPorts, sshd binds every address whatever was asked for.
        let local = originator_address
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback());
        if !local {
            self.gate.refuse_busy();
            return Ok(());
        }
        let endpoint = Endpoint::LoopbackPort(connected_port);
        self.gate.deliver(&endpoint, channel, reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), PeerError> {
        let endpoint = Endpoint::Socket(socket_path.to_owned());
        self.gate.deliver(&endpoint, channel, reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), PeerError> {
        self.gate.refuse_unasked("auth-agent")
    }

    async fn should_accept_unknown_server_channel(&mut self, _: ChannelId, _: &str) -> bool {
        if let Err(error) = self.gate.refuse_unasked("unknown") {
            // This callback cannot fail; the connection has been cut all the same.
            tracing::debug!(%error, "closing the connection");
        }
        false
    }

    async fn server_channel_open_unknown(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), PeerError> {
        self.gate.refuse_unasked("unknown")
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), PeerError> {
        self.gate.refuse_unasked("session")
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), PeerError> {
        self.gate.refuse_unasked("direct-tcpip")
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), PeerError> {
        self.gate.refuse_unasked("direct-streamlocal")
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), PeerError> {
        self.gate.refuse_unasked("x11")
    }

    async fn disconnected(&mut self, reason: DisconnectReason<PeerError>) -> Result<(), PeerError> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                keep_some(&mut self.gate.kept().last_words, &info.message);
                Ok(())
            }
            DisconnectReason::Error(error) => Err(error),
        }
    }
}

fn keep_some(kept: &mut Vec<u8>, text: &str) {
    let room = WORDS_BYTES_MAX.saturating_sub(kept.len());
    let bytes = text.as_bytes();
    kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}
