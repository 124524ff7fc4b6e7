//! An SFTP server on a line that breaks: puts and reads cut anywhere, and requests whose answers are lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use append_server::destination::sftp::SftpDestination;
use append_server::destination::{Destination as _, ObjectKey, PutOutcome};
use append_server::spool::Spool;
use tempfile::TempDir;
use tests::sftp_faults::{Request, SftpFault, SftpFaultServer};
use tests::sshd::{Sshd, SshdOptions, generate_key};
use tests::tcp_proxy::TcpProxy;

use crate::fixtures::{
    bytes_of, expect_absent, expect_passing, expect_stored, put, record, records, sftp, spool,
    whole,
};

/// OpenSSH's whole server behind a relay that counts, cuts and slows down.
pub struct LineBench {
    pub relay: TcpProxy,
    pub spool: Arc<Spool>,
    pub root: PathBuf,
    sshd: Sshd,
    _dir: TempDir,
}

impl LineBench {
    pub async fn start() -> Result<Self> {
        let dir = tests::world::temporary_directory()?;
        let server_dir = dir.path().join("sshd");
        fs::create_dir(&server_dir)?;
        let options = SshdOptions {
            config: vec!["Subsystem sftp internal-sftp".into()],
            ..SshdOptions::default()
        };
        let sshd = Sshd::start(&server_dir, options)?;
        let bench = Self {
            relay: TcpProxy::start(sshd.address())?,
            spool: spool(&dir.path().join("spool"), 256 << 20)?,
            root: dir.path().join("root"),
            sshd,
            _dir: dir,
        };
        bench.sftp()?.create_root().await?;
        Ok(bench)
    }

    /// The configuration of a destination that nobody waits for.
    pub fn table(&self) -> Result<String> {
        Ok(format!(
            "[[destination]]\nname = \"nas\"\nurl = \"sftp://root@{}{}\"\nrequired = false\n\
             host_key = [\"{}\"]\nidentity_file = \"{}\"\n",
            self.relay.address(),
            self.root.display(),
            self.sshd.fingerprint()?,
            self.sshd.identity_file().display()
        ))
    }

    /// A destination of its own, without connections from before.
    pub fn sftp(&self) -> Result<SftpDestination> {
        let fingerprint = self.sshd.fingerprint()?;
        let identity = self.sshd.identity_file();
        sftp(self.relay.address(), &fingerprint, &identity, &self.root)
    }
}

/// OpenSSH's program behind a server that changes packets.
pub struct PacketBench {
    pub server: SftpFaultServer,
    pub spool: Arc<Spool>,
    pub root: PathBuf,
    dir: TempDir,
}

impl PacketBench {
    /// With these arguments of the program's.
    pub async fn start(arguments: &[&str]) -> Result<Self> {
        let dir = tests::world::temporary_directory()?;
        generate_key(&dir.path().join("client_key"))?;
        let bench = Self {
            server: SftpFaultServer::start(dir.path(), arguments)?,
            spool: spool(&dir.path().join("spool"), 256 << 20)?,
            root: dir.path().join("root"),
            dir,
        };
        bench.sftp()?.create_root().await?;
        Ok(bench)
    }

    pub fn sftp(&self) -> Result<SftpDestination> {
        let identity = self.dir.path().join("client_key");
        let server = &self.server;
        sftp(
            server.address(),
            server.fingerprint(),
            &identity,
            &self.root,
        )
    }

    /// Where an object lies.
    pub fn file_of(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.to_string())
    }
}

/// Checks that nothing but this object's whole bytes is under its name; whether it is there.
fn expect_whole_or_nothing(root: &Path, key: &ObjectKey, bytes: &[u8]) -> Result<bool> {
    let found = match fs::read(root.join(key.to_string())) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        found => found.context("reading the object's file")?,
    };
    ensure!(found == bytes, "{key} has {} bytes", found.len());
    Ok(true)
}

/// F33: a put whose connection ends after each 64 KiB. Never anything but the whole object under its name; what was
/// written lies among the temporary files; the next attempt stores it.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_cut_at_each_64_kib_leaves_a_whole_object_or_none() -> Result<()> {
    const STEP: u64 = 64 << 10;
    const OBJECT_BYTES: usize = 600_000;
    let bench = LineBench::start().await?;
    let (mut cut, mut cuts) = (0, 0);
    let mut left_behind = 0;
    for sequence in 0.. {
        let key = record(sequence);
        let bytes = bytes_of(sequence, OBJECT_BYTES);
        let sftp = bench.sftp()?;
        bench.relay.cut_after_sent(cut);
        let answer = put(&bench.spool, &sftp, key.clone(), &bytes).await;
        let called_off = bench.relay.call_off_cut_after_sent();
        let there = expect_whole_or_nothing(&bench.root, &key, &bytes)?;
        if called_off {
            // The cut would have come after the last byte.
            ensure!(answer? == PutOutcome::Created && there);
            break;
        }
        cuts += 1;
        expect_passing(&format!("cut after {cut}"), &answer)?;
        let temporary = bench.root.join("tmp");
        left_behind = fs::read_dir(temporary).map_or(0, Iterator::count);
        let again = put(&bench.spool, &sftp, key.clone(), &bytes).await?;
        let expected = if there {
            PutOutcome::ExistsSame
        } else {
            PutOutcome::Created
        };
        ensure!(again == expected, "cut after {cut}: {again:?}");
        expect_stored(&sftp, key, &bytes).await?;
        cut += STEP;
    }
    ensure!(cuts as u64 >= OBJECT_BYTES as u64 / STEP, "{cuts} cuts");
    ensure!(left_behind > 0, "a cut leaves a temporary file");
    let listed = records(&bench.sftp()?).await?;
    ensure!(listed.len() == cuts + 1, "{listed:?}");
    Ok(())
}

/// F26, F33: a read whose connection ends is an error at its end, never a shorter object, and not "absent".
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_cut_is_an_error_and_never_short_data() -> Result<()> {
    let bench = LineBench::start().await?;
    let bytes = bytes_of(9, 500_000);
    put(&bench.spool, &bench.sftp()?, record(1), &bytes).await?;
    let mut cuts = 0;
    for cut in (0..).step_by(48 << 10) {
        let sftp = bench.sftp()?;
        bench.relay.cut_after(cut);
        let found = whole(&sftp, record(1)).await;
        if bench.relay.cut_is_pending() {
            ensure!(found? == bytes);
            break;
        }
        cuts += 1;
        expect_passing(&format!("cut after {cut}"), &found)?;
        expect_stored(&sftp, record(1), &bytes).await?;
    }
    ensure!(cuts >= 10, "{cuts} cuts");
    Ok(())
}

/// F27, F33: a list whose connection ends is an error, never a shorter list.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_cut_is_an_error() -> Result<()> {
    let bench = PacketBench::start(&[]).await?;
    let sftp = bench.sftp()?;
    for sequence in 0..150 {
        put(&bench.spool, &sftp, record(sequence), b"record").await?;
    }
    // Pages of a hundred names: the first, the second, and the one that says that there are no more.
    for skip in 0..3 {
        for fault in [
            SftpFault::CutBefore,
            SftpFault::CutAfter,
            SftpFault::FailAfter,
        ] {
            bench.server.forget_plan();
            bench.server.plan(Request::Readdir, skip, 1, fault);
            expect_passing(&format!("page {skip}"), &records(&sftp).await)?;
        }
    }
    bench.server.forget_plan();
    ensure!(records(&sftp).await?.len() == 150);
    Ok(())
}

/// F34: the name was given and the answer was lost, by a link as by a rename: the next attempt finds the object.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_given_without_an_answer_is_found() -> Result<()> {
    let link = Request::Extended("hardlink@openssh.com".to_owned());
    let without: &[&str] = &["-P", "hardlink,fsync"];
    for (arguments, step) in [(&[][..], link), (without, Request::Rename)] {
        let bench = PacketBench::start(arguments).await?;
        let sftp = bench.sftp()?;
        let bytes = bytes_of(1, 200_000);
        bench.server.plan(step.clone(), 0, 1, SftpFault::CutAfter);
        let lost = put(&bench.spool, &sftp, record(1), &bytes).await;
        expect_passing("the answer was lost", &lost)?;
        ensure!(expect_whole_or_nothing(&bench.root, &record(1), &bytes)?);
        let again = put(&bench.spool, &sftp, record(1), &bytes).await?;
        ensure!(again == PutOutcome::ExistsSame, "{again:?}");

        // Cut before it, there is nothing yet.
        bench.server.plan(step, 0, 1, SftpFault::CutBefore);
        let lost = put(&bench.spool, &sftp, record(2), &bytes).await;
        expect_passing("nothing was done", &lost)?;
        expect_absent(&sftp, record(2)).await?;
        let again = put(&bench.spool, &sftp, record(2), &bytes).await?;
        ensure!(again == PutOutcome::Created, "{again:?}");
        ensure!(bench.server.struck() == 2);
    }
    Ok(())
}

/// F34: the server says that it failed to give the name and has given it: reading back makes it a success, and other
/// bytes under the name are none.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_given_although_the_server_says_not_is_a_success() -> Result<()> {
    let link = Request::Extended("hardlink@openssh.com".to_owned());
    let without: &[&str] = &["-P", "hardlink,fsync"];
    for (arguments, step) in [(&[][..], link), (without, Request::Rename)] {
        let bench = PacketBench::start(arguments).await?;
        let sftp = bench.sftp()?;
        let bytes = bytes_of(2, 200_000);
        bench.server.plan(step, 0, 1, SftpFault::FailAfter);
        let outcome = put(&bench.spool, &sftp, record(1), &bytes).await?;
        ensure!(
            matches!(outcome, PutOutcome::Created | PutOutcome::ExistsSame),
            "{outcome:?}"
        );
        ensure!(bench.server.struck() == 1);
        expect_stored(&sftp, record(1), &bytes).await?;
        let other = put(&bench.spool, &sftp, record(1), &bytes_of(3, 200_000)).await?;
        ensure!(other == PutOutcome::ExistsDifferent, "{other:?}");
        let left: Vec<_> = fs::read_dir(bench.root.join("tmp"))?.collect();
        ensure!(left.is_empty(), "{left:?}");
    }
    Ok(())
}

/// F33: whichever single request of a put is refused or loses its answer, there is a whole object or none, and the next
/// attempt ends well.
#[tokio::test(flavor = "multi_thread")]
async fn any_request_of_a_put_may_fail() -> Result<()> {
    let bench = PacketBench::start(&[]).await?;
    let bytes = bytes_of(4, 400_000);
    let extended = |name: &str| Request::Extended(name.to_owned());
    let mut sequence = 0;
    for request in [
        Request::Open,
        Request::Write,
        Request::Close,
        Request::Lstat,
        Request::Other(10),
        Request::Other(14),
        extended("fsync@openssh.com"),
        extended("hardlink@openssh.com"),
        extended("limits@openssh.com"),
    ] {
        for fault in [
            SftpFault::CutBefore,
            SftpFault::CutAfter,
            SftpFault::FailAfter,
        ] {
            sequence += 1;
            let key = record(sequence);
            let sftp = bench.sftp()?;
            bench.server.forget_plan();
            bench.server.plan(request.clone(), 0, 1, fault);
            let what = format!("{request:?} of {key}");
            let first = put(&bench.spool, &sftp, key.clone(), &bytes).await;
            let there = expect_whole_or_nothing(&bench.root, &key, &bytes)?;
            match first {
                Ok(outcome) => {
                    ensure!(
                        there && outcome != PutOutcome::ExistsDifferent,
                        "{what}: {outcome:?}"
                    );
                }
                failed => expect_passing(&what, &failed)?,
            }
            let again = put(&bench.spool, &sftp, key.clone(), &bytes).await?;
            ensure!(again != PutOutcome::ExistsDifferent, "{what}: {again:?}");
            expect_stored(&sftp, key, &bytes).await?;
        }
    }
    Ok(())
}

/// F36: a server that takes an object and has lost it at the next connection. The put cannot know: the loss shows when
/// the object is asked for again, as `verify` and `scrub` do, as certainly absent; and the next put stores it anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_lost_later_is_absent_and_not_an_error() -> Result<()> {
    let bench = PacketBench::start(&[]).await?;
    let sftp = bench.sftp()?;
    let bytes = bytes_of(5, 100_000);
    let outcome = put(&bench.spool, &sftp, record(1), &bytes).await?;
    ensure!(outcome == PutOutcome::Created);
    fs::remove_file(bench.file_of(&record(1)))?;
    bench
        .server
        .plan(Request::Lstat, 0, 1, SftpFault::CutBefore);
    expect_passing("a cut", &sftp.head(record(1)).await)?;
    expect_absent(&sftp, record(1)).await?;
    ensure!(records(&sftp).await?.is_empty());
    let again = put(&bench.spool, &sftp, record(1), &bytes).await?;
    ensure!(again == PutOutcome::Created, "{again:?}");
    expect_stored(&sftp, record(1), &bytes).await?;

    // A server that has lost everything is not one without objects.
    fs::rename(&bench.root, bench.root.with_extension("gone"))?;
    fs::create_dir(&bench.root)?;
    let head = sftp.head(record(1)).await.map(drop);
    let list = records(&sftp).await.map(drop);
    let put = put(&bench.spool, &sftp, record(2), &bytes).await.map(drop);
    for answer in [head, list, put] {
        ensure!(
            answer.as_ref().is_err_and(|error| !error.is_absent()),
            "{answer:?}"
        );
    }
    Ok(())
}
