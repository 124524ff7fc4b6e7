//! The agent's side of the tunnel's handshake: the other end proves first that it knows the run's token.

use std::io::{self, Read, Write};

use formats::ids::RunId;
use formats::keys::secret::{RandomError, RunToken, random};
use formats::wire::handshake::{ANSWER_BYTES, Opening, agent_proof, proof_is_good, server_proof};

/// Why a connection was not used.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection ended or stalled.
    #[error("the tunnel's handshake did not come to its end")]
    Io(#[from] io::Error),
    /// No randomness.
    #[error("the tunnel's handshake cannot begin")]
    Random(#[from] RandomError),
    /// The other end does not know the token.
    #[error("the tunnel's other end does not know this run's token: it is not the append-server")]
    Proof,
}

/// Proves and has proved, in this order: nothing secret is sent to an unknown end.
pub fn shake_hands(
    stream: &mut (impl Read + Write + ?Sized),
    run: RunId,
    token: &RunToken,
) -> Result<(), HandshakeError> {
    let opening = Opening {
        run,
        nonce: random()?,
    };
    stream.write_all(&opening.encode())?;
    stream.flush()?;
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer)?;
    let (nonce, proof) = answer.split_at(32);
    let mut server_nonce = [0; 32];
    server_nonce.copy_from_slice(nonce);
    let mut found = [0; 32];
    found.copy_from_slice(proof);
    if !proof_is_good(&server_proof(token, &opening, &server_nonce), &found) {
        return Err(HandshakeError::Proof);
    }
    stream.write_all(&agent_proof(token, &opening, &server_nonce))?;
    stream.flush()?;
    Ok(())
}
