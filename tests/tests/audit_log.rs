//! The audit log as commands write it: what was done stands there, who did it, and a change of it is found.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::shapes::exit;
use tests::world::{HOST, World};

fn log(world: &World, arguments: &[&str]) -> Result<Vec<Value>> {
    let mut all = vec!["audit", "log", "--json"];
    all.extend(arguments);
    world.coordinator(&all)?.expect_code(exit::OK)?.json()
}

fn words(records: &[Value]) -> Vec<&str> {
    records
        .iter()
        .filter_map(|record| record["what"].as_str())
        .collect()
}

#[test]
fn what_commands_do_is_recorded_and_a_change_of_it_is_found() -> Result<()> {
    let world = World::new()?;
    ensure!(log(&world, &[])?.is_empty());
    fs::write(world.source().join("file"), "content")?;
    world.run()?;
    let pin = ["pin", "add", HOST, "latest", "--reason", "before the move"];
    world.coordinator(&pin)?.expect_code(exit::OK)?;
    world.restore("latest", "restored")?;
    world.coordinator(&["scan"])?.expect_code(exit::OK)?;

    let records = log(&world, &["--host", HOST])?;
    let told = words(&records);
    for what in ["pin-added", "restored", "scan-clean"] {
        ensure!(told.contains(&what), "{what} is not in {told:?}");
    }
    let pinned = log(&world, &["--what", "pin-added"])?;
    ensure!(pinned.len() == 1);
    ensure!(pinned[0]["details"]["reason"] == "before the move");
    let actor = pinned[0]["actor"].as_str().unwrap_or_default();
    ensure!(actor.starts_with("user:root(0)"), "{actor}");
    ensure!(log(&world, &["--since", "2999-01-01"])?.is_empty());

    let verified: Value = world
        .coordinator(&["audit", "verify", "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    ensure!(verified["whole"] == true, "{verified}");
    let witness = format!(
        "{}:{}",
        verified["last"],
        verified["head"].as_str().context("a head")?
    );
    let holds = ["audit", "verify", "--witness", &witness];
    world.coordinator(&holds)?.expect_code(exit::OK)?;

    let directory = world.coordinator_dir().join("state/audit");
    let file = directory.join("00000000000000000001.log");
    let mut content = fs::read(&file)?;
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&file, &content)?;
    let damaged = world.coordinator(&["audit", "verify"])?;
    let damaged = damaged.expect_code(exit::INTEGRITY)?;
    ensure!(damaged.stdout_text().contains("00000000000000000001.log"));
    // What is done later is recorded all the same, and the damage is not forgotten.
    let unpin = ["pin", "rm", HOST, "latest"];
    world.coordinator(&unpin)?.expect_code(exit::OK)?;
    let listed = Command::new("ls").arg(&directory).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.matches(".log").count() == 2, "{listed}");
    let shown = world.coordinator(&["audit", "log"])?.stdout_text();
    ensure!(
        shown.contains("audit-damaged") && shown.contains("pin-removed"),
        "{shown}"
    );
    world
        .coordinator(&["audit", "verify"])?
        .expect_code(exit::INTEGRITY)?;
    Ok(())
}
