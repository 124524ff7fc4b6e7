//! An S3 or SFTP server, a proxy before it, a spool, and what is asked of destinations again and again.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use append_server::clock::SystemClock;
use append_server::destination::s3::S3Destination;
use append_server::destination::s3::options::{
    Addressing, Checksums, ConditionalPolicy, RoleCredentials, S3Credentials, S3Options,
    StorageClasses,
};
use append_server::destination::sftp::SftpDestination;
use append_server::destination::sftp::options::SftpOptions;
use append_server::destination::{
    ByteRange, Destination, DestinationError, ObjectKey, ObjectRead, PutOutcome,
};
use append_server::io_faults::IoFaults;
use append_server::spool::{Purpose, Spool, SpoolOptions, spool_bytes};
use append_server::ssh::target::{SshTarget, Timeouts};
use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use futures_util::StreamExt as _;
use tempfile::TempDir;
use tests::corpus::bytes::incompressible;
use tests::fault_proxy::FaultProxy;
use tests::s3_server::{ACCESS_KEY_ID, S3Kind, S3Server, SECRET_KEY, admin};

/// The bucket of every test.
pub const BUCKET: &str = "backups";
/// The repository of every test.
pub const REPOSITORY: RepositoryId = RepositoryId([3; 16]);
/// What only requests about the log's records contain.
pub const RECORDS: &str = "/log/";
/// A real S3 server and a proxy before it.
pub struct S3Bench {
    pub proxy: FaultProxy,
    pub server: S3Server,
    pub spool: Arc<Spool>,
    _dir: TempDir,
}

impl S3Bench {
    pub async fn start() -> Result<Self> {
        let dir = tests::world::temporary_directory()?;
        let server = S3Server::start(S3Kind::Moto, dir.path())?;
        admin(&server)
            .create_bucket()
            .bucket(BUCKET)
            .send()
            .await
            .context("making a bucket")?;
        Ok(Self {
            proxy: FaultProxy::start(server.address())?,
            server,
            spool: spool(&dir.path().join("spool"), 256 << 20)?,
            _dir: dir,
        })
    }

    /// Through the proxy.
    pub fn s3(&self) -> Result<S3Destination> {
        self.with_policy(ConditionalPolicy::Auto)
    }

    /// Through the proxy, with another policy about conditional writes.
    pub fn with_policy(&self, policy: ConditionalPolicy) -> Result<S3Destination> {
        destination(&self.proxy.endpoint(), policy)
    }

    /// Past the proxy.
    pub fn direct(&self) -> Result<S3Destination> {
        destination(&self.server.endpoint(), ConditionalPolicy::Auto)
    }

    /// Puts these bytes.
    pub async fn put(
        &self,
        destination: &dyn Destination,
        key: ObjectKey,
        bytes: &[u8],
    ) -> Result<PutOutcome, DestinationError> {
        put(&self.spool, destination, key, bytes).await
    }
}

fn destination(endpoint: &str, policy: ConditionalPolicy) -> Result<S3Destination> {
    let options = S3Options {
        endpoint: Some(endpoint.to_owned()),
        region: "us-east-1".to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: "some/prefix/".to_owned(),
        addressing: Addressing::Path,
        conditional_writes: policy,
        checksums: Checksums::Sha256,
        lock: None,
        storage_classes: StorageClasses::default(),
        credentials: RoleCredentials::one(S3Credentials::Static {
            access_key_id: ACCESS_KEY_ID.to_owned(),
            secret_key: SECRET_KEY.to_owned().into(),
        }),
        ca_file: None,
        bandwidth: None,
    };
    Ok(S3Destination::new(
        "s3".parse()?,
        options,
        Arc::new(SystemClock),
    )?)
}

pub fn spool(dir: &Path, bytes_max: u64) -> Result<Arc<Spool>> {
    let options = SpoolOptions {
        dir: dir.to_owned(),
        bytes_max,
        reserve_bytes: 0,
    };
    Ok(Spool::open(&options, IoFaults::none())?)
}

/// An SFTP destination at an address.
pub fn sftp(
    address: std::net::SocketAddr,
    fingerprint: &str,
    identity_file: &Path,
    root: &Path,
) -> Result<SftpDestination> {
    let server = SshTarget {
        name: "sftp".to_owned(),
        address: address.to_string().parse()?,
        user: "root".to_owned(),
        identity_file: Some(identity_file.to_owned()),
        certificate_file: None,
        agent_socket: None,
        password: None,
        host_keys: vec![fingerprint.parse()?],
        jump: None,
        timeouts: Timeouts::default(),
    };
    let path = root.display().to_string();
    Ok(SftpDestination::new(
        "sftp".parse()?,
        SftpOptions {
            server,
            path,
            bandwidth: None,
        },
    ))
}

/// A record of the log.
pub fn record(sequence: u64) -> ObjectKey {
    ObjectKey {
        repository: REPOSITORY,
        name: ObjectName::Log(sequence),
    }
}

/// Bytes that no other seed has.
pub fn bytes_of(seed: u64, length: usize) -> Vec<u8> {
    incompressible(seed, length)
}

pub async fn put(
    spool: &Arc<Spool>,
    destination: &dyn Destination,
    key: ObjectKey,
    bytes: &[u8],
) -> Result<PutOutcome, DestinationError> {
    let source = spool_bytes(spool, bytes.to_vec().into(), Purpose::Commit)
        .await
        .map_err(|error| DestinationError::Permanent {
            destination: destination.name().clone(),
            action: "spool",
            subject: key.to_string(),
            source: Box::new(error),
        })?;
    destination.put_if_absent(key, source).await
}

/// Everything a body brings, and how it ended.
pub async fn drained(mut read: ObjectRead) -> (Vec<u8>, Result<(), DestinationError>) {
    let mut all = Vec::new();
    while let Some(piece) = read.body.next().await {
        match piece {
            Ok(piece) => all.extend_from_slice(&piece),
            Err(error) => return (all, Err(error)),
        }
    }
    (all, Ok(()))
}

/// An object as it is read.
pub async fn whole(
    destination: &dyn Destination,
    key: ObjectKey,
) -> Result<Vec<u8>, DestinationError> {
    let (bytes, end) = drained(destination.get_range(key, ByteRange::ALL).await?).await;
    end.map(|()| bytes)
}

/// Checks that a destination has an object with exactly these bytes.
pub async fn expect_stored(
    destination: &dyn Destination,
    key: ObjectKey,
    bytes: &[u8],
) -> Result<()> {
    let found = whole(destination, key.clone()).await?;
    ensure!(found == bytes, "{key} has other bytes than were put");
    Ok(())
}

/// Checks that a destination says with certainty that it has no such object.
pub async fn expect_absent(destination: &dyn Destination, key: ObjectKey) -> Result<()> {
    let found = destination.head(key.clone()).await;
    ensure!(
        found.as_ref().is_err_and(DestinationError::is_absent),
        "{key} should not be there: {found:?}"
    );
    Ok(())
}

/// What one of every kind of question about an object is answered with.
pub async fn questions(
    destination: &dyn Destination,
    key: ObjectKey,
) -> Vec<(&'static str, Result<(), DestinationError>)> {
    let list = destination.list(key.repository, key.name.kind(), None, 10);
    vec![
        ("head", destination.head(key.clone()).await.map(drop)),
        ("get", whole(destination, key.clone()).await.map(drop)),
        ("list", list.await.map(drop)),
    ]
}

/// The names of a destination's records.
pub async fn records(destination: &dyn Destination) -> Result<Vec<ObjectName>, DestinationError> {
    let list = destination
        .list(REPOSITORY, ObjectKind::Log, None, 1_000)
        .await?;
    Ok(list.objects.into_iter().map(|(name, _)| name).collect())
}

/// An error with all its reasons.
pub fn text(error: DestinationError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// Checks that something failed in a way that may pass, and is not "absent".
pub fn expect_passing<T: std::fmt::Debug>(
    what: &str,
    result: &Result<T, DestinationError>,
) -> Result<()> {
    ensure!(
        result
            .as_ref()
            .is_err_and(|error| error.is_retryable() && !error.is_absent()),
        "{what}: {result:?}"
    );
    Ok(())
}

/// Checks that something failed until somebody acts, and is not "absent".
pub fn expect_lasting<T: std::fmt::Debug>(
    what: &str,
    result: &Result<T, DestinationError>,
) -> Result<()> {
    ensure!(
        matches!(result, Err(DestinationError::Permanent { .. })),
        "{what}: {result:?}"
    );
    Ok(())
}
