//! Reading and listing a bucket. What comes is counted against what was asked for, and a listing must go forward.

use std::sync::Arc;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::destination::s3::failure::S3Failure;
use crate::destination::s3::{Inner, within_deadline};
use crate::destination::throttle::Transfer;
use crate::destination::{
    ByteRange, DestinationError, DestinationName, ObjectKey, ObjectList, ObjectRead,
};
use crate::limits::{S3_LIST_PAGES_MAX, S3_REQUEST_DEADLINE};

impl Inner {
    /// A part of an object.
    pub(super) async fn get_range(
        &self,
        key: &ObjectKey,
        range: ByteRange,
    ) -> Result<ObjectRead, DestinationError> {
        if range.bytes == Some(0) {
            return self.get_nothing(key, range).await;
        }
        let header = match (range.start, range.bytes) {
            (0, None) => None,
            (start, None) => Some(format!("bytes={start}-")),
            (start, Some(bytes)) => {
                let last = start.saturating_add(bytes) - 1;
                Some(format!("bytes={start}-{last}"))
            }
        };
        let answer = match self.get(key, header.clone()).await {
            Ok(answer) => answer,
            Err(failure) if failure.is_status(416) => {
                let total = self.head(key).await?;
                return Err(self.past_end(key, total));
            }
            Err(failure) => return Err(self.read_error("read", key, failure).await),
        };
        let unusable = |what: &str| self.error("read", key, S3Failure::Answer(what.to_owned()));
        let (first, total) = match (&header, answer.content_range()) {
            (None, _) => (0, answer.content_length()),
            (Some(_), Some(text)) => {
                let (first, total) =
                    parse_content_range(text).ok_or_else(|| unusable("its range"))?;
                (first, Some(total))
            }
            // Some services leave a range out that covers everything.
            (Some(_), None) => (0, answer.content_length()),
        };
        let total = total
            .and_then(|total| u64::try_from(total).ok())
            .ok_or_else(|| unusable("it does not say the object's size"))?;
        let bytes = range
            .bytes_in(total)
            .ok_or_else(|| self.past_end(key, total))?;
        if u64::try_from(first) != Ok(range.start) {
            return Err(unusable("it is another part than the one asked for"));
        }
        let reading = Reading {
            destination: self.name.clone(),
            key: key.clone(),
            body: answer.body,
            left: bytes,
            transfer: self.throttle.transfer(),
        };
        Ok(ObjectRead {
            total,
            bytes,
            body: stream::try_unfold(reading, Reading::next).boxed(),
        })
    }

    async fn get_nothing(
        &self,
        key: &ObjectKey,
        range: ByteRange,
    ) -> Result<ObjectRead, DestinationError> {
        let total = self.head(key).await?;
        match range.bytes_in(total) {
            Some(bytes) => Ok(ObjectRead {
                total,
                bytes,
                body: stream::empty().boxed(),
            }),
            None => Err(self.past_end(key, total)),
        }
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Option<String>,
    ) -> Result<GetObjectOutput, S3Failure> {
        let get = self
            .clients
            .restore()
            .await
            .get_object()
            .bucket(&self.options.bucket)
            .key(self.bucket_key(key))
            .set_range(range)
            .send();
        let get = tokio::time::timeout(S3_REQUEST_DEADLINE, get).await;
        get.map_err(|_| S3Failure::Timeout)?.map_err(S3Failure::of)
    }

    /// What the service says of an object, in one request.
    pub(super) async fn ask_head(&self, key: &ObjectKey) -> Result<HeadObjectOutput, S3Failure> {
        let client = self.clients.restore().await;
        within_deadline!(
            client
                .head_object()
                .bucket(&self.options.bucket)
                .key(self.bucket_key(key))
        )
    }

    /// An object's bytes.
    pub(super) async fn head(&self, key: &ObjectKey) -> Result<u64, DestinationError> {
        let answer = match self.ask_head(key).await {
            Ok(answer) => answer,
            Err(failure) if failure.is_status(404) => return self.head_by_reading(key).await,
            Err(failure) => return Err(self.read_error("look at", key, failure).await),
        };
        answer
            .content_length()
            .and_then(|bytes| u64::try_from(bytes).ok())
            .ok_or_else(|| {
                let what = "it does not say the object's size".to_owned();
                self.error("look at", key, S3Failure::Answer(what))
            })
    }

    /// The answer to a HEAD has no body, and 404 may be the bucket's: a read tells which.
    async fn head_by_reading(&self, key: &ObjectKey) -> Result<u64, DestinationError> {
        let answer = match self.get(key, Some("bytes=0-0".to_owned())).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.read_error("read", key, failure).await),
        };
        // It came in between.
        let total = answer.content_range().and_then(parse_content_range);
        total
            .and_then(|(_, total)| u64::try_from(total).ok())
            .ok_or_else(|| {
                let what = "it does not say the object's size".to_owned();
                self.error("look at", key, S3Failure::Answer(what))
            })
    }

    async fn read_error(
        &self,
        action: &'static str,
        key: &ObjectKey,
        failure: S3Failure,
    ) -> DestinationError {
        if failure.is_status(404) && failure.is_code("NoSuchKey") {
            return self.absent(key);
        }
        // To credentials that may list beneath a prefix only, a service refuses what is not there. The listing tells.
        if failure.is_not_allowed() && self.is_listed(key).await == Some(false) {
            return self.absent(key);
        }
        self.error(action, key, failure)
    }

    /// Whether the bucket's listing has a name; nothing when it cannot be told.
    async fn is_listed(&self, key: &ObjectKey) -> Option<bool> {
        let client = self.clients.restore().await;
        let bucket_key = self.bucket_key(key);
        // Of all names that begin with it, the name itself comes first.
        let page = within_deadline!(
            client
                .list_objects_v2()
                .bucket(&self.options.bucket)
                .prefix(&bucket_key)
                .max_keys(1)
        )
        .ok()?;
        // A page that was cut off on its way may still read as an empty one.
        page.is_truncated()?;
        let count = i32::try_from(page.contents().len()).ok();
        if page.key_count().is_some_and(|said| Some(said) != count) {
            return None;
        }
        let mut names = page.contents().iter().map(|object| object.key());
        Some(names.any(|name| name == Some(&bucket_key)))
    }

    fn past_end(&self, key: &ObjectKey, total: u64) -> DestinationError {
        DestinationError::PastEnd {
            destination: self.name.clone(),
            key: key.clone(),
            total,
        }
    }

    /// Objects of one folder after a name.
    pub(super) async fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<ObjectList, DestinationError> {
        let subject = format!("{repository}/{}", kind.folder());
        let root = format!("{}{repository}/", self.options.prefix);
        let mut walk = ListWalk {
            prefix: format!("{root}{}", kind.folder()),
            // What comes before a key that cannot be smaller than it.
            last: after
                .map(|name| format!("{root}{name}"))
                .unwrap_or_default(),
            root,
            kind,
            limit,
            found: ObjectList::default(),
        };
        for _ in 0..S3_LIST_PAGES_MAX {
            let page = self
                .list_page(&walk)
                .await
                .map_err(|failure| self.error("list", &subject, failure))?;
            let done = walk
                .take(&page)
                .map_err(|what| self.error("list", &subject, S3Failure::Answer(what)))?;
            if done {
                return Ok(walk.found);
            }
        }
        let what = format!("more than {S3_LIST_PAGES_MAX} pages of names that are no objects");
        Err(self.error("list", &subject, S3Failure::Answer(what)))
    }

    /// Pages are asked for by the last name of the one before, not by the service's own marks: those cannot lead
    /// in a circle.
    async fn list_page(
        &self,
        walk: &ListWalk,
    ) -> Result<aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output, S3Failure> {
        let list = self
            .clients
            .restore()
            .await
            .list_objects_v2()
            .bucket(&self.options.bucket)
            .prefix(&walk.prefix)
            .max_keys(walk.page_keys())
            .set_start_after((!walk.last.is_empty()).then(|| walk.last.clone()))
            .send();
        let list = tokio::time::timeout(S3_REQUEST_DEADLINE, list).await;
        list.map_err(|_| S3Failure::Timeout)?.map_err(S3Failure::of)
    }
}

/// A listing under way.
struct ListWalk {
    prefix: String,
    root: String,
    kind: ObjectKind,
    limit: usize,
    last: String,
    found: ObjectList,
}

impl ListWalk {
    /// One more than is asked for tells whether there are more; no service gives more than a thousand.
    fn page_keys(&self) -> i32 {
        i32::try_from(self.limit.saturating_add(1)).map_or(1_000, |keys| keys.min(1_000))
    }

    /// Takes a page; says whether the listing is complete.
    fn take(
        &mut self,
        page: &aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output,
    ) -> Result<bool, String> {
        // A page that was cut off on its way may still read as a shorter one.
        let more = page
            .is_truncated()
            .ok_or("a page that does not say whether more follow")?;
        let count = i32::try_from(page.contents().len()).ok();
        if page.key_count().is_some_and(|said| Some(said) != count) {
            return Err("a page with another number of names than it says".to_owned());
        }
        for object in page.contents() {
            let (Some(key), Some(bytes)) = (object.key(), object.size()) else {
                return Err("an object without a name or a size".to_owned());
            };
            if key <= self.last.as_str() {
                return Err("its names do not ascend".to_owned());
            }
            key.clone_into(&mut self.last);
            let name = key
                .strip_prefix(&self.root)
                .and_then(|name| name.parse::<ObjectName>().ok())
                .filter(|name| name.kind() == self.kind);
            let (Some(name), Ok(bytes)) = (name, u64::try_from(bytes)) else {
                continue;
            };
            if self.found.objects.len() == self.limit {
                self.found.more = true;
                return Ok(true);
            }
            self.found.objects.push((name, bytes));
        }
        if more && page.contents().is_empty() {
            return Err("an empty page that says more follow".to_owned());
        }
        Ok(!more)
    }
}

/// `bytes <first>-<last>/<total>` (RFC 9110 §14.4): the first and the total.
fn parse_content_range(text: &str) -> Option<(i64, i64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()?))
}

/// An object's bytes on their way: exactly as many as were announced.
struct Reading {
    destination: DestinationName,
    key: ObjectKey,
    body: ByteStream,
    left: u64,
    transfer: Arc<Transfer>,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, DestinationError> {
        if self.left == 0 {
            return Ok(None);
        }
        let piece = tokio::time::timeout(S3_REQUEST_DEADLINE, self.body.next()).await;
        let failure = match piece {
            Ok(Some(Ok(piece))) => match self.left.checked_sub(piece.len() as u64) {
                Some(left) => {
                    self.left = left;
                    // What is not read yet holds the service up.
                    self.transfer.take(piece.len() as u64).await;
                    return Ok(Some((piece, self)));
                }
                None => S3Failure::Answer("more bytes than it announced".to_owned()),
            },
            Ok(Some(Err(error))) => S3Failure::Connection(Box::new(error)),
            Ok(None) => S3Failure::Answer(format!("it ended {} bytes early", self.left)),
            Err(_) => S3Failure::Timeout,
        };
        Err(failure.into_error(self.destination, "read", self.key.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::parse_content_range;

    #[test]
    fn content_ranges_are_read_as_written() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, 10)));
        for text in ["bytes 5-9/*", "bytes */10", "5-9/10", "bytes 5-9", ""] {
            assert_eq!(parse_content_range(text), None, "{text}");
        }
    }
}
