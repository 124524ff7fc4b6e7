//! Putting good bytes in the place of damaged ones, and finding repositories that nobody named. What was damaged stays: as
//! an older version where the bucket keeps versions, else as a copy in a folder of its own. Needs no right to remove.

use std::fmt::Write as _;

use aws_sdk_s3::types::BucketVersioningStatus;
use formats::ids::RepositoryId;

use crate::destination::s3::failure::S3Failure;
use crate::destination::s3::{Inner, within_deadline};
use crate::destination::{DAMAGED_FOLDER, DestinationError, ObjectKey, damaged_name};
use crate::limits::{S3_LIST_PAGES_MAX, S3_REQUEST_DEADLINE};
use crate::spool::SpooledObject;

impl Inner {
    /// Keeps what is there and stores the good bytes over it.
    pub(super) async fn replace_damaged(
        &self,
        key: &ObjectKey,
        good: &SpooledObject,
    ) -> Result<String, DestinationError> {
        let kept = self.keep_damaged(key).await?;
        let client = self.clients.maintain().await;
        self.send(client, key, good, false)
            .await
            .map_err(|failure| self.error("repair", key, failure))?;
        self.see(key, good).await?;
        Ok(kept)
    }

    async fn keep_damaged(&self, key: &ObjectKey) -> Result<String, DestinationError> {
        let client = self.clients.maintain().await;
        let asked = within_deadline!(client.get_bucket_versioning().bucket(&self.options.bucket));
        // A service or a policy that does not say is taken for one that keeps none.
        let keeps =
            asked.is_ok_and(|answer| answer.status() == Some(&BucketVersioningStatus::Enabled));
        if keeps {
            return Ok(format!("an older version of {}", self.bucket_key(key)));
        }
        let fail = |failure| self.error("set aside", key, failure);
        let name = damaged_name(key).map_err(|error| fail(S3Failure::Request(Box::new(error))))?;
        let kept = format!(
            "{}{}/{DAMAGED_FOLDER}/{name}",
            self.options.prefix, key.repository
        );
        let source = format!("{}/{}", self.options.bucket, self.bucket_key(key));
        within_deadline!(
            client
                .copy_object()
                .bucket(&self.options.bucket)
                .key(&kept)
                .copy_source(percent_encoded(&source))
        )
        .map_err(fail)?;
        Ok(kept)
    }

    /// The folders beneath the prefix that are named like repositories.
    pub(super) async fn repositories(&self) -> Result<Vec<RepositoryId>, DestinationError> {
        let fail = |failure| self.error("list", format!("bucket {}", self.options.bucket), failure);
        let client = self.clients.restore().await;
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..S3_LIST_PAGES_MAX {
            let page = within_deadline!(
                client
                    .list_objects_v2()
                    .bucket(&self.options.bucket)
                    .prefix(&self.options.prefix)
                    .delimiter("/")
                    .set_start_after(after.clone())
            )
            .map_err(fail)?;
            // A page that was cut off on its way may still read as a shorter one.
            let count = i32::try_from(page.contents().len() + page.common_prefixes().len()).ok();
            let is_whole = page.key_count().is_none_or(|said| Some(said) == count);
            let Some(more) = page.is_truncated().filter(|_| is_whole) else {
                let what = "a page that does not say whether more follow, or how many it has";
                return Err(fail(S3Failure::Answer(what.to_owned())));
            };
            let folders = page
                .common_prefixes()
                .iter()
                .filter_map(|each| each.prefix());
            let mut last = page.contents().last().and_then(|object| object.key());
            for folder in folders {
                last = last.max(Some(folder));
                let name = folder
                    .strip_prefix(&self.options.prefix)
                    .and_then(|name| name.strip_suffix('/'));
                found.extend(name.and_then(|name| name.parse::<RepositoryId>().ok()));
            }
            if !more {
                found.sort_unstable();
                found.dedup();
                return Ok(found);
            }
            // After everything in the last folder: no key's byte sorts above this one.
            let next = last.map(|last| format!("{last}\u{10ffff}"));
            if next <= after {
                let what = "its names do not ascend".to_owned();
                return Err(fail(S3Failure::Answer(what)));
            }
            after = next;
        }
        let what = format!("more than {S3_LIST_PAGES_MAX} pages of folders");
        Err(fail(S3Failure::Answer(what)))
    }
}

/// A copy's source as its header wants it (RFC 3986 §2.1): everything escaped that is not plain, but for slashes.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => write!(encoded, "%{byte:02X}").unwrap_or_default(), // Writing to a string does not fail.
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::percent_encoded;

    #[test]
    fn only_plain_characters_stay() {
        assert_eq!(
            percent_encoded("bucket/a b+ä/x~1"),
            "bucket/a%20b%2B%C3%A4/x~1"
        );
    }
}
