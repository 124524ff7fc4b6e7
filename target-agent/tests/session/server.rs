//! A small append-server: handshake, then `PUT`s with chunked bodies; keeps packs in memory or counts them.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use formats::ids::PackId;
use formats::keys::secret::RunToken;
use formats::wire::handshake::{
    OPENING_BYTES, Opening, PROOF_BYTES, agent_proof, proof_is_good, server_proof,
};
use formats::wire::upload::Stored;
use formats::wire::upload::refusal::{Refusal, RefusalKind};

/// What arrived.
#[derive(Clone, Default)]
pub struct Packs(pub Arc<Mutex<Vec<Vec<u8>>>>);

/// How the server behaves.
#[derive(Clone)]
pub struct Behaviour {
    pub token: RunToken,
    pub keeps_packs: bool,
    /// Refuse every pack after its first bytes.
    pub refuses: bool,
    /// Acknowledge another digest than that of the bytes.
    pub lies: bool,
}

/// Starts it on a socket; it serves until the test ends.
pub fn start(socket: &Path, behaviour: Behaviour) -> Packs {
    let packs = Packs::default();
    let listener = UnixListener::bind(socket).unwrap();
    let kept = packs.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (behaviour, packs) = (behaviour.clone(), kept.clone());
            let stream = stream.unwrap();
            std::thread::spawn(move || serve(stream, &behaviour, &packs));
        }
    });
    packs
}

fn serve(mut stream: UnixStream, behaviour: &Behaviour, packs: &Packs) -> Option<()> {
    let mut opening = [0; OPENING_BYTES];
    stream.read_exact(&mut opening).ok()?;
    let opening = Opening::decode(&opening).unwrap();
    let nonce = [7; 32];
    stream.write_all(&nonce).ok()?;
    stream
        .write_all(&server_proof(&behaviour.token, &opening, &nonce))
        .ok()?;
    let mut proof = [0; PROOF_BYTES];
    stream.read_exact(&mut proof).ok()?;
    let expected = agent_proof(&behaviour.token, &opening, &nonce);
    assert!(proof_is_good(&expected, &proof));
    let mut reader = BufReader::with_capacity(256 << 10, stream.try_clone().unwrap());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.is_empty() {
            return None;
        }
        assert_eq!(line, "PUT /v1/packs HTTP/1.1\r\n");
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok()?;
        }
        if behaviour.refuses {
            let body = Refusal {
                kind: RefusalKind::NoSpace,
                text: "the spool is full".into(),
            }
            .encode();
            answer(&mut stream, "507 Insufficient Storage", &body);
            return None;
        }
        let (body, digest, bytes) = read_body(&mut reader, behaviour.keeps_packs)?;
        if behaviour.keeps_packs {
            packs.0.lock().unwrap().push(body);
        }
        let digest = if behaviour.lies { [0; 32] } else { digest };
        let stored = Stored {
            digest: PackId(digest),
            bytes,
            existed: false,
        };
        answer(&mut stream, "201 Created", &stored.encode());
    }
}

fn answer(stream: &mut UnixStream, status: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ndate: never\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok();
    stream.write_all(body).ok();
}

fn read_body(reader: &mut impl std::io::BufRead, keep: bool) -> Option<(Vec<u8>, [u8; 32], u64)> {
    let (mut body, mut hasher, mut total) = (Vec::new(), blake3::Hasher::new(), 0);
    let mut piece = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
        piece.resize(length + 2, 0);
        reader.read_exact(&mut piece).ok()?;
        assert!(piece.ends_with(b"\r\n"));
        if length == 0 {
            return Some((body, hasher.finalize().into(), total));
        }
        let bytes = &piece[..length];
        hasher.update(bytes);
        total += length as u64;
        if keep {
            body.extend_from_slice(bytes);
        }
    }
}
