//! From what `upstream` reports to a [`Failure`], and who is told of it in the answer.

use super::http1::relay::Failed;
use crate::http::h1::Fault;
use crate::http::{
    AnswerHead, BadAnswer, Cause, Context, Failure, HeaderName, HeaderValue, Headers, Phase, Reason, TlsFailure,
};
use crate::upstream::ConnectError;
use crate::upstream::tls::TlsError;
use ipnet::IpNet;
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
        ConnectError::NotHttp2(_) | ConnectError::ChoseHttp1 | ConnectError::NoStreams => Cause::NotConnected.into(),
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

/// Why a handshake with a server failed.
fn tls(error: &TlsError) -> TlsFailure {
    use crate::upstream::tls::TlsFailure as Kind;
    match error.kind {
        Kind::NotTrusted | Kind::WrongPeer | Kind::BadCertificate => TlsFailure::Untrusted,
        Kind::WrongName => TlsFailure::WrongName,
        Kind::Expired | Kind::NotYetValid => TlsFailure::Expired,
        Kind::Refused | Kind::NothingInCommon => TlsFailure::Refused,
        Kind::NotTls | Kind::CutOff | Kind::NotSetUp => TlsFailure::Other,
    }
}

/// Why a request that was sent, in part or whole, got no answer. `repeatable`: the method is idempotent and the
/// body still whole.
pub(super) fn exchange(failed: &Failed, patience: std::time::Duration, repeatable: bool) -> Failure {
    match failed {
        Failed::Silent => Failure::new(Cause::ResetBeforeAnswer).sent(repeatable),
        Failed::Cut => Cause::ResetWithinAnswer.into(),
        Failed::Malformed(fault) => Cause::BadAnswer(malformed(*fault)).into(),
        Failed::Interim => Cause::BadAnswer(BadAnswer::Surplus).into(),
        Failed::TimedOut => late(Phase::Head, patience),
        Failed::Stalled => Cause::ClientStalled.into(),
        Failed::Broken(_) => Cause::ClientBrokeFraming.into(),
        Failed::Gone => Cause::ClientGone.into(),
    }
}

/// The time for an answer's head ran out.
pub(super) fn late_head(limit: std::time::Duration) -> Failure {
    late(Phase::Head, limit)
}

fn malformed(fault: Fault) -> BadAnswer {
    match fault {
        Fault::TooLarge | Fault::TooManyLines | Fault::TrailersTooLarge => BadAnswer::HeadTooLarge,
        Fault::UnaskedUpgrade => BadAnswer::Switched,
        Fault::Lengths | Fault::Length | Fault::LengthAndCoding | Fault::Coding | Fault::CodingInOldVersion => {
            BadAnswer::Framing
        }
        Fault::Version | Fault::StatusLine => BadAnswer::NotHttp,
        _ => BadAnswer::Head,
    }
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
        let tls = |error: rustls::Error| ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidData, error).into());
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
            (ConnectError::Tls(io::Error::from(io::ErrorKind::UnexpectedEof).into()), "tls: failed"),
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
        for (failed, cause, side) in [
            (Failed::Silent, "reset before answer", Side::Server),
            (Failed::Cut, "reset within answer", Side::Server),
            (Failed::Malformed(Fault::Lengths), "bad answer: framing", Side::Server),
            (Failed::Malformed(Fault::TooLarge), "bad answer: head too large", Side::Server),
            (Failed::TimedOut, "timed out: head", Side::Server),
            (Failed::Stalled, "client stalled", Side::Client),
            (Failed::Broken(Fault::Lengths), "client broke framing", Side::Client),
            (Failed::Gone, "client gone", Side::Client),
        ] {
            let failure = exchange(&failed, Duration::ZERO, false);
            assert_eq!((failure.cause.as_str(), failure.side), (cause, side));
        }
        assert_eq!(exchange(&Failed::Silent, Duration::ZERO, true).retry, Retry::Idempotent);
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
