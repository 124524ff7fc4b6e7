//! Walks a listing forward, entry by entry, reading pages ahead; jumps to any place by one seek. Order is
//! checked within and between pages. Holds a few pages at a time, whatever the listing's size.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use formats::ids::ChunkId;
use formats::listing::entry::Entry;
use formats::listing::order::compare_places;
use formats::listing::page_index::PageRef;
use tokio_util::task::AbortOnDropHandle;

use crate::snapshot::listing::{Listing, ListingError};
use crate::snapshot::pages::{DecodedPage, PageSource, PlacedEntry, decode_page, page_of, place};

/// The most pages read by one request.
const GROUP_PAGES_MAX: usize = 256;
/// The most bytes of pages read by one request.
const GROUP_BYTES_MAX: u64 = 4 << 20;
/// Requests under way while entries are handed out.
const GROUPS_AHEAD: usize = 2;

/// A place in a listing that moves forward. Made for comparing another ordered stream with it in one pass.
#[derive(Debug)]
pub struct ListingCursor {
    listing: Listing,
    current: DecodedPage,
    read: VecDeque<DecodedPage>,
    ahead: VecDeque<Group>,
    /// The first page not yet asked for.
    next_page: usize,
    /// How many pages the next request takes: few after a seek, more while it goes straight on.
    group_pages: usize,
    /// The directory of the last sought block.
    block: Arc<[u8]>,
    /// Whether the entry just before the next one is known; not so after a jump.
    has_last: bool,
    last_directory: Arc<[u8]>,
    last_name: Vec<u8>,
}

#[derive(Debug)]
struct Group {
    pages: std::ops::Range<usize>,
    task: AbortOnDropHandle<Result<Vec<DecodedPage>, ListingError>>,
}

impl ListingCursor {
    pub(crate) fn new(listing: Listing) -> Self {
        Self {
            listing,
            current: no_page(0),
            read: VecDeque::new(),
            ahead: VecDeque::new(),
            next_page: 0,
            group_pages: 1,
            block: Arc::from(&[][..]),
            has_last: false,
            last_directory: Arc::from(&[][..]),
            last_name: Vec::new(),
        }
    }

    /// The next entry, with its directory; `None` after the last.
    pub async fn next_entry(&mut self) -> Result<Option<PlacedEntry>, ListingError> {
        if !self.fill().await? {
            return Ok(None);
        }
        Ok(self.take())
    }

    /// The next entry, without moving past it.
    pub async fn peek(&mut self) -> Result<Option<&PlacedEntry>, ListingError> {
        self.fill().await?;
        Ok(self.current.entries.as_slice().first())
    }

    /// Moves to the first entry of `directory`, or of what would come after it; whether there is one in it.
    /// Cheapest when blocks are sought in listing order, but any order works.
    pub async fn seek_block(&mut self, directory: &[u8]) -> Result<bool, ListingError> {
        self.seek(directory, &[]).await?;
        if *self.block != *directory {
            self.block = Arc::from(directory);
        }
        let first = self.peek().await?;
        Ok(first.is_some_and(|(found, _)| **found == *directory))
    }

    /// The next entry of the block last sought; `None` at its end, without moving past it.
    pub async fn next_in_block(&mut self) -> Result<Option<Entry>, ListingError> {
        let block = Arc::clone(&self.block);
        match self.peek().await? {
            Some((directory, _)) if **directory == *block => {
                Ok(self.take().map(|(_, entry)| entry))
            }
            _ => Ok(None),
        }
    }

    /// The entry of this name in the block last sought, passing over the names before it. Names must be asked
    /// for in byte order.
    pub async fn find_in_block(&mut self, name: &[u8]) -> Result<Option<Entry>, ListingError> {
        let block = Arc::clone(&self.block);
        self.seek(&block, name).await?;
        match self.peek().await? {
            Some((directory, entry)) if **directory == *block && entry.name == name => {
                Ok(self.take().map(|(_, entry)| entry))
            }
            _ => Ok(None),
        }
    }

    /// Moves to the first entry that is not before this place.
    pub async fn seek(&mut self, directory: &[u8], name: &[u8]) -> Result<(), ListingError> {
        let target = (directory, name);
        let after_last = self.has_last
            && compare_places((&self.last_directory, &self.last_name), target) == Ordering::Less;
        let first = self.current.entries.as_slice().first();
        let not_past =
            first.is_none_or(|first| compare_places(place(first), target) == Ordering::Less);
        if after_last && !not_past {
            return Ok(());
        }
        // Without a last entry the page is at its first one, so whatever it holds is still to come.
        let ahead = after_last || (!self.has_last && first.is_some());
        let wanted = page_of(self.listing.pages(), target);
        if !ahead || wanted != self.current.number {
            self.go_to_page(wanted).await?;
        }
        let passed = self
            .current
            .entries
            .as_slice()
            .partition_point(|entry| compare_places(place(entry), target) == Ordering::Less);
        if passed > 0
            && let Some(skipped) = self.current.entries.nth(passed - 1)
        {
            self.remember(&skipped);
        }
        Ok(())
    }

    fn take(&mut self) -> Option<PlacedEntry> {
        let taken = self.current.entries.next()?;
        self.remember(&taken);
        Some(taken)
    }

    fn remember(&mut self, passed: &PlacedEntry) {
        self.has_last = true;
        self.last_directory = Arc::clone(&passed.0);
        self.last_name.clear();
        self.last_name.extend_from_slice(&passed.1.name);
    }

    /// Makes `number` the current page, from its first entry on.
    async fn go_to_page(&mut self, number: usize) -> Result<(), ListingError> {
        self.current = no_page(number);
        self.has_last = false;
        while self.read.front().is_some_and(|page| page.number < number) {
            self.read.pop_front();
        }
        if self.read.front().is_none_or(|page| page.number != number) {
            self.read.clear();
            while self
                .ahead
                .front()
                .is_some_and(|group| group.pages.end <= number)
            {
                self.ahead.pop_front();
            }
            let under_way = self
                .ahead
                .front()
                .is_some_and(|group| group.pages.contains(&number));
            if !under_way {
                self.ahead.clear();
                self.next_page = number;
                self.group_pages = 1;
            }
        }
        loop {
            if !self.fill().await? || self.current.number >= number {
                return Ok(());
            }
            self.current = no_page(self.current.number);
        }
    }

    /// Makes sure that the current page has an entry; false at the listing's end.
    async fn fill(&mut self) -> Result<bool, ListingError> {
        loop {
            if !self.current.entries.as_slice().is_empty() {
                return Ok(true);
            }
            if let Some(page) = self.read.pop_front() {
                self.current = page;
                continue;
            }
            self.ask_ahead();
            let Some(group) = self.ahead.pop_front() else {
                return Ok(false);
            };
            let pages = group.task.await.map_err(|_| ListingError::Stopped)??;
            self.read.extend(pages);
            self.ask_ahead();
        }
    }

    fn ask_ahead(&mut self) {
        let pages_total = self.listing.pages().len();
        while self.ahead.len() < GROUPS_AHEAD && self.next_page < pages_total {
            // The first request after a seek comes alone: often one page is all that is wanted.
            if self.group_pages == 1 && !self.ahead.is_empty() {
                break;
            }
            let begin = self.next_page;
            let end = group_end(self.listing.pages(), begin, self.group_pages);
            let task = tokio::spawn(read_group(
                self.listing.page_source(),
                self.listing.table(),
                begin..end,
            ));
            self.ahead.push_back(Group {
                pages: begin..end,
                task: AbortOnDropHandle::new(task),
            });
            self.next_page = end;
            self.group_pages = (self.group_pages * 2).min(GROUP_PAGES_MAX);
        }
    }
}

fn no_page(number: usize) -> DecodedPage {
    DecodedPage {
        number,
        entries: Vec::new().into_iter(),
    }
}

fn group_end(pages: &[PageRef], begin: usize, pages_max: usize) -> usize {
    let mut bytes = 0u64;
    let fitting = pages
        .iter()
        .skip(begin)
        .take(pages_max)
        .take_while(|page| {
            bytes += u64::from(page.bytes);
            bytes <= GROUP_BYTES_MAX
        })
        .count();
    begin + fitting.max(1)
}

async fn read_group(
    pages: Arc<dyn PageSource>,
    table: Arc<[PageRef]>,
    numbers: std::ops::Range<usize>,
) -> Result<Vec<DecodedPage>, ListingError> {
    let ids: Vec<ChunkId> = table
        .get(numbers.clone())
        .unwrap_or_default()
        .iter()
        .map(|page| page.id)
        .collect();
    let plains = pages.read_pages(ids).await?;
    let decoded = tokio::task::spawn_blocking(move || {
        numbers
            .zip(plains)
            .map(|(number, plain)| decode_page(&table, number, &plain))
            .collect()
    });
    decoded.await.map_err(|_| ListingError::Stopped)?
}
