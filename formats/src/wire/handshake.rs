//! The tunnel's handshake: both sides prove that they know the run's token before anything else crosses, and
//! the token itself never does. A local user who finds or squats the port learns two nonces and two codes.
//!
//! Agent: magic, run, nonce. Server: nonce, proof. Agent: proof. Then HTTP/1.1.

use subtle::ConstantTimeEq as _;

use crate::codec::{DecodeError, Put, Reader, read_magic};
use crate::ids::RunId;
use crate::keys::derive::context;
use crate::keys::secret::RunToken;

const MAGIC: &[u8; 8] = b"CAPSTUNL";
const VERSION: u16 = 1;

/// Bytes of the agent's opening.
pub const OPENING_BYTES: usize = 8 + 2 + 16 + 32;
/// Bytes of the server's answer.
pub const ANSWER_BYTES: usize = 32 + 32;
/// Bytes of the agent's proof.
pub const PROOF_BYTES: usize = 32;

/// The agent's opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The run whose grant it wants to use.
    pub run: RunId,
    /// Fresh random bytes.
    pub nonce: [u8; 32],
}

impl Opening {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(OPENING_BYTES);
        out.put(MAGIC);
        out.put_u16(VERSION);
        out.put(self.run.as_bytes());
        out.put(&self.nonce);
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8; OPENING_BYTES]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        read_magic(&mut reader, "tunnel handshake", MAGIC, VERSION)?;
        let opening = Self {
            run: RunId::read(&mut reader)?,
            nonce: reader.array("nonce")?,
        };
        reader.finish("tunnel handshake")?;
        Ok(opening)
    }
}

/// The server's proof, over both nonces.
pub fn server_proof(token: &RunToken, opening: &Opening, server_nonce: &[u8; 32]) -> [u8; 32] {
    proof(context::PROOF_SERVER, token, opening, server_nonce)
}

/// The agent's proof, over both nonces.
pub fn agent_proof(token: &RunToken, opening: &Opening, server_nonce: &[u8; 32]) -> [u8; 32] {
    proof(context::PROOF_AGENT, token, opening, server_nonce)
}

/// Whether a proof is the one expected, in constant time.
pub fn proof_is_good(expected: &[u8; 32], found: &[u8; 32]) -> bool {
    expected.ct_eq(found).into()
}

fn proof(use_: &str, token: &RunToken, opening: &Opening, server_nonce: &[u8; 32]) -> [u8; 32] {
    let key = blake3::derive_key(use_, token.expose());
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(opening.run.as_bytes());
    hasher.update(&opening.nonce);
    hasher.update(server_nonce);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::{Opening, agent_proof, proof_is_good, server_proof};
    use crate::ids::RunId;
    use crate::keys::secret::RunToken;

    #[test]
    fn proofs_differ_by_side_token_run_and_nonces() {
        let token = RunToken::from_bytes([1; 32]);
        let opening = Opening {
            run: RunId([2; 16]),
            nonce: [3; 32],
        };
        let bytes = opening.encode().try_into().expect("its exact size");
        assert_eq!(Opening::decode(&bytes), Ok(opening));
        let good = server_proof(&token, &opening, &[4; 32]);
        assert!(proof_is_good(&good, &good));
        let other_run = Opening {
            run: RunId([9; 16]),
            ..opening
        };
        let other_nonce = Opening {
            nonce: [9; 32],
            ..opening
        };
        for wrong in [
            agent_proof(&token, &opening, &[4; 32]),
            server_proof(&RunToken::from_bytes([9; 32]), &opening, &[4; 32]),
            server_proof(&token, &other_run, &[4; 32]),
            server_proof(&token, &other_nonce, &[4; 32]),
            server_proof(&token, &opening, &[9; 32]),
        ] {
            assert!(!proof_is_good(&good, &wrong));
        }
    }
}
