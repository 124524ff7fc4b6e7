//! Makes data fast and always the same: incompressible bytes from BLAKE3's extendable output, and text that compresses
//! about as logs do. Different seeds share no chunk.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Bytes made at once.
const PIECE_BYTES: usize = 1 << 20;
/// Words of the text; a random byte chooses one.
const WORDS: [&str; 16] = [
    "request",
    "accepted",
    "from",
    "server",
    "timeout",
    "while",
    "reading",
    "response",
    "header",
    "client",
    "closed",
    "connection",
    "upstream",
    "cache",
    "INFO",
    "session",
];

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// Nothing that can be compressed.
    Random,
    /// Lines of words and numbers.
    Text,
}

/// Makes a directory with `bytes` of data in files of at most `file_bytes`, all of them incompressible.
pub fn random_tree(directory: &Path, bytes: u64, file_bytes: u64, seed: u64) -> Result<()> {
    tree(directory, bytes, file_bytes, seed, |_| Filling::Random)
}

/// Makes a directory with `bytes` of data in files of at most `file_bytes`, every second one text.
pub fn mixed_tree(directory: &Path, bytes: u64, file_bytes: u64, seed: u64) -> Result<()> {
    tree(directory, bytes, file_bytes, seed, |number| {
        if number % 2 == 0 {
            Filling::Random
        } else {
            Filling::Text
        }
    })
}

fn tree(
    directory: &Path,
    bytes: u64,
    file_bytes: u64,
    seed: u64,
    filling: impl Fn(u64) -> Filling,
) -> Result<()> {
    fs::create_dir(directory).with_context(|| format!("creating {}", directory.display()))?;
    let mut left = bytes;
    let mut number = 0;
    while left > 0 {
        let length = left.min(file_bytes);
        let folder = directory.join(format!("{:04}", number / 256));
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{number:06}"));
        file(&path, length, seed << 32 | number, filling(number))
            .with_context(|| format!("writing {}", path.display()))?;
        left -= length;
        number += 1;
    }
    Ok(())
}

fn file(path: &Path, bytes: u64, seed: u64, filling: Filling) -> Result<()> {
    let mut source = blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof();
    let mut file = File::create(path)?;
    let mut random = vec![0_u8; PIECE_BYTES];
    let mut piece = Vec::with_capacity(PIECE_BYTES + 256);
    let mut left = bytes;
    while left > 0 {
        match filling {
            Filling::Random => {
                source.fill(&mut random);
                piece.clone_from(&random);
            }
            Filling::Text => {
                let some = random.get_mut(..PIECE_BYTES / 8).unwrap_or_default();
                source.fill(some);
                text(some, &mut piece)?;
            }
        }
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let written = piece.get(..length).unwrap_or_default();
        file.write_all(written)?;
        left -= written.len() as u64;
    }
    Ok(())
}

/// Lines of words, of two of them a byte, each with a number of its own.
fn text(random: &[u8], piece: &mut Vec<u8>) -> Result<()> {
    piece.clear();
    for line in random.chunks_exact(8) {
        let (number, words) = line.split_at(4);
        let number = number
            .iter()
            .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        write!(piece, "{number:08x}")?;
        for byte in words {
            for choice in [byte & 15, byte >> 4] {
                piece.push(b' ');
                piece.extend_from_slice(WORDS[usize::from(choice)].as_bytes());
            }
        }
        piece.push(b'\n');
    }
    Ok(())
}
