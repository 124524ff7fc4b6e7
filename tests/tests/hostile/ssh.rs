//! A server that is another, stops answering, opens what nobody asked for, or says too much.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use formats::wire::control::FromAgent;
use tests::hostile_agent::script;
use tests::hostile_sshd::{HostileOptions, Stall, Uninvited};
use tests::shapes::exit;
use tests::world::HOST;

use crate::{LIE, hostile_world, is_refused, played, refuses};

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
