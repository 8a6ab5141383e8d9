use super::*;
use crate::http::{Protocol, Reason};
use crate::observe::access::Format;
use proptest::prelude::*;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What Traefik wrote (tests/oracle/traefik_admin.json).
fn recorded() -> Value {
    serde_json::from_str(include_str!("../../tests/oracle/traefik_admin.json")).unwrap()
}

struct Owned {
    entry_point: Arc<str>,
    router: Option<Arc<str>>,
    service: Option<Arc<str>>,
    server: Option<Arc<str>>,
}

fn encode(format: Format, record: &RequestRecord<'_>, before: u64) -> String {
    let numbers = Numbers::starting_at(Arc::new(AtomicU64::new(before)));
    let mut encoder = Encoder::new(format, numbers);
    encoder.encode(record);
    String::from_utf8(encoder.take().to_vec()).unwrap()
}

fn instant(text: &str) -> SystemTime {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

fn text(line: &Value, key: &str) -> Option<Arc<str>> {
    line.get(key).and_then(Value::as_str).map(Arc::from)
}

#[test]
fn json_lines_are_those_recorded_field_by_field() {
    for want in recorded()["access_log_json"].as_array().unwrap() {
        let owned = Owned {
            entry_point: text(want, "entryPointName").unwrap(),
            router: text(want, "RouterName"),
            service: text(want, "ServiceName"),
            server: text(want, "ServiceURL"),
        };
        let number = |key: &str| want[key].as_u64().unwrap();
        // A server that refused the connection has sent no status, though Traefik logs one.
        let refused = number("DownstreamStatus") == 502;
        let reason = match number("DownstreamStatus") {
            502 => Some(Reason::ConnectRefused),
            404 => Some(Reason::NoRoute),
            _ => None,
        };
        let (addr, method, path) = (
            text(want, "RequestAddr").unwrap(),
            text(want, "RequestMethod").unwrap(),
            text(want, "RequestPath").unwrap(),
        );
        let record = RequestRecord {
            entry_point: &owned.entry_point,
            router: owned.router.as_ref(),
            service: owned.service.as_ref(),
            server: owned.server.as_ref(),
            method: &method,
            host: &addr,
            target: &path,
            protocol: Protocol::Http11,
            tls: want["RequestScheme"] == "https",
            client: want["ClientAddr"].as_str().unwrap().parse().unwrap(),
            status: number("DownstreamStatus") as u16,
            origin_status: if refused { 0 } else { number("OriginStatus") as u16 },
            reason,
            request_bytes: number("RequestContentSize"),
            response_bytes: number("DownstreamContentSize"),
            started: instant(want["StartUTC"].as_str().unwrap()),
            duration: Duration::from_nanos(number("Duration")),
            origin_duration: Duration::from_nanos(number("OriginDuration")),
            retries: number("RetryAttempts") as u32,
            user_agent: None,
            referer: None,
        };
        let line = encode(Format::Json, &record, number("RequestCount") - 1);
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line:?}");
        let mut got: Value = serde_json::from_str(&line).unwrap();
        let got = got.as_object_mut().unwrap();
        assert_eq!(got.remove("ProxyReason"), reason.map(|r| Value::from(r.as_str())));
        let mut want = want.as_object().unwrap().clone();
        // The record does not hold what was negotiated.
        want.remove("TLSVersion");
        want.remove("TLSCipher");
        for (key, value) in &want {
            assert_eq!(got.get(key), Some(value), "{key} in {line}");
        }
        assert_eq!(got.len(), want.len(), "{line}");
    }
}

fn simple<'a>(owned: &'a Owned, target: &'a str, agent: Option<&'a str>) -> RequestRecord<'a> {
    RequestRecord {
        entry_point: &owned.entry_point,
        router: owned.router.as_ref(),
        service: owned.service.as_ref(),
        server: owned.server.as_ref(),
        method: "GET",
        host: "[::1]:8080",
        target,
        protocol: Protocol::Http11,
        tls: false,
        client: "[::ffff:127.0.0.1]:5".parse().unwrap(),
        status: 200,
        origin_status: 200,
        reason: None,
        request_bytes: 0,
        response_bytes: 2,
        started: instant("2026-11-20T22:36:00.5Z"),
        duration: Duration::from_micros(1_900),
        origin_duration: Duration::ZERO,
        retries: 0,
        user_agent: agent,
        referer: None,
    }
}

fn web() -> Owned {
    Owned {
        entry_point: "web".into(),
        router: Some("web@nomad".into()),
        service: Some("web@nomad".into()),
        server: Some("http://127.0.0.1:8001".into()),
    }
}

#[test]
fn the_common_format_is_the_one_recorded() {
    let recorded = recorded();
    let want = recorded["access_log_common"][0].as_str().unwrap();
    let owned = web();
    assert_eq!(encode(Format::Common, &simple(&owned, "/app/x?q=1", None), 0).trim_end(), want);

    let want = recorded["access_log_common"][3].as_str().unwrap();
    let nobody = Owned { router: None, service: None, server: None, ..web() };
    let mut record = simple(&nobody, "/none", None);
    (record.status, record.origin_status, record.response_bytes) = (404, 0, 19);
    record.duration = Duration::from_micros(24);
    record.reason = Some(Reason::NoRoute);
    assert_eq!(encode(Format::Common, &record, 3).trim_end(), want);
}

#[test]
fn addresses_are_split_as_go_splits_them() {
    let owned = web();
    let line: Value = serde_json::from_str(&encode(Format::Json, &simple(&owned, "/", None), 0)).unwrap();
    assert_eq!((&line["RequestHost"], &line["RequestPort"]), (&"::1".into(), &"8080".into()));
    assert_eq!(line["ClientAddr"], "127.0.0.1:5");
    assert_eq!(address_of("https://u:p@[::1]:8443/x"), "[::1]:8443");
}

proptest! {
    /// Whatever a client sends, a line stays one line that can be read back.
    #[test]
    fn no_client_text_breaks_a_line(target in "\\PC*|[\\x00-\\x7f]*", agent in "\\PC*|[\\x00-\\x7f]*") {
        let owned = web();
        let record = simple(&owned, &target, Some(&agent));
        let json = encode(Format::Json, &record, 0);
        prop_assert_eq!(json.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(value["RequestPath"].as_str(), Some(&*target));
        let common = encode(Format::Common, &record, 0);
        prop_assert_eq!(common.matches('\n').count(), 1);
        // Quotes that are not escaped are the fields' own: five pairs.
        let bare = common.replace("\\\\", "").replace("\\\"", "");
        prop_assert_eq!(bare.matches('"').count(), 10);
    }

    #[test]
    fn instants_are_those_of_go(seconds in 0i64..4_000_000_000, nanos in 0u32..1_000_000_000) {
        let mut buffer = BytesMut::new();
        Line(&mut buffer).instant(Second::default().get(seconds, SECOND), nanos);
        let text = String::from_utf8(buffer.to_vec()).unwrap();
        let read: jiff::Timestamp = text.parse().unwrap();
        prop_assert_eq!((read.as_second(), read.subsec_nanosecond() as u32), (seconds, nanos));
        prop_assert!(!text.contains('.') || !text.ends_with("0Z"));
    }
}
