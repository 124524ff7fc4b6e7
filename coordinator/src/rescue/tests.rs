//! Packs made in memory and put on a shelf: which entry of a path wins, what becomes of hard links and lost
//! directories, and that a pack of lies does not hide what another holds.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use formats::chunk::ChunkKind;
use formats::ids::{ChunkId, RunId};
use formats::keys::secret::MasterKey;
use formats::listing::content::Content;
use formats::listing::entry::{Entry, EntryFlags, EntryKind};
use formats::pack::assemble::PackAssembler;
use formats::pack::table::TableChunk;
use formats::seal::frame::FrameSealer;
use formats::seal::run_header::{Purpose, RunContext, RunHeader};
use formats::wire::control::names::Names;

use crate::keyring::Keyring;
use crate::rescue::error::RescueError;
use crate::rescue::run::{RescueRequest, Rescued, rescue};
use crate::rescue::shelf::Shelf;
use crate::restore::options::RestoreOptions;
use crate::restore::run::{RestoreContext, restore};
use crate::restore::summary::{ProblemKind, RestoreSummary};
use crate::snapshot::tree_builder::{RepositoryBuilder, entry, keys};

/// A directory of packs, and one to restore into.
struct World {
    directory: tempfile::TempDir,
    packs: usize,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("packs")).unwrap();
        Self {
            directory,
            packs: 0,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a snapshot's packs on the shelf.
    fn store(&mut self, builder: RepositoryBuilder) {
        let built = builder.build();
        for (pack, _) in &built.packs {
            self.store_bytes(&built.repository.pack(*pack).unwrap());
        }
    }

    /// Files are found in no order that means anything; names only keep them apart.
    fn store_bytes(&mut self, bytes: &[u8]) {
        self.packs += 1;
        let name = blake3::hash(&self.packs.to_le_bytes()).to_hex();
        fs::write(self.path("packs").join(&name[..12]), bytes).unwrap();
    }

    async fn rescue(&self, context: &RestoreContext) -> Result<Rescued, RescueError> {
        let shelf = Shelf::folder(&self.path("packs")).unwrap();
        self.rescue_from(&shelf, [1; 32], context).await
    }

    async fn rescue_from(
        &self,
        shelf: &Shelf,
        master: [u8; 32],
        context: &RestoreContext,
    ) -> Result<Rescued, RescueError> {
        let master = MasterKey::from_bytes(master);
        let keyring = Keyring::from_master(&master, "recovery".parse().unwrap());
        let request = RescueRequest {
            shelf,
            keyring: &keyring,
            repository: None,
            epoch: 1,
            work: self.directory.path(),
        };
        rescue(&request, &context.tally).await
    }

    async fn restore(&self) -> RestoreSummary {
        let context = RestoreContext::default();
        let rescued = self.rescue(&context).await.unwrap();
        self.restore_rescued(&rescued, context).await
    }

    async fn restore_rescued(&self, rescued: &Rescued, context: RestoreContext) -> RestoreSummary {
        let options = RestoreOptions {
            sync: false,
            ..RestoreOptions::everything_to(self.path("out"), Names::default())
        };
        let listing = rescued.listing.clone();
        restore(listing, options, context).await.unwrap()
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path("out").join(path)).ok()
    }
}

/// Dates the entry that was added last in a directory.
fn date(builder: &mut RepositoryBuilder, directory: &str, ctime: i64) {
    let key: Vec<Vec<u8>> = directory
        .split('/')
        .filter(|name| !name.is_empty())
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let block = builder.blocks.get_mut(&key).unwrap();
    block.last_mut().unwrap().stat.ctime.seconds = ctime;
}

fn dated_file(builder: &mut RepositoryBuilder, path: &str, content: &str, ctime: i64) {
    builder.file(path, content.as_bytes());
    date(
        builder,
        path.rsplit_once('/').map_or("", |(parent, _)| parent),
        ctime,
    );
}

/// The builder gives each entry an inode of its own; names of one file have one.
fn one_inode(builder: &mut RepositoryBuilder) {
    for block in builder.blocks.values_mut() {
        for entry in block {
            entry.stat.inode = 7;
        }
    }
}

fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(path).unwrap().ino()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_entry_of_each_path_wins_in_whatever_order_pages_are_read() {
    for newest_first in [false, true] {
        let mut world = World::new();
        let mut builders = Vec::new();
        for (content, ctime) in [("old", 10), ("new", 20)] {
            let mut builder = RepositoryBuilder::new();
            builder.directory("d", 0o755);
            dated_file(&mut builder, "d/both", content, ctime);
            dated_file(&mut builder, &format!("d/only-{content}"), content, 1);
            builders.push(builder);
        }
        if newest_first {
            builders.reverse();
        }
        for builder in builders {
            world.store(builder);
        }
        let summary = world.restore().await;
        assert_eq!(summary.problem_count, 0, "{:?}", summary.problems);
        assert_eq!(world.text("d/both").unwrap(), "new");
        assert_eq!(world.text("d/only-old").unwrap(), "old");
        assert_eq!(world.text("d/only-new").unwrap(), "new");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_content_is_better_than_a_newer_entry_that_could_not_be_read() {
    let mut world = World::new();
    let mut old = RepositoryBuilder::new();
    dated_file(&mut old, "file", "read while it could be", 10);
    world.store(old);
    let mut new = RepositoryBuilder::new();
    let mut unread = entry(b"file", EntryKind::File, 0o644);
    unread.content = Content::Missing;
    unread.flags = EntryFlags::UNREADABLE;
    unread.stat.ctime.seconds = 20;
    new.add("", unread);
    world.store(new);
    let summary = world.restore().await;
    assert_eq!(summary.problem_count, 0, "{:?}", summary.problems);
    assert_eq!(world.text("file").unwrap(), "read while it could be");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_a_file_stay_together_when_its_first_name_is_another_file_since() {
    let mut world = World::new();
    let mut old = RepositoryBuilder::new();
    dated_file(&mut old, "a", "has three names", 10);
    old.hard_link("b", "a").hard_link("c", "a");
    one_inode(&mut old);
    world.store(old);
    let mut new = RepositoryBuilder::new();
    dated_file(&mut new, "a", "a file of its own", 20);
    world.store(new);
    let summary = world.restore().await;
    assert_eq!(summary.problem_count, 0, "{:?}", summary.problems);
    assert_eq!(world.text("a").unwrap(), "a file of its own");
    assert_eq!(world.text("b").unwrap(), "has three names");
    let out = world.path("out");
    assert_eq!(inode(&out.join("b")), inode(&out.join("c")));
    assert_ne!(inode(&out.join("a")), inode(&out.join("b")));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_stay_together_when_the_inode_changed_between_them_and_apart_when_it_is_another_file()
{
    let mut world = World::new();
    let mut builder = RepositoryBuilder::new();
    dated_file(&mut builder, "a", "same", 10);
    builder.hard_link("b", "a");
    date(&mut builder, "", 11);
    builder.hard_link("z", "a");
    one_inode(&mut builder);
    let block = builder.blocks.get_mut(&Vec::new()).unwrap();
    // As if the number of a file that is gone had been given to another one.
    let stat = &mut block.last_mut().unwrap().stat;
    stat.mtime.seconds -= 1;
    stat.ctime.seconds = 1;
    world.store(builder);
    let summary = world.restore().await;
    let out = world.path("out");
    assert_eq!(inode(&out.join("a")), inode(&out.join("b")));
    assert!(!out.join("z").exists());
    assert_eq!(summary.problem_count, 1, "{:?}", summary.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_name_without_its_first_is_named_and_a_directory_without_an_entry_is_made() {
    let mut world = World::new();
    let mut builder = RepositoryBuilder::new();
    let mut orphan = entry(b"orphan", EntryKind::File, 0o644);
    orphan.hard_link_to = Some(b"elsewhere/first".to_vec());
    orphan.content = Content::None;
    orphan.stat.links = 2;
    builder.add("a/b", orphan);
    builder.file("a/b/file", b"kept");
    builder.file("a/x", b"kept too");
    world.store(builder);
    let summary = world.restore().await;
    assert_eq!(world.text("a/b/file").unwrap(), "kept");
    assert_eq!(world.text("a/x").unwrap(), "kept too");
    let kinds: Vec<(&str, ProblemKind)> = summary
        .problems
        .iter()
        .map(|problem| (problem.path.as_str(), problem.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            ("/a", ProblemKind::Metadata),
            ("/a/b", ProblemKind::Metadata),
            ("/a/b/orphan", ProblemKind::Damaged)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_below_a_path_that_is_a_link_by_now_is_left_out_and_never_gone_through() {
    let mut world = World::new();
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    let mut old = RepositoryBuilder::new();
    old.directory("d", 0o755);
    date(&mut old, "", 10);
    old.file("d/file", b"older");
    old.directory("d/e", 0o755);
    old.file("d/e/file", b"older");
    world.store(old);
    let mut new = RepositoryBuilder::new();
    new.symlink("d", outside.to_str().unwrap());
    date(&mut new, "", 20);
    world.store(new);
    let summary = world.restore().await;
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read_link(world.path("out/d")).unwrap(), outside);
    let [problem] = summary.problems.as_slice() else {
        unreachable!("{:?}", summary.problems);
    };
    assert_eq!(
        (problem.path.as_str(), problem.kind),
        ("/d", ProblemKind::Refused)
    );
    assert!(problem.text.contains("3 older objects"), "{}", problem.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_repository_is_rescued_from_its_packs() {
    let world = World::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/golden/repository");
    let shelf = Shelf::folder(&golden).unwrap();
    let master = std::array::from_fn(|place| u8::try_from(place).unwrap());
    let context = RestoreContext::default();
    let rescued = world.rescue_from(&shelf, master, &context).await.unwrap();
    assert_eq!((rescued.packs.found, rescued.packs.opened), (2, 2));
    let summary = world.restore_rescued(&rescued, context).await;
    assert_eq!(world.text("etc/hostname").unwrap(), "web1.example\n");
    // Its further name's entry does not count the file's names, so it comes back as a file of its own.
    assert_eq!(world.text("srv/name2").unwrap(), "web1.example\n");
    // One entry of it says that the host could not read the file; as a user, owners and the device are told too.
    let unread = summary.problem_kinds.get(&ProblemKind::Unreadable);
    assert_eq!(unread, Some(&1), "{:?}", summary.problems);
    assert!(!summary.found_damage(), "{:?}", summary.problems);
}

/// A data pack whose table says that it holds a chunk, with other bytes.
fn pack_of_lies(id: ChunkId, bytes: usize) -> Vec<u8> {
    let keys = keys();
    let context = RunContext {
        repository: keys.repository,
        epoch: keys.epoch,
        run: RunId([9; 16]),
        purpose: Purpose::Data,
    };
    let (header, run_keys) = RunHeader::create(context, &keys.public().unwrap()).unwrap();
    let mut sealer = FrameSealer::new(context, run_keys.data.clone(), 1).unwrap();
    let mut assembler = PackAssembler::new(header, run_keys.table);
    let mut pack = Vec::new();
    let plain = vec![b'x'; bytes];
    let shape = sealer.seal(ChunkKind::Data, &plain, &mut pack).unwrap();
    let bytes = u32::try_from(bytes).unwrap();
    assembler.add_frame(shape, vec![TableChunk { id, bytes }]);
    pack.extend(assembler.finish().unwrap());
    pack
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_say_they_hold_a_chunk_do_not_hide_the_one_that_does() {
    let mut world = World::new();
    let mut builder = RepositoryBuilder::new();
    let file: Entry = builder.file_entry(b"file", b"what the host had");
    let Content::Extents(extents) = &file.content else {
        unreachable!("a small file has its extents in its entry");
    };
    let [formats::listing::content::Extent::Chunk { id, bytes }] = extents.as_slice() else {
        unreachable!("a small file is one chunk");
    };
    // Before and after the true one, whatever the order of names.
    for _ in 0..6 {
        world.store_bytes(&pack_of_lies(*id, *bytes as usize));
    }
    builder.add("", file);
    world.store(builder);
    let summary = world.restore().await;
    assert_eq!(summary.problem_count, 0, "{:?}", summary.problems);
    assert_eq!(world.text("file").unwrap(), "what the host had");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shelf_of_other_things_is_refused_and_leaves_nothing_behind() {
    let mut world = World::new();
    world.store_bytes(b"not a pack");
    let context = RestoreContext::default();
    let refused = world.rescue(&context).await;
    assert!(
        matches!(refused, Err(RescueError::NothingThere { .. })),
        "{refused:?}"
    );
    let left: Vec<_> = fs::read_dir(world.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["packs"]);
    assert_eq!(Arc::strong_count(&context.tally), 1);
}
