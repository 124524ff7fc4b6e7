//! What becomes of a run's streams. Never believes that a dump is one: it must be there, come to its end, not be empty, and not
//! have collapsed; otherwise the run fails or warns, and no such dump stands in the snapshot as a good one.

use std::collections::{BTreeMap, HashMap};

use formats::listing::content::Content;
use formats::listing::entry::{Entry, EntryFlags, EntryKind, join};
use formats::listing::order::is_within;
use formats::wire::control::content::{Details, ReadOutcome};
use formats::wire::control::entries::{EntryRef, EntryStat};
use formats::wire::control::problem::{Problem, ProblemKind};
use formats::wire::streams::{self as wire, STREAMS_DIRECTORY};

use crate::backup::error::RunError;
use crate::config::stream_settings::{Stream, StreamFailure};
use crate::safety::stream_size::StreamSize;
use crate::terminal::visible;

/// What is told of a stream that nothing was heard of.
const NOT_THERE: &str = "the host did not give it";
/// What is told of one that failed without a reason.
const NO_REASON: &str = "its command failed";
/// An input or output error: no other number says that a command failed.
const EIO: u32 = 5;

/// The streams that a run was asked for, and what is known of them.
#[derive(Debug, Default)]
pub struct Streams {
    by_path: HashMap<Vec<u8>, Asked>,
    /// Those whose details are to come.
    open: HashMap<EntryRef, Vec<u8>>,
}

#[derive(Debug)]
struct Asked {
    stream: Stream,
    /// What it is measured against: what is remembered of its good dumps, or else how much the snapshot before has of it.
    usual: Option<u64>,
    /// What the agent told of it.
    told: Option<String>,
    /// Whether it is closed.
    done: bool,
    /// What it has, where it is good or only too small.
    size: Option<StreamSize>,
}

impl Streams {
    /// These streams, and what is remembered of some: see [`StreamSize::usual`].
    pub fn new(streams: &[Stream], usual: &BTreeMap<String, u64>) -> Self {
        let asked = streams.iter().map(|stream| {
            let asked = Asked {
                stream: stream.clone(),
                usual: usual.get(stream.name.as_str()).copied(),
                told: None,
                done: false,
                size: None,
            };
            (
                join(STREAMS_DIRECTORY, stream.name.as_str().as_bytes()),
                asked,
            )
        });
        Self {
            by_path: asked.collect(),
            open: HashMap::new(),
        }
    }

    /// As the agent is told of them.
    pub fn orders(streams: &[Stream]) -> Vec<wire::Stream> {
        let order = |stream: &Stream| wire::Stream {
            name: stream.name.as_str().as_bytes().to_vec(),
            command: stream
                .command
                .iter()
                .map(|word| word.as_bytes().to_vec())
                .collect(),
            seconds_max: u32::try_from(stream.timeout.duration().as_secs()).unwrap_or(u32::MAX),
            bytes_max: stream.size_max.bytes(),
            ending: stream.ends_with.as_bytes().to_vec(),
        };
        streams.iter().map(order).collect()
    }

    /// Whether an entry is in the streams' directory, where nothing else may be.
    pub fn check(&self, directory: &[u8], found: &EntryStat) -> Result<bool, RunError> {
        let path = join(directory, &found.name);
        if self.by_path.is_empty() || !is_within(&path, STREAMS_DIRECTORY) {
            return Ok(false);
        }
        let fits = match found.stat.kind {
            EntryKind::File => self.by_path.contains_key(&path) && found.stat.links == 1,
            EntryKind::Directory => self
                .by_path
                .keys()
                .any(|stream| stream.len() > path.len() && is_within(stream, &path)),
            _ => false,
        };
        match fits {
            true => Ok(true),
            false => Err(RunError::NotAsked { path }),
        }
    }

    /// Notes that a stream is listed, and what the snapshot before has of it.
    pub fn listed(&mut self, of: EntryRef, directory: &[u8], name: &[u8], before: Option<&Entry>) {
        let path = join(directory, name);
        let Some(asked) = self.by_path.get_mut(&path) else {
            return;
        };
        let before = before
            .filter(|entry| entry.stat.kind == EntryKind::File && entry.content != Content::Missing)
            .map(|entry| entry.stat.size);
        asked.usual = asked.usual.or(before);
        self.open.insert(of, path);
    }

    /// Notes what the agent tells of a stream.
    pub fn note(&mut self, problem: &Problem) {
        if let Some(asked) = self.by_path.get_mut(&problem.path) {
            asked.told = Some(problem.text.clone());
        }
    }

    /// Judges a stream that is closed: an error ends the run, a problem warns. One that is not good loses its content; one
    /// that has collapsed keeps it.
    pub fn close(&mut self, details: &mut Details) -> Result<Option<Problem>, RunError> {
        let Some(path) = self.open.remove(&details.of) else {
            return Ok(None);
        };
        let Some(asked) = self.by_path.get_mut(&path) else {
            return Ok(None);
        };
        asked.done = true;
        if let Some(reason) = asked.failure(details) {
            // What the agent told itself is a problem already.
            let is_told = asked.told.is_some();
            asked.fail(&reason)?;
            if details.outcome == ReadOutcome::Read {
                details.outcome = ReadOutcome::Unreadable { errno: EIO };
                details.flags = details.flags.with(EntryFlags::UNREADABLE);
            }
            return Ok((!is_told).then(|| problem(path, reason)));
        }
        let stream = &asked.stream;
        let name = stream.name.to_string();
        let size = details.stat.size;
        let measured = StreamSize::measure(name, size, asked.usual, stream.percent_min);
        let collapse = measured.fell_from.map(|usual| {
            let text = format!(
                "it has {size} bytes, and {usual} are usual: less than its `min_percent` of that; if that is right, \
                 `min_percent = 0` for one run"
            );
            problem(path, text)
        });
        asked.size = Some(measured);
        Ok(collapse)
    }

    /// How much there is of each that has a dump, by name.
    pub fn sizes(&self) -> Vec<StreamSize> {
        let asked = self.by_path.values();
        let mut sizes: Vec<StreamSize> = asked.filter_map(|asked| asked.size.clone()).collect();
        sizes.sort_by(|a, b| a.name.cmp(&b.name));
        sizes
    }

    /// What is to be said of those that never came.
    pub fn finish(&self) -> Result<Vec<Problem>, RunError> {
        let mut problems = Vec::new();
        for (path, asked) in self.by_path.iter().filter(|(_, asked)| !asked.done) {
            asked.fail(NOT_THERE)?;
            problems.push(problem(path.clone(), NOT_THERE.to_owned()));
        }
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(problems)
    }
}

impl Asked {
    /// Why it is not good.
    fn failure(&self, details: &Details) -> Option<String> {
        let size = details.stat.size;
        if details.outcome != ReadOutcome::Read || details.flags.contains(EntryFlags::UNREADABLE) {
            let told = self.told.as_deref().unwrap_or(NO_REASON);
            return Some(told.to_owned());
        }
        if size == 0 && !self.stream.allow_empty {
            return Some(
                "its command gave nothing; `allow_empty = true` if that is right".to_owned(),
            );
        }
        let most = self.stream.size_max;
        (size > most.bytes()).then(|| format!("it has more than the {most} of its `max_size`"))
    }

    fn fail(&self, reason: &str) -> Result<(), RunError> {
        match self.stream.on_failure {
            StreamFailure::Warn => Ok(()),
            StreamFailure::Fail => Err(RunError::Stream {
                name: self.stream.name.to_string(),
                reason: visible(reason),
            }),
        }
    }
}

fn problem(path: Vec<u8>, text: String) -> Problem {
    Problem {
        kind: ProblemKind::Other,
        path,
        errno: 0,
        text,
    }
}

#[cfg(test)]
mod tests;
