//! The walk over real trees.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use formats::limits::PATH_DEPTH_MAX;
use formats::listing::entry::join;
use formats::listing::order::OrderChecker;
use formats::wire::control::problem::{Problem, ProblemKind};
use formats::wire::start::Rules;
use formats::wire::streams::Stream;
use proptest::prelude::*;

use crate::cpu_limit::CpuLimit;
use crate::filter::Filter;
use crate::streams::Streams;
use crate::walk::batch::Batch;
use crate::walk::ground::Ground;
use crate::walk::walker::{Sink, WalkOptions, walk};

type OnEntry<'a> = Box<dyn FnMut(&[u8]) + 'a>;

/// Takes everything, checks the order, and lets a test act when an entry has been listed.
struct Collected<'a> {
    paths: Vec<Vec<u8>>,
    problems: Vec<Problem>,
    order: OrderChecker,
    next_batch: u64,
    on_entry: OnEntry<'a>,
}

impl Sink for Collected<'_> {
    fn batch(&mut self, batch: Batch) {
        assert_eq!(batch.entries.batch, self.next_batch);
        assert_eq!(batch.entries.blocks.len(), batch.directories.len());
        self.next_batch += 1;
        for block in batch.entries.blocks {
            self.order.block(&block.directory).expect("in order");
            assert!(!block.entries.is_empty());
            for entry in block.entries {
                let kind = entry.stat.kind;
                self.order.entry(&entry.name, kind).expect("in order");
                let path = join(&block.directory, &entry.name);
                (self.on_entry)(&path);
                self.paths.push(path);
            }
        }
    }

    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

struct Setup<'a> {
    root: &'a Path,
    rules: Rules,
    streams: Streams,
    own_directory: Option<(u64, u64)>,
    open_directories: usize,
    on_entry: OnEntry<'a>,
}

impl<'a> Setup<'a> {
    fn new(root: &'a Path, sources: &[&str]) -> Self {
        Self {
            root,
            rules: Rules {
                sources: sources
                    .iter()
                    .map(|path| path.as_bytes().to_vec())
                    .collect(),
                ..Rules::default()
            },
            streams: Streams::default(),
            own_directory: None,
            open_directories: 1_000,
            on_entry: Box::new(|_| {}),
        }
    }

    fn walk(self) -> Collected<'a> {
        let filter = Filter::new(self.rules.exclude.iter().map(String::as_str)).expect("good");
        let ground = Ground {
            root: self.root.as_os_str().as_bytes().to_vec(),
            own_directories: self.own_directory.into_iter().collect(),
            ..Ground::default()
        };
        let options = WalkOptions {
            streams: &self.streams,
            ground: &ground,
            rules: &self.rules,
            filter: &filter,
            open_directories: self.open_directories,
            cpu: &CpuLimit::default(),
        };
        let sink = Collected {
            paths: Vec::new(),
            problems: Vec::new(),
            order: OrderChecker::new(),
            next_batch: 0,
            on_entry: self.on_entry,
        };
        let (sink, batches, _) = walk(&options, sink);
        assert_eq!(batches, sink.next_batch);
        sink
    }
}

impl Collected<'_> {
    fn names(&self) -> Vec<String> {
        let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
        self.paths.iter().map(text).collect()
    }

    fn kinds(&self) -> Vec<ProblemKind> {
        self.problems.iter().map(|problem| problem.kind).collect()
    }
}

/// Makes directories for paths that end in a slash, files for the others.
fn tree(paths: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for path in paths {
        let at = dir.path().join(path);
        std::fs::create_dir_all(at.parent().expect("it has one")).expect("makes it");
        if path.ends_with('/') {
            std::fs::create_dir_all(&at).expect("makes it");
        } else {
            std::fs::write(&at, path).expect("writes");
        }
    }
    dir
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tree_is_listed_whole_and_in_order(
        paths in prop::collection::btree_set(
            prop::collection::vec("[ab./!\\-é]{1,3}", 1..6), 0..60
        ),
        open_directories in 16usize..40,
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        for path in &paths {
            let mut at = dir.path().to_owned();
            for (index, name) in path.iter().enumerate() {
                let name = name.replace('/', "~");
                at.push(if name == "." || name == ".." { "dot" } else { &name });
                // A name may be a file already: then what is below it is left out.
                if index + 1 < path.len() {
                    std::fs::create_dir(&at).ok();
                } else {
                    std::fs::write(&at, b"").ok();
                }
            }
        }
        let mut setup = Setup::new(dir.path(), &[""]);
        setup.open_directories = open_directories;
        let found = setup.walk();
        let mut expected = BTreeSet::new();
        let mut waiting = vec![dir.path().to_owned()];
        while let Some(directory) = waiting.pop() {
            for entry in std::fs::read_dir(directory).expect("reads") {
                let entry = entry.expect("reads");
                if entry.file_type().expect("known").is_dir() {
                    waiting.push(entry.path());
                }
                let path = entry.path();
                let below = path.strip_prefix(dir.path()).expect("it is below");
                expected.insert(below.as_os_str().as_bytes().to_vec());
            }
        }
        prop_assert_eq!(found.paths.len(), expected.len());
        prop_assert_eq!(found.paths.into_iter().collect::<BTreeSet<_>>(), expected);
        prop_assert!(found.problems.is_empty());
    }
}

#[test]
fn only_the_way_to_sources_is_listed_above_them() {
    let dir = tree(&["srv/a/x", "srv/b/y", "srv/c", "etc/d/z", "home/w"]);
    let found = Setup::new(dir.path(), &["etc", "nowhere/at/all", "srv/b", "srv/c"]).walk();
    let expected = [
        "etc", "srv", "etc/d", "etc/d/z", "srv/b", "srv/c", "srv/b/y",
    ];
    assert_eq!(found.names(), expected);
    assert_eq!(found.kinds(), [ProblemKind::SourceMissing]);
    assert_eq!(found.problems[0].path, b"nowhere/at/all");
}

#[test]
fn sources_are_missed_inside_what_is_listed_whole_and_behind_links() {
    let dir = tree(&["a/b", "real/x"]);
    std::os::unix::fs::symlink("real", dir.path().join("link")).expect("links");
    let found = Setup::new(dir.path(), &["", "a/gone", "link/x"]).walk();
    assert_eq!(found.names(), ["a", "link", "real", "a/b", "real/x"]);
    let missing: BTreeSet<&[u8]> = found.problems.iter().map(|p| p.path.as_slice()).collect();
    assert_eq!(missing, BTreeSet::from([&b"a/gone"[..], b"link/x"]));
}

#[test]
fn excluded_directories_are_not_entered_except_on_the_way_to_a_source() {
    let dir = tree(&["keep/a.tmp", "keep/b", "skip/x", "skip/in/y", "deep/skip/z"]);
    let mut setup = Setup::new(dir.path(), &["", "skip/in"]);
    setup.rules.exclude = vec!["skip/".into(), "*.tmp".into()];
    let expected = ["deep", "keep", "skip", "keep/b", "skip/in", "skip/in/y"];
    assert_eq!(setup.walk().names(), expected);
}

#[test]
fn tagged_directories_stay_without_their_contents() {
    let dir = tree(&[
        "cache/x",
        "fake/CACHEDIR.TAG",
        "nb/.nobackup",
        "nb/x",
        "own/.nobackup",
    ]);
    let signature = b"Signature: 8a477f597d28d172789f06886806bc55\n# by a program";
    std::fs::write(dir.path().join("cache/CACHEDIR.TAG"), signature).expect("writes");
    let mut setup = Setup::new(dir.path(), &["", "own"]);
    setup.rules.exclude_caches = true;
    setup.rules.exclude_if_present = vec![b".nobackup".to_vec()];
    let expected = [
        "cache",
        "fake",
        "nb",
        "own",
        "fake/CACHEDIR.TAG",
        "own/.nobackup",
    ];
    assert_eq!(setup.walk().names(), expected);
}

#[test]
fn a_directory_swapped_for_a_link_is_not_followed() {
    let dir = tree(&["a/x", "b/y", "c/z"]);
    let outside = tree(&["secret"]);
    let mut setup = Setup::new(dir.path(), &[""]);
    // A batch for every directory, so that the test acts between listing and entering.
    setup.open_directories = 4;
    let (root, target) = (dir.path().to_owned(), outside.path().to_owned());
    setup.on_entry = Box::new(move |path| {
        if path == b"a/x" {
            std::fs::remove_dir_all(root.join("b")).expect("removes");
            std::os::unix::fs::symlink(&target, root.join("b")).expect("links");
            std::fs::remove_dir_all(root.join("c")).expect("removes");
        }
    });
    let found = setup.walk();
    assert_eq!(found.names(), ["a", "b", "c", "a/x"]);
    assert_eq!(
        found.kinds(),
        [ProblemKind::Vanished, ProblemKind::Vanished]
    );
    assert_eq!(found.problems[0].path, b"b");
}

#[test]
fn the_agents_own_directory_is_never_listed() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tree(&["tmp/.capstan-x/agent", "tmp/y"]);
    let own = std::fs::metadata(dir.path().join("tmp/.capstan-x")).expect("it is there");
    let mut setup = Setup::new(dir.path(), &[""]);
    setup.own_directory = Some((own.dev(), own.ino()));
    assert_eq!(setup.walk().names(), ["tmp", "tmp/y"]);
}

#[test]
fn pseudo_filesystems_are_listed_and_not_entered() {
    let mut setup = Setup::new(Path::new("/"), &[""]);
    setup.rules.exclude = vec!["/*".into(), "!/proc".into(), "!/sys".into()];
    let found = setup.walk();
    assert_eq!(found.names(), ["proc", "sys"]);
    assert_eq!(found.problems, []);
    let found = Setup::new(Path::new("/"), &["proc"]).walk();
    assert_eq!(found.names(), ["proc"]);
    assert_eq!(found.kinds(), [ProblemKind::Other]);
}

/// A filesystem mounted for one test.
struct Mounted(std::path::PathBuf);

impl Mounted {
    /// None where this process may not mount.
    fn tmpfs(at: &Path) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "none"]).arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut unmount = std::process::Command::new("umount");
        assert!(unmount.arg(&self.0).status().expect("runs").success());
    }
}

#[test]
fn one_file_system_stays_on_it_except_for_sources() {
    let dir = tree(&["mnt/", "src/", "x"]);
    let mounts = ["mnt", "src"].map(|name| Mounted::tmpfs(&dir.path().join(name)));
    if mounts.iter().any(Option::is_none) {
        println!("not run: mounting is not allowed here");
        return;
    }
    for name in ["mnt/a", "src/b"] {
        std::fs::write(dir.path().join(name), b"").expect("writes");
    }
    let mut setup = Setup::new(dir.path(), &["", "src"]);
    setup.rules.one_file_system = true;
    assert_eq!(setup.walk().names(), ["mnt", "src", "x", "src/b"]);
    let setup = Setup::new(dir.path(), &[""]);
    assert_eq!(setup.walk().names(), ["mnt", "src", "x", "mnt/a", "src/b"]);
}

/// A chain of directories, deeper than a path can name.
fn chain(at: &Path, name: &str, depth: usize) {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut fd = open(at, flags, Mode::empty()).expect("opens");
    for _ in 0..depth {
        mkdirat(&fd, name, Mode::from_raw_mode(0o700)).expect("makes it");
        fd = openat(&fd, name, flags, Mode::empty()).expect("opens");
    }
}

fn remove(dir: tempfile::TempDir) {
    // The standard library keeps a descriptor for each level.
    let mut rm = std::process::Command::new("rm");
    assert!(
        rm.arg("-rf")
            .arg(dir.keep())
            .status()
            .expect("runs")
            .success()
    );
}

#[test]
fn paths_past_path_max_are_walked_with_few_descriptors() {
    let dir = tree(&["z/last"]);
    let name = "a-name-of-twenty-byte";
    chain(dir.path(), name, 2_000);
    std::fs::write(dir.path().join(name).join("file"), b"").expect("writes");
    let mut setup = Setup::new(dir.path(), &[""]);
    setup.open_directories = 16;
    let found = setup.walk();
    assert_eq!(found.problems, []);
    assert_eq!(found.paths.len(), 2_000 + 3);
    assert!(found.paths.iter().any(|path| path.len() > 40_000));
    assert_eq!(found.paths.last().expect("there are some"), b"z/last");
    drop(found);
    remove(dir);
}

#[test]
fn what_is_deeper_than_a_listing_can_be_is_told() {
    let dir = tree(&["z"]);
    chain(dir.path(), "d", PATH_DEPTH_MAX + 10);
    let mut setup = Setup::new(dir.path(), &[""]);
    setup.open_directories = 100;
    let found = setup.walk();
    assert_eq!(found.kinds(), [ProblemKind::BeyondLimit]);
    assert_eq!(found.paths.len(), PATH_DEPTH_MAX);
    drop(found);
    remove(dir);
}

#[test]
fn an_ancestor_that_moves_away_costs_only_what_was_below_it() {
    let dir = tree(&["a/b/c/d/e/f/g/h", "a/b/z/y", "q/x"]);
    let mut setup = Setup::new(dir.path(), &[""]);
    setup.open_directories = 4;
    let root = dir.path().to_owned();
    setup.on_entry = Box::new(move |path| {
        if path == b"a/b/c/d/e/f/g/h" {
            std::fs::rename(root.join("a/b/c"), root.join("q/c")).expect("renames");
        }
    });
    let found = setup.walk();
    assert!(
        found.names().contains(&"a/b/z/y".to_owned()),
        "{:?}",
        found.names()
    );
    assert!(found.names().contains(&"q/x".to_owned()));
    assert_eq!(found.problems, []);
}

#[test]
fn every_kind_of_object_is_listed_and_none_is_opened() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let dir = tree(&["file"]);
    let mode = Mode::from_raw_mode(0o600);
    for (name, kind) in [("fifo", FileType::Fifo), ("socket", FileType::Socket)] {
        mknodat(CWD, dir.path().join(name), kind, mode, 0).expect("makes it");
    }
    std::os::unix::fs::symlink("loop", dir.path().join("loop")).expect("links");
    let found = Setup::new(dir.path(), &[""]).walk();
    assert_eq!(found.names(), ["fifo", "file", "loop", "socket"]);
}

fn streams(names: &[&str]) -> Streams {
    let stream = |name: &&str| Stream {
        name: name.as_bytes().to_vec(),
        command: vec![b"true".to_vec()],
        seconds_max: 1,
        bytes_max: 1,
        ending: Vec::new(),
    };
    Streams::new(names.iter().map(stream).collect())
}

#[test]
fn streams_are_listed_in_their_place_beside_what_the_disk_has() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in [".a", ".streamz", "z"] {
        std::fs::create_dir(dir.path().join(name)).expect("creates");
    }
    std::fs::write(dir.path().join("z/f"), b"").expect("writes");
    let of_streams = [
        ".streams/pg",
        ".streams/pg-x",
        ".streams/pg/a",
        ".streams/pg/b",
    ];
    let mut setup = Setup::new(dir.path(), &[""]);
    setup.streams = streams(&["pg/b", "pg-x", "pg/a"]);
    let found = setup.walk();
    let mut expected = vec![".a", ".streams", ".streamz", "z"];
    expected.extend(of_streams);
    expected.push("z/f");
    assert_eq!(found.names(), expected);
    assert!(found.problems.is_empty());

    let mut setup = Setup::new(dir.path(), &["z"]);
    setup.streams = streams(&["pg/b", "pg-x", "pg/a"]);
    let mut expected = vec![".streams", "z"];
    expected.extend(of_streams);
    expected.push("z/f");
    assert_eq!(setup.walk().names(), expected);

    let mut setup = Setup::new(dir.path(), &[".a"]);
    setup.streams = streams(&["s"]);
    assert_eq!(setup.walk().names(), [".a", ".streams", ".streams/s"]);
}

#[test]
fn what_has_the_name_of_the_streams_is_left_out_and_told() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join(".streams")).expect("creates");
    std::fs::write(dir.path().join(".streams/own"), b"").expect("writes");
    let mut setup = Setup::new(dir.path(), &[""]);
    setup.streams = streams(&["s"]);
    let found = setup.walk();
    assert_eq!(found.names(), [".streams", ".streams/s"]);
    assert_eq!(found.kinds(), [ProblemKind::Other]);
    assert_eq!(found.problems[0].path, b".streams");
    // Without streams it is a directory like any other.
    let found = Setup::new(dir.path(), &[""]).walk();
    assert_eq!(found.names(), [".streams", ".streams/own"]);
}
