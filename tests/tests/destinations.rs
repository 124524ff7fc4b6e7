//! Every kind of destination against the one contract, on real servers: OpenSSH for SFTP; Ceph, moto and rclone for S3.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use append_server::clock::{Clock as _, SystemClock};
use append_server::destination::bandwidth::Bandwidth;
use append_server::destination::contract::{Workbench, check};
use append_server::destination::s3::options::{
    Addressing, Checksums, ConditionalPolicy, LockMode, ObjectLock, RoleCredentials, S3Credentials,
    S3Options, StorageClasses,
};
use append_server::destination::s3::{ConditionalWrites, S3Destination};
use append_server::destination::sftp::SftpDestination;
use append_server::destination::sftp::options::SftpOptions;
use append_server::destination::{
    ByteRange, Destination, DestinationError, LockState, ObjectKey, PutOutcome,
};
use append_server::grants::{MaintenanceGrant, RepairGrant};
use append_server::io_faults::IoFaults;
use append_server::spool::{Purpose, Spool, SpoolOptions, spool_bytes};
use append_server::ssh::target::{SshTarget, Timeouts};
use aws_sdk_s3::types::{ObjectLockLegalHold, ObjectLockLegalHoldStatus};
use formats::ids::RepositoryId;
use formats::object::ObjectName;
use formats::wire::upload::repairs::LockOutcome;
use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use tests::corpus::bytes::incompressible;
use tests::s3_server::{ACCESS_KEY_ID, S3Kind, S3Server, SECRET_KEY, admin};
use tests::sshd::{Sshd, SshdOptions};

const BUCKET: &str = "backups";
/// Objects that listings are tried with: several pages, for a page is no larger than what is asked for.
const LISTED_ON_S3: usize = 250;

fn spool(directory: &Path) -> Result<Arc<Spool>> {
    let options = SpoolOptions {
        dir: directory.to_owned(),
        bytes_max: 256 << 20,
        reserve_bytes: 0,
    };
    Ok(Spool::open(&options, IoFaults::none())?)
}

fn options(server: &S3Server) -> S3Options {
    S3Options {
        endpoint: Some(server.endpoint()),
        region: "us-east-1".to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: "some/prefix/".to_owned(),
        addressing: Addressing::Path,
        conditional_writes: ConditionalPolicy::Auto,
        checksums: Checksums::Sha256,
        lock: None,
        storage_classes: StorageClasses::default(),
        credentials: RoleCredentials::one(credentials(SECRET_KEY)),
        ca_file: None,
        bandwidth: None,
    }
}

fn credentials(secret: &str) -> S3Credentials {
    S3Credentials::Static {
        access_key_id: ACCESS_KEY_ID.to_owned(),
        secret_key: secret.to_owned().into(),
    }
}

fn destination(options: S3Options) -> Result<S3Destination> {
    Ok(S3Destination::new(
        "s3".parse()?,
        options,
        Arc::new(SystemClock),
    )?)
}

async fn make_bucket(server: &S3Server, name: &str, lock: bool) -> Result<()> {
    admin(server)
        .create_bucket()
        .bucket(name)
        .object_lock_enabled_for_bucket(lock)
        .send()
        .await
        .context("making a bucket")?;
    Ok(())
}

async fn keeps_the_contract(
    destination: Arc<dyn Destination>,
    spool: &Arc<Spool>,
    listed_objects: usize,
) -> Result<()> {
    check(&Workbench {
        destination,
        spool: Arc::clone(spool),
        listed_objects,
    })
    .await
    .context("the contract")
}

fn key(sequence: u64) -> ObjectKey {
    ObjectKey {
        repository: RepositoryId([3; 16]),
        name: ObjectName::Log(sequence),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_keeps_the_contract() -> Result<()> {
    let dir = tests::world::temporary_directory()?;
    let server = S3Server::start(S3Kind::Moto, dir.path())?;
    let spool = spool(&dir.path().join("spool"))?;
    make_bucket(&server, BUCKET, false).await?;
    let s3 = destination(options(&server))?;
    ensure!(s3.conditional_writes().await? == ConditionalWrites::Enforced);
    keeps_the_contract(Arc::new(s3), &spool, LISTED_ON_S3).await?;
    failures_are_named(&server, &spool).await
}

/// Wrong credentials, buckets and addresses are lasting failures that say what to do, and never "absent".
async fn failures_are_named(server: &S3Server, spool: &Arc<Spool>) -> Result<()> {
    let good = options(server);
    let no_bucket = S3Options {
        bucket: "no-such-bucket".to_owned(),
        ..good.clone()
    };
    let nobody = S3Options {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        ..good.clone()
    };
    let required = [
        (no_bucket, "NoSuchBucket", false),
        (nobody, "connection", true),
    ];
    for (options, words, passes) in required {
        let s3 = destination(options)?;
        let body = spool_bytes(spool, "record".into(), Purpose::Commit).await?;
        let put = s3.put_if_absent(key(1), body).await.map(drop);
        let head = s3.head(key(1)).await.map(drop);
        for failed in [put, head] {
            let error = failed.expect_err("nothing is there");
            ensure!(
                !error.is_absent() && error.is_retryable() == passes,
                "{error:?}"
            );
            let text = format!("{:#}", anyhow::Error::from(error));
            ensure!(text.contains(words), "{text}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_conditional_writes_is_found_out() -> Result<()> {
    let dir = tests::world::temporary_directory()?;
    let server = S3Server::start(S3Kind::Rclone, dir.path())?;
    let spool = spool(&dir.path().join("spool"))?;
    make_bucket(&server, BUCKET, false).await?;
    let s3 = destination(options(&server))?;
    ensure!(s3.conditional_writes().await? == ConditionalWrites::Ignored);
    // The first still stays, as far as one writer can see to it.
    for (bytes, expected) in [
        ("first", PutOutcome::Created),
        ("first", PutOutcome::ExistsSame),
        ("other", PutOutcome::ExistsDifferent),
    ] {
        let body = spool_bytes(&spool, bytes.into(), Purpose::Commit).await?;
        let outcome = s3.put_if_absent(key(1), body).await?;
        ensure!(outcome == expected, "{bytes}: {outcome:?}");
    }
    let strict = destination(S3Options {
        conditional_writes: ConditionalPolicy::Require,
        ..options(&server)
    })?;
    let body = spool_bytes(&spool, "more".into(), Purpose::Commit).await?;
    let error = strict
        .put_if_absent(key(2), body)
        .await
        .expect_err("required");
    let text = format!("{:#}", anyhow::Error::from(error));
    ensure!(text.contains("ignored") && text.contains("auto"), "{text}");
    Ok(())
}

/// With their parts' bytes, and none of those outside the prefix.
async fn unfinished_uploads_are_told(server: &S3Server) -> Result<()> {
    let client = admin(server);
    for key in ["elsewhere", "some/prefix/one", "some/prefix/two"] {
        let begin = client.create_multipart_upload().bucket(BUCKET).key(key);
        let begun = begin.send().await?;
        let part = client.upload_part().bucket(BUCKET).key(key).part_number(1);
        let part = part.set_upload_id(begun.upload_id);
        part.body(vec![7; 1 << 20].into()).send().await?;
    }
    let findings = destination(options(server))?.findings(key(9)).await;
    let found = findings
        .iter()
        .find(|finding| finding.what == "unfinished uploads");
    let text = found.context("a finding")?.found.as_str();
    let expected = "2, the oldest begun 0 hours ago, 2 MiB in all";
    ensure!(text.starts_with(expected), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_keeps_the_contract_and_its_locks() -> Result<()> {
    let dir = tests::world::temporary_directory()?;
    let server = S3Server::start(S3Kind::Ceph, dir.path())?;
    let spool = spool(&dir.path().join("spool"))?;
    make_bucket(&server, BUCKET, false).await?;
    let s3 = destination(options(&server))?;
    ensure!(s3.conditional_writes().await? == ConditionalWrites::Enforced);
    keeps_the_contract(Arc::new(s3), &spool, LISTED_ON_S3).await?;
    failures_are_named(&server, &spool).await?;
    unfinished_uploads_are_told(&server).await?;

    make_bucket(&server, "locked", true).await?;
    let locked = destination(S3Options {
        bucket: "locked".to_owned(),
        lock: Some(ObjectLock {
            retain: std::time::Duration::from_secs(86_400),
            longest: std::time::Duration::from_secs(100 * 86_400),
            mode: LockMode::Compliance,
            legal_hold: false,
        }),
        ..options(&server)
    })?;
    let body = spool_bytes(&spool, "record".into(), Purpose::Commit).await?;
    ensure!(locked.put_if_absent(key(1), body).await? == PutOutcome::Created);
    let grant = MaintenanceGrant::of_this_process();
    let refused = locked.delete(key(1), &grant).await;
    ensure!(
        matches!(&refused, Err(DestinationError::Locked { until, .. }) if until.contains("compliance")),
        "{refused:?}"
    );
    ensure!(locked.head(key(1)).await? == 6, "it is there all the same");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    let later = now + 30 * 86_400;
    locked.extend_lock(key(1), later, &grant).await?;
    // Never shortened.
    locked.extend_lock(key(1), now + 86_400, &grant).await?;
    let retention = admin(&server)
        .get_object_retention()
        .bucket("locked")
        .key(format!("some/prefix/{}", key(1)))
        .send()
        .await?;
    let until = retention
        .retention()
        .and_then(|found| found.retain_until_date());
    ensure!(
        until.is_some_and(|until| until.secs().unsigned_abs() == later),
        "{until:?}"
    );
    let past_the_limit = locked.extend_lock(key(1), now + 101 * 86_400, &grant).await;
    ensure!(
        matches!(&past_the_limit, Err(DestinationError::Unsupported { action, .. }) if action.contains("lock_max")),
        "{past_the_limit:?}"
    );
    // Renewed for another day only once less than half a day is left of the one it has.
    let repair = RepairGrant::of_this_process();
    for (at, until_unix_secs, outcome) in [
        (later - 43_200, later, LockOutcome::Enough),
        (later - 43_199, later + 43_201, LockOutcome::Renewed),
        // As if it had been looked at a month ago.
        (now, later + 43_201, LockOutcome::Longer),
    ] {
        let state = locked.renew_lock(key(1), at, &repair).await?;
        let expected = LockState {
            until_unix_secs,
            outcome,
            is_held: false,
        };
        ensure!(state == expected, "{state:?}");
    }
    holds_are_seen(&server, &locked, &spool).await
}

/// Without any other lock a hold keeps an object, and is named as what does.
async fn holds_are_seen(
    server: &S3Server,
    locked: &S3Destination,
    spool: &Arc<Spool>,
) -> Result<()> {
    let unlocked = destination(S3Options {
        bucket: "locked".to_owned(),
        ..options(server)
    })?;
    let body = spool_bytes(spool, "record".into(), Purpose::Commit).await?;
    unlocked.put_if_absent(key(2), body).await?;
    let hold = |status| {
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let client = admin(server);
        async move {
            let put = client.put_object_legal_hold().bucket("locked");
            let put = put.key(format!("some/prefix/{}", key(2)));
            put.legal_hold(hold).send().await
        }
    };
    hold(ObjectLockLegalHoldStatus::On).await?;
    let grant = MaintenanceGrant::of_this_process();
    let refused = unlocked.delete(key(2), &grant).await;
    ensure!(
        matches!(&refused, Err(DestinationError::Locked { until, .. }) if until.contains("legal hold")),
        "{refused:?}"
    );
    // The trial's own object, which it may remove.
    let body = spool_bytes(spool, "record".into(), Purpose::Commit).await?;
    unlocked.put_if_absent(key(3), body).await?;
    let findings = unlocked.findings(key(3)).await;
    let found = findings.iter().find(|row| row.what == "legal holds");
    let found = found.context("a finding")?;
    ensure!(found.found.starts_with("on 1 of"), "{found:?}");
    let now = SystemClock.now_unix_secs();
    let repair = RepairGrant::of_this_process();
    let state = locked.renew_lock(key(2), now, &repair).await?;
    ensure!(state.is_held, "{state:?}");
    Ok(())
}

fn sftp(sshd: &Sshd, path: &str) -> Result<SftpDestination> {
    limited_sftp(sshd, path, None)
}

fn limited_sftp(sshd: &Sshd, path: &str, bandwidth: Option<Bandwidth>) -> Result<SftpDestination> {
    let server = SshTarget {
        name: "sftp".to_owned(),
        address: sshd.address().to_string().parse()?,
        user: "root".to_owned(),
        identity_file: Some(sshd.identity_file()),
        certificate_file: None,
        agent_socket: None,
        password: None,
        host_keys: vec![sshd.fingerprint()?.parse()?],
        jump: None,
        timeouts: Timeouts::default(),
    };
    let path = path.to_owned();
    Ok(SftpDestination::new(
        "sftp".parse()?,
        SftpOptions {
            server,
            path,
            bandwidth,
        },
    ))
}

fn sftp_server(directory: &Path, subsystem: &str) -> Result<Sshd> {
    std::fs::create_dir_all(directory)?;
    let options = SshdOptions {
        config: vec![format!("Subsystem sftp {subsystem}")],
        ..SshdOptions::default()
    };
    Sshd::start(directory, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_keeps_the_contract() -> Result<()> {
    let dir = tests::world::temporary_directory()?;
    let sshd = sftp_server(&dir.path().join("sshd"), "internal-sftp")?;
    let spool = spool(&dir.path().join("spool"))?;
    let root = dir.path().join("root");
    let sftp = sftp(&sshd, &root.display().to_string())?;
    // A root that nobody made is not an empty destination.
    let body = spool_bytes(&spool, "record".into(), Purpose::Commit).await?;
    let error = sftp.put_if_absent(key(1), body).await.expect_err("no root");
    let text = format!("{:#}", anyhow::Error::from(error));
    ensure!(text.contains("capstan-destination"), "{text}");
    ensure!(
        !sftp
            .head(key(1))
            .await
            .is_err_and(|error| error.is_absent())
    );

    ensure!(!sftp.create_root().await?, "it was not there before");
    ensure!(sftp.create_root().await?, "it is there now");
    keeps_the_contract(Arc::new(sftp), &spool, 1_100).await?;
    let left: Vec<_> = std::fs::read_dir(root.join("tmp"))?.collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Without OpenSSH's extensions: names are given by a rename, and what nobody promises to be durable is read back.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_extensions_keeps_the_contract() -> Result<()> {
    let dir = tests::world::temporary_directory()?;
    let refuse = "internal-sftp -P fsync,hardlink,statvfs,limits";
    let sshd = sftp_server(&dir.path().join("sshd"), refuse)?;
    let spool = spool(&dir.path().join("spool"))?;
    let sftp = sftp(&sshd, &dir.path().join("root").display().to_string())?;
    sftp.create_root().await?;
    keeps_the_contract(Arc::new(sftp), &spool, 300).await
}

/// Several objects at once, there and back.
async fn brings_every_byte(destination: &dyn Destination, spool: &Arc<Spool>) -> Result<()> {
    let bytes = |number: u64| incompressible(number, (400 << 10) + 1_000 * number as usize);
    let mut puts = Vec::new();
    for number in 1..=4 {
        let source = spool_bytes(spool, bytes(number).into(), Purpose::Data).await?;
        puts.push(destination.put_if_absent(key(number), source));
    }
    for outcome in join_all(puts).await {
        ensure!(outcome? == PutOutcome::Created);
    }
    let reads = (1..=4).map(|number| async move {
        let read = destination.get_range(key(number), ByteRange::ALL).await?;
        let pieces: Vec<_> = read.body.try_collect().await?;
        anyhow::Ok(pieces.concat())
    });
    for (number, read) in (1..).zip(join_all(reads).await) {
        ensure!(read? == bytes(number), "object {number}");
    }
    // The same again is compared, by reading all of it.
    let source = spool_bytes(spool, bytes(1).into(), Purpose::Data).await?;
    let again = destination.put_if_absent(key(1), source).await?;
    ensure!(again == PutOutcome::ExistsSame, "{again:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn limited_destinations_bring_every_byte() -> Result<()> {
    let dir = tests::world::temporary_directory()?;
    let spool = spool(&dir.path().join("spool"))?;
    let bandwidth = Some("4MiB/s".parse()?);
    let server = S3Server::start(S3Kind::Moto, dir.path())?;
    make_bucket(&server, BUCKET, false).await?;
    let s3 = destination(S3Options {
        bandwidth,
        ..options(&server)
    })?;
    brings_every_byte(&s3, &spool).await.context("S3")?;

    let sshd = sftp_server(&dir.path().join("sshd"), "internal-sftp")?;
    let sftp = limited_sftp(
        &sshd,
        &dir.path().join("root").display().to_string(),
        bandwidth,
    )?;
    sftp.create_root().await?;
    brings_every_byte(&sftp, &spool).await.context("SFTP")
}
