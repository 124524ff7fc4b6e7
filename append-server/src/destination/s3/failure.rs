//! What an S3 service's failures mean: passing or lasting, and what to do about them. What a service wrote is cut and
//! escaped before anybody sees it.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::destination::{BackendError, DestinationError, DestinationName, Outlook, peer_words};

/// Codes of failures that pass, whatever their status: too much at once, and bytes damaged or cut on their way.
const PASSING: [&str; 7] = [
    "RequestTimeout",
    "SlowDown",
    "InternalError",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "IncompleteBody",
];

/// An S3 destination cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The authorities to trust.
    #[error("could not read the certificates in {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The authorities to trust.
    #[error("could not use the certificates to trust")]
    Tls(#[source] BackendError),
}

/// A request to the service did not do what was asked.
#[derive(Debug)]
pub(super) enum S3Failure {
    /// The service said no.
    Refused {
        status: u16,
        /// Its code for it; nothing where it gave none, as for every HEAD.
        code: String,
        message: String,
        /// Where the bucket is, when it is somewhere else.
        region: Option<String>,
    },
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Connection(BackendError),
    /// The answer makes no sense.
    Answer(String),
    /// The request could not even be made.
    Request(BackendError),
}

impl S3Failure {
    pub(super) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(refusal) => {
                let raw = refusal.raw();
                // Success, with a body that is neither the answer nor an error: cut on its way, or not the service's.
                if raw.status().is_success() && refusal.err().code().is_none() {
                    return Self::Answer("it is not what this protocol answers with".to_owned());
                }
                let region = raw.headers().get("x-amz-bucket-region").map(peer_words);
                Self::Refused {
                    status: raw.status().as_u16(),
                    code: peer_words(refusal.err().code().unwrap_or_default()),
                    message: peer_words(refusal.err().message().unwrap_or_default()),
                    region,
                }
            }
            SdkError::TimeoutError(_) => Self::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::Timeout,
            SdkError::DispatchFailure(failure) => {
                let impossible = failure.is_user();
                let error: SdkError<E, HttpResponse> = SdkError::DispatchFailure(failure);
                let source = error.into_source().unwrap_or_else(Into::into);
                if impossible {
                    Self::Request(source)
                } else {
                    Self::Connection(source)
                }
            }
            SdkError::ResponseError(error) => {
                let status = error.raw().status().as_u16();
                // A refusal whose body is no error of this protocol: of a proxy, for one.
                if (300..600).contains(&status) {
                    return Self::status(status);
                }
                Self::Connection(SdkError::<E, HttpResponse>::ResponseError(error).into())
            }
            other => Self::Request(other.into()),
        }
    }

    fn status(status: u16) -> Self {
        Self::Refused {
            status,
            code: String::new(),
            message: String::new(),
            region: None,
        }
    }

    pub(super) fn is_status(&self, expected: u16) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == expected)
    }

    pub(super) fn is_code(&self, expected: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == expected)
    }

    /// Whether the service has said no, so that nothing was done.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if (300..500).contains(status))
    }

    /// Whether the credentials themselves are not valid, whatever was asked.
    pub(super) fn is_of_credentials(&self) -> bool {
        const CODES: [&str; 7] = [
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidToken",
            "ExpiredToken",
            "TokenRefreshRequired",
            "RequestTimeTooSkewed",
            "AuthorizationHeaderMalformed",
        ];
        CODES.iter().any(|code| self.is_code(code))
    }

    /// Whether the credentials may not do what was asked.
    pub(super) fn is_not_allowed(&self) -> bool {
        self.is_status(403) || self.is_code("AccessDenied")
    }

    /// Whether the service does not know what was asked at all.
    pub(super) fn is_not_implemented(&self) -> bool {
        self.is_status(501) || self.is_code("NotImplemented")
    }

    fn is_full(&self) -> bool {
        const CODES: [&str; 5] = [
            "QuotaExceeded",
            "XMinioStorageFull",
            "XMinioAdminBucketQuotaExceeded",
            "InsufficientCapacity",
            "ServiceQuotaExceeded",
        ];
        self.is_status(507) || CODES.iter().any(|code| self.is_code(code))
    }

    fn outlook(&self) -> Outlook {
        match self {
            Self::Refused { .. } if self.is_full() => Outlook::Full,
            Self::Refused { status, code, .. } => {
                // 409: another conditional write of this name is under way (ConditionalRequestConflict).
                let conflict = *status == 409
                    && ["ConditionalRequestConflict", "OperationAborted", ""]
                        .contains(&code.as_str());
                let passes = matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
                    || conflict
                    || PASSING.contains(&code.as_str());
                if passes {
                    Outlook::Passes
                } else {
                    Outlook::Lasts
                }
            }
            Self::Timeout | Self::Connection(_) | Self::Answer(_) => Outlook::Passes,
            Self::Request(_) => Outlook::Lasts,
        }
    }

    pub(super) fn into_error(
        self,
        destination: DestinationName,
        action: &'static str,
        subject: String,
    ) -> DestinationError {
        DestinationError::judged(self.outlook(), destination, action, subject, Box::new(self))
    }

    /// What a person can do about a refusal.
    fn remedy(&self) -> &'static str {
        let Self::Refused { status, code, .. } = self else {
            return "";
        };
        match (code.as_str(), status) {
            ("RequestTimeTooSkewed", _) => {
                "; this machine's clock and the service's differ by too much: set this machine's"
            }
            ("NoSuchBucket", _) => "; make the bucket, or mend its name",
            ("InvalidAccessKeyId" | "SignatureDoesNotMatch", _) => {
                "; look at access_key_id, secret_key and region"
            }
            ("ExpiredToken" | "TokenRefreshRequired", _) => "; the credentials have expired",
            ("InvalidObjectState", _) => "; it is in cold storage and must be thawed first",
            (_, 300..=399) => {
                "; it sends us elsewhere, where Capstan does not follow: mend endpoint and region"
            }
            (_, 401 | 403) => {
                "; the credentials do not allow it: look at their policy and the bucket's"
            }
            _ => "",
        }
    }
}

impl fmt::Display for S3Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused {
                status,
                code,
                message,
                region,
            } => {
                write!(f, "the service answered {status}")?;
                for part in [code, message] {
                    if !part.is_empty() {
                        write!(f, " {part}")?;
                    }
                }
                if let Some(region) = region {
                    write!(f, " (the bucket is in region {region})")?;
                }
                f.write_str(self.remedy())
            }
            Self::Timeout => f.write_str("the service did not answer in time"),
            Self::Connection(_) => f.write_str("the connection to the service failed"),
            Self::Answer(what) => write!(f, "the service's answer cannot be used: {what}"),
            Self::Request(_) => f.write_str("the request could not be made"),
        }
    }
}

impl Error for S3Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connection(source) | Self::Request(source) => Some(source.as_ref()),
            Self::Refused { .. } | Self::Timeout | Self::Answer(_) => None,
        }
    }
}
