//! Seeded bytes: the same seed always gives the same content, compressible or not. Nothing here is secret or fair.

use std::io::Write;

use anyhow::Result;

/// Generator of numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Numbers {
    state: u64,
}

impl Numbers {
    /// Starts a sequence.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// The next number below a bound, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_number() % bound
    }
}

/// Spreads the bits of a number.
pub fn mix(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Bytes that no compressor shortens.
pub fn incompressible(seed: u64, length: usize) -> Vec<u8> {
    let mut content = vec![0_u8; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut content);
    content
}

/// Lines that look like a log and compress well.
pub fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    let mut content = Vec::with_capacity(length + 64);
    while content.len() < length {
        let number = numbers.next_number();
        content.extend_from_slice(
            format!(
                "{:08} GET /page/{} {}\n",
                content.len(),
                number % 1000,
                number % 7
            )
            .as_bytes(),
        );
    }
    content.truncate(length);
    content
}

/// Writes a big file: a third fresh random bytes, a third text, a third repeats of earlier blocks, and nothing but
/// repeats once there are half a gibibyte of blocks, so that the repository beside it stays small.
pub fn write_big(mut into: impl Write, seed: u64, length: u64) -> Result<()> {
    const BLOCK_BYTES: u64 = 4 << 20;
    const MOST_FRESH_BLOCKS: u64 = 128;
    let mut numbers = Numbers::new(seed);
    let mut rest = length;
    let mut fresh_blocks = 0;
    while rest > 0 {
        let size = rest.min(BLOCK_BYTES);
        let block_seed = match numbers.below(3) {
            0 if fresh_blocks > 0 => numbers.below(fresh_blocks),
            _ if fresh_blocks == MOST_FRESH_BLOCKS => numbers.below(fresh_blocks),
            _ => {
                fresh_blocks += 1;
                fresh_blocks - 1
            }
        };
        let length = usize::try_from(size)?;
        let content = if block_seed % 2 == 0 {
            incompressible(seed ^ block_seed, length)
        } else {
            text(seed ^ block_seed, length)
        };
        into.write_all(&content)?;
        rest -= size;
    }
    Ok(())
}
