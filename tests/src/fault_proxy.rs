//! An HTTP/1.1 proxy between Capstan and a real S3 server. By a plan it delays, cuts, repeats, refuses and lies, as
//! services do and what stands before them. What no rule of the plan concerns passes unchanged, its `Host` too, which
//! signatures cover. It listens on loopback and ends when dropped.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use hyper::Method;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub use answer::Answer;
pub use gate::Gate;

mod answer;
mod gate;
mod relay;

#[cfg(test)]
mod tests;

/// What a request asks of an S3 server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Stores an object.
    Put,
    /// Reads an object.
    Get,
    /// Looks at an object.
    Head,
    /// Lists objects.
    List,
    /// Removes an object.
    Delete,
    /// Anything about a bucket, or about an object's facts.
    Other,
}

impl Operation {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Put,
        Self::Get,
        Self::Head,
        Self::List,
        Self::Delete,
        Self::Other,
    ];
}

/// How a request fails.
#[derive(Clone)]
pub enum Fault {
    /// It passes after this time.
    Delay(Duration),
    /// It passes once the gate is open.
    HoldBefore(Gate),
    /// The server does what is asked, and it is answered once the gate is open.
    HoldAfter(Gate),
    /// The connection is cut before the server hears of it.
    CutBefore,
    /// The connection is cut once the server has so many bytes of the request's body.
    CutInRequest(usize),
    /// The server does what is asked, and the connection is cut before it is answered.
    CutAfter,
    /// The answer says its true length, and the connection is cut after so many bytes of it.
    CutInAnswer(usize),
    /// The answer has this status and a body that never ends; its length is said to be this, if anything.
    Endless(u16, Option<u64>),
    /// The server is asked twice, and the second answer counts.
    Repeat,
    /// The server does not see `If-None-Match`.
    Unconditional,
    /// This is answered, and the server never asked.
    Answer(Answer),
    /// What this makes of the request's path and query is answered, and the server never asked.
    Make(Arc<dyn Fn(&str) -> Answer + Send + Sync>),
    /// The server's answer is changed.
    Edit(Arc<dyn Fn(&mut Answer) + Send + Sync>),
}

impl Fault {
    /// Changes the server's answer.
    pub fn edit(change: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(change))
    }

    /// Answers in the server's place.
    pub fn make(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::Make(Arc::new(answer))
    }

    /// Refuses with one of the protocol's errors.
    pub fn refuse(status: u16, code: &str) -> Self {
        Self::Answer(Answer::refusal(status, code))
    }
}

/// Which requests a fault befalls: by default every one of an operation.
#[derive(Debug, Clone)]
pub struct Which {
    operation: Operation,
    part: String,
    skip: u64,
    times: u64,
}

impl Which {
    /// All of an operation.
    pub fn all(operation: Operation) -> Self {
        Self {
            operation,
            part: String::new(),
            skip: 0,
            times: u64::MAX,
        }
    }

    /// Only those whose path and query contain this.
    pub fn with(mut self, part: &str) -> Self {
        part.clone_into(&mut self.part);
        self
    }

    /// Not the first so many.
    pub fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// No more than so many.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Whether a request is one of them, which is counted.
    fn takes(&mut self, operation: Operation, target: &str) -> bool {
        if operation != self.operation || !target.contains(&self.part) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let left = self.times > 0;
        self.times = self.times.saturating_sub(1);
        left
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    server: SocketAddr,
    plan: Mutex<Vec<(Which, Fault)>>,
    seen: Mutex<Vec<(Operation, String)>>,
    struck: AtomicU64,
    endless_bytes: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl FaultProxy {
    /// Listens on a free loopback port before `server`.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            plan: Mutex::new(Vec::new()),
            seen: Mutex::new(Vec::new()),
            struck: AtomicU64::new(0),
            endless_bytes: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        runtime.spawn(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => accept(listener, accepting).await,
                Err(error) => eprintln!("the fault proxy cannot listen: {error}"),
            }
        });
        Ok(Self {
            address,
            shared,
            runtime: Some(runtime),
        })
    }

    /// Its address, to use in place of the server's.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a rule. The first that takes a request decides.
    pub fn plan(&self, which: Which, fault: Fault) {
        lock(&self.shared.plan).push((which, fault));
    }

    /// From now on everything passes.
    pub fn forget_plan(&self) {
        lock(&self.shared.plan).clear();
    }

    /// How many requests met with a fault so far.
    pub fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::SeqCst)
    }

    /// How many requests of an operation came whose path and query contain this.
    pub fn seen(&self, operation: Operation, part: &str) -> usize {
        let seen = lock(&self.shared.seen);
        let wanted = seen
            .iter()
            .filter(|(of, target)| *of == operation && target.contains(part));
        wanted.count()
    }

    /// How many bytes of endless bodies were taken from it so far, those in buffers included.
    pub fn endless_bytes(&self) -> u64 {
        self.shared.endless_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    /// Notes a request and says what befalls it.
    fn befalls(&self, operation: Operation, target: &str) -> Option<Fault> {
        lock(&self.seen).push((operation, target.to_owned()));
        let mut plan = lock(&self.plan);
        let rule = plan
            .iter_mut()
            .find_map(|(which, fault)| which.takes(operation, target).then(|| fault.clone()));
        if rule.is_some() {
            self.struck.fetch_add(1, Ordering::SeqCst);
        }
        rule
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| relay::serve(Arc::clone(&shared), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // A connection that was cut on purpose ends with an error, and so does one that the client gave up.
            drop(connection.await);
        });
    }
}

/// What a request asks for, by its method and target as they stand with path-style addresses.
fn operation(method: &Method, target: &str) -> Operation {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if query.contains("list-type=2") {
        return Operation::List;
    }
    let of_object = path.trim_start_matches('/').contains('/');
    let plain = query.is_empty() || query.starts_with("x-id=");
    match method.as_str() {
        "PUT" if of_object && plain => Operation::Put,
        "GET" if of_object && plain => Operation::Get,
        "HEAD" if of_object => Operation::Head,
        "DELETE" if of_object => Operation::Delete,
        _ => Operation::Other,
    }
}
