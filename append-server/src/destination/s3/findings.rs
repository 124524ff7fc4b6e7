//! What a bucket does besides storing, as far as its service tells: conditional writes, versions, locks, holds, rules that
//! remove objects, and what the credentials that put may do beyond that.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockEnabled};

use crate::destination::ObjectKey;
use crate::destination::s3::failure::S3Failure;
use crate::destination::s3::lifecycle;
use crate::destination::s3::{Inner, within_deadline};
use crate::examination::{Finding, Verdict};
use crate::limits::S3_REQUEST_DEADLINE;

impl Inner {
    /// Looks at the bucket, with an object of its own at `key`, which is lost afterwards.
    pub(super) async fn findings(&self, key: &ObjectKey) -> Vec<Finding> {
        vec![
            self.conditional_finding().await,
            self.versioning_finding().await,
            self.lock_finding().await,
            self.hold_finding(key).await,
            self.lifecycle_finding().await,
            self.unfinished_finding().await,
            self.overwrite_finding(key).await,
            self.delete_finding(key).await,
        ]
    }

    async fn conditional_finding(&self) -> Finding {
        const WHAT: &str = "conditional writes";
        match self.conditional().await {
            Ok(found) if found.is_used() => Finding::new(WHAT, found.to_string(), Verdict::Good),
            Ok(found) => Finding::new(WHAT, found.to_string(), Verdict::Warning),
            Err(error) => Finding::failed(WHAT, &error),
        }
    }

    async fn versioning_finding(&self) -> Finding {
        const WHAT: &str = "versions";
        let client = self.clients.maintain().await;
        let asked = within_deadline!(client.get_bucket_versioning().bucket(&self.options.bucket));
        match asked {
            Ok(answer) if answer.status() == Some(&BucketVersioningStatus::Enabled) => {
                Finding::new(WHAT, "kept", Verdict::Good)
            }
            Ok(_) => {
                let found = "not kept: what is overwritten or removed is gone; enable versioning";
                Finding::new(WHAT, found, Verdict::Warning)
            }
            Err(failure) => not_told(WHAT, &failure),
        }
    }

    async fn lock_finding(&self) -> Finding {
        const WHAT: &str = "object lock";
        let client = self.clients.maintain().await;
        let asked = within_deadline!(
            client
                .get_object_lock_configuration()
                .bucket(&self.options.bucket)
        );
        let enabled = match &asked {
            Ok(answer) => answer
                .object_lock_configuration()
                .and_then(|lock| lock.object_lock_enabled())
                .is_some_and(|enabled| *enabled == ObjectLockEnabled::Enabled),
            Err(failure) => {
                let none = failure.is_code("ObjectLockConfigurationNotFoundError")
                    || failure.is_status(404)
                    || failure.is_not_implemented();
                if !none {
                    return not_told(WHAT, failure);
                }
                false
            }
        };
        match (enabled, self.options.lock) {
            (true, Some(lock)) => {
                let days = |time: Duration| time.as_secs() / 86_400;
                let found = format!(
                    "on, for {} days each, and prolonged for no more than {} days in all",
                    days(lock.retain),
                    days(lock.longest)
                );
                Finding::new(WHAT, found, Verdict::Good)
            }
            (true, None) => {
                let found = "on in the bucket and not used: set `retain`";
                Finding::new(WHAT, found, Verdict::Warning)
            }
            (false, Some(_)) => {
                let found =
                    "`retain` is set and the bucket has no object lock: make a bucket with it";
                Finding::new(WHAT, found, Verdict::Bad)
            }
            (false, None) => {
                let found = "off: whoever may remove objects can remove backups";
                Finding::new(WHAT, found, Verdict::Warning)
            }
        }
    }

    async fn lifecycle_finding(&self) -> Finding {
        const WHAT: &str = "lifecycle rules";
        let client = self.clients.maintain().await;
        let asked = within_deadline!(
            client
                .get_bucket_lifecycle_configuration()
                .bucket(&self.options.bucket)
        );
        let rules = match &asked {
            Ok(answer) => answer.rules(),
            Err(failure)
                if failure.is_code("NoSuchLifecycleConfiguration")
                    || failure.is_status(404)
                    || failure.is_not_implemented() =>
            {
                &[]
            }
            Err(failure) => return not_told(WHAT, failure),
        };
        let (found, verdict) = lifecycle::judge(rules, &self.options.prefix);
        Finding::new(WHAT, found, verdict)
    }

    /// Whether the credentials that put may replace what they put.
    async fn overwrite_finding(&self, key: &ObjectKey) -> Finding {
        const WHAT: &str = "overwriting without a condition";
        let client = self.clients.ingest().await;
        let put = within_deadline!(
            client
                .put_object()
                .bucket(&self.options.bucket)
                .key(self.bucket_key(key))
                .body(ByteStream::from_static(b"overwritten"))
        );
        match put {
            Ok(_) => {
                let found = "is allowed to the credentials that put: give them a policy that allows to put and no more";
                Finding::new(WHAT, found, Verdict::Warning)
            }
            Err(failure) if failure.is_not_allowed() => {
                Finding::new(WHAT, "is refused", Verdict::Good)
            }
            Err(failure) => not_told(WHAT, &failure),
        }
    }

    /// Whether the credentials that put may remove.
    async fn delete_finding(&self, key: &ObjectKey) -> Finding {
        const WHAT: &str = "removing, with what puts";
        let client = self.clients.ingest().await;
        let removed = within_deadline!(
            client
                .delete_object()
                .bucket(&self.options.bucket)
                .key(self.bucket_key(key))
        );
        match removed {
            Ok(_) => {
                let found = "is allowed to the credentials that put: give prune its own, see [destination.role.prune]";
                Finding::new(WHAT, found, Verdict::Warning)
            }
            Err(failure) if failure.is_not_allowed() => {
                Finding::new(WHAT, "is refused", Verdict::Good)
            }
            Err(failure) => not_told(WHAT, &failure),
        }
    }
}

pub(super) fn not_told(what: &'static str, failure: &S3Failure) -> Finding {
    Finding::new(what, format!("not told: {failure}"), Verdict::Warning)
}
