//! A hostile target: what it says is refused or harmless, and it can neither reach anything else nor stop the
//! coordinator. Each test names the rows of the fault list it covers.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use formats::chunk::ChunkKind;
use formats::ids::{PackId, RunId};
use formats::keys::secret::RunToken;
use formats::limits::{
    CHUNK_BYTES_MAX, CONTROL_FRAME_BYTES_MAX, FRAME_PLAIN_MAX, SNAPSHOT_PROBLEMS_MAX,
};
use formats::seal::run_header::RunContext;
use formats::wire::control::{FromAgent, Hello, PackStored, Problem, ProblemKind, Totals};
use formats::wire::facts::HostFacts;
use formats::wire::framing::PROTOCOL_VERSION;
use formats::wire::handshake::{OPENING_BYTES, Opening, agent_proof};
use tests::coordinator_process::Finished;
use tests::corpus::bytes::{incompressible, text};
use tests::hostile_agent::tree::{Told, below, directory, file, symlink};
use tests::hostile_agent::{AgentScript, HostileAgent, honest_facts, packs, script};
use tests::hostile_sshd::{HostileOptions, HostileSshd, Stall, Uninvited};
use tests::machine_facts;
use tests::processes;
use tests::shapes::{Outcome, RunReport, exit};
use tests::sshd::SshdOptions;
use tests::world::{HOST, World, WorldOptions};

/// A run against a hostile target is over at the latest after this.
const RUN_DEADLINE: Duration = Duration::from_secs(90);
/// What a coordinator may take while it is lied to.
const RSS_BYTES_MAX: u64 = 400 << 20;

/// A coordinator whose host is a hostile server, with short deadlines.
fn hostile_world(options: HostileOptions) -> Result<(World, HostileSshd)> {
    let limits = "limits = { connect = \"4s\", idle = \"6s\", run = \"60s\" }";
    let world = World::with(WorldOptions {
        host_lines: vec![limits.into()],
        ..WorldOptions::default()
    })?;
    let server = HostileSshd::start(&world.directory().join("hostile"), options)?;
    point_at(&world, &server)?;
    Ok((world, server))
}

fn point_at(world: &World, server: &HostileSshd) -> Result<()> {
    // The key that logs in is the world's own; the hostile server takes any.
    world.write_hosts(&world.hosts_toml(&server.address().to_string(), server.fingerprint())?)
}

fn played(agent: Arc<dyn AgentScript>) -> HostileOptions {
    HostileOptions {
        agent: Some(agent),
        ..HostileOptions::default()
    }
}

/// The source's path as listings have it; it differs from world to world, so a script asks its orders.
fn source_of(agent: &HostileAgent) -> Result<Vec<u8>> {
    agent
        .orders()?
        .rules
        .sources
        .first()
        .cloned()
        .context("orders without a source")
}

/// A run that must not end well: it fails in time, within memory, with clean output and no snapshot.
fn is_refused(world: &World, codes: &[i32]) -> Result<Finished> {
    let finished = world.coordinator_within(RUN_DEADLINE, &["run", HOST, "--json"])?;
    let code = finished.code.context("the coordinator died of a signal")?;
    ensure!(
        codes.contains(&code),
        "exit code {code} where one of {codes:?} was expected: {}{}",
        finished.stdout_text(),
        finished.stderr_text()
    );
    let finished = finished.expect_no_control_characters()?;
    ensure!(
        finished.stderr.len() < 1 << 20,
        "{} bytes on stderr",
        finished.stderr.len()
    );
    let report: RunReport = finished.json()?;
    ensure!(
        report.outcome == Outcome::Failed && report.snapshot.is_none(),
        "{report:?}"
    );
    ensure!(
        report.coordinator_rss_bytes < RSS_BYTES_MAX,
        "{} MiB resident",
        report.coordinator_rss_bytes >> 20
    );
    ensure!(world.snapshots()?.is_empty(), "a lie was committed");
    Ok(finished)
}

const LIE: &[i32] = &[exit::ERROR, exit::INTEGRITY];

/// Runs one lie, which must be refused; the agent must have come as far as being started.
fn refuses(what: &str, agent: Arc<dyn AgentScript>) -> Result<Finished> {
    let (world, server) = hostile_world(played(agent))?;
    let finished = is_refused(&world, LIE).with_context(|| what.to_owned())?;
    ensure!(
        server.observed().agents_started.load(Ordering::Relaxed) == 1,
        "{what}: the agent was never started, so nothing was tested"
    );
    Ok(finished)
}

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
fn an_honest_played_agent_is_believed_and_restores() -> Result<()> {
    // Without this one, every refusal below could be for the wrong reason.
    let agent = script(|agent| {
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let entries = [
                file(b"a", 100, b"content of a"),
                directory(b"b", 101),
                symlink(b"c", 102, b"a"),
            ];
            let tree = below(
                &source_of(agent)?,
                &entries,
                &[(b"b", &[file(b"inside", 103, b"inside b")])],
            );
            agent.back_up(&tree).await.map(drop)
        })
    });
    let (world, server) = hostile_world(played(agent))?;
    let report = world.run();
    ensure!(
        report.is_ok(),
        "{:?}; the agent: {}",
        report.err(),
        server.observed().agent_error()
    );
    let copy = tests::world::below(&world.restore("latest", "out")?, &world.source());
    ensure!(
        fs::read(copy.join("a"))? == b"content of a"
            && fs::read(copy.join("b/inside"))? == b"inside b"
    );
    ensure!(fs::read_link(copy.join("c"))?.as_os_str() == "a");
    Ok(())
}

#[test]
fn m01_another_hosts_identity_is_ignored_and_nothing_else_is_reachable() -> Result<()> {
    let other = "5a".repeat(16);
    let packs = format!("/v1/repositories/{other}/packs/aa/{}", "aa".repeat(32));
    // A refusal ends the connection, so each request has a run of its own.
    for (method, path) in [
        ("PUT", packs.as_str()),
        ("PUT", "/v1/repositories/OWN/log/00000000000000000001"),
        ("GET", "/v1/repositories/OWN/config"),
        ("GET", "/v1/repositories/OWN?kind=packs"),
        ("DELETE", "/v1/repositories/OWN/config"),
        ("POST", "/v1/runs"),
        ("DELETE", "/v1/packs"),
        ("PUT", "/v1/packs/../repositories"),
    ] {
        let status = status_of(method, path).with_context(|| format!("{method} {path}"))?;
        ensure!(
            (400..500).contains(&status),
            "{method} {path} was answered {status}"
        );
    }
    Ok(())
}

/// What an agent that claims to be another host is answered by the append-server.
fn status_of(method: &'static str, path: &str) -> Result<u16> {
    let answers = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&answers);
    let path = path.to_owned();
    let agent = script(move |agent| {
        let (seen, path) = (Arc::clone(&seen), path.clone());
        Box::pin(async move {
            let facts = HostFacts {
                hostname: "web2\u{1b}[2J".into(),
                machine_id: "f".repeat(32),
                ..honest_facts()
            };
            let digest = agent.digest;
            agent
                .greet_with(Hello {
                    protocol: PROTOCOL_VERSION,
                    digest,
                    facts,
                })
                .await?;
            agent.open_tunnel().await?;
            let own = agent.orders()?.repository.to_string();
            let path = path.replace("OWN", &own);
            let answer = agent.http(method, &path, "", b"").await?;
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.status);
            agent.send(&FromAgent::Abort("done".into())).await
        })
    });
    let (world, server) = hostile_world(played(agent))?;
    is_refused(&world, LIE)?;
    let status = *answers.lock().unwrap_or_else(PoisonError::into_inner);
    status.with_context(|| server.observed().agent_error())
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
fn m24_malformed_frames_end_the_conversation() -> Result<()> {
    let too_long = (CONTROL_FRAME_BYTES_MAX + 1).to_le_bytes();
    let cases: [(&str, Vec<u8>); 10] = [
        ("length 0", vec![0, 0, 0, 0]),
        ("length 2^32-1", vec![0xff; 4]),
        ("length one above the limit", too_long.to_vec()),
        (
            "largest length and no end",
            [&CONTROL_FRAME_BYTES_MAX.to_le_bytes()[..], &[3]].concat(),
        ),
        ("unknown tag", vec![1, 0, 0, 0, 0xee]),
        ("trailing byte", vec![2, 0, 0, 0, 2, 0]),
        ("truncated message", vec![2, 0, 0, 0, 3, 0]),
        (
            "a varint of eleven bytes",
            [&[12, 0, 0, 0, 3][..], &[0xff; 11]].concat(),
        ),
        (
            "2^60 blocks",
            [
                &[11, 0, 0, 0, 3, 0][..],
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
            ]
            .concat(),
        ),
        (
            "text instead of frames",
            b"bash: /etc/profile: no such file\r\n".to_vec(),
        ),
    ];
    for (what, bytes) in cases {
        let after = bytes.clone();
        let agent = script(move |agent| {
            let bytes = after.clone();
            Box::pin(async move {
                agent.greet().await?;
                agent.open_tunnel().await?;
                agent.send_raw(&bytes).await?;
                agent.wait_for_end().await.map(drop)
            })
        });
        refuses(what, agent)?;
        let agent = script(move |agent| {
            let bytes = bytes.clone();
            Box::pin(async move {
                agent.send_raw(&bytes).await?;
                agent.wait_for_end().await.map(drop)
            })
        });
        refuses(&format!("{what}, as the first thing"), agent)?;
    }
    Ok(())
}

#[test]
fn m24_another_protocol_version_is_refused_with_both_versions() -> Result<()> {
    let agent = script(|agent| {
        Box::pin(async move {
            let digest = agent.digest;
            agent
                .greet_with(Hello {
                    protocol: 999,
                    digest,
                    facts: honest_facts(),
                })
                .await
        })
    });
    let finished = refuses("protocol 999", agent)?;
    finished
        .expect_stderr(&["999", &PROTOCOL_VERSION.to_string()])
        .map(drop)
}

#[test]
fn m25_claims_that_do_not_add_up_are_refused() -> Result<()> {
    refuses(
        "a pack that was never stored",
        claiming(|_| {
            Ok(vec![FromAgent::PackStored(PackStored {
                pack: PackId([7; 32]),
                bytes: 1 << 20,
            })])
        }),
    )?;
    refuses(
        "more than was sent",
        claiming(|_| {
            Ok(vec![FromAgent::Finished(Totals {
                entries: 1 << 40,
                packs: 77,
                ..Totals::default()
            })])
        }),
    )?;
    refuses("ready twice", claiming(|_| Ok(vec![FromAgent::Ready])))?;
    let hello = |agent: &HostileAgent| {
        Ok(vec![FromAgent::Hello(Hello {
            protocol: PROTOCOL_VERSION,
            digest: agent.digest,
            facts: honest_facts(),
        })])
    };
    refuses("hello twice", claiming(hello))?;
    let early = script(|agent| {
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            agent.tell(&below(&source_of(agent)?, &[], &[])).await?;
            agent
                .send(&FromAgent::Entries(formats::wire::control::Entries {
                    batch: 7,
                    blocks: vec![],
                }))
                .await?;
            agent.finish().await.map(drop)
        })
    });
    refuses("a batch out of order", early)?;
    let unstored = script(|agent| {
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let told = file(b"file", 100, b"never stored");
            let id = packs::data_id(agent.orders()?, &told.content);
            let tree = below(&source_of(agent)?, std::slice::from_ref(&told), &[]);
            agent.claim_without_storing(&tree, id).await.map(drop)
        })
    });
    refuses("a file whose chunk was never stored", unstored).map(drop)
}

/// An agent that tells one file in its source, honest but for what is changed.
fn telling(change: impl Fn(&mut Told) + Send + Sync + Clone + 'static) -> Arc<dyn AgentScript> {
    script(move |agent| {
        let mut told = file(b"file", 100, &[b'x'; 100_000]);
        change(&mut told);
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let tree = below(&source_of(agent)?, std::slice::from_ref(&told), &[]);
            agent.back_up(&tree).await.map(drop)
        })
    })
}

#[test]
fn m25_a_chunk_has_the_length_that_it_has_and_no_other() -> Result<()> {
    // A file that is larger than what was stored of it could not be restored, and would bend every figure.
    let longer = telling(|told| {
        told.claimed = Some(CHUNK_BYTES_MAX);
        told.stat.size = CHUNK_BYTES_MAX.into();
    });
    let finished = refuses("a chunk that is longer than it is", longer)?;
    let error = finished.json::<RunReport>()?.error.context("a reason")?;
    ensure!(error.contains("100000"), "{error}");
    Ok(())
}

#[test]
fn m25_a_size_that_is_small_only_in_the_listing_is_counted_as_it_is() -> Result<()> {
    let small = telling(|told| told.listed_size = Some(1));
    let (world, server) = hostile_world(played(small))?;
    let hosts = world.hosts_toml(&server.address().to_string(), server.fingerprint())?;
    world.write_hosts(&(hosts.clone() + "max_snapshot = \"64KiB\"\n"))?;
    is_refused(&world, &[exit::QUOTA])?;
    world.write_hosts(&(hosts + "max_snapshot = \"1MiB\"\n"))?;
    world.run()?;
    ensure!(world.snapshots()?[0].bytes == 100_000);
    Ok(())
}

#[test]
fn a_source_that_is_missing_counts_however_many_problems_came_before() -> Result<()> {
    let agent = script(|agent| {
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let source = source_of(agent)?;
            let problem = |kind, path: Vec<u8>| {
                FromAgent::Problem(Problem {
                    kind,
                    path,
                    errno: 13,
                    text: String::new(),
                })
            };
            for number in 0..SNAPSHOT_PROBLEMS_MAX {
                let path = [&source[..], format!("/{number}").as_bytes()].concat();
                agent.send(&problem(ProblemKind::Unreadable, path)).await?;
            }
            agent
                .send(&problem(ProblemKind::SourceMissing, source.clone()))
                .await?;
            let way = below(&source, &[], &[]);
            agent.back_up(&way[..1]).await.map(drop)
        })
    });
    let finished = refuses("nothing of what was asked for", agent)?;
    let error = finished.json::<RunReport>()?.error.context("a reason")?;
    ensure!(error.contains("no source path"), "{error}");
    Ok(())
}

/// An agent that is honest, then claims something.
fn claiming(
    messages: impl Fn(&HostileAgent) -> Result<Vec<FromAgent>> + Send + Sync + Clone + 'static,
) -> Arc<dyn AgentScript> {
    script(move |agent| {
        let messages = messages.clone();
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            agent
                .tell(&below(
                    &source_of(agent)?,
                    &[file(b"file", 100, b"content")],
                    &[],
                ))
                .await?;
            for message in messages(agent)? {
                agent.send(&message).await?;
            }
            agent.finish().await.map(drop)
        })
    })
}

#[test]
fn m26_an_earlier_runs_token_and_packs_are_worth_nothing() -> Result<()> {
    type Earlier = Option<(RunId, RunToken, Vec<u8>)>;
    let earlier: Arc<Mutex<Earlier>> = Arc::default();
    let memory = Arc::clone(&earlier);
    let replaying_token = Arc::new(Mutex::new(None));
    let outcome = Arc::clone(&replaying_token);
    let agent = script(move |agent| {
        let (memory, outcome) = (Arc::clone(&memory), Arc::clone(&outcome));
        Box::pin(async move {
            agent.greet().await?;
            let known = memory.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some((run, token, pack)) = known else {
                agent.open_tunnel().await?;
                let pack = packs::honest(agent.orders()?, &[b"of the first run"])?;
                agent.store(&pack).await?;
                let orders = agent.orders()?;
                let now = (orders.run, orders.token.clone(), pack);
                *memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                return agent
                    .send(&FromAgent::Abort("the first run fails".into()))
                    .await;
            };
            // The old run's name and token on a new connection.
            let opening = Opening {
                run,
                nonce: [1; 32],
            };
            agent.tunnel(opening.encode()).await?;
            let answered = agent.tunnel_next().await?;
            if answered.len() == 64 {
                let nonce: [u8; 32] = answered[..32].try_into()?;
                agent
                    .tunnel(agent_proof(&token, &opening, &nonce).to_vec())
                    .await?;
                let answer = agent.http("PUT", "/v1/packs", "", &pack).await;
                *outcome.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(answer.map(|answer| answer.status).unwrap_or(0));
            }
            agent
                .send(&FromAgent::Abort("the second run fails".into()))
                .await
        })
    });
    let (world, _server) = hostile_world(played(agent))?;
    is_refused(&world, LIE)?;
    is_refused(&world, LIE)?;
    let status = *replaying_token
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    ensure!(
        status.is_none_or(|status| !(200..300).contains(&status)),
        "the old token stored a pack"
    );
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

#[test]
fn m31_an_agent_that_ends_well_without_finishing_made_no_snapshot() -> Result<()> {
    for told in [false, true] {
        let agent = script(move |agent| {
            Box::pin(async move {
                agent.greet().await?;
                agent.open_tunnel().await?;
                if told {
                    agent
                        .tell(&below(
                            &source_of(agent)?,
                            &[file(b"file", 100, b"content")],
                            &[],
                        ))
                        .await?;
                }
                Ok(())
            })
        });
        refuses("exit code 0", agent)?;
    }
    Ok(())
}

#[test]
fn m33_another_host_key_and_one_of_another_type_are_refused() -> Result<()> {
    for kind in ["ed25519", "ecdsa"] {
        let (world, server) = hostile_world(HostileOptions {
            host_key_type: kind.into(),
            ..HostileOptions::default()
        })?;
        let pinned = world.sshd().fingerprint()?;
        world.write_hosts(&world.hosts_toml(&server.address().to_string(), &pinned)?)?;
        is_refused(&world, &[exit::HOST_KEY])?.expect_stderr(&[server.fingerprint(), &pinned])?;
        ensure!(
            server.observed().logins.load(Ordering::Relaxed) == 0,
            "the coordinator logged in all the same"
        );
    }
    Ok(())
}

#[test]
fn m41_m42_channels_that_nobody_asked_for_are_refused() -> Result<()> {
    use Uninvited::{Agent, DirectTcp, ForwardedTcp, ForwardedUnix, Session, X11};
    for kind in [ForwardedTcp, ForwardedUnix, Agent, X11, Session, DirectTcp] {
        let (world, server) = hostile_world(HostileOptions {
            uninvited: vec![kind],
            uninvited_count: 1,
            ..HostileOptions::default()
        })?;
        is_refused(&world, LIE)?;
        ensure!(
            server.observed().accepted_uninvited.load(Ordering::Relaxed) == 0,
            "{kind:?} was accepted"
        );
    }
    Ok(())
}

#[test]
fn m41_a_hundred_thousand_channels_take_nothing_down() -> Result<()> {
    let options = HostileOptions {
        uninvited: vec![Uninvited::ForwardedTcp],
        uninvited_count: 100_000,
        ..HostileOptions::default()
    };
    let (world, server) = hostile_world(options)?;
    is_refused(&world, LIE)?;
    ensure!(server.observed().accepted_uninvited.load(Ordering::Relaxed) == 0);
    Ok(())
}

#[test]
fn a_target_that_stops_answering_is_given_up_at_every_stage() -> Result<()> {
    for stall in [
        Stall::BeforeBanner,
        Stall::AfterBanner,
        Stall::InLogin,
        Stall::OnChannel,
        Stall::OnCommand,
        Stall::OnAgent,
    ] {
        let (world, _server) = hostile_world(HostileOptions {
            stall: Some(stall),
            ..HostileOptions::default()
        })?;
        is_refused(&world, &[exit::ERROR])
            .with_context(|| format!("{stall:?}"))?
            .expect_stderr(&[HOST])?;
    }
    Ok(())
}

#[test]
fn endless_and_colourful_output_is_capped_and_escaped() -> Result<()> {
    let noise = b"\x1b]52;c;aGFja2Vk\x07\x1b[2J\x1b[31mred\r\x08\xff\n".repeat(100);
    let flood = HostileOptions {
        endless_stderr: Some(noise.clone()),
        ..HostileOptions::default()
    };
    let (world, _server) = hostile_world(flood)?;
    is_refused(&world, LIE)?;
    let chatty = HostileOptions {
        stdout_before: noise.clone(),
        ..HostileOptions::default()
    };
    let (world, _server) = hostile_world(chatty)?;
    is_refused(&world, LIE)?;
    let banner = HostileOptions {
        login_banner: Some(String::from_utf8_lossy(&noise).into_owned()),
        ..HostileOptions::default()
    };
    let (world, _server) = hostile_world(banner)?;
    is_refused(&world, LIE)?;
    let uname = HostileOptions {
        answers: vec![("uname".into(), noise.repeat(2_000), 0)],
        ..HostileOptions::default()
    };
    let (world, _server) = hostile_world(uname)?;
    is_refused(&world, LIE)?;
    let abort = script(|agent| {
        Box::pin(async move {
            agent.greet().await?;
            agent
                .send(&FromAgent::Abort("\u{1b}]52;c;aGk=\u{7}gone".into()))
                .await
        })
    });
    refuses("a colourful farewell", abort).map(drop)
}

#[test]
fn m69_a_local_user_at_the_tunnels_port_gets_nothing() -> Result<()> {
    let world = World::with(WorldOptions {
        host_lines: vec!["transport = \"tcp\"".into()],
        ..WorldOptions::default()
    })?;
    for index in 0..30_u64 {
        fs::write(
            world.source().join(format!("f{index}")),
            tests::corpus::bytes::incompressible(index, 1 << 20),
        )?;
    }
    let mut run = world.start(&["run", HOST, "--json"])?;
    let mut agents = Vec::new();
    processes::wait_until("the agent", RUN_DEADLINE, || {
        agents = world.sshd().agents()?;
        // The one that only names its digest runs before there is a tunnel.
        agents.retain(|agent| agent.command.ends_with("serve"));
        Ok(!agents.is_empty() || run.has_ended()?)
    })?;
    for agent in &agents {
        processes::signal(agent.pid, rustix::process::Signal::STOP)?;
    }
    let pids: Vec<u32> = world
        .sshd()
        .processes()?
        .iter()
        .map(|process| process.pid)
        .collect();
    let listeners = processes::listening_sockets(&pids)?;
    let ports: Vec<u16> = listeners
        .iter()
        .filter_map(|name| name.strip_prefix("tcp port ")?.parse().ok())
        .filter(|port| *port != world.sshd().address().port())
        .collect();
    ensure!(
        !ports.is_empty(),
        "no forwarded port was found among {listeners:?}"
    );
    for port in &ports {
        for said in [
            &b"GET /v1/repositories HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            &[0; 200],
            &Opening {
                run: RunId([3; 16]),
                nonce: [4; 32],
            }
            .encode(),
        ] {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", *port))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(said)?;
            drop(stream.shutdown(std::net::Shutdown::Write));
            let mut answer = Vec::new();
            if let Err(error) = stream.read_to_end(&mut answer) {
                ensure!(
                    error.kind() == std::io::ErrorKind::ConnectionReset,
                    "the port stays open: {error}"
                );
            }
            // A nonce and a proof tell nothing; anything that looks like an answer does.
            ensure!(
                answer.len() <= 64 && !answer.starts_with(b"HTTP"),
                "the port answered {} bytes",
                answer.len()
            );
        }
    }
    for agent in &agents {
        processes::signal(agent.pid, rustix::process::Signal::CONT)?;
    }
    run.finish(RUN_DEADLINE)?.expect_code(exit::OK)?;
    world.expect_restores("latest", "out").map(drop)
}

#[test]
fn m70_an_agent_whose_port_is_squatted_tells_the_squatter_nothing() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    // The thread ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = vec![0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut bytes) {
                ears.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(bytes[..length].to_vec());
                if stream.write_all(&[0x55; 64]).is_err() {
                    break;
                }
            }
        }
    });
    let options = HostileOptions {
        real_agent: true,
        squatted_port: Some(port),
        ..HostileOptions::default()
    };
    let limits = "limits = { connect = \"4s\", idle = \"6s\", run = \"60s\" }";
    let host_lines = vec![limits.to_owned(), "transport = \"tcp\"".into()];
    let world = World::with(WorldOptions {
        host_lines,
        ..WorldOptions::default()
    })?;
    fs::write(
        world.source().join("secret"),
        "what the squatter would like to see",
    )?;
    let server = HostileSshd::start(&world.directory().join("hostile"), options)?;
    point_at(&world, &server)?;
    is_refused(&world, LIE)?;
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        !heard.is_empty(),
        "the agent never came to the squatted port, so nothing was tested"
    );
    ensure!(
        heard.iter().all(|piece| piece.len() <= OPENING_BYTES),
        "the squatter heard more than an opening"
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

/// Of two snapshots of a year the first is kept, by the coordinator's clock: a host that says it is another year wins nothing.
#[test]
fn m17_no_time_that_a_host_tells_decides_what_is_kept() -> Result<()> {
    const YEAR_SECS: i64 = 365 * 24 * 3_600;
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs())?;
    let told = [
        now,
        now - 10 * YEAR_SECS,
        now - YEAR_SECS,
        now + YEAR_SECS,
        now + 10 * YEAR_SECS,
        0,
        -YEAR_SECS,
        now,
    ];
    let next = Arc::new(Mutex::new(told.into_iter()));
    let agent = script(move |agent| {
        let next = Arc::clone(&next);
        Box::pin(async move {
            let seconds = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let seconds = seconds.context("no more runs")?;
            let facts = HostFacts {
                clock_nanos: seconds.saturating_mul(1_000_000_000),
                ..honest_facts()
            };
            let digest = agent.digest;
            let hello = Hello {
                protocol: PROTOCOL_VERSION,
                digest,
                facts,
            };
            agent.greet_with(hello).await?;
            agent.open_tunnel().await?;
            let mut told = file(b"file", 100, seconds.to_string().as_bytes());
            told.stat.mtime.seconds = seconds;
            told.stat.ctime.seconds = seconds;
            let tree = below(&source_of(agent)?, &[told], &[]);
            agent.back_up(&tree).await.map(drop)
        })
    });
    let (world, server) = hostile_world(played(agent))?;
    let hosts = fs::read_to_string(world.coordinator_dir().join("hosts.toml"))?;
    world.write_hosts(&format!(
        "{hosts}keep = {{ yearly = 10 }}\nkeep_floor = 1\n"
    ))?;
    for seconds in told {
        let before = utc_now()?;
        let run = world.run_within(RUN_DEADLINE, exit::OK, &[]);
        let report = run.with_context(|| server.observed().agent_error())?;
        let time = report.snapshot.context("a snapshot")?.time;
        let to_the_second = time.get(..before.len()).context("a time")?;
        ensure!(
            before.as_str() <= to_the_second && to_the_second <= utc_now()?.as_str(),
            "{seconds} was told, and it is of {time}"
        );
    }
    let prune = ["prune", HOST, "--yes", "--json"];
    let finished = world.coordinator(&prune)?.expect_code(exit::OK)?;
    let reports: Vec<serde_json::Value> = finished.json()?;
    let snapshots = reports[0]["snapshots"].as_array().context("snapshots")?;
    let kept: Vec<bool> = snapshots.iter().map(|one| one["kept"] == true).collect();
    // The first has the year's place, and the last is the newest.
    let mut expected = [false; 8];
    (expected[0], expected[7]) = (true, true);
    ensure!(kept == expected, "{reports:?}");
    Ok(())
}

/// The time now, to the second, as times in UTC begin.
fn utc_now() -> Result<String> {
    let date = std::process::Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%S"])
        .output()?;
    Ok(String::from_utf8(date.stdout)?.trim().to_owned())
}

/// Without an end, with everything that drives a terminal, and with what looks like lines of our own log.
#[test]
fn m30_what_a_hostile_agent_says_on_stderr_is_one_field_of_the_log() -> Result<()> {
    let forged = "2026-01-01T00:00:00.000000Z ERROR forged";
    let json = "{\"level\":\"ERROR\",\"fields\":{\"message\":\"forged\"}}";
    let line = format!("\0\x1b]52;c;aGFja2Vk\x07\x1b[2J\r{forged}\n{json}\u{202e}\x08\n");
    let mut noise = line.repeat(400).into_bytes();
    noise.extend_from_slice(b"\xff\xfe\x9b31m");
    for format in ["text", "json"] {
        // Time enough to say much more than is kept.
        let agent = script(|_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                Ok(())
            })
        });
        let (world, server) = hostile_world(HostileOptions {
            endless_stderr: Some(noise.clone()),
            ..played(agent)
        })?;
        world.replace_config_line("#format = \"text\"", &format!("format = \"{format}\""))?;
        world.replace_config_line("#level = ", "level = \"debug\"")?;
        let finished = is_refused(&world, LIE)?;
        ensure!(server.observed().agents_started.load(Ordering::Relaxed) == 1);
        let told = finished.stderr_text();
        ensure!(
            told.contains("\\u{1b}]52;c;") && told.contains("bytes more]"),
            "{told}"
        );
        for line in told.lines() {
            // What is longer is taken apart by journald, and its parts would be lines of their own.
            ensure!(
                line.len() < 48 << 10,
                "{format}: a line of {} bytes",
                line.len()
            );
            ensure!(!line.starts_with(forged), "a forged line: {line}");
            let parsed = serde_json::from_str::<serde_json::Value>(line);
            let message = parsed.ok().map(|line| line["fields"]["message"].clone());
            ensure!(message.is_none_or(|message| message != "forged"), "{line}");
        }
    }
    Ok(())
}
