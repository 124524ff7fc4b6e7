//! What is answered to whom. Looks a request's token up each time, so that one that was taken away is not good any more.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use jiff::SignedDuration;
use serde::Serialize;
use tokio::sync::watch;

use crate::catalog::state::State;
use crate::coordinator::Coordinator;
use crate::daemon::health::Health;
use crate::database::DatabaseError;
use crate::listener::failures::Failures;
use crate::listener::metrics::{Figures, write_metrics};
use crate::listener::requests::Requests;
use crate::listener::token::{Refused, Scope, Token, allowed};
use crate::scan::known::scanned;
use crate::status::json::{DestinationJson, HostStatusJson};
use crate::status::severity::{Severity, severity};
use crate::status::{DestinationLag, fleet_status, host_status};

/// How long the append-server may take to say how destinations are doing.
const DESTINATIONS_DEADLINE: Duration = Duration::from_secs(5);
/// When a token was used is noted to the minute.
const USE_NOTED_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// Where answers come from.
#[derive(Debug)]
pub struct Answers {
    /// With the configuration in force.
    coordinator: watch::Receiver<Arc<Coordinator>>,
    /// How the daemon is.
    health: Health,
    requests: Requests,
    /// Who failed to show a token.
    failures: Mutex<Failures>,
}

type Answer = Response<Full<Bytes>>;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Healthz,
    Host(String),
    Metrics,
    Status,
}

impl Asked {
    fn read(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Healthz),
            "/metrics" => Some(Self::Metrics),
            "/v1/status" => Some(Self::Status),
            // Host names have no character that would be escaped in a path.
            _ => path
                .strip_prefix("/health/host/")
                .map(|name| Self::Host(name.to_owned())),
        }
    }

    fn scope(&self) -> Option<Scope> {
        match self {
            Self::Healthz => None,
            Self::Host(_) => Some(Scope::Health),
            Self::Metrics => Some(Scope::Metrics),
            Self::Status => Some(Scope::Status),
        }
    }
}

/// What `/healthz` says.
#[derive(Debug, Serialize)]
struct Healthz {
    status: &'static str,
    /// The names of what is down, and nothing more of it: whoever asks shows no token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    down: Vec<&'static str>,
}

/// What `/health/host/NAME` says.
#[derive(Debug, Serialize)]
struct HostHealth {
    healthy: bool,
    severity: &'static str,
    #[serde(flatten)]
    status: HostStatusJson,
}

/// What `/v1/status` says.
#[derive(Debug, Serialize)]
struct Fleet {
    hosts: Vec<HostHealth>,
    destinations: Vec<DestinationJson>,
}

impl Answers {
    /// Answers from what a coordinator knows, and how the daemon is.
    pub fn of(coordinator: watch::Receiver<Arc<Coordinator>>, health: Health) -> Self {
        Self {
            coordinator,
            health,
            requests: Requests::default(),
            failures: Mutex::default(),
        }
    }

    fn current(&self) -> Arc<Coordinator> {
        Arc::clone(&self.coordinator.borrow())
    }

    /// The answer to a request from an address.
    pub async fn answer<B>(self: &Arc<Self>, request: Request<B>, from: IpAddr) -> Answer {
        let answer = self.find_answer(request, from).await;
        self.requests.note(answer.status());
        answer
    }

    async fn find_answer<B>(self: &Arc<Self>, request: Request<B>, from: IpAddr) -> Answer {
        let Some(asked) = Asked::read(request.uri().path()) else {
            return plain(StatusCode::NOT_FOUND, "there is nothing here\n");
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            let allow = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(ALLOW, allow);
            return refused;
        }
        let (this, token) = (Arc::clone(self), bearer(&request));
        // Whoever has no good token causes no work beyond this.
        let refused = match asked.scope() {
            Some(scope) => in_background(move || this.refuse(token.as_ref(), scope, from)).await,
            None => None,
        };
        if let Some(refused) = refused {
            return refused;
        }
        let destinations = match asked {
            Asked::Metrics | Asked::Status => self.destinations().await,
            Asked::Healthz | Asked::Host(_) => Vec::new(),
        };
        let this = Arc::clone(self);
        let found = in_background(move || this.look_up(&asked, &destinations).map(Some)).await;
        found.unwrap_or_else(unhealthy)
    }

    async fn destinations(&self) -> Vec<DestinationLag> {
        let current = self.current();
        let asking = current.storage.destinations();
        match tokio::time::timeout(DESTINATIONS_DEADLINE, asking).await {
            Ok(Ok(states)) => states.into_iter().map(DestinationLag::from).collect(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the append-server does not say how destinations are");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    fn look_up(
        &self,
        asked: &Asked,
        destinations: &[DestinationLag],
    ) -> Result<Answer, DatabaseError> {
        let current = self.current();
        let (config, now) = (&current.config, current.clock.now());
        let state = State::open(&current.state_dir.state_file())?;
        match asked {
            Asked::Healthz => Ok(self.healthz()),
            Asked::Host(name) => {
                let Ok(host) = config.host(name) else {
                    return Ok(plain(StatusCode::NOT_FOUND, "there is no such host\n"));
                };
                let status = host_status(&state, &current.state_dir, host, now)?;
                let severity = severity(&status);
                let health = HostHealth::of(severity, HostStatusJson::of(&status, now));
                let code = match health.healthy {
                    true => StatusCode::OK,
                    false => StatusCode::SERVICE_UNAVAILABLE,
                };
                Ok(json(code, &health))
            }
            Asked::Metrics => {
                let hosts = fleet_status(&state, config, now)?;
                let text = write_metrics(&Figures {
                    hosts: &hosts,
                    destinations,
                    scanned: &scanned(&state, &current)?,
                    requests: &self.requests.counts(),
                });
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                Ok(respond(StatusCode::OK, content_type, text.into()))
            }
            Asked::Status => {
                let hosts = fleet_status(&state, config, now)?.into_iter();
                let fleet = Fleet {
                    hosts: hosts
                        .map(|status| {
                            let shown = HostStatusJson::of(&status, now);
                            HostHealth::of(severity(&status), shown)
                        })
                        .collect(),
                    destinations: destinations.iter().map(DestinationJson::from).collect(),
                };
                Ok(json(StatusCode::OK, &fleet))
            }
        }
    }

    fn healthz(&self) -> Answer {
        let down = self.health.down(Instant::now());
        match down.is_empty() {
            true => json(StatusCode::OK, &Healthz { status: "ok", down }),
            false => failing(down),
        }
    }

    /// The refusal, unless the token allows what is asked. A good token is heard whatever others at its address do.
    fn refuse(
        &self,
        token: Option<&Token>,
        scope: Scope,
        from: IpAddr,
    ) -> Result<Option<Answer>, DatabaseError> {
        let current = self.current();
        let now = current.clock.now();
        let mut state = State::open(&current.state_dir.state_file())?;
        let known = state.tokens()?;
        let refused = match allowed(&known, token, scope, from, now) {
            Ok(row) => {
                let noted = row
                    .last_used
                    .is_some_and(|used| now.duration_since(used).abs() < USE_NOTED_EVERY);
                if !noted {
                    state.token_used(&row.name, now)?;
                }
                return Ok(None);
            }
            Err(refused) => refused,
        };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait_secs) = failures.blocked(from, now) {
            let mut answer = plain(StatusCode::TOO_MANY_REQUESTS, "too many bad tokens\n");
            answer.headers_mut().insert(RETRY_AFTER, wait_secs.into());
            return Ok(Some(answer));
        }
        failures.note(from, now);
        tracing::warn!(%from, %scope, "a request without a good token");
        Ok(Some(match refused {
            Refused::Unknown => {
                let mut answer = plain(StatusCode::UNAUTHORIZED, "a good token is needed\n");
                let challenge = HeaderValue::from_static("Bearer");
                answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                answer
            }
            Refused::Forbidden => plain(
                StatusCode::FORBIDDEN,
                "the token is not good for this, or not from here\n",
            ),
        }))
    }
}

impl HostHealth {
    fn of(severity: Severity, status: HostStatusJson) -> Self {
        Self {
            healthy: severity != Severity::Critical,
            severity: severity.as_str(),
            status,
        }
    }
}

/// Looks at the state on a thread that may wait for it. What fails there is told, and makes the listener unhealthy.
async fn in_background(
    work: impl FnOnce() -> Result<Option<Answer>, DatabaseError> + Send + 'static,
) -> Option<Answer> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the listener cannot read the state");
            Some(unhealthy())
        }
        Err(error) => {
            tracing::error!(%error, "an answer was ended");
            Some(unhealthy())
        }
    }
}

fn bearer<B>(request: &Request<B>) -> Option<Token> {
    let mut given = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (given.next(), given.next()) else {
        return None;
    };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Token::read(token.trim()),
        false => None,
    }
}

fn unhealthy() -> Answer {
    failing(Vec::new())
}

fn failing(down: Vec<&'static str>) -> Answer {
    let status = "failing";
    let code = StatusCode::SERVICE_UNAVAILABLE;
    json(code, &Healthz { status, down })
}

fn plain(code: StatusCode, text: &'static str) -> Answer {
    let content_type = "text/plain; charset=utf-8";
    respond(code, content_type, Bytes::from_static(text.as_bytes()))
}

fn json(code: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            respond(code, "application/json", text.into())
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "no answer\n")
        }
    }
}

fn respond(code: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    answer
}
