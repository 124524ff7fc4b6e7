//! What the benchmarks work on: the same bytes at every run, and the keys of a repository that is none.

use std::fmt;

use formats::ids::{RepositoryId, RunId};
use formats::keys::bundle::{KeyBundle, Role};
use formats::keys::repository::RepositoryKeys;
use formats::keys::secret::MasterKey;
use formats::limits::FRAME_PLAIN_TARGET;
use formats::seal::frame::FrameSealer;
use formats::seal::run_header::{Purpose, RunContext, RunHeader, RunKeys};

/// The plaintext of an ordinary frame.
pub const FRAME_BYTES: usize = FRAME_PLAIN_TARGET as usize;

/// The zstd level that a run's frames have unless its host says otherwise.
const LEVEL: i32 = 3;

/// How many words text is made of.
const WORDS: usize = 2_048;
const LETTERS: &[u8; 16] = b"etaoinsrhldcumpf";

/// Two ends of what files hold.
#[derive(Debug, Clone, Copy)]
pub enum Data {
    /// Words, a few of them often, in lines: a compressor works, and leaves about a third.
    Text,
    /// Nothing that compresses, as in archives and films.
    Noise,
}

impl Data {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Text, Self::Noise];

    /// So many bytes of it.
    pub fn bytes(self, count: usize) -> Vec<u8> {
        match self {
            Self::Text => text(count),
            Self::Noise => noise(count),
        }
    }
}

/// A length that is shown as people say it.
#[derive(Clone, Copy)]
pub struct Kib(pub usize);

impl Kib {
    /// In bytes.
    pub fn bytes(self) -> usize {
        self.0 << 10
    }
}

impl fmt::Display for Kib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", self.0)
    }
}

fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn text(count: usize) -> Vec<u8> {
    let words = words();
    let mut out = Vec::with_capacity(count + 16);
    // A word and what follows it are three bytes or more.
    for draw in noise((count / 3 + 1) * 4).as_chunks::<4>().0 {
        let [a, b, c, d] = *draw;
        // A product of two draws favours the words in front, as language does.
        let (first, second) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        let pick = (u32::from(first) * u32::from(second)) >> 21;
        out.extend_from_slice(&words[pick as usize]);
        out.push(if a < 20 { b'\n' } else { b' ' });
        if out.len() >= count {
            break;
        }
    }
    out.truncate(count);
    out
}

fn words() -> Vec<Vec<u8>> {
    let word = |draw: &[u8; 10]| {
        let [length, letters @ ..] = draw;
        let letter = |byte: &u8| LETTERS[usize::from(byte % 16)];
        letters
            .iter()
            .map(letter)
            .take(2 + usize::from(length % 8))
            .collect()
    };
    noise(WORDS * 10).as_chunks().0.iter().map(word).collect()
}

/// All keys of a made-up repository.
pub fn repository() -> RepositoryKeys {
    let bundle = KeyBundle::new(&MasterKey::from_bytes([1; 32]), Role::Data);
    RepositoryKeys::derive(&bundle, RepositoryId([2; 16]), 1)
}

/// A data run of that repository.
pub fn run() -> (RunHeader, RunKeys) {
    let keys = repository();
    let context = RunContext {
        repository: keys.repository,
        epoch: keys.epoch,
        run: RunId([3; 16]),
        purpose: Purpose::Data,
    };
    let public = keys.public().expect("the data role has all keys");
    RunHeader::create(context, &public).expect("keys encapsulate")
}

/// Seals the run's frames as an agent does unless it is told otherwise.
pub fn sealer(header: &RunHeader, keys: &RunKeys) -> FrameSealer {
    FrameSealer::new(header.context, keys.data.clone(), LEVEL).expect("a level zstd has")
}
