//! What this machine can do with a set's own data, one thread unless it says otherwise: the floor under every product.
//! It writes one file, which it removes, and reads nothing but the set.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use serde::{Deserialize, Serialize};

use crate::ground::Ground;
use crate::interruption;
use crate::set::{self, Set};
use crate::statistics::spread;
use crate::turn::read_everything;

/// How often each of them is measured.
const REPEATS: usize = 3;
/// Ciphers and compressors work on pieces like this.
const PIECE_BYTES: usize = 1 << 20;
/// How much of the set is taken into memory for them, at scale 1.
const SAMPLE_BYTES: f64 = (1_u64 << 30) as f64;
/// How much goes to the disk and through SSH, at scale 1.
const MOVED_BYTES: f64 = (4_u64 << 30) as f64;

/// Seconds of `find` over the set.
pub const FIND: &str = "find -printf";
/// Seconds of `ssh … true`.
pub const CONNECTING: &str = "connecting by SSH";

/// One thing that the machine can do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limit {
    /// What.
    pub what: String,
    /// `s`, or `MB/s` in millions of bytes.
    pub unit: String,
    /// The middle of the measurements.
    pub median: f64,
    /// All of them.
    pub values: Vec<f64>,
}

/// Measures all of them; the set is in the page cache afterwards.
pub fn measure(ground: &Ground, set: &Set, scale: f64) -> Result<Vec<Limit>> {
    read_everything(&set.tree)?;
    let sample = sample(
        &set.tree,
        (SAMPLE_BYTES * scale).max(PIECE_BYTES as f64) as u64,
    )?;
    let moved = (MOVED_BYTES * scale).max(PIECE_BYTES as f64) as u64;
    let directory = ground.turns();
    let mut limits = vec![
        rate("reading all files", || read_everything(&set.tree))?,
        seconds("stat walk", || set::entries(&set.tree).map(drop))?,
        seconds(FIND, || find(&set.tree))?,
    ];
    limits.extend(on_sample(&sample)?);
    limits.push(rate("write and fsync", || {
        write_durably(&sample, moved, &directory)
    })?);
    limits.push(rate("SSH pipe, default cipher", || {
        ssh_pipe(ground, &sample, moved, None)
    })?);
    limits.push(rate("SSH pipe, aes128-gcm", || {
        ssh_pipe(ground, &sample, moved, Some("aes128-gcm@openssh.com"))
    })?);
    limits.push(seconds(CONNECTING, || {
        let status = ground
            .ssh()
            .args([ground.destination(), "true"])
            .status()
            .context("running ssh")?;
        ensure!(status.success(), "ssh to the private sshd failed: {status}");
        Ok(())
    })?);
    Ok(limits)
}

fn on_sample(sample: &[u8]) -> Result<Vec<Limit>> {
    let key = [7_u8; 32];
    let length = sample.len() as u64;
    let keyed_hash = rate("BLAKE3, keyed", || {
        std::hint::black_box(blake3::keyed_hash(&key, sample));
        Ok(length)
    })?;
    let mut limits = vec![keyed_hash];
    for level in [1, 3] {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        let mut out = vec![0; zstd::zstd_safe::compress_bound(PIECE_BYTES)];
        limits.push(rate(&format!("zstd -{level}, pieces of 1 MiB"), || {
            for piece in sample.chunks(PIECE_BYTES) {
                compressor.compress_to_buffer(piece, &mut out)?;
            }
            Ok(length)
        })?);
    }
    let cipher = XChaCha20Poly1305::new(&key.into());
    let mut piece = vec![0; PIECE_BYTES];
    limits.push(rate("XChaCha20-Poly1305, frames of 1 MiB", || {
        for (number, from) in sample.chunks(PIECE_BYTES).enumerate() {
            let mut nonce = [0; 24];
            nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
            piece[..from.len()].copy_from_slice(from);
            cipher
                .encrypt_inout_detached(&nonce.into(), b"", (&mut piece[..from.len()]).into())
                .map_err(|_| anyhow!("the cipher refused a frame"))?;
        }
        Ok(length)
    })?);
    Ok(limits)
}

/// Pieces spread over all of a tree, so that every kind of file has its share.
fn sample(tree: &Path, wanted: u64) -> Result<Vec<u8>> {
    let mut entries = set::entries(tree)?;
    entries.retain(|entry| entry.metadata.is_file());
    let total: u64 = entries.iter().map(|entry| entry.metadata.len()).sum();
    ensure!(total > 0, "{} holds no data", tree.display());
    let every = total.div_ceil(wanted).max(1);
    let mut sample = Vec::with_capacity(usize::try_from(total.min(wanted) + (8 << 20))?);
    let mut number = 0;
    for entry in entries {
        let path = tree.join(&entry.path);
        let mut file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        loop {
            let before = sample.len();
            let length = (&mut file)
                .take(PIECE_BYTES as u64)
                .read_to_end(&mut sample)?;
            if number % every != 0 {
                sample.truncate(before);
            }
            number += 1;
            if length < PIECE_BYTES {
                break;
            }
        }
    }
    Ok(sample)
}

fn find(tree: &Path) -> Result<()> {
    let status = Command::new("find")
        .arg(tree)
        .args(["-printf", "%s %T@ %i\\n"])
        .stdout(Stdio::null())
        .status()
        .context("running find")?;
    ensure!(status.success(), "find failed: {status}");
    Ok(())
}

fn write_durably(sample: &[u8], bytes: u64, directory: &Path) -> Result<u64> {
    let path = directory.join("written");
    let mut file = File::create(&path)?;
    write_cycled(&mut file, sample, bytes)?;
    file.sync_all()?;
    fs::remove_file(&path)?;
    Ok(bytes)
}

fn ssh_pipe(ground: &Ground, sample: &[u8], bytes: u64, cipher: Option<&str>) -> Result<u64> {
    let mut ssh = ground.ssh();
    if let Some(cipher) = cipher {
        ssh.args(["-c", cipher]);
    }
    let mut child = ssh
        .args([ground.destination(), "cat > /dev/null"])
        .stdin(Stdio::piped())
        .spawn()
        .context("running ssh")?;
    let mut pipe = child.stdin.take().context("stdin was asked for")?;
    let written = write_cycled(&mut pipe, sample, bytes);
    drop(pipe);
    let status = child.wait().context("waiting for ssh")?;
    written?;
    ensure!(status.success(), "ssh to the private sshd failed: {status}");
    Ok(bytes)
}

/// Writes the sample again and again until so many bytes are written.
fn write_cycled(to: &mut impl std::io::Write, sample: &[u8], bytes: u64) -> Result<()> {
    let mut left = usize::try_from(bytes)?;
    for piece in sample.chunks(PIECE_BYTES).cycle() {
        let length = piece.len().min(left);
        to.write_all(&piece[..length])?;
        left -= length;
        if left == 0 {
            break;
        }
    }
    to.flush()?;
    Ok(())
}

/// Millions of bytes per second; `work` says how many bytes it did.
fn rate(what: &str, mut work: impl FnMut() -> Result<u64>) -> Result<Limit> {
    repeated(what, "MB/s", || {
        let start = Instant::now();
        let bytes = work()?;
        Ok(bytes as f64 / 1e6 / start.elapsed().as_secs_f64())
    })
}

fn seconds(what: &str, mut work: impl FnMut() -> Result<()>) -> Result<Limit> {
    repeated(what, "s", || {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed().as_secs_f64())
    })
}

fn repeated(what: &str, unit: &str, mut once: impl FnMut() -> Result<f64>) -> Result<Limit> {
    let mut values = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        interruption::check()?;
        rustix::fs::sync();
        values.push(once().with_context(|| format!("measuring {what}"))?);
    }
    let median = spread(values.iter().copied()).map_or(0.0, |spread| spread.median);
    Ok(Limit {
        what: what.to_owned(),
        unit: unit.to_owned(),
        median,
        values,
    })
}
