//! Removing objects and extending their locks. A lock is never shortened, and one that refuses a removal is said to be
//! one: nothing is wrong then, and nothing helps but time.

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode,
};

use crate::destination::s3::failure::S3Failure;
use crate::destination::s3::lock_limit::{Renewal, ShownLock, limit, renewal};
use crate::destination::s3::options::{LockMode, ObjectLock};
use crate::destination::s3::put::{date, date_text};
use crate::destination::s3::{Inner, within_deadline};
use crate::destination::{DestinationError, LockState, ObjectKey};
use crate::limits::S3_REQUEST_DEADLINE;

impl Inner {
    /// Removes an object, with every version of it where the bucket keeps versions.
    pub(super) async fn delete(&self, key: &ObjectKey) -> Result<(), DestinationError> {
        // A service answers the removal of nothing with success.
        self.head(key).await?;
        let client = self.clients.prune().await;
        match self.delete_versions(client, &self.bucket_key(key)).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.is_status(403) || failure.is_code("AccessDenied") => Err(self
                .locked(key)
                .await
                .unwrap_or_else(|| self.error("remove", key, failure))),
            Err(failure) => Err(self.error("remove", key, failure)),
        }
    }

    async fn delete_version(
        &self,
        client: &Client,
        bucket_key: &str,
        version: Option<String>,
    ) -> Result<(), S3Failure> {
        within_deadline!(
            client
                .delete_object()
                .bucket(&self.options.bucket)
                .key(bucket_key)
                .set_version_id(version)
        )
        .map(drop)
    }

    /// Removes a key of the bucket, with every version of it, as `client`.
    pub(super) async fn delete_versions(
        &self,
        client: &Client,
        bucket_key: &str,
    ) -> Result<(), S3Failure> {
        // One page: nobody overwrites these names, so that there is one version and perhaps a marker.
        let listed = within_deadline!(
            client
                .list_object_versions()
                .bucket(&self.options.bucket)
                .prefix(bucket_key)
        );
        let listed = match listed {
            Ok(listed) => listed,
            // A service that knows no versions keeps none.
            Err(failure) if failure.is_not_implemented() => {
                return self.delete_version(client, bucket_key, None).await;
            }
            Err(failure) => return Err(failure),
        };
        let versions = listed
            .versions()
            .iter()
            .filter(|version| version.key() == Some(bucket_key))
            .filter_map(|version| version.version_id().map(str::to_owned));
        let markers = listed
            .delete_markers()
            .iter()
            .filter(|marker| marker.key() == Some(bucket_key))
            .filter_map(|marker| marker.version_id().map(str::to_owned));
        let all: Vec<_> = versions.chain(markers).collect();
        if all.is_empty() {
            return self.delete_version(client, bucket_key, None).await;
        }
        for version in all {
            self.delete_version(client, bucket_key, Some(version))
                .await?;
        }
        Ok(())
    }

    /// The error for a removal that a lock refused, if there is one.
    async fn locked(&self, key: &ObjectKey) -> Option<DestinationError> {
        let client = self.clients.restore().await;
        let facts = within_deadline!(
            client
                .head_object()
                .bucket(&self.options.bucket)
                .key(self.bucket_key(key))
        );
        let facts = facts.ok()?;
        let until = facts.object_lock_retain_until_date();
        let mode = facts.object_lock_mode().map(ObjectLockMode::as_str);
        let is_held = shown(&facts).is_held;
        if !is_held && until.is_none() {
            return None;
        }
        let until = if is_held {
            "a legal hold is lifted".to_owned()
        } else {
            format!(
                "{} ({})",
                until.map(date_text).unwrap_or_default(),
                mode.unwrap_or_default().to_lowercase()
            )
        };
        Some(DestinationError::Locked {
            destination: self.name.clone(),
            key: key.clone(),
            until,
        })
    }

    /// Forbids removing an object before this time, unless it is forbidden for longer already.
    pub(super) async fn extend_lock(
        &self,
        key: &ObjectKey,
        until_unix_secs: u64,
    ) -> Result<(), DestinationError> {
        let lock = self.lock_options()?;
        let shown = self.shown_lock(key).await?;
        if shown.until_unix_secs >= until_unix_secs {
            return Ok(());
        }
        if until_unix_secs > limit(lock, shown, self.clock.now_unix_secs()) {
            return Err(DestinationError::Unsupported {
                destination: self.name.clone(),
                action: "lock an object for longer than `lock_max`",
            });
        }
        self.set_lock(key, mode(lock, shown), until_unix_secs).await
    }

    /// Locks an object for the configured time from now when less than half of that time is left.
    pub(super) async fn renew_lock(
        &self,
        key: &ObjectKey,
        now_unix_secs: u64,
    ) -> Result<LockState, DestinationError> {
        let lock = self.lock_options()?;
        let shown = self.shown_lock(key).await?;
        let Renewal { prolong_to, state } = renewal(lock, shown, now_unix_secs);
        if let Some(until_unix_secs) = prolong_to {
            self.set_lock(key, mode(lock, shown), until_unix_secs)
                .await?;
        }
        Ok(state)
    }

    fn lock_options(&self) -> Result<ObjectLock, DestinationError> {
        self.options.lock.ok_or(DestinationError::Unsupported {
            destination: self.name.clone(),
            action: "lock objects: no `retain` is configured",
        })
    }

    /// The object's lock as the service shows it.
    async fn shown_lock(&self, key: &ObjectKey) -> Result<ShownLock, DestinationError> {
        let fail = |failure| self.error("look at the lock of", key, failure);
        let client = self.clients.maintain().await;
        let present = within_deadline!(
            client
                .head_object()
                .bucket(&self.options.bucket)
                .key(self.bucket_key(key))
        );
        match present {
            Ok(facts) => Ok(shown(&facts)),
            Err(failure) if failure.is_status(404) => {
                self.head(key).await?;
                let what = "it says that the object exists and that it does not".to_owned();
                Err(fail(S3Failure::Answer(what)))
            }
            Err(failure) => {
                // Refused, perhaps, because nothing is there.
                Err(match self.head(key).await {
                    Err(error) if error.is_absent() => error,
                    _ => fail(failure),
                })
            }
        }
    }

    async fn set_lock(
        &self,
        key: &ObjectKey,
        mode: LockMode,
        until_unix_secs: u64,
    ) -> Result<(), DestinationError> {
        let mode = match mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        };
        let retention = ObjectLockRetention::builder()
            .mode(mode)
            .retain_until_date(date(until_unix_secs))
            .build();
        let client = self.clients.maintain().await;
        within_deadline!(
            client
                .put_object_retention()
                .bucket(&self.options.bucket)
                .key(self.bucket_key(key))
                .retention(retention)
        )
        .map(drop)
        .map_err(|failure| self.error("extend the lock of", key, failure))
    }
}

/// What the answer to a HEAD says of a lock.
fn shown(facts: &HeadObjectOutput) -> ShownLock {
    let secs = |date: &DateTime| u64::try_from(date.secs()).ok();
    let until = facts.object_lock_retain_until_date().and_then(secs);
    let is_on = |status: &ObjectLockLegalHoldStatus| status.as_str() == "ON";
    ShownLock {
        until_unix_secs: until.unwrap_or_default(),
        is_compliance: facts.object_lock_mode() == Some(&ObjectLockMode::Compliance),
        is_held: facts.object_lock_legal_hold_status().is_some_and(is_on),
        stored_unix_secs: facts.last_modified().and_then(secs),
    }
}

/// A lock that nobody may lift stays one.
fn mode(lock: ObjectLock, shown: ShownLock) -> LockMode {
    match shown.is_compliance {
        true => LockMode::Compliance,
        false => lock.mode,
    }
}
