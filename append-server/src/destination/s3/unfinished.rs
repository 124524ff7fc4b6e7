//! Uploads in parts that were begun beneath our prefix and never completed. Capstan puts every object in one piece, so that
//! they are another tool's; they are in no listing and cost money all the same. Only counts them.

use aws_sdk_s3::types::MultipartUpload;

use crate::destination::s3::failure::S3Failure;
use crate::destination::s3::findings::not_told;
use crate::destination::s3::{Inner, within_deadline};
use crate::examination::{Finding, Verdict};
use crate::limits::{S3_REQUEST_DEADLINE, S3_UNFINISHED_MEASURED_MAX, S3_UNFINISHED_PAGES_MAX};

/// What was found of them.
#[derive(Debug, Default)]
struct Unfinished {
    count: usize,
    /// Whether there are more than were counted.
    more: bool,
    oldest_unix_secs: Option<i64>,
    /// Of all of them, where the service tells and there are few.
    bytes: Option<u64>,
}

impl Inner {
    pub(super) async fn unfinished_finding(&self) -> Finding {
        const WHAT: &str = "unfinished uploads";
        let found = match self.unfinished().await {
            Ok(found) => found,
            Err(failure) if failure.is_not_implemented() => {
                return Finding::new(WHAT, "the service has no such thing", Verdict::Good);
            }
            Err(failure) => return not_told(WHAT, &failure),
        };
        if found.count == 0 {
            return Finding::new(WHAT, "none", Verdict::Good);
        }
        let now = i64::try_from(self.clock.now_unix_secs()).unwrap_or(i64::MAX);
        let text = format!(
            "{}: another tool's, never completed, and paid for; have a lifecycle rule abort them, as `destination \
             policy` prints it",
            found.describe(now)
        );
        Finding::new(WHAT, text, Verdict::Warning)
    }

    async fn unfinished(&self) -> Result<Unfinished, S3Failure> {
        let mut found = Unfinished::default();
        let mut few = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        let client = self.clients.prune().await;
        for _ in 0..S3_UNFINISHED_PAGES_MAX {
            let page = within_deadline!(
                client
                    .list_multipart_uploads()
                    .bucket(&self.options.bucket)
                    .prefix(&self.options.prefix)
                    .set_key_marker(key_marker.clone())
                    .set_upload_id_marker(id_marker.clone())
            )?;
            for upload in page.uploads() {
                found.take(upload);
                if few.len() < S3_UNFINISHED_MEASURED_MAX {
                    few.push(upload.clone());
                }
            }
            found.more = page.is_truncated() == Some(true);
            let next = page.next_key_marker().map(str::to_owned);
            let next_id = page.next_upload_id_marker().map(str::to_owned);
            // Marks that stand still would lead in a circle.
            if !found.more || (next == key_marker && next_id == id_marker) {
                break;
            }
            (key_marker, id_marker) = (next, next_id);
        }
        if few.len() == found.count && !found.more {
            found.bytes = self.bytes_of(&few).await;
        }
        Ok(found)
    }

    /// The parts' bytes. A right of its own, which no role has: without it they are not told.
    async fn bytes_of(&self, uploads: &[MultipartUpload]) -> Option<u64> {
        let client = self.clients.prune().await;
        let mut bytes = 0;
        for upload in uploads {
            let parts = within_deadline!(
                client
                    .list_parts()
                    .bucket(&self.options.bucket)
                    .key(upload.key()?)
                    .upload_id(upload.upload_id()?)
            );
            let parts = parts
                .ok()
                .filter(|parts| parts.is_truncated() != Some(true))?;
            let sizes = parts.parts().iter().filter_map(|part| part.size());
            bytes += sizes
                .filter_map(|size| u64::try_from(size).ok())
                .sum::<u64>();
        }
        Some(bytes)
    }
}

impl Unfinished {
    fn take(&mut self, upload: &MultipartUpload) {
        self.count += 1;
        let began = upload.initiated().map(|began| began.secs());
        self.oldest_unix_secs = match (self.oldest_unix_secs, began) {
            (Some(oldest), Some(began)) => Some(oldest.min(began)),
            (oldest, began) => oldest.or(began),
        };
    }

    fn describe(&self, now_unix_secs: i64) -> String {
        let at_least = if self.more { "at least " } else { "" };
        let mut text = format!("{at_least}{}", self.count);
        if let Some(oldest) = self.oldest_unix_secs {
            let hours = now_unix_secs.saturating_sub(oldest).max(0) / 3_600;
            let age = match hours {
                0..48 => format!("{hours} hours"),
                hours => format!("{} days", hours / 24),
            };
            text += &format!(", the oldest begun {age} ago");
        }
        if let Some(bytes) = self.bytes {
            text += &format!(", {} MiB in all", bytes.div_ceil(1 << 20));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Unfinished;

    #[test]
    fn unfinished_uploads_are_told_with_what_is_known_of_them() {
        let mut found = Unfinished {
            count: 3,
            oldest_unix_secs: Some(0),
            bytes: Some((5 << 20) + 1),
            more: false,
        };
        let text = found.describe(9 * 86_400);
        assert_eq!(text, "3, the oldest begun 9 days ago, 6 MiB in all");
        (found.more, found.bytes) = (true, None);
        let text = found.describe(7_200);
        assert_eq!(text, "at least 3, the oldest begun 2 hours ago");
    }
}
