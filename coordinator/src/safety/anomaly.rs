//! Whether a run looks as if its host were being encrypted or emptied, by figures that the coordinator counted itself: against
//! the parent snapshot, and against the host's earlier runs. A run that looks so is taken all the same; what was there before
//! stays. Bytes are those of data: what a sparse file does not have allocated is nothing, here.
//!
//! Nothing is judged before the host has a history, and no sign about files counts below a number of files or bytes, so that
//! small hosts and first runs are left alone. A person who ends a hold says that the run was as it should be: it is history then.

use std::{fmt, slice};

use append_server::quantity::Size;

use crate::safety::absence::{threshold, threshold_of_absence};
use crate::safety::stream_size::StreamSize;
use crate::terminal::{count_text, size_text};

/// From so many files on, none at all is a sign by itself.
const FILES_BEFORE_NONE: u64 = 10;
/// New data in what was there already counts for compression from this share of all bytes on, in percent.
const NEW_FOR_COMPRESSION: u64 = 20;
/// What is unusual is so many times as much as usual.
const TIMES_USUAL: u64 = 4;
/// The same for files that changed, which vary less.
const TIMES_USUAL_CHANGED: u64 = 2;
/// The same for files that are gone, once more time has passed than usual.
const TIMES_USUAL_GONE: u64 = 2;
/// Where more of the new data than this usually does not compress, that it does not says nothing; in percent.
const INCOMPRESSIBLE_USUAL_MAX: u64 = 60;

/// When a run is suspicious. Shares are percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnomalyLimits {
    /// Good runs before anything is judged.
    pub runs: u64,
    /// Files that a sign about files needs at least.
    pub files: u64,
    /// Bytes that a sign about bytes needs at least.
    pub bytes: Size,
    /// Files that are gone or have another name, of those before.
    pub gone: u64,
    /// Files with other content, of those before.
    pub changed: u64,
    /// New bytes in what was there already, of all.
    pub new: u64,
    /// New bytes that do not compress, of the new ones.
    pub incompressible: u64,
    /// Files with one ending that none had before, of all.
    pub ending: u64,
    /// Files or bytes that must be left, of those before.
    pub left: u64,
}

impl Default for AnomalyLimits {
    fn default() -> Self {
        Self {
            runs: 3,
            files: 100,
            bytes: Size::from_bytes(64 << 20),
            gone: 50,
            changed: 50,
            new: 50,
            incompressible: 90,
            ending: 30,
            left: 40,
        }
    }
}

/// How a run's files differ from the parent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compared {
    /// Files of the parent.
    pub before: u64,
    /// Of those, files that are not where they were.
    pub gone: u64,
    /// Of those that are gone, files that seem to be elsewhere now.
    pub moved: u64,
    /// Files that have another size or time of change than before.
    pub changed: u64,
    /// Files at places where there was none.
    pub added: u64,
    /// Bytes of those in chunks that no snapshot had, each counted once.
    pub added_bytes: u64,
    /// Such bytes of files that were there before, as far as they have grown; nothing where the parent was not read, and of
    /// earlier runs.
    pub grown_bytes: Option<u64>,
    /// Files of the parent that are the same inode still.
    pub same_inode: u64,
}

/// What was counted of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    /// Files of the snapshot.
    pub files: u64,
    /// Their bytes, without holes.
    pub bytes: u64,
    /// The same with holes; nothing for runs of an earlier version, whose `bytes` count holes.
    pub bytes_with_holes: Option<u64>,
    /// Bytes of chunks that no snapshot had.
    pub new_bytes: u64,
    /// Of those, bytes in frames that did not become smaller.
    pub incompressible: u64,
    /// Against the parent; zeros where the parent was not read.
    pub compared: Compared,
    /// The ending that most files have got of those that no file had before, and how many.
    pub new_ending: Option<(String, u64)>,
    /// How much its streams have; not of earlier runs.
    pub streams: Vec<StreamSize>,
    /// What was asked for, as a digest: with other paths or excludes, other files are there.
    pub rules: [u8; 32],
}

impl Figures {
    /// Its bytes, without holes or with them.
    fn counted(&self, counting: Counting) -> u64 {
        match counting {
            Counting::WithoutHoles => self.bytes,
            Counting::WithHoles => self.bytes_with_holes.unwrap_or(self.bytes),
        }
    }
}

/// How the bytes of runs are counted that are compared with each other.
#[derive(Debug, Clone, Copy)]
enum Counting {
    WithoutHoles,
    WithHoles,
}

impl Counting {
    /// Without holes, once none of the runs is of the version that counted them.
    fn of(now: &Figures, past: &[Figures]) -> Self {
        let mut runs = past.iter().chain([now]);
        match runs.all(|run| run.bytes_with_holes.is_some()) {
            true => Self::WithoutHoles,
            false => Self::WithHoles,
        }
    }
}

/// One thing that is suspicious, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// No file is left.
    NoFiles {
        /// How many there were.
        before: u64,
    },
    /// Far fewer files.
    FewerFiles {
        /// How many there are.
        left: u64,
        /// How many there were.
        before: u64,
    },
    /// Far fewer bytes.
    FewerBytes {
        /// How many there are.
        left: u64,
        /// How many there were.
        before: u64,
    },
    /// Most files are gone or have another name.
    Gone {
        /// How many.
        gone: u64,
        /// How many of them seem to have another name.
        moved: u64,
        /// Of how many.
        before: u64,
    },
    /// Most files have other content.
    Changed {
        /// How many.
        changed: u64,
        /// Of how many.
        before: u64,
        /// Percent that usually do.
        usual: u64,
        /// Percent of all bytes that are new.
        new: u64,
    },
    /// Far more is new than usual, in what was there already.
    New {
        /// How many bytes.
        new: u64,
        /// Of how many.
        bytes: u64,
        /// Percent that usually are.
        usual: u64,
    },
    /// What is new does not compress, and usually does.
    Incompressible {
        /// Percent of it.
        percent: u64,
        /// Of how many bytes.
        new: u64,
        /// Percent that usually do not.
        usual: u64,
    },
    /// Many files have an ending that none had.
    Ending {
        /// The ending.
        ending: String,
        /// How many.
        files: u64,
        /// Of how many.
        all: u64,
    },
    /// A stream is far smaller than it used to be.
    Stream {
        /// Its name.
        name: String,
        /// Its bytes.
        left: u64,
        /// The bytes that are usual.
        usual: u64,
    },
}

impl fmt::Display for Sign {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, size) = (count_text, size_text);
        match self {
            Self::NoFiles { before } => {
                write!(out, "no file is left of {}", count(*before))
            }
            Self::FewerFiles { left, before } => write!(
                out,
                "{} files are left of {} ({} %)",
                count(*left),
                count(*before),
                percent(*left, *before)
            ),
            Self::FewerBytes { left, before } => write!(
                out,
                "{} are left of {} ({} %)",
                size(*left),
                size(*before),
                percent(*left, *before)
            ),
            Self::Gone {
                gone,
                moved,
                before,
            } => write!(
                out,
                "{} of {} files are gone or have another name ({} %), some {} of them another name",
                count(*gone),
                count(*before),
                percent(*gone, *before),
                count(*moved)
            ),
            Self::Changed {
                changed,
                before,
                usual,
                new,
            } => write!(
                out,
                "{} of {} files changed ({} %, usually {usual} %), and {new} % of all bytes are new",
                count(*changed),
                count(*before),
                percent(*changed, *before)
            ),
            Self::New { new, bytes, usual } => write!(
                out,
                "{} of {} are new in files that were there already ({} %, usually {usual} %)",
                size(*new),
                size(*bytes),
                percent(*new, *bytes)
            ),
            Self::Incompressible {
                percent,
                new,
                usual,
            } => write!(
                out,
                "{percent} % of {} of new data do not compress (usually {usual} %)",
                size(*new)
            ),
            Self::Ending { ending, files, all } => write!(
                out,
                "{} of {} files have the ending {ending:?}, which none had before ({} %)",
                count(*files),
                count(*all),
                percent(*files, *all)
            ),
            Self::Stream { name, left, usual } => write_stream(out, name, *left, *usual),
        }
    }
}

fn write_stream(out: &mut fmt::Formatter<'_>, name: &str, left: u64, usual: u64) -> fmt::Result {
    let (left_text, usual_text) = (size_text(left), size_text(usual));
    let share = percent(left, usual);
    write!(
        out,
        "stream {name} has {left_text}, and {usual_text} are usual ({share} %)"
    )
}

/// What is suspicious about a run so many usual periods after its parent; `past` are the host's good runs, the newest first.
pub fn signs(now: &Figures, past: &[Figures], limits: &AnomalyLimits, periods: u64) -> Vec<Sign> {
    let Some(last) = past.first() else {
        return Vec::new();
    };
    if (past.len() as u64) < limits.runs {
        return Vec::new();
    }
    let mut signs = Vec::new();
    if last.rules == now.rules {
        signs.extend(losses(now, last, limits));
        signs.extend(gone(now, past, limits, periods));
    }
    signs.extend(changed(now, past, limits, periods));
    signs.extend(new_data(now, past, limits, periods));
    signs.extend(ending(now, limits));
    signs.extend(now.streams.iter().filter_map(collapse));
    signs
}

/// What is not there any more.
fn losses(now: &Figures, last: &Figures, limits: &AnomalyLimits) -> Vec<Sign> {
    let mut signs = Vec::new();
    if now.files == 0 && last.files >= FILES_BEFORE_NONE {
        signs.push(Sign::NoFiles { before: last.files });
    } else if last.files >= limits.files && percent(now.files, last.files) < limits.left {
        signs.push(Sign::FewerFiles {
            left: now.files,
            before: last.files,
        });
    }
    let counting = Counting::of(now, slice::from_ref(last));
    let (left, before) = (now.counted(counting), last.counted(counting));
    if now.files > 0 && before >= limits.bytes.bytes() && percent(left, before) < limits.left {
        signs.push(Sign::FewerBytes { left, before });
    }
    signs
}

/// Files that are not where they were.
fn gone(now: &Figures, past: &[Figures], limits: &AnomalyLimits, periods: u64) -> Option<Sign> {
    let Compared {
        before,
        gone,
        moved,
        ..
    } = now.compared;
    let usual = median(past, |run| percent(run.compared.gone, run.compared.before));
    let needed = threshold_of_absence(limits.gone, usual, TIMES_USUAL_GONE, periods);
    let suspicious = now.files > 0 && gone >= limits.files && percent(gone, before) >= needed;
    suspicious.then_some(Sign::Gone {
        gone,
        moved,
        before,
    })
}

/// Files rewritten at their places: only with new data in them, or every `touch` would be suspicious.
fn changed(now: &Figures, past: &[Figures], limits: &AnomalyLimits, periods: u64) -> Option<Sign> {
    let Compared {
        before, changed, ..
    } = now.compared;
    let grown = Growth::of(now, past, Counting::of(now, past));
    let new = percent(now.new_bytes, grown.bytes);
    let share = percent(changed, before);
    let usual = median(past, |run| {
        percent(run.compared.changed, run.compared.before)
    });
    let needed = threshold(limits.changed, usual, TIMES_USUAL_CHANGED, periods);
    let suspicious = changed >= limits.files && share >= needed && new >= limits.new;
    suspicious.then_some(Sign::Changed {
        changed,
        before,
        usual,
        new,
    })
}

/// New data that neither added files nor growth explain.
fn new_data(now: &Figures, past: &[Figures], limits: &AnomalyLimits, periods: u64) -> Vec<Sign> {
    let counting = Counting::of(now, past);
    let Growth { explained, bytes } = Growth::of(now, past, counting);
    let new = now.new_bytes.saturating_sub(explained);
    if new < limits.bytes.bytes() {
        return Vec::new();
    }
    let mut signs = Vec::new();
    let share = percent(new, bytes);
    let usual = median(past, |run| percent(run.new_bytes, run.counted(counting)));
    if share >= threshold(limits.new, usual, TIMES_USUAL, periods) {
        signs.push(Sign::New { new, bytes, usual });
    }
    // However long it has been: more time makes more new data, and no denser data.
    let dense = percent(now.incompressible, now.new_bytes);
    let usually_dense = median(past, |run| percent(run.incompressible, run.new_bytes));
    if share >= NEW_FOR_COMPRESSION
        && share >= usual.saturating_mul(TIMES_USUAL)
        && dense >= limits.incompressible
        && usually_dense <= INCOMPRESSIBLE_USUAL_MAX
    {
        signs.push(Sign::Incompressible {
            percent: dense,
            new: now.new_bytes,
            usual: usually_dense,
        });
    }
    signs
}

/// What became more. What was stored before explains nothing and makes no share less, however often a host repeats it.
struct Growth {
    /// New data that added files and growth explain.
    explained: u64,
    /// The bytes that shares are of: those before, and what is explained of more.
    bytes: u64,
}

impl Growth {
    fn of(now: &Figures, past: &[Figures], counting: Counting) -> Self {
        let before = past.first().map_or(0, |last| last.counted(counting));
        let bytes = now.counted(counting);
        let grown = bytes.saturating_sub(before);
        let added = now.compared.added_bytes;
        let explained = match now.compared.grown_bytes {
            Some(by_new) => grown.min(by_new.saturating_add(added)).max(added),
            None => grown.max(added),
        };
        Self {
            explained,
            bytes: bytes.min(before.saturating_add(explained)),
        }
    }
}

fn ending(now: &Figures, limits: &AnomalyLimits) -> Option<Sign> {
    let (ending, files) = now.new_ending.as_ref()?;
    let suspicious = *files >= limits.files && percent(*files, now.files) >= limits.ending;
    suspicious.then(|| Sign::Ending {
        ending: ending.clone(),
        files: *files,
        all: now.files,
    })
}

/// How small is too small, each stream says itself.
fn collapse(stream: &StreamSize) -> Option<Sign> {
    let usual = stream.fell_from?;
    Some(Sign::Stream {
        name: stream.name.clone(),
        left: stream.size,
        usual,
    })
}

/// How many percent of `whole` a part is; nothing of nothing is none.
pub fn percent(part: u64, whole: u64) -> u64 {
    let share = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// One odd run does not move it, whether it was an attack or a busy night.
fn median(past: &[Figures], value: impl Fn(&Figures) -> u64) -> u64 {
    let mut values: Vec<u64> = past.iter().map(value).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
