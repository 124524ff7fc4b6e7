//! The demo's parts: both SSH servers driven by our own client, the sample tree, the changes, the comparison,
//! and that nothing is left.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use append_server::ssh::connect::{SshConnection, connect};
use append_server::ssh::error::SshError;
use append_server::ssh::host_key::scan_host_key;
use append_server::ssh::stream::ExitStatus;
use append_server::ssh::target::SshTarget;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::demo::changes::{Changes, change_some};
use crate::demo::comparison::{Comparison, compare};
use crate::demo::ssh_server::{SshServer, start};
use crate::demo::table::{StepLine, write_steps};
use crate::demo::workspace::Workspace;
use crate::demo::{keys, sample_tree, tree_copy};
use crate::ssh::exec::{self, Command, Output};
use crate::ssh::fresh_key::fresh_key;
use crate::ssh::tunnel::{Transport, TransportChoice, TunnelLimits, open_tunnel};

async fn target(server: &SshServer) -> SshTarget {
    let shown = scan_host_key(&server.target(Vec::new()).unwrap())
        .await
        .unwrap();
    assert_eq!(shown.len(), 1);
    server.target(vec![shown[0].fingerprint]).unwrap()
}

async fn run(connection: &SshConnection, line: &str, stdin: &[u8]) -> Output {
    let command = Command {
        line,
        stdin,
        stdout_bytes_max: 4 << 20,
        deadline: Duration::from_secs(30),
    };
    exec::run(connection, command).await.unwrap()
}

#[tokio::test]
async fn the_embedded_server_runs_commands_with_all_their_streams() {
    let directory = TempDir::new().unwrap();
    let server = start(directory.path(), true).await.unwrap();
    let connection = connect(&target(&server).await).await.unwrap();
    let output = run(&connection, "cat; echo problem >&2; exit 5", b"in and out").await;
    assert_eq!(output.status, ExitStatus::Code(5));
    assert_eq!(
        (&output.stdout[..], output.stderr.as_str()),
        (&b"in and out"[..], "problem")
    );
    let large = vec![7u8; 3 << 20];
    let output = run(&connection, "cat", &large).await;
    assert!(output.status.success() && output.stdout == large);
    connection.disconnect().await;
}

#[tokio::test]
async fn the_embedded_server_lets_no_other_key_in() {
    let directory = TempDir::new().unwrap();
    let server = start(directory.path(), true).await.unwrap();
    let mut target = target(&server).await;
    let other = directory.path().join("other_key");
    keys::write_private(&fresh_key().unwrap(), &other).unwrap();
    target.identity_file = Some(other);
    let error = connect(&target).await.unwrap_err();
    assert!(matches!(error, SshError::AuthRefused { .. }), "{error}");
}

/// Connects through the forwarding from the host's side, and answers from ours.
async fn through_the_tunnel(server: &SshServer, choice: TransportChoice) {
    let directory = TempDir::new().unwrap();
    let connection = connect(&target(server).await).await.unwrap();
    let place = directory.path().to_str().unwrap();
    let mut tunnel = open_tunnel(&connection, choice, place, TunnelLimits::default())
        .await
        .unwrap();
    let transport = tunnel.transport().clone();
    let there = tokio::spawn(async move {
        let talk = async |mut stream: Box<dyn Both>| {
            stream.write_all(b"question").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            answer
        };
        match transport {
            Transport::Unix { path } => {
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o077, 0);
                talk(Box::new(UnixStream::connect(path).await.unwrap())).await
            }
            Transport::Tcp { port } => {
                talk(Box::new(
                    TcpStream::connect(("127.0.0.1", port)).await.unwrap(),
                ))
                .await
            }
            Transport::Stdio => panic!("there is no tunnel"),
        }
    });
    let (mut reader, mut writer) = tunnel.accept().await.unwrap().into_split();
    let mut question = Vec::new();
    reader.read_to_end(&mut question).await.unwrap();
    writer.write_all(b"answer").await.unwrap();
    writer.shutdown().await.unwrap();
    drop(writer);
    assert_eq!(
        (&question[..], &there.await.unwrap()[..]),
        (&b"question"[..], &b"answer"[..])
    );
    drop(tunnel);
    connection.disconnect().await;
}

trait Both: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Both for T {}

#[tokio::test]
async fn both_forwardings_of_the_embedded_server_carry_bytes() {
    let directory = TempDir::new().unwrap();
    let server = start(directory.path(), true).await.unwrap();
    through_the_tunnel(&server, TransportChoice::Unix).await;
    through_the_tunnel(&server, TransportChoice::Tcp).await;
}

#[tokio::test]
async fn the_systems_sshd_serves_and_ends_with_its_sessions() {
    let directory = TempDir::new().unwrap();
    let server = start(directory.path(), false).await.unwrap();
    assert_eq!(server.kind, "the system's sshd", "this test needs OpenSSH");
    through_the_tunnel(&server, TransportChoice::Unix).await;
    let connection = connect(&target(&server).await).await.unwrap();
    let process = exec::spawn(&connection, "exec sleep 600").await.unwrap();
    let port = server.port;
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    connection.closed().await;
    drop(process);
}

#[test]
fn the_sample_tree_is_the_same_every_time_and_compares_equal_to_its_copy() {
    let directory = TempDir::new().unwrap();
    let stop = CancellationToken::new();
    let place = |name: &str| directory.path().join(name);
    sample_tree::create(&place("one"), &stop).unwrap();
    sample_tree::create(&place("two"), &stop).unwrap();
    // Hard links and sparse files included; directories were made at different times.
    let comparison = compare(&place("one"), &place("two"), &stop).unwrap();
    assert!(
        comparison.files > 3_000 && comparison.bytes > 60 << 20,
        "{comparison:?}"
    );
    let other_than_times = |text: &&String| !text.ends_with("another modification time");
    assert_eq!(comparison.differences.iter().find(other_than_times), None);

    let left_out = tree_copy::copy(&place("one"), &place("copy"), &stop).unwrap();
    assert_eq!(left_out, 1, "only the FIFO");
    let changes = change_some(&place("copy")).unwrap();
    let expected = Changes {
        edited: 12,
        deleted: 12,
        touched: 12,
        added: 13,
    };
    assert_eq!(changes, expected);
    let comparison = compare(&place("one"), &place("copy"), &stop).unwrap();
    assert!(comparison.difference_count >= 36, "{comparison:?}");
}

fn small_tree(root: &Path) {
    fs::create_dir_all(root.join("below")).unwrap();
    fs::write(root.join("below/file"), "content").unwrap();
    fs::hard_link(root.join("below/file"), root.join("other name")).unwrap();
    symlink("below", root.join("link")).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in ["below/file", "below", "."] {
        fs::File::open(root.join(name))
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
}

/// What is found when one of two equal trees is spoilt.
fn found_after(spoil: impl FnOnce(&Path)) -> Comparison {
    let directory = TempDir::new().unwrap();
    let (one, other) = (directory.path().join("one"), directory.path().join("other"));
    small_tree(&one);
    let stop = CancellationToken::new();
    tree_copy::copy(&one, &other, &stop).unwrap();
    // Links' own times are those of the copy.
    let before = compare(&one, &other, &stop).unwrap().difference_count;
    spoil(&other);
    let mut after = compare(&one, &other, &stop).unwrap();
    after.difference_count -= before;
    after
}

#[test]
fn every_kind_of_difference_is_found() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 7] = [
        ("other content", |root| {
            let path = root.join("below/file");
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "CONTENT").unwrap();
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }),
        ("another mode", |root| {
            fs::set_permissions(root.join("below"), fs::Permissions::from_mode(0o711)).unwrap();
        }),
        ("another modification time", |root| {
            fs::File::open(root.join("below/file"))
                .unwrap()
                .set_modified(SystemTime::UNIX_EPOCH)
                .unwrap();
        }),
        ("not restored", |root| {
            fs::remove_file(root.join("link")).unwrap()
        }),
        ("not in the source", |root| {
            fs::write(root.join("surplus"), "").unwrap()
        }),
        ("leads elsewhere", |root| {
            fs::remove_file(root.join("link")).unwrap();
            symlink("elsewhere", root.join("link")).unwrap();
        }),
        ("same file", |root| {
            fs::copy(root.join("below/file"), root.join("copy")).unwrap();
            fs::rename(root.join("copy"), root.join("other name")).unwrap();
        }),
    ];
    for (expected, spoil) in spoils {
        let comparison = found_after(spoil);
        assert!(
            comparison.difference_count > 0
                && comparison
                    .differences
                    .iter()
                    .any(|text| text.contains(expected)),
            "{expected}: {comparison:?}"
        );
    }
    assert!(found_after(|_| {}).identical());
}

#[test]
fn the_workspace_goes_with_its_value_and_stays_when_asked() {
    let workspace = Workspace::create(false).unwrap();
    let path = workspace.path().to_owned();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    fs::create_dir(path.join("closed")).unwrap();
    fs::write(path.join("closed/file"), "").unwrap();
    fs::set_permissions(path.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let stop = workspace.stop();
    drop(workspace);
    assert!(stop.is_cancelled() && !path.exists());

    let kept = Workspace::create(true).unwrap();
    let path = kept.path().to_owned();
    drop(kept);
    fs::remove_dir(path).unwrap();
}

#[test]
fn the_table_leaves_out_what_a_step_does_not_have() {
    let steps = [
        StepLine {
            step: "first backup".to_owned(),
            time: Duration::from_millis(1_500),
            files: Some(3_351),
            bytes_read: Some(87 << 20),
            new_bytes: Some(63 << 20),
            repository_bytes: Some(40 << 20),
            ratio: Some(3.54),
            verified: Some(true),
        },
        StepLine {
            step: "changes".to_owned(),
            files: Some(49),
            ..StepLine::default()
        },
    ];
    let mut out = Vec::new();
    write_steps(&steps, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[1].contains("3,351") && lines[1].ends_with("3.5x  yes"),
        "{text}"
    );
    assert!(lines[2].ends_with("49"), "{text}");
}
