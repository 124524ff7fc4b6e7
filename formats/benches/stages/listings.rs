//! Listings: entries into pages and back, the check of their order, and the walk beside the parent's listing.

use std::cmp::Ordering;
use std::slice;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use formats::ids::ChunkId;
use formats::keys::secret::ChunkingKey;
use formats::listing::content::{Content, Extent};
use formats::listing::entry::{Entry, EntryFlags, EntryKind, Stat, Timestamp};
use formats::listing::order::{OrderChecker, compare_places};
use formats::listing::page::{Page, PageBuilder, PageReader};

/// Directories below the root; each has one file less, so that a listing has the square of it in entries.
const DIRECTORIES: u32 = 100;
const ENTRIES: usize = 10_000;
/// One entry in so many is changed, and one is only in the one listing or the other.
const CHANGED_ONE_IN: u64 = 100;

/// An entry and its directory.
type Listed = (Vec<u8>, Entry);

/// Entries into pages, cut where a run cuts them.
#[divan::bench]
fn encode(bencher: Bencher) {
    let listing = listing();
    bencher
        .counter(ItemsCount::new(listing.len()))
        .counter(BytesCount::new(page_bytes(&pages(&listing))))
        .bench_local(|| pages(&listing));
}

/// All pages back into entries.
#[divan::bench]
fn decode(bencher: Bencher) {
    let pages = pages(&listing());
    bencher
        .counter(ItemsCount::new(ENTRIES))
        .counter(BytesCount::new(page_bytes(&pages)))
        .bench_local(|| {
            let mut parent = Parent::new(&pages);
            let mut files = 0;
            while let Some(entry) = parent.next_entry() {
                files += u64::from(entry.stat.kind == EntryKind::File);
            }
            files
        });
}

/// The check that what a host sends keeps the listing order.
#[divan::bench]
fn check_order(bencher: Bencher) {
    let listing = listing();
    bencher
        .counter(ItemsCount::new(listing.len()))
        .bench_local(|| {
            let mut checker = OrderChecker::new();
            for (directory, entry) in &listing {
                checker.block(directory).expect("in order");
                checker
                    .entry(&entry.name, entry.stat.kind)
                    .expect("in order");
            }
            checker
        });
}

/// The parent's pages, decoded as they are reached, beside what a host has now; counts the unchanged.
#[divan::bench]
fn merge(bencher: Bencher) {
    let (before, now) = two_listings();
    let pages = pages(&before);
    bencher.counter(ItemsCount::new(now.len())).bench_local(|| {
        let mut parent = Parent::new(&pages);
        let unchanged = |(directory, found): &&Listed| {
            parent
                .entry_at(directory, &found.name)
                .is_some_and(|known| known.stat == found.stat)
        };
        now.iter().filter(unchanged).count()
    });
}

/// The parent's listing, one entry ahead, as the coordinator reads it beside the walk.
struct Parent<'a> {
    pages: slice::Iter<'a, Page>,
    reader: Option<PageReader<'a>>,
    ahead: Option<Entry>,
}

impl<'a> Parent<'a> {
    fn new(pages: &'a [Page]) -> Self {
        Self {
            pages: pages.iter(),
            reader: None,
            ahead: None,
        }
    }

    fn next_entry(&mut self) -> Option<Entry> {
        loop {
            if let Some(reader) = &mut self.reader
                && let Some(entry) = reader.next_entry().expect("a good page")
            {
                return Some(entry);
            }
            let page = self.pages.next()?;
            self.reader = Some(PageReader::new(&page.plain).expect("a good page"));
        }
    }

    /// The entry at a place; places are asked for in listing order.
    fn entry_at(&mut self, directory: &[u8], name: &[u8]) -> Option<Entry> {
        loop {
            if self.ahead.is_none() {
                self.ahead = self.next_entry();
            }
            let ahead = self.ahead.as_ref()?;
            let at = self.reader.as_ref().map(PageReader::directory);
            let at = (at.unwrap_or_default(), ahead.name.as_slice());
            match compare_places(at, (directory, name)) {
                Ordering::Less => self.ahead = None,
                Ordering::Equal => return self.ahead.take(),
                Ordering::Greater => return None,
            }
        }
    }
}

fn pages(listing: &[Listed]) -> Vec<Page> {
    let mut builder = PageBuilder::new(&ChunkingKey::from_bytes([1; 32]));
    let mut pages: Vec<Page> = listing
        .iter()
        .filter_map(|(directory, entry)| builder.push(directory, entry))
        .collect();
    pages.extend(builder.finish());
    pages
}

fn page_bytes(pages: &[Page]) -> usize {
    pages.iter().map(|page| page.plain.len()).sum()
}

/// The same tree twice, with files that came, went and changed in between.
fn two_listings() -> (Vec<Listed>, Vec<Listed>) {
    let kept = |entry: &Entry, rest: u64| {
        entry.stat.kind == EntryKind::Directory || entry.stat.inode % CHANGED_ONE_IN != rest
    };
    let (mut before, mut now) = (listing(), listing());
    before.retain(|(_, entry)| kept(entry, 10));
    now.retain(|(_, entry)| kept(entry, 20));
    for (_, entry) in &mut now {
        if !kept(entry, 30) {
            entry.stat.mtime.seconds += 1;
        }
    }
    (before, now)
}

/// A synthetic listing: directories below the root, small files in each.
fn listing() -> Vec<Listed> {
    let directory = |number: u32| format!("directory-{number:04}").into_bytes();
    let mut inode = 0;
    let mut place = |below: Vec<u8>, name: Vec<u8>, kind| {
        inode += 1;
        (below, entry(name, kind, inode))
    };
    let mut listing: Vec<Listed> = (0..DIRECTORIES)
        .map(|number| place(Vec::new(), directory(number), EntryKind::Directory))
        .collect();
    for number in 0..DIRECTORIES {
        for file in 1..DIRECTORIES {
            let name = format!("a-file-{file:06}.txt").into_bytes();
            listing.push(place(directory(number), name, EntryKind::File));
        }
    }
    assert_eq!(listing.len(), ENTRIES);
    listing
}

fn entry(name: Vec<u8>, kind: EntryKind, inode: u64) -> Entry {
    let time = Timestamp {
        seconds: 1_790_000_000,
        nanoseconds: 123_456_789,
    };
    let bytes = 1_000 + u32::try_from(inode).expect("few entries");
    let is_file = kind == EntryKind::File;
    Entry {
        name,
        stat: Stat {
            kind,
            mode: 0o644,
            uid: 1_000,
            gid: 1_000,
            size: if is_file { bytes.into() } else { 0 },
            mtime: time,
            ctime: time,
            inode,
            links: 1,
            device: (0, 0),
        },
        flags: EntryFlags::default(),
        xattrs: Vec::new(),
        link_target: Vec::new(),
        hard_link_to: None,
        content: if is_file {
            let id = ChunkId(blake3::hash(&inode.to_le_bytes()).into());
            Content::Extents(vec![Extent::Chunk { id, bytes }])
        } else {
            Content::None
        },
    }
}
