//! What `destination policy` prints, on servers that enforce it: Ceph's gateway for bucket policies, OpenSSH for SFTP.
//! Every role can do its work with it, and nothing else; and `destination test --role` says so.

mod role_trials;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketVersioningStatus,
    ExpirationStatus, LifecycleRule, LifecycleRuleFilter, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode, VersioningConfiguration,
};
use serde::Deserialize;
use serde_json::Value;
use tests::corpus::bytes::incompressible;
use tests::s3_server::{S3Kind, S3Server, SECRET_KEY, admin, client_of};
use tests::shapes::{Outcome, exit};
use tests::sshd::{Sshd, SshdOptions, UNPRIVILEGED_USER, namespaces_work, sshd_path};
use tests::world::World;

const ROLES: [&str; 4] = ["ingest", "restore", "maintain", "prune"];
/// A bucket that is shared, with locks and versions.
const LOCKED: &str = "locked";
/// What Capstan's keys begin with there.
const PREFIX: &str = "capstan/";
/// A bucket of Capstan's own, without.
const PLAIN: &str = "plain";

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Done,
    Refused,
    Taken,
    Other(u16),
}
use Answer::{Done, Refused, Taken};

fn answer<T, E>(result: Result<T, SdkError<E, HttpResponse>>) -> Result<Answer>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match result {
        Ok(_) => Ok(Done),
        Err(error) => match error.raw_response().map(|raw| raw.status().as_u16()) {
            Some(403) => Ok(Refused),
            Some(412) => Ok(Taken),
            Some(status) => Ok(Answer::Other(status)),
            None => Err(error).context("no answer"),
        },
    }
}

/// One request, by the name that the expectations below have for it.
async fn ask(client: &Client, bucket: &str, request: &str, key: &str) -> Result<Answer> {
    let body = || ByteStream::from_static(b"bytes");
    match request {
        "create" => {
            let put = client.put_object().bucket(bucket).key(key).body(body());
            answer(put.if_none_match("*").send().await)
        }
        "overwrite" => {
            let put = client.put_object().bucket(bucket).key(key).body(body());
            answer(put.send().await)
        }
        "read" => answer(client.get_object().bucket(bucket).key(key).send().await),
        "look" => answer(client.head_object().bucket(bucket).key(key).send().await),
        "look at nothing" => {
            let key = format!("{key}-which-is-not-there");
            answer(client.head_object().bucket(bucket).key(key).send().await)
        }
        "list" => {
            let list = client.list_objects_v2().bucket(bucket).prefix(key);
            answer(list.send().await)
        }
        "list all" => answer(client.list_objects_v2().bucket(bucket).send().await),
        "list versions" => {
            let list = client.list_object_versions().bucket(bucket).prefix(key);
            answer(list.send().await)
        }
        "list uploads" => answer(client.list_multipart_uploads().bucket(bucket).send().await),
        "remove" => answer(client.delete_object().bucket(bucket).key(key).send().await),
        "remove version" => remove_version(client, bucket, key, false).await,
        "remove version, bypassing" => remove_version(client, bucket, key, true).await,
        "shorten lock" => retain(client, bucket, key, 3_600).await,
        "extend lock" => retain(client, bucket, key, 30 * 86_400).await,
        settings => ask_settings(client, bucket, settings).await,
    }
}

async fn ask_settings(client: &Client, bucket: &str, request: &str) -> Result<Answer> {
    match request {
        "versioning" => answer(client.get_bucket_versioning().bucket(bucket).send().await),
        "lock settings" => {
            let get = client.get_object_lock_configuration().bucket(bucket);
            answer(get.send().await)
        }
        "lifecycle" => {
            let get = client.get_bucket_lifecycle_configuration().bucket(bucket);
            answer(get.send().await)
        }
        "stop versions" => {
            let stop = VersioningConfiguration::builder()
                .status(BucketVersioningStatus::Suspended)
                .build();
            let put = client.put_bucket_versioning().bucket(bucket);
            answer(put.versioning_configuration(stop).send().await)
        }
        "change policy" => {
            let put = client.put_bucket_policy().bucket(bucket);
            answer(put.policy("{\"Statement\":[]}").send().await)
        }
        "change lifecycle" => {
            let put = client.put_bucket_lifecycle_configuration().bucket(bucket);
            let rules = abort_after("", 1)?;
            answer(put.lifecycle_configuration(rules).send().await)
        }
        "drop policy" => answer(client.delete_bucket_policy().bucket(bucket).send().await),
        other => anyhow::bail!("no such request: {other}"),
    }
}

async fn remove_version(
    client: &Client,
    bucket: &str,
    key: &str,
    bypassing: bool,
) -> Result<Answer> {
    // Whoever removes knows the version: that it may not list must not be what keeps it.
    let (key, version) = key.split_once('?').context("a version")?;
    let remove = client.delete_object().bucket(bucket).key(key);
    let remove = remove
        .version_id(version)
        .set_bypass_governance_retention(bypassing.then_some(true));
    answer(remove.send().await)
}

async fn retain(client: &Client, bucket: &str, key: &str, secs: i64) -> Result<Answer> {
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs())?;
    let retention = ObjectLockRetention::builder()
        .mode(ObjectLockRetentionMode::Governance)
        .retain_until_date(DateTime::from_secs(now + secs))
        .build();
    let put = client.put_object_retention().bucket(bucket).key(key);
    answer(put.retention(retention).send().await)
}

fn abort_after(prefix: &str, days: i32) -> Result<BucketLifecycleConfiguration> {
    let abort = AbortIncompleteMultipartUpload::builder();
    let rule = LifecycleRule::builder()
        .id("capstan-abandoned-uploads")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        .abort_incomplete_multipart_upload(abort.days_after_initiation(days).build());
    let rules = BucketLifecycleConfiguration::builder().rules(rule.build()?);
    Ok(rules.build()?)
}

/// Tables of both buckets, with a user of its own for every role.
fn tables(endpoint: &str) -> String {
    let mut text = String::new();
    for (name, url, more) in [
        (
            LOCKED,
            format!("s3://{LOCKED}/{PREFIX}"),
            "retain = \"1d\"\n",
        ),
        (PLAIN, format!("s3://{PLAIN}"), ""),
    ] {
        text += &format!(
            "\n[[destination]]\nname = \"{name}\"\nurl = \"{url}\"\nrequired = true\nprovider = \"ceph\"\n\
             endpoint = \"{endpoint}\"\naccess_key_id = \"nobody\"\nsecret_key_file = \"keys/s3.secret\"\n{more}"
        );
        for role in ROLES {
            text += &format!(
                "[destination.role.{role}]\naccess_key_id = \"{role}\"\nsecret_key_file = \"keys/s3.secret\"\n"
            );
        }
    }
    text
}

fn add_to_config(world: &World, tables: &str) -> Result<()> {
    let config = fs::read_to_string(world.config())?;
    let secret = world.coordinator_dir().join("keys/s3.secret");
    fs::write(&secret, SECRET_KEY)?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    world.write_config(&format!("{config}\n{tables}"))
}

/// The printed policies of all roles, joined as the printed text says.
fn joined_policy(world: &World, destination: &str) -> Result<String> {
    let mut joined: Option<Value> = None;
    for role in ROLES {
        let principal = format!("arn:aws:iam:::user/{role}");
        let arguments = ["destination", "policy", destination, "--role", role];
        let printed = world
            .coordinator(&[&arguments[..], &["--principal", &principal, "--json"]].concat())?;
        let policy: Value = printed.expect_code(exit::OK)?.json()?;
        match &mut joined {
            None => joined = Some(policy),
            Some(all) => {
                let more = policy["Statement"].as_array().context("statements")?;
                let all = all["Statement"].as_array_mut().context("statements")?;
                all.extend(more.iter().cloned());
            }
        }
    }
    Ok(joined.context("a policy")?.to_string())
}

/// The printed lifecycle rules, as the SDK takes them.
fn printed_lifecycle(world: &World, destination: &str) -> Result<BucketLifecycleConfiguration> {
    let arguments = ["destination", "policy", destination, "--role", "ingest"];
    let text = world.coordinator(&arguments)?.expect_code(exit::OK)?;
    let text = text.stdout_text();
    let (_, rules) = text
        .split_once("file://lifecycle.json\n")
        .context("rules")?;
    let rules: Value = serde_json::from_str(rules)?;
    let rules = rules["Rules"].as_array().context("rules")?;
    ensure!(rules.len() == 1, "{rules:?}");
    let rule = rules[0].as_object().context("a rule")?;
    let mut keys: Vec<_> = rule.keys().map(String::as_str).collect();
    keys.sort_unstable();
    ensure!(
        keys == ["AbortIncompleteMultipartUpload", "Filter", "ID", "Status"],
        "{keys:?}: nothing that expires objects"
    );
    let prefix = rule["Filter"]["Prefix"].as_str().context("a prefix")?;
    let days = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        .as_i64()
        .context("days")?;
    abort_after(prefix, i32::try_from(days)?)
}

async fn prepare(world: &World, server: &S3Server) -> Result<()> {
    let admin = admin(server);
    for role in ROLES {
        server.add_user(role)?;
    }
    for (bucket, locked) in [(LOCKED, true), (PLAIN, false)] {
        let make = admin.create_bucket().bucket(bucket);
        make.object_lock_enabled_for_bucket(locked).send().await?;
        let policy = joined_policy(world, bucket)?;
        let put = admin.put_bucket_policy().bucket(bucket).policy(&policy);
        put.send()
            .await
            .with_context(|| format!("the policy {policy}"))?;
        let rules = printed_lifecycle(world, bucket)?;
        let put = admin.put_bucket_lifecycle_configuration().bucket(bucket);
        put.lifecycle_configuration(rules).send().await?;
    }
    let begin = admin.create_multipart_upload().bucket(LOCKED);
    begin.key(format!("{PREFIX}begun")).send().await?;
    Ok(())
}

/// One line of `destination test --json`.
#[derive(Debug, Deserialize)]
struct TestLine {
    tried: String,
    verdict: String,
    found: String,
}

/// Everything that the programs do with their roles' credentials works; what they should not have is refused.
fn expect_trial(world: &World, destination: &str, expected: &[(&str, &str, &str)]) -> Result<()> {
    let tested = world.coordinator(&["destination", "test", destination, "--json"])?;
    println!("{}", tested.stdout_text());
    let lines: Vec<TestLine> = tested.expect_code(exit::OK)?.json()?;
    for (tried, verdict, found) in expected {
        let line = lines.iter().find(|line| line.tried == *tried);
        let line = line.with_context(|| format!("{tried}: {lines:?}"))?;
        ensure!(
            line.verdict == *verdict && line.found.contains(found),
            "{destination}: {line:?}, expected {verdict} {found:?}"
        );
    }
    Ok(())
}

/// What each role may ask of the locked bucket: requests that are answered, and requests that are refused.
const EXPECTED: [(&str, &[(&str, Answer)]); 4] = [
    (
        "ingest",
        &[
            ("read", Refused),
            ("look", Refused),
            ("list", Refused),
            ("list all", Refused),
            ("list versions", Refused),
            ("remove", Refused),
            ("remove version", Refused),
            ("remove version, bypassing", Refused),
            ("shorten lock", Refused),
            ("versioning", Refused),
            ("stop versions", Refused),
            ("change policy", Refused),
            ("change lifecycle", Refused),
            ("drop policy", Refused),
        ],
    ),
    (
        "restore",
        &[
            ("read", Done),
            ("look", Done),
            ("list", Done),
            ("list all", Refused),
            // Why the listing is asked whether something is there.
            ("look at nothing", Refused),
            ("create", Refused),
            ("overwrite", Refused),
            ("remove", Refused),
            ("remove version", Refused),
            ("extend lock", Refused),
            ("versioning", Refused),
            ("change policy", Refused),
        ],
    ),
    (
        "maintain",
        &[
            ("read", Done),
            ("list", Done),
            ("list all", Refused),
            ("extend lock", Done),
            ("shorten lock", Refused),
            ("versioning", Done),
            ("lock settings", Done),
            ("lifecycle", Done),
            ("remove", Refused),
            ("remove version", Refused),
            ("remove version, bypassing", Refused),
            ("stop versions", Refused),
            ("change policy", Refused),
            ("change lifecycle", Refused),
        ],
    ),
    (
        "prune",
        &[
            ("read", Refused),
            ("create", Refused),
            ("overwrite", Refused),
            ("list", Done),
            ("list all", Refused),
            ("list versions", Done),
            ("list uploads", Done),
            ("remove version", Refused), // By the lock.
            ("remove version, bypassing", Refused),
            ("extend lock", Refused),
            ("versioning", Refused),
            ("change policy", Refused),
            ("change lifecycle", Refused),
            ("remove", Done), // Hides it under a marker; the locked version stays.
        ],
    ),
];

/// The same of the plain bucket, in this order.
const EXPECTED_PLAIN: [(&str, &str, Answer); 12] = [
    ("restore", "create", Refused),
    ("prune", "create", Refused),
    ("ingest", "create", Done),
    ("ingest", "create", Taken),
    ("maintain", "create", Taken),
    ("ingest", "read", Refused),
    ("ingest", "remove", Refused),
    ("restore", "overwrite", Refused),
    ("restore", "remove", Refused),
    ("maintain", "remove", Refused),
    ("restore", "read", Done),
    ("prune", "remove", Done),
];

/// Every role's requests, and all that came out otherwise than expected.
async fn expect_roles(server: &S3Server) -> Result<()> {
    let mut wrong = Vec::new();
    for (role, request, expected) in EXPECTED_PLAIN {
        let found = ask(&client_of(server, role), PLAIN, request, "object").await?;
        if found != expected {
            wrong.push(format!("{role}: {request} is {found:?}, not {expected:?}"));
        }
    }
    let key = format!("{PREFIX}object");
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs())?;
    let put = client_of(server, "ingest").put_object();
    put.bucket(LOCKED)
        .key(&key)
        .body(ByteStream::from_static(b"bytes"))
        .object_lock_mode(ObjectLockMode::Governance)
        .object_lock_retain_until_date(DateTime::from_secs(now + 86_400))
        .send()
        .await?;
    let restore = client_of(server, "restore");
    let looked = restore
        .head_object()
        .bucket(LOCKED)
        .key(&key)
        .send()
        .await?;
    ensure!(
        looked.object_lock_retain_until_date().is_some(),
        "{looked:?}"
    );
    let version = format!("{key}?{}", looked.version_id().context("a version")?);
    for (role, expected) in EXPECTED {
        let client = client_of(server, role);
        for (request, expected) in expected {
            let subject = match *request {
                "remove version" | "remove version, bypassing" => version.as_str(),
                "list" | "list versions" => PREFIX,
                _ => key.as_str(),
            };
            let found = ask(&client, LOCKED, request, subject).await?;
            if found != *expected {
                wrong.push(format!("{role}: {request} is {found:?}, not {expected:?}"));
            }
        }
        for request in ["create", "overwrite", "read", "remove", "list"] {
            let found = ask(&client, LOCKED, request, "others/object").await?;
            if found != Refused {
                wrong.push(format!("{role}: {request} outside the prefix is {found:?}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_bucket_policies_allow_each_role_its_work_and_no_more() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(5, 3 << 20))?;
    let dir = tests::world::temporary_directory()?;
    let server = S3Server::start(S3Kind::Ceph, dir.path())?;
    add_to_config(&world, &tables(&server.endpoint()))?;
    prepare(&world, &server).await?;

    let common = [
        ("reaching it", "good", "answers"),
        ("overwriting", "good", "is refused"),
        ("reading back", "good", "works"),
        ("lifecycle rules", "good", "remove nothing of ours"),
        ("removing, with what puts", "good", "is refused"),
        // Ceph's policies know no condition for it; versions keep what was there.
        ("overwriting without a condition", "warning", "is allowed"),
    ];
    expect_trial(&world, LOCKED, &common)?;
    expect_trial(&world, PLAIN, &common)?;
    let of_settings = [
        ("versions", "good", "kept"),
        ("object lock", "good", "for 1 days each"),
        ("removing, as prune does", "good", "is locked until"),
        (
            "lifecycle rules",
            "good",
            "abort unfinished uploads after 7 days",
        ),
        (
            "unfinished uploads",
            "warning",
            "1, the oldest begun 0 hours ago",
        ),
    ];
    expect_trial(&world, LOCKED, &of_settings)?;
    let of_settings = [
        ("removing, as prune does", "good", "works"),
        ("unfinished uploads", "good", "none"),
    ];
    expect_trial(&world, PLAIN, &of_settings)?;

    // Whole runs, and reading back from each bucket alone.
    ensure!(world.run()?.outcome == Outcome::Ok);
    fs::write(world.source().join("two"), incompressible(6, 1 << 20))?;
    ensure!(world.run()?.outcome == Outcome::Ok);
    let config = fs::read_to_string(world.config())?;
    fs::rename(world.repository(), world.directory().join("gone"))?;
    for name in [LOCKED, PLAIN] {
        leave_only(&world, &config, name)?;
        world.expect_restores("latest", name)?;
        ensure!(world.verify()?.outcome == Outcome::Ok, "{name}");
    }
    expect_roles(&server).await?;
    world.write_config(&config)?;
    role_trials::expect_of_buckets(&world, &server).await
}

/// Only this destination is left in coordinator.toml.
fn leave_only(world: &World, config: &str, name: &str) -> Result<()> {
    let mut document: toml::Table = config.parse()?;
    let tables = document
        .get_mut("destination")
        .and_then(|it| it.as_array_mut());
    let tables = tables.context("destinations")?;
    tables.retain(|table| table.get("name").and_then(toml::Value::as_str) == Some(name));
    world.write_config(&toml::to_string(&document)?)
}

/// The destination's table for one login, before and after its server runs.
fn sftp_table(login: &str, address: &str, host_key: &str, identity: &Path) -> String {
    format!(
        "\n[[destination]]\nname = \"nas\"\nurl = \"sftp://{login}@{address}/backup\"\nrequired = true\n\
         host_key = [\"{host_key}\"]\nidentity_file = \"{}\"\n",
        identity.display()
    )
}

/// What is printed for a role: its text, and the block of sshd's configuration in it.
struct PrintedLogin {
    text: String,
    block: String,
}

fn printed_login(world: &World, role: &str, chroot: &Path) -> Result<PrintedLogin> {
    let chroot = chroot.display().to_string();
    let arguments = [
        "destination",
        "policy",
        "nas",
        "--role",
        role,
        "--chroot",
        &chroot,
    ];
    let text = world.coordinator(&arguments)?.expect_code(exit::OK)?;
    let text = text.stdout_text();
    let begins = text.find("Match User ").context("a block")?;
    let (_, block) = text.split_at(begins);
    let (block, _) = block.split_once("\n\n").context("the block's end")?;
    Ok(PrintedLogin {
        block: block.to_owned(),
        text,
    })
}

/// `sshd -t` takes the block, and `sshd -T` shows what it means for the login.
fn expect_sshd_takes(block: &str, login: &str, directory: &Path) -> Result<()> {
    let (config, key) = (directory.join(login), directory.join("host_key"));
    fs::write(&config, format!("HostKey {}\n{block}\n", key.display()))?;
    let sshd = |arguments: &[&str]| -> Result<String> {
        let output = Command::new(sshd_path()?)
            .args(arguments)
            .arg("-f")
            .arg(&config)
            .output()?;
        ensure!(
            output.status.success(),
            "sshd {arguments:?}: {}\n{block}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    sshd(&["-t"])?;
    let user = format!("user={login},host=h,addr=127.0.0.1");
    let means = sshd(&["-T", "-C", &user])?;
    for line in [
        "forcecommand internal-sftp -d /",
        "chrootdirectory /",
        "disableforwarding yes",
        "permittty no",
        "passwordauthentication no",
        "authenticationmethods publickey",
    ] {
        ensure!(means.contains(line), "{line}: {means}");
    }
    Ok(())
}

/// A server with all four logins, set up by the printed lines.
fn start_server(directory: &Path, logins: &[PrintedLogin]) -> Result<Sshd> {
    let keys = directory.join("authorized_keys").display().to_string();
    let mut options = SshdOptions::default();
    options.config.push("Subsystem sftp internal-sftp".into());
    for login in logins {
        let block = login.block.replace("/etc/ssh/authorized_keys.d/%u", &keys);
        options.config.push(block);
    }
    options.config.push("Match all".into());
    // The target's accounts are files of the test's own, which useradd cannot replace.
    for role in ["restore", "maintain", "prune"] {
        options.setup.push(format!(
            "echo \"{UNPRIVILEGED_USER}-{role}:x:$(id -u {UNPRIVILEGED_USER}):$(id -g {UNPRIVILEGED_USER})::/:/usr/sbin/nologin\" >> /etc/passwd"
        ));
    }
    let directories = logins[0]
        .text
        .lines()
        .filter(|line| line.starts_with("install -d "));
    options.setup.extend(directories.map(str::to_owned));
    let sshd = Sshd::start(directory, options)?;
    let restrict = |line: &str| format!("restrict {line}\n");
    let public = fs::read_to_string(&keys)?;
    fs::write(&keys, public.lines().map(restrict).collect::<String>())?;
    Ok(sshd)
}

/// Whether one command of OpenSSH's own client does what it says.
fn sftp_does(sshd: &Sshd, login: &str, command: &str) -> Result<bool> {
    let mut client = Command::new("sftp")
        .args([
            "-q",
            "-b",
            "-",
            "-oStrictHostKeyChecking=no",
            "-oIdentitiesOnly=yes",
        ])
        .args(["-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR", "-P"])
        .arg(sshd.address().port().to_string())
        .arg("-i")
        .arg(sshd.identity_file())
        .arg(format!("{login}@127.0.0.1"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting sftp")?;
    let mut input = client.stdin.take().context("its input")?;
    writeln!(input, "{command}")?;
    drop(input);
    Ok(client.wait()?.success())
}

/// Every file beneath a directory but the temporary ones, with its bytes and mode.
fn contents(root: &Path) -> Result<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let facts = fs::symlink_metadata(&path)?;
            if facts.is_dir() && !path.ends_with("tmp") {
                folders.push(path);
            } else if facts.is_file() {
                let mode = facts.permissions().mode() & 0o7777;
                found.insert(path.clone(), (mode, fs::read(&path)?));
            }
        }
    }
    Ok(found)
}

#[test]
fn the_printed_sshd_blocks_let_each_login_do_its_work_and_no_more() -> Result<()> {
    if !namespaces_work() {
        eprintln!("no namespaces here, and so no accounts of the test's own");
        return Ok(());
    }
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(7, 2 << 20))?;
    let dir = tests::world::temporary_directory()?;
    let (keys, chroot) = (dir.path().join("sshd"), dir.path().join("chroot"));
    fs::create_dir(&keys)?;
    let (plain, identity) = (fs::read_to_string(world.config())?, keys.join("client_key"));
    let any_key = "SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDQwHR9kVYQ2dXsV0Y";
    let table = sftp_table(UNPRIVILEGED_USER, "127.0.0.1:22", any_key, &identity);
    world.write_config(&format!("{plain}\n{table}"))?;
    let logins = ROLES
        .iter()
        .map(|role| printed_login(&world, role, &chroot))
        .collect::<Result<Vec<_>>>()?;
    let sshd = start_server(&keys, &logins)?;
    for (role, login) in ROLES.iter().zip(&logins) {
        let name = match *role {
            "ingest" => UNPRIVILEGED_USER.to_owned(),
            role => format!("{UNPRIVILEGED_USER}-{role}"),
        };
        expect_sshd_takes(&login.block, &name, &keys)?;
    }

    // Everything that a run and a restore need, through the login that can only create.
    let (address, key) = (sshd.address().to_string(), sshd.fingerprint()?);
    let table = sftp_table(UNPRIVILEGED_USER, &address, &key, &identity);
    let config = format!("{plain}\n{table}");
    world.write_config(&config)?;
    world
        .coordinator(&["destination", "create", "nas"])?
        .expect_code(exit::OK)?;
    let expected = [
        ("overwriting", "good", "is refused"),
        ("eight writers at once", "good", "one wins"),
        ("fsync@openssh.com", "good", "has it"),
        ("removing, as prune does", "warning", "is refused"),
    ];
    expect_trial(&world, "nas", &expected)?;
    ensure!(world.run()?.outcome == Outcome::Ok);
    let local = fs::rename(world.repository(), world.directory().join("gone"));
    local.context("taking the first destination away")?;
    leave_only(&world, &config, "nas")?;
    world.expect_restores("latest", "latest")?;
    role_trials::expect_of_logins(&world, &sshd, &chroot.join("backup"))?;
    expect_logins(&sshd, &chroot.join("backup"))
}

/// What a stolen key of each login could do to what is stored.
fn expect_logins(sshd: &Sshd, root: &Path) -> Result<()> {
    let before = contents(root)?;
    let mut packs = before
        .keys()
        .filter(|path| path.to_string_lossy().contains("/packs/"));
    let pack = packs.next().context("a pack")?;
    let object = format!("/backup/{}", pack.strip_prefix(root)?.display());
    let other = root.with_file_name("other");
    fs::write(&other, "other bytes")?;
    let (other, got) = (
        other.display(),
        root.with_file_name("got").display().to_string(),
    );
    let changes = [
        format!("rm {object}"),
        format!("rename {object} {object}-gone"),
        format!("chmod 600 {object}"),
        format!("put {other} {object}"),
        format!("symlink {object} /backup/link"),
        "rmdir /backup/tmp".to_owned(),
        "rename /backup /elsewhere".to_owned(),
    ];
    for role in ["", "-restore"] {
        let login = format!("{UNPRIVILEGED_USER}{role}");
        ensure!(sftp_does(sshd, &login, &format!("get {object} {got}"))?);
        for change in &changes {
            ensure!(!sftp_does(sshd, &login, change)?, "{login}: {change}");
        }
        ensure!(contents(root)? == before, "{login} changed something");
    }
    let made = "mkdir /backup/folder";
    ensure!(!sftp_does(
        sshd,
        &format!("{UNPRIVILEGED_USER}-restore"),
        made
    )?);
    ensure!(sftp_does(sshd, UNPRIVILEGED_USER, made)?);
    let maintain = format!("{UNPRIVILEGED_USER}-maintain");
    let moved = format!("rename {object} {object}-damaged");
    ensure!(sftp_does(sshd, &maintain, &moved)?, "{moved}");
    let removed = format!("rm {object}-damaged");
    ensure!(sftp_does(
        sshd,
        &format!("{UNPRIVILEGED_USER}-prune"),
        &removed
    )?);
    Ok(())
}
