//! LVM's programs on the host: what volumes are, and taking and removing snapshots of them. Never removes a volume that was not
//! named whole.

use std::ffi::OsStr;
use std::process::Stdio;

use crate::fs_snapshot::lvm::room::Wish;
use crate::fs_snapshot::lvm::volume::Volume;
use crate::fs_snapshot::program::{self, Program, ProgramError};

/// The package of all of them.
const PACKAGE: &str = "lvm2";
/// Between fields: no name in LVM has it.
const SEPARATOR: &str = "|";

/// What LVM writes of a volume in ten letters, of which each place has a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes(String);

/// How a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has what its volume had.
    Sound,
    /// It had no room left for what was written to its volume, and has nothing any more.
    Overflowed,
    /// Something else is wrong.
    Unsound,
}

impl Attributes {
    fn letter(&self, place: usize) -> u8 {
        self.0.as_bytes().get(place).copied().unwrap_or(b'-')
    }

    /// Whether it is a thin volume: its snapshots need no room of their own.
    pub fn is_thin(&self) -> bool {
        self.letter(0) == b'V'
    }

    /// Whether it may be a snapshot.
    pub fn is_snapshot(&self) -> bool {
        matches!(self.letter(0), b's' | b'S' | b'V')
    }

    /// Whether somebody has it open, such as mounted.
    pub fn is_open(&self) -> bool {
        self.letter(5) == b'o'
    }

    /// How it is, for a snapshot.
    pub fn state(&self) -> State {
        match (self.letter(4), self.letter(8)) {
            (b'a', health) if health != b'F' => State::Sound,
            (b'I' | b'S', _) => State::Overflowed,
            _ => State::Unsound,
        }
    }

    /// The letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A volume that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub volume: Volume,
    /// What LVM says of it.
    pub attributes: Attributes,
    /// What it is a snapshot of; empty if of nothing.
    pub origin: String,
}

/// What a volume is, and what there is for a snapshot of it.
pub fn look(volume: &Volume) -> Result<(Attributes, Wish), ProgramError> {
    const FIELDS: &str = "lv_attr,lv_size,vg_extent_size,vg_free_count";
    let rows = list(FIELDS, &[volume.to_string()])?;
    let strange = || strange(&format!("{rows:?}"));
    let [[attributes, bytes, extent_bytes, free_extents]] = rows.as_slice() else {
        return Err(strange());
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| strange());
    let wish = Wish {
        group: volume.group.clone(),
        bytes: number(bytes)?,
        extent_bytes: number(extent_bytes)?,
        free_extents: number(free_extents)?,
    };
    Ok((Attributes(attributes.clone()), wish))
}

/// What LVM says of a volume now.
pub fn attributes(volume: &Volume) -> Result<Attributes, ProgramError> {
    let rows: Vec<[String; 1]> = list("lv_attr", &[volume.to_string()])?;
    match <[_; 1]>::try_from(rows) {
        Ok([[attributes]]) => Ok(Attributes(attributes)),
        Err(rows) => Err(strange(&format!("{rows:?}"))),
    }
}

/// All volumes of a group.
pub fn all(group: &str) -> Result<Vec<Found>, ProgramError> {
    let rows = list("lv_name,lv_attr,origin", &[group.to_owned()])?;
    let found = rows.into_iter().map(|[name, attributes, origin]| Found {
        volume: Volume {
            group: group.to_owned(),
            name,
        },
        attributes: Attributes(attributes),
        origin,
    });
    Ok(found.collect())
}

/// Takes a snapshot, of so many extents for what changes in its volume meanwhile, or of none for one of a thin volume. The
/// program has `held` until it ends, whatever becomes of the agent.
pub fn take(
    volume: &Volume,
    name: &str,
    extents: Option<u64>,
    held: Stdio,
) -> Result<(), ProgramError> {
    let (volume, extents) = (volume.to_string(), extents.map(|count| count.to_string()));
    let mut words = vec!["--snapshot", "--yes", "--name", name];
    match &extents {
        Some(extents) => words.extend(["--extents", extents]),
        // After a restart of the host, what is left of it stays inactive.
        None => words.extend(["--setactivationskip", "y", "--ignoreactivationskip"]),
    }
    words.extend(["--", &volume]);
    run("lvcreate", "lvcreate --snapshot", &words, held).map(drop)
}

/// Removes a volume.
pub fn remove(volume: &Volume) -> Result<(), ProgramError> {
    let volume = volume.to_string();
    let words = ["--force", "--yes", "--", &volume];
    run("lvremove", "lvremove", &words, Stdio::null()).map(drop)
}

/// Rows of these fields, of what is named.
fn list<const FIELDS: usize>(
    fields: &str,
    targets: &[String],
) -> Result<Vec<[String; FIELDS]>, ProgramError> {
    let mut words = vec!["--noheadings", "--separator", SEPARATOR];
    words.extend(["--units", "b", "--nosuffix", "-o", fields, "--"]);
    words.extend(targets.iter().map(String::as_str));
    let listed = run("lvs", "lvs", &words, Stdio::null())?;
    let listed = String::from_utf8_lossy(&listed);
    let lines = listed
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let row: Vec<String> = line.split(SEPARATOR).map(str::to_owned).collect();
            row.try_into().map_err(|_| strange(line))
        })
        .collect()
}

fn strange(line: &str) -> ProgramError {
    ProgramError::Strange {
        what: "lvs",
        line: line.to_owned(),
    }
}

fn run(
    name: &'static str,
    what: &'static str,
    words: &[&str],
    stdin: Stdio,
) -> Result<Vec<u8>, ProgramError> {
    let arguments: Vec<_> = words.iter().map(OsStr::new).collect();
    let package = PACKAGE;
    program::run(Program { name, package }, what, &arguments, stdin)
}

#[cfg(test)]
mod tests {
    use super::{Attributes, State};

    #[test]
    fn letters_say_how_a_snapshot_is() {
        let state = |letters: &str| Attributes(letters.to_owned()).state();
        for sound in ["swi-aos---", "Vwi-aotz-k", "Vwi-aotzDk", "swi-ao"] {
            assert_eq!(state(sound), State::Sound, "{sound}");
        }
        for overflowed in ["swi-Ios---", "swi-Sos---"] {
            assert_eq!(state(overflowed), State::Overflowed, "{overflowed}");
        }
        for unsound in ["Vwi-aotzFk", "Vwi---tz-k", "swi-mos---", ""] {
            assert_eq!(state(unsound), State::Unsound, "{unsound}");
        }
    }

    #[test]
    fn letters_say_what_a_volume_is() {
        let attributes = |letters: &str| Attributes(letters.to_owned());
        let classic = attributes("swi-aos---");
        assert!(classic.is_snapshot() && classic.is_open() && !classic.is_thin());
        let thin = attributes("Vwi---tz-k");
        assert!(thin.is_snapshot() && !thin.is_open() && thin.is_thin());
        assert!(!attributes("owi-aos---").is_snapshot() && !attributes("").is_open());
    }
}
