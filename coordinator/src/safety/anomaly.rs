//! Whether a run looks as if its host were being encrypted or emptied, by figures that the coordinator counted itself: against
//! the parent snapshot, and against the host's earlier runs. A run that looks so is taken all the same; what was there before
//! stays. Bytes are those of data: what a sparse file does not have allocated is nothing, here.
//!
//! Nothing is judged before the host has a history, and no sign about files counts below a number of files or bytes, so that
//! small hosts and first runs are left alone. A person who ends a hold says that the run was as it should be: it is history then.

mod growth;
pub mod sign;

use std::slice;

use append_server::quantity::Size;

use crate::safety::absence::{threshold, threshold_of_absence};
use crate::safety::anomaly::growth::{Counting, Growth, Lasting};
use crate::safety::anomaly::sign::Sign;
use crate::safety::stream_size::StreamSize;

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
    /// Bytes of those in chunks that no snapshot had and that nothing has which was there before, each counted once.
    pub added_bytes: u64,
    /// Such bytes past the ends that files had, as far as they have grown; nothing where the parent was not read, and of earlier
    /// runs.
    pub grown_bytes: Option<u64>,
    /// Files of the parent that are the same inode still.
    pub same_inode: u64,
}

impl Compared {
    /// So many of the new bytes explain nothing.
    pub fn explain_less(&mut self, bytes: u64) {
        let of_added = bytes.min(self.added_bytes);
        self.added_bytes -= of_added;
        let of_grown = bytes - of_added;
        self.grown_bytes = self.grown_bytes.map(|grown| grown.saturating_sub(of_grown));
    }
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

/// What has passed since runs that a run is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// The host's usual periods since the parent.
    pub periods: u64,
    /// Good runs that are not older than the last one that a person accepted: all, where there is none.
    pub accepted_runs: usize,
}

/// What is suspicious about a run; `past` are the host's good runs, the newest first.
pub fn signs(now: &Figures, past: &[Figures], limits: &AnomalyLimits, passed: Passed) -> Vec<Sign> {
    let Some(last) = past.first() else {
        return Vec::new();
    };
    if (past.len() as u64) < limits.runs {
        return Vec::new();
    }
    let mut signs = Vec::new();
    if last.rules == now.rules {
        signs.extend(losses(now, last, limits));
        signs.extend(gone(now, past, limits, passed.periods));
    }
    signs.extend(changed(now, past, limits, passed));
    signs.extend(new_data(now, past, limits, passed));
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
    let (left, before) = (counting.bytes(now), counting.bytes(last));
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
fn changed(
    now: &Figures,
    past: &[Figures],
    limits: &AnomalyLimits,
    passed: Passed,
) -> Option<Sign> {
    let Compared {
        before, changed, ..
    } = now.compared;
    let counting = Counting::of(now, past);
    let growth = Growth::of(now, past, counting);
    let usual = median(past, |run| {
        percent(run.compared.changed, run.compared.before)
    });
    let needed = threshold(limits.changed, usual, TIMES_USUAL_CHANGED, passed.periods);
    let is_much = |files, new| {
        changed >= limits.files && percent(changed, files) >= needed && new >= limits.new
    };
    let last = past.first().map_or(0, |last| counting.bytes(last));
    let new = percent(now.new_bytes, growth.whole(last));
    if is_much(before, new) {
        return Some(Sign::Changed {
            changed,
            before,
            usual,
            new,
        });
    }
    let lasting = Lasting::of(now, past, counting, passed.accepted_runs);
    let (files, new) = (
        lasting.files.min(before),
        percent(now.new_bytes, growth.whole(lasting.bytes)),
    );
    // As for every sign: what was small says nothing. And what came lately is rewritten in use; what is encrypted does not compress.
    let is_large = files >= limits.files && lasting.bytes >= limits.bytes.bytes();
    let dense = percent(now.incompressible, now.new_bytes) >= limits.incompressible;
    let is_sign = is_large && dense && is_much(files, new);
    is_sign.then_some(Sign::ChangedOfLasting {
        changed,
        files,
        new,
    })
}

/// New data that neither added files nor growth explain.
fn new_data(now: &Figures, past: &[Figures], limits: &AnomalyLimits, passed: Passed) -> Vec<Sign> {
    let counting = Counting::of(now, past);
    let growth = Growth::of(now, past, counting);
    let new = now.new_bytes.saturating_sub(growth.explained);
    if new < limits.bytes.bytes() {
        return Vec::new();
    }
    let mut signs = Vec::new();
    let bytes = growth.whole(past.first().map_or(0, |last| counting.bytes(last)));
    let share = percent(new, bytes);
    let usual = median(past, |run| percent(run.new_bytes, counting.bytes(run)));
    // Of all that is there: what a host was given lately may well be rewritten as soon as it is used.
    if share >= threshold(limits.new, usual, TIMES_USUAL, passed.periods) {
        signs.push(Sign::New { new, bytes, usual });
    }
    // However long it has been: more time makes more new data, and no denser data.
    let lasting = Lasting::of(now, past, counting, passed.accepted_runs);
    let share = match lasting.bytes >= limits.bytes.bytes() {
        true => percent(new, growth.whole(lasting.bytes)),
        false => share,
    };
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
