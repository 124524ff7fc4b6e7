//! Names, paths and links that a restore could be led astray by: refused, or restored where they belong.

use std::fs;

use anyhow::{Result, bail, ensure};
use tests::hostile_agent::script;
use tests::hostile_agent::tree::{Told, below, directory, file, symlink};
use tests::shapes::exit;
use tests::world::{HOST, World};

use crate::{RUN_DEADLINE, hostile_world, played, refuses, source_of};

/// Tells a tree, honestly stored, whose shape is the lie.
fn refuses_tree(
    what: &str,
    entries: Vec<Told>,
    further: Vec<(&'static [u8], Vec<Told>)>,
) -> Result<()> {
    let agent = script(move |agent| {
        let (entries, further) = (entries.clone(), further.clone());
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let further: Vec<(&[u8], &[Told])> = further
                .iter()
                .map(|(path, told)| (*path, told.as_slice()))
                .collect();
            let tree = below(&source_of(agent)?, &entries, &further);
            agent.back_up(&tree).await.map(drop)
        })
    });
    refuses(what, agent).map(drop)
}

#[test]
fn m11_names_that_stand_twice_are_refused() -> Result<()> {
    let twice = |second: Told| vec![file(b"a", 100, b"one"), second];
    refuses_tree("two files", twice(file(b"a", 101, b"two")), vec![])?;
    refuses_tree(
        "file and directory",
        twice(directory(b"a", 101)),
        vec![(b"a", vec![file(b"b", 102, b"")])],
    )?;
    let link = vec![symlink(b"a", 100, b"/etc"), directory(b"a", 101)];
    refuses_tree(
        "symlink and directory",
        link,
        vec![(b"a", vec![file(b"passwd", 102, b"owned")])],
    )?;
    refuses_tree(
        "unsorted",
        vec![file(b"b", 100, b"one"), file(b"a", 101, b"two")],
        vec![],
    )?;
    let blocks = vec![
        (&b"d"[..], vec![file(b"x", 102, b"1")]),
        (&b"d"[..], vec![file(b"x", 103, b"2")]),
    ];
    refuses_tree("a directory told twice", vec![directory(b"d", 101)], blocks)
}

#[test]
fn m12_names_that_are_no_names_are_refused() -> Result<()> {
    for name in [
        &b""[..],
        b".",
        b"..",
        b"a/b",
        b"/",
        b"../../etc/passwd",
        b"nul\0byte",
    ] {
        refuses_tree(
            &format!("name {name:?}"),
            vec![file(name, 100, b"content")],
            vec![],
        )?;
    }
    refuses_tree(
        "256 bytes",
        vec![file(&[b'n'; 256], 100, b"content")],
        vec![],
    )?;
    refuses_tree(
        "64 KiB",
        vec![file(&[b'n'; 65_536], 100, b"content")],
        vec![],
    )
}

#[test]
fn m12_names_that_drive_terminals_are_kept_and_shown_escaped() -> Result<()> {
    let names: [&[u8]; 5] = [
        b"\x1b[2J",
        b"\x1b]52;c;aGk=\x07",
        b"back\\slash",
        b"bad-utf8-\xff",
        b"line\nbreak",
    ];
    let agent = script(move |agent| {
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let mut sorted = names.to_vec();
            sorted.sort_unstable();
            let entries: Vec<Told> = sorted
                .iter()
                .zip(100..)
                .map(|(name, inode)| file(name, inode, b"content"))
                .collect();
            let tree = below(&source_of(agent)?, &entries, &[]);
            agent.back_up(&tree).await.map(drop)
        })
    });
    let (world, _server) = hostile_world(played(agent))?;
    world.run()?;
    let path = world.source().to_string_lossy().into_owned();
    world
        .coordinator(&["ls", HOST, "latest", &path])?
        .expect_code(exit::OK)?
        .expect_no_control_characters()?;
    world
        .coordinator(&["ls", HOST, "latest", &path, "--json"])?
        .expect_code(exit::OK)?
        .expect_no_control_characters()?;
    let copy = tests::world::below(&world.restore("latest", "out")?, &world.source());
    ensure!(fs::read_dir(copy)?.count() == names.len());
    Ok(())
}

#[test]
fn m13_nothing_lies_below_a_symlink_or_a_file() -> Result<()> {
    let passwd = || vec![file(b"passwd", 102, b"owned")];
    refuses_tree(
        "below a symlink",
        vec![symlink(b"a", 100, b"/etc")],
        vec![(b"a", passwd())],
    )?;
    refuses_tree(
        "below a file",
        vec![file(b"a", 100, b"content")],
        vec![(b"a", passwd())],
    )?;
    refuses_tree("below nothing", vec![], vec![(b"a", passwd())])?;
    refuses_tree(
        "beside the sources",
        vec![],
        vec![(b"../../../etc", passwd())],
    )
}

#[test]
fn m13_paths_that_were_not_asked_for_are_refused() -> Result<()> {
    let agent = script(|agent| {
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let tree = below(b"etc", &[file(b"passwd", 100, b"owned")], &[]);
            agent.back_up(&tree).await.map(drop)
        })
    });
    refuses("a source that was not asked for", agent).map(drop)
}

#[test]
fn m14_hard_links_between_unlike_things_never_leave_the_restore() -> Result<()> {
    let agent = script(|agent| {
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let mut outside = symlink(b"a", 100, b"/etc/passwd");
            let mut inside = file(b"b", 100, b"owned");
            outside.stat.links = 2;
            inside.stat.links = 2;
            let tree = below(&source_of(agent)?, &[outside, inside], &[]);
            agent.back_up(&tree).await.map(drop)
        })
    });
    let (world, _server) = hostile_world(played(agent))?;
    let before = fs::read("/etc/passwd")?;
    let finished = world.coordinator_within(RUN_DEADLINE, &["run", HOST, "--json"])?;
    if finished.code == Some(exit::OK) || finished.code == Some(exit::WARNINGS) {
        let output = world.output("out");
        fs::create_dir_all(&output)?;
        let text = output.to_string_lossy().into_owned();
        world.coordinator(&["restore", HOST, "latest", "--to", &text])?;
        let copy = tests::world::below(&output, &world.source());
        ensure!(
            copy.join("b")
                .symlink_metadata()
                .is_ok_and(|metadata| metadata.is_file()),
            "a file came back as something else"
        );
    } else {
        finished.expect_code(exit::INTEGRITY)?;
    }
    ensure!(
        fs::read("/etc/passwd")? == before,
        "a restore wrote outside its directory"
    );
    Ok(())
}

#[test]
fn m74_a_symlink_planted_where_a_restore_goes_is_not_followed() -> Result<()> {
    let world = World::new()?;
    fs::create_dir(world.source().join("etc"))?;
    fs::write(world.source().join("etc/file"), "restored")?;
    fs::write(world.source().join("top"), "restored")?;
    world.run()?;
    let elsewhere = world.directory().join("elsewhere");
    fs::create_dir(&elsewhere)?;
    fs::write(elsewhere.join("file"), "mine")?;
    let output = world.output("out");
    let copy = tests::world::below(&output, &world.source());
    fs::create_dir_all(&copy)?;
    std::os::unix::fs::symlink(&elsewhere, copy.join("etc"))?;
    std::os::unix::fs::symlink(elsewhere.join("file"), copy.join("top"))?;
    let text = output.to_string_lossy().into_owned();
    world.coordinator(&[
        "restore",
        HOST,
        "latest",
        "--to",
        &text,
        "--overwrite",
        "always",
    ])?;
    ensure!(
        fs::read_to_string(elsewhere.join("file"))? == "mine",
        "a planted symlink was followed"
    );
    ensure!(
        fs::read_dir(&elsewhere)?.count() == 1,
        "something was restored through a planted symlink"
    );
    // A symlink as the destination's own parent is the person's business; the destination itself as one is not.
    let planted = world.output("planted");
    std::os::unix::fs::symlink(&elsewhere, &planted)?;
    let finished = world.coordinator(&[
        "restore",
        HOST,
        "latest",
        "--to",
        &planted.to_string_lossy(),
    ])?;
    if finished.code == Some(exit::OK) {
        bail!("a restore into a directory that is not empty went ahead through a symlink");
    }
    Ok(())
}
