//! Frames that are none, claims that do not add up, and times that are made up.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use formats::ids::PackId;
use formats::limits::{CHUNK_BYTES_MAX, CONTROL_FRAME_BYTES_MAX, SNAPSHOT_PROBLEMS_MAX};
use formats::wire::control::chunks::PackStored;
use formats::wire::control::problem::{Problem, ProblemKind};
use formats::wire::control::totals::Totals;
use formats::wire::control::{FromAgent, Hello};
use formats::wire::facts::HostFacts;
use formats::wire::framing::PROTOCOL_VERSION;
use tests::hostile_agent::tree::{Told, below, file};
use tests::hostile_agent::{AgentScript, HostileAgent, honest_facts, packs, script};
use tests::shapes::{RunReport, exit};
use tests::world::HOST;

use crate::{RUN_DEADLINE, hostile_world, is_refused, played, refuses, source_of};

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
                .send(&FromAgent::Entries(
                    formats::wire::control::entries::Entries {
                        batch: 7,
                        blocks: vec![],
                    },
                ))
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
