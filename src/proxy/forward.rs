//! *Choose*, *connect*, *send*, *receive*: one request to one of a service's servers.
//!
//! What always holds: a server that cannot be reached is tried once, then the next one is; once
//! something of a request was sent, it is sent again only if the connection was used before, ended
//! without a byte of an answer, and the request has no body and an idempotent method (RFC 9110, 9.2.2).

use super::connection::Client;
use super::finish::{Borrowed, Finish};
use super::hop;
use super::routes::BoundService;
use crate::http::{Body, Exchange, HeaderValue, Made, Reason, StatusCode, Transfer, UploadFailure};
use crate::upstream::{Answer, ConnectError, Connection, Pool, SendError};
use smallvec::SmallVec;
use std::time::Duration;
use tokio::time::Instant;

/// A server's answer and the connection that its body comes by.
pub(super) struct Received {
    pub(super) answer: Answer,
    pub(super) borrowed: Borrowed,
}

/// Asks servers until one answers.
///
/// # Errors
/// The answer that the proxy makes when none does.
pub(super) async fn run(
    client: &Client,
    exchange: &Exchange,
    service: &BoundService,
    upgrade: Option<&HeaderValue>,
    mut body: Body,
    finish: &mut Finish,
) -> Result<Received, Made> {
    let worker = &client.open.worker;
    let mut tried: SmallVec<[usize; 4]> = SmallVec::new();
    let mut last = gateway(StatusCode::BAD_GATEWAY, Reason::ConnectFailed);
    let begun = Instant::now();
    'servers: loop {
        let chosen = service.choose(exchange.peer.ip(), &tried, &worker.registry);
        let Some(at) = chosen else { return Err(last) };
        let server = &service.servers[at];
        let settings = server.pool.settings();
        // Servers that do not answer the knock may not cost more than one's time-out together.
        if !tried.is_empty() && !settings.dial_timeout.is_zero() && begun.elapsed() >= settings.dial_timeout {
            return Err(last);
        }
        let host = exchange.host_for(service.service.pass_host_header, &server.authority);
        let in_flight = server.pool.enter();
        let mut kept = server.pool.take(Instant::now());
        finish.server = Some(at);
        // At most two rounds: on a connection that was used before, then on a fresh one.
        loop {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => match connect(client, &server.pool).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        last = made_of(&error);
                        tried.push(at);
                        finish.retries += 1;
                        continue 'servers;
                    }
                },
            };
            finish.sent.get_or_insert_with(std::time::Instant::now);
            let reused = connection.reused();
            let repeatable = reused && body.is_empty() && exchange.request.method.is_idempotent();
            let headers = hop::for_server(exchange, client.peer_text.as_ref(), host.clone(), upgrade, &body);
            let uri = uri(exchange).ok_or_else(Made::bad_request)?;
            let method = exchange.request.method.clone();
            let sending = connection.send(method, uri, headers, std::mem::take(&mut body));
            let transfer = finish.transfer.as_deref();
            let Some(result) = in_time(settings.response_header_timeout, transfer, sending).await else {
                return Err(gateway(StatusCode::GATEWAY_TIMEOUT, Reason::HeadTimeout));
            };
            match result {
                Ok(answer) => {
                    server.pool.state().reachable();
                    return Ok(Received { answer, borrowed: Borrowed { connection, in_flight } });
                }
                Err(SendError::Unsent(unsent)) => {
                    body = unsent;
                    if !reused {
                        last = gateway(StatusCode::BAD_GATEWAY, Reason::ResetBeforeAnswer);
                        tried.push(at);
                        finish.retries += 1;
                        continue 'servers;
                    }
                }
                Err(SendError::Silent(_)) if repeatable => {}
                Err(error) => return Err(failed(client, &error, transfer)),
            }
            finish.retries += 1;
        }
    }
}

async fn connect(client: &Client, pool: &Pool) -> Result<Connection, ConnectError> {
    let result = pool.connect().await;
    match &result {
        Ok(_) => pool.state().reachable(),
        Err(error) => {
            if !error.is_ours() {
                pool.state().unreachable(client.open.worker.registry.millis(std::time::Instant::now()));
            }
            tracing::debug!(server = %pool.state().id().url, %error, "server not reached");
        }
    }
    result
}

fn uri(exchange: &Exchange) -> Option<::http::Uri> {
    match exchange.request.request_uri() {
        std::borrow::Cow::Borrowed(_) => Some(exchange.request.sent().clone().into()),
        std::borrow::Cow::Owned(uri) => ::http::uri::PathAndQuery::try_from(uri).ok().map(Into::into),
    }
}

/// Waits for an answer's head; the time runs from the last byte of the request that moved.
async fn in_time<T>(limit: Duration, transfer: Option<&Transfer>, sending: impl Future<Output = T>) -> Option<T> {
    if limit.is_zero() {
        return Some(sending.await);
    }
    let mut sending = std::pin::pin!(sending);
    let mut until = Instant::now() + limit;
    loop {
        if let Ok(result) = tokio::time::timeout_at(until, &mut sending).await {
            return Some(result);
        }
        match transfer.map(|transfer| transfer.moved.get() + limit) {
            Some(later) if later > until => until = later,
            _ => return None,
        }
    }
}

fn gateway(status: StatusCode, reason: Reason) -> Made {
    Made::status(status, reason)
}

fn made_of(error: &ConnectError) -> Made {
    match error {
        ConnectError::Refused => gateway(StatusCode::BAD_GATEWAY, Reason::ConnectRefused),
        ConnectError::TimedOut(_) => gateway(StatusCode::GATEWAY_TIMEOUT, Reason::ConnectTimeout),
        ConnectError::Unresolved(_)
        | ConnectError::Failed(_)
        | ConnectError::Tls(_)
        | ConnectError::NoTls(_)
        | ConnectError::NotHttp2(_)
        | ConnectError::NoStreams => gateway(StatusCode::BAD_GATEWAY, Reason::ConnectFailed),
    }
}

fn failed(client: &Client, error: &SendError, transfer: Option<&Transfer>) -> Made {
    tracing::debug!(entry_point = %client.open.entry.name, %error, "no answer");
    // A request that broke off on the client's side is not the server's failure.
    match transfer.and_then(|transfer| transfer.failure.get()) {
        Some(UploadFailure::Stalled) => {
            return Made::status(StatusCode::REQUEST_TIMEOUT, Reason::RequestTimeout).closing();
        }
        Some(UploadFailure::Broken) => return Made::bad_request(),
        Some(UploadFailure::Gone) => return super::finish::client_gone(),
        None => {}
    }
    match error {
        SendError::Malformed(_) => gateway(StatusCode::BAD_GATEWAY, Reason::BadAnswer),
        SendError::Body(_) => Made::bad_request(),
        SendError::Unsent(_) | SendError::Silent(_) => gateway(StatusCode::BAD_GATEWAY, Reason::ResetBeforeAnswer),
    }
}

/// Whether an answer switches to the protocol that was asked for.
pub(super) fn switches(asked: Option<&HeaderValue>, answered: Option<&HeaderValue>) -> bool {
    match (asked, answered) {
        (Some(asked), Some(answered)) => asked.as_bytes().eq_ignore_ascii_case(answered.as_bytes()),
        _ => false,
    }
}
