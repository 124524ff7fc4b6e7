//! The ingest acceptor: a connection proves that it knows its run's token before anything else crosses. An
//! unknown run is answered like a known one, so that a guess learns nothing but "no".

use std::io;

use formats::codec::DecodeError;
use formats::ids::RunId;
use formats::keys::secret::{RandomError, RunToken, random};
use formats::wire::handshake::{
    ANSWER_BYTES, OPENING_BYTES, Opening, PROOF_BYTES, agent_proof, proof_is_good, server_proof,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::grants::append::{AppendGrant, GrantError, RunGrants};

/// A connection that did not prove itself.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It ended or broke.
    #[error("the connection broke during the handshake")]
    Io(#[from] io::Error),
    /// What came is no opening.
    #[error("no opening of a tunnel connection came")]
    Opening(#[source] DecodeError),
    /// The proof is wrong, or the run is not open.
    #[error("no proof for run {run}: it is not open here, or the token is wrong")]
    Proof {
        /// The run that was named.
        run: RunId,
    },
    /// No random numbers.
    #[error("could not make a nonce")]
    Random(#[from] RandomError),
    /// The run is known and takes no more connections.
    #[error("the run takes no connection")]
    Grant(#[from] GrantError),
    /// It took too long.
    #[error("the handshake was not complete in time")]
    Deadline,
}

/// Runs the handshake; the stream stands at the first byte after it.
pub async fn prove<S>(stream: &mut S, grants: &RunGrants) -> Result<AppendGrant, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = [0; OPENING_BYTES];
    stream.read_exact(&mut bytes).await?;
    let opening = Opening::decode(&bytes).map_err(HandshakeError::Opening)?;
    let known = grants.token(opening.run);
    let token = match &known {
        Some(token) => token.clone(),
        None => RunToken::random()?,
    };

    let nonce: [u8; 32] = random()?;
    let mut answer = [0; ANSWER_BYTES];
    let (first, second) = answer.split_at_mut(nonce.len());
    first.copy_from_slice(&nonce);
    second.copy_from_slice(&server_proof(&token, &opening, &nonce));
    stream.write_all(&answer).await?;
    stream.flush().await?;

    let mut proof = [0; PROOF_BYTES];
    stream.read_exact(&mut proof).await?;
    let good = proof_is_good(&agent_proof(&token, &opening, &nonce), &proof);
    if !good || known.is_none() {
        return Err(HandshakeError::Proof { run: opening.run });
    }
    Ok(grants.connect(opening.run)?)
}
