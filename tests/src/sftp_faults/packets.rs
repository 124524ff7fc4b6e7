//! Packets of SFTP version 3 (draft-ietf-secsh-filexfer-02), as far as a plan has to know them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;

use crate::sftp_faults::SftpFault;

/// The most bytes of a packet that is relayed.
const PACKET_BYTES_MAX: u32 = 1 << 20;
/// Answers on their way to the client.
const ANSWERS_IN_FLIGHT: usize = 64;
const STATUS: u8 = 101;
const NAME: u8 = 104;
const OK: u32 = 0;
const FAILURE: u32 = 4;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Opens a file.
    Open,
    /// Reads from a file.
    Read,
    /// Writes to a file.
    Write,
    /// Closes a file or a folder.
    Close,
    /// Looks at a path, not following a link.
    Lstat,
    /// Reads a folder's names.
    Readdir,
    /// Renames a file.
    Rename,
    /// One of OpenSSH's extensions, by its name.
    Extended(String),
    /// Anything else.
    Other(u8),
}

impl Request {
    fn of(packet: &[u8]) -> Option<(Self, u32)> {
        let (kind, rest) = packet.split_first()?;
        let (id, rest) = rest.split_first_chunk::<4>()?;
        let request = match kind {
            3 => Self::Open,
            4 => Self::Close,
            5 => Self::Read,
            6 => Self::Write,
            7 => Self::Lstat,
            12 => Self::Readdir,
            18 => Self::Rename,
            200 => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
                Self::Extended(String::from_utf8(rest.get(..length)?.to_vec()).ok()?)
            }
            other => Self::Other(*other),
        };
        Some((request, u32::from_be_bytes(*id)))
    }
}

/// A status as the answer to a request.
pub fn status_answer(id: u32, code: u32) -> Vec<u8> {
    let mut packet = vec![STATUS];
    packet.extend(id.to_be_bytes());
    packet.extend(code.to_be_bytes());
    put_text(&mut packet, "the test says so");
    put_text(&mut packet, "");
    packet
}

/// Names with their attributes as the answer to the reading of a folder.
pub fn name_answer(id: u32, names: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut packet = vec![NAME];
    packet.extend(id.to_be_bytes());
    packet.extend(u32::try_from(names.len()).unwrap_or(u32::MAX).to_be_bytes());
    for (name, attributes) in names {
        put_text(&mut packet, name);
        put_text(&mut packet, name);
        packet.extend(attributes);
    }
    packet
}

/// Attributes of a size and a mode, the mode with the file's kind.
pub fn attributes(bytes: u64, mode: u32) -> Vec<u8> {
    let mut packet = 5_u32.to_be_bytes().to_vec();
    packet.extend(bytes.to_be_bytes());
    packet.extend(mode.to_be_bytes());
    packet
}

fn put_text(packet: &mut Vec<u8>, text: &str) {
    packet.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    packet.extend(text.as_bytes());
}

/// What becomes of the server's answer to one request.
#[derive(Clone, Copy)]
enum Turn {
    Cut,
    Fail,
}

/// What is to become of answers that the server has not given yet, by their requests' numbers.
#[derive(Default)]
struct Turns(Mutex<HashMap<u32, Turn>>);

impl Turns {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Turn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Relays until either side ends, or the plan cuts.
pub(super) async fn relay(
    client: impl AsyncRead + AsyncWrite,
    to_server: ChildStdin,
    from_server: ChildStdout,
    befalls: impl Fn(&Request) -> Option<SftpFault>,
) {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (answers, mut answered) = mpsc::channel::<Vec<u8>>(ANSWERS_IN_FLIGHT);
    let turns = Turns::default();
    let writing = async {
        while let Some(packet) = answered.recv().await {
            if to_client.write_all(&packet).await.is_err() {
                return;
            }
        }
    };
    // Whichever ends first ends the connection.
    tokio::select! {
        _ = take_requests(from_client, to_server, &answers, &turns, befalls) => {}
        _ = take_answers(from_server, &answers, &turns) => {}
        () = writing => {}
    }
}

/// Ends, with nothing, when a side has ended or the plan cuts.
async fn take_requests(
    mut from_client: impl AsyncRead + Unpin,
    mut to_server: ChildStdin,
    answers: &mpsc::Sender<Vec<u8>>,
    turns: &Turns,
    befalls: impl Fn(&Request) -> Option<SftpFault>,
) -> Option<Infallible> {
    loop {
        let packet = read_packet(&mut from_client).await?;
        let fault = Request::of(&packet).and_then(|(request, id)| Some((befalls(&request)?, id)));
        let answer = match fault {
            None => None,
            Some((SftpFault::CutBefore, _)) => return None,
            Some((SftpFault::CutAfter, id)) => {
                turns.lock().insert(id, Turn::Cut);
                None
            }
            Some((SftpFault::FailAfter, id)) => {
                turns.lock().insert(id, Turn::Fail);
                None
            }
            Some((SftpFault::Pretend, id)) => Some(framed(status_answer(id, OK))),
            Some((SftpFault::Answer(make), id)) => Some(framed(make(id))),
            Some((SftpFault::Raw(bytes), _)) => Some(bytes),
        };
        match answer {
            None => to_server.write_all(&framed(packet)).await.ok()?,
            Some(answer) => answers.send(answer).await.ok()?,
        }
    }
}

/// Ends, with nothing, when a side has ended or the plan cuts.
async fn take_answers(
    mut from_server: ChildStdout,
    answers: &mpsc::Sender<Vec<u8>>,
    turns: &Turns,
) -> Option<Infallible> {
    loop {
        let packet = read_packet(&mut from_server).await?;
        let id = Request::of(&packet).map_or(0, |(_, id)| id);
        let turn = turns.lock().remove(&id);
        let packet = match turn {
            None => packet,
            Some(Turn::Cut) => return None,
            Some(Turn::Fail) => status_answer(id, FAILURE),
        };
        answers.send(framed(packet)).await.ok()?;
    }
}

fn framed(packet: Vec<u8>) -> Vec<u8> {
    let mut whole = u32::try_from(packet.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
        .to_vec();
    whole.extend(packet);
    whole
}

async fn read_packet(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    if length > PACKET_BYTES_MAX {
        return None;
    }
    let mut packet = vec![0; usize::try_from(length).ok()?];
    from.read_exact(&mut packet).await.ok()?;
    Some(packet)
}
