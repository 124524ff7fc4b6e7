//! The daemon's listener: who may ask what with which token, what is answered, and that nobody can take it for himself.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::coordinator_process::Running;
use tests::http_client::{http_get, http_raw};
use tests::processes;
use tests::shapes::exit;
use tests::sshd::free_port;
use tests::world::{HOST, World};

fn listening(world: &World) -> Result<(Running, u16)> {
    let port = free_port()?;
    world.replace_config_line("#address = ", &format!("address = \"127.0.0.1:{port}\""))?;
    let mut daemon = world.start(&["daemon"])?;
    processes::wait_until("the listener", Duration::from_secs(60), || {
        ensure!(
            !daemon.has_ended()?,
            "the daemon ended: {}",
            daemon.stderr_so_far()
        );
        Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
    })?;
    Ok((daemon, port))
}

fn token(world: &World, name: &str, arguments: &[&str]) -> Result<String> {
    let mut all = vec!["token", "add", name];
    all.extend(arguments);
    let added = world.coordinator(&all)?.expect_code(exit::OK)?;
    Ok(added.stdout_text().trim().to_owned())
}

#[test]
fn a_token_opens_what_it_is_for_until_it_is_taken_away() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "content")?;
    let (_daemon, port) = listening(&world)?;
    let metrics = token(&world, "prometheus", &["--scope", "metrics"])?;
    let health = token(&world, "checks", &["--scope", "health,status"])?;
    let far = token(
        &world,
        "far",
        &["--scope", "metrics", "--allow-from", "192.0.2.0/24"],
    )?;
    let status = |path: &str, token: Option<&str>| -> Result<u16> {
        Ok(http_get(port, path, token)?.status)
    };
    ensure!(status("/healthz", None)? == 200);
    ensure!(status("/metrics", None)? == 401);
    ensure!(status("/metrics", Some(&health))? == 403);
    ensure!(status("/metrics", Some(&far))? == 403);
    ensure!(status("/metrics", Some("capstan_00"))? == 401);
    ensure!(status(&format!("/health/host/{HOST}"), Some(&metrics))? == 403);
    ensure!(status("/health/host/nobody", Some(&health))? == 404);
    ensure!(status("/nothing", Some(&health))? == 404);
    let path = format!("/health/host/{HOST}");
    // Nothing is backed up yet.
    ensure!(status(&path, Some(&health))? == 503);
    world.run()?;
    let answer = http_get(port, &path, Some(&health))?;
    ensure!(answer.status == 200, "{answer:?}");
    let json: Value = serde_json::from_str(&answer.body)?;
    ensure!(json["healthy"] == true && json["host"] == HOST, "{json}");
    let fleet = http_get(port, "/v1/status", Some(&health))?;
    let fleet: Value = serde_json::from_str(&fleet.body)?;
    ensure!(fleet["hosts"][0]["severity"] == "ok", "{fleet}");
    let figures = http_get(port, "/metrics", Some(&metrics))?;
    for line in [
        format!("backup_last_success_timestamp{{host=\"{HOST}\"}} "),
        format!("backup_severity{{host=\"{HOST}\"}} 0"),
        "backup_destination_lag_bytes{destination=\"local\"} 0".to_owned(),
    ] {
        ensure!(figures.body.contains(&line), "{line}: {}", figures.body);
    }
    ensure!(figures.headers.contains("cache-control: no-store"));

    world
        .coordinator(&["token", "rm", "prometheus"])?
        .expect_code(exit::OK)?;
    ensure!(status("/metrics", Some(&metrics))? == 401);
    let listed = world.coordinator(&["token", "ls"])?.stdout_text();
    ensure!(
        listed.contains("checks") && !listed.contains(&health),
        "{listed}"
    );
    let state = fs::read(world.coordinator_dir().join("state/state.db"))?;
    let digits = health.trim_start_matches("capstan_").as_bytes();
    ensure!(!state.windows(digits.len()).any(|bytes| bytes == digits));
    Ok(())
}

#[test]
fn nobody_can_keep_others_from_the_listener() -> Result<()> {
    let world = World::new()?;
    let (_daemon, port) = listening(&world)?;
    let good = token(&world, "good", &["--scope", "metrics"])?;
    let guess = format!("capstan_{}", "00".repeat(32));
    let mut answers = Vec::new();
    for _ in 0..15 {
        answers.push(http_get(port, "/metrics", Some(&guess))?.status);
    }
    ensure!(answers[0] == 401 && answers[14] == 429, "{answers:?}");
    // A good token is heard whatever others at the same address do.
    ensure!(http_get(port, "/metrics", Some(&good))?.status == 200);

    let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    ensure!(http_raw(port, post)?.status == 405);
    let long = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "a".repeat(1 << 20)
    );
    // Refused or cut, as it comes; never taken.
    ensure!(http_raw(port, &long).map_or(true, |answer| answer.status >= 400));

    // More connections than there is room for, and none of them says anything to its end.
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost")?;
        silent.push(stream);
    }
    ensure!(http_get(port, "/healthz", None)?.status == 200);
    let mut first = silent.remove(0);
    first.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut rest = Vec::new();
    // Cut: an end or a reset, and not a time-out.
    if let Err(error) = first.read_to_end(&mut rest) {
        ensure!(
            error.kind() == std::io::ErrorKind::ConnectionReset,
            "{error}"
        );
    }
    Ok(())
}

#[test]
fn a_listener_for_the_network_without_tls_is_refused_unless_asked_for() -> Result<()> {
    let world = World::new()?;
    world.replace_config_line("#address = ", "address = \"0.0.0.0:9820\"")?;
    world
        .coordinator(&["config", "check"])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["listener.address", "insecure = true"])?;
    world.replace_config_line("#insecure = ", "insecure = true")?;
    world
        .coordinator(&["config", "check"])?
        .expect_code(exit::OK)?;
    Ok(())
}

#[test]
fn a_listener_whose_address_is_taken_is_down_until_it_is_free_and_needs_no_restart() -> Result<()> {
    let world = World::new()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    world.replace_config_line("#address = ", &format!("address = \"127.0.0.1:{port}\""))?;
    let mut daemon = world.start(&["daemon"])?;
    let mut down = |expected: bool| {
        processes::wait_until("the listener's state", Duration::from_secs(60), || {
            ensure!(!daemon.has_ended()?, "{}", daemon.stderr_so_far());
            let status = world.coordinator(&["status", "--json"])?;
            let status: Value = status.expect_code(exit::OK)?.json()?;
            let troubles = status["daemon"]["troubles"].as_array();
            let named = troubles.map(|all| all.iter().any(|one| one["what"] == "service listener"));
            Ok(named == Some(expected))
        })
    };
    down(true)?;
    let shown = world.coordinator(&["status"])?.stdout_text();
    ensure!(shown.contains("service listener does not work"), "{shown}");
    drop(taken);
    down(false)?;
    let answer = http_get(port, "/healthz", None)?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// A state file that is none, and one that hangs as on a disk that does not answer: whoever asks is told, and in time.
#[test]
fn a_state_that_cannot_be_opened_or_hangs_is_told_within_a_deadline() -> Result<()> {
    let world = World::new()?;
    let (_daemon, port) = listening(&world)?;
    ensure!(http_get(port, "/healthz", None)?.status == 200);
    let state = world.coordinator_dir().join("state/state.db");
    let away = world.directory().join("state.away");
    let expect_failing = |reason: &str| -> Result<()> {
        let began = Instant::now();
        let answer = http_get(port, "/healthz", None)?;
        ensure!(began.elapsed() < Duration::from_secs(15), "{answer:?}");
        let json: Value = serde_json::from_str(&answer.body)?;
        let down = json["down"].as_array().into_iter().flatten();
        ensure!(
            answer.status == 503 && down.into_iter().any(|one| one == "state"),
            "{answer:?}"
        );
        let told = json["reason"].as_str().unwrap_or_default();
        ensure!(told.contains(reason), "{answer:?}");
        Ok(())
    };
    fs::rename(&state, &away)?;
    fs::create_dir(&state)?;
    expect_failing("cannot be opened")?;
    // Put there whole, whatever the daemon makes in its place meanwhile.
    let pipe = world.directory().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status()?;
    ensure!(made.success());
    fs::remove_dir(&state)?;
    fs::rename(&pipe, &state)?;
    expect_failing("does not open in time")?;
    // One that hangs does not add up.
    expect_failing("does not open in time")?;
    // It answers again, and those that wait for it go on.
    let released = fs::File::open(&state)?;
    fs::rename(&away, &state)?;
    processes::wait_until("good health", Duration::from_secs(60), || {
        Ok(http_get(port, "/healthz", None)?.status == 200)
    })?;
    drop(released);
    Ok(())
}
