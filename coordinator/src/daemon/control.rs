//! The daemon's control socket: who is at the other end, by the kernel's word, and what they ask. Only the daemon's own user and
//! root are heard; everything that is read has a bound.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use append_server::grants::peer::{AdmittedPeer, AllowedUids};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::coordinator::Coordinator;
use crate::daemon::handle::{DaemonHandle, Ending, NEWS_MAX, RunOrder};
use crate::daemon::protocol::{
    Answer, Envelope, Live, PROTOCOL, QUESTION_BYTES_MAX, Question, RunNews, RunQuestion,
};
use crate::events::actor::Actor;
use crate::exit_code::ExitCode;
use crate::status::behind::{Behind, ask_soon};
use crate::status::json::DestinationJson;

/// How many may ask at once. Whoever waits for runs to end is not counted among them.
const ASKING_MAX: usize = 64;
/// How many may wait at once for runs to end.
const WAITING_MAX: usize = 256;
/// How long a question may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the daemon's task may take to answer: less than the client waits, so that it hears why.
const TASK_PATIENCE: Duration = Duration::from_secs(20);

/// Who knows what is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The daemon's task.
    pub daemon: DaemonHandle,
    /// The coordinator with the configuration that is in force.
    pub coordinator: watch::Receiver<Arc<Coordinator>>,
}

/// Answers at the socket until it is told to end.
pub async fn answer_all(listener: UnixListener, asked: Asked, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let asking = Arc::new(Semaphore::new(ASKING_MAX));
    let waiting = Arc::new(Semaphore::new(WAITING_MAX));
    loop {
        // Losing any arm is safe: connections wait in the socket, and a token stays cancelled.
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &asking) => match accepted {
                Ok((stream, place)) => {
                    let asked = asked.clone();
                    let places = Places { asking: place, waiting: Arc::clone(&waiting) };
                    connections.spawn(async move {
                        if let Err(error) = answer(stream, places, &asked).await {
                            tracing::debug!(%error, "a connection to the control socket ended");
                        }
                    });
                }
                Err(error) => {
                    // Such as too many open files: waiting is all there is to do.
                    tracing::error!(%error, "the control socket takes no connection");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            },
        }
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &UnixListener,
    asking: &Arc<Semaphore>,
) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(asking).acquire_owned().await;
    let place = place.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// The place that a connection takes, and those that there are for whoever waits long.
struct Places {
    asking: OwnedSemaphorePermit,
    waiting: Arc<Semaphore>,
}

async fn answer(stream: UnixStream, places: Places, asked: &Asked) -> io::Result<()> {
    let daemon = &asked.daemon;
    let admitted = AdmittedPeer::admit(&stream, &AllowedUids::own_and(&[0]));
    let (mut read, mut write) = stream.into_split();
    let peer = match admitted {
        Ok(peer) => peer,
        Err(refused) => {
            tracing::warn!(%refused, "the control socket");
            return say(&mut write, &Answer::Refused(refused.to_string())).await;
        }
    };
    let question = match read_question(&mut read).await? {
        Ok(question) => question,
        Err(why) => return say(&mut write, &Answer::Refused(why)).await,
    };
    let answer = match question {
        Question::Run(question) => {
            let Ok(_place) = places.waiting.try_acquire_owned() else {
                return say(&mut write, &Answer::Refused(too_many_wait())).await;
            };
            // Others may ask meanwhile.
            drop(places.asking);
            let by = Actor::user(peer.uid(), question.through.clone());
            let order = Runs { question, by };
            return answer_run(order, daemon, &mut read, &mut write).await;
        }
        Question::Reload => in_time(daemon.reload()).await.map(told),
        Question::Cancel { host } => in_time(daemon.cancel(host)).await.map(told),
        Question::Live => match in_time(daemon.live()).await {
            Ok(live) => {
                let (destinations, behind) = destinations(asked).await;
                Ok(Answer::Live(Live {
                    destinations,
                    behind,
                    ..live
                }))
            }
            Err(why) => Err(why),
        },
    };
    let answer = answer.unwrap_or_else(Answer::Refused);
    say(&mut write, &answer).await?;
    say(&mut write, &Answer::End).await
}

fn told(done: Result<String, String>) -> Answer {
    done.map_or_else(Answer::Refused, Answer::Done)
}

/// What the daemon's task says, or why it says nothing.
async fn in_time<T>(asked: impl Future<Output = Result<T, Ending>>) -> Result<T, String> {
    match tokio::time::timeout(TASK_PATIENCE, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(ending)) => Err(ending.to_string()),
        Err(_) => Err(format!(
            "its scheduler did not answer within {} s: look at its log, and start it again if it stays so",
            TASK_PATIENCE.as_secs()
        )),
    }
}

fn too_many_wait() -> String {
    format!(
        "{WAITING_MAX} others wait for runs to end: ask again once one of them is done; `coordinator status` shows what runs"
    )
}

/// How far destinations are behind, together and for each repository, if the append-server says so soon.
async fn destinations(asked: &Asked) -> (Option<Vec<DestinationJson>>, Option<Vec<Behind>>) {
    let coordinator = Arc::clone(&asked.coordinator.borrow());
    let known = coordinator.state.lock().await.repositories();
    let known = known.inspect_err(|error| {
        tracing::warn!(%error, "which repositories there are is not known");
    });
    ask_soon(&coordinator.storage, known.ok()).await
}

async fn read_question(read: &mut OwnedReadHalf) -> io::Result<Result<Question, String>> {
    let mut line = Vec::new();
    let mut bounded = BufReader::new(read.take(QUESTION_BYTES_MAX));
    let read = tokio::time::timeout(PATIENCE, bounded.read_until(b'\n', &mut line));
    read.await.map_err(io::Error::from)??;
    // The version is looked at first: what else is different may not be readable.
    let version: Result<VersionOnly, _> = serde_json::from_slice(&line);
    if let Ok(VersionOnly { protocol }) = version
        && protocol != PROTOCOL
    {
        return Ok(Err(format!(
            "the daemon speaks version {PROTOCOL} of the control protocol and was asked in version {protocol}: start it again"
        )));
    }
    let envelope = serde_json::from_slice::<Envelope>(&line);
    Ok(envelope
        .map(|envelope| envelope.question)
        .map_err(|error| format!("not a question: {error}")))
}

#[derive(Debug, serde::Deserialize)]
struct VersionOnly {
    protocol: u32,
}

/// Runs that are asked for.
struct Runs {
    question: RunQuestion,
    by: Actor,
}

/// Orders the runs and passes on what becomes of them, until the last one has ended. Whoever asked may leave: the runs go on.
async fn answer_run(
    Runs { question, by }: Runs,
    daemon: &DaemonHandle,
    read: &mut OwnedReadHalf,
    write: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let (all, mut arrives) = mpsc::channel(NEWS_MAX);
    let mut passing = JoinSet::new();
    let mut is_heard = true;
    for host in question.hosts {
        let waits = RunNews::Goes("waits for its turn".to_owned());
        let first = Answer::Run {
            host: host.clone(),
            news: waits,
        };
        let (news, mut of_host) = mpsc::channel(NEWS_MAX);
        let order = RunOrder {
            host: host.clone(),
            full_read: question.full_read,
            first: question.first,
            outside_window: question.outside_window,
            by: by.clone(),
            news,
        };
        if let Err(why) = in_time(daemon.run(order)).await {
            return say(write, &Answer::Refused(why)).await;
        }
        // At once, so that whoever asks knows that it was heard. Who has left meanwhile asked all the same.
        if is_heard {
            is_heard = say(write, &first).await.is_ok();
        }
        let all = all.clone();
        passing.spawn(async move {
            while let Some(news) = of_host.recv().await {
                if all.send((host.clone(), news)).await.is_err() {
                    return; // Nobody listens any more.
                }
            }
        });
    }
    drop(all);
    let mut more = [0; 1];
    loop {
        // Losing either arm is safe: news stay in their channel, and nobody asks a second thing.
        let news = tokio::select! {
            news = arrives.recv() => news,
            // Nothing more comes but the end: whoever asked has left, and needs no place.
            _ = read.read(&mut more) => return Ok(()),
        };
        let Some((host, news)) = news else { break };
        say(write, &Answer::Run { host, news }).await?;
    }
    say(write, &Answer::End).await
}

async fn say(write: &mut OwnedWriteHalf, answer: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let written = tokio::time::timeout(PATIENCE, write.write_all(&line));
    written.await.map_err(io::Error::from)?
}

/// What a host that is not backed up is told with.
pub fn refusal(code: ExitCode, why: impl Into<String>) -> RunNews {
    RunNews::Refused {
        code: code.number(),
        why: why.into(),
    }
}
