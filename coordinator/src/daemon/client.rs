//! Asks the daemon over its control socket, where one runs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use append_server::socket::{SocketError, connect};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::time::timeout;

use crate::daemon::protocol::{ANSWER_BYTES_MAX, Answer, Envelope, Live, PROTOCOL, Question};
use crate::exit_code::ExitCode;

/// How long the first answer may take. Those after it tell of runs, which last as long as they do.
const FIRST_ANSWER_DEADLINE: Duration = Duration::from_secs(30);

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
    /// It does not answer.
    #[error(
        "the daemon did not answer on {} within {} s: is its machine very busy, or does it hang? Look at its log, and start it again if it stays so",
        path.display(), FIRST_ANSWER_DEADLINE.as_secs()
    )]
    NoAnswer {
        /// Its socket.
        path: PathBuf,
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
    socket: PathBuf,
    is_answered: bool,
    answers: BufReader<tokio::io::Take<OwnedReadHalf>>,
    // Closing it would end the connection.
    _write: tokio::net::unix::OwnedWriteHalf,
}

impl Asked {
    /// Asks at a socket. Nobody listening there is [`AskError::NotRunning`].
    pub async fn ask(socket: &Path, question: Question) -> Result<Self, AskError> {
        let stream = in_time(socket, connect(socket)).await?;
        let stream = stream.map_err(|source| unreachable(socket, source))?;
        let (read, mut write) = stream.into_split();
        let envelope = Envelope {
            protocol: PROTOCOL,
            question,
        };
        let mut line = serde_json::to_vec(&envelope).map_err(io::Error::from)?;
        line.push(b'\n');
        in_time(socket, write.write_all(&line)).await??;
        Ok(Self {
            socket: socket.to_owned(),
            is_answered: false,
            answers: BufReader::new(read.take(ANSWER_BYTES_MAX)),
            _write: write,
        })
    }

    /// The next answer; the first one has to come soon.
    pub async fn next(&mut self) -> Result<Answer, AskError> {
        self.answers.get_mut().set_limit(ANSWER_BYTES_MAX);
        let mut line = Vec::new();
        let reading = self.answers.read_until(b'\n', &mut line);
        match self.is_answered {
            true => reading.await?,
            false => in_time(&self.socket, reading).await??,
        };
        self.is_answered = true;
        if line.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match serde_json::from_slice(&line).map_err(io::Error::from)? {
            Answer::Refused(why) => Err(AskError::Refused { why }),
            answer => Ok(answer),
        }
    }
}

/// What the daemon has to answer soon.
async fn in_time<T>(socket: &Path, work: impl Future<Output = T>) -> Result<T, AskError> {
    let done = timeout(FIRST_ANSWER_DEADLINE, work).await;
    done.map_err(|_| no_answer(socket))
}

fn no_answer(socket: &Path) -> AskError {
    AskError::NoAnswer {
        path: socket.to_owned(),
    }
}

/// A socket whose queue is full is one of a daemon that takes no connections.
fn unreachable(socket: &Path, source: SocketError) -> AskError {
    match source {
        SocketError::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock => {
            no_answer(socket)
        }
        source => AskError::NotRunning {
            path: socket.to_owned(),
            source,
        },
    }
}

/// Has something done, and gives what there is to say about it.
pub async fn ask_to_do(socket: &Path, question: Question) -> Result<String, AskError> {
    match Asked::ask(socket, question).await?.next().await? {
        Answer::Done(text) => Ok(text),
        _ => Err(AskError::Unexpected),
    }
}

/// Whether a daemon listens at a socket.
pub async fn answers(socket: &Path) -> bool {
    match in_time(socket, connect(socket)).await {
        Ok(Ok(_)) | Err(_) => true,
        Ok(Err(source)) => matches!(unreachable(socket, source), AskError::NoAnswer { .. }),
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
