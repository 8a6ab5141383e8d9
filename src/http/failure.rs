//! What went wrong with a request, in four answers: what it was ([`Cause`]), on whose side
//! ([`Side`]), whether the request may be tried again ([`Retry`]), and what else is known
//! ([`Context`]). The access log, a metric and, where configuration allows it, a header of the
//! answer show it.
//!
//! What always holds: a failure is a small `Copy` value, made without allocation; the set of its
//! texts is closed, so that a metric may carry them; and the status that a client gets for it is
//! decided here and nowhere else.

use super::{Reason, StatusCode};
use std::fmt;
use std::time::Duration;

/// Status of the record where the client went before an answer (nginx's and Traefik's).
pub const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The client's.
    Client,
    /// The server's, or that of the network towards it.
    Server,
    /// The proxy's own.
    Proxy,
}

impl Side {
    /// As the access log writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Proxy => "proxy",
        }
    }
}

/// Whether the request may be sent again, to the same server or another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Retry {
    /// Nothing of it was sent: always.
    Unsent,
    /// Something was sent, but its method is idempotent and its body is still whole (RFC 9110, 9.2.2).
    Idempotent,
    /// No.
    No,
}

impl Retry {
    /// As the access log writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Idempotent => "idempotent",
            Self::No => "no",
        }
    }
}

/// Where in an exchange with a server the time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Making the connection, its name's resolution included.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Waiting for the answer's head.
    Head,
    /// Between two pieces of the answer's body.
    Body,
}

/// Why TLS to a server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsFailure {
    /// Its certificate is from nobody who is trusted.
    Untrusted,
    /// Its certificate is for another name.
    WrongName,
    /// Its certificate is expired or not valid yet.
    Expired,
    /// It refused with an alert: what we offered, or our certificate.
    Refused,
    /// It does not speak TLS, or broke it.
    Other,
}

/// What was wrong with a server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BadAnswer {
    /// Not HTTP at all.
    NotHttp,
    /// A status line or field that is not acceptable.
    Head,
    /// A head over the limit.
    HeadTooLarge,
    /// Framing that can be read in two ways, or none.
    Framing,
    /// A switch of protocols that nobody asked for.
    Switched,
    /// Bytes where none may be.
    Surplus,
}

/// What of a request was over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TooLarge {
    /// The target (414).
    Target,
    /// The head (431).
    Head,
    /// The body (413).
    Body,
}

/// What it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The server refused the connection.
    Refused,
    /// The server's name has no address.
    Unresolved,
    /// The network knows no way to the server.
    NoRouteToHost,
    /// The connection could not be made for another cause; the errno is in the context.
    NotConnected,
    /// The time ran out.
    TimedOut(Phase),
    /// The server closed or reset before a byte of its answer.
    ResetBeforeAnswer,
    /// The server's answer broke off.
    ResetWithinAnswer,
    /// TLS to the server failed.
    Tls(TlsFailure),
    /// The server's answer is not acceptable.
    BadAnswer(BadAnswer),
    /// The request is over a limit.
    TooLarge(TooLarge),
    /// The client went away.
    ClientGone,
    /// The client sent or took nothing for too long.
    ClientStalled,
    /// The client's body is not what its framing announced.
    ClientBrokeFraming,
    /// What the client sent is not an acceptable request.
    BadRequest,
    /// The service has no server, and the wait for one ended.
    NoServer,
    /// Too many requests wait already for a server.
    QueueFull,
    /// All servers were busy for as long as the request may wait for a place at one.
    QueueTimeout,
    /// The server left the catalog, and the limit for what it still had is over.
    DrainLimit,
    /// This machine ran out of descriptors, ports or memory.
    Exhausted,
    /// The server's address or our TLS towards it cannot be used.
    Misconfigured,
    /// The process is terminating.
    Terminating,
    /// A fault of the proxy's own.
    Internal,
}

impl Cause {
    /// All there are; for tests and documentation.
    pub const ALL: [Self; 36] = [
        Self::Refused,
        Self::Unresolved,
        Self::NoRouteToHost,
        Self::NotConnected,
        Self::TimedOut(Phase::Connect),
        Self::TimedOut(Phase::Tls),
        Self::TimedOut(Phase::Head),
        Self::TimedOut(Phase::Body),
        Self::ResetBeforeAnswer,
        Self::ResetWithinAnswer,
        Self::Tls(TlsFailure::Untrusted),
        Self::Tls(TlsFailure::WrongName),
        Self::Tls(TlsFailure::Expired),
        Self::Tls(TlsFailure::Refused),
        Self::Tls(TlsFailure::Other),
        Self::BadAnswer(BadAnswer::NotHttp),
        Self::BadAnswer(BadAnswer::Head),
        Self::BadAnswer(BadAnswer::HeadTooLarge),
        Self::BadAnswer(BadAnswer::Framing),
        Self::BadAnswer(BadAnswer::Switched),
        Self::BadAnswer(BadAnswer::Surplus),
        Self::TooLarge(TooLarge::Target),
        Self::TooLarge(TooLarge::Head),
        Self::TooLarge(TooLarge::Body),
        Self::ClientGone,
        Self::ClientStalled,
        Self::ClientBrokeFraming,
        Self::BadRequest,
        Self::NoServer,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::DrainLimit,
        Self::Exhausted,
        Self::Misconfigured,
        Self::Terminating,
        Self::Internal,
    ];

    /// The text of log, metric and header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unresolved => "unresolved",
            Self::NoRouteToHost => "no route to host",
            Self::NotConnected => "not connected",
            Self::TimedOut(Phase::Connect) => "timed out: connect",
            Self::TimedOut(Phase::Tls) => "timed out: tls",
            Self::TimedOut(Phase::Head) => "timed out: head",
            Self::TimedOut(Phase::Body) => "timed out: body",
            Self::ResetBeforeAnswer => "reset before answer",
            Self::ResetWithinAnswer => "reset within answer",
            Self::Tls(TlsFailure::Untrusted) => "tls: untrusted",
            Self::Tls(TlsFailure::WrongName) => "tls: wrong name",
            Self::Tls(TlsFailure::Expired) => "tls: expired",
            Self::Tls(TlsFailure::Refused) => "tls: refused",
            Self::Tls(TlsFailure::Other) => "tls: failed",
            Self::BadAnswer(BadAnswer::NotHttp) => "bad answer: not HTTP",
            Self::BadAnswer(BadAnswer::Head) => "bad answer: head",
            Self::BadAnswer(BadAnswer::HeadTooLarge) => "bad answer: head too large",
            Self::BadAnswer(BadAnswer::Framing) => "bad answer: framing",
            Self::BadAnswer(BadAnswer::Switched) => "bad answer: switched unasked",
            Self::BadAnswer(BadAnswer::Surplus) => "bad answer: surplus bytes",
            Self::TooLarge(TooLarge::Target) => "too large: target",
            Self::TooLarge(TooLarge::Head) => "too large: head",
            Self::TooLarge(TooLarge::Body) => "too large: body",
            Self::ClientGone => "client gone",
            Self::ClientStalled => "client stalled",
            Self::ClientBrokeFraming => "client broke framing",
            Self::BadRequest => "bad request",
            Self::NoServer => "no server",
            Self::QueueFull => "queue full",
            Self::QueueTimeout => "timed out: queue",
            Self::DrainLimit => "drain limit",
            Self::Exhausted => "out of resources",
            Self::Misconfigured => "misconfigured",
            Self::Terminating => "terminating",
            Self::Internal => "internal",
        }
    }

    /// Whose failure it is.
    pub fn side(self) -> Side {
        match self {
            Self::TooLarge(_)
            | Self::ClientGone
            | Self::ClientStalled
            | Self::ClientBrokeFraming
            | Self::BadRequest => Side::Client,
            Self::QueueFull
            | Self::QueueTimeout
            | Self::DrainLimit
            | Self::Exhausted
            | Self::Misconfigured
            | Self::Terminating
            | Self::Internal => Side::Proxy,
            _ => Side::Server,
        }
    }

    /// The stable code of the answer that the proxy makes for it.
    pub fn reason(self) -> Reason {
        match self {
            Self::Refused => Reason::ConnectRefused,
            Self::TimedOut(Phase::Connect | Phase::Tls) => Reason::ConnectTimeout,
            Self::TimedOut(Phase::Head) => Reason::HeadTimeout,
            Self::TimedOut(Phase::Body) | Self::ResetWithinAnswer => Reason::AnswerCut,
            Self::Unresolved
            | Self::NoRouteToHost
            | Self::NotConnected
            | Self::Tls(_)
            | Self::Exhausted
            | Self::Misconfigured => Reason::ConnectFailed,
            Self::ResetBeforeAnswer => Reason::ResetBeforeAnswer,
            Self::BadAnswer(_) => Reason::BadAnswer,
            Self::TooLarge(_) => Reason::TooLarge,
            Self::ClientGone => Reason::ClientGone,
            Self::ClientStalled => Reason::RequestTimeout,
            Self::ClientBrokeFraming | Self::BadRequest => Reason::BadRequest,
            Self::NoServer => Reason::NoServer,
            Self::QueueFull => Reason::QueueFull,
            Self::QueueTimeout => Reason::QueueTimeout,
            Self::DrainLimit => Reason::DrainLimit,
            Self::Terminating => Reason::Terminating,
            Self::Internal => Reason::Internal,
        }
    }

    /// The status that the client gets while no head was sent to it.
    ///
    /// As Traefik's (<https://github.com/traefik/traefik/blob/v3.7/pkg/proxy/httputil/proxy.go>): 504 where
    /// the time ran out, 499 where the client went, 502 for what the network did. Where a server's
    /// certificate or answer is not acceptable Traefik says 500, which names the wrong party: here it
    /// is 502 (RFC 9110, 15.6.3).
    pub fn status(self) -> StatusCode {
        match self {
            Self::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Refused
            | Self::Unresolved
            | Self::NoRouteToHost
            | Self::NotConnected
            | Self::ResetBeforeAnswer
            | Self::ResetWithinAnswer
            | Self::Tls(_)
            | Self::BadAnswer(_)
            | Self::Exhausted
            | Self::Misconfigured => StatusCode::BAD_GATEWAY,
            Self::TooLarge(TooLarge::Target) => StatusCode::URI_TOO_LONG,
            Self::TooLarge(TooLarge::Head) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooLarge(TooLarge::Body) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ClientGone => StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST),
            Self::ClientStalled => StatusCode::REQUEST_TIMEOUT,
            Self::ClientBrokeFraming | Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NoServer | Self::QueueFull | Self::QueueTimeout | Self::DrainLimit | Self::Terminating => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the request may be sent again, as far as the cause alone tells: what happens before
    /// the connection stands has sent nothing.
    fn retry(self) -> Retry {
        match self {
            Self::Refused
            | Self::Unresolved
            | Self::NoRouteToHost
            | Self::NotConnected
            | Self::TimedOut(Phase::Connect | Phase::Tls)
            | Self::Tls(_)
            | Self::NoServer
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::Exhausted
            | Self::Misconfigured => Retry::Unsent,
            _ => Retry::No,
        }
    }
}

/// What else is known; nothing of it is secret, and nothing allocates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Context {
    /// Nothing.
    #[default]
    None,
    /// The time that was allowed.
    Limit(Duration),
    /// The bytes that were allowed.
    Bytes(u64),
    /// The system's error number.
    Errno(i32),
    /// A few words.
    Note(&'static str),
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Limit(limit) => write!(f, "limit {limit:?}"),
            Self::Bytes(limit) => write!(f, "limit {limit} bytes"),
            Self::Errno(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(*errno)),
            Self::Note(note) => f.write_str(note),
        }
    }
}

/// A failure, in four answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// What it was.
    pub cause: Cause,
    /// Whose it is.
    pub side: Side,
    /// Whether the request may be sent again.
    pub retry: Retry,
    /// What else is known.
    pub context: Context,
}

impl Failure {
    /// With what the cause alone tells.
    pub fn new(cause: Cause) -> Self {
        Self { cause, side: cause.side(), retry: cause.retry(), context: Context::None }
    }

    /// The same with a context.
    pub fn with(self, context: Context) -> Self {
        Self { context, ..self }
    }

    /// The same where something of the request was sent: whether it may be sent again depends on
    /// its method and on whether its body is still whole.
    pub fn sent(self, repeatable: bool) -> Self {
        Self { retry: if repeatable { Retry::Idempotent } else { Retry::No }, ..self }
    }

    /// See [`Cause::status`].
    pub fn status(&self) -> StatusCode {
        self.cause.status()
    }

    /// See [`Cause::reason`].
    pub fn reason(&self) -> Reason {
        self.cause.reason()
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self::new(cause)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.as_str())?;
        if self.context == Context::None { Ok(()) } else { write!(f, " ({})", self.context) }
    }
}

impl Reason {
    /// The failure that a reason alone tells, for answers whose maker knows no more; `None` for
    /// answers that are no failure. `status` tells what was too large.
    pub fn failure(self, status: StatusCode) -> Option<Failure> {
        let cause = match self {
            Self::NoRoute
            | Self::Denied
            | Self::Redirect
            | Self::Preflight
            | Self::AcmeChallenge
            | Self::Limited
            | Self::CircuitOpen => {
                return None;
            }
            Self::NoServer => Cause::NoServer,
            Self::QueueFull => Cause::QueueFull,
            Self::QueueTimeout => Cause::QueueTimeout,
            Self::DrainLimit => Cause::DrainLimit,
            Self::ConnectRefused => Cause::Refused,
            Self::ConnectTimeout => Cause::TimedOut(Phase::Connect),
            Self::ConnectFailed => Cause::NotConnected,
            Self::ResetBeforeAnswer => Cause::ResetBeforeAnswer,
            Self::HeadTimeout => Cause::TimedOut(Phase::Head),
            Self::BadAnswer => Cause::BadAnswer(BadAnswer::Head),
            Self::AnswerCut => Cause::ResetWithinAnswer,
            Self::BadRequest => Cause::BadRequest,
            Self::RequestTimeout => Cause::ClientStalled,
            Self::TooLarge => Cause::TooLarge(match status {
                StatusCode::URI_TOO_LONG => TooLarge::Target,
                StatusCode::PAYLOAD_TOO_LARGE => TooLarge::Body,
                _ => TooLarge::Head,
            }),
            Self::ClientGone => Cause::ClientGone,
            Self::Terminating => Cause::Terminating,
            Self::Internal => Cause::Internal,
        };
        Some(Failure::new(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What Traefik answers, from its recorded behaviour over real sockets where a case is there
    /// (names that do not resolve, servers that close without an answer, a full queue of a limiter,
    /// a body over the limit, bad framing) and else from its source.
    #[test]
    fn statuses_are_traefiks() {
        let of_traefik = [
            (Cause::Refused, 502),
            (Cause::Unresolved, 502),
            (Cause::NoRouteToHost, 502),
            (Cause::NotConnected, 502),
            (Cause::ResetBeforeAnswer, 502),
            (Cause::ResetWithinAnswer, 502),
            (Cause::TimedOut(Phase::Connect), 504),
            (Cause::TimedOut(Phase::Tls), 504),
            (Cause::TimedOut(Phase::Head), 504),
            (Cause::TimedOut(Phase::Body), 504),
            (Cause::Tls(TlsFailure::Refused), 502),
            (Cause::TooLarge(TooLarge::Body), 413),
            (Cause::TooLarge(TooLarge::Head), 431),
            (Cause::ClientGone, 499),
            (Cause::BadRequest, 400),
            (Cause::NoServer, 503),
        ];
        for (cause, status) in of_traefik {
            assert_eq!(cause.status().as_u16(), status, "{cause:?}");
        }
        // Where Traefik says 500 for what a server did wrong.
        for cause in [Cause::Tls(TlsFailure::Untrusted), Cause::BadAnswer(BadAnswer::NotHttp)] {
            assert_eq!(cause.status().as_u16(), 502, "{cause:?}");
        }
    }

    #[test]
    fn the_answers_agree_with_each_other() {
        let mut texts = BTreeSet::new();
        for cause in Cause::ALL {
            assert!(texts.insert(cause.as_str()), "{cause:?} has the text of another");
            let failure = Failure::new(cause);
            let status = failure.status().as_u16();
            match failure.side {
                Side::Client => assert!((400..500).contains(&status), "{cause:?} {status}"),
                Side::Server | Side::Proxy => assert!((500..505).contains(&status), "{cause:?} {status}"),
            }
            // The reason that stands for it stands for a failure of the same side and kind of status.
            let back = failure.reason().failure(failure.status()).expect("a failure has a reason that is one");
            assert_eq!(back.reason(), failure.reason(), "{cause:?}");
            assert_eq!(back.status().is_client_error(), failure.status().is_client_error(), "{cause:?}");
        }
    }

    #[test]
    fn what_was_sent_may_be_sent_again_only_where_that_is_safe() {
        let failure = Failure::new(Cause::ResetBeforeAnswer);
        assert_eq!(failure.retry, Retry::No);
        assert_eq!((failure.sent(true).retry, failure.sent(false).retry), (Retry::Idempotent, Retry::No));
        assert_eq!(Failure::new(Cause::Refused).retry, Retry::Unsent);
    }

    #[test]
    fn is_a_small_value() {
        assert!(std::mem::size_of::<Failure>() <= 32, "{}", std::mem::size_of::<Failure>());
        let late = Failure::new(Cause::TimedOut(Phase::Head)).with(Context::Limit(Duration::from_millis(1500)));
        assert_eq!(late.to_string(), "timed out: head (limit 1.5s)");
    }
}
