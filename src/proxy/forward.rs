//! *Choose*, *connect*, *send*, *receive*: one request to one of a service's servers.
//!
//! What always holds: a server that cannot be reached is tried once, then the next one is; once
//! something of a request was sent, it is sent again only if the connection was used before, ended
//! without a byte of an answer, and the request has no body and an idempotent method (RFC 9110, 9.2.2).

use super::connection::Client;
use super::finish::{Borrowed, Finish, Way};
use super::hop;
use super::routes::BoundService;
use crate::http::{
    AnswerHead, Body, Exchange, HeaderValue, Headers, Made, Reason, StatusCode, Transfer, UploadFailure, h2, name,
};
use crate::upstream::{Answer, ConnectError, Connection, H2, H2Error, H2Stream, Pool, Repeatable, SendError};
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
        finish.server = Some(at);
        if let Some(http2) = server.pool.http2(upgrade.is_some()) {
            finish.sent.get_or_insert_with(std::time::Instant::now);
            let asking = Asking { client, exchange, host, pool: &server.pool, http2 };
            let result = asking.run(&mut body, finish).await;
            match result {
                Ok((answer, stream)) => {
                    server.pool.state().reachable();
                    return Ok(Received { answer, borrowed: Borrowed { way: Way::Http2(stream), in_flight } });
                }
                Err(Unanswered::Connect(error)) if matches!(*error, ConnectError::ChoseHttp1) => {}
                Err(Unanswered::Connect(error)) => {
                    not_reached(client, &server.pool, &error);
                    last = made_of(&error);
                    tried.push(at);
                    finish.retries += 1;
                    continue 'servers;
                }
                Err(Unanswered::Refused) => {
                    last = gateway(StatusCode::BAD_GATEWAY, Reason::ResetBeforeAnswer);
                    tried.push(at);
                    finish.retries += 1;
                    continue 'servers;
                }
                Err(Unanswered::Made(made)) => return Err(made),
            }
        }
        let mut kept = server.pool.take(Instant::now());
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
                    return Ok(Received { answer, borrowed: Borrowed { way: Way::Http1(connection), in_flight } });
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
        Err(error) => not_reached(client, pool, error),
    }
    result
}

fn not_reached(client: &Client, pool: &Pool, error: &ConnectError) {
    if !error.is_ours() {
        pool.state().unreachable(client.open.worker.registry.millis(std::time::Instant::now()));
    }
    tracing::debug!(server = %pool.state().id().url, %error, "server not reached");
}

/// A request on its way to a server that speaks HTTP/2.
struct Asking<'a> {
    client: &'a Client,
    exchange: &'a Exchange,
    host: &'a HeaderValue,
    pool: &'a Pool,
    http2: &'a H2<Body>,
}

/// Why an HTTP/2 server gave no answer.
enum Unanswered {
    /// It could not be reached; the body is untouched.
    Connect(std::rc::Rc<ConnectError>),
    /// It did not process the request, again and again; the body is back.
    Refused,
    /// There is nothing to be repeated.
    Made(Made),
}

/// How often a server may say of one request that it did not process it.
const REFUSALS: u32 = 3;

impl Asking<'_> {
    async fn run(&self, body: &mut Body, finish: &mut Finish) -> Result<(Answer, H2Stream<Body>), Unanswered> {
        let limit = self.pool.settings().response_header_timeout;
        let fields = hop::for_server(self.exchange, self.client.peer_text.as_ref(), self.host.clone(), None, body);
        let head = self.head(fields).ok_or_else(|| Unanswered::Made(Made::bad_request()))?;
        let empty = body.is_empty();
        let said = Repeatable::new(std::mem::take(body));
        let mut refused = 0;
        loop {
            let transfer = finish.transfer.as_deref();
            let Some(result) = in_time(limit, transfer, self.http2.send(head.clone(), &said)).await else {
                return Err(Unanswered::Made(gateway(StatusCode::GATEWAY_TIMEOUT, Reason::HeadTimeout)));
            };
            match result {
                Ok((response, stream)) => {
                    let (parts, incoming) = response.into_parts();
                    let head = AnswerHead { status: parts.status, headers: Headers::from_map(parts.headers) };
                    return Ok((Answer { head, body: Body::from_h2(incoming), upgrade: None }, stream));
                }
                Err(H2Error::Connect(error)) => {
                    return Err(match self.back(said, empty, body) {
                        true => Unanswered::Connect(error),
                        false => Unanswered::Made(made_of(&error)),
                    });
                }
                Err(error @ H2Error::NotProcessed(_)) => {
                    refused += 1;
                    if !said.rewind() {
                        return Err(Unanswered::Made(failed_http2(self.client, &error, transfer)));
                    }
                    if refused == REFUSALS {
                        return Err(match self.back(said, empty, body) {
                            true => Unanswered::Refused,
                            false => Unanswered::Made(failed_http2(self.client, &error, transfer)),
                        });
                    }
                    finish.retries += 1;
                }
                Err(error) => return Err(Unanswered::Made(failed_http2(self.client, &error, transfer))),
            }
        }
    }

    /// Whether the body is as it was, for another server.
    fn back(&self, said: Repeatable<Body>, empty: bool, body: &mut Body) -> bool {
        if empty {
            return true;
        }
        let untouched = said.into_inner();
        let back = untouched.is_some();
        *body = untouched.unwrap_or_default();
        back
    }

    /// The head that an HTTP/2 server gets.
    fn head(&self, mut fields: Headers) -> Option<::http::request::Parts> {
        fields.remove(&name::HOST);
        fields.remove(&name::TRANSFER_ENCODING);
        let target = uri(self.exchange)?.into_parts().path_and_query?;
        let uri = h2::uri(self.pool.scheme(), self.host.as_bytes(), target)?;
        let mut request = ::http::Request::new(());
        *request.method_mut() = self.exchange.request.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = fields.into_map();
        Some(request.into_parts().0)
    }
}

fn failed_http2(client: &Client, error: &H2Error, transfer: Option<&Transfer>) -> Made {
    tracing::debug!(entry_point = %client.open.entry.name, %error, "no answer");
    if let Some(made) = upload_failed(transfer) {
        return made;
    }
    match error {
        H2Error::Connect(error) => made_of(error),
        H2Error::Malformed(_) => gateway(StatusCode::BAD_GATEWAY, Reason::BadAnswer),
        H2Error::Body(_) => Made::bad_request(),
        H2Error::NotProcessed(_) | H2Error::Reset(_) | H2Error::Lost(_) => {
            gateway(StatusCode::BAD_GATEWAY, Reason::ResetBeforeAnswer)
        }
    }
}

/// What is answered to a request that broke off on the client's side, which is not the server's failure.
fn upload_failed(transfer: Option<&Transfer>) -> Option<Made> {
    Some(match transfer.and_then(|transfer| transfer.failure.get())? {
        UploadFailure::Stalled => Made::status(StatusCode::REQUEST_TIMEOUT, Reason::RequestTimeout).closing(),
        UploadFailure::Broken => Made::bad_request(),
        UploadFailure::Gone => super::finish::client_gone(),
    })
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
        | ConnectError::ChoseHttp1
        | ConnectError::NoStreams => gateway(StatusCode::BAD_GATEWAY, Reason::ConnectFailed),
    }
}

fn failed(client: &Client, error: &SendError, transfer: Option<&Transfer>) -> Made {
    tracing::debug!(entry_point = %client.open.entry.name, %error, "no answer");
    if let Some(made) = upload_failed(transfer) {
        return made;
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
