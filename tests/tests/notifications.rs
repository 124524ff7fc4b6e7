//! Who is told of what, by real receivers: every kind of target takes a test, and over the life of a daemon that is killed
//! in between, everybody is told once that a host fails and once that it is backed up again.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::coordinator_process::{DEADLINE, Finished, Running, binary};
use tests::http_client::http_get;
use tests::processes;
use tests::receivers::{MAIL_PASSWORD, MAIL_USER, Receivers};
use tests::shapes::exit;
use tests::sshd::free_port;
use tests::world::{HOST, World};

/// Adds lines to the end of coordinator.toml, which are of `[notify]`.
fn add_targets(world: &World, lines: &str) -> Result<()> {
    let config = fs::read_to_string(world.config())?;
    world.write_config(&format!("{config}\n{lines}"))
}

/// Runs the coordinator as somebody who trusts the receivers' certificate.
fn trusting(world: &World, receivers: &Receivers, arguments: &[&str]) -> Result<Finished> {
    let mut all: Vec<OsString> = vec!["-c".into(), world.config().into()];
    all.extend(arguments.iter().map(OsString::from));
    let certificate = receivers.certificate().display().to_string();
    let environment = [("SSL_CERT_FILE", certificate.as_str())];
    Running::spawn(&binary("coordinator")?, &all, &environment)?.finish(DEADLINE)
}

#[test]
fn every_kind_of_target_takes_a_test_with_its_secret() -> Result<()> {
    let (world, receivers) = (World::new()?, Receivers::start()?);
    let directory = world.directory();
    let secret = directory.join("secret");
    fs::write(&secret, format!("{MAIL_PASSWORD}\n"))?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let told = directory.join("told.json");
    let (http, secret, told_text) = (receivers.http(), secret.display(), told.display());
    let mail = receivers.secure_mail();
    add_targets(
        &world,
        &format!(
            "[[notify.target]]\nname = \"mail\"\nkind = \"mail\"\nserver = \"{mail}\"\nfrom = \"capstan@example.com\"\n\
             to = [\"ops@example.com\", \"boss@example.com\"]\nuser = \"{MAIL_USER}\"\nsecret_file = \"{secret}\"\n\
             [[notify.target]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{http}/hook\"\nsecret_command = [\"echo\", \"s3cret\"]\n\
             [[notify.target]]\nname = \"chat\"\nkind = \"webhook\"\nurl = \"{http}/chat/{{secret}}\"\nsecret_command = [\"echo\", \"abc\"]\n\
             [[notify.target]]\nname = \"phone\"\nkind = \"ntfy\"\nurl = \"{http}/alarms\"\n\
             [[notify.target]]\nname = \"app\"\nkind = \"gotify\"\nurl = \"{http}/gotify\"\nsecret_command = [\"echo\", \"app\"]\n\
             [[notify.target]]\nname = \"program\"\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"cat > '{told_text}'\"]\n\
             [[notify.target]]\nname = \"switch\"\nkind = \"ping\"\nurl = \"{http}/ping\"\n"
        ),
    )?;
    trusting(&world, &receivers, &["notify", "test"])?.expect_code(exit::OK)?;

    let letters = receivers.letters()?;
    ensure!(letters.len() == 1 && letters[0].tls, "{letters:?}");
    ensure!(letters[0].to == ["ops@example.com", "boss@example.com"]);
    ensure!(letters[0].subject.ends_with("] a test"), "{letters:?}");
    let bearer = |path: &str| -> Result<Option<String>> {
        let posts = receivers.posts_to(path)?;
        ensure!(posts.len() == 1, "{path}: {posts:?}");
        Ok(posts[0].headers.get("authorization").cloned())
    };
    ensure!(bearer("/hook")?.as_deref() == Some("Bearer s3cret"));
    ensure!(bearer("/chat/abc")?.is_none());
    ensure!(receivers.posts_to("/")?[0].json()?["topic"] == "alarms");
    let gotify = receivers.posts_to("/gotify/message")?;
    ensure!(gotify[0].headers.get("x-gotify-key").map(String::as_str) == Some("app"));
    ensure!(bearer("/ping")?.is_none());
    let told: serde_json::Value = serde_json::from_slice(&fs::read(&told)?)?;
    ensure!(told["kind"] == "test" && told["level"] == "ok", "{told}");

    // Without the certificate nobody gets the password.
    let refused = world.coordinator(&["notify", "test", "mail"])?;
    refused.expect_code(exit::ERROR)?;
    ensure!(receivers.letters()?.len() == 1);
    let unknown = world.coordinator(&["notify", "test", "nobody"])?;
    unknown
        .expect_code(exit::NOT_FOUND)?
        .expect_stderr(&["mail", "switch"])?;
    let shown = world
        .coordinator(&["config", "show"])?
        .expect_code(exit::OK)?;
    ensure!(
        !shown.stdout_text().contains("/chat/"),
        "{}",
        shown.stdout_text()
    );
    Ok(())
}

#[test]
fn a_target_that_fails_or_hangs_is_told_of_by_name() -> Result<()> {
    let (world, receivers) = (World::new()?, Receivers::start()?);
    let (http, mail) = (receivers.http(), receivers.plain_mail());
    add_targets(
        &world,
        &format!(
            "[[notify.target]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{http}/hook\"\n\
             [[notify.target]]\nname = \"mail\"\nkind = \"mail\"\nserver = \"{mail}\"\nsecurity = \"none\"\n\
             from = \"capstan@example.com\"\nto = [\"ops@example.com\"]\n\
             [[notify.target]]\nname = \"slow\"\nkind = \"command\"\nrun = [\"sleep\", \"600\"]\ntimeout = \"1s\"\n\
             [[notify.target]]\nname = \"bad\"\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"echo no such queue >&2; exit 3\"]\n"
        ),
    )?;
    receivers.refuse(true)?;
    let failed = world.coordinator_within(Duration::from_secs(60), &["notify", "test"])?;
    let text = failed.expect_code(exit::ERROR)?.stdout_text();
    for words in [
        "hook: ",
        "503",
        "mail: ",
        "slow: sleep was not done",
        "no such queue",
    ] {
        ensure!(text.contains(words), "{words}: {text}");
    }
    receivers.refuse(false)?;
    world
        .coordinator(&["notify", "test", "mail"])?
        .expect_code(exit::OK)?;
    ensure!(receivers.letters()?.len() == 1);
    Ok(())
}

/// A daemon that answers.
fn daemon(world: &World, port: u16) -> Result<Running> {
    let mut daemon = world.start(&["daemon"])?;
    processes::wait_until("the daemon", Duration::from_secs(60), || {
        ensure!(
            !daemon.has_ended()?,
            "the daemon ended: {}",
            daemon.stderr_so_far()
        );
        Ok(http_get(port, "/healthz", None).is_ok_and(|answer| answer.status == 200))
    })?;
    Ok(daemon)
}

/// Every alert that reached the webhook, and every one that came by mail.
fn titles(receivers: &Receivers) -> Result<(Vec<String>, Vec<String>)> {
    let mut hook = Vec::new();
    for post in receivers.posts_to("/hook")? {
        let message = post.json()?;
        for alert in message["alerts"].as_array().into_iter().flatten() {
            hook.push(alert["title"].as_str().unwrap_or_default().to_owned());
        }
    }
    let letters = receivers.letters()?;
    let lines = letters.iter().flat_map(|letter| letter.text.lines());
    let alerts = lines.filter_map(|line| {
        let (_, rest) = line.split_once(' ')?;
        let (level, title) = rest.split_once(": ")?;
        ["ok", "warning", "critical"]
            .contains(&level)
            .then(|| title.to_owned())
    });
    Ok((hook, alerts.collect()))
}

fn wait_for(receivers: &Receivers, title: &str) -> Result<()> {
    processes::wait_until(title, Duration::from_secs(90), || {
        let (hook, mail) = titles(receivers)?;
        Ok(hook.iter().any(|one| one == title) && mail.iter().any(|one| one == title))
    })
}

/// The coordinator's state, whoever else has it open.
fn state(world: &World) -> Result<rusqlite::Connection> {
    let path = world.coordinator_dir().join("state/state.db");
    Ok(rusqlite::Connection::open(path)?)
}

/// Waits until nothing is left to deliver: what was taken just before a kill would be delivered once more.
fn wait_until_delivered(world: &World) -> Result<()> {
    processes::wait_until("the deliveries", Duration::from_secs(90), || {
        let waiting: i64 =
            state(world)?.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?;
        Ok(waiting == 0)
    })
}

#[test]
fn everybody_is_told_once_that_a_host_fails_and_once_that_it_is_backed_up_again() -> Result<()> {
    let (mut world, receivers) = (World::new()?, Receivers::start()?);
    let port = free_port()?;
    let (http, mail) = (receivers.http(), receivers.plain_mail());
    world.replace_config_line("#address = ", &format!("address = \"127.0.0.1:{port}\""))?;
    add_targets(
        &world,
        &format!(
            "[[notify.target]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{http}/hook\"\n\
             [[notify.target]]\nname = \"switch\"\nkind = \"ping\"\nurl = \"{http}/switch\"\nevery = \"1s\"\n\
             [[notify.target]]\nname = \"mail\"\nkind = \"mail\"\nserver = \"{mail}\"\nsecurity = \"none\"\n\
             from = \"capstan@example.com\"\nto = [\"ops@example.com\"]\n"
        ),
    )?;
    fs::write(world.source().join("file"), "content")?;
    let mut first = daemon(&world, port)?;
    world.run()?;
    processes::wait_until("the switch", Duration::from_secs(60), || {
        Ok(!receivers.posts_to("/switch")?.is_empty())
    })?;
    ensure!(!receivers.posts_to("/switch/start")?.is_empty());

    let fails = format!("{HOST}: backing up fails");
    world.sshd_mut().power_off()?;
    for _ in 0..2 {
        let failed = world.coordinator(&["run", HOST])?;
        ensure!(failed.code != Some(exit::OK), "it ran without a host");
    }
    wait_for(&receivers, &fails)?;

    wait_until_delivered(&world)?;
    // A run without the daemon, which was killed, is nothing new either.
    first.kill()?;
    drop(first);
    let failed = world.coordinator(&["run", HOST])?;
    ensure!(failed.code != Some(exit::OK), "it ran without a host");
    let mut second = daemon(&world, port)?;
    wait_for(
        &receivers,
        "the daemon runs again after it ended without being told to",
    )?;

    wait_until_delivered(&world)?;
    // What cannot be delivered when it happens is delivered by the next daemon.
    receivers.refuse(true)?;
    world.sshd_mut().power_on()?;
    world.run()?;
    second.kill()?;
    drop(second);
    receivers.refuse(false)?;
    let third = daemon(&world, port)?;
    let again = format!("{HOST}: is backed up again");
    wait_for(&receivers, &again)?;

    // The last alert closes what came before it.
    let token = ["token", "add", "last", "--scope", "metrics"];
    world.coordinator(&token)?.expect_code(exit::OK)?;
    wait_for(&receivers, "token last was made by user:root(0)")?;
    let (hook, mail) = titles(&receivers)?;
    for told in [hook, mail] {
        for title in [&fails, &again] {
            let count = told.iter().filter(|one| *one == title).count();
            ensure!(count == 1, "{title:?} was told {count} times: {told:?}");
        }
    }
    drop(third);
    Ok(())
}

/// A world whose alerts go to one webhook, and the port of its daemon's listener.
fn with_a_hook() -> Result<(World, Receivers, u16)> {
    let (world, receivers) = (World::new()?, Receivers::start()?);
    let port = free_port()?;
    let http = receivers.http();
    world.replace_config_line("#address = ", &format!("address = \"127.0.0.1:{port}\""))?;
    add_targets(
        &world,
        &format!("[[notify.target]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{http}/hook\"\n"),
    )?;
    Ok((world, receivers, port))
}

#[test]
fn a_digest_goes_out_once_a_day_with_the_ends_of_the_logs_in_it() -> Result<()> {
    let (world, receivers, port) = with_a_hook()?;
    fs::write(world.source().join("file"), "content")?;
    drop(daemon(&world, port)?);
    world.run()?;
    // One was due a moment ago, and the daemon before knew of none.
    state(&world)?.execute_batch("UPDATE notify_position SET digest = 0")?;
    world.replace_config_line("#digest = \"07:30\"", "digest = \"00:00\"")?;
    for _ in 0..2 {
        let running = daemon(&world, port)?;
        processes::wait_until("the digest", Duration::from_secs(60), || {
            let posts = receivers.posts_to("/hook")?;
            let mut bodies = posts.iter().map(|post| &post.body);
            Ok(bodies.any(|body| body.contains("\"digest\"")))
        })?;
        wait_until_delivered(&world)?;
        drop(running);
    }
    let posts = receivers.posts_to("/hook")?;
    let digests: Vec<serde_json::Value> = posts
        .iter()
        .map(|post| post.json())
        .filter(|post| post.as_ref().is_ok_and(|post| post["kind"] == "digest"))
        .collect::<Result<_>>()?;
    ensure!(digests.len() == 1, "{digests:?}");
    ensure!(digests[0]["hosts"][0]["host"] == HOST, "{}", digests[0]);
    let heads = world.coordinator(&["audit", "head", "--json"])?;
    let heads: serde_json::Value = heads.expect_code(exit::OK)?.json()?;
    ensure!(digests[0]["logs"][0]["record"] == heads[0]["record"]);
    let audit = &digests[0]["audit"];
    let witness = format!(
        "{}:{}",
        audit["sequence"],
        audit["record"].as_str().unwrap_or_default()
    );
    world
        .coordinator(&["audit", "verify", "--witness", &witness])?
        .expect_code(exit::OK)?;
    Ok(())
}

/// What `status` says of what does not work.
fn troubles(world: &World) -> Result<String> {
    let status = world.coordinator(&["status", "--json"])?;
    let status: serde_json::Value = status.expect_code(exit::OK)?.json()?;
    Ok(status["daemon"]["troubles"].to_string())
}

/// Without certificates, with a program that prints a secret and hangs, and with a target that is dead and has much waiting.
#[test]
fn targets_that_do_not_work_are_named_and_keep_nothing_from_the_others() -> Result<()> {
    let (world, receivers) = (World::new()?, Receivers::start()?);
    let port = free_port()?;
    let http = receivers.http();
    world.replace_config_line("#address = ", &format!("address = \"127.0.0.1:{port}\""))?;
    let dead = free_port()?;
    add_targets(
        &world,
        &format!(
            "[[notify.target]]\nname = \"dead\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{dead}/\"\n\
             [[notify.target]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{http}/hook\"\n\
             [[notify.target]]\nname = \"secure\"\nkind = \"webhook\"\nurl = \"https://127.0.0.1:{dead}/\"\n\
             [[notify.target]]\nname = \"stuck\"\nkind = \"webhook\"\nurl = \"{http}/stuck\"\n\
             secret_command = [\"sleep\", \"600\"]\n"
        ),
    )?;
    // A first daemon makes the state.
    drop(daemon(&world, port)?);
    state(&world)?.execute_batch(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 299)
         INSERT INTO outbox (key, target, level, title, body, json, created, attempts, due)
         SELECT CAST(n AS TEXT), 'dead', 'ok', 'old', '', '{}', 0, 0, 0 FROM numbers",
    )?;
    let missing = world.directory().join("no-certificates");
    let missing = missing.display().to_string();
    let environment = [
        ("SSL_CERT_FILE", missing.as_str()),
        ("SSL_CERT_DIR", missing.as_str()),
    ];
    let arguments: Vec<OsString> = vec!["-c".into(), world.config().into(), "daemon".into()];
    let running = Running::spawn(&binary("coordinator")?, &arguments, &environment)?;
    let told = |title: &str| {
        processes::wait_until(title, Duration::from_secs(120), || {
            let posts = receivers.posts_to("/hook")?;
            Ok(posts.iter().any(|post| post.body.contains(title)))
        })
        .with_context(|| running.stderr_so_far())
    };
    for name in ["first", "second"] {
        let token = ["token", "add", name, "--scope", "metrics"];
        world.coordinator(&token)?.expect_code(exit::OK)?;
        told(&format!("token {name} was made"))?;
    }
    processes::wait_until("what is wrong", Duration::from_secs(120), || {
        let named = troubles(&world)?;
        Ok([
            "target dead",
            "target secure",
            "target stuck",
            "certificates",
            "was not done",
        ]
        .iter()
        .all(|words| named.contains(words)))
    })?;
    let named = troubles(&world)?;
    ensure!(
        !named.contains("target hook") && !named.contains("service"),
        "{named}"
    );
    ensure!(http_get(port, "/healthz", None)?.status == 200);
    ensure!(receivers.posts_to("/stuck")?.is_empty());
    Ok(())
}

/// A program that takes its whole time for its first message: what happens meanwhile is told to the others all the same.
#[test]
fn a_slow_target_delays_no_other() -> Result<()> {
    let (world, receivers) = (World::new()?, Receivers::start()?);
    let port = free_port()?;
    let http = receivers.http();
    world.replace_config_line("#address = ", &format!("address = \"127.0.0.1:{port}\""))?;
    let (began, block) = (
        world.directory().join("began"),
        world.directory().join("block"),
    );
    fs::write(&block, "")?;
    let script = format!(
        "touch '{}'; while [ -e '{}' ]; do sleep 0.1; done",
        began.display(),
        block.display()
    );
    add_targets(
        &world,
        &format!(
            "[[notify.target]]\nname = \"slow\"\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"{script}\"]\ntimeout = \"5m\"\n\
             [[notify.target]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{http}/hook\"\n"
        ),
    )?;
    let _running = daemon(&world, port)?;
    for name in ["first", "second"] {
        let token = ["token", "add", name, "--scope", "metrics"];
        world.coordinator(&token)?.expect_code(exit::OK)?;
        processes::wait_until(name, Duration::from_secs(60), || {
            let posts = receivers.posts_to("/hook")?;
            let title = format!("token {name} was made");
            Ok(began.exists() && posts.iter().any(|post| post.body.contains(&title)))
        })?;
    }
    fs::remove_file(&block)?;
    wait_until_delivered(&world)
}

#[test]
fn a_kill_while_a_target_is_told_repeats_nothing_that_it_took_before() -> Result<()> {
    let world = World::new()?;
    let port = free_port()?;
    world.replace_config_line("#address = ", &format!("address = \"127.0.0.1:{port}\""))?;
    let (told, block) = (
        world.directory().join("told"),
        world.directory().join("block"),
    );
    fs::write(&block, "")?;
    fs::write(&told, "")?;
    // It hangs with the third message.
    let script = format!(
        "cat >> '{told}'; echo >> '{told}'; [ $(wc -l < '{told}') -ne 3 ] || while [ -e '{block}' ]; do sleep 0.1; done",
        told = told.display(),
        block = block.display()
    );
    add_targets(
        &world,
        &format!(
            "[[notify.target]]\nname = \"program\"\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"{script}\"]\ntimeout = \"5m\"\n"
        ),
    )?;
    drop(daemon(&world, port)?);
    state(&world)?.execute_batch(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 4)
         INSERT INTO outbox (key, target, level, title, body, json, created, attempts, due)
         SELECT CAST(n AS TEXT), 'program', 'ok', 'one', '', '{\"n\":' || n || '}',
         CAST(strftime('%s', 'now') AS INTEGER) * 1000000000, 0, 0 FROM numbers",
    )?;
    let numbers = || -> Result<Vec<u64>> {
        let lines = fs::read_to_string(&told)?;
        let messages = lines.lines().map(serde_json::from_str::<serde_json::Value>);
        let messages: Vec<_> = messages.collect::<Result<_, _>>()?;
        let numbers = messages.iter().filter_map(|message| message["n"].as_u64());
        Ok(numbers.collect())
    };
    let mut first = daemon(&world, port)?;
    processes::wait_until("the third message", Duration::from_secs(60), || {
        Ok(fs::read_to_string(&told)?.lines().count() == 3)
    })?;
    first.kill()?;
    drop(first);
    fs::remove_file(&block)?;
    let _second = daemon(&world, port)?;
    wait_until_delivered(&world)?;
    let numbers = numbers()?;
    ensure!(numbers == [0, 1, 2, 2, 3, 4], "{numbers:?}");
    Ok(())
}

#[test]
fn what_a_target_missed_for_hours_comes_as_one_message_before_what_is_new() -> Result<()> {
    let (world, receivers, port) = with_a_hook()?;
    receivers.refuse(true)?;
    let mut first = daemon(&world, port)?;
    for (name, waiting) in [("one", 1), ("two", 2), ("three", 3)] {
        let token = ["token", "add", name, "--scope", "metrics"];
        world.coordinator(&token)?.expect_code(exit::OK)?;
        processes::wait_until(name, Duration::from_secs(60), || {
            let count: i64 =
                state(&world)?.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?;
            Ok(count == waiting)
        })?;
    }
    first.kill()?;
    drop(first);
    // Seven hours ago.
    state(&world)?
        .execute_batch("UPDATE outbox SET created = created - 7 * 3600 * 1000000000, due = 0")?;
    receivers.refuse(false)?;
    let _second = daemon(&world, port)?;
    let new = "the daemon runs again after it ended without being told to";
    processes::wait_until(new, Duration::from_secs(60), || {
        let posts = receivers.posts_to("/hook")?;
        Ok(posts.iter().any(|post| post.body.contains(new)))
    })?;
    let posts = receivers.posts_to("/hook")?;
    let missed = posts[0].json()?;
    ensure!(
        missed["kind"] == "missed" && missed["count"] == 3,
        "{missed}"
    );
    let alerts = missed["alerts"].as_array().into_iter().flatten();
    let titles: Vec<&str> = alerts.filter_map(|alert| alert["title"].as_str()).collect();
    let made = ["one", "two", "three"].map(|name| format!("token {name} was made by user:root(0)"));
    ensure!(titles == made, "{titles:?}");
    let others: Vec<_> = posts[1..].iter().map(|post| &post.body).collect();
    ensure!(
        others.iter().all(|body| !body.contains("was made")),
        "{others:?}"
    );
    Ok(())
}

/// As a clock that was a year ahead leaves the state.
#[test]
fn a_clock_that_was_ahead_keeps_nobody_from_being_told() -> Result<()> {
    let (world, receivers, port) = with_a_hook()?;
    receivers.refuse(true)?;
    let first = daemon(&world, port)?;
    let token = ["token", "add", "one", "--scope", "metrics"];
    world.coordinator(&token)?.expect_code(exit::OK)?;
    processes::wait_until("a failure", Duration::from_secs(60), || {
        Ok(first.stderr_so_far().contains("is not delivered yet"))
    })?;
    drop(first);
    state(&world)?.execute_batch(
        "UPDATE outbox SET due = due + 31536000000000000, created = created + 31536000000000000;
         UPDATE notify_position SET digest = digest + 31536000000000000",
    )?;
    receivers.refuse(false)?;
    let _second = daemon(&world, port)?;
    processes::wait_until("the message", Duration::from_secs(60), || {
        let posts = receivers.posts_to("/hook")?;
        Ok(posts
            .iter()
            .any(|post| post.body.contains("token one was made")))
    })?;
    Ok(())
}
