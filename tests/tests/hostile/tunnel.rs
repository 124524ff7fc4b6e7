//! The way to the append-server, which leads one run to its own packs and nobody else to anything.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use formats::ids::RunId;
use formats::keys::secret::RunToken;
use formats::wire::control::{FromAgent, Hello};
use formats::wire::facts::HostFacts;
use formats::wire::framing::PROTOCOL_VERSION;
use formats::wire::handshake::{OPENING_BYTES, Opening, agent_proof};
use tests::hostile_agent::{honest_facts, packs, script};
use tests::hostile_sshd::{HostileOptions, HostileSshd};
use tests::processes;
use tests::shapes::exit;
use tests::world::{HOST, World, WorldOptions};

use crate::{LIE, RUN_DEADLINE, hostile_world, is_refused, played, point_at};

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
