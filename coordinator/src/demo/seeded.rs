//! Numbers that look random and are the same every time, so that two demos do the same. Never for a secret.

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.number() % bound).unwrap_or(0)
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }

    /// Lines of words, which do.
    pub fn text(&mut self, count: usize) -> Vec<u8> {
        const WORDS: [&str; 24] = [
            "backup",
            "restore",
            "of",
            "the",
            "host",
            "and",
            "every",
            "file",
            "in",
            "it",
            "was",
            "read",
            "once",
            "more",
            "by",
            "night",
            "disk",
            "chunk",
            "pack",
            "log",
            "error",
            "ok",
            "request",
            "2026-11-20",
        ];
        let mut text = Vec::with_capacity(count + 16);
        while text.len() < count {
            let number = self.number();
            let word = usize::try_from(number % WORDS.len() as u64).unwrap_or(0);
            text.extend_from_slice(WORDS[word].as_bytes());
            match number >> 60 {
                0 => text.push(b'\n'),
                1 => text.extend_from_slice(format!(" {} ", number >> 40 & 0xffff).as_bytes()),
                _ => text.push(b' '),
            }
        }
        text.truncate(count);
        text
    }
}
