//! Uploads in parts that were begun beneath our prefix and never completed. Capstan puts every object in one piece, so that
//! they are another tool's; they are in no listing and cost money all the same. Counts them, and ends old ones for prune.

use aws_sdk_s3::types::MultipartUpload;

use crate::destination::DestinationError;
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
            "{}: another tool's, never completed, and paid for; `coordinator prune` ends them when they are old, and so does a \
             lifecycle rule as `destination policy` prints it",
            found.describe(now)
        );
        Finding::new(WHAT, text, Verdict::Warning)
    }

    async fn unfinished(&self) -> Result<Unfinished, S3Failure> {
        let mut found = Unfinished::default();
        let (uploads, more) = self.uploads().await?;
        for upload in &uploads {
            found.take(upload);
        }
        found.more = more;
        if uploads.len() <= S3_UNFINISHED_MEASURED_MAX && !more {
            found.bytes = self.bytes_of(&uploads).await;
        }
        Ok(found)
    }

    /// The uploads themselves, and whether there are more than were listed.
    async fn uploads(&self) -> Result<(Vec<MultipartUpload>, bool), S3Failure> {
        let (mut uploads, mut more) = (Vec::new(), false);
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
            uploads.extend_from_slice(page.uploads());
            more = page.is_truncated() == Some(true);
            let next = page.next_key_marker().map(str::to_owned);
            let next_id = page.next_upload_id_marker().map(str::to_owned);
            // Marks that stand still would lead in a circle.
            if !more || (next == key_marker && next_id == id_marker) {
                break;
            }
            (key_marker, id_marker) = (next, next_id);
        }
        Ok((uploads, more))
    }

    /// Ends those that were begun longer ago than this; says how many. One whose beginning is not told is left alone.
    pub(super) async fn abort_uploads(
        &self,
        older_than_secs: u64,
    ) -> Result<u64, DestinationError> {
        let fail = |failure| self.error("end unfinished uploads of", &self.options.bucket, failure);
        let uploads = match self.uploads().await {
            Ok((uploads, _)) => uploads,
            Err(failure) if failure.is_not_implemented() => return Ok(0),
            Err(failure) => return Err(fail(failure)),
        };
        let now = i64::try_from(self.clock.now_unix_secs()).unwrap_or(i64::MAX);
        let age = i64::try_from(older_than_secs).unwrap_or(i64::MAX);
        let client = self.clients.prune().await;
        let mut aborted = 0;
        for upload in &uploads {
            let began = upload.initiated().map(|began| began.secs());
            let is_old = began.is_some_and(|began| now.saturating_sub(began) > age);
            let (Some(key), Some(id), true) = (upload.key(), upload.upload_id(), is_old) else {
                continue;
            };
            let ended = within_deadline!(
                client
                    .abort_multipart_upload()
                    .bucket(&self.options.bucket)
                    .key(key)
                    .upload_id(id)
            );
            match ended {
                Ok(_) => aborted += 1,
                // Somebody else ended it.
                Err(failure) if failure.is_status(404) => {}
                Err(failure) => return Err(fail(failure)),
            }
        }
        Ok(aborted)
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
