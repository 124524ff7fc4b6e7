//! Runs that go well.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use formats::limits::MIB;
use formats::listing::content::Extent;
use formats::listing::entry::EntryKind;
use formats::wire::control::content::ReadOutcome;
use formats::wire::control::problem::ProblemKind;
use formats::wire::streams::Stream;

use crate::peer::{Script, run};

/// Bytes that do not compress, different for each seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

/// A tree with a bit of everything.
pub fn sample(at: &Path) {
    std::fs::create_dir_all(at.join("d/e")).unwrap();
    std::fs::create_dir(at.join("d-x")).unwrap();
    std::fs::create_dir(at.join("empty")).unwrap();
    std::fs::write(at.join("zero"), b"").unwrap();
    std::fs::write(at.join("big"), noise(1, 40 << 20)).unwrap();
    std::fs::write(at.join("text"), b"all work and no play\n".repeat(400_000)).unwrap();
    for index in 0..300 {
        let name = at.join(format!("d/e/small-{index}"));
        std::fs::write(name, noise(index, index as usize * 37)).unwrap();
    }
    std::os::unix::fs::symlink("nowhere/at all", at.join("d/link")).unwrap();
    let sparse = std::fs::File::create(at.join("sparse")).unwrap();
    use std::os::unix::fs::FileExt as _;
    sparse.write_all_at(&noise(2, 300_000), 8 << 20).unwrap();
    sparse.write_all_at(b"end", 64 << 20).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let fifo = rustix::fs::CWD;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(fifo, at.join("fifo"), mode).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap();
    let secret = at.join("d/secret");
    std::fs::write(&secret, b"s").unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o4600)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&secret, "user.note", b"kept", flags).unwrap();
}

fn check_sample(mut script: Script, at: &Path) {
    script.deployed = true;
    let mut outcome = run(script).unwrap();
    assert_eq!(outcome.problems, []);
    assert!(outcome.compare(at) >= 304, "{}", outcome.entries.len());
    assert!(!outcome.directory.as_ref().unwrap().exists(), "it is gone");
    let kind = |name: &str| outcome.entry(&at.join(name)).unwrap().1.stat.kind;
    assert_eq!(kind("fifo"), EntryKind::Fifo);
    assert_eq!(kind("socket"), EntryKind::Socket);
    assert_eq!(kind("empty"), EntryKind::Directory);
    let secret = outcome.details_at(&at.join("d/secret"));
    assert_eq!(secret.stat.mode, 0o4600);
    assert_eq!(secret.xattrs[0].name, b"user.note");
    assert_eq!(secret.xattrs[0].value, b"kept");
    let (of, _) = outcome.entry(&at.join("sparse")).unwrap();
    let holes: u64 = outcome.contents[&of]
        .iter()
        .filter(|extent| matches!(extent, Extent::Hole { .. }))
        .map(Extent::bytes)
        .sum();
    assert!(holes > (1 << 40) - MIB, "{holes}");
    assert!(outcome.names.users.contains(&(0, "root".into())));
    assert_eq!(outcome.totals.packs as usize, outcome.packs.len());
    assert_eq!(outcome.totals.entries as usize, outcome.entries.len());
    assert!(outcome.totals.bytes_read < 60 * MIB && outcome.totals.memory_peak > 0);
    let program = env!("CARGO_BIN_EXE_target-agent");
    let digest = blake3::hash(&std::fs::read(program).unwrap());
    assert_eq!(outcome.hello.digest, *digest.as_bytes());
}

#[test]
fn everything_arrives_as_it_is_and_the_agent_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    check_sample(Script::new(&[dir.path()]), dir.path());
}

#[test]
fn everything_arrives_over_stdio_too() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let mut script = Script::new(&[dir.path()]);
    script.over_stdio = true;
    check_sample(script, dir.path());
}

#[test]
fn the_smallest_limits_are_kept_and_suffice() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    for index in 0..20_000 {
        let name = dir.path().join(format!("empty/{index}"));
        std::fs::write(name, b"").unwrap();
    }
    let mut script = Script::new(&[dir.path()]);
    script.limits.batches_in_flight = 1;
    script.limits.queries_in_flight = 1;
    script.limits.tunnel_connections = 1;
    script.limits.threads = 1;
    check_sample(script, dir.path());
}

#[test]
fn a_run_with_nothing_changed_reads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let mut script = Script::new(&[dir.path()]);
    script.wants_entry = Box::new(|_, _| false);
    let outcome = run(script).unwrap();
    assert!(outcome.entries.len() > 300);
    assert_eq!(outcome.totals.bytes_read, 0);
    assert_eq!(outcome.totals.files_read, 0);
    assert!(outcome.packs.is_empty() && outcome.details.is_empty());
}

#[test]
fn an_agent_uses_no_more_of_the_cpu_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("big"), noise(1, 96 << 20)).unwrap();
    for index in 0..500 {
        std::fs::write(dir.path().join(index.to_string()), noise(index, 50)).unwrap();
    }
    for over_stdio in [false, true] {
        let mut script = Script::new(&[dir.path()]);
        script.limits.cpu_percent = 20;
        script.over_stdio = over_stdio;
        let began = std::time::Instant::now();
        let mut outcome = run(script).unwrap();
        let took = began.elapsed().as_millis() as u64;
        let used = outcome.totals.cpu_millis;
        assert!(used > 100, "{used} ms are too few to show anything");
        assert!(used * 100 <= took * 35, "{used} ms in {took} ms");
        assert_eq!(outcome.problems, []);
        assert!(outcome.compare(dir.path()) >= 500);
    }
}

#[test]
fn what_cannot_be_read_is_a_problem_and_the_run_goes_on() {
    if !rustix::process::geteuid().is_root() {
        println!("not run: only root can become nobody");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(dir.path(), 0o755);
    for name in ["closed", "listed", "open"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("file"), name).unwrap();
    }
    std::fs::write(dir.path().join("secret"), b"s").unwrap();
    mode(&dir.path().join("secret"), 0o600);
    mode(&dir.path().join("closed"), 0o700);
    mode(&dir.path().join("listed"), 0o744);
    let mut script = Script::new(&[dir.path()]);
    script.as_nobody = true;
    let outcome = run(script).unwrap();
    let listed = |name: &str| outcome.entry(&dir.path().join(name)).is_some();
    assert!(listed("closed") && listed("secret") && listed("open/file"));
    assert!(!listed("closed/file") && !listed("listed/file"));
    let text = |path: &Path| path.to_str().unwrap().as_bytes()[1..].to_vec();
    for name in ["closed", "secret", "listed/file"] {
        let path = text(&dir.path().join(name));
        let problem = outcome.problems.iter().find(|p| p.path == path).unwrap();
        assert_eq!((problem.kind, problem.errno), (ProblemKind::Unreadable, 13));
    }
    assert_eq!(outcome.totals.problems, 3);
    let secret = outcome.details_at(&dir.path().join("secret"));
    assert_eq!(secret.outcome, ReadOutcome::Unreadable { errno: 13 });
    assert_eq!(outcome.hello.facts.uid, 65_534);
}

#[test]
fn stored_chunks_are_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let first = run(Script::new(&[dir.path()])).unwrap();
    let mut script = Script::new(&[dir.path()]);
    script.stored = first.seen.iter().copied().collect();
    std::fs::write(dir.path().join("new"), noise(99, 500_000)).unwrap();
    let second = run(script).unwrap();
    assert_eq!(second.totals.bytes_new, 500_000);
    assert_eq!(second.packs.len(), 1);
    let all: HashSet<_> = second.seen.iter().collect();
    assert!(first.seen.iter().all(|id| all.contains(id)));
}

#[test]
fn a_big_files_frames_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let mut outcome = run(Script::new(&[dir.path()])).unwrap();
    let (of, _) = outcome.entry(&dir.path().join("big")).unwrap();
    let chunks: Vec<_> = outcome.contents[&of]
        .iter()
        .filter_map(|extent| match extent {
            Extent::Chunk { id, .. } => Some(*id),
            Extent::Hole { .. } => None,
        })
        .collect();
    // Chunks are asked about in the order of the listing, whichever thread read them.
    let place = outcome.seen.iter().position(|id| *id == chunks[0]).unwrap();
    assert_eq!(outcome.seen[place..place + chunks.len()], chunks);
    outcome.chunks();
    let plain = outcome.totals.bytes_new / MIB;
    assert!(outcome.frames as u64 <= plain + 2, "{}", outcome.frames);
}

fn stream(name: &str, script: &str) -> Stream {
    Stream {
        name: name.as_bytes().to_vec(),
        command: ["sh", "-c", script]
            .map(|word| word.as_bytes().to_vec())
            .to_vec(),
        seconds_max: 60,
        bytes_max: 1 << 40,
        ending: Vec::new(),
    }
}

#[test]
fn what_commands_print_arrives_as_files_beside_the_disks() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"x").unwrap();
    let mut script = Script::new(&[dir.path()]);
    script.streams = vec![
        stream("db/bad", "echo half; echo broken >&2; exit 9"),
        stream("db/good", "yes line | head -c 30000000"),
        stream("empty", ":"),
    ];
    let outcome = run(script).unwrap();
    let good = Path::new("/.streams/db/good");
    assert_eq!(outcome.details_at(good).stat.size, 30_000_000);
    let (of, entry) = outcome.entry(good).unwrap();
    assert_eq!((entry.stat.kind, entry.stat.mode), (EntryKind::File, 0o600));
    let bytes: u64 = outcome.contents[&of].iter().map(Extent::bytes).sum();
    assert_eq!(bytes, 30_000_000);
    let empty = outcome.details_at(Path::new("/.streams/empty"));
    assert_eq!((empty.outcome, empty.stat.size), (ReadOutcome::Read, 0));
    let bad = outcome.details_at(Path::new("/.streams/db/bad"));
    assert!(matches!(bad.outcome, ReadOutcome::Unreadable { .. }));
    assert_eq!(outcome.problems.len(), 1);
    let problem = &outcome.problems[0];
    assert_eq!(problem.path, b".streams/db/bad");
    assert!(problem.text.contains("exit code 9") && problem.text.contains("broken"));
}
