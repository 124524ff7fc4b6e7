//! What is remembered is found again by its path alone, and whatever is wrong with the file only costs reading.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use formats::ids::ChunkId;
use formats::keys::secret::IdKey;
use formats::listing::content::{Content, Extent};
use formats::listing::entry::{Entry, EntryFlags, EntryKind};
use jiff::{SignedDuration, Timestamp};

use super::{KEPT_DAYS, Memory, Remembered};
use crate::backup::sample_entry;

const HOST: &str = "web1";

fn file(name: &str, size: u64) -> Entry {
    let chunk = Extent::Chunk {
        id: ChunkId([3; 32]),
        bytes: u32::try_from(size).unwrap(),
    };
    let mut entry = sample_entry::file(name, vec![chunk]);
    // Times are remembered to the nanosecond.
    entry.stat.mtime.nanoseconds = 7;
    entry.stat.ctime.nanoseconds = 7;
    entry
}

struct Place {
    directory: tempfile::TempDir,
    now: Timestamp,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            now: "2026-11-29T12:00:00Z".parse().unwrap(),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("remembered.db")
    }

    fn later(&mut self, days: i64) {
        self.now += SignedDuration::from_hours(24 * days);
    }

    async fn memory(&self, id_key: u8, host: &str) -> Memory {
        let key = IdKey::from_bytes([id_key; 32]);
        Memory::open(&self.path(), &key, host, self.now).await
    }

    async fn open(&self) -> Remembered {
        Remembered::new(self.memory(1, HOST).await)
    }

    /// What is remembered of these paths, each by its last name.
    async fn recall(&self, remembered: &mut Remembered, paths: &[&str]) -> Vec<Option<Entry>> {
        let all: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        remembered.recall(&all).await;
        let names = paths.iter().map(|path| path.rsplit('/').next().unwrap());
        names.map(|name| remembered.next(name.as_bytes())).collect()
    }
}

#[tokio::test]
async fn entries_are_found_by_their_path_with_the_key_and_of_their_host_alone() {
    let place = Place::new();
    let mut remembered = place.open().await;
    remembered.note(b"etc", &file("hostname", 13)).await;
    remembered.note(b"", &file("top", 5)).await;
    remembered.finish().await;

    let mut again = place.open().await;
    let paths = ["etc/hostname", "etc/other", "top", "hostname"];
    let found = place.recall(&mut again, &paths).await;
    assert_eq!(
        found,
        [Some(file("hostname", 13)), None, Some(file("top", 5)), None]
    );
    for (key, host) in [(2, HOST), (1, "web2")] {
        let mut other = Remembered::new(place.memory(key, host).await);
        let found = place.recall(&mut other, &paths).await;
        assert_eq!(found, [None, None, None, None], "{key} {host}");
    }
}

#[tokio::test]
async fn the_file_has_no_name_and_no_content() {
    let place = Place::new();
    let mut remembered = place.open().await;
    let mut link = file("a-telling-name", 4);
    link.stat.kind = EntryKind::Symlink;
    link.content = Content::None;
    link.link_target = b"/a/telling/target".to_vec();
    remembered.note(b"a-telling-directory", &link).await;
    remembered.finish().await;
    drop(remembered);
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(place.directory.path()).unwrap() {
        bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    assert!(!bytes.is_empty());
    assert!(!bytes.windows(7).any(|window| window == b"telling"));
}

#[tokio::test]
async fn what_must_be_read_anew_is_forgotten() {
    let place = Place::new();
    let mut remembered = place.open().await;
    remembered.note(b"d", &file("x", 1)).await;
    remembered.note(b"d", &file("y", 1)).await;
    remembered.finish().await;
    let mut second = place.open().await;
    place.recall(&mut second, &["d/x", "d/y"]).await;
    let mut unsettled = file("x", 1);
    unsettled.flags = unsettled.flags.with(EntryFlags::UNSETTLED);
    second.note(b"d", &unsettled).await;
    let mut further = file("y", 1);
    further.content = Content::None;
    further.hard_link_to = Some(b"d/x".to_vec());
    second.note(b"d", &further).await;
    second.finish().await;
    let mut third = place.open().await;
    assert_eq!(
        place.recall(&mut third, &["d/x", "d/y"]).await,
        [None, None]
    );
}

#[tokio::test]
async fn pages_tell_the_chunks_that_they_name() {
    let place = Place::new();
    let mut remembered = place.open().await;
    let chunk = |number| Extent::Chunk {
        id: ChunkId([number; 32]),
        bytes: 5,
    };
    let page = ChunkId([9; 32]);
    let extents = [chunk(1), Extent::Hole { bytes: 4 }, chunk(2)];
    remembered.note_page(&page, &extents).await;
    remembered.finish().await;
    let memory = place.memory(1, HOST).await;
    let named = memory.chunks_of_page(&page).await;
    assert_eq!(named, Some(vec![ChunkId([1; 32]), ChunkId([2; 32])]));
    assert_eq!(memory.chunks_of_page(&ChunkId([8; 32])).await, None);
}

#[tokio::test]
async fn what_is_of_use_stays_and_what_is_not_goes() {
    let mut place = Place::new();
    let mut remembered = place.open().await;
    remembered.note(b"", &file("kept", 1)).await;
    remembered.note(b"", &file("gone", 1)).await;
    remembered.finish().await;
    for _ in 0..3 {
        place.later(KEPT_DAYS - 10);
        let mut run = place.open().await;
        place.recall(&mut run, &["kept"]).await;
        run.note(b"", &file("kept", 1)).await;
        run.finish().await;
    }
    let mut last = place.open().await;
    let found = place.recall(&mut last, &["kept", "gone"]).await;
    assert_eq!(found, [Some(file("kept", 1)), None]);
}

#[tokio::test]
async fn a_damaged_file_is_as_if_it_were_empty() {
    let place = Place::new();
    std::fs::write(place.path(), "no database").unwrap();
    let mut remembered = place.open().await;
    assert_eq!(place.recall(&mut remembered, &["x"]).await, [None]);
    remembered.note(b"", &file("x", 1)).await;
    remembered.finish().await;
    assert_eq!(std::fs::read(place.path()).unwrap(), b"no database");
}
