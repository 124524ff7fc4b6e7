//! Makes what follows a window's files: hard links, symbolic links, devices, FIFOs and sockets. A hard link
//! is only ever made to the inode that this restore put under the first name, or found unchanged there.

use std::io;
use std::os::fd::OwnedFd;

use formats::listing::entry::{EntryKind, join};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::restore::decide::{Decision, decide, kind};
use crate::restore::links::First;
use crate::restore::metadata::Object;
use crate::restore::options::Overwrite;
use crate::restore::site::Site;
use crate::restore::staging::{Existing, Temporary};
use crate::restore::summary::{ProblemKind, Tally};
use crate::restore::tree::{DirectoryTree, descriptor_path};
use crate::restore::window::Follower;
use crate::snapshot::listing::split_path;

/// Makes followers, with a place of its own in the tree to look up first names.
#[derive(Debug)]
pub(crate) struct AfterWorker {
    tree: DirectoryTree,
}

impl AfterWorker {
    /// A worker at the target.
    pub(crate) fn new(tree: DirectoryTree) -> Self {
        Self { tree }
    }

    /// Makes them in order; gives back further names whose first name is not known.
    pub(crate) fn make_all(&mut self, site: &Site, followers: Vec<Follower>) -> Vec<Follower> {
        let mut unresolved = Vec::new();
        for follower in followers {
            if site.full.get().is_some() {
                break;
            }
            let path = join(&follower.directory_path, &follower.entry.name);
            let made = match &follower.entry.hard_link_to {
                None => make_object(site, &follower, &path),
                Some(first_path) => match site.firsts.get(first_path) {
                    None => {
                        unresolved.push(follower);
                        continue;
                    }
                    Some(first) => self.link(site, &follower, first_path, &first),
                },
            };
            if let Err(error) = made {
                if let Some(first_path) = &follower.entry.hard_link_to
                    && cannot_be_linked_there(&error)
                {
                    site.firsts.forget(first_path);
                    let text = format!("restored as a copy of its own: {error}");
                    site.tally.problem(&path, ProblemKind::Metadata, text);
                    unresolved.push(follower);
                    continue;
                }
                let what = match follower.entry.hard_link_to {
                    Some(_) => "cannot be linked",
                    None => "cannot be made",
                };
                site.not_made(&path, what, &error);
            }
        }
        unresolved
    }

    fn link(
        &mut self,
        site: &Site,
        follower: &Follower,
        first_path: &[u8],
        first: &First,
    ) -> io::Result<()> {
        let mut existing = Existing::Keep;
        if site.overwrite.is_some() {
            let name = follower.entry.name.as_slice();
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let found = rustix::fs::statat(&follower.directory, name, flags);
            let is_linked = found
                .is_ok_and(|found| (found.st_dev, found.st_ino) == (first.device, first.inode));
            let decision = decide(site.overwrite, &follower.directory, &follower.entry)?;
            existing = match decision {
                Decision::Make(existing) if !is_linked => existing,
                // Alike, but a file of its own: not what the snapshot has.
                Decision::Skip { .. }
                    if !is_linked && site.overwrite == Some(Overwrite::IfChanged) =>
                {
                    Existing::Replace
                }
                _ => {
                    Tally::add(&site.tally.skipped, 1);
                    site.firsts.linked(first_path);
                    return Ok(());
                }
            };
        }
        let at = first.at.as_deref().unwrap_or(first_path);
        let source = self.open_first(at, first, follower.entry.stat.kind)?;
        // Linked by descriptor: whatever the name has become, it is this inode.
        let from = descriptor_path(&source);
        let (directory, name) = (&follower.directory, follower.entry.name.as_slice());
        let link = |directory: &_, name: &[u8]| {
            rustix::fs::linkat(CWD, from.as_str(), directory, name, AtFlags::SYMLINK_FOLLOW)
        };
        match existing {
            Existing::Keep => link(directory.as_ref(), name)?,
            Existing::Replace => {
                let temporary = site.staging.temporary(directory);
                let (staging, temporary_name) = temporary.place();
                link(staging, temporary_name)?;
                let published = site.staging.publish(&temporary, directory, name, existing);
                // Renaming over another name of the same inode does nothing and leaves the temporary one.
                match temporary.discard() {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => published?,
                }
            }
        }
        site.firsts.linked(first_path);
        Tally::add(&site.tally.files, 1);
        Ok(())
    }

    /// Opens a first name and makes sure that it still is the file that was put there.
    fn open_first(
        &mut self,
        path: &[u8],
        first: &First,
        expected: EntryKind,
    ) -> io::Result<OwnedFd> {
        let (directory, name) = split_path(path);
        let directory = self.tree.open(directory)?;
        let fd = open_path(&directory, name)?;
        let stat = rustix::fs::fstat(&fd)?;
        if kind(&stat) != Some(expected) || expected == EntryKind::Directory {
            return Err(io::Error::other("its first name is of another type"));
        }
        if (stat.st_dev, stat.st_ino) != (first.device, first.inode) {
            return Err(io::Error::other(
                "its first name was replaced while the restore ran",
            ));
        }
        Ok(fd)
    }
}

/// Whether the filesystem takes no further name of a file at a place: it is another one, or full of names.
fn cannot_be_linked_there(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        number,
        Some(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP)
    )
}

fn open_path(directory: &impl std::os::fd::AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

fn make_object(site: &Site, follower: &Follower, path: &[u8]) -> io::Result<()> {
    let entry = &follower.entry;
    let is_device = matches!(
        entry.stat.kind,
        EntryKind::CharDevice | EntryKind::BlockDevice
    );
    if is_device && !site.metadata.devices {
        Tally::add(&site.tally.left_out, 1);
        return Ok(());
    }
    if entry.stat.kind == EntryKind::Symlink && entry.link_target.is_empty() {
        let text = "where it points could not be read when it was backed up".to_owned();
        site.tally.problem(path, ProblemKind::Unreadable, text);
        return Ok(());
    }
    let existing = match decide(site.overwrite, &follower.directory, entry)? {
        Decision::Make(existing) => existing,
        Decision::Skip { device, inode } => {
            Tally::add(&site.tally.skipped, 1);
            remember(site, follower, path, (device, inode));
            return Ok(());
        }
    };
    let temporary = site.staging.temporary(&follower.directory);
    match create(&temporary, follower) {
        Err(Errno::PERM) if is_device => {
            let text = "only root can make devices".to_owned();
            site.tally.problem(path, ProblemKind::Refused, text);
            return Ok(());
        }
        created => created?,
    }
    let finished = finish(site, follower, &temporary, existing);
    let (identity, problems) = match finished {
        Ok(finished) => finished,
        Err(error) => {
            if let Err(left) = temporary.discard() {
                tracing::debug!(error = %left, "a failed object's temporary name stays until the end");
            }
            return Err(error);
        }
    };
    remember(site, follower, path, identity);
    Tally::add(&site.tally.files, 1);
    site.metadata_problems(path, &problems);
    Ok(())
}

fn create(temporary: &Temporary, follower: &Follower) -> Result<(), Errno> {
    let (directory, name) = temporary.place();
    let stat = &follower.entry.stat;
    let (file_type, device) = match stat.kind {
        EntryKind::Symlink => {
            return rustix::fs::symlinkat(follower.entry.link_target.as_slice(), directory, name);
        }
        EntryKind::Fifo => (FileType::Fifo, 0),
        EntryKind::Socket => (FileType::Socket, 0),
        EntryKind::CharDevice | EntryKind::BlockDevice => {
            let (major, minor) = stat.device;
            let file_type = match stat.kind {
                EntryKind::CharDevice => FileType::CharacterDevice,
                _ => FileType::BlockDevice,
            };
            (file_type, rustix::fs::makedev(major, minor))
        }
        // Files and directories are made elsewhere.
        EntryKind::File | EntryKind::Directory => return Err(Errno::INVAL),
    };
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(directory, name, file_type, mode, device)
}

type Finished = ((u64, u64), Vec<String>);

fn finish(
    site: &Site,
    follower: &Follower,
    temporary: &Temporary,
    existing: Existing,
) -> io::Result<Finished> {
    let (directory, name) = temporary.place();
    let fd = open_path(directory, name)?;
    let stat = rustix::fs::fstat(&fd)?;
    if kind(&stat) != Some(follower.entry.stat.kind) {
        return Err(io::Error::other("it was replaced while it was made"));
    }
    let object = Object::Path(&fd);
    let problems = site
        .setter
        .apply(&object, &follower.entry, temporary.may_inherit);
    site.staging.publish(
        temporary,
        &follower.directory,
        &follower.entry.name,
        existing,
    )?;
    Ok(((stat.st_dev, stat.st_ino), problems))
}

fn remember(site: &Site, follower: &Follower, path: &[u8], (device, inode): (u64, u64)) {
    let links = follower.entry.stat.links;
    let first = |at| First {
        device,
        inode,
        links,
        at,
    };
    match &follower.first_path {
        Some(first_path) => site.firsts.remember(first_path, first(Some(path.into()))),
        None if links > 1 => site.firsts.remember(path, first(None)),
        None => {}
    }
}
