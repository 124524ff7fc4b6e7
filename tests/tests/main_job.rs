//! The main job, as the README's quick start does it: init, trust, run, list, restore, compare.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::compare::{Fact, differences};
use tests::corpus::{Corpus, CorpusOptions};
use tests::shapes::{LsLine, Outcome, RunReport, exit};
use tests::world::{HOST, World, WorldOptions, below};

#[test]
fn a_host_is_trusted_backed_up_listed_verified_and_restored() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("hello"), "hello, world\n")?;
    fs::create_dir(world.source().join("below"))?;
    fs::write(world.source().join("below/more"), vec![7; 3 << 20])?;
    // As a person begins: no host key is known yet.
    let hosts = world.hosts_toml(&world.sshd().address().to_string(), "")?;
    world.write_hosts(&hosts.replace("host_key = [\"\"]\n", ""))?;
    let refused = world
        .coordinator(&["run", HOST])?
        .expect_code(exit::HOST_KEY)?;
    ensure!(
        refused.stderr_text().contains("host trust"),
        "the remedy is not named: {}",
        refused.stderr_text()
    );
    let trust = world
        .coordinator(&["host", "trust", HOST, "--yes"])?
        .expect_code(exit::OK)?;
    let fingerprint = world.sshd().fingerprint()?;
    ensure!(
        (trust.stdout_text() + &trust.stderr_text()).contains(&fingerprint),
        "trust does not show {fingerprint}"
    );
    ensure!(fs::read_to_string(world.coordinator_dir().join("hosts.toml"))?.contains(&fingerprint));

    let before = world.target_state()?;
    let report = world.run()?;
    ensure!(
        report.outcome == Outcome::Ok && report.problem_count == 0,
        "{report:?}"
    );
    ensure!(
        report.bytes_read == 13 + (3 << 20),
        "read {} bytes",
        report.bytes_read
    );
    let committed = report
        .snapshot
        .expect("a run that is ok names its snapshot");
    world.expect_target_clean(&before)?;

    let snapshots = world.snapshots()?;
    ensure!(snapshots.len() == 1, "{snapshots:?}");
    ensure!(
        snapshots[0].id == committed.id
            && snapshots[0].seq == committed.seq
            && snapshots[0].verified,
        "{snapshots:?}"
    );
    ensure!(
        snapshots[0].bytes == 13 + (3 << 20) && snapshots[0].files == 2,
        "{snapshots:?}"
    );

    world.expect_restores("latest", "latest")?;
    world.expect_restores(&committed.id, "by-id")?;
    world.expect_restores(&committed.id[..8], "by-prefix")?;
    let verified = world.verify()?;
    ensure!(
        verified.outcome == Outcome::Ok && verified.snapshots == 1 && verified.chunks > 0,
        "{verified:?}"
    );
    Ok(())
}

#[test]
fn a_second_run_reads_only_what_changed_and_both_snapshots_restore() -> Result<()> {
    let world = World::new()?;
    Corpus::create(
        &world.source(),
        &CorpusOptions {
            small_files: 200,
            ..CorpusOptions::tiny()
        },
    )?;
    // A change within the same second as the first run is not trusted, so let the corpus be old: it is, by its times.
    let first = world.run()?;
    let second = world.run()?;
    ensure!(
        second.new_bytes == 0,
        "nothing changed, yet {} bytes are new",
        second.new_bytes
    );
    ensure!(
        second.files == first.files && second.directories == first.directories,
        "{first:?} {second:?}"
    );

    let kept = world.expect_restores("latest", "before")?;
    fs::write(world.source().join("files/small/d0/f3"), "changed")?;
    fs::remove_file(world.source().join("files/text"))?;
    fs::write(world.source().join("files/added"), vec![1; 500_000])?;
    let third = world.run()?;
    ensure!(
        third.new_bytes > 0 && third.new_bytes < 1_000_000,
        "{} new bytes",
        third.new_bytes
    );
    world.expect_restores("latest", "after")?;
    let again = world.restore("latest~1", "again")?;
    // The directory restored into is no part of a snapshot, so the comparison begins below it.
    let source = world.source();
    let found = differences(&below(&kept, &source), &below(&again, &source))?;
    ensure!(
        found.is_empty(),
        "an old snapshot restores differently after a new one: {found:?}"
    );
    Ok(())
}

#[test]
fn full_read_reads_everything_and_uploads_nothing() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), vec![9; 5 << 20])?;
    world.run()?;
    let again = world.run_within(
        tests::coordinator_process::DEADLINE,
        exit::OK,
        &["--full-read"],
    )?;
    ensure!(
        again.bytes_read == 5 << 20 && again.new_bytes == 0,
        "{again:?}"
    );
    Ok(())
}

#[test]
fn paths_restore_alone_and_ls_and_cat_show_them() -> Result<()> {
    let world = World::new()?;
    fs::create_dir_all(world.source().join("a/b"))?;
    fs::write(world.source().join("a/b/wanted"), "wanted\n")?;
    fs::write(world.source().join("a/other"), "other\n")?;
    world.run()?;
    let wanted = world.source().join("a/b");
    let wanted_text = wanted.to_string_lossy().into_owned();
    let output = world.output("part");
    fs::create_dir_all(&output)?;
    let output_text = output.to_string_lossy().into_owned();
    world
        .coordinator(&[
            "restore",
            HOST,
            "latest",
            "--to",
            &output_text,
            &wanted_text,
        ])?
        .expect_code(exit::OK)?;
    ensure!(fs::read_to_string(below(&output, &wanted).join("wanted"))? == "wanted\n");
    ensure!(
        !below(&output, &world.source()).join("a/other").exists(),
        "more than asked for was restored"
    );

    let lines: Vec<LsLine> = world
        .coordinator(&["ls", HOST, "latest", &wanted_text, "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    ensure!(
        lines
            .iter()
            .any(|line| line.path == format!("{wanted_text}/wanted")
                && line.kind == "file"
                && line.size == 7),
        "{lines:?}"
    );
    let cat = world
        .coordinator(&["cat", HOST, "latest", &format!("{wanted_text}/wanted")])?
        .expect_code(exit::OK)?;
    ensure!(cat.stdout == b"wanted\n");
    Ok(())
}

#[test]
fn globs_and_tags_mean_several_hosts() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "content")?;
    let hosts = fs::read_to_string(world.coordinator_dir().join("hosts.toml"))?;
    let table = hosts.find("[host.").expect("there is a host");
    let second = hosts[table..].replace(&format!("[host.{HOST}"), "[host.other");
    world.write_hosts(&format!("{hosts}\n{second}"))?;
    let glob = format!("{}*", &HOST[..2]);
    let run = world.coordinator(&["run", &glob, "--json"])?;
    let ran: serde_json::Value = run.expect_code(exit::OK)?.json()?;
    let ran = ran.to_string();
    ensure!(ran.contains(HOST) && !ran.contains("other"), "{ran}");
    let names = |words: &[&str]| -> Result<Vec<String>> {
        let status = world.coordinator(&[&["status", "--json"], words].concat())?;
        let value: serde_json::Value = status.expect_code(exit::OK)?.json()?;
        let hosts = value["hosts"].as_array().cloned().unwrap_or_default();
        let names = hosts.iter().filter_map(|host| host["host"].as_str());
        Ok(names.map(str::to_owned).collect())
    };
    ensure!(names(&[&glob])? == [HOST]);
    ensure!(names(&["*"])?.len() == 2 && names(&["{other,nobody}"])? == ["other"]);
    // One has a snapshot to verify, and the other no repository yet.
    let verified = world.coordinator(&["verify", "*", "--json"])?;
    let verified: serde_json::Value = verified.expect_code(exit::NOT_FOUND)?.json()?;
    let outcomes: Vec<_> = verified.as_array().into_iter().flatten().collect();
    ensure!(outcomes.len() == 2, "{verified}");
    for outcome in outcomes {
        let expected = if outcome["host"] == HOST {
            "ok"
        } else {
            "not_verified"
        };
        ensure!(outcome["outcome"] == expected, "{verified}");
    }
    for command in ["run", "status", "verify", "prune"] {
        world
            .coordinator(&[command, "nobody*"])?
            .expect_code(exit::NOT_FOUND)?
            .expect_stderr(&["no host matches", HOST, "other"])?;
    }
    Ok(())
}

#[test]
fn a_jump_host_is_used() -> Result<()> {
    let world = World::with(WorldOptions {
        jump: true,
        ..WorldOptions::default()
    })?;
    fs::write(world.source().join("file"), "through two servers")?;
    world.run()?;
    let bastion = world.bastion().expect("asked for");
    ensure!(
        bastion.log().contains("Accepted publickey"),
        "nobody came by the jump host:\n{}",
        bastion.log()
    );
    world.expect_restores("latest", "out").map(drop)
}

#[test]
fn sudo_makes_an_unprivileged_login_read_everything() -> Result<()> {
    if !tests::sshd::namespaces_work() {
        return Ok(());
    }
    let user = tests::sshd::UNPRIVILEGED_USER;
    let world = World::with(WorldOptions {
        sshd: tests::sshd::SshdOptions {
            sudoers: vec![format!("{user} ALL=(ALL) NOPASSWD: ALL")],
            ..Default::default()
        },
        host_lines: vec!["become = \"sudo -n\"".into()],
        user: Some(user.into()),
        ..WorldOptions::default()
    })?;
    let secret = world.source().join("secret");
    fs::write(&secret, "only root reads this")?;
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let before = world.target_state()?;
    world.run()?;
    world.expect_target_clean(&before)?;
    world.expect_restores("latest", "out").map(drop)
}

#[test]
fn an_unprivileged_run_without_sudo_counts_what_it_could_not_read() -> Result<()> {
    if !tests::sshd::namespaces_work() {
        return Ok(());
    }
    let world = World::with(WorldOptions {
        user: Some(tests::sshd::UNPRIVILEGED_USER.into()),
        ..WorldOptions::default()
    })?;
    fs::write(world.source().join("open"), "anybody reads this")?;
    let secret = world.source().join("secret");
    fs::write(&secret, "only root reads this")?;
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let report: RunReport = world.run_expecting(exit::WARNINGS)?;
    ensure!(
        report.outcome == Outcome::Warnings && report.problem_count == 1,
        "{report:?}"
    );
    ensure!(
        report.problems[0].path == secret.to_string_lossy()
            && report.problems[0].kind == "unreadable",
        "{report:?}"
    );
    Ok(())
}

#[test]
fn excludes_caches_and_markers_are_left_out() -> Result<()> {
    let world = World::with(WorldOptions {
        host_lines: vec![
            "exclude = [\"*.tmp\", \"build/\"]".into(),
            "exclude_caches = true".into(),
            "exclude_if_present = [\".nobackup\"]".into(),
        ],
        ..WorldOptions::default()
    })?;
    let source = world.source();
    for directory in ["build", "cache", "marked", "kept"] {
        fs::create_dir(source.join(directory))?;
        fs::write(source.join(directory).join("inside"), "inside")?;
    }
    fs::write(source.join("kept/scratch.tmp"), "scratch")?;
    fs::write(
        source.join("cache/CACHEDIR.TAG"),
        "Signature: 8a477f597d28d172789f06886806bc55\n",
    )?;
    fs::write(source.join("marked/.nobackup"), "")?;
    world.run()?;
    let output = world.restore("latest", "out")?;
    let missing: Vec<String> = differences(&source, &below(&output, &source))?
        .into_iter()
        .inspect(|difference| assert_eq!(difference.fact, Fact::Presence, "{difference}"))
        .map(|difference| difference.path)
        .collect();
    for path in ["build", "cache/inside", "kept/scratch.tmp", "marked/inside"] {
        ensure!(
            missing.iter().any(|found| path.starts_with(found.as_str())),
            "{path} was not left out: {missing:?}"
        );
    }
    ensure!(
        below(&output, &source).join("kept/inside").exists()
            && below(&output, &source).join("cache").is_dir()
            && below(&output, &source).join("marked").is_dir()
    );
    // The same without asking the host.
    let above = source.parent().context("a directory above")?;
    for (path, code, told) in [
        (source.join("kept/inside"), exit::OK, "is backed up"),
        (source.join("kept/inside"), exit::OK, "\".nobackup\""),
        (source.join("kept/scratch.tmp"), exit::OK, "\"*.tmp\""),
        (source.join("build/"), exit::OK, "\"build/\" takes"),
        (above.join("elsewhere"), exit::OK, "is not backed up"),
        (above.into(), exit::OK, "itself is kept"),
        (source.join(".."), exit::USAGE, "without \".\" or \"..\""),
    ] {
        let explained = world
            .coordinator(&["host", "explain", HOST, &path.to_string_lossy()])?
            .expect_code(code)?;
        let text = explained.stdout_text() + &explained.stderr_text();
        ensure!(text.contains(told), "{}: {text}", path.display());
    }
    Ok(())
}

#[test]
fn the_demo_needs_nothing_and_leaves_nothing() -> Result<()> {
    let before = temporary_names()?;
    let binary = tests::coordinator_process::binary("coordinator")?;
    let finished = tests::coordinator_process::Running::spawn(&binary, &["demo"], &[])?
        .finish(tests::coordinator_process::DEADLINE)?
        .expect_code(exit::OK)?;
    ensure!(
        finished.stdout_text().contains("verified"),
        "{}",
        finished.stdout_text()
    );
    let left: Vec<String> = temporary_names()?
        .into_iter()
        .filter(|name| {
            !before.contains(name) && name.contains("capstan") && !name.contains("capstan-test-")
        })
        .collect();
    ensure!(left.is_empty(), "the demo left {left:?}");
    Ok(())
}

fn temporary_names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for directory in ["/tmp", "/var/tmp", "/dev/shm"] {
        for entry in fs::read_dir(directory)? {
            names.push(entry?.path().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}
