//! The program is killed at random moments of uploads and of log records, again and again: everything it acknowledged is
//! there and whole, nothing is there by halves, and no destination's log lacks what another's has.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use append_server::fan_out::probes::PROBES_FILE;
use append_server::fan_out::queue::QUEUE_FILE;
use append_server::removals::LEDGER_FILE;
use formats::object::ObjectName;
use formats::wire::upload::objects::ObjectPage;
use support::{Peer, REPOSITORY, RUN, TOKEN, files_under, handshake, open_run, pack_name, sample};
use tempfile::TempDir;
use tokio::net::UnixStream;

const KILLS: u64 = 24;
const SEED: u64 = 0x00c0_ffee;

struct Program {
    child: Child,
    control: PathBuf,
    ingest: PathBuf,
}

impl Program {
    /// Starts it and waits until it answers.
    async fn start(config: &Path, dir: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_append-server"))
            .arg("--config")
            .arg(config)
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let program = Self {
            child,
            control: dir.join("sockets/control"),
            ingest: dir.join("sockets/ingest"),
        };
        for _ in 0..1_000 {
            if UnixStream::connect(&program.ingest).await.is_ok() {
                return program;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the program does not listen");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _dead = self.child.kill();
        let _dead = self.child.wait();
    }
}

fn write_config(dir: &TempDir, spool: &Path) -> PathBuf {
    write_config_with(dir, spool, "")
}

fn write_config_with(dir: &TempDir, spool: &Path, more: &str) -> PathBuf {
    let path = dir.path().join("append-server.toml");
    let text = format!(
        r#"
control_socket = "{0}/sockets/control"
ingest_socket = "{0}/sockets/ingest"
[spool]
dir = "{1}"
reserve_bytes = 0
[[destination]]
name = "one"
url = "file://{0}/one"
[[destination]]
name = "two"
url = "file://{0}/two"
{more}
"#,
        dir.path().display(),
        spool.display()
    );
    std::fs::write(&path, text).unwrap();
    let created = Command::new(env!("CARGO_BIN_EXE_append-server"))
        .arg("--config")
        .arg(&path)
        .arg("--create-destinations")
        .env("RUST_LOG", "error")
        .status();
    assert!(created.unwrap().success());
    path
}

/// Uploads until the connection breaks; each acknowledged body's seed is noted the moment it is known.
async fn upload(ingest: PathBuf, first: u64, acknowledged: Arc<Mutex<Vec<u64>>>) {
    let Ok(mut stream) = UnixStream::connect(&ingest).await else {
        return;
    };
    if !handshake(&mut stream, RUN, TOKEN).await {
        return;
    }
    let mut agent = Peer { stream };
    for seed in first..first + 1_000 {
        let body = body(seed);
        agent.begin_chunked_or_end().await;
        for piece in body.chunks(100_000) {
            agent.chunk(piece).await;
        }
        agent.chunk_end().await;
        match agent.try_answer("PUT").await {
            Ok(answer) if answer.status == 201 => acknowledged.lock().unwrap().push(seed),
            Ok(answer) => panic!("{answer:?}"),
            Err(_) => return,
        }
    }
}

fn body(seed: u64) -> Vec<u8> {
    sample(200_000 + usize::try_from(seed % 7).unwrap() * 150_000, seed)
}

fn check(root: &Path, acknowledged: &[u64]) {
    for name in files_under(root) {
        if name == "capstan-destination" || name.starts_with("tmp/") {
            continue;
        }
        // Whatever has an object's name is whole, acknowledged or not.
        let bytes = std::fs::read(root.join(&name)).unwrap();
        assert_eq!(pack_name(&bytes), name);
    }
    for seed in acknowledged {
        let path = root.join(pack_name(&body(*seed)));
        let facts = path
            .metadata()
            .unwrap_or_else(|error| panic!("pack {seed}: {error}"));
        assert_eq!(facts.size(), body(*seed).len() as u64);
    }
}

/// What the spool holds besides the queue of deliveries, which is kept beside it.
fn spooled(spool: &Path) -> Vec<String> {
    let files = files_under(spool).into_iter();
    let kept = [QUEUE_FILE, PROBES_FILE, LEDGER_FILE];
    files
        .filter(|name| !kept.iter().any(|kept| name.starts_with(kept)))
        .collect()
}

async fn kill_in_a_loop(spool: impl Fn(&TempDir) -> PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(&dir, &spool(&dir));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut random = SEED;
    println!("seed {SEED:#x}");
    for round in 0..KILLS {
        let mut program = Program::start(&config, dir.path()).await;
        let opened = Peer::connect(&program.control)
            .await
            .request("POST", "/v1/runs", &[], &open_run().encode())
            .await;
        assert_eq!(opened.status, 201);
        let uploads: Vec<_> = (0..3)
            .map(|writer| {
                let first = (round * 3 + writer) * 1_000;
                let ingest = program.ingest.clone();
                tokio::spawn(upload(ingest, first, Arc::clone(&acknowledged)))
            })
            .collect();
        // A linear congruential generator: any spread of moments does.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(random >> 57)).await;
        program.kill();
        for upload in uploads {
            upload.await.unwrap();
        }
        let acknowledged = acknowledged.lock().unwrap().clone();
        for root in ["one", "two"] {
            check(&dir.path().join(root), &acknowledged);
        }
    }
    let acknowledged = acknowledged.lock().unwrap().len();
    println!("{KILLS} kills, {acknowledged} acknowledged packs, all there");
    assert!(acknowledged > 0);
    // The next start has cleared what the kills left.
    let _program = Program::start(&config, dir.path()).await;
    assert!(spooled(&spool(&dir)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_pack_is_lost_by_kills_when_objects_are_linked() {
    kill_in_a_loop(|dir| dir.path().join("spool")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_pack_is_lost_by_kills_when_objects_are_copied() {
    let Ok(far) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    kill_in_a_loop(|_| far.path().join("spool")).await;
}

/// As many bytes as make a record's way to three disks long enough to be cut short anywhere.
fn record(sequence: u64, round: u64) -> Vec<u8> {
    sample(2_000_000, sequence << 32 | round)
}

fn record_path(sequence: u64) -> String {
    format!(
        "/v1/repositories/{REPOSITORY}/{}",
        ObjectName::Log(sequence)
    )
}

/// Appends records until the program dies; gives the last that was acknowledged.
async fn append_until_killed(control: PathBuf, after: u64, round: u64) -> u64 {
    let mut last = after;
    let Ok(stream) = UnixStream::connect(&control).await else {
        return last;
    };
    let mut coordinator = Peer { stream };
    loop {
        let sequence = last + 1;
        let path = record_path(sequence);
        let body = record(sequence, round);
        match coordinator.try_put(&path, &body).await {
            Ok(answer) if answer.status == 201 => last = sequence,
            Ok(answer) => panic!("{answer:?}"),
            Err(_) => return last,
        }
    }
}

/// The log as the coordinator sees it.
async fn listed_log(program: &Program) -> u64 {
    let path = format!("/v1/repositories/{REPOSITORY}?kind=log");
    let mut coordinator = Peer::connect(&program.control).await;
    let answer = coordinator.request("GET", &path, &[], b"").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let page = ObjectPage::decode(&answer.body).unwrap();
    let names = page.objects.iter().map(|(name, _)| name.clone());
    let expected = (1..=page.objects.len() as u64).map(ObjectName::Log);
    assert!(names.eq(expected.map(|name| name.to_string())), "{page:?}");
    page.objects.len() as u64
}

fn log_of(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = files_under(root).into_iter();
    let records = files.filter(|name| name.contains("/log/"));
    records
        .map(|name| (name.clone(), std::fs::read(root.join(&name)).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_destination_has_the_same_log_after_kills_around_its_records() {
    let dir = tempfile::tempdir().unwrap();
    let follower = format!(
        "[[destination]]\nname = \"far\"\nurl = \"file://{}/far\"\nrequired = false",
        dir.path().display()
    );
    let config = write_config_with(&dir, &dir.path().join("spool"), &follower);
    let [one, two, far] = ["one", "two", "far"].map(|root| dir.path().join(root));
    let mut random = SEED;
    println!("seed {SEED:#x}");
    let (mut last, mut halves) = (0, 0);
    for round in 0..KILLS {
        let mut program = Program::start(&config, dir.path()).await;
        let listed = listed_log(&program).await;
        assert!(
            listed >= last,
            "{last} records were acknowledged, {listed} are listed"
        );
        // What is seen as committed is on every required destination.
        assert!(log_of(&one) == log_of(&two));
        assert_eq!(log_of(&two).len() as u64, listed);
        let appending = append_until_killed(program.control.clone(), listed, round);
        let appending = tokio::spawn(appending);
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(random >> 57)).await;
        program.kill();
        last = appending.await.unwrap();
        halves += u32::from(log_of(&one) != log_of(&two));
    }
    println!("{KILLS} kills, {last} acknowledged records, {halves} of them found one by halves");
    assert!(last > 0);
    // Without another record: whoever looks sees to it.
    let program = Program::start(&config, dir.path()).await;
    let listed = listed_log(&program).await;
    let expected = log_of(&one);
    assert_eq!(expected.len() as u64, listed);
    assert!(expected == log_of(&two));
    for _ in 0..1_000 {
        if log_of(&far) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (have, lack) = (log_of(&far).len(), expected.len());
    panic!("the one that follows has {have} of {lack} records");
}

#[tokio::test]
async fn the_program_ends_gracefully_and_removes_its_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(&dir, &dir.path().join("spool"));
    let mut program = Program::start(&config, dir.path()).await;
    let pid = rustix::process::Pid::from_child(&program.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(program.child.wait().unwrap().success());
    assert!(!program.control.exists() && !program.ingest.exists());
    assert_eq!(spooled(&dir.path().join("spool")), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_server_on_the_same_sockets_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(&dir, &dir.path().join("spool"));
    let _first = Program::start(&config, dir.path()).await;
    let second = Command::new(env!("CARGO_BIN_EXE_append-server"))
        .arg("--config")
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("another server listens"), "{text}");
    assert!(second.stdout.is_empty());
}
