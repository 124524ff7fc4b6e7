//! Packs that are not what they are said to be, of another run, or for nobody: nothing is built upon them.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use formats::chunk::ChunkKind;
use formats::ids::RunId;
use formats::limits::{CHUNK_BYTES_MAX, FRAME_PLAIN_MAX};
use formats::seal::run_header::RunContext;
use formats::wire::control::FromAgent;
use tests::corpus::bytes::{incompressible, text};
use tests::hostile_agent::tree::{below, file};
use tests::hostile_agent::{AgentScript, HostileAgent, honest_facts, packs, script};
use tests::hostile_sshd::HostileSshd;
use tests::machine_facts;
use tests::shapes::{Outcome, RunReport, exit};
use tests::sshd::SshdOptions;
use tests::world::{HOST, World, WorldOptions};

use crate::{LIE, hostile_world, is_refused, played, refuses, source_of};

/// An agent that stores one bad pack, and is honest otherwise.
fn storing(
    pack: impl Fn(&HostileAgent) -> Result<Vec<u8>> + Send + Sync + Clone + 'static,
) -> Arc<dyn AgentScript> {
    script(move |agent| {
        let pack = pack.clone();
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let bytes = pack(agent)?;
            agent.store(&bytes).await?;
            let tree = below(&source_of(agent)?, &[file(b"file", 100, b"content")], &[]);
            agent.back_up(&tree).await.map(drop)
        })
    })
}

#[test]
fn m04_m05_a_chunk_that_is_not_what_its_id_says_is_never_built_upon() -> Result<()> {
    let wanted: &[u8] = b"what an honest host will back up later";
    let garbage: &[u8] = b"garbage that the hostile target stores";
    for twice in [false, true] {
        let agent = script(move |agent| {
            Box::pin(async move {
                agent.greet().await?;
                agent.open_tunnel().await?;
                let id = packs::data_id(agent.orders()?, wanted);
                if twice {
                    let pack = packs::honest(agent.orders()?, &[wanted])?;
                    agent.store(&pack).await?;
                }
                let pack = packs::mislabelled(agent.orders()?, &[(id, garbage)])?;
                agent.store(&pack).await?;
                let tree = below(&source_of(agent)?, &[file(b"poisoned", 100, wanted)], &[]);
                agent.back_up(&tree).await.map(drop)
            })
        });
        let (world, _server) = hostile_world(played(agent))?;
        is_refused(&world, &[exit::INTEGRITY])?;
        // The same repository, now with an honest host: the content is stored anew and restores.
        fs::write(world.source().join("file"), wanted)?;
        world.set_address(&world.sshd().address().to_string())?;
        world.run()?;
        world.expect_restores("latest", "out")?;
    }
    Ok(())
}

#[test]
fn m06_frames_of_another_run_epoch_or_kind_are_refused() -> Result<()> {
    type Alter = fn(&mut RunContext);
    let cases: [(&str, Alter, ChunkKind); 4] = [
        (
            "run",
            |context| context.run = RunId([9; 16]),
            ChunkKind::Data,
        ),
        ("epoch", |context| context.epoch += 1, ChunkKind::Data),
        (
            "repository",
            |context| context.repository.0[0] ^= 1,
            ChunkKind::Data,
        ),
        ("kind", |_| {}, ChunkKind::Page),
    ];
    for (what, alter, kind) in cases {
        refuses(
            what,
            storing(move |agent| {
                packs::sealed_for_another(agent.orders()?, b"content", alter, kind)
            }),
        )?;
    }
    refuses(
        "run header",
        storing(|agent| packs::of_another_run(agent.orders()?, b"content")),
    )
    .map(drop)
}

#[test]
fn m07_impossible_plain_lengths_are_refused() -> Result<()> {
    for declared in [
        0,
        6,
        8,
        CHUNK_BYTES_MAX + 1,
        FRAME_PLAIN_MAX + 1,
        1 << 31,
        u32::MAX,
    ] {
        refuses(
            &format!("{declared} bytes"),
            storing(move |agent| packs::with_plain_length(agent.orders()?, b"content", declared)),
        )?;
    }
    Ok(())
}

#[test]
fn m08_a_compression_bomb_takes_no_memory() -> Result<()> {
    for declared in [1_000, CHUNK_BYTES_MAX] {
        refuses(
            &format!("{declared} declared"),
            storing(move |agent| packs::bomb(agent.orders()?, declared, 4 << 30)),
        )?;
    }
    Ok(())
}

#[test]
fn m26_an_earlier_runs_pack_is_refused_in_a_later_run() -> Result<()> {
    let earlier: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let memory = Arc::clone(&earlier);
    let agent = script(move |agent| {
        let memory = Arc::clone(&memory);
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let known = memory.lock().unwrap_or_else(PoisonError::into_inner).take();
            let content: &[u8] = b"of the first run";
            let Some(pack) = known else {
                let pack = packs::honest(agent.orders()?, &[content])?;
                *memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(pack);
                return agent
                    .send(&FromAgent::Abort("the first run fails".into()))
                    .await;
            };
            agent.store(&pack).await?;
            let tree = below(&source_of(agent)?, &[file(b"file", 100, content)], &[]);
            agent.back_up(&tree).await.map(drop)
        })
    });
    let (world, _server) = hostile_world(played(agent))?;
    is_refused(&world, LIE)?;
    is_refused(&world, LIE).map(drop)
}

/// The world's hosts file with its host at a server, which may be hostile, and with this name.
fn host_at(world: &World, name: &str, address: &str, fingerprint: &str) -> Result<String> {
    let hosts = world.hosts_toml(address, fingerprint)?;
    Ok(hosts.replace(&format!("[host.{HOST}]"), &format!("[host.{name}]")))
}

#[test]
fn what_a_run_stored_in_vain_counts_for_its_own_host_and_for_no_other_of_the_repository()
-> Result<()> {
    let world = World::with(WorldOptions {
        host_lines: vec![
            "repository = \"shared\"".into(),
            "anomaly = { runs = 1, files = 1000, bytes = \"1MiB\" }".into(),
        ],
        // The hostile agent's own.
        sshd: SshdOptions {
            setup: machine_facts::setup(&honest_facts().machine_id, "board"),
            ..SshdOptions::default()
        },
        ..WorldOptions::default()
    })?;
    // Stores six MiB that nothing needs, and gives up.
    let agent = script(|agent| {
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let chunks: Vec<Vec<u8>> = (0..6).map(|chunk| incompressible(chunk, 1 << 20)).collect();
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let pack = packs::honest(agent.orders()?, &chunks)?;
            agent.store(&pack).await?;
            agent.send(&FromAgent::Abort("enough".into())).await
        })
    });
    let server = HostileSshd::start(&world.directory().join("hostile"), played(agent))?;
    let (address, fingerprint) = (server.address().to_string(), server.fingerprint());
    let good = world.sshd().address().to_string();
    let good = host_at(&world, HOST, &good, &world.sshd().fingerprint()?)?;
    let night = |number: u64| -> Result<RunReport> {
        fs::write(world.source().join("changes"), text(number, 10_000))?;
        let finished = world.coordinator(&["run", HOST, "--json"])?;
        finished.json()
    };
    fs::write(world.source().join("stays"), text(0, 4 << 20))?;
    world.write_hosts(&good)?;
    for number in 0..3 {
        ensure!(night(number)?.held.is_none());
    }

    world
        .write_hosts(&(good.clone() + "\n" + &host_at(&world, "other", &address, fingerprint)?))?;
    let failed = world.coordinator(&["run", "other"])?;
    failed
        .expect_code(exit::ERROR)?
        .expect_stderr(&["enough"])?;
    let report = night(3)?;
    ensure!(report.outcome == Outcome::Ok, "{report:?}");

    world.write_hosts(&host_at(&world, HOST, &address, fingerprint)?)?;
    world
        .coordinator(&["run", HOST])?
        .expect_code(exit::ERROR)?;
    world.write_hosts(&good)?;
    let why = night(4)?.held.context("what its own run brought counts")?;
    ensure!(why.contains("are new in files that were there"), "{why}");
    Ok(())
}
