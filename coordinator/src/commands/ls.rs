//! `ls`: lists a directory of a snapshot, or everything below it. Streams: a directory of any size is listed in
//! the same memory.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;

use formats::listing::entry::{Entry, EntryKind, Timestamp, join};
use formats::wire::control::names::Names;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli::snapshot::LsArgs;
use crate::clock::{local, utc};
use crate::commands::opened_snapshot::{OpenedSnapshot, SnapshotCommandError};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::restore::error::RestoreError;
use crate::restore::plan::clean_path;
use crate::snapshot::listing::{Listing, split_path};
use crate::snapshot::shown::{shown_name, shown_path};

/// How a listing is shown.
#[derive(Debug, Clone)]
pub struct LsOptions {
    /// With type, mode, owner, size and time.
    pub long: bool,
    /// Everything below, too.
    pub recursive: bool,
    /// Owners as numbers.
    pub numeric_ids: bool,
    /// As one JSON array.
    pub json: bool,
    /// The time zone for people.
    pub zone: TimeZone,
}

/// `ls HOST SNAP [PATH]`.
pub async fn ls_command(
    args: &LsArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, SnapshotCommandError> {
    let opened = OpenedSnapshot::open(
        config,
        &args.host,
        &args.snapshot,
        args.from.destination.as_deref(),
    )
    .await?;
    let listing = opened.listing().await?;
    let options = LsOptions {
        long: args.long,
        recursive: args.recursive,
        numeric_ids: args.numeric_ids,
        json,
        zone: TimeZone::system(),
    };
    let names = &opened.snapshot.names;
    list(&listing, args.path.as_bytes(), names, &options, out).await?;
    opened.coordinator.close().await;
    Ok(ExitCode::Ok)
}

/// Lists what a path stands for.
pub async fn list(
    listing: &Listing,
    path: &[u8],
    names: &Names,
    options: &LsOptions,
    out: &mut (dyn Write + Send),
) -> Result<(), SnapshotCommandError> {
    let path = clean_path(path)?;
    let mut lines = Lines::new(options, names, out);
    let mut is_directory = true;
    if !path.is_empty() {
        let entry = listing.entry(&path).await?;
        let entry = entry.ok_or_else(|| RestoreError::NoSuchPath { path: path.clone() })?;
        is_directory = entry.stat.kind == EntryKind::Directory;
        if !is_directory {
            lines.write(split_path(&path).0, &entry)?;
        }
    }
    if is_directory {
        let mut entries = match options.recursive {
            true => listing.subtree(&path)?,
            false => listing.block(&path)?,
        };
        while let Some((directory, entry)) = entries.next_entry().await? {
            lines.write(&directory, &entry)?;
        }
    }
    Ok(lines.finish()?)
}

/// One element of what `ls --json` prints.
#[derive(Debug, Serialize)]
struct LsLine {
    path: String,
    r#type: &'static str,
    mode: u16,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    links: u64,
    size: u64,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hard_link_to: Option<String>,
}

struct Lines<'a> {
    options: &'a LsOptions,
    users: HashMap<u32, &'a str>,
    groups: HashMap<u32, &'a str>,
    out: &'a mut (dyn Write + Send),
    written: u64,
}

impl<'a> Lines<'a> {
    fn new(options: &'a LsOptions, names: &'a Names, out: &'a mut (dyn Write + Send)) -> Self {
        let by_id = |names: &'a [(u32, String)]| {
            names
                .iter()
                .map(|(id, name)| (*id, name.as_str()))
                .collect()
        };
        Self {
            options,
            users: by_id(&names.users),
            groups: by_id(&names.groups),
            out,
            written: 0,
        }
    }

    fn write(&mut self, directory: &[u8], entry: &Entry) -> io::Result<()> {
        let path = join(directory, &entry.name);
        if self.options.json {
            self.out
                .write_all(if self.written == 0 { b"[" } else { b"," })?;
            self.written += 1;
            let line = self.line(&path, entry);
            return Ok(serde_json::to_writer(&mut *self.out, &line)?);
        }
        self.written += 1;
        let shown = match self.options.recursive {
            true => shown_path(&path),
            false => shown_name(&entry.name),
        };
        if self.options.long {
            self.write_long(&shown, entry)
        } else {
            writeln!(self.out, "{shown}")
        }
    }

    fn write_long(&mut self, shown: &str, entry: &Entry) -> io::Result<()> {
        let stat = &entry.stat;
        let owner = |names: &HashMap<u32, &str>, id: u32| match names.get(&id) {
            Some(name) if !self.options.numeric_ids => shown_name(name.as_bytes()),
            _ => id.to_string(),
        };
        let size = match stat.kind {
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                format!("{}, {}", stat.device.0, stat.device.1)
            }
            _ => stat.size.to_string(),
        };
        write!(
            self.out,
            "{} {:>3} {:<8} {:<8} {size:>12} {} {shown}",
            mode_text(stat.kind, stat.mode),
            stat.links,
            owner(&self.users, stat.uid),
            owner(&self.groups, stat.gid),
            time_text(stat.mtime, |time| local(time, &self.options.zone)),
        )?;
        if stat.kind == EntryKind::Symlink {
            write!(self.out, " -> {}", shown_name(&entry.link_target))?;
        }
        writeln!(self.out)
    }

    fn line(&self, path: &[u8], entry: &Entry) -> LsLine {
        let stat = &entry.stat;
        let name =
            |names: &HashMap<u32, &str>, id| names.get(&id).map(|name| shown_name(name.as_bytes()));
        LsLine {
            path: shown_path(path),
            r#type: kind_word(stat.kind),
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            user: name(&self.users, stat.uid),
            group: name(&self.groups, stat.gid),
            links: stat.links,
            size: stat.size,
            mtime: time_text(stat.mtime, utc),
            target: (stat.kind == EntryKind::Symlink).then(|| shown_name(&entry.link_target)),
            hard_link_to: entry.hard_link_to.as_deref().map(shown_path),
        }
    }

    fn finish(self) -> io::Result<()> {
        match (self.options.json, self.written) {
            (true, 0) => writeln!(self.out, "[]"),
            (true, _) => writeln!(self.out, "]"),
            (false, _) => Ok(()),
        }
    }
}

/// The word for a type.
pub fn kind_word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
        EntryKind::CharDevice => "char_device",
        EntryKind::BlockDevice => "block_device",
    }
}

/// Type and permission bits as `ls -l` shows them.
fn mode_text(kind: EntryKind, mode: u16) -> String {
    let mut text = String::with_capacity(10);
    text.push(match kind {
        EntryKind::File => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
        EntryKind::CharDevice => 'c',
        EntryKind::BlockDevice => 'b',
    });
    for (shift, special, with, without) in [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => with,
            (false, true) => without,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A time as text; one that no calendar holds as seconds since 1970.
fn time_text(time: Timestamp, text: impl Fn(jiff::Timestamp) -> String) -> String {
    let nanoseconds = i32::try_from(time.nanoseconds).unwrap_or(0);
    match jiff::Timestamp::new(time.seconds, nanoseconds) {
        Ok(time) => text(time),
        Err(_) => format!("@{}", time.seconds),
    }
}

#[cfg(test)]
mod tests;
