//! Storing an object in a bucket: one put, create-only, with its lock and its checksum, and a look at it afterwards.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ObjectLockLegalHoldStatus, ObjectLockMode, StorageClass,
};
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};

use crate::destination::s3::failure::S3Failure;
use crate::destination::s3::options::{Checksums, LockMode, ObjectLock};
use crate::destination::s3::{Inner, body};
use crate::destination::{ByteRange, DestinationError, ObjectKey, PutOutcome};
use crate::limits::{IO_BYTES, S3_PUT_BYTES_PER_SEC_MIN, S3_REQUEST_DEADLINE};
use crate::spool::SpooledObject;

impl Inner {
    /// Stores the object unless one of that name is there.
    pub(super) async fn put(
        &self,
        key: &ObjectKey,
        source: &SpooledObject,
    ) -> Result<PutOutcome, DestinationError> {
        let conditional = self.conditional().await?.is_used();
        if !conditional {
            // Nothing better here than to look first. Names are of digests but for the coordinator's own.
            match self.head(key).await {
                Ok(_) => return self.compare(key, source).await,
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        let client = self.clients.ingest().await;
        match self.send(client, key, source, conditional).await {
            Ok(()) => self.see(key, source).await,
            // There already: another's, or our own whose answer was lost.
            Err(failure) if failure.is_status(412) => self.compare(key, source).await,
            Err(failure) => Err(self.error("store", key, failure)),
        }
    }

    /// Puts it as `client`; without the condition what is there is replaced.
    pub(super) async fn send(
        &self,
        client: &Client,
        key: &ObjectKey,
        source: &SpooledObject,
        conditional: bool,
    ) -> Result<(), S3Failure> {
        let options = &self.options;
        let transfer = self.throttle.transfer();
        let bytes = i64::try_from(source.bytes()).unwrap_or(i64::MAX);
        let mut put = client
            .put_object()
            .bucket(&options.bucket)
            .key(self.bucket_key(key))
            .content_length(bytes)
            .content_type("application/octet-stream")
            .body(body::of(source, &transfer));
        if conditional {
            put = put.if_none_match("*");
        }
        if options.checksums == Checksums::Sha256 {
            put = put
                .checksum_algorithm(ChecksumAlgorithm::Sha256)
                .checksum_sha256(sha256(source).await?);
        }
        if let Some(class) = options.storage_classes.of(key.name.kind()) {
            put = put.storage_class(StorageClass::from(class));
        }
        if let Some(lock) = options.lock.filter(|lock| lock.covers(key.name.kind())) {
            let until = self.clock.now_unix_secs() + lock.retain.as_secs();
            put = locked(put, lock, until);
        }
        let slow = Duration::from_secs(source.bytes() / S3_PUT_BYTES_PER_SEC_MIN);
        let put = transfer
            .within(S3_REQUEST_DEADLINE + slow, put.send())
            .await;
        // Without an answer it may be there or not: the next attempt finds out, for its name is taken then.
        put.ok_or(S3Failure::Timeout)?
            .map_err(S3Failure::of)
            .map(drop)
    }

    /// A put that was answered with success must have left an object of that size.
    pub(super) async fn see(
        &self,
        key: &ObjectKey,
        source: &SpooledObject,
    ) -> Result<PutOutcome, DestinationError> {
        let fail = |failure| self.error("find again", key, failure);
        let facts = match self.ask_head(key).await {
            Ok(facts) => facts,
            // Credentials that only put may not look. What they put is read back with others.
            Err(failure) if failure.is_status(403) || failure.is_code("AccessDenied") => {
                return Ok(PutOutcome::Created);
            }
            Err(failure) if failure.is_status(404) => {
                let what = "it acknowledged the object and does not have it";
                return Err(fail(S3Failure::Answer(what.to_owned())));
            }
            Err(failure) => return Err(fail(failure)),
        };
        let bytes = facts
            .content_length()
            .and_then(|bytes| u64::try_from(bytes).ok());
        if bytes != Some(source.bytes()) {
            let what = format!("it acknowledged {} bytes and has {bytes:?}", source.bytes());
            return Err(fail(S3Failure::Answer(what)));
        }
        self.see_lock(key, facts.object_lock_retain_until_date().is_some());
        Ok(PutOutcome::Created)
    }

    /// Says once when a lock that was asked for does not show.
    fn see_lock(&self, key: &ObjectKey, is_locked: bool) {
        let wanted = self
            .options
            .lock
            .is_some_and(|lock| lock.covers(key.name.kind()));
        if wanted && !is_locked && !self.lock_missed.swap(true, Ordering::Relaxed) {
            tracing::error!(
                destination = %self.name, object = %key,
                "the service shows no lock on what was put with one: it has none, or the credentials may not see it"
            );
        }
    }

    /// Something of this name is there: is it the same? All of it is read, for a service's word about an object
    /// it was not asked to store is worth nothing.
    async fn compare(
        &self,
        key: &ObjectKey,
        source: &SpooledObject,
    ) -> Result<PutOutcome, DestinationError> {
        let mut read = match self.get_range(key, ByteRange::ALL).await {
            // Refused because it was there, and not there: somebody is removing, or the service lies.
            Err(error) if error.is_absent() => {
                let what = "it says that the object exists and that it does not".to_owned();
                return Err(self.error("compare", key, S3Failure::Answer(what)));
            }
            read => read?,
        };
        if read.total != source.bytes() {
            return Ok(PutOutcome::ExistsDifferent);
        }
        let mut hasher = blake3::Hasher::new();
        while let Some(piece) = read.body.next().await {
            hasher.update(&piece?);
        }
        Ok(
            if *hasher.finalize().as_bytes() == *source.digest().as_bytes() {
                PutOutcome::ExistsSame
            } else {
                PutOutcome::ExistsDifferent
            },
        )
    }
}

/// A put of an object that is locked until then.
pub(super) fn locked(
    put: PutObjectFluentBuilder,
    lock: ObjectLock,
    until_unix_secs: u64,
) -> PutObjectFluentBuilder {
    let mode = match lock.mode {
        LockMode::Governance => ObjectLockMode::Governance,
        LockMode::Compliance => ObjectLockMode::Compliance,
    };
    let hold = lock.legal_hold.then_some(ObjectLockLegalHoldStatus::On);
    put.object_lock_mode(mode)
        .object_lock_retain_until_date(date(until_unix_secs))
        .set_object_lock_legal_hold_status(hold)
}

/// Seconds since 1970 as the SDK's date.
pub(super) fn date(unix_secs: u64) -> DateTime {
    DateTime::from_secs(i64::try_from(unix_secs).unwrap_or(i64::MAX))
}

/// A date for people.
pub(super) fn date_text(date: &DateTime) -> String {
    date.fmt(DateTimeFormat::DateTime).unwrap_or_default()
}

/// SHA-256 of the object in base64, as the header wants it.
async fn sha256(source: &SpooledObject) -> Result<String, S3Failure> {
    let source = source.clone();
    let hashing = tokio::task::spawn_blocking(move || {
        let mut hasher = Sha256::new();
        let mut offset = 0;
        while offset < source.bytes() {
            let piece = source.read_piece(offset, IO_BYTES)?;
            hasher.update(&piece);
            offset += piece.len() as u64;
        }
        Ok(aws_smithy_types::base64::encode(hasher.finalize()))
    });
    let hashed: std::io::Result<String> = hashing
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    hashed.map_err(|error| S3Failure::Request(Box::new(error)))
}
