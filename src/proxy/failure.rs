//! From what `upstream` reports to a [`Failure`], and who is told of it in the answer.

use crate::http::{
    AnswerHead, BadAnswer, Cause, Context, Failure, HeaderName, HeaderValue, Headers, Phase, Reason, TlsFailure,
    UploadFailure,
};
use crate::upstream::{ConnectError, SendError};
use ipnet::IpNet;
use std::error::Error;
use std::io;
use std::net::IpAddr;

/// The field that asks for the cause of a failure, and answers it.
const CAUSE: HeaderName = HeaderName::from_static("x-rust-lb-cause");
/// The field that tells the reason code beside it.
const REASON: HeaderName = HeaderName::from_static("x-rust-lb-reason");

/// Why a connection could not be made. Nothing of a request was sent.
pub(super) fn connect(error: &ConnectError) -> Failure {
    match error {
        ConnectError::Refused => Cause::Refused.into(),
        ConnectError::TimedOut(limit) => late(Phase::Connect, *limit),
        ConnectError::TlsTimedOut(limit) => late(Phase::Tls, *limit),
        ConnectError::Unresolved(_) => Cause::Unresolved.into(),
        ConnectError::Failed(error) if is_ours(error) => with_errno(Cause::Exhausted, error),
        ConnectError::Failed(error) => match error.kind() {
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                with_errno(Cause::NoRouteToHost, error)
            }
            io::ErrorKind::TimedOut => Cause::TimedOut(Phase::Connect).into(),
            _ => with_errno(Cause::NotConnected, error),
        },
        ConnectError::Tls(error) => Cause::Tls(tls(error)).into(),
        ConnectError::NoTls(_) => Cause::Misconfigured.into(),
    }
}

fn is_ours(error: &io::Error) -> bool {
    crate::upstream::is_exhaustion(error)
}

fn late(phase: Phase, limit: std::time::Duration) -> Failure {
    let failure = Failure::new(Cause::TimedOut(phase));
    // The kernel's own time-out has no limit that we set.
    if limit.is_zero() { failure } else { failure.with(Context::Limit(limit)) }
}

fn with_errno(cause: Cause, error: &io::Error) -> Failure {
    let failure = Failure::new(cause);
    error.raw_os_error().map_or(failure, |errno| failure.with(Context::Errno(errno)))
}

/// Why a handshake with a server failed, by what rustls says inside of the I/O error.
fn tls(error: &io::Error) -> TlsFailure {
    use rustls::CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
    };
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return TlsFailure::Other;
    };
    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => TlsFailure::Expired,
            NotValidForName | NotValidForNameContext { .. } => TlsFailure::WrongName,
            _ => TlsFailure::Untrusted,
        },
        rustls::Error::AlertReceived(_) => TlsFailure::Refused,
        _ => TlsFailure::Other,
    }
}

/// Why a request that was (or could have been) sent got no answer. `upload` is what the client's
/// side of the body says: a request that broke off there is not the server's failure. `repeatable`:
/// the method is idempotent and the body still whole.
pub(super) fn send(error: &SendError, upload: Option<UploadFailure>, repeatable: bool) -> Failure {
    match upload {
        Some(UploadFailure::Stalled) => return Cause::ClientStalled.into(),
        Some(UploadFailure::Broken) => return Cause::ClientBrokeFraming.into(),
        Some(UploadFailure::Gone) => return Cause::ClientGone.into(),
        None => {}
    }
    match error {
        SendError::Unsent(_) | SendError::Silent(_) => Failure::new(Cause::ResetBeforeAnswer).sent(repeatable),
        SendError::Malformed(error) => malformed(error),
        SendError::Body(_) => Cause::ClientBrokeFraming.into(),
    }
}

fn malformed(error: &hyper::Error) -> Failure {
    let broke_off =
        error.is_incomplete_message() || error.source().and_then(|inner| inner.downcast_ref::<io::Error>()).is_some();
    if broke_off {
        Cause::ResetWithinAnswer.into()
    } else if error.is_parse_too_large() {
        Cause::BadAnswer(BadAnswer::HeadTooLarge).into()
    } else if error.is_parse_status() {
        Cause::BadAnswer(BadAnswer::Head).into()
    } else {
        Cause::BadAnswer(BadAnswer::NotHttp).into()
    }
}

/// The time for an answer's head ran out.
pub(super) fn head_late(limit: std::time::Duration) -> Failure {
    late(Phase::Head, limit)
}

/// Whether the request asks why it may fail, and its peer may know (`rustLb.errors.reveal`).
pub(super) fn asks(allowed: Option<&[IpNet]>, peer: IpAddr, fields: &Headers) -> bool {
    allowed.is_some_and(|networks| fields.contains(&CAUSE) && contains(networks, peer))
}

fn contains(networks: &[IpNet], peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    networks.iter().any(|network| network.contains(&peer))
}

/// Writes what went wrong into an answer that the proxy made, for a request that [`asks`].
pub(super) fn reveal(head: &mut AnswerHead, reason: Reason, failure: Option<&Failure>) {
    head.headers.set(REASON, HeaderValue::from_static(reason.as_str()));
    if let Some(failure) = failure {
        head.headers.set(CAUSE, HeaderValue::from_static(failure.cause.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Retry, Side, StatusCode};
    use rustix::io::Errno;
    use rustls::{AlertDescription, CertificateError};
    use std::time::Duration;

    #[test]
    fn the_systems_and_the_librarys_errors_have_a_cause() {
        let os = |errno: Errno| ConnectError::Failed(io::Error::from_raw_os_error(errno.raw_os_error()));
        let tls = |error: rustls::Error| ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidData, error));
        let certificate = |error| tls(rustls::Error::InvalidCertificate(error));
        for (error, cause) in [
            (ConnectError::Refused, "refused"),
            (ConnectError::Unresolved(io::Error::other("x")), "unresolved"),
            (ConnectError::TimedOut(Duration::from_secs(1)), "timed out: connect"),
            (ConnectError::TlsTimedOut(Duration::from_secs(1)), "timed out: tls"),
            (os(Errno::HOSTUNREACH), "no route to host"),
            (os(Errno::NETUNREACH), "no route to host"),
            (os(Errno::MFILE), "out of resources"),
            (os(Errno::CONNRESET), "not connected"),
            (ConnectError::NoTls("x".into()), "misconfigured"),
            (certificate(CertificateError::UnknownIssuer), "tls: untrusted"),
            (certificate(CertificateError::BadSignature), "tls: untrusted"),
            (certificate(CertificateError::NotValidForName), "tls: wrong name"),
            (certificate(CertificateError::Expired), "tls: expired"),
            (certificate(CertificateError::NotValidYet), "tls: expired"),
            (tls(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)), "tls: refused"),
            (tls(rustls::Error::DecryptError), "tls: failed"),
            (ConnectError::Tls(io::ErrorKind::UnexpectedEof.into()), "tls: failed"),
        ] {
            let failure = connect(&error);
            assert_eq!((failure.cause.as_str(), failure.retry), (cause, Retry::Unsent), "{error}");
            assert!(matches!(failure.status(), StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT), "{error}");
        }
        let unreachable = connect(&os(Errno::HOSTUNREACH));
        assert_eq!(unreachable.context, Context::Errno(Errno::HOSTUNREACH.raw_os_error()));
        assert_eq!(connect(&ConnectError::TimedOut(Duration::ZERO)).context, Context::None);
    }

    #[test]
    fn the_clients_failure_is_not_the_servers() {
        let silent = || SendError::Unsent(crate::http::Body::Empty);
        for (upload, cause, side) in [
            (None, "reset before answer", Side::Server),
            (Some(UploadFailure::Stalled), "client stalled", Side::Client),
            (Some(UploadFailure::Broken), "client broke framing", Side::Client),
            (Some(UploadFailure::Gone), "client gone", Side::Client),
        ] {
            let failure = send(&silent(), upload, false);
            assert_eq!((failure.cause.as_str(), failure.side), (cause, side));
        }
        assert_eq!(send(&silent(), None, true).retry, Retry::Idempotent);
    }

    #[test]
    fn tells_the_cause_to_those_only_who_may_ask_and_do() {
        let networks: Vec<IpNet> = vec!["192.0.2.0/24".parse().unwrap()];
        let mut asking = Headers::default();
        asking.set(CAUSE, HeaderValue::from_static("?"));
        let (inside, outside): (IpAddr, IpAddr) = ("192.0.2.7".parse().unwrap(), "198.51.100.1".parse().unwrap());
        assert!(asks(Some(&networks), inside, &asking));
        assert!(asks(Some(&networks), "::ffff:192.0.2.7".parse().unwrap(), &asking));
        assert!(!asks(Some(&networks), outside, &asking));
        assert!(!asks(Some(&networks), inside, &Headers::default()));
        assert!(!asks(None, inside, &asking));
        let mut head = AnswerHead::new(StatusCode::BAD_GATEWAY);
        reveal(&mut head, Reason::ConnectRefused, Some(&Cause::Refused.into()));
        assert_eq!(head.headers.text(&CAUSE), Some("refused"));
        assert_eq!(head.headers.text(&REASON), Some("connect_refused"));
    }
}
