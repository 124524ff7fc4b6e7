//! Reading real files while they change.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use formats::chunk::Chunker;
use formats::keys::secret::ChunkingKey;
use formats::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};
use formats::listing::entry::{EntryFlags, Stat, Timestamp};
use formats::wire::control::content::ReadOutcome;
use formats::wire::control::problem::ProblemKind;
use rustix::fs::{AtFlags, statat};

use crate::limits::Limit;
use crate::read::content::{Ending, Pieces, Window};
use crate::read::entry::{Found, read_other};
use crate::read::file::{FilePieces, FileReader, is_recent};
use crate::stat;
use crate::walk::directory::Directory;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Data(Vec<u8>),
    Hole(u64),
}

/// Takes everything; lets a test act while a file is read.
struct Taken<'a> {
    got: Vec<Got>,
    restarts: usize,
    can_restart: bool,
    on_read: Box<dyn FnMut(u64) + 'a>,
}

impl Pieces for Taken<'_> {
    fn chunk(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        assert!((1..=CHUNK_BYTES_MAX as usize).contains(&bytes.len()));
        self.got.push(Got::Data(bytes.to_vec()));
        Ok(())
    }

    fn hole(&mut self, bytes: u64) -> Result<(), Ending> {
        self.got.push(Got::Hole(bytes));
        Ok(())
    }

    fn read_up_to(&mut self, offset: u64) {
        (self.on_read)(offset);
    }
}

impl FilePieces for Taken<'_> {
    fn restart(&mut self) -> Result<bool, Ending> {
        self.restarts += 1;
        self.got.clear();
        Ok(self.can_restart)
    }
}

impl Taken<'_> {
    fn covered(&self) -> u64 {
        let bytes = |got: &Got| match got {
            Got::Data(bytes) => bytes.len() as u64,
            Got::Hole(bytes) => *bytes,
        };
        self.got.iter().map(bytes).sum()
    }

    fn data(&self) -> Vec<u8> {
        let mut data = Vec::new();
        for got in &self.got {
            match got {
                Got::Data(bytes) => data.extend_from_slice(bytes),
                Got::Hole(bytes) => data.resize(data.len() + *bytes as usize, 0),
            }
        }
        data
    }
}

struct Place {
    dir: tempfile::TempDir,
    directory: Directory,
}

impl Place {
    fn new() -> Self {
        // Beside the build, not in /tmp: holes and the page cache are a disk's.
        let program = std::env::current_exe().expect("this test");
        let build = program.parent().expect("it is somewhere");
        let dir = tempfile::tempdir_in(build).expect("a directory");
        let permit = Limit::new(1).acquire();
        let path = dir.path().to_str().expect("text").as_bytes();
        let directory = Directory::open_root(path, permit).expect("opens");
        Self { dir, directory }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("file")
    }

    fn walked(&self) -> Stat {
        let found = statat(&self.directory, "file", AtFlags::SYMLINK_NOFOLLOW).expect("there");
        stat::from_kernel(&found).expect("known")
    }

    fn read<'a>(&self, walked: &Stat, on_read: impl FnMut(u64) + 'a) -> (Found, Taken<'a>) {
        let mut taken = Taken {
            got: Vec::new(),
            restarts: 0,
            can_restart: true,
            on_read: Box::new(on_read),
        };
        (self.read_into(walked, &mut taken), taken)
    }

    fn read_into(&self, walked: &Stat, taken: &mut Taken<'_>) -> Found {
        let mut reader = FileReader {
            chunker: Arc::new(Chunker::new(&ChunkingKey::from_bytes([1; 32]))),
            window: Window::default(),
        };
        reader
            .read(&self.directory, b"file", walked, taken)
            .expect("nothing ends it")
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

fn append(path: &Path, bytes: &[u8]) {
    let file = File::options().write(true).open(path).expect("opens");
    let end = file.metadata().expect("there").len();
    file.write_all_at(bytes, end).expect("writes");
}

#[test]
fn a_file_is_cut_into_chunks_within_bounds() {
    let place = Place::new();
    for bytes in [0, 1, 4_096, 131_072, 131_073, 2_000_000, 9_000_001] {
        std::fs::write(place.path(), noise(bytes)).expect("writes");
        let walked = place.walked();
        let (found, taken) = place.read(&walked, |_| {});
        assert_eq!(found.outcome, ReadOutcome::Read);
        assert_eq!((found.stat.size, taken.restarts), (bytes as u64, 0));
        assert!(taken.data() == noise(bytes));
        for got in taken.got.iter().rev().skip(1) {
            assert!(matches!(got, Got::Data(data) if data.len() >= CHUNK_BYTES_MIN as usize));
        }
    }
}

#[test]
fn the_chunker_begins_anew_after_a_hole() {
    let place = Place::new();
    let data = noise(3_000_000);
    std::fs::write(place.path(), &data).expect("writes");
    let alone = place.read(&place.walked(), |_| {}).1.got;
    let file = File::create(place.path()).expect("creates");
    file.write_all_at(b"front", 0).expect("writes");
    file.write_all_at(&data, 64 << 20).expect("writes");
    file.set_len(1 << 40).expect("grows");
    let (found, taken) = place.read(&place.walked(), |_| {});
    assert_eq!(taken.covered(), 1 << 40);
    assert_eq!(found.stat.size, 1 << 40);
    let holes = taken.got.iter().filter(|got| matches!(got, Got::Hole(_)));
    assert_eq!(holes.count(), 2, "this filesystem tells holes");
    let second = taken.got.iter().position(|got| matches!(got, Got::Hole(_)));
    let after = second.expect("there is one") + 1;
    // The last chunk may reach to the end of a block: zeros follow.
    assert_eq!(
        taken.got[after..][..alone.len() - 1],
        alone[..alone.len() - 1]
    );
}

#[test]
fn a_file_that_changes_once_is_read_once_more() {
    let place = Place::new();
    std::fs::write(place.path(), noise(1_000_000)).expect("writes");
    let walked = place.walked();
    let (path, mut changed) = (place.path(), false);
    let (found, taken) = place.read(&walked, |_| {
        if !std::mem::replace(&mut changed, true) {
            append(&path, b"more");
        }
    });
    assert_eq!((found.outcome, taken.restarts), (ReadOutcome::Read, 1));
    assert!(!found.flags.contains(EntryFlags::CHANGED_WHILE_READ));
    assert!(found.flags.contains(EntryFlags::UNSETTLED));
    assert_eq!(found.stat.size, 1_000_004);
    assert!(taken.data().ends_with(b"more"));
    assert_eq!(found.problems, []);
}

#[test]
fn a_file_that_keeps_changing_is_kept_with_a_problem() {
    let place = Place::new();
    for grows in [true, false] {
        std::fs::write(place.path(), noise(3_000_000)).expect("writes");
        let walked = place.walked();
        let path = place.path();
        let (found, taken) = place.read(&walked, |_| {
            if grows {
                append(&path, b"more");
            } else {
                let file = File::options().write(true).open(&path).expect("opens");
                let bytes = file.metadata().expect("there").len();
                file.set_len(bytes.saturating_sub(400_000))
                    .expect("shrinks");
            }
        });
        assert_eq!((found.outcome, taken.restarts), (ReadOutcome::Read, 1));
        assert!(found.flags.contains(EntryFlags::CHANGED_WHILE_READ));
        assert_eq!(found.problems[0].0, ProblemKind::Changed);
        assert_eq!(
            found.stat.size,
            taken.covered(),
            "what is said is what is there"
        );
        assert!(grows || found.stat.size < 2_700_000);
    }
}

#[test]
fn what_is_sent_already_is_not_read_again() {
    let place = Place::new();
    std::fs::write(place.path(), noise(1_000)).expect("writes");
    let path = place.path();
    let mut taken = Taken {
        got: Vec::new(),
        restarts: 0,
        can_restart: false,
        on_read: Box::new(move |_| append(&path, b"more")),
    };
    let found = place.read_into(&place.walked(), &mut taken);
    assert!(found.flags.contains(EntryFlags::CHANGED_WHILE_READ));
    assert_eq!(taken.restarts, 1);
}

#[test]
fn what_took_the_files_place_is_neither_followed_nor_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let place = Place::new();
    std::fs::write(place.path(), b"a file").expect("writes");
    let walked = place.walked();
    let mode = Mode::from_raw_mode(0o600);
    let swaps: [&dyn Fn(); 5] = [
        &|| {},
        &|| std::os::unix::fs::symlink("/etc/passwd", place.path()).expect("links"),
        &|| mknodat(CWD, place.path(), FileType::Fifo, mode, 0).expect("makes it"),
        &|| mknodat(CWD, place.path(), FileType::Socket, mode, 0).expect("makes it"),
        &|| std::fs::create_dir(place.path()).expect("makes it"),
    ];
    for swap in swaps {
        std::fs::remove_file(place.path()).ok();
        swap();
        let (found, taken) = place.read(&walked, |_| {});
        assert_eq!(found.outcome, ReadOutcome::Vanished);
        assert_eq!(found.problems[0].0, ProblemKind::Vanished);
        assert_eq!(taken.got, []);
    }
}

#[test]
fn a_file_put_in_place_of_another_is_read_unless_links_may_mean_the_old_one() {
    let place = Place::new();
    std::fs::write(place.path(), b"old").expect("writes");
    let mut walked = place.walked();
    let new = place.dir.path().join("new");
    std::fs::write(&new, b"the new one").expect("writes");
    std::fs::rename(new, place.path()).expect("renames");
    let (found, taken) = place.read(&walked, |_| {});
    assert_eq!(found.outcome, ReadOutcome::Read);
    assert_eq!(taken.data(), b"the new one");
    assert_eq!(found.stat.inode, place.walked().inode);
    walked.links = 2;
    let (found, _) = place.read(&walked, |_| {});
    assert_eq!(found.outcome, ReadOutcome::Vanished);
}

#[test]
fn recent_and_future_times_are_not_settled() {
    let place = Place::new();
    std::fs::write(place.path(), b"").expect("writes");
    let at = |seconds, nanoseconds| Timestamp {
        seconds,
        nanoseconds,
    };
    let now = at(1_000, 500);
    let settled = Stat {
        mtime: at(998, 500),
        ctime: at(998, 500),
        ..place.walked()
    };
    assert!(!is_recent(&settled, now));
    for recent in [at(998, 501), at(1_000, 500), at(9_000_000_000, 0)] {
        let (mtime, ctime) = (settled.mtime, settled.ctime);
        assert!(is_recent(
            &Stat {
                mtime: recent,
                ctime,
                ..settled
            },
            now
        ));
        assert!(is_recent(
            &Stat {
                mtime,
                ctime: recent,
                ..settled
            },
            now
        ));
    }
    assert!(!is_recent(
        &Stat {
            mtime: at(-5_000_000_000, 0),
            ..settled
        },
        now
    ));
}

#[test]
fn links_are_read_as_they_are_and_swaps_are_noticed() {
    let place = Place::new();
    std::os::unix::fs::symlink("../no/where", place.path()).expect("links");
    let walked = place.walked();
    let found = read_other(&place.directory, b"file", &walked);
    assert_eq!(found.link_target, b"../no/where");
    std::fs::remove_file(place.path()).expect("removes");
    let found = read_other(&place.directory, b"file", &walked);
    assert_eq!(found.outcome, ReadOutcome::Vanished);
    std::fs::write(place.path(), b"a file now").expect("writes");
    let found = read_other(&place.directory, b"file", &walked);
    assert_eq!(found.outcome, ReadOutcome::Vanished);
}

#[test]
fn attributes_of_every_size_are_kept_and_sorted() {
    use rustix::fs::{XattrFlags, setxattr};
    let place = Place::new();
    std::fs::write(place.path(), b"x").expect("writes");
    let values = [("user.z", 0), ("user.a", 3_000), ("user.m", 300)];
    for (name, bytes) in values {
        let set = setxattr(place.path(), name, &noise(bytes), XattrFlags::empty());
        if set.is_err() {
            println!("not run: no attributes on this filesystem");
            return;
        }
    }
    let walked = place.walked();
    let (found, _) = place.read(&walked, |_| {});
    let names: Vec<&[u8]> = found.xattrs.iter().map(|x| x.name.as_slice()).collect();
    assert_eq!(names, [&b"user.a"[..], b"user.m", b"user.z"]);
    assert!(found.xattrs[0].value == noise(3_000) && found.xattrs[2].value.is_empty());
    // The same without opening it.
    let by_name = read_other(&place.directory, b"file", &walked);
    assert_eq!(by_name.xattrs, found.xattrs);
}

/// Whether the page at an offset is in memory.
fn is_cached(file: &File, offset: u64) -> Option<bool> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let mut byte = [0];
    let mut buffers = [std::io::IoSliceMut::new(&mut byte)];
    match preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(_) => None,
    }
}

#[test]
fn the_page_cache_is_left_as_it_was() {
    use rustix::fs::{Advice, fadvise};
    let place = Place::new();
    std::fs::write(place.path(), noise(40 << 20)).expect("writes");
    let file = File::open(place.path()).expect("opens");
    let probe = 17 << 20;
    for was_cached in [true, false] {
        if !was_cached {
            file.sync_all().expect("syncs");
            fadvise(&file, 0, None, Advice::DontNeed).expect("takes a hint");
            fadvise(&file, 0, None, Advice::Random).expect("takes a hint");
            if is_cached(&file, 39 << 20) != Some(false) {
                println!("not run: this filesystem keeps everything, or does not tell");
                return;
            }
        }
        let (found, _) = place.read(&place.walked(), |_| {});
        assert_eq!(found.outcome, ReadOutcome::Read);
        assert_eq!(is_cached(&file, probe), Some(was_cached));
    }
}
