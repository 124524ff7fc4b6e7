//! What is suspicious about a run, and how it is told: in numbers.

use std::fmt;

use crate::safety::anomaly::percent;
use crate::terminal::{count_text, size_text};

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
    /// As many files have other content as would be most of those that were there some runs ago.
    ChangedOfLasting {
        /// How many.
        changed: u64,
        /// How many files there were.
        files: u64,
        /// Percent of their bytes that are new.
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
            } => write_changed(out, (*changed, *before), *usual, *new),
            Self::ChangedOfLasting {
                changed,
                files,
                new,
            } => write_changed_of_lasting(out, *changed, *files, *new),
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

fn write_changed(
    out: &mut fmt::Formatter<'_>,
    (changed, before): (u64, u64),
    usual: u64,
    new: u64,
) -> fmt::Result {
    let share = percent(changed, before);
    let (changed, before) = (count_text(changed), count_text(before));
    write!(
        out,
        "{changed} of {before} files changed ({share} %, usually {usual} %), and {new} % of all bytes are new"
    )
}

fn write_changed_of_lasting(
    out: &mut fmt::Formatter<'_>,
    changed: u64,
    files: u64,
    new: u64,
) -> fmt::Result {
    let share = percent(changed, files);
    let (changed, files) = (count_text(changed), count_text(files));
    write!(
        out,
        "{changed} files changed, where all that have been there for some runs are {files} ({share} %), and what is new is \
         {new} % of their bytes"
    )
}
