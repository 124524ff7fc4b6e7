//! `destination test --role`: what is printed passes, other rights are told by name, and nothing of a repository is touched.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, Transition, TransitionStorageClass,
};
use serde::Deserialize;
use tests::places::{BUCKET, Stored, add_to_config, make_bucket, s3_table};
use tests::s3_server::{ACCESS_KEY_ID, S3Kind, S3Server, admin};
use tests::shapes::exit;
use tests::sshd::{Sshd, UNPRIVILEGED_USER};
use tests::world::World;

use crate::{LOCKED, PLAIN, PREFIX, ROLES, TestLine, contents};

/// What `destination test --role --json` prints.
#[derive(Debug, Deserialize)]
struct RoleReport {
    credentials: String,
    verdict: String,
    rows: Vec<RoleRow>,
    left: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct RoleRow {
    tried: String,
    expected: String,
    found: String,
    verdict: String,
}

impl RoleReport {
    /// What the credentials may beyond the role, and what they lack, by name.
    fn wrong(&self) -> Vec<&str> {
        let bad = self.rows.iter().filter(|row| row.verdict == "bad");
        bad.map(|row| row.tried.as_str()).collect()
    }

    fn expect_wrong(&self, expected: &[&str]) -> Result<()> {
        let wrong = self.wrong();
        let missed = expected.iter().find(|tried| !wrong.contains(tried));
        ensure!(missed.is_none(), "{missed:?} is not told: {self:?}");
        ensure!(self.verdict == "bad", "{self:?}");
        Ok(())
    }
}

/// Tries out credentials as a role's, those of coordinator.toml or others.
fn try_role(world: &World, name: &str, role: &str, code: i32, set: &[&str]) -> Result<RoleReport> {
    let mut arguments = vec!["destination", "test", name, "--role", role];
    for setting in set {
        arguments.extend(["--set", setting]);
    }
    let text = world.coordinator(&arguments)?;
    println!("{}{}", text.stdout_text(), text.stderr_text());
    let text = text.expect_code(code)?.stdout_text();
    let ending = match code {
        exit::OK => format!("These are the rights of {role}"),
        _ => "These are not the rights of".to_owned(),
    };
    ensure!(text.contains(&ending), "{text}");
    arguments.push("--json");
    world.coordinator(&arguments)?.expect_code(code)?.json()
}

/// All names in a bucket but those of trials, and how many versions each has.
async fn names(server: &S3Server, bucket: &str) -> Result<BTreeMap<String, usize>> {
    let mut names = BTreeMap::new();
    let listed = admin(server).list_object_versions().bucket(bucket);
    let listed = listed.send().await?;
    let keys = listed.versions().iter().filter_map(|version| version.key());
    let markers = listed.delete_markers().iter();
    for key in keys.chain(markers.filter_map(|marker| marker.key())) {
        *names.entry(key.to_owned()).or_default() += 1;
    }
    Ok(names)
}

/// Of the printed policies, and of credentials that have other rights.
pub(crate) async fn expect_of_buckets(world: &World, server: &S3Server) -> Result<()> {
    for bucket in [LOCKED, PLAIN] {
        let before = names(server, bucket).await?;
        for role in ROLES {
            let report = try_role(world, bucket, role, exit::OK, &[])?;
            ensure!(report.credentials.ends_with(role), "{report:?}");
            // What is locked stays, for an hour or two, and nothing else.
            let is_locked = |left: &String| left.contains("locked until");
            ensure!(report.left.iter().all(is_locked), "{:?}", report.left);
            let expected = if bucket == LOCKED { 1 } else { 0 };
            ensure!(report.left.len() == expected, "{:?}", report.left);
        }
        let mut after = names(server, bucket).await?;
        after.retain(|name, _| !name.starts_with(&format!("{PREFIX}capstan-trial-")));
        ensure!(after == before, "{bucket}: {before:?} became {after:?}");
    }
    let secret = world.coordinator_dir().join("keys/s3.secret");
    let secret = format!("secret_key_file={}", secret.display());
    for (tried, role, wrong) in [
        ("maintain", "ingest", &["reading", "listing"][..]),
        ("maintain", "restore", &["storing", "overwriting"]),
        ("ingest", "maintain", &["reading", "looking at versioning"]),
        (
            "restore",
            "prune",
            &["reading", "removing", "listing versions"],
        ),
        (
            "prune",
            "restore",
            &["reading", "removing", "removing a version"],
        ),
    ] {
        let key = format!("access_key_id={tried}");
        let report = try_role(world, PLAIN, role, exit::ERROR, &[&key, &secret])?;
        report.expect_wrong(wrong)?;
        ensure!(report.left.is_empty(), "{:?}", report.left);
    }
    let owner = format!("access_key_id={ACCESS_KEY_ID}");
    let report = try_role(world, LOCKED, "prune", exit::ERROR, &[&owner, &secret])?;
    report.expect_wrong(&["listing outside the prefix", "removing despite a lock"])?;

    let nobody = ["access_key_id=nobody-at-all", &secret];
    let report = try_role(world, PLAIN, "ingest", exit::ERROR, &nobody)?;
    ensure!(report.wrong() == ["listing"], "{report:?}");
    ensure!(
        report.rows[0].found.contains("InvalidAccessKeyId"),
        "{report:?}"
    );
    Ok(())
}

/// Of the printed logins, and of one that may more.
pub(crate) fn expect_of_logins(world: &World, sshd: &Sshd, root: &Path) -> Result<()> {
    let before = contents(root)?;
    let url = |login: &str| format!("url=sftp://{login}@{}/backup", sshd.address());
    for role in ROLES {
        let login = match role {
            "ingest" => UNPRIVILEGED_USER.to_owned(),
            role => format!("{UNPRIVILEGED_USER}-{role}"),
        };
        let report = try_role(world, "nas", role, exit::OK, &[&url(&login)])?;
        // Neither the login that puts nor the one that reads can remove what was tried on.
        let may_remove = ["maintain", "prune"].contains(&role);
        ensure!(report.left.is_empty() == may_remove, "{:?}", report.left);
    }
    let maintain = url(&format!("{UNPRIVILEGED_USER}-maintain"));
    let report = try_role(world, "nas", "ingest", exit::ERROR, &[&maintain])?;
    report.expect_wrong(&["renaming", "changing its mode", "removing"])?;
    let report = try_role(world, "nas", "maintain", exit::ERROR, &[])?;
    report.expect_wrong(&["renaming"])?;

    let elsewhere = format!("url=sftp://{UNPRIVILEGED_USER}@{}/other", sshd.address());
    let arguments = ["destination", "test", "nas", "--role", "ingest", "--set"];
    let refused = world.coordinator(&[&arguments[..], &[&elsewhere]].concat())?;
    let refused = refused.expect_code(exit::ERROR)?.stderr_text();
    ensure!(refused.contains("leads elsewhere"), "{refused}");
    ensure!(contents(root)? == before, "a trial changed an object");
    Ok(())
}

/// One row of `destination test`.
fn row(world: &World, tried: &str, code: i32) -> Result<TestLine> {
    let tested = world.coordinator(&["destination", "test", "s3", "--json"])?;
    let mut lines: Vec<TestLine> = tested.expect_code(code)?.json()?;
    lines.retain(|line| line.tried == tried);
    lines.pop().ok_or_else(|| anyhow::anyhow!("no row {tried}"))
}

async fn set_rule(client: &aws_sdk_s3::Client, rule: LifecycleRule) -> Result<()> {
    let rules = BucketLifecycleConfiguration::builder().rules(rule);
    let put = client.put_bucket_lifecycle_configuration().bucket(BUCKET);
    put.lifecycle_configuration(rules.build()?).send().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_eat_backups_and_uploads_that_nobody_completed_are_told() -> Result<()> {
    let world = World::new()?;
    let dir = tests::world::temporary_directory()?;
    let server = S3Server::start(S3Kind::Moto, dir.path())?;
    make_bucket(&server).await?;
    add_to_config(&world, &s3_table(&server.endpoint(), false))?;
    let client = admin(&server);
    for key in ["elsewhere", "capstan/one", "capstan/two"] {
        let begin = client.create_multipart_upload().bucket(BUCKET).key(key);
        let begun = begin.send().await?;
        let part = client.upload_part().bucket(BUCKET).key(key).part_number(1);
        let part = part.set_upload_id(begun.upload_id);
        part.body(vec![7; 1 << 20].into()).send().await?;
    }
    let uploads = row(&world, "unfinished uploads", exit::OK)?;
    // This server has every upload begin in 2010, and lists no parts that could be read.
    let text = uploads.found.as_str();
    ensure!(uploads.verdict == "warning", "{uploads:?}");
    ensure!(text.starts_with("2, the oldest begun "), "{text}");

    let rule = |prefix: &str| {
        LifecycleRule::builder()
            .id("eats")
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
    };
    let in_a_month = LifecycleExpiration::builder().days(30).build();
    let frozen = Transition::builder().days(30);
    let frozen = frozen.storage_class(TransitionStorageClass::Glacier);
    for (rule, code, verdict, words) in [
        (
            rule("other/").expiration(in_a_month.clone()),
            exit::OK,
            "good",
            "remove nothing",
        ),
        (
            rule("capstan/").expiration(in_a_month),
            exit::ERROR,
            "bad",
            "eats will remove",
        ),
        (
            rule("").transitions(frozen.build()),
            exit::ERROR,
            "bad",
            "eats will move backups to GLACIER",
        ),
    ] {
        set_rule(&client, rule.build()?).await?;
        let line = row(&world, "lifecycle rules", code)?;
        ensure!(
            line.verdict == verdict && line.found.contains(words),
            "{line:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_everything_has_no_roles_rights_and_a_directory_knows_no_roles() -> Result<()> {
    let world = World::new()?;
    let dir = tests::world::temporary_directory()?;
    // It asks for no rights at all.
    let server = S3Server::start(S3Kind::Moto, dir.path())?;
    make_bucket(&server).await?;
    add_to_config(&world, &s3_table(&server.endpoint(), true))?;
    std::fs::write(world.source().join("one"), "one")?;
    world.run()?;
    let before = Stored::bucket(&server).objects().await?;
    for (role, wrong) in [
        ("ingest", &["reading", "overwriting", "removing"][..]),
        (
            "restore",
            &[
                "storing",
                "storing outside the prefix",
                "removing a version",
            ],
        ),
        ("maintain", &["removing", "listing outside the prefix"]),
        (
            "prune",
            &["storing", "reading", "removing outside the prefix"],
        ),
    ] {
        let report = try_role(&world, "s3", role, exit::ERROR, &[])?;
        report.expect_wrong(wrong)?;
        ensure!(report.left.is_empty(), "{:?}", report.left);
    }
    ensure!(Stored::bucket(&server).objects().await? == before);
    let foreign = [
        "destination",
        "test",
        "s3",
        "--role",
        "ingest",
        "--set",
        "region=x",
    ];
    let refused = world.coordinator(&foreign)?.expect_code(exit::ERROR)?;
    ensure!(
        refused.stderr_text().contains("access_key_id"),
        "{refused:?}"
    );

    let before = contents(&world.repository())?;
    for role in ROLES {
        let report = try_role(&world, "local", role, exit::OK, &[])?;
        ensure!(report.left.is_empty(), "{:?}", report.left);
        let removing = report.rows.iter().find(|row| row.tried == "removing");
        let expected = if role == "prune" {
            "works"
        } else {
            "cannot be refused"
        };
        ensure!(
            removing.is_some_and(|row| row.expected == expected),
            "{report:?}"
        );
    }
    ensure!(
        contents(&world.repository())? == before,
        "a trial changed an object"
    );
    Ok(())
}
