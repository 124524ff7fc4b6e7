//! The control conversation's two directions as messages. Each direction is its own task with a bounded
//! queue: reading never waits for writing, so neither side can hold the other up for good.

use formats::codec::DecodeError;
use formats::limits::CONTROL_FRAME_BYTES_MAX;
use formats::wire::control::{FromAgent, FromCoordinator};
use formats::wire::framing::{FrameLengthError, LENGTH_BYTES, frame, frame_length};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tracing::Instrument as _;
use zeroize::Zeroize as _;

/// Messages that wait in each direction.
const MESSAGES_WAITING_MAX: usize = 64;

/// Why the conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The stream ended in the middle.
    #[error("the agent's end of the conversation was cut")]
    Cut(#[source] std::io::Error),
    /// A frame's length is impossible.
    #[error("the agent broke the conversation's framing")]
    Framing(#[from] FrameLengthError),
    /// A message is none.
    #[error("the agent sent a message that cannot be read")]
    Decode(#[from] DecodeError),
}

/// What came from the agent: messages, then one end.
pub type Incoming = mpsc::Receiver<Result<FromAgent, ControlError>>;

/// Starts reading messages; the channel ends after an error or at the stream's end.
pub fn read_messages(stream: impl AsyncRead + Send + Unpin + 'static) -> Incoming {
    let (sender, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
    tokio::spawn(async move {
        let mut stream = stream;
        let mut buffer = Vec::new();
        loop {
            let message = match read_frame(&mut stream, &mut buffer).await {
                Ok(true) => FromAgent::decode(&buffer).map_err(ControlError::from),
                Ok(false) => return,
                Err(error) => Err(error),
            };
            let last = message.is_err();
            if sender.send(message).await.is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// Reads one frame into `buffer`; `false` at the stream's end between frames.
async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<bool, ControlError> {
    let mut length = [0u8; LENGTH_BYTES];
    let first = stream.read(&mut length).await.map_err(ControlError::Cut)?;
    if first == 0 {
        return Ok(false);
    }
    stream
        .read_exact(&mut length[first..])
        .await
        .map_err(ControlError::Cut)?;
    let bytes = frame_length(length)?;
    buffer.clear();
    buffer.resize(bytes, 0);
    stream.read_exact(buffer).await.map_err(ControlError::Cut)?;
    Ok(true)
}

/// Sends messages to the agent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    sender: mpsc::Sender<FromCoordinator>,
}

/// The agent no longer takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent no longer takes messages")]
pub struct AgentGone;

impl Outgoing {
    /// Starts writing messages to the agent's standard input.
    pub fn new(stream: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        let (sender, mut receiver) = mpsc::channel::<FromCoordinator>(MESSAGES_WAITING_MAX);
        let writing = async move {
            let mut stream = stream;
            while let Some(message) = receiver.recv().await {
                let mut bytes = message.encode();
                let framed = frame(&bytes);
                bytes.zeroize();
                let Ok(mut framed) = framed else {
                    tracing::error!(
                        limit = CONTROL_FRAME_BYTES_MAX,
                        "a message is too large to send"
                    );
                    return;
                };
                let sent = stream.write_all(&framed).await;
                framed.zeroize();
                if sent.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            // The agent sees its standard input end, and goes.
            if let Err(error) = stream.shutdown().await {
                tracing::debug!(%error, "closing the agent's standard input");
            }
        };
        tokio::spawn(writing.in_current_span());
        Self { sender }
    }

    /// Queues one message; waits while the queue is full.
    pub async fn send(&self, message: FromCoordinator) -> Result<(), AgentGone> {
        self.sender.send(message).await.map_err(|_| AgentGone)
    }
}
