//! Brings one message to one target, whatever kind that is.

use bytes::Bytes;
use http::HeaderName;
use serde_json::json;

use crate::config::notify_settings::{Endpoint, Target, Way};
use crate::notify::alert::{Level, Message};
use crate::notify::command::{self, CommandError};
use crate::notify::http::{Extra, HttpError, Poster};
use crate::notify::mail::{self, MailError};
use crate::notify::secret::{FetchError, fetch};

const JSON: &str = "application/json";
/// Where a secret goes in a URL.
const PLACEHOLDER: &str = "{secret}";
/// The longest text that ntfy takes as a message, and not as a file.
const NTFY_BYTES_MAX: usize = 4_000;

/// A message was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The secret.
    #[error(transparent)]
    Secret(#[from] FetchError),
    /// Over HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// By mail.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// To a program.
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl DeliverError {
    /// Whether the target refused this message for what it is, for good: it may take the next one. What a program thinks is not
    /// known.
    pub fn is_of_the_message(&self) -> bool {
        match self {
            Self::Http(error) => error.is_of_what_was_posted(),
            Self::Mail(error) => matches!(error, MailError::Refused { .. }),
            Self::Secret(_) | Self::Command(_) => false,
        }
    }
}

/// What a dead-man switch is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    /// The daemon began.
    Start,
    /// All is well.
    Success,
    /// It is not.
    Fail,
}

/// Delivers a message; it is taken when this returns.
pub async fn deliver(
    target: &Target,
    message: &Message,
    coordinator: &str,
    poster: &Poster,
) -> Result<(), DeliverError> {
    let json = Bytes::from(message.json.to_string());
    match &target.way {
        Way::Mail(mail) => mail::send(mail, message, coordinator).await?,
        Way::Webhook(endpoint) => {
            let (url, extra) = with_secret(endpoint).await?;
            poster.post(&url, JSON, json, &extra).await?;
        }
        Way::Ntfy(endpoint) => {
            let (url, extra) = with_secret(endpoint).await?;
            let (server, topic) = url
                .trim_end_matches('/')
                .rsplit_once('/')
                .unwrap_or((url.as_str(), ""));
            let end = message.body.floor_char_boundary(NTFY_BYTES_MAX);
            let body = json!({
                "topic": topic,
                "title": format!("{coordinator}: {}", message.title),
                "message": message.body.get(..end),
                "priority": priority(message.level),
            });
            let body = Bytes::from(body.to_string());
            poster
                .post(&format!("{server}/"), JSON, body, &extra)
                .await?;
        }
        Way::Gotify(endpoint) => {
            let (url, extra) = with_secret(endpoint).await?;
            let body = json!({
                "title": format!("{coordinator}: {}", message.title),
                "message": message.body,
                "priority": 2 * priority(message.level) - 2,
            });
            let extra = Extra {
                header: extra
                    .bearer
                    .map(|secret| (HeaderName::from_static("x-gotify-key"), secret)),
                bearer: None,
                is_secret_in_url: extra.is_secret_in_url,
            };
            let url = format!("{}/message", url.trim_end_matches('/'));
            let body = Bytes::from(body.to_string());
            poster.post(&url, JSON, body, &extra).await?;
        }
        Way::Command { run, timeout } => {
            command::run(run, &json, timeout.duration()).await?;
        }
        Way::Ping { endpoint, .. } => {
            let told = match message.level {
                Level::Critical => Ping::Fail,
                Level::Ok | Level::Warning => Ping::Success,
            };
            ping(endpoint, told, poster).await?;
        }
    }
    Ok(())
}

/// Calls a dead-man switch.
pub async fn ping(endpoint: &Endpoint, told: Ping, poster: &Poster) -> Result<(), DeliverError> {
    let (url, extra) = with_secret(endpoint).await?;
    let url = url.trim_end_matches('/');
    let url = match told {
        Ping::Start => format!("{url}/start"),
        Ping::Success => url.to_owned(),
        Ping::Fail => format!("{url}/fail"),
    };
    let text = "text/plain; charset=utf-8";
    poster.post(&url, text, Bytes::new(), &extra).await?;
    Ok(())
}

fn priority(level: Level) -> u8 {
    match level {
        Level::Ok => 3,
        Level::Warning => 4,
        Level::Critical => 5,
    }
}

/// The URL with the secret in its place, or the secret beside it.
async fn with_secret(endpoint: &Endpoint) -> Result<(String, Extra), FetchError> {
    let Some(source) = &endpoint.secret else {
        return Ok((endpoint.url.clone(), Extra::default()));
    };
    let secret = fetch(source).await?;
    match endpoint.url.contains(PLACEHOLDER) {
        true => {
            let url = endpoint.url.replace(PLACEHOLDER, &secret);
            let extra = Extra {
                is_secret_in_url: true,
                ..Extra::default()
            };
            Ok((url, extra))
        }
        false => {
            let extra = Extra {
                bearer: Some(secret),
                ..Extra::default()
            };
            Ok((endpoint.url.clone(), extra))
        }
    }
}
