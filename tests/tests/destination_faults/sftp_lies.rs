//! An SFTP server that does not keep its word: it says "done" and does nothing, invents names and limits, and sends
//! packets that no server sends.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use append_server::destination::{Destination as _, PutOutcome};
use formats::object::ObjectName;
use tests::sftp_faults::{Request, SftpFault, attributes, name_answer};

use crate::fixtures::{
    REPOSITORY, bytes_of, expect_absent, expect_passing, expect_stored, put, record, records, whole,
};
use crate::sftp::PacketBench;

const FILE: u32 = 0o100_600;
const FOLDER: u32 = 0o040_700;

fn extended(name: &str) -> Request {
    Request::Extended(name.to_owned())
}

/// M61, F36: a server that says that it gave an object its name and did not is found out by looking.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_not_given_is_missed_at_once() -> Result<()> {
    let without: &[&str] = &["-P", "hardlink,fsync"];
    for (arguments, step) in [
        (&[][..], extended("hardlink@openssh.com")),
        (without, Request::Rename),
    ] {
        let bench = PacketBench::start(arguments).await?;
        let sftp = bench.sftp()?;
        bench.server.plan(step, 0, 1, SftpFault::Pretend);
        let lie = put(&bench.spool, &sftp, record(1), b"record").await;
        expect_passing("nothing is there", &lie)?;
        expect_absent(&sftp, record(1)).await?;
        let again = put(&bench.spool, &sftp, record(1), b"record").await?;
        ensure!(again == PutOutcome::Created, "{again:?}");
    }
    Ok(())
}

/// M61, F36: writes that are acknowledged and not done. Missing bytes at the end show by the size; a hole in the middle
/// only by reading, which a put does where the server promises nothing about durability.
#[tokio::test(flavor = "multi_thread")]
async fn writes_that_were_not_done_are_missed() -> Result<()> {
    let bytes = bytes_of(1, 300_000);
    let bench = PacketBench::start(&[]).await?;
    let sftp = bench.sftp()?;
    bench
        .server
        .plan(Request::Write, 0, u64::MAX, SftpFault::Pretend);
    expect_passing(
        "no bytes",
        &put(&bench.spool, &sftp, record(1), &bytes).await,
    )?;

    let bench = PacketBench::start(&["-P", "fsync"]).await?;
    let sftp = bench.sftp()?;
    bench.server.plan(Request::Write, 1, 1, SftpFault::Pretend);
    let hole = put(&bench.spool, &sftp, record(1), &bytes).await?;
    ensure!(hole == PutOutcome::ExistsDifferent, "{hole:?}");
    ensure!(bench.server.struck() == 1);
    Ok(())
}

/// M61: the limit of that. A server that promises durability and leaves a hole is believed; whoever compares the object's
/// digest misses it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hole_under_a_promise_shows_when_the_object_is_read() -> Result<()> {
    let bytes = bytes_of(2, 300_000);
    let bench = PacketBench::start(&[]).await?;
    let sftp = bench.sftp()?;
    bench.server.plan(Request::Write, 1, 1, SftpFault::Pretend);
    let believed = put(&bench.spool, &sftp, record(1), &bytes).await?;
    ensure!(believed == PutOutcome::Created, "{believed:?}");
    ensure!(whole(&sftp, record(1)).await? != bytes);
    let again = put(&bench.spool, &sftp, record(1), &bytes).await?;
    ensure!(again == PutOutcome::ExistsDifferent, "{again:?}");
    Ok(())
}

/// M56, M66: names that a folder cannot have, or that are no objects, are left out; the same one twice is one.
#[tokio::test(flavor = "multi_thread")]
async fn invented_names_are_left_out() -> Result<()> {
    let bench = PacketBench::start(&[]).await?;
    let sftp = bench.sftp()?;
    put(&bench.spool, &sftp, record(1), b"record").await?;
    let good = format!("{:020}", 7);
    let listed = good.clone();
    let invented = SftpFault::answer(move |id| {
        let file = || attributes(6, FILE);
        name_answer(
            id,
            &[
                ("..", attributes(0, FOLDER)),
                ("../../etc/passwd", file()),
                ("/etc/passwd", file()),
                ("7", file()),
                ("", file()),
                ("00000000000000000008/more", file()),
                ("\u{1b}[2J", file()),
                (&listed, file()),
                (&listed, file()),
                ("00000000000000000009", attributes(6, FOLDER)),
                ("00000000000000000010", attributes(6, 0o120_777)),
            ],
        )
    });
    bench.server.plan(Request::Readdir, 0, 1, invented);
    // The real page follows.
    let found = records(&sftp).await?;
    ensure!(
        found == [ObjectName::Log(1), ObjectName::Log(7)],
        "{found:?}"
    );

    // A page without a name is not the end, and neither is one that does not say what its names are.
    let empty = SftpFault::answer(|id| name_answer(id, &[]));
    let bare = SftpFault::answer(|id| name_answer(id, &[("x", vec![0; 4])]));
    for fault in [empty, bare] {
        bench.server.forget_plan();
        bench.server.plan(Request::Readdir, 0, 1, fault);
        expect_passing("an invented page", &records(&sftp).await)?;
    }
    Ok(())
}

/// M66: a link in an object's place, or in a folder's, leads nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn planted_links_are_not_followed() -> Result<()> {
    let bench = PacketBench::start(&[]).await?;
    let outside = bench.root.with_extension("outside");
    fs::create_dir(&outside)?;
    fs::write(outside.join("secret"), b"secret")?;
    let sftp = bench.sftp()?;
    put(&bench.spool, &sftp, record(1), b"record").await?;
    symlink(outside.join("secret"), bench.file_of(&record(2)))?;
    let read = whole(&sftp, record(2)).await;
    let stored = put(&bench.spool, &sftp, record(2), b"secret").await;
    ensure!(read.is_err() && !matches!(stored, Ok(PutOutcome::Created | PutOutcome::ExistsSame)));
    ensure!(records(&sftp).await? == [ObjectName::Log(1)]);

    for folder in ["tmp".to_owned(), REPOSITORY.to_string()] {
        let bench = PacketBench::start(&[]).await?;
        let outside = bench.root.with_extension("outside");
        fs::create_dir(&outside)?;
        symlink(&outside, bench.root.join(&folder))?;
        let stored = put(&bench.spool, &bench.sftp()?, record(1), b"record").await;
        ensure!(stored.is_err(), "{folder}: {stored:?}");
        let written: Vec<_> = fs::read_dir(&outside)?.collect();
        ensure!(written.is_empty(), "{folder}: {written:?}");
    }
    Ok(())
}

/// M66: a packet of 4 GiB, and bytes that are no packet, end the connection and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn monstrous_packets_end_the_connection() -> Result<()> {
    let bench = PacketBench::start(&[]).await?;
    let sftp = bench.sftp()?;
    put(&bench.spool, &sftp, record(1), b"record").await?;
    let mut giant = vec![0xff; 4];
    giant.push(101);
    let short = vec![0, 0, 0, 1, 105];
    let unknown = vec![0, 0, 0, 5, 77, 0, 0, 0, 1];
    let name_count = {
        let mut packet = vec![0, 0, 0, 9, 104];
        packet.extend([0, 0, 0, 9]);
        packet.extend([0xff; 4]);
        packet
    };
    for (what, bytes) in [
        ("4 GiB", giant),
        ("no number", short),
        ("unknown", unknown),
        ("4 thousand million names", name_count),
    ] {
        for request in [Request::Lstat, Request::Readdir, Request::Open] {
            bench.server.forget_plan();
            bench
                .server
                .plan(request.clone(), 0, 1, SftpFault::Raw(bytes.clone()));
            let answer = match request {
                Request::Readdir => records(&sftp).await.map(drop),
                _ => whole(&sftp, record(1)).await.map(drop),
            };
            expect_passing(&format!("{what} for {request:?}"), &answer)?;
            bench.server.forget_plan();
            expect_stored(&sftp, record(1), b"record").await?;
        }
    }
    Ok(())
}

/// M67: what a server says of its limits and its space is a hint. Whatever it says, an object is stored whole or not.
#[tokio::test(flavor = "multi_thread")]
async fn limits_and_free_space_are_hints() -> Result<()> {
    let bench = PacketBench::start(&[]).await?;
    let bytes = bytes_of(3, 500_000);
    let numbers = |count: usize, value: u64| {
        SftpFault::answer(move |id| {
            let mut packet = vec![201];
            packet.extend(id.to_be_bytes());
            packet.extend(value.to_be_bytes().repeat(count));
            packet
        })
    };
    for (sequence, value) in (0..).zip([0, 1, 5_000, u64::MAX]) {
        let sftp = bench.sftp()?;
        bench.server.forget_plan();
        bench.server.plan(
            extended("limits@openssh.com"),
            0,
            u64::MAX,
            numbers(4, value),
        );
        bench.server.plan(
            extended("statvfs@openssh.com"),
            0,
            u64::MAX,
            numbers(11, value),
        );
        let stored = put(&bench.spool, &sftp, record(sequence), &bytes).await;
        match stored {
            Ok(outcome) => {
                ensure!(outcome == PutOutcome::Created, "{value}: {outcome:?}");
                expect_stored(&sftp, record(sequence), &bytes).await?;
            }
            // A packet of one byte holds no request.
            failed => {
                ensure!(value == 1 || value == 5_000, "{value}: {failed:?}");
                expect_passing(&format!("limits of {value}"), &failed)?;
            }
        }
        ensure!(sftp.free_bytes().await.is_ok() || value == 1, "{value}");
    }
    Ok(())
}

/// M57, F26: a server that brings more bytes than were asked for, or fewer, or none, never makes an object of them.
#[tokio::test(flavor = "multi_thread")]
async fn data_of_another_length_is_an_error() -> Result<()> {
    let bench = PacketBench::start(&[]).await?;
    let sftp = bench.sftp()?;
    put(&bench.spool, &sftp, record(1), b"record").await?;
    for length in [0_u32, 7, 1_000] {
        bench.server.forget_plan();
        let other = SftpFault::answer(move |id| {
            let mut packet = vec![103];
            packet.extend(id.to_be_bytes());
            packet.extend(length.to_be_bytes());
            packet.extend(b"x".repeat(usize::try_from(length).unwrap_or_default()));
            packet
        });
        bench.server.plan(Request::Read, 0, 1, other);
        expect_passing(&format!("{length} bytes"), &whole(&sftp, record(1)).await)?;
    }
    bench.server.forget_plan();
    expect_stored(&sftp, record(1), b"record").await
}
