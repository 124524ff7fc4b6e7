//! How a destination's credentials reach the coordinator: a secret from a file, a command, the environment, a systemd
//! credential or the private configuration itself, and an SFTP login by an SSH agent's key. Over servers that check them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::coordinator_process::{DEADLINE, Finished, Running, binary};
use tests::places::{leave_only, make_bucket, s3_table, sftp_server, sftp_table, write_secret};
use tests::s3_server::{S3Kind, S3Server, SECRET_KEY};
use tests::shapes::exit;
use tests::sshd::{Sshd, SshdOptions, UNPRIVILEGED_USER, namespaces_work};
use tests::world::{HOST, World};

/// Runs the coordinator with these variables in its environment.
fn with_environment(
    world: &World,
    variables: &[(&str, &str)],
    arguments: &[&str],
) -> Result<Finished> {
    let mut all: Vec<OsString> = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}").into())
        .collect();
    all.push(binary("coordinator")?.into());
    all.extend([OsStr::new("-c").to_owned(), world.config().into()]);
    all.extend(arguments.iter().map(OsString::from));
    Running::spawn(&"/usr/bin/env".into(), &all, &[])?.finish(DEADLINE)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_takes_its_secret_from_wherever_it_is_kept() -> Result<()> {
    let world = World::new()?;
    let dir = tests::world::temporary_directory()?;
    // This one checks signatures; it ignores conditional writes.
    let server = S3Server::start(S3Kind::Rclone, dir.path())?;
    make_bucket(&server).await?;
    let secret_file = world.coordinator_dir().join("keys/s3.secret");
    write_secret(&secret_file)?;
    let credentials = world.directory().join("credentials");
    fs::create_dir(&credentials)?;
    fs::write(credentials.join("bucket"), SECRET_KEY)?;
    let credentials = credentials.display().to_string();
    let environment = [
        ("A_SECRET", SECRET_KEY),
        ("CREDENTIALS_DIRECTORY", credentials.as_str()),
    ];
    let printed = format!(
        "secret_key_command = [\"cat\", \"{}\"]",
        secret_file.display()
    );
    let inline = format!("secret_key = \"{SECRET_KEY}\"");
    let table = |line: &str| {
        let table = s3_table(&server.endpoint(), true);
        let table = table.replace("secret_key_file = \"keys/s3.secret\"", line);
        format!("{table}conditional_writes = \"off\"\n")
    };
    let ways = [
        "secret_key_file = \"keys/s3.secret\"",
        &printed,
        "secret_key_env = \"A_SECRET\"",
        "secret_key_credential = \"bucket\"",
        &inline,
    ];
    for (number, way) in ways.into_iter().enumerate() {
        leave_only(&world, &table(way))?;
        fs::set_permissions(world.config(), fs::Permissions::from_mode(0o600))?;
        fs::write(world.source().join("file"), format!("{number}"))?;
        with_environment(&world, &environment, &["run", HOST])?
            .expect_code(exit::OK)
            .with_context(|| way.to_owned())?;
    }
    for (line, told) in [
        ("secret_key_command = [\"false\"]", "false"),
        ("secret_key_env = \"NO_SUCH_SECRET\"", "NO_SUCH_SECRET"),
        ("secret_key_credential = \"other\"", "other"),
        ("secret_key = \"another-secret\"", "s3"),
    ] {
        leave_only(&world, &table(line))?;
        fs::set_permissions(world.config(), fs::Permissions::from_mode(0o600))?;
        let failed = with_environment(&world, &environment, &["snapshots", HOST])?;
        ensure!(failed.code != Some(exit::OK), "{line} is taken");
        failed
            .expect_stderr(&[told])
            .with_context(|| line.to_owned())?;
    }
    // A secret that others can read is none.
    leave_only(&world, &table(&inline))?;
    fs::set_permissions(world.config(), fs::Permissions::from_mode(0o644))?;
    let refused = with_environment(&world, &[], &["snapshots", HOST])?;
    ensure!(refused.code != Some(exit::OK), "a secret that all can read");
    refused.expect_stderr(&["secret_key", "chmod 600"])?;
    Ok(())
}

/// An SSH agent that ends with this value.
struct SshAgent(Child);

impl SshAgent {
    fn start(socket: &Path, key: &Path) -> Result<Self> {
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(socket)
            .stdout(Stdio::null())
            .spawn()
            .context("starting ssh-agent")?;
        let agent = Self(child);
        let began = Instant::now();
        while !socket.exists() {
            ensure!(began.elapsed() < Duration::from_secs(10), "no ssh-agent");
            std::thread::sleep(Duration::from_millis(20));
        }
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", socket)
            .status()?;
        ensure!(added.success(), "ssh-add");
        Ok(agent)
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("ending ssh-agent: {error}");
        }
    }
}

#[test]
fn an_sftp_server_is_logged_in_to_with_an_agents_key_and_only_with_its_own_host_key() -> Result<()>
{
    let world = World::new()?;
    let dir = tests::world::temporary_directory()?;
    let sshd = sftp_server(&dir.path().join("sshd"))?;
    let root = dir.path().join("root").display().to_string();
    let table = sftp_table(&sshd, &root)?;
    let identity = format!("identity_file = \"{}\"\n", sshd.identity_file().display());
    ensure!(table.contains(&identity), "{table}");
    leave_only(&world, &table.replace(&identity, ""))?;
    let socket = world.directory().join("agent");
    let _agent = SshAgent::start(&socket, &sshd.identity_file())?;
    let socket = socket.display().to_string();
    let agent = [("SSH_AUTH_SOCK", socket.as_str())];
    // Without the variable there is no key to log in with.
    let create = ["destination", "create", "nas"];
    let failed = world.coordinator(&create)?;
    ensure!(failed.code != Some(exit::OK), "it logged in with nothing");
    with_environment(&world, &agent, &create)?.expect_code(exit::OK)?;
    with_environment(&world, &agent, &["run", HOST])?.expect_code(exit::OK)?;

    // Another server's key: nothing is said to it, whatever it lets in.
    let other = world.sshd().fingerprint()?;
    let pinned = table.replace(&sshd.fingerprint()?, &other);
    leave_only(&world, &pinned)?;
    let refused = world.coordinator(&["snapshots", HOST])?;
    ensure!(refused.code != Some(exit::OK), "another key was accepted");
    refused.expect_stderr(&[&sshd.fingerprint()?])?;
    leave_only(&world, &table)?;
    world.expect_restores("latest", "in-the-end")?;
    Ok(())
}

const PASSWORD: &str = "correct horse battery staple";

/// Lets [`UNPRIVILEGED_USER`] in with [`PASSWORD`], and nobody with anything else.
fn password_sshd(directory: &Path) -> Result<Sshd> {
    fs::create_dir(directory)?;
    let hashed = Command::new("openssl")
        .args(["passwd", "-6", PASSWORD])
        .output()
        .context("running openssl: tests/run installs it")?;
    ensure!(hashed.status.success(), "openssl passwd");
    let hash = String::from_utf8(hashed.stdout)?;
    let options = SshdOptions {
        config: vec![
            "Subsystem sftp internal-sftp".into(),
            "PasswordAuthentication yes".into(),
            "PubkeyAuthentication no".into(),
        ],
        setup: vec![format!(
            "printf '%s\\n' 'root:*:19000::::::' '{UNPRIVILEGED_USER}:{}:19000::::::' > /etc/shadow",
            hash.trim()
        )],
        ..SshdOptions::default()
    };
    Sshd::start(directory, options)
}

#[test]
fn an_sftp_server_is_logged_in_to_with_a_password_from_wherever_it_is_kept() -> Result<()> {
    if !namespaces_work() {
        return Ok(()); // The account, and its password, are of the target's own view alone.
    }
    let world = World::new()?;
    let dir = tests::world::temporary_directory()?;
    // The account must reach its home.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let sshd = password_sshd(&dir.path().join("sshd"))?;
    let root = sshd.home_of(UNPRIVILEGED_USER).join("backups");
    let file = world.coordinator_dir().join("keys/nas.password");
    fs::write(&file, format!("{PASSWORD}\n"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let credentials = world.directory().join("credentials");
    fs::create_dir(&credentials)?;
    fs::write(credentials.join("nas"), PASSWORD)?;
    let credentials = credentials.display().to_string();
    let environment = [
        ("NAS_PASSWORD", PASSWORD),
        ("CREDENTIALS_DIRECTORY", credentials.as_str()),
    ];
    let table = |line: &str| -> Result<String> {
        Ok(format!(
            "[[destination]]\nname = \"nas\"\nurl = \"sftp://{UNPRIVILEGED_USER}@{}{}\"\n\
             host_key = [\"{}\"]\n{line}\n",
            sshd.address(),
            root.display(),
            sshd.fingerprint()?
        ))
    };
    let set = |line: &str| -> Result<()> {
        leave_only(&world, &table(line)?)?;
        Ok(fs::set_permissions(
            world.config(),
            fs::Permissions::from_mode(0o600),
        )?)
    };
    let printed = format!("password_command = [\"cat\", \"{}\"]", file.display());
    let inline = format!("password = \"{PASSWORD}\"");
    let ways = [
        "password_file = \"keys/nas.password\"",
        &printed,
        "password_env = \"NAS_PASSWORD\"",
        "password_credential = \"nas\"",
        &inline,
    ];
    set(ways[0])?;
    world
        .coordinator(&["destination", "create", "nas"])?
        .expect_code(exit::OK)?;
    for (number, way) in ways.into_iter().enumerate() {
        set(way)?;
        fs::write(world.source().join("file"), format!("{number}"))?;
        with_environment(&world, &environment, &["run", HOST])?
            .expect_code(exit::OK)
            .with_context(|| way.to_owned())?;
    }
    world.expect_restores("latest", "by-password")?;
    for (line, told) in [
        ("password = \"another\"", "the password"),
        ("password_env = \"NO_SUCH_PASSWORD\"", "NO_SUCH_PASSWORD"),
        ("password_command = [\"false\"]", "false"),
        ("password_credential = \"other\"", "other"),
    ] {
        set(line)?;
        expect_refused(&world, &environment, told).with_context(|| line.to_owned())?;
    }
    Ok(())
}

/// Nothing is read with this password, and it is not shown.
fn expect_refused(world: &World, environment: &[(&str, &str)], told: &str) -> Result<()> {
    let failed = with_environment(world, environment, &["snapshots", HOST])?;
    ensure!(failed.code != Some(exit::OK), "it is taken");
    let said = failed.stderr_text();
    ensure!(!said.contains(PASSWORD), "{said}");
    failed.expect_stderr(&[told])?;
    Ok(())
}
