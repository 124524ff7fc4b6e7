//! The algorithms that are offered to a server, and the buffers of a connection.
//! Never offers compression, a cipher that needs a separate MAC, or anything built on SHA-1.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve};
use russh::{Names, Preferred, SshId, cipher, client, compression, kex, mac};

use crate::ssh::target::Timeouts;

/// Host key kinds, best first. RSA is left out with the `rsa` crate and its timing advisory.
pub(super) const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
];

const KEY_EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    // For servers in FIPS mode.
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
];

/// Unused by the ciphers above, which authenticate by themselves; some servers want a common one.
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

const COMPRESSIONS: &[compression::Name] = &[compression::NONE];

/// The fewest bytes that a server may have in flight on one channel: 10 Gbit/s at a round trip of 0.8 ms.
const WINDOW_BYTES_MIN: u32 = 1 << 20;

/// The most: 1 Gbit/s at a round trip of 130 ms.
const WINDOW_BYTES_MAX: u32 = 16 << 20;

/// What one channel is to carry, in bytes each microsecond: 1 Gbit/s.
const CHANNEL_RATE: u128 = 125;

/// The largest packet that the library handles without complaint.
const PACKET_BYTES_MAX: u32 = 65_535;

/// Messages of one channel that wait for its reader. Once full, the connection is read no further,
/// so this and the packet size bound what a server can make us hold.
const CHANNEL_MESSAGES_MAX: usize = 64;

/// Keepalives without an answer that end the connection.
const KEEPALIVES_MAX: usize = 4;

/// The client's side of a connection that accepts these kinds of host key.
pub(super) fn client_config(
    timeouts: &Timeouts,
    host_keys: &[Algorithm],
    round_trip: Duration,
) -> Arc<client::Config> {
    Arc::new(client::Config {
        client_id: SshId::Standard(Cow::Borrowed(concat!(
            "SSH-2.0-Capstan_",
            env!("CARGO_PKG_VERSION")
        ))),
        window_size: window_bytes(round_trip),
        maximum_packet_size: PACKET_BYTES_MAX,
        channel_buffer_size: CHANNEL_MESSAGES_MAX,
        preferred: Preferred {
            kex: Cow::Borrowed(KEY_EXCHANGES),
            key: Cow::Owned(host_keys.to_vec()),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(COMPRESSIONS),
        },
        inactivity_timeout: Some(timeouts.inactivity),
        keepalive_interval: Some(timeouts.keepalive),
        keepalive_max: KEEPALIVES_MAX,
        nodelay: true,
        ..client::Config::default()
    })
}

/// As much as a channel carries in a round trip. No more than that: OpenSSH's server keeps what it may send and we do not
/// take yet in a buffer that it copies whole whenever it grows.
fn window_bytes(round_trip: Duration) -> u32 {
    let bytes = round_trip.as_micros().saturating_mul(CHANNEL_RATE);
    u32::try_from(bytes)
        .unwrap_or(u32::MAX)
        .clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
}

/// Whether what was negotiated may be used. Checked apart from the offer, so that a library that
/// picks something else is caught. Prefix truncation (Terrapin) needs ChaCha20 without strict-kex.
pub(super) fn acceptable(names: &Names) -> bool {
    let uncompressed = |c: &compression::Compression| matches!(c, compression::Compression::None);
    KEY_EXCHANGES.contains(&names.kex)
        && CIPHERS.contains(&names.cipher)
        && (names.strict_kex() || names.cipher != cipher::CHACHA20_POLY1305)
        && uncompressed(&names.client_compression)
        && uncompressed(&names.server_compression)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, window_bytes};

    #[test]
    fn a_window_holds_what_a_round_trip_carries() {
        assert_eq!(window_bytes(Duration::ZERO), WINDOW_BYTES_MIN);
        assert_eq!(window_bytes(Duration::from_millis(40)), 5_000_000);
        assert_eq!(window_bytes(Duration::MAX), WINDOW_BYTES_MAX);
    }
}
