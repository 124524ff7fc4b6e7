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
use crate::listener::looks::{Looked, Looks};
use crate::listener::metrics::{Figures, write_metrics};
use crate::listener::requests::Requests;
use crate::listener::token::{Refused, Scope, Token, allowed};
use crate::scan::known::scanned;
use crate::status::json::{DestinationJson, HostStatusJson};
use crate::status::severity::{Severity, severity};
use crate::status::{DestinationLag, fleet_status, host_status};

/// How long the append-server may take to say how destinations are doing.
const DESTINATIONS_DEADLINE: Duration = Duration::from_secs(5);
/// How long the state may take to open for `/healthz`, and for everything else.
const STATE_DEADLINE: Duration = Duration::from_secs(3);
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// The most looks at the state at once, for whoever asks: also without a token, which the state must say is none.
const LOOKS_MAX: usize = 4;
/// What everybody may ask, without a token.
const HEALTHZ: &str = "/healthz";
/// What the state is called among what is down.
const STATE: &str = "state";
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
    /// Held by the one look at the state for `/healthz`: one that hangs takes up one thread, however often somebody asks.
    looking: Arc<tokio::sync::Mutex<()>>,
    /// Everything else that looks at the state.
    looks: Looks,
    /// Who failed to show a token.
    failures: Mutex<Failures>,
}

type Answer = Response<Full<Bytes>>;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Host(String),
    Metrics,
    Status,
}

impl Asked {
    fn read(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Metrics),
            "/v1/status" => Some(Self::Status),
            // Host names have no character that would be escaped in a path.
            _ => path
                .strip_prefix("/health/host/")
                .map(|name| Self::Host(name.to_owned())),
        }
    }

    fn scope(&self) -> Scope {
        match self {
            Self::Host(_) => Scope::Health,
            Self::Metrics => Scope::Metrics,
            Self::Status => Scope::Status,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
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
            looking: Arc::default(),
            looks: Looks::new(LOOKS_MAX, ANSWER_DEADLINE),
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
        let path = request.uri().path();
        let asked = Asked::read(path);
        if asked.is_none() && path != HEALTHZ {
            return plain(StatusCode::NOT_FOUND, "there is nothing here\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            let allow = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(ALLOW, allow);
            return refused;
        }
        let Some(asked) = asked else {
            return self.healthz().await;
        };
        let (this, token, scope) = (Arc::clone(self), bearer(&request), asked.scope());
        // Whoever has no good token causes no work beyond this.
        let refuse = move || this.refuse(token.as_ref(), scope, from);
        let refused = answer_of(self.looks.look(refuse).await);
        if let Some(refused) = refused {
            return refused;
        }
        let destinations = match asked {
            Asked::Metrics | Asked::Status => self.destinations().await,
            Asked::Host(_) => Vec::new(),
        };
        let this = Arc::clone(self);
        let look_up = move || this.look_up(&asked, &destinations).map(Some);
        let found = answer_of(self.looks.look(look_up).await);
        found.unwrap_or_else(|| no_state("the look at the state file was ended"))
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

    /// How the daemon is, from memory, and whether its state can be opened. Always within a deadline: whoever asks whether all
    /// is well must be told that it is not.
    async fn healthz(&self) -> Answer {
        let mut down = self.health.down(Instant::now());
        let reason = self.state_problem().await;
        down.extend(reason.map(|_| STATE));
        match down.is_empty() {
            true => answer_health(StatusCode::OK, "ok", down, reason),
            false => failing(down, reason),
        }
    }

    /// Why the state cannot be opened, if it cannot.
    async fn state_problem(&self) -> Option<&'static str> {
        let file = self.current().state_dir.state_file();
        let look = async {
            let looking = Arc::clone(&self.looking).lock_owned().await;
            tokio::task::spawn_blocking(move || {
                let _looking = looking;
                State::open(&file).map(drop)
            })
            .await
        };
        // Losing the look is safe: it ends by itself, and lets the next one begin then.
        match tokio::time::timeout(STATE_DEADLINE, look).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the state cannot be opened");
                Some("the state file cannot be opened: the daemon's log says why")
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the look at the state was ended");
                Some("the state file cannot be opened: the daemon's log says why")
            }
            Err(_) => {
                tracing::error!("the state does not open in time");
                Some("the state file does not open in time: is its disk well?")
            }
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

/// The answer that a look found, if it found one. What fails there is told, and makes the listener unhealthy.
fn answer_of(looked: Looked<Option<Answer>>) -> Option<Answer> {
    match looked {
        Looked::Done(Ok(answer)) => answer,
        Looked::Done(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the listener cannot read the state");
            Some(no_state(
                "the state file cannot be read: the daemon's log says why",
            ))
        }
        Looked::Ended(error) => {
            tracing::error!(%error, "an answer was ended");
            Some(no_state("the look at the state file was ended"))
        }
        Looked::Late => {
            tracing::error!("the listener does not get an answer from the state in time");
            Some(no_state(
                "the state file does not answer in time: is its disk well?",
            ))
        }
        Looked::NoRoom => {
            tracing::error!("as many look at the state as may, and none is done in time");
            Some(no_state(
                "too many look at the state file, and none is done in time: is its disk well?",
            ))
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

fn no_state(reason: &'static str) -> Answer {
    failing(vec![STATE], Some(reason))
}

fn failing(down: Vec<&'static str>, reason: Option<&'static str>) -> Answer {
    answer_health(StatusCode::SERVICE_UNAVAILABLE, "failing", down, reason)
}

fn answer_health(
    code: StatusCode,
    status: &'static str,
    down: Vec<&'static str>,
    reason: Option<&'static str>,
) -> Answer {
    let healthz = Healthz {
        status,
        down,
        reason,
    };
    json(code, &healthz)
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
