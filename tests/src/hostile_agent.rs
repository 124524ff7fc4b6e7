//! A scriptable hostile agent: it speaks the control conversation and the upload as the real one does, over a stream that
//! the hostile SSH server hands it, and each script lies in one place. It reads nothing but the uploaded agent's digest.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use formats::wire::control::{FromAgent, FromCoordinator, Hello, TunnelBytes};
use formats::wire::facts::HostFacts;
use formats::wire::framing::{LENGTH_BYTES, PROTOCOL_VERSION, frame_length};
use formats::wire::handshake::{ANSWER_BYTES, Opening, agent_proof, proof_is_good, server_proof};
use formats::wire::start::Start;
use formats::wire::surroundings::Surroundings;
use formats::wire::upload::Stored;
use russh::ChannelStream;
use russh::server::Msg;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub mod packs;
pub mod tree;

/// What an agent does on its stream.
pub trait AgentScript: Send + Sync {
    /// Plays the agent until it is done, or the coordinator has had enough.
    fn play<'a>(&'a self, agent: &'a mut HostileAgent) -> Playing<'a>;
}

/// What a script's function gives back.
pub type Playing<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

struct Scripted<F>(F);

impl<F> AgentScript for Scripted<F>
where
    F: for<'a> Fn(&'a mut HostileAgent) -> Playing<'a> + Send + Sync,
{
    fn play<'a>(&'a self, agent: &'a mut HostileAgent) -> Playing<'a> {
        (self.0)(agent)
    }
}

/// A script made from a function.
pub fn script<F>(play: F) -> Arc<dyn AgentScript>
where
    F: for<'a> Fn(&'a mut HostileAgent) -> Playing<'a> + Send + Sync + 'static,
{
    Arc::new(Scripted(play))
}

/// One conversation.
pub struct HostileAgent {
    stream: ChannelStream<Msg>,
    /// BLAKE3 of the agent that was uploaded, which an honest agent would report.
    pub digest: [u8; 32],
    /// The orders, once they came.
    pub start: Option<Start>,
    /// Answers that came while another was waited for.
    waiting: Vec<FromCoordinator>,
    queries: u64,
    /// Entries sent, as an honest agent counts them.
    entries_sent: u64,
    /// Packs told of, as an honest agent counts them.
    packs_told: u64,
}

/// An answer of the append-server to one request.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Whether a command starts the agent, rather than receiving it or asking it for its digest.
pub fn is_agent_start(command: &str) -> bool {
    command.contains("/.capstan-") && command.ends_with("/agent serve")
}

fn uploaded_digest(directory: &Path) -> Option<[u8; 32]> {
    let mut candidates = std::fs::read_dir(directory).ok()?.flatten();
    let own =
        candidates.find(|entry| entry.file_name().to_string_lossy().starts_with(".capstan-"))?;
    Some(blake3::hash(&std::fs::read(own.path().join("agent")).ok()?).into())
}

impl HostileAgent {
    /// An agent on a channel, uploaded to below this directory.
    pub fn new(directory: &Path, stream: ChannelStream<Msg>) -> Self {
        let digest = uploaded_digest(directory).unwrap_or_default();
        Self {
            stream,
            digest,
            start: None,
            waiting: Vec::new(),
            queries: 0,
            entries_sent: 0,
            packs_told: 0,
        }
    }

    /// Sends a message as it should be sent.
    pub async fn send(&mut self, message: &FromAgent) -> Result<()> {
        match message {
            FromAgent::Entries(entries) => {
                let counts = entries
                    .blocks
                    .iter()
                    .map(|block| block.entries.len() as u64);
                self.entries_sent += counts.sum::<u64>();
            }
            FromAgent::PackStored(_) => self.packs_told += 1,
            _ => {}
        }
        let body = message.encode();
        let length = u32::try_from(body.len())?;
        self.send_raw(&[&length.to_le_bytes()[..], &body].concat())
            .await
    }

    /// Sends any bytes.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .write_all(bytes)
            .await
            .context("the coordinator hung up")?;
        self.stream.flush().await.context("the coordinator hung up")
    }

    /// The next message that is not an upload connection's.
    pub async fn receive(&mut self) -> Result<FromCoordinator> {
        if self.waiting.is_empty() {
            self.read().await
        } else {
            Ok(self.waiting.remove(0))
        }
    }

    /// Says hello as an honest agent and takes the orders.
    pub async fn greet(&mut self) -> Result<()> {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            digest: self.digest,
            facts: honest_facts(),
        };
        self.greet_with(hello).await
    }

    /// Says hello in any words and takes the orders.
    pub async fn greet_with(&mut self, hello: Hello) -> Result<()> {
        self.send(&FromAgent::Hello(hello)).await?;
        self.send(&FromAgent::Surroundings(Surroundings::default()))
            .await?;
        match self.receive().await? {
            FromCoordinator::Start(start) => {
                self.start = Some(*start);
                Ok(())
            }
            other => bail!("instead of the orders came {other:?}"),
        }
    }

    /// The orders.
    pub fn orders(&self) -> Result<&Start> {
        self.start.as_ref().context("the orders have not come yet")
    }

    /// Opens upload connection 0 over stdio, with the handshake, and says that it is ready.
    pub async fn open_tunnel(&mut self) -> Result<()> {
        let orders = self.orders()?;
        let opening = Opening {
            run: orders.run,
            nonce: [7; 32],
        };
        let token = orders.token.clone();
        self.tunnel(opening.encode()).await?;
        let answer = self.tunnel_read(ANSWER_BYTES).await?;
        let (nonce, proof) = answer.split_at(32);
        let nonce: [u8; 32] = nonce.try_into()?;
        ensure!(
            proof_is_good(&server_proof(&token, &opening, &nonce), proof.try_into()?),
            "the append-server's proof is wrong"
        );
        self.tunnel(agent_proof(&token, &opening, &nonce).to_vec())
            .await?;
        self.send(&FromAgent::Ready).await
    }

    /// Sends bytes on upload connection 0.
    pub async fn tunnel(&mut self, bytes: Vec<u8>) -> Result<()> {
        const PIECE_BYTES: usize = 48 * 1024;
        for piece in bytes.chunks(PIECE_BYTES) {
            self.send(&FromAgent::Tunnel(TunnelBytes {
                connection: 0,
                bytes: piece.to_vec(),
            }))
            .await?;
        }
        Ok(())
    }

    /// Reads exactly so many bytes from upload connection 0.
    pub async fn tunnel_read(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut found = Vec::new();
        while found.len() < length {
            let more = self.tunnel_next().await?;
            ensure!(
                !more.is_empty(),
                "the append-server closed the connection after {} of {length} bytes",
                found.len()
            );
            found.extend(more);
        }
        ensure!(
            found.len() == length,
            "{} bytes came where {length} were expected",
            found.len()
        );
        Ok(found)
    }

    /// The next bytes of upload connection 0; none when it was closed.
    pub async fn tunnel_next(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.read().await? {
                FromCoordinator::Tunnel(TunnelBytes {
                    connection: 0,
                    bytes,
                }) => return Ok(bytes),
                FromCoordinator::Abort(text) => bail!("the coordinator gave up: {text}"),
                other => self.waiting.push(other),
            }
        }
    }

    /// One HTTP request on upload connection 0.
    pub async fn http(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<HttpAnswer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: tunnel\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        self.tunnel([head.as_bytes(), body].concat()).await?;
        self.http_answer().await
    }

    /// Reads one answer from upload connection 0.
    pub async fn http_answer(&mut self) -> Result<HttpAnswer> {
        let mut bytes = Vec::new();
        loop {
            if let Some(answer) = parse_answer(&bytes)? {
                return Ok(answer);
            }
            let more = self.tunnel_next().await?;
            ensure!(
                !more.is_empty(),
                "the append-server closed the connection without an answer"
            );
            bytes.extend(more);
        }
    }

    /// Uploads a pack and tells the coordinator, as an honest agent does.
    pub async fn store(&mut self, pack: &[u8]) -> Result<Stored> {
        let answer = self
            .http("PUT", formats::wire::upload::PATH_PACKS, "", pack)
            .await?;
        ensure!(
            (200..300).contains(&answer.status),
            "the append-server answered {}",
            answer.status
        );
        let stored = Stored::decode(&answer.body)?;
        let told = formats::wire::control::chunks::PackStored {
            pack: stored.digest,
            bytes: stored.bytes,
        };
        self.send(&FromAgent::PackStored(told)).await?;
        Ok(stored)
    }

    /// Waits until the coordinator says something or hangs up, and gives what it said.
    pub async fn wait_for_end(&mut self) -> Result<FromCoordinator> {
        loop {
            let message = self.receive().await?;
            if matches!(message, FromCoordinator::Bye | FromCoordinator::Abort(_)) {
                return Ok(message);
            }
        }
    }

    /// The number of the next query.
    fn next_query(&mut self) -> u64 {
        self.queries += 1;
        self.queries - 1
    }

    async fn read(&mut self) -> Result<FromCoordinator> {
        let mut length = [0_u8; LENGTH_BYTES];
        self.stream
            .read_exact(&mut length)
            .await
            .context("the coordinator hung up")?;
        let mut body = vec![0_u8; frame_length(length)?];
        self.stream
            .read_exact(&mut body)
            .await
            .context("the coordinator hung up")?;
        Ok(FromCoordinator::decode(&body)?)
    }
}

/// What an honest agent says of its host.
pub fn honest_facts() -> HostFacts {
    HostFacts {
        system: "Linux 6.1.0 x86_64".into(),
        hostname: "web1".into(),
        machine_id: "0".repeat(32),
        uid: 0,
        clock_nanos: 1_790_000_000_000_000_000,
    }
}

fn parse_answer(bytes: &[u8]) -> Result<Option<HttpAnswer>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .context("an answer without a status")?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|text| text.trim().parse::<usize>().ok());
    let body = &bytes[end + 4..];
    if let Some(length) = length {
        return Ok((body.len() >= length).then(|| HttpAnswer {
            status,
            body: body[..length].to_vec(),
        }));
    }
    if head.contains("transfer-encoding: chunked") {
        return Ok(unchunk(body).map(|body| HttpAnswer { status, body }));
    }
    Ok(Some(HttpAnswer {
        status,
        body: Vec::new(),
    }))
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size =
            usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        let data = rest.get(line + 2..line + 2 + size)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(data);
        rest = rest.get(line + 2 + size + 2..)?;
    }
}
