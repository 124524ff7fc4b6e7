//! Legal holds: locks without an end that a person sets and lifts. Capstan sets one only where the configuration says so, and
//! lifts none; here it looks how many there are, so that nobody wonders why something cannot be removed.

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::destination::ObjectKey;
use crate::destination::s3::failure::S3Failure;
use crate::destination::s3::findings::not_told;
use crate::destination::s3::{Inner, within_deadline};
use crate::examination::{Finding, Verdict};
use crate::limits::{S3_HOLDS_AT_ONCE, S3_HOLDS_LOOKED_AT, S3_REQUEST_DEADLINE};

/// What a look at some objects showed.
#[derive(Debug, Default)]
struct Holds {
    looked_at: usize,
    held: usize,
    /// One of those.
    example: Option<String>,
}

impl Inner {
    /// Whether objects are held, asked of the first ones beneath the prefix; `key` is an object of the caller's own.
    pub(super) async fn hold_finding(&self, key: &ObjectKey) -> Finding {
        const WHAT: &str = "legal holds";
        match self.can_see_holds(key).await {
            Ok(true) => {}
            Ok(false) => return Finding::new(WHAT, "none: no object lock", Verdict::Good),
            Err(failure) if failure.is_not_allowed() => {
                let found = "not told: these credentials may not see them (s3:GetObjectLegalHold), so that prune could not \
                             say why something stays";
                return Finding::new(WHAT, found, Verdict::Warning);
            }
            Err(failure) => return not_told(WHAT, &failure),
        }
        match self.look_for_holds().await {
            Ok(holds) => Finding::new(WHAT, holds.describe(), Verdict::Good),
            Err(failure) => not_told(WHAT, &failure),
        }
    }

    /// Whether holds would be shown; not where there are none.
    async fn can_see_holds(&self, key: &ObjectKey) -> Result<bool, S3Failure> {
        let client = self.clients.restore().await;
        let asked = within_deadline!(
            client
                .get_object_legal_hold()
                .bucket(&self.options.bucket)
                .key(self.bucket_key(key))
        );
        match asked {
            Ok(_) => Ok(true),
            // The object has none, and could; Ceph's word is the second one.
            Err(failure)
                if failure.is_code("NoSuchObjectLockConfiguration")
                    || failure.is_code("ObjectLockConfigurationNotFoundError") =>
            {
                Ok(true)
            }
            Err(failure)
                if failure.is_code("InvalidRequest")
                    || failure.is_status(400)
                    || failure.is_not_implemented() =>
            {
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn look_for_holds(&self) -> Result<Holds, S3Failure> {
        let client = self.clients.restore().await;
        let listed = within_deadline!(
            client
                .list_objects_v2()
                .bucket(&self.options.bucket)
                .prefix(&self.options.prefix)
                .max_keys(S3_HOLDS_LOOKED_AT)
        )?;
        let keys = listed.contents().iter().filter_map(|object| object.key());
        let heads = keys.map(|key| async move {
            let head = client.head_object().bucket(&self.options.bucket).key(key);
            (key, within_deadline!(head))
        });
        let heads: Vec<_> = heads.collect();
        let mut heads = stream::iter(heads).buffer_unordered(S3_HOLDS_AT_ONCE);
        let mut holds = Holds::default();
        while let Some((key, head)) = heads.next().await {
            let head = match head {
                Ok(head) => head,
                // Removed meanwhile.
                Err(failure) if failure.is_status(404) => continue,
                Err(failure) => return Err(failure),
            };
            holds.looked_at += 1;
            let status = head.object_lock_legal_hold_status();
            if status.is_some_and(|status| status.as_str() == "ON") {
                holds.held += 1;
                holds
                    .example
                    .get_or_insert_with(|| crate::destination::peer_words(key));
            }
        }
        Ok(holds)
    }
}

impl Holds {
    fn describe(&self) -> String {
        match &self.example {
            None => format!("on none of {} objects looked at", self.looked_at),
            Some(example) => format!(
                "on {} of {} objects looked at, such as {example}: prune leaves them until a person lifts that",
                self.held, self.looked_at
            ),
        }
    }
}
