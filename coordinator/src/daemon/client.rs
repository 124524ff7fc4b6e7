//! Asks the daemon over its control socket, where one runs.

use std::io;
use std::path::{Path, PathBuf};

use append_server::socket::{SocketError, connect};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedReadHalf;

use crate::daemon::protocol::{ANSWER_BYTES_MAX, Answer, Envelope, Live, PROTOCOL, Question};
use crate::exit_code::ExitCode;

/// Why the daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is none.
    #[error("no daemon runs on {}: start it with `coordinator daemon`, or its systemd unit", path.display())]
    NotRunning {
        /// Its socket.
        path: PathBuf,
        /// What the system said.
        source: SocketError,
    },
    /// It said no.
    #[error("the daemon refused: {why}")]
    Refused {
        /// Why.
        why: String,
    },
    /// The connection broke.
    #[error("the daemon did not answer to the end: is it being stopped?")]
    Broken(#[from] io::Error),
    /// It says something else than was asked.
    #[error("the daemon gave an answer that was not asked for: is it of another version?")]
    Unexpected,
}

impl AskError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::Error
    }
}

/// A question that was asked, and its answers.
#[derive(Debug)]
pub struct Asked {
    answers: BufReader<tokio::io::Take<OwnedReadHalf>>,
    // Closing it would end the connection.
    _write: tokio::net::unix::OwnedWriteHalf,
}

impl Asked {
    /// Asks at a socket. Nobody listening there is [`AskError::NotRunning`].
    pub async fn ask(socket: &Path, question: Question) -> Result<Self, AskError> {
        let stream = connect(socket)
            .await
            .map_err(|source| AskError::NotRunning {
                path: socket.to_owned(),
                source,
            })?;
        let (read, mut write) = stream.into_split();
        let envelope = Envelope {
            protocol: PROTOCOL,
            question,
        };
        let mut line = serde_json::to_vec(&envelope).map_err(io::Error::from)?;
        line.push(b'\n');
        write.write_all(&line).await?;
        Ok(Self {
            answers: BufReader::new(read.take(ANSWER_BYTES_MAX)),
            _write: write,
        })
    }

    /// The next answer.
    pub async fn next(&mut self) -> Result<Answer, AskError> {
        self.answers.get_mut().set_limit(ANSWER_BYTES_MAX);
        let mut line = Vec::new();
        self.answers.read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match serde_json::from_slice(&line).map_err(io::Error::from)? {
            Answer::Refused(why) => Err(AskError::Refused { why }),
            answer => Ok(answer),
        }
    }
}

/// Has something done, and gives what there is to say about it.
pub async fn ask_to_do(socket: &Path, question: Question) -> Result<String, AskError> {
    match Asked::ask(socket, question).await?.next().await? {
        Answer::Done(text) => Ok(text),
        _ => Err(AskError::Unexpected),
    }
}

/// What goes on in the daemon; nothing where none runs.
pub async fn live(socket: &Path) -> Result<Option<Live>, AskError> {
    let asked = match Asked::ask(socket, Question::Live).await {
        Err(AskError::NotRunning { .. }) => return Ok(None),
        asked => asked?,
    };
    let mut asked = asked;
    match asked.next().await? {
        Answer::Live(live) => Ok(Some(live)),
        _ => Err(AskError::Unexpected),
    }
}
