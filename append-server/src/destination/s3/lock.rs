//! Removing objects and extending their locks. A lock is never shortened, and one that refuses a removal is said to be
//! one: nothing is wrong then, and nothing helps but time.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode};

use crate::destination::s3::failure::S3Failure;
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
        let held = facts
            .object_lock_legal_hold_status()
            .is_some_and(|status| status.as_str() == "ON");
        let until = facts.object_lock_retain_until_date();
        let mode = facts.object_lock_mode().map(ObjectLockMode::as_str);
        if !held && until.is_none() {
            return None;
        }
        let until = if held {
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
        let mode = self.lock_options()?.mode;
        let present = self.locked_until(key).await?;
        if present.is_some_and(|already| already >= until_unix_secs) {
            return Ok(());
        }
        self.set_lock(key, mode, until_unix_secs).await
    }

    /// Locks an object for the configured time from now when less than half of that time is left.
    pub(super) async fn renew_lock(
        &self,
        key: &ObjectKey,
        now_unix_secs: u64,
    ) -> Result<LockState, DestinationError> {
        let lock = self.lock_options()?;
        let retain = lock.retain.as_secs();
        let present = self.locked_until(key).await?.unwrap_or_default();
        if present >= now_unix_secs.saturating_add(retain / 2) {
            return Ok(LockState {
                until_unix_secs: present,
                renewed: false,
            });
        }
        let until_unix_secs = now_unix_secs.saturating_add(retain);
        self.set_lock(key, lock.mode, until_unix_secs).await?;
        Ok(LockState {
            until_unix_secs,
            renewed: true,
        })
    }

    fn lock_options(&self) -> Result<ObjectLock, DestinationError> {
        self.options.lock.ok_or(DestinationError::Unsupported {
            destination: self.name.clone(),
            action: "lock objects: no `retain` is configured",
        })
    }

    /// Until when nobody may remove the object, if there is a time.
    async fn locked_until(&self, key: &ObjectKey) -> Result<Option<u64>, DestinationError> {
        let fail = |failure| self.error("look at the lock of", key, failure);
        let client = self.clients.maintain().await;
        let present = within_deadline!(
            client
                .head_object()
                .bucket(&self.options.bucket)
                .key(self.bucket_key(key))
        );
        match present {
            Ok(facts) => {
                let until = facts.object_lock_retain_until_date();
                Ok(until.and_then(|date| u64::try_from(date.secs()).ok()))
            }
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
