//! The janitor and the deployment, with directories that do not do.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use append_server::ssh::connect::{SshConnection, connect};
use append_server::ssh::stream::ExitStatus;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::ssh::deploy::{
    AgentBinary, DeployError, DeployOptions, DeployedAgent, MissingAgent, deploy,
};
use crate::ssh::janitor::{Candidate, DirectoryName, Platform};
use crate::ssh::remains::probe_left_behind;
use crate::ssh::tests::sshd::{Sshd, Tmpfs, entries, eventually, program, text};

const DIGEST: [u8; 32] = [0xab; 32];

/// A stand-in for the agent: it names the digest it is told to have, and repeats its input.
fn agent() -> Vec<u8> {
    let digest = blake3::Hash::from_bytes(DIGEST).to_hex();
    format!(
        "#!/bin/sh\n\
         if test \"$1\" = --digest; then echo {digest}; exit 0; fi\n\
         echo \"$@\"; exec cat\n"
    )
    .into_bytes()
}

struct Attempt<'a> {
    agent: &'a [u8],
    candidates: &'a [Candidate],
    prefix: &'a str,
    directory: &'a str,
}

async fn attempt(
    connection: &SshConnection,
    attempt: Attempt<'_>,
) -> Result<DeployedAgent, DeployError> {
    let name = name(attempt.directory);
    let options = DeployOptions {
        name: &name,
        candidates: attempt.candidates,
        become_prefix: attempt.prefix,
        agent_for: &|_| {
            Ok(AgentBinary {
                bytes: attempt.agent,
                digest: DIGEST,
            })
        },
    };
    deploy(connection, "backup", &options).await
}

fn name(random: &str) -> DirectoryName {
    DirectoryName::new("0a1b2c3d", random).unwrap()
}

fn at(path: &Path) -> Candidate {
    Candidate::Path(text(path).to_owned())
}

#[tokio::test]
async fn the_agent_is_uploaded_checked_started_and_removed() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let place = tempfile::Builder::new()
        .prefix("it's a $(place) ")
        .tempdir()
        .unwrap();
    let candidates = [Candidate::XdgRuntimeDir, at(place.path())];
    let work = Attempt {
        agent: &agent(),
        candidates: &candidates,
        prefix: "",
        directory: "r1",
    };
    let deployed = attempt(&connection, work).await.unwrap();
    let expected = place.path().join(".capstan-0a1b2c3d-r1");
    assert_eq!(deployed.directory(), text(&expected));
    assert_eq!(deployed.platform().system, "Linux");
    assert_eq!(deployed.skipped()[0].candidate, "XDG_RUNTIME_DIR");
    assert_eq!(deployed.skipped()[0].reason, "is not set");

    let mut process = deployed
        .start(&connection, &[], &["run", "it's \"two\" words"])
        .await
        .unwrap();
    process.stdin.write_all(b"frames").await.unwrap();
    process.stdin.shutdown().await.unwrap();
    let mut said = String::new();
    process.stdout.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "run it's \"two\" words\nframes");
    let status = process.control.wait().await.unwrap();
    assert_eq!(status, ExitStatus::Code(0));

    let left = probe_left_behind(&connection, &name("r1"), &candidates)
        .await
        .unwrap();
    assert_eq!(left.paths, [text(&expected)]);
    deployed.remove().await;
    let left = probe_left_behind(&connection, &name("r1"), &candidates)
        .await
        .unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert!(entries(place.path()).is_empty());
}

#[tokio::test]
async fn a_lost_connection_leaves_no_directory() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let work = Attempt {
        agent: &agent(),
        candidates: &[at(place.path())],
        prefix: "",
        directory: "r1",
    };
    let deployed = attempt(&connection, work).await.unwrap();
    let process = deployed.start(&connection, &[], &[]).await.unwrap();
    assert_eq!(entries(place.path()).len(), 1);
    drop(connection);
    eventually("removal", || entries(place.path()).is_empty()).await;
    drop((deployed, process));
}

#[tokio::test]
async fn dropping_the_deployed_agent_removes_it() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let work = Attempt {
        agent: &agent(),
        candidates: &[at(place.path())],
        prefix: "",
        directory: "r1",
    };
    drop(attempt(&connection, work).await.unwrap());
    eventually("removal", || entries(place.path()).is_empty()).await;
}

#[tokio::test]
async fn stale_directories_go_and_strangers_stay() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("precious"), "x").unwrap();
    let stale = place.path().join(".capstan-0a1b2c3d-old");
    fs::create_dir(&stale).unwrap();
    fs::write(stale.join("agent"), "x").unwrap();
    let link = place.path().join(".capstan-0a1b2c3d-link");
    std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
    fs::create_dir(place.path().join(".capstan-ffffffff-other")).unwrap();
    let foreign = place.path().join(".capstan-0a1b2c3d-foreign");
    fs::create_dir(&foreign).unwrap();
    std::os::unix::fs::chown(&foreign, Some(65534), None).unwrap();
    let work = Attempt {
        agent: &agent(),
        candidates: &[at(place.path())],
        prefix: "",
        directory: "r1",
    };
    let deployed = attempt(&connection, work).await.unwrap();
    deployed.remove().await;
    let mut left = entries(place.path());
    left.sort();
    let strangers = [
        ".capstan-0a1b2c3d-foreign",
        ".capstan-0a1b2c3d-link",
        ".capstan-ffffffff-other",
    ];
    assert_eq!(left, strangers);
    assert!(elsewhere.path().join("precious").exists());
}

#[tokio::test]
async fn a_directory_where_nothing_runs_is_passed_over() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let noexec = Tmpfs::mount("noexec,mode=1777");
    let good = tempfile::tempdir().unwrap();
    let missing = good.path().join("missing");
    let first = Candidate::Path(noexec.path().into());
    let work = Attempt {
        agent: &agent(),
        candidates: &[first.clone(), at(&missing), at(good.path())],
        prefix: "",
        directory: "r1",
    };
    let deployed = attempt(&connection, work).await.unwrap();
    assert!(deployed.directory().starts_with(text(good.path())));
    let [one, two] = deployed.skipped() else {
        panic!("{:?}", deployed.skipped());
    };
    assert!(one.reason.contains("Permission denied"), "{one}");
    assert!(two.reason.contains("No such file"), "{two}");

    let work = Attempt {
        agent: &agent(),
        candidates: &[first, at(&missing)],
        prefix: "",
        directory: "r2",
    };
    let error = attempt(&connection, work).await.unwrap_err().to_string();
    for part in [noexec.path(), text(&missing), "Permission denied", "noexec"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(entries(Path::new(noexec.path())).is_empty());
}

#[tokio::test]
async fn a_full_directory_is_passed_over() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let full = Tmpfs::mount("size=256k,mode=1777");
    let good = tempfile::tempdir().unwrap();
    let mut big = agent();
    big.extend(std::iter::repeat_n(b'#', 3 << 20));
    let first = Candidate::Path(full.path().into());
    let work = Attempt {
        agent: &big,
        candidates: &[first.clone(), at(good.path())],
        prefix: "",
        directory: "r1",
    };
    let deployed = attempt(&connection, work).await.unwrap();
    assert!(deployed.directory().starts_with(text(good.path())));
    let [skipped] = deployed.skipped() else {
        panic!("{:?}", deployed.skipped());
    };
    assert!(skipped.reason.contains("No space left"), "{skipped}");
    assert!(entries(Path::new(full.path())).is_empty());

    let work = Attempt {
        agent: &big,
        candidates: &[first],
        prefix: "",
        directory: "r2",
    };
    let error = attempt(&connection, work).await.unwrap_err().to_string();
    assert!(error.contains("No space left"), "{error}");
    assert!(error.contains("4 MiB free"), "{error}");
}

#[tokio::test]
async fn become_is_used_and_its_refusal_explained() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let candidates = [at(place.path())];
    let agent = agent();
    let with = |prefix| Attempt {
        agent: &agent,
        candidates: &candidates,
        prefix,
        directory: "r1",
    };
    let good = sshd.path("good");
    program(
        &good,
        "#!/bin/sh\ntest \"$1\" = -n && shift && exec \"$@\"\n",
    );
    let prefix = format!("{} -n", good.display());
    attempt(&connection, with(&prefix))
        .await
        .unwrap()
        .remove()
        .await;

    let refusing = sshd.path("sudo");
    let body = "#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n";
    program(&refusing, body);
    let prefix = format!("{} -n", refusing.display());
    let error = attempt(&connection, with(&prefix)).await.unwrap_err();
    assert!(
        matches!(error, DeployError::BecomeRefused { .. }),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(said.contains("a password is required"), "{said}");
    assert!(said.contains("backup ALL=(root) NOPASSWD: ALL"), "{said}");

    let error = attempt(&connection, with("/nowhere/sudo -n"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, DeployError::BecomeMissing { .. }),
        "{error:?}"
    );
    eventually("removal", || entries(place.path()).is_empty()).await;
}

#[tokio::test]
async fn the_real_sudo_starts_the_agent() {
    if !Path::new("/usr/bin/sudo").exists() {
        eprintln!("skipped: there is no sudo here");
        return;
    }
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let work = Attempt {
        agent: &agent(),
        candidates: &[at(place.path())],
        prefix: "sudo -n",
        directory: "r1",
    };
    let deployed = attempt(&connection, work).await.unwrap();
    let mut process = deployed.start(&connection, &[], &["a b"]).await.unwrap();
    process.stdin.shutdown().await.unwrap();
    let mut said = String::new();
    process.stdout.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "a b\n");
    assert!(process.control.wait().await.unwrap().success());
}

#[tokio::test]
async fn an_agent_that_was_changed_on_the_way_is_not_started() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let work = Attempt {
        agent: b"#!/bin/sh\nprintf '\\033[2Jevil'\n",
        candidates: &[at(place.path())],
        prefix: "",
        directory: "r1",
    };
    let error = attempt(&connection, work).await.unwrap_err();
    let DeployError::DigestMismatch { said, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(said, "\\u{1b}[2Jevil");
}

#[tokio::test]
async fn a_machine_without_agent_names_the_missing_file() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let name = name("r1");
    let options = DeployOptions {
        name: &name,
        candidates: &[at(place.path())],
        become_prefix: "",
        agent_for: &|platform: &Platform| {
            Err(MissingAgent {
                machine: platform.machine.clone(),
                reason: format!("put one at /usr/lib/capstan/agents/{}", platform.machine),
            })
        },
    };
    let error = deploy(&connection, "backup", &options).await.unwrap_err();
    let DeployError::MissingAgent { source, .. } = error else {
        panic!("{error:?}");
    };
    let machine = std::env::consts::ARCH;
    assert!(source.reason.ends_with(machine), "{source}");
}

#[tokio::test]
async fn a_process_that_stays_is_found() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join(".capstan-0a1b2c3d-stays");
    fs::create_dir(&directory).unwrap();
    let copy = directory.join("agent");
    fs::copy("/bin/sleep", &copy).unwrap();
    let mut child = Command::new(&copy).arg("1000").spawn().unwrap();
    let probe = probe_left_behind(&connection, &name("r1"), &[at(place.path())]).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let left = probe.unwrap();
    assert_eq!(left.paths, [text(&directory)]);
    let [process] = &left.processes[..] else {
        panic!("{left:?}");
    };
    assert_eq!(process.pid, child.id());
    assert!(process.command.starts_with(text(&copy)), "{process:?}");
}

/// The scripts as each shell that is installed runs them, as `sh` and as the login shell.
#[test]
fn the_scripts_work_in_every_shell() {
    let shells = [
        vec!["/usr/bin/dash"],
        vec!["/bin/bash", "--posix"],
        vec!["/bin/busybox", "sh"],
        vec!["/usr/bin/mksh"],
        vec!["/bin/tcsh"],
        vec!["/usr/bin/fish"],
    ];
    for shell in shells.iter().filter(|shell| Path::new(shell[0]).exists()) {
        let place = tempfile::tempdir().unwrap();
        let bin = tempfile::tempdir().unwrap();
        // Login shells that are no POSIX shells hand over to the `sh` they find.
        if !shell[0].contains("tcsh") && !shell[0].contains("fish") {
            let body = format!("#!/bin/sh\nexec {} \"$@\"\n", shell.join(" "));
            program(&bin.path().join("sh"), &body);
        }
        let stale = place.path().join(".capstan-0a1b2c3d-old");
        fs::create_dir(&stale).unwrap();
        let path = format!("{}:/usr/bin:/bin", bin.path().display());
        let run = |line: &str| {
            Command::new(shell[0])
                .args(&shell[1..])
                .args(["-c", line])
                .env("PATH", &path)
                .stdin(Stdio::null())
                .output()
                .unwrap()
        };
        let candidates = [Candidate::XdgRuntimeDir, at(place.path())];
        let line = crate::ssh::janitor::keep_line(&name("r1"), &candidates, 0);
        let kept = run(&line);
        let said = String::from_utf8(kept.stdout).unwrap();
        let taken = format!("ok 1 {}/.capstan-0a1b2c3d-r1\n", place.path().display());
        assert!(said.starts_with("uname Linux "), "{shell:?}: {said}");
        assert!(
            said.ends_with(&taken),
            "{shell:?}: {said} {:?}",
            kept.stderr
        );
        assert!(kept.status.success(), "{shell:?}");
        // Its input ended, so it has cleaned up.
        assert!(entries(place.path()).is_empty(), "{shell:?}");

        fs::create_dir(&stale).unwrap();
        let line = crate::ssh::remains::find_line(&name("r1"), &candidates);
        let found = String::from_utf8(run(&line).stdout).unwrap();
        let expected = format!("path {}\nend\n", stale.display());
        assert_eq!(found, expected, "{shell:?}");
    }
}
