//! Answers that a fault proxy gives in a server's place, whole and gathered.

use bytes::Bytes;

/// An answer. Its length is told by itself, as the body has it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// An answer without headers.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// With another header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One of the protocol's errors.
    pub fn refusal(status: u16, code: &str) -> Self {
        Self::xml(
            status,
            &format!(
                "<Error><Code>{code}</Code><Message>The test says {code}.</Message>\
                 <Resource>/</Resource><RequestId>1</RequestId></Error>"
            ),
        )
    }

    /// An XML document.
    pub fn xml(status: u16, document: &str) -> Self {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{document}");
        Self::new(status, text).header("content-type", "application/xml")
    }

    /// A page of a listing: keys and sizes, and whether more are said to follow.
    pub fn page(keys: &[(String, u64)], truncated: bool) -> Self {
        let contents: String = keys
            .iter()
            .map(|(key, bytes)| {
                format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                     <ETag>&quot;0&quot;</ETag><Size>{bytes}</Size><StorageClass>STANDARD</StorageClass></Contents>"
                )
            })
            .collect();
        let token = if truncated {
            "<NextContinuationToken>again</NextContinuationToken>"
        } else {
            ""
        };
        let count = keys.len();
        Self::xml(
            200,
            &format!(
                "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>backups</Name>\
                 <Prefix></Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>\
                 <IsTruncated>{truncated}</IsTruncated>{contents}{token}</ListBucketResult>"
            ),
        )
    }
}
