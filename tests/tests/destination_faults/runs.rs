//! Whole runs through faults: a bucket behind a storm, and an off-site server on a line that crawls.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::corpus::bytes::incompressible;
use tests::fault_proxy::{Answer, Fault, FaultProxy, Operation, Which};
use tests::s3_server::{ACCESS_KEY_ID, S3Kind, S3Server, SECRET_KEY, admin};
use tests::shapes::{Outcome, exit};
use tests::world::World;

use crate::sftp::LineBench;

/// Adds an S3 destination at this address.
fn add_s3(world: &World, endpoint: &str, required: bool) -> Result<()> {
    let secret = world.coordinator_dir().join("keys/s3.secret");
    fs::write(&secret, SECRET_KEY)?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let config = fs::read_to_string(world.config())?;
    world.write_config(&format!(
        "{config}\n[[destination]]\nname = \"s3\"\nurl = \"s3://backups/capstan\"\nrequired = {required}\n\
         endpoint = \"{endpoint}\"\naccess_key_id = \"{ACCESS_KEY_ID}\"\nsecret_key_file = \"keys/s3.secret\"\n"
    ))
}

/// Leaves only the last destination of the configuration.
fn leave_only_the_last(world: &World) -> Result<()> {
    let mut document: toml::Table = fs::read_to_string(world.config())?.parse()?;
    if let Some(toml::Value::Array(all)) = document.get_mut("destination") {
        all.drain(..all.len() - 1);
    }
    world.write_config(&toml::to_string(&document)?)
}

/// F21, F23, F24, F29 in one: every few requests fail in another way that passes, and both runs and the restore are as
/// good as any. A credential that expires then fails a run with that reason, and nothing is lost by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_through_a_storm_is_as_good_as_any() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(1, 3 << 20))?;
    let dir = tests::world::temporary_directory()?;
    let server = S3Server::start(S3Kind::Moto, dir.path())?;
    admin(&server)
        .create_bucket()
        .bucket("backups")
        .send()
        .await?;
    let proxy = FaultProxy::start(server.address())?;
    add_s3(&world, &proxy.endpoint(), true)?;
    leave_only_the_last(&world)?;
    let storm = || {
        for operation in [
            Operation::Put,
            Operation::Get,
            Operation::Head,
            Operation::List,
        ] {
            for (skip, fault) in [
                (0, Fault::refuse(503, "SlowDown")),
                (2, Fault::refuse(500, "InternalError")),
                (3, Fault::CutAfter),
                (
                    4,
                    Fault::Answer(Answer::new(502, "<html>Bad Gateway</html>")),
                ),
            ] {
                proxy.plan(Which::all(operation).after(skip).times(1), fault);
            }
        }
        proxy.plan(
            Which::all(Operation::Put).after(6).times(1),
            Fault::refuse(409, "ConditionalRequestConflict"),
        );
    };
    storm();
    let report = world.run()?;
    ensure!(report.outcome == Outcome::Ok, "{report:?}");
    fs::write(world.source().join("two"), incompressible(2, 1 << 20))?;
    storm();
    let report = world.run()?;
    ensure!(report.outcome == Outcome::Ok, "{report:?}");
    ensure!(proxy.struck() >= 12, "{} faults", proxy.struck());
    storm();
    world.expect_restores("latest", "through-a-storm")?;

    proxy.forget_plan();
    proxy.plan(
        Which::all(Operation::Put),
        Fault::refuse(400, "ExpiredToken"),
    );
    fs::write(world.source().join("three"), incompressible(3, 1 << 20))?;
    let failed = world.coordinator(&["run", tests::world::HOST])?;
    ensure!(
        failed.code != Some(exit::OK),
        "a run without a place is no success"
    );
    failed.expect_stderr(&["expired"])?;
    proxy.forget_plan();
    world.run()?;
    world.expect_restores("latest", "after-it")?;
    Ok(())
}

/// F37: a server at the end of a line of 1 KiB/s follows when it can, and the run is not held up by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_does_not_wait_for_a_follower_that_crawls() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(4, 6 << 20))?;
    let bench = LineBench::start().await?;
    let config = fs::read_to_string(world.config())?;
    world.write_config(&format!("{config}\n{}", bench.table()?))?;
    bench.relay.set_pace(1 << 10);
    let start = Instant::now();
    let report = world.run()?;
    let took = start.elapsed();
    ensure!(report.outcome == Outcome::Ok, "{report:?}");
    // At that pace it would take an hour and a half; what is left of a deadline at the end is half a minute.
    ensure!(took < Duration::from_secs(240), "{took:?}");
    world.expect_restores("latest", "meanwhile")?;
    Ok(())
}
