//! Streams of real databases: dumped on the host, kept as files, restored into another database and compared; and dumps that
//! fail, which never pass for a success.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use tests::coordinator_process::{DEADLINE, Finished};
use tests::databases::{MariaDb, Postgres};
use tests::shapes::{Outcome, exit};
use tests::world::{HOST, World};

/// Sets the host's streams.
fn set_streams(world: &World, streams: &[String]) -> Result<()> {
    let hosts = world.hosts_toml(
        &world.sshd().address().to_string(),
        &world.sshd().fingerprint()?,
    )?;
    world.write_hosts(&(hosts + &streams.concat()))
}

fn stream(name: &str, lines: &str) -> String {
    format!("\n[[host.{HOST}.stream]]\nname = {name:?}\n{lines}\n")
}

/// A stream of what a shell script prints.
fn script(name: &str, script: &str, lines: &str) -> String {
    stream(
        name,
        &format!("run = [\"sh\", \"-c\", {script:?}]\n{lines}"),
    )
}

fn world() -> Result<World> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "content")?;
    Ok(world)
}

fn cat(world: &World, snapshot: &str, name: &str) -> Result<Vec<u8>> {
    let path = format!("/.streams/{name}");
    let finished = world.coordinator(&["cat", HOST, snapshot, &path])?;
    Ok(finished.expect_code(exit::OK)?.stdout)
}

/// Gives what a stream has to a command, as `coordinator cat … | command` does.
fn cat_into(world: &World, name: &str, command: &mut Command) -> Result<()> {
    let file = world.directory().join("piped");
    fs::write(&file, cat(world, "latest", name)?)?;
    let output = command
        .stdin(fs::File::open(&file)?)
        .stdout(Stdio::null())
        .output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn run_failing(world: &World) -> Result<Finished> {
    world.coordinator(&["run", HOST])?.expect_code(exit::ERROR)
}

#[test]
fn what_a_command_prints_is_kept_as_a_file_and_costs_nothing_twice() -> Result<()> {
    let world = world()?;
    let lines = "i=0; while [ $i -lt 200000 ]; do echo \"row $i of the table\"; i=$((i+1)); done";
    set_streams(&world, &[script("db/rows.txt", lines, "")])?;
    let before = world.target_state()?;
    let first = world.run()?;
    ensure!(first.outcome == Outcome::Ok, "{first:?}");
    let text = cat(&world, "latest", "db/rows.txt")?;
    ensure!(text.ends_with(b"row 199999 of the table\n"));
    ensure!(text.iter().filter(|byte| **byte == b'\n').count() == 200_000);
    let second = world.run()?;
    ensure!(
        second.new_bytes == 0 && second.bytes_read >= text.len() as u64,
        "{second:?}"
    );
    let output = world.restore("latest", "out")?;
    ensure!(fs::read(output.join(".streams/db/rows.txt"))? == text);
    world.expect_target_clean(&before)
}

#[test]
fn a_dump_that_fails_is_never_a_success() -> Result<()> {
    let world = world()?;
    let good = script("good", "echo all is well", "");
    set_streams(&world, std::slice::from_ref(&good))?;
    world.run()?;
    for (failing, lines, said) in [
        (
            "echo half of it; echo no such table >&2; exit 1",
            "",
            "no such table",
        ),
        ("exec /no/such/program", "", "exit code 127"),
        ("echo cut off; kill -KILL $$", "", "exit code 137"),
        (":", "", "allow_empty"),
        (
            "echo ROLLBACK",
            "ends_with = \"COMMIT\"",
            "does not end with",
        ),
        (
            "echo begun; sleep 1000",
            "timeout = \"1s\"",
            "ended after 1 s",
        ),
        ("exec cat /dev/zero", "max_size = \"1MiB\"", "max_size"),
    ] {
        set_streams(&world, &[good.clone(), script("bad", failing, lines)])?;
        let finished = run_failing(&world)?;
        finished.expect_stderr(&["stream bad failed", said])?;
        ensure!(world.snapshots()?.len() == 1, "after {failing}");
    }
    // The same where it only warns: the rest is kept, without it.
    let bad = script("bad", "echo half; exit 1", "on_failure = \"warn\"");
    set_streams(&world, &[good, bad])?;
    let report = world.run_expecting(exit::WARNINGS)?;
    ensure!(
        report.problem_count == 1 && report.problems[0].path == "/.streams/bad",
        "{report:?}"
    );
    ensure!(
        report.problems[0].text.contains("exit code 1"),
        "{report:?}"
    );
    ensure!(cat(&world, "latest", "good")? == b"all is well\n");
    let bad = world.coordinator(&["cat", HOST, "latest", "/.streams/bad"])?;
    ensure!(bad.stdout.is_empty() && bad.expect_code(exit::OK).is_err());
    Ok(())
}

#[test]
fn a_dump_that_collapses_warns() -> Result<()> {
    let world = world()?;
    let size = world.directory().join("size");
    let dump = format!("head -c $(cat {}) /dev/zero", size.display());
    set_streams(&world, &[script("dump", &dump, "")])?;
    fs::write(&size, "10000")?;
    world.run()?;
    fs::write(&size, "5000")?;
    world.run()?;
    fs::write(&size, "2499")?;
    // It is measured against the last good ones: it does not become one by being there again, nor when all is read anew.
    for more in [&[][..], &["--full-read"]] {
        let report = world.run_within(DEADLINE, exit::WARNINGS, more)?;
        ensure!(
            report.problems[0].text.contains("min_percent"),
            "{report:?}"
        );
        ensure!(cat(&world, "latest", "dump")?.len() == 2_499);
    }
    // Until somebody says that it is right.
    set_streams(&world, &[script("dump", &dump, "min_percent = 0")])?;
    world.run()?;
    set_streams(&world, &[script("dump", &dump, "")])?;
    world.run()?;
    Ok(())
}

#[test]
fn a_dump_that_shrinks_a_little_each_night_collapses_and_holds_its_host() -> Result<()> {
    let world = world()?;
    let size = world.directory().join("size");
    let dump = format!("head -c $(cat {}) /dev/zero", size.display());
    let anomaly = format!("\n[host.{HOST}.anomaly]\nruns = 1\n");
    set_streams(&world, &[anomaly, script("dump", &dump, "")])?;
    for left in ["10000", "8000", "6400", "5120"] {
        fs::write(&size, left)?;
        world.run()?;
    }
    fs::write(&size, "4096")?;
    let report = world.run_expecting(exit::WARNINGS)?;
    ensure!(report.outcome == Outcome::Held, "{report:?}");
    let why = report.held.unwrap_or_default();
    ensure!(why.contains("stream dump has"), "{why}");
    // A person looks, and it is how things are.
    world
        .coordinator(&["hold", "release", HOST])?
        .expect_code(exit::OK)?;
    let report = world.run()?;
    ensure!(report.held.is_none(), "{report:?}");
    Ok(())
}

#[test]
fn a_sqlite_database_is_dumped_and_made_again() -> Result<()> {
    let world = world()?;
    let file = world.directory().join("app.db");
    sqlite(
        &file,
        "CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB, c TEXT); CREATE INDEX i ON t (c);
         WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5000)
         INSERT INTO t SELECT x, randomblob(50), 'it''s ' || x FROM n;",
    )?;
    let preset = format!("preset = \"sqlite\"\ndatabase = {file:?}");
    set_streams(&world, &[stream("app.sql", &preset)])?;
    world.run()?;
    let again = world.directory().join("again.db");
    cat_into(&world, "app.sql", Command::new("sqlite3").arg(&again))?;
    let all = "SELECT a, hex(b), c FROM t ORDER BY a; SELECT sql FROM sqlite_schema ORDER BY name;";
    ensure!(sqlite(&file, all)? == sqlite(&again, all)?);

    // What is no database, and what is not there, is not dumped as an empty one.
    let damaged = world.directory().join("damaged.db");
    fs::write(
        &damaged,
        "this is no database, whatever its name says".repeat(100),
    )?;
    for wrong in [damaged, world.directory().join("missing.db")] {
        let preset = format!("preset = \"sqlite\"\ndatabase = {wrong:?}");
        set_streams(&world, &[stream("app.sql", &preset)])?;
        run_failing(&world)?.expect_stderr(&["stream app.sql failed"])?;
    }
    ensure!(!world.directory().join("missing.db").exists());
    ensure!(world.snapshots()?.len() == 1);
    Ok(())
}

fn sqlite(file: &Path, statements: &str) -> Result<String> {
    let output = Command::new("sqlite3").arg(file).arg(statements).output()?;
    ensure!(
        output.status.success(),
        "sqlite3: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Tables with much that a dump can get wrong.
const TABLES: &str = "
CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL, balance NUMERIC(12, 2));
CREATE TABLE notes (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES users (id), body TEXT);
CREATE VIEW rich AS SELECT name FROM users WHERE balance > 500;
";

fn rows() -> String {
    let mut statements = String::new();
    for id in 0..2_000 {
        let name = format!("O''Hara \u{e4}\u{1f600} {id}");
        let balance = f64::from(id) * 0.37;
        statements += &format!("INSERT INTO users VALUES ({id}, '{name}', {balance:.2});\n");
        statements +=
            &format!("INSERT INTO notes VALUES ({id}, {id}, 'line one\nline two; -- {id}');\n");
    }
    statements
}

const ALL_ROWS: &str = "SELECT u.id, u.name, u.balance, n.body FROM users u JOIN notes n ON n.owner = u.id \
     ORDER BY u.id; SELECT count(*) FROM rich;";

#[test]
fn a_postgres_database_is_dumped_and_restored_into_a_second_one() -> Result<()> {
    let world = world()?;
    let postgres = Postgres::start(world.directory())?;
    postgres.sql("postgres", "CREATE DATABASE users")?;
    postgres.sql("users", &(TABLES.to_owned() + &rows()))?;
    let preset = |database: &str| {
        let socket = format!("--host={}", postgres.socket_directory().display());
        format!(
            "preset = \"postgres\"\ndatabase = {database:?}\nargs = [{socket:?}, \"--username={}\"]",
            Postgres::USER
        )
    };
    set_streams(&world, &[stream("pg/users.sql", &preset("users"))])?;
    let report = world.run()?;
    ensure!(report.outcome == Outcome::Ok, "{report:?}");
    postgres.sql("postgres", "CREATE DATABASE again")?;
    cat_into(&world, "pg/users.sql", &mut postgres.client("again"))?;
    let (original, again) = (
        postgres.sql("users", ALL_ROWS)?,
        postgres.sql("again", ALL_ROWS)?,
    );
    ensure!(original == again && original.contains("O'Hara"));

    // A database that is not there, and a server that is gone.
    set_streams(&world, &[stream("pg/users.sql", &preset("nobody"))])?;
    run_failing(&world)?.expect_stderr(&["stream pg/users.sql failed", "nobody"])?;
    set_streams(&world, &[stream("pg/users.sql", &preset("users"))])?;
    drop(postgres);
    run_failing(&world)?.expect_stderr(&["stream pg/users.sql failed"])?;
    ensure!(world.snapshots()?.len() == 1);
    Ok(())
}

#[test]
fn a_mariadb_database_is_dumped_and_restored_into_a_second_one() -> Result<()> {
    let world = world()?;
    let mariadb = MariaDb::start(world.directory())?;
    mariadb.sql(
        "mysql",
        "CREATE DATABASE users CHARACTER SET utf8mb4; CREATE DATABASE again",
    )?;
    mariadb.sql("users", &(TABLES.to_owned() + &rows()))?;
    let preset = |database: &str| {
        let socket = format!("--socket={}", mariadb.socket().display());
        format!(
            "preset = \"mysql\"\ndatabase = {database:?}\nargs = [\"--no-defaults\", {socket:?}, \"--user=root\"]"
        )
    };
    set_streams(&world, &[stream("my/users.sql", &preset("users"))])?;
    world.run()?;
    cat_into(&world, "my/users.sql", &mut mariadb.client("again"))?;
    let (original, again) = (
        mariadb.sql("users", ALL_ROWS)?,
        mariadb.sql("again", ALL_ROWS)?,
    );
    ensure!(original == again && original.contains("O'Hara"));
    // The same dump again costs nothing.
    ensure!(world.run()?.new_bytes == 0);

    set_streams(&world, &[stream("my/users.sql", &preset("nobody"))])?;
    run_failing(&world)?.expect_stderr(&["stream my/users.sql failed", "nobody"])?;
    Ok(())
}

#[test]
fn the_agent_and_what_it_starts_stand_back_as_they_are_told() -> Result<()> {
    let world = world()?;
    let said = script("priorities", "nice; ionice", "min_percent = 1");
    set_streams(&world, std::slice::from_ref(&said))?;
    world.run()?;
    let usual = String::from_utf8(cat(&world, "latest", "priorities")?)?;
    let (nice, io) = usual.split_once('\n').unwrap_or_default();
    ensure!(!io.contains("idle"), "{usual}");
    // The test itself may stand back already.
    let expected = (nice.parse::<u8>()? + 7).min(19);
    let limits = format!("\n[host.{HOST}.limits]\nnice = 7\nionice = \"idle\"\n");
    set_streams(&world, &[limits, said])?;
    world.run()?;
    let held = String::from_utf8(cat(&world, "latest", "priorities")?)?;
    ensure!(held == format!("{expected}\nidle\n"), "{held}");
    Ok(())
}

#[test]
fn the_agent_keeps_to_its_cpu_limit() -> Result<()> {
    let world = world()?;
    fs::write(
        world.source().join("large"),
        tests::corpus::bytes::incompressible(5, 64 << 20),
    )?;
    for index in 0..2_000 {
        fs::write(world.source().join(index.to_string()), format!("{index}"))?;
    }
    set_streams(&world, &[format!("\n[host.{HOST}.limits]\ncpu = \"5%\"\n")])?;
    let report = world.run()?;
    ensure!(report.agent_cpu_secs > 0.05, "{report:?}");
    let share = report.agent_cpu_secs / report.duration_secs;
    ensure!(share <= 0.12, "{share}: {report:?}");
    world.expect_restores("latest", "out")?;
    Ok(())
}

#[test]
fn a_host_sends_no_more_than_its_bandwidth() -> Result<()> {
    let always = "\"1MiB/s\"";
    // All but a minute of the day; for that minute, hardly more.
    let by_hours =
        "[{ from = \"00:01\", to = \"00:00\", rate = \"1MiB/s\" }, { rate = \"1100KiB/s\" }]";
    for (transport, bandwidth) in [("unix", always), ("stdio", always), ("unix", by_hours)] {
        let world = world()?;
        fs::write(
            world.source().join("large"),
            tests::corpus::bytes::incompressible(3, 3 << 20),
        )?;
        let limits =
            format!("transport = {transport:?}\n\n[host.{HOST}.limits]\nbandwidth = {bandwidth}\n");
        set_streams(&world, &[limits])?;
        let report = world.run()?;
        ensure!(report.transport.as_deref() == Some(transport), "{report:?}");
        ensure!(report.duration_secs > 2.5, "{report:?}");
        world.expect_restores("latest", "out")?;
    }
    Ok(())
}
