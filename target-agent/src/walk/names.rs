//! The names of one directory, sorted, in bounded memory: a directory with more than fit is read several
//! times, each time keeping the next names in order. Holds names and types, never metadata.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use formats::listing::entry::EntryKind;
use rustix::fs::{RawDir, SeekFrom, seek};
use rustix::io::Errno;

use crate::stat;

/// Bytes asked of the kernel at once.
const GETDENTS_BYTES: usize = 32 << 10;
/// What a name costs besides its bytes: kind, length and its place.
const NAME_OVERHEAD: usize = 2 + size_of::<u32>();

/// Some names of a directory: kind, length and bytes one after another, and their places in name order.
#[derive(Debug, Default)]
pub struct NamePage {
    bytes: Vec<u8>,
    places: Vec<u32>,
    /// Whether there are names after the last of these.
    pub more: bool,
    /// Why reading ended early, if it did.
    pub error: Option<Errno>,
}

/// A name and, where the filesystem tells, its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// The name.
    pub name: &'a [u8],
    /// What `getdents` says it is.
    pub kind: Option<EntryKind>,
}

impl NamePage {
    /// Reads the next names after `after`, as many as fit `bytes_max`.
    pub fn read(directory: impl AsFd, after: Option<&[u8]>, bytes_max: usize) -> Self {
        let mut page = Self::default();
        if let Err(error) = page.fill(directory, after, bytes_max) {
            page.error = Some(error);
        }
        page.sort();
        page
    }

    fn fill(
        &mut self,
        directory: impl AsFd,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<(), Errno> {
        seek(&directory, SeekFrom::Start(0))?;
        let mut buffer = vec![MaybeUninit::uninit(); GETDENTS_BYTES];
        let mut entries = RawDir::new(directory, &mut buffer);
        let mut bound: Option<Vec<u8>> = None;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let is_self = name == b"." || name == b"..";
            if is_self || after.is_some_and(|after| name <= after) {
                continue;
            }
            if bound.as_deref().is_some_and(|bound| name >= bound) {
                continue;
            }
            self.push(name, stat::kind(entry.file_type()));
            if self.bytes.len() + self.places.len() * NAME_OVERHEAD > bytes_max {
                bound = self.drop_upper_half();
            }
        }
        Ok(())
    }

    /// Names in the order given, for a directory that is not read.
    pub fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut page = Self::default();
        for name in names {
            page.push(name, None);
        }
        page.sort();
        page
    }

    fn push(&mut self, name: &[u8], kind: Option<EntryKind>) {
        // A name has at most 255 bytes and a page far less than 4 GiB: Linux and the bound say so.
        let length = u8::try_from(name.len());
        let place = u32::try_from(self.bytes.len());
        if let (Ok(length), Ok(place)) = (length, place) {
            self.places.push(place);
            self.bytes
                .extend_from_slice(&[kind.map_or(0, EntryKind::tag), length]);
            self.bytes.extend_from_slice(name);
        }
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.places
            .sort_unstable_by(|a, b| name_at(bytes, *a).cmp(name_at(bytes, *b)));
        // A directory that changes while it is read may give a name twice.
        self.places
            .dedup_by(|a, b| name_at(bytes, *a) == name_at(bytes, *b));
    }

    /// Keeps the lower half; gives the lowest name dropped.
    fn drop_upper_half(&mut self) -> Option<Vec<u8>> {
        self.sort();
        let keep = self.places.len() / 2;
        let bound = name_at(&self.bytes, *self.places.get(keep)?).to_vec();
        let mut kept = Self::default();
        for named in self.iter().take(keep) {
            kept.push(named.name, named.kind);
        }
        kept.more = true;
        *self = kept;
        Some(bound)
    }

    /// The names, in order.
    pub fn iter(&self) -> impl Iterator<Item = Named<'_>> {
        self.places.iter().map(|place| Named {
            name: name_at(&self.bytes, *place),
            kind: kind_at(&self.bytes, *place),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The name at a place in order.
    pub fn get(&self, index: usize) -> Option<Named<'_>> {
        self.places.get(index).map(|place| Named {
            name: name_at(&self.bytes, *place),
            kind: kind_at(&self.bytes, *place),
        })
    }
}

fn name_at(bytes: &[u8], place: u32) -> &[u8] {
    let place = place as usize;
    let length = bytes.get(place + 1).copied().unwrap_or(0);
    bytes
        .get(place + 2..place + 2 + usize::from(length))
        .unwrap_or_default()
}

fn kind_at(bytes: &[u8], place: u32) -> Option<EntryKind> {
    let tag = bytes.get(place as usize).copied()?;
    EntryKind::ALL.into_iter().find(|kind| kind.tag() == tag)
}

/// Names that wait, in the order they were added: a length and bytes each.
#[derive(Debug, Default)]
pub struct NameQueue {
    bytes: Vec<u8>,
    next: usize,
}

impl NameQueue {
    /// Adds a name.
    pub fn push(&mut self, name: &[u8]) {
        if let Ok(length) = u8::try_from(name.len()) {
            self.bytes.push(length);
            self.bytes.extend_from_slice(name);
        }
    }

    /// Takes the first name.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(*self.bytes.get(self.next)?);
        let start = self.next + 1;
        let name = self.bytes.get(start..start + length)?.to_vec();
        self.next = start + length;
        Some(name)
    }

    /// Bytes held.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Gives back what was over-allocated.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::{NamePage, NameQueue};
    use std::fs::File;

    #[test]
    fn a_directory_larger_than_its_bound_comes_in_order_and_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut expected = Vec::new();
        for index in 0..1_000 {
            let name = format!("{:x}", index * 7_919 % 1_009);
            File::create(dir.path().join(&name)).expect("creates");
            expected.push(name.into_bytes());
        }
        expected.sort();
        let fd = File::open(dir.path()).expect("opens");
        let (mut found, mut pages): (Vec<Vec<u8>>, _) = (Vec::new(), 0);
        loop {
            let page = NamePage::read(&fd, found.last().map(Vec::as_slice), 2_000);
            assert_eq!(page.error, None);
            found.extend(page.iter().map(|named| named.name.to_vec()));
            pages += 1;
            if !page.more {
                break;
            }
        }
        assert_eq!(found, expected);
        assert!(pages > 4, "{pages}");
    }

    #[test]
    fn a_queue_gives_what_was_put() {
        let mut queue = NameQueue::default();
        queue.push(b"a");
        queue.push(&[b'x'; 255]);
        assert_eq!(queue.pop().as_deref(), Some(&b"a"[..]));
        assert_eq!(queue.pop(), Some(vec![b'x'; 255]));
        assert_eq!(queue.pop(), None);
    }
}
