//! Decides, entry by entry, whether the parent snapshot's knowledge still holds. Never trusts a time: an
//! entry is unchanged only when size, mtime, ctime and inode all are, and the parent had read it in peace.

use std::collections::HashMap;

use formats::listing::content::Content;
use formats::listing::entry::{Entry, EntryFlags, EntryKind, Stat, join};
use formats::wire::control::entries::EntryStat;

/// What is to be done about an entry.
#[derive(Debug)]
pub enum Verdict {
    /// As in the parent: this is the whole entry.
    Unchanged(Box<Entry>),
    /// A further name of a file that this run already has.
    HardLink(Box<Entry>),
    /// The agent has to send its details.
    Wanted,
}

/// What a parent entry must not carry for its knowledge to be used again.
const NOT_REUSABLE: [EntryFlags; 4] = [
    EntryFlags::UNSETTLED,
    EntryFlags::CHANGED_WHILE_READ,
    EntryFlags::UNREADABLE,
    EntryFlags::CARRIED,
];

/// Judges one entry; `parent` is the parent snapshot's entry at the same place, if there is one.
pub fn judge(
    directory: &[u8],
    found: &EntryStat,
    parent: Option<Entry>,
    full_read: bool,
    links: &mut HardLinks,
) -> Verdict {
    if let Some(first) = links.first_name(directory, found) {
        return Verdict::HardLink(Box::new(further_name(found, first)));
    }
    match parent {
        Some(entry) if !full_read && is_unchanged(&entry, &found.stat) => {
            Verdict::Unchanged(Box::new(Entry {
                stat: found.stat,
                ..entry
            }))
        }
        _ => Verdict::Wanted,
    }
}

fn further_name(found: &EntryStat, first: Vec<u8>) -> Entry {
    Entry {
        name: found.name.clone(),
        stat: found.stat,
        flags: EntryFlags::default(),
        xattrs: Vec::new(),
        link_target: if found.stat.kind == EntryKind::Symlink {
            // The reader wants a target; the first name has the true one, and restore links to it.
            b".".to_vec()
        } else {
            Vec::new()
        },
        hard_link_to: Some(first),
        content: Content::None,
    }
}

/// Whether the parent's entry is still all there is to know of what was found in its place.
pub fn is_unchanged(parent: &Entry, found: &Stat) -> bool {
    let same = Stat {
        // The count of names is no part of what a file is; a changed one changes ctime anyway.
        links: found.links,
        ..parent.stat
    } == *found;
    same && is_reusable(parent)
}

/// Whether an entry may be taken over by a later snapshot at all.
pub fn is_reusable(entry: &Entry) -> bool {
    let reusable = !NOT_REUSABLE.iter().any(|flag| entry.flags.contains(*flag));
    reusable && entry.hard_link_to.is_none()
}

/// The most files with several names that are followed at once; past it, further names are kept as files of
/// their own, whose content costs nothing twice.
const LINKED_FILES_MAX: usize = 1 << 20;

/// Files with several names, by filesystem, inode and type, until all their names were seen.
#[derive(Debug, Default)]
pub struct HardLinks {
    files: HashMap<(u64, u64, EntryKind), LinkedFile>,
}

#[derive(Debug)]
struct LinkedFile {
    first: Vec<u8>,
    names_left: u64,
}

impl HardLinks {
    /// The first name of the file, when this is a further one; otherwise notes this one as the first.
    fn first_name(&mut self, directory: &[u8], found: &EntryStat) -> Option<Vec<u8>> {
        if found.stat.links < 2 || found.stat.kind == EntryKind::Directory {
            return None;
        }
        let key = (found.filesystem, found.stat.inode, found.stat.kind);
        if let Some(file) = self.files.get_mut(&key) {
            let first = file.first.clone();
            file.names_left = file.names_left.saturating_sub(1);
            if file.names_left == 0 {
                self.files.remove(&key);
            }
            return Some(first);
        }
        if self.files.len() < LINKED_FILES_MAX {
            self.files.insert(
                key,
                LinkedFile {
                    first: join(directory, &found.name),
                    names_left: found.stat.links - 1,
                },
            );
        }
        None
    }
}
