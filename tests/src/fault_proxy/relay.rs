//! Relays one request, or does to it what the plan says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, IF_NONE_MATCH, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::fault_proxy::{Answer, Fault, Shared, operation};

/// The most bytes of a body: tests have small objects.
const BODY_BYTES_MAX: usize = 64 << 20;
/// A piece of an endless body.
const ENDLESS_PIECE: &[u8] = &[b' '; 64 << 10];

/// Ends the connection at once; what a body or a handler fails with.
#[derive(Debug, thiserror::Error)]
#[error("cut by the plan")]
pub(super) struct Cut;

type Body = UnsyncBoxBody<Bytes, Cut>;

/// Answers a request, or ends its connection without an answer.
pub(super) async fn serve(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Cut> {
    let (parts, body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let fault = shared.befalls(operation(&parts.method, target), target);
    let server = shared.server;
    let done = match fault {
        None => relay(server, &parts, body).await,
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            relay(server, &parts, body).await
        }
        Some(Fault::HoldBefore(gate)) => {
            gate.pass().await;
            relay(server, &parts, body).await
        }
        Some(Fault::HoldAfter(gate)) => {
            let answer = relay(server, &parts, body).await;
            gate.pass().await;
            answer
        }
        Some(Fault::CutBefore) => return Err(Cut),
        Some(Fault::CutInRequest(bytes)) => {
            send_part(server, &parts, body, bytes).await;
            return Err(Cut);
        }
        Some(Fault::CutAfter) => {
            // Whatever it answered.
            drop(relay(server, &parts, body).await);
            return Err(Cut);
        }
        Some(Fault::CutInAnswer(bytes)) => match relay(server, &parts, body).await {
            Ok(answer) => return cut_in_answer(&answer, bytes),
            failed => failed,
        },
        Some(Fault::Endless(status, announced)) => return endless(shared, status, announced),
        Some(Fault::Repeat) => repeat(server, &parts, body).await,
        Some(Fault::Unconditional) => {
            let mut parts = parts.clone();
            parts.headers.remove(IF_NONE_MATCH);
            relay(server, &parts, body).await
        }
        Some(Fault::Answer(answer)) => gather(body).await.map(|_| answer),
        Some(Fault::Make(make)) => gather(body).await.map(|_| make(target)),
        Some(Fault::Edit(change)) => relay(server, &parts, body).await.map(|mut answer| {
            change(&mut answer);
            answer
        }),
    };
    match done {
        Ok(answer) => respond(&parts.method, answer),
        Err(error) => {
            eprintln!(
                "the fault proxy could not relay {} {target}: {error:#}",
                parts.method
            );
            Err(Cut)
        }
    }
}

async fn gather(body: Incoming) -> Result<Bytes> {
    let gathered = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let gathered = gathered.map_err(|error| anyhow::anyhow!(error));
    Ok(gathered.context("gathering a request")?.to_bytes())
}

async fn relay(server: SocketAddr, parts: &Parts, body: Incoming) -> Result<Answer> {
    let body = gather(body).await?;
    ask(server, parts, Full::new(body)).await
}

async fn repeat(server: SocketAddr, parts: &Parts, body: Incoming) -> Result<Answer> {
    let body = gather(body).await?;
    ask(server, parts, Full::new(body.clone())).await?;
    ask(server, parts, Full::new(body)).await
}

/// The server gets the beginning of a request's body, and then its connection ends.
async fn send_part(server: SocketAddr, parts: &Parts, body: Incoming, bytes: usize) {
    let Ok(whole) = gather(body).await else {
        return;
    };
    let part = whole.slice(..bytes.min(whole.len()));
    let pieces = [Ok(Frame::data(part)), Err(Cut)];
    // It fails by design.
    drop(ask(server, parts, StreamBody::new(stream::iter(pieces))).await);
}

/// Asks the server on a connection of its own.
async fn ask<B>(server: SocketAddr, parts: &Parts, body: B) -> Result<Answer>
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let stream = TcpStream::connect(server).await.context("connecting")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its failure shows in the answer.
    tokio::spawn(async move { drop(connection.await) });
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    request.headers_mut().clone_from(&parts.headers);
    for header in [CONNECTION, EXPECT, TRANSFER_ENCODING] {
        request.headers_mut().remove(header);
    }
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    let headers = head.headers.iter().filter_map(|(name, value)| {
        let of_connection = [CONNECTION, TRANSFER_ENCODING].contains(name);
        let of_body = *name == CONTENT_LENGTH && parts.method != Method::HEAD;
        let value = value.to_str().ok()?;
        (!of_connection && !of_body).then(|| (name.to_string(), value.to_owned()))
    });
    Ok(Answer {
        status: head.status.as_u16(),
        headers: headers.collect(),
        body,
    })
}

fn head(status: u16, headers: &[(String, String)]) -> hyper::http::response::Builder {
    let builder = Response::builder().status(status);
    headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(name, value)
    })
}

fn respond(method: &Method, answer: Answer) -> Result<Response<Body>, Cut> {
    let body = if *method == Method::HEAD {
        Bytes::new()
    } else {
        answer.body
    };
    let body = Full::new(body).map_err(|never: Infallible| match never {});
    head(answer.status, &answer.headers)
        .body(body.boxed_unsync())
        .map_err(|_| Cut)
}

fn cut_in_answer(answer: &Answer, bytes: usize) -> Result<Response<Body>, Cut> {
    let part = answer.body.slice(..bytes.min(answer.body.len()));
    let first = stream::iter([Ok(Frame::data(part))]);
    // The piece before is written out first.
    let cut = stream::once(async {
        tokio::task::yield_now().await;
        Err(Cut)
    });
    head(answer.status, &answer.headers)
        .header(CONTENT_LENGTH, answer.body.len())
        .body(StreamBody::new(first.chain(cut)).boxed_unsync())
        .map_err(|_| Cut)
}

fn endless(
    shared: Arc<Shared>,
    status: u16,
    announced: Option<u64>,
) -> Result<Response<Body>, Cut> {
    let pieces = stream::repeat_with(move || {
        shared
            .endless_bytes
            .fetch_add(ENDLESS_PIECE.len() as u64, Ordering::SeqCst);
        Ok(Frame::data(Bytes::from_static(ENDLESS_PIECE)))
    });
    let mut head = Response::builder().status(status);
    if let Some(bytes) = announced {
        head = head.header(CONTENT_LENGTH, bytes);
    }
    head.body(StreamBody::new(pieces).boxed_unsync())
        .map_err(|_| Cut)
}
