//! A server on trial, and peers that speak to it byte by byte: none of the server's own client code.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use append_server::destination::local::{LocalDestination, LocalOptions};
use append_server::destination::{Destination, DestinationName};
use append_server::fan_out::Placement;
use append_server::io_faults::IoFaults;
use append_server::receive::Pace;
use append_server::removals::RemovalPolicy;
use append_server::server::{AppendServer, ServerHandle, ServerOptions};
use append_server::spool::SpoolOptions;
use formats::ids::{RepositoryId, RunId};
use formats::keys::secret::RunToken;
use formats::wire::handshake::{ANSWER_BYTES, Opening, agent_proof, proof_is_good, server_proof};
use formats::wire::upload::refusal::{Refusal, RefusalKind};
use formats::wire::upload::{OpenRun, Stored};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

pub const REPOSITORY: RepositoryId = RepositoryId([0xaa; 16]);
pub const RUN: RunId = RunId([0xbb; 16]);
pub const TOKEN: [u8; 32] = [0xcc; 32];

pub struct Bench {
    pub dir: TempDir,
    pub server: ServerHandle,
    pub root: PathBuf,
    pub spool: PathBuf,
}

pub struct BenchOptions {
    pub reserve_bytes: u64,
    pub spool_bytes_max: u64,
    pub pace: Pace,
    pub spool_faults: IoFaults,
    pub local: LocalOptions,
    pub allow_uids: Vec<u32>,
    pub more: Vec<Placement>,
    pub removals: RemovalPolicy,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            reserve_bytes: 0,
            spool_bytes_max: 256 << 20,
            pace: Pace::default(),
            spool_faults: IoFaults::none(),
            local: LocalOptions::default(),
            allow_uids: Vec::new(),
            more: Vec::new(),
            removals: RemovalPolicy {
                grace: Duration::from_secs(7 * 24 * 3_600),
                daily_bytes_max: u64::MAX,
                rules: std::collections::HashMap::new(),
            },
        }
    }
}

pub fn destination_name(text: &str) -> DestinationName {
    text.parse().unwrap()
}

pub async fn start(options: BenchOptions) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (root, spool) = (dir.path().join("root"), dir.path().join("spool"));
    LocalDestination::create(&root).unwrap();
    start_at(dir, root, spool, options).await
}

pub async fn start_at(dir: TempDir, root: PathBuf, spool: PathBuf, options: BenchOptions) -> Bench {
    let local = LocalDestination::open(destination_name("local"), &root, options.local).unwrap();
    let mut placements = vec![Placement {
        destination: Arc::new(local),
        required: true,
    }];
    placements.extend(options.more);
    let server_options = ServerOptions {
        control_socket: dir.path().join("sockets/control"),
        ingest_socket: dir.path().join("sockets/ingest"),
        allow_uids: options.allow_uids,
        spool: SpoolOptions {
            dir: spool.clone(),
            bytes_max: options.spool_bytes_max,
            reserve_bytes: options.reserve_bytes,
        },
        queue: dir.path().join("deliveries.sqlite"),
        removals: options.removals,
        copies_min: 1,
        patience: Duration::ZERO,
        pace: options.pace,
        spool_faults: options.spool_faults,
    };
    let server = AppendServer::start(server_options, placements)
        .await
        .unwrap();
    Bench {
        dir,
        server,
        root,
        spool,
    }
}

impl Bench {
    pub async fn control(&self) -> Peer {
        Peer::connect(self.server.control_socket()).await
    }

    pub async fn raw_ingest(&self) -> UnixStream {
        UnixStream::connect(self.server.ingest_socket())
            .await
            .unwrap()
    }

    pub async fn open_run(&self) {
        self.open(&open_run()).await;
    }

    pub async fn open(&self, open: &OpenRun) {
        let answer = self
            .control()
            .await
            .request("POST", "/v1/runs", &[], &open.encode())
            .await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    pub async fn close_run(&self) {
        let answer = self
            .control()
            .await
            .request("DELETE", &format!("/v1/runs/{RUN}"), &[], b"")
            .await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    pub async fn agent(&self) -> Peer {
        let mut stream = self.raw_ingest().await;
        assert!(handshake(&mut stream, RUN, TOKEN).await);
        Peer { stream }
    }

    /// Everything that a destination's root holds besides its marker, relative to it.
    pub fn objects(&self) -> Vec<String> {
        files_under(&self.root)
            .into_iter()
            .filter(|name| name != "capstan-destination")
            .collect()
    }

    /// Waits until the spool has dropped what was given up: its thread notices in its own time.
    pub async fn spool_is_empty(&self) {
        for _ in 0..500 {
            if self.spooled().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left in the spool: {:?}", self.spooled());
    }

    pub fn spooled(&self) -> Vec<String> {
        files_under(&self.spool)
    }
}

pub fn open_run() -> OpenRun {
    OpenRun {
        repository: REPOSITORY,
        run: RUN,
        token: RunToken::from_bytes(TOKEN),
        bytes_max: 1 << 40,
        packs_max: 1 << 20,
        seconds_max: 3_600,
    }
}

pub fn files_under(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else {
                let path = entry.path();
                let name = path.strip_prefix(dir).unwrap();
                found.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The agent's side of the handshake; whether the server proved itself.
pub async fn handshake(stream: &mut UnixStream, run: RunId, token: [u8; 32]) -> bool {
    let token = RunToken::from_bytes(token);
    let opening = Opening {
        run,
        nonce: formats::keys::secret::random().unwrap(),
    };
    let sent = stream.write_all(&opening.encode()).await;
    let mut answer = [0; ANSWER_BYTES];
    if sent.is_err() || stream.read_exact(&mut answer).await.is_err() {
        return false;
    }
    let nonce: [u8; 32] = answer[..32].try_into().unwrap();
    let proof: [u8; 32] = answer[32..].try_into().unwrap();
    let good = proof_is_good(&server_proof(&token, &opening, &nonce), &proof);
    let sent = stream
        .write_all(&agent_proof(&token, &opening, &nonce))
        .await;
    good && sent.is_ok()
}

/// Whether a connection was closed without a byte.
pub async fn is_closed(stream: &mut UnixStream) -> bool {
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut byte)).await;
    !matches!(read, Ok(Ok(1)))
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn refusal(&self) -> RefusalKind {
        Refusal::decode(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {self:?}"))
            .kind
    }

    pub fn stored(&self) -> Stored {
        Stored::decode(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub struct Peer {
    pub stream: UnixStream,
}

impl Peer {
    pub async fn connect(path: &Path) -> Self {
        Self {
            stream: UnixStream::connect(path).await.unwrap(),
        }
    }

    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n",
            body.len()
        );
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        self.stream.write_all(head.as_bytes()).await.unwrap();
        // The server may refuse before it has read everything.
        let _sent = self.stream.write_all(body).await;
        self.answer(method).await
    }

    /// The same of a peer that may die meanwhile.
    pub async fn try_put(&mut self, path: &str, body: &[u8]) -> std::io::Result<Answer> {
        let bytes = body.len();
        let head = format!("PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {bytes}\r\n\r\n");
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(body).await?;
        self.try_answer("PUT").await
    }

    pub async fn put_pack(&mut self, body: &[u8]) -> Answer {
        self.request("PUT", "/v1/packs", &[], body).await
    }

    pub async fn put_pack_chunked(&mut self, pieces: &[&[u8]]) -> Answer {
        self.begin_chunked().await;
        for piece in pieces {
            self.chunk(piece).await;
        }
        let _sent = self.stream.write_all(b"0\r\n\r\n").await;
        self.answer("PUT").await
    }

    pub async fn begin_chunked(&mut self) {
        let head = b"PUT /v1/packs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        self.stream.write_all(head).await.unwrap();
    }

    pub async fn begin_chunked_or_end(&mut self) {
        let head = b"PUT /v1/packs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        let _sent = self.stream.write_all(head).await;
    }

    pub async fn chunk_end(&mut self) {
        let _sent = self.stream.write_all(b"0\r\n\r\n").await;
    }

    pub async fn chunk(&mut self, piece: &[u8]) {
        let head = format!("{:x}\r\n", piece.len());
        let _sent = self.stream.write_all(head.as_bytes()).await;
        let _sent = self.stream.write_all(piece).await;
        let _sent = self.stream.write_all(b"\r\n").await;
    }

    pub async fn answer(&mut self, method: &str) -> Answer {
        self.try_answer(method).await.unwrap()
    }

    pub async fn try_answer(&mut self, method: &str) -> std::io::Result<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let status = head[9..12].parse().unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
        self.stream.read_exact(&mut body).await?;
        Ok(Answer { status, head, body })
    }
}

/// Bytes that differ by seed everywhere.
pub fn sample(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub fn pack_name(bytes: &[u8]) -> String {
    let digest = blake3::hash(bytes).to_hex();
    format!("{REPOSITORY}/packs/{}/{digest}", &digest[..2])
}

pub fn boxed(destination: impl Destination + 'static) -> Arc<dyn Destination> {
    Arc::new(destination)
}
