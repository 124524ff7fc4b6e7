//! Hooks on a real host: their order, what their failures do, their end, and that `finally` is run whatever happens.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tests::coordinator_process::DEADLINE;
use tests::processes::{self, wait_until};
use tests::shapes::{Outcome, exit};
use tests::tcp_proxy::TcpProxy;
use tests::world::{HOST, World, below};

/// A host whose hooks write their names into a file.
struct Hooked {
    world: World,
}

impl Hooked {
    fn new() -> Result<Self> {
        let world = World::new()?;
        fs::write(world.source().join("file"), "content")?;
        Ok(Self { world })
    }

    fn notes(&self) -> PathBuf {
        self.world.directory().join("notes")
    }

    /// What the hooks wrote so far.
    fn noted(&self) -> String {
        let text = fs::read_to_string(self.notes()).unwrap_or_default();
        text.replace('\n', " ").trim_end().to_owned()
    }

    /// A hook that notes its name and then does this.
    fn hook(&self, on: &str, name: &str, script: &str, further: &str) -> String {
        format!(
            "\n[[host.{HOST}.hook]]\non = {on:?}\nrun = [\"sh\", \"-c\", {:?}, {:?}]\n{further}\n",
            format!("echo {name} >> \"$0\"; {script}"),
            self.notes().display().to_string()
        )
    }

    fn set(&self, address: &str, hooks: &[String]) -> Result<()> {
        let hosts = self
            .world
            .hosts_toml(address, &self.world.sshd().fingerprint()?)?;
        self.world.write_hosts(&(hosts + &hooks.concat()))
    }

    fn address(&self) -> String {
        self.world.sshd().address().to_string()
    }

    /// One hook of each kind.
    fn all_kinds(&self) -> Vec<String> {
        ["before-run", "after-run", "failed", "finally"]
            .map(|on| self.hook(on, on, "", ""))
            .to_vec()
    }
}

#[test]
fn hooks_run_in_their_order_around_the_reading() -> Result<()> {
    let hooked = Hooked::new()?;
    let made = hooked.world.source().join("made-by-a-hook");
    let make = format!("echo $CAPSTAN_EVENT $CAPSTAN_HOST > {}", made.display());
    let mut hooks = vec![hooked.hook("finally", "last", "", "")];
    hooks.extend(hooked.all_kinds());
    hooks.push(hooked.hook("before-run", "second", &make, ""));
    hooked.set(&hooked.address(), &hooks)?;
    let before = hooked.world.target_state()?;
    hooked.world.run()?;
    ensure!(
        hooked.noted() == "before-run second after-run last finally",
        "{}",
        hooked.noted()
    );
    hooked.world.expect_target_clean(&before)?;
    let output = hooked.world.expect_restores("latest", "out")?;
    let made = fs::read_to_string(below(&output, &made))?;
    ensure!(made == format!("before-run {HOST}\n"), "{made}");
    Ok(())
}

#[test]
fn a_hook_before_the_run_that_fails_stops_it() -> Result<()> {
    let hooked = Hooked::new()?;
    let mut hooks = vec![hooked.hook("before-run", "first", "echo not today >&2; exit 3", "")];
    hooks.extend(hooked.all_kinds());
    hooked.set(&hooked.address(), &hooks)?;
    hooked
        .world
        .coordinator(&["run", HOST])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["before-run hook", "exit code 3", "not today"])?;
    ensure!(
        hooked.noted() == "first failed finally",
        "{}",
        hooked.noted()
    );
    ensure!(hooked.world.snapshots()?.is_empty());
    Ok(())
}

#[test]
fn failures_that_only_warn_or_are_ignored_leave_the_snapshot() -> Result<()> {
    let hooked = Hooked::new()?;
    let ignored = "on_failure = \"ignore\"";
    hooked.set(
        &hooked.address(),
        &[
            hooked.hook("before-run", "a", "exit 1", ignored),
            hooked.hook("after-run", "b", "exit 1", ignored),
            hooked.hook("finally", "c", "exit 1", ignored),
        ],
    )?;
    hooked.world.run()?;
    ensure!(hooked.noted() == "a b c", "{}", hooked.noted());

    let warns = hooked.hook("finally", "d", "echo no more; exit 9", "");
    hooked.set(&hooked.address(), &[warns])?;
    let report = hooked.world.run_expecting(exit::WARNINGS)?;
    ensure!(report.outcome == Outcome::Warnings && report.snapshot.is_some());
    let [warning] = report.warnings.as_slice() else {
        anyhow::bail!("{report:?}");
    };
    ensure!(
        warning.kind == "hook"
            && warning.text.contains("exit code 9")
            && warning.text.contains("no more"),
        "{warning:?}"
    );
    ensure!(hooked.world.snapshots()?.len() == 2);
    Ok(())
}

#[test]
fn a_hook_that_outlives_its_time_is_ended_on_the_host() -> Result<()> {
    let hooked = Hooked::new()?;
    let hook = "timeout = \"1s\"\non_failure = \"warn\"";
    let hangs = hooked.hook("before-run", "hangs", "sleep 1000 & wait", hook);
    hooked.set(&hooked.address(), &[hangs])?;
    let before = hooked.world.target_state()?;
    let report = hooked.world.run_expecting(exit::WARNINGS)?;
    ensure!(
        report.warnings.len() == 1 && report.warnings[0].text.contains("was ended after 1 s"),
        "{report:?}"
    );
    hooked.world.expect_target_clean(&before)
}

#[test]
fn finally_is_run_after_the_connection_was_cut() -> Result<()> {
    let hooked = Hooked::new()?;
    fs::write(
        hooked.world.source().join("large"),
        tests::corpus::bytes::incompressible(7, 24 << 20),
    )?;
    let proxy = TcpProxy::start(hooked.world.sshd().address())?;
    hooked.set(&proxy.address().to_string(), &hooked.all_kinds())?;
    proxy.cut_after(8 << 20);
    hooked
        .world
        .coordinator(&["run", HOST])?
        .expect_code(exit::ERROR)?;
    ensure!(
        hooked.noted() == "before-run failed finally",
        "{}",
        hooked.noted()
    );
    ensure!(hooked.world.snapshots()?.is_empty());
    hooked.world.run()?;
    ensure!(
        hooked.noted() == "before-run failed finally before-run after-run finally",
        "{}",
        hooked.noted()
    );
    Ok(())
}

#[test]
fn what_finally_is_owed_by_a_killed_coordinator_the_next_run_does_first() -> Result<()> {
    let hooked = Hooked::new()?;
    let finally = hooked.hook("finally", "finally", "", "");
    let waits = hooked.hook("before-run", "waits", "sleep 1000", "");
    hooked.set(&hooked.address(), &[waits, finally.clone()])?;
    let before = hooked.world.target_state()?;
    let mut running = hooked.world.start(&["run", HOST])?;
    wait_until("the hook", DEADLINE, || Ok(hooked.noted() == "waits"))?;
    running.kill()?;
    running.finish(DEADLINE)?;
    // The hook itself goes with the connection.
    hooked.world.expect_target_clean(&before)?;
    ensure!(hooked.noted() == "waits", "{}", hooked.noted());

    let next = hooked.hook("before-run", "before", "", "");
    hooked.set(&hooked.address(), &[next, finally])?;
    hooked.world.run()?;
    ensure!(
        hooked.noted() == "waits finally before finally",
        "{}",
        hooked.noted()
    );
    hooked.world.run()?;
    ensure!(
        hooked.noted() == "waits finally before finally before finally",
        "{}",
        hooked.noted()
    );
    Ok(())
}

#[test]
fn finally_is_run_when_the_run_is_interrupted() -> Result<()> {
    let hooked = Hooked::new()?;
    let mut hooks = vec![hooked.hook("before-run", "waits", "sleep 1000", "")];
    hooks.extend(hooked.all_kinds());
    hooked.set(&hooked.address(), &hooks)?;
    let before = hooked.world.target_state()?;
    let running = hooked.world.start(&["run", HOST])?;
    wait_until("the hook", DEADLINE, || Ok(hooked.noted() == "waits"))?;
    processes::signal(running.pid(), Signal::INT)?;
    running
        .finish(Duration::from_secs(60))?
        .expect_code(exit::CANCELLED)?;
    ensure!(
        hooked.noted() == "waits failed finally",
        "{}",
        hooked.noted()
    );
    hooked.world.expect_target_clean(&before)
}

/// What a hook prints drives no terminal, forges no line of a log, and fills neither memory nor disk.
#[test]
fn m30_what_a_hostile_hook_prints_is_cut_and_escaped_into_one_field() -> Result<()> {
    let hooked = Hooked::new()?;
    let noise = hooked.world.directory().join("noise");
    let forged = "2026-01-01T00:00:00.000000Z ERROR forged";
    let line =
        format!("\0\x1b]52;c;aGFja2Vk\x07\x1b[2J\r{forged}\n{{\"level\":\"forged\"}}\u{202e}\n");
    fs::write(&noise, line.repeat((16 << 20) / line.len()))?;
    // A quarter of a gibibyte on each stream; what comes last is not the noise's own end.
    let script = format!(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do cat {0}; cat {0} >&2; done; printf '\\033[31mlast\\r' >&2; exit 7",
        noise.display()
    );
    for (event, code) in [("before-run", exit::ERROR), ("after-run", exit::WARNINGS)] {
        hooked.set(&hooked.address(), &[hooked.hook(event, event, &script, "")])?;
        let finished = hooked.world.coordinator(&["-v", "run", HOST, "--json"])?;
        let finished = finished
            .expect_code(code)?
            .expect_stderr(&["exit code 7", "\\u{1b}[31mlast", "bytes more]"])?
            .expect_no_control_characters()?;
        let told = finished.stderr_text();
        for line in told.lines() {
            ensure!(line.len() < 48 << 10, "a line of {} bytes", line.len());
            ensure!(
                !line.starts_with(forged) && !line.starts_with("{\"level\":\"forged"),
                "a forged line: {line}"
            );
        }
        let report: tests::shapes::RunReport = finished.json()?;
        let rss = report.coordinator_rss_bytes;
        ensure!(rss < 300 << 20, "{} MiB resident", rss >> 20);
    }
    Ok(())
}
