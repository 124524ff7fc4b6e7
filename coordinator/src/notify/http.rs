//! Posts to a URL, over TLS with the system's certificates where it is `https`. Follows no redirect: a secret goes where it
//! was sent.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, InvalidHeaderValue};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use zeroize::Zeroizing;

use crate::terminal::visible;

/// How long a request may take in all.
const DEADLINE: Duration = Duration::from_secs(30);
/// The most of an answer that is looked at.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// How much of it is told.
const ANSWER_CHARS_SHOWN: usize = 200;

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The system's certificates.
    #[error(
        "could not read the system's certificates: install those of the certificate authorities, in Debian ca-certificates"
    )]
    Certificates(#[source] io::Error),
    /// The URL, with the secret in its place, is none.
    #[error("the URL is none with the secret in it")]
    Url(#[from] http::uri::InvalidUri),
    /// The secret is not one that fits in a header.
    #[error("the secret does not fit into a header: it must be printable ASCII")]
    Header(#[from] InvalidHeaderValue),
    /// Nobody answered.
    #[error("{host} could not be reached")]
    Unreachable {
        /// The host.
        host: String,
        /// Why.
        source: hyper_util::client::legacy::Error,
    },
    /// Nobody answered in time.
    #[error("{host} did not answer within {} s", DEADLINE.as_secs())]
    Deadline {
        /// The host.
        host: String,
    },
    /// It said no.
    #[error("{host} answered {status}: {answer}")]
    Refused {
        /// The host.
        host: String,
        /// With what.
        status: StatusCode,
        /// What it said, shortened.
        answer: String,
    },
}

impl HttpError {
    /// Whether it was refused for what was posted, so that something else may be taken: not where somebody must show a token or
    /// pay first, where the URL, the method or the kind of what is posted is wrong, as they are the same each time, or where one
    /// only came too late or too soon.
    pub fn is_of_what_was_posted(&self) -> bool {
        let Self::Refused { status, .. } = self else {
            return false;
        };
        let is_of_the_target = matches!(
            *status,
            StatusCode::UNAUTHORIZED
                | StatusCode::PAYMENT_REQUIRED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::GONE
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
                | StatusCode::MISDIRECTED_REQUEST
                | StatusCode::UPGRADE_REQUIRED
                | StatusCode::TOO_MANY_REQUESTS
        );
        status.is_client_error() && !is_of_the_target
    }
}

/// What goes with a request.
#[derive(Debug, Default)]
pub struct Extra {
    /// Sent as `Authorization: Bearer`.
    pub bearer: Option<Zeroizing<String>>,
    /// Another header with a secret in it.
    pub header: Option<(HeaderName, Zeroizing<String>)>,
    /// There is a secret in the URL, which servers like to repeat in what they answer. As that is shown in part, so would a part
    /// of the secret be: it is not shown then.
    pub is_secret_in_url: bool,
}

/// Makes requests. Certificates are read when they are first needed: a machine without any still reaches what needs none, and
/// what needs them once there are some.
#[derive(Debug)]
pub struct Poster {
    plain: Client<HttpConnector, Full<Bytes>>,
    secure: OnceLock<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>,
}

impl Default for Poster {
    fn default() -> Self {
        Self::new()
    }
}

impl Poster {
    /// One that has read no certificates yet.
    pub fn new() -> Self {
        Self {
            plain: client_over(HttpConnector::new()),
            secure: OnceLock::new(),
        }
    }

    fn secure(&self) -> Result<&Client<HttpsConnector<HttpConnector>, Full<Bytes>>, HttpError> {
        if let Some(client) = self.secure.get() {
            return Ok(client);
        }
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(HttpError::Certificates)?
            .https_only()
            .enable_http1()
            .build();
        Ok(self.secure.get_or_init(|| client_over(connector)))
    }

    /// Posts a body, and goes on only after an answer that says it was taken.
    pub async fn post(
        &self,
        url: &str,
        content_type: &'static str,
        body: Bytes,
        extra: &Extra,
    ) -> Result<(), HttpError> {
        let uri: Uri = url.parse()?;
        let host = uri.host().unwrap_or_default().to_owned();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let agent = concat!("capstan/", env!("CARGO_PKG_VERSION"));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(agent));
        if let Some(bearer) = &extra.bearer {
            let text = Zeroizing::new(format!("Bearer {}", **bearer));
            headers.insert(AUTHORIZATION, secret_value(&text)?);
        }
        if let Some((name, secret)) = &extra.header {
            headers.insert(name, secret_value(secret)?);
        }
        let exchange = self.exchange(request, &host, extra.is_secret_in_url);
        match tokio::time::timeout(DEADLINE, exchange).await {
            Ok(done) => done,
            Err(_) => Err(HttpError::Deadline { host }),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        host: &str,
        hides_answer: bool,
    ) -> Result<(), HttpError> {
        let answer = match request.uri().scheme() == Some(&Scheme::HTTPS) {
            true => self.secure()?.request(request).await,
            false => self.plain.request(request).await,
        };
        let answer = answer.map_err(|source| HttpError::Unreachable {
            host: host.to_owned(),
            source,
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        // What cannot be read of it is not worth another error.
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes);
        let text = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
        Err(HttpError::Refused {
            host: host.to_owned(),
            status,
            answer: match hides_answer {
                true => "(not shown: the URL has a secret)".to_owned(),
                false => visible(text.trim())
                    .chars()
                    .take(ANSWER_CHARS_SHOWN)
                    .collect(),
            },
        })
    }
}

fn client_over<C>(connector: C) -> Client<C, Full<Bytes>>
where
    C: Connect + Clone,
{
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector)
}

fn secret_value(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}
