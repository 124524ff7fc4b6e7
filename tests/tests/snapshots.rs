//! What is told of snapshots beside their listings: what changed between two of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use anyhow::{Result, ensure};
use tests::shapes::{DiffReport, exit};
use tests::world::{HOST, World};

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

#[test]
fn what_changed_between_two_snapshots_is_told() -> Result<()> {
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

    let below = source.join("a").to_string_lossy().into_owned();
    let part = diff(
        &world,
        &["diff", HOST, "latest~1", &found.to.id[..8], &below],
    )?;
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
