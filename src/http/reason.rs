//! Why the proxy itself made an answer. The word appears in the access log and in a metric.

/// A reason code. The upstream's own answers, whatever their status, have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// 404: no router takes the request.
    NoRoute,
    /// 404 or 503: the router's service has no server (and the wait for one ended).
    NoServer,
    /// 503: too many requests wait already, for a server to appear or for a place at one.
    QueueFull,
    /// 503: the request waited for a place at a server, and none became free in time.
    QueueTimeout,
    /// 502: the server refused the connection; 503 where the request waited for it to take one.
    ConnectRefused,
    /// 504: the server did not accept the connection in time.
    ConnectTimeout,
    /// 502: the connection could not be made for another cause.
    ConnectFailed,
    /// 502: the server closed or reset before it answered.
    ResetBeforeAnswer,
    /// 504: the server did not send an answer's head in time.
    HeadTimeout,
    /// 502: what the server sent is not HTTP.
    BadAnswer,
    /// The server's answer broke off after its head.
    AnswerCut,
    /// The server left the catalog, and the limit for what it still had is over.
    DrainLimit,
    /// 403 or 401: an access rule of the route does not let the client in.
    Denied,
    /// 429: over a limit of the route.
    Limited,
    /// 503: the route's circuit breaker is open.
    CircuitOpen,
    /// 400: what the client sent is not acceptable HTTP.
    BadRequest,
    /// 408: the client did not send its head in time.
    RequestTimeout,
    /// 413 or 431: over a limit.
    TooLarge,
    /// The client went away.
    ClientGone,
    /// A redirect made by a middleware or an entry point.
    Redirect,
    /// The answer to a CORS preflight.
    Preflight,
    /// The answer to a challenge of a certificate authority.
    AcmeChallenge,
    /// 503: the process is terminating.
    Terminating,
    /// 500: a fault of the proxy's own.
    Internal,
}

impl Reason {
    /// The word used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::NoServer => "no_server",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::ResetBeforeAnswer => "reset_before_answer",
            Self::HeadTimeout => "head_timeout",
            Self::BadAnswer => "bad_answer",
            Self::AnswerCut => "answer_cut",
            Self::DrainLimit => "drain_limit",
            Self::Denied => "denied",
            Self::Limited => "limited",
            Self::CircuitOpen => "circuit_open",
            Self::BadRequest => "bad_request",
            Self::RequestTimeout => "request_timeout",
            Self::TooLarge => "too_large",
            Self::ClientGone => "client_gone",
            Self::Redirect => "redirect",
            Self::Preflight => "preflight",
            Self::AcmeChallenge => "acme_challenge",
            Self::Terminating => "terminating",
            Self::Internal => "internal",
        }
    }
}
