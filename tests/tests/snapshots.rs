//! What is told and given of snapshots beside listing and restoring them: what changed between two, and tar streams.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tests::compare::{Difference, Fact, differences};
use tests::coordinator_process::binary;
use tests::corpus::{Corpus, CorpusOptions};
use tests::shapes::{ChangeLine, DiffReport, exit};
use tests::world::{HOST, World, below};

/// The changes as lines of their word and the path below the source.
fn lines(world: &World, report: &DiffReport) -> Vec<String> {
    let source = world.source().to_string_lossy().into_owned();
    let lines = report.changes.iter().map(|change| {
        let path = change.path.strip_prefix(&source).unwrap_or(&change.path);
        format!("{} {path} {}", change.change, change.what.join(" "))
    });
    lines.collect()
}

fn diff(world: &World, arguments: &[&str]) -> Result<DiffReport> {
    let all = [arguments, &["--json"]].concat();
    world.coordinator(&all)?.expect_code(exit::OK)?.json()
}

/// A host with two snapshots, and one difference of each kind between them.
fn changed_world() -> Result<World> {
    let world = World::new()?;
    let source = world.source();
    for directory in ["a", "b"] {
        fs::create_dir(source.join(directory))?;
    }
    fs::write(source.join("a/content"), "before")?;
    fs::write(source.join("a/mode"), "x")?;
    fs::write(source.join("a/moves"), "the same")?;
    fs::write(source.join("a/same"), "the same")?;
    fs::write(source.join("b/type"), "a file")?;
    fs::hard_link(source.join("a/same"), source.join("b/linked"))?;
    world.run()?;
    world
        .coordinator(&["changes", HOST])?
        .expect_code(exit::NOT_FOUND)?
        .expect_stderr(&["is the first"])?;

    fs::write(source.join("a/content"), "afterwards")?;
    fs::set_permissions(source.join("a/mode"), fs::Permissions::from_mode(0o4711))?;
    fs::rename(source.join("a/moves"), source.join("b/moved"))?;
    fs::remove_file(source.join("b/type"))?;
    symlink("nowhere", source.join("b/type"))?;
    fs::write(source.join("b/evil\u{1b}[31m"), "1")?;
    world.run()?;
    Ok(world)
}

#[test]
fn what_changed_between_two_snapshots_is_told() -> Result<()> {
    let world = changed_world()?;
    let found = diff(&world, &["diff", HOST, "latest~1"])?;
    ensure!(
        lines(&world, &found)
            == [
                "changed /a/content content mtime",
                "changed /a/mode mode",
                "removed /a/moves ",
                "added /b/evil\\x1b[31m ",
                "added /b/moved ",
                "changed /b/type type mode mtime",
            ],
        "{found:?}"
    );
    let totals = &found.totals;
    ensure!(
        totals.added.files == 2 && totals.removed.files == 1,
        "{totals:?}"
    );
    ensure!(totals.added.bytes == 9 && totals.moved == 1, "{totals:?}");
    ensure!(
        (
            totals.content_changed,
            totals.type_changed,
            totals.metadata_changed
        ) == (1, 1, 1),
        "{totals:?}"
    );
    let newest = world.snapshots()?.pop().map(|line| line.id);
    ensure!(newest.as_deref() == Some(found.to.id.as_str()), "{found:?}");
    ensure!(diff(&world, &["changes", HOST])?.changes.len() == 6);
    Ok(())
}

/// What a report says of a run's changes.
#[derive(Debug, PartialEq, Deserialize)]
struct Changes {
    added: u64,
    changed: u64,
    metadata: u64,
    removed: u64,
    moved: u64,
    first: Vec<ChangeLine>,
}

/// What has them.
#[derive(Debug, Deserialize)]
struct WithChanges {
    changes: Option<Changes>,
}

#[test]
fn what_changed_is_in_the_report_of_the_run_and_is_what_diff_tells() -> Result<()> {
    let world = changed_world()?;
    let first: WithChanges = world
        .coordinator(&["show", HOST, "latest~1", "--json"])?
        .json()?;
    ensure!(first.changes.is_none(), "{first:?}");
    let shown: WithChanges = world
        .coordinator(&["show", HOST, "latest", "--json"])?
        .json()?;
    let found = shown.changes.context("it has a parent")?;
    ensure!(
        (found.added, found.changed, found.metadata) == (2, 2, 1),
        "{found:?}"
    );
    ensure!((found.removed, found.moved) == (1, 1), "{found:?}");
    let told = |changes: &[ChangeLine]| {
        let paths = changes.iter().map(|change| change.path.clone());
        let mut paths: Vec<String> = paths.collect();
        paths.sort();
        paths
    };
    let compared = diff(&world, &["changes", HOST])?;
    ensure!(
        told(&found.first) == told(&compared.changes),
        "{found:?} and {compared:?}"
    );
    let history: Vec<WithChanges> = world.coordinator(&["history", "--json"])?.json()?;
    ensure!(
        history.last().and_then(|line| line.changes.as_ref()) == Some(&found),
        "{history:?}"
    );
    let text = world
        .coordinator(&["show", HOST, "latest"])?
        .expect_code(exit::OK)?
        .expect_no_control_characters()?
        .stdout_text();
    ensure!(
        text.contains("2 added, 2 changed, 1 in metadata alone, 1 removed, of which 1 only moved"),
        "{text}"
    );
    ensure!(text.contains("evil\\x1b[31m\n"), "{text}");

    // Nothing, and then the run itself says it.
    let report = world.coordinator(&["run", HOST, "--json"])?;
    let report: WithChanges = report.expect_code(exit::OK)?.json()?;
    let found = report.changes.context("it has a parent")?;
    ensure!(found.first.is_empty() && found.changed == 0, "{found:?}");
    Ok(())
}

#[test]
fn paths_restrict_what_is_compared_and_what_is_not_there_is_named() -> Result<()> {
    let world = changed_world()?;
    let newest = world.snapshots()?.pop().context("there are two")?.id;
    let below = world.source().join("a").to_string_lossy().into_owned();
    let part = diff(&world, &["diff", HOST, "latest~1", &newest[..8], &below])?;
    ensure!(part.changes.len() == 3, "{part:?}");
    let text = world
        .coordinator(&["diff", HOST, "latest~1", &below])?
        .expect_code(exit::OK)?
        .expect_no_control_characters()?
        .stdout_text();
    ensure!(text.contains(&format!("M {below}/content\n")), "{text}");
    ensure!(text.contains("U ") && text.contains("(mode)"), "{text}");
    let same = diff(&world, &["diff", HOST, "latest", "latest"])?;
    ensure!(
        same.changes.is_empty() && same.totals.unchanged > 7,
        "{same:?}"
    );
    for missing in [vec!["latest~9"], vec!["latest~1", "/no/such/path"]] {
        let arguments = [&["diff", HOST][..], &missing].concat();
        world
            .coordinator(&arguments)?
            .expect_code(exit::NOT_FOUND)?;
    }
    Ok(())
}

/// Extracts a tar stream with everything that GNU tar can take from it.
fn extract(stream: &[u8], into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let mut tar = Command::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--delay-directory-restore",
            "-xpf",
            "-",
            "-C",
        ])
        .arg(into)
        // It warns of what POSIX says of names that are no text, and of times long ago.
        .args(["--warning=no-unknown-keyword", "--warning=no-timestamp"])
        // No program can extract by one path what is past PATH_MAX.
        .args(["--exclude", "*/names/deep/*"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = tar.stdin.take().context("it was asked for")?;
    let stream = stream.to_vec();
    let feeding = std::thread::spawn(move || input.write_all(&stream));
    let done = tar.wait_with_output()?;
    feeding.join().ok().context("feeding tar")??;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success() && said.is_empty(), "tar: {said}");
    Ok(())
}

#[test]
fn gnu_tar_extracts_what_a_restore_gives() -> Result<()> {
    let world = World::new()?;
    Corpus::create(&world.source(), &CorpusOptions::tiny())?;
    world.run()?;
    let restored = world.restore("latest", "restored")?;
    let exported = world
        .coordinator(&["export", HOST, "latest", "--format", "tar"])?
        .expect_code(exit::OK)?;
    let output = world.output("extracted");
    extract(&exported.stdout, &output)?;
    let source = world.source();
    let found = differences(&below(&restored, &source), &below(&output, &source))?;
    // Holes are written out, sockets left out, and the deepest directories are not extracted above.
    let is_socket = |path: &str| {
        let found = fs::symlink_metadata(source.join(path));
        found.is_ok_and(|found| found.file_type().is_socket())
    };
    let is_expected = |difference: &Difference| match difference.fact {
        Fact::Allocation => true,
        Fact::Presence => difference.path.starts_with("names/deep/") || is_socket(&difference.path),
        _ => false,
    };
    let others: Vec<_> = found.iter().filter(|one| !is_expected(one)).collect();
    ensure!(others.is_empty(), "{others:#?}");

    // One further name of a file alone is a file.
    let alone = source.join("links/below/hard-c");
    let exported = world
        .coordinator(&["export", HOST, "latest", &alone.to_string_lossy()])?
        .expect_code(exit::OK)?
        .expect_stderr(&["wrote "])?;
    let output = world.output("alone");
    extract(&exported.stdout, &output)?;
    ensure!(fs::read(below(&output, &alone))? == fs::read(&alone)?);
    ensure!(fs::metadata(below(&output, &alone))?.nlink() == 1);
    Ok(())
}

#[test]
fn a_terminal_is_sent_no_tar_stream() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "content")?;
    world.run()?;
    let command = format!(
        "{} -c {} export {HOST} latest; echo ended with $?",
        binary("coordinator")?.display(),
        world.config().display()
    );
    let done = Command::new("script")
        .args(["--quiet", "--command", &command, "/dev/null"])
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&done.stdout);
    ensure!(said.contains("is a terminal"), "{said}");
    ensure!(said.contains("ended with 2"), "{said}");
    ensure!(!said.contains("ustar"), "{said}");
    Ok(())
}
