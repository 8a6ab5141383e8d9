use super::*;
use crate::http::{Cause, Phase, TlsInfo};
use crate::http::{Protocol, Reason};
use crate::observe::access_options::{Fields, Filters};
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
    with(Options::new(format), record, before)
}

fn with(options: Options, record: &RequestRecord<'_>, before: u64) -> String {
    let numbers = Numbers::starting_at(Arc::new(AtomicU64::new(before)));
    let mut encoder = Encoder::new(options, numbers);
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
            tls: want.get("TLSVersion").map(|_| TlsInfo::new(0x0304, 0x1301)),
            client: want["ClientAddr"].as_str().unwrap().parse().unwrap(),
            forwarded_for: None,
            status: number("DownstreamStatus") as u16,
            origin_status: if refused { 0 } else { number("OriginStatus") as u16 },
            reason,
            failure: reason.and_then(|r| r.failure(crate::http::StatusCode::BAD_GATEWAY)),
            request_bytes: number("RequestContentSize"),
            response_bytes: number("DownstreamContentSize"),
            started: instant(want["StartUTC"].as_str().unwrap()),
            duration: Duration::from_nanos(number("Duration")),
            origin_duration: Duration::from_nanos(number("OriginDuration")),
            retries: number("RetryAttempts") as u32,
            heads: None,
        };
        let line = encode(Format::Json, &record, number("RequestCount") - 1);
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line:?}");
        let mut got: Value = serde_json::from_str(&line).unwrap();
        let got = got.as_object_mut().unwrap();
        assert_eq!(got.remove("ProxyReason"), reason.map(|r| Value::from(r.as_str())));
        if refused {
            for (key, value) in [("ProxyCause", "refused"), ("ProxySide", "server"), ("ProxyRetry", "unsent")] {
                assert_eq!(got.remove(key), Some(value.into()), "{line}");
            }
        }
        let want = want.as_object().unwrap();
        for (key, value) in want {
            assert_eq!(got.get(key), Some(value), "{key} in {line}");
        }
        assert_eq!(got.len(), want.len(), "{line}");
    }
}

fn simple<'a>(owned: &'a Owned, target: &'a str, heads: Option<&'a dyn HeadView>) -> RequestRecord<'a> {
    RequestRecord {
        entry_point: &owned.entry_point,
        router: owned.router.as_ref(),
        service: owned.service.as_ref(),
        server: owned.server.as_ref(),
        method: "GET",
        host: "[::1]:8080",
        target,
        protocol: Protocol::Http11,
        tls: None,
        client: "[::ffff:127.0.0.1]:5".parse().unwrap(),
        forwarded_for: None,
        status: 200,
        origin_status: 200,
        reason: None,
        failure: None,
        request_bytes: 0,
        response_bytes: 2,
        started: instant("2026-11-20T22:36:00.5Z"),
        duration: Duration::from_micros(1_900),
        origin_duration: Duration::ZERO,
        retries: 0,
        heads,
    }
}

/// Heads as a test has them.
#[derive(Default)]
struct Heads<'a> {
    request: &'a [(&'a str, &'a [u8])],
    origin: &'a [(&'a str, &'a [u8])],
    downstream: &'a [(&'a str, &'a [u8])],
}

impl HeadView for Heads<'_> {
    fn each<'s>(&'s self, head: WhichHead, each: &mut dyn FnMut(&'s str, &'s [u8])) {
        let head = match head {
            WhichHead::Request => self.request,
            WhichHead::Origin => self.origin,
            WhichHead::Downstream => self.downstream,
        };
        head.iter().for_each(|(name, value)| each(name, value));
    }
}

fn kept(format: Format) -> Options {
    let mut options = Options::new(format);
    options.fields.headers.default = Mode::Keep;
    options
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

fn json_with(options: Options, record: &RequestRecord<'_>) -> Value {
    serde_json::from_str(&with(options, record, 0)).unwrap()
}

#[test]
fn header_fields_are_kept_dropped_or_redacted() {
    let owned = web();
    let heads = Heads {
        request: &[("user-agent", b"curl/8"), ("x-two", b"a"), ("authorization", b"secret"), ("X-Two", b"b\xff")],
        origin: &[("server", b"s")],
        downstream: &[("server", b"s"), ("x\"bad", b"1")],
    };
    let record = simple(&owned, "/", Some(&heads));
    let mut options = kept(Format::Json);
    options.fields.headers.names.insert("authorization".into(), Mode::Redact);
    options.fields.headers.names.insert("user-agent".into(), Mode::Drop);
    let line = json_with(options, &record);
    assert_eq!(line["request_X-Two"], "a,b\u{fffd}");
    assert_eq!(line["request_Authorization"], "REDACTED");
    assert_eq!((&line["origin_Server"], &line["downstream_Server"]), (&"s".into(), &"s".into()));
    assert!(line.get("request_User-Agent").is_none());
    assert_eq!(line.as_object().unwrap().keys().filter(|key| key.starts_with("downstream_")).count(), 1);
    // Dropped by default, as in Traefik.
    let line = json_with(Options::new(Format::Json), &record);
    assert!(!line.as_object().unwrap().keys().any(|key| key.contains('_')), "{line}");
}

#[test]
fn the_common_formats_have_agent_and_referer_by_the_modes_of_headers() {
    let owned = web();
    let heads = Heads { request: &[("user-agent", b"a\"b"), ("referer", b"http://r/")], ..Heads::default() };
    let record = simple(&owned, "/", Some(&heads));
    assert!(with(Options::new(Format::Common), &record, 0).contains(" 200 2 \"-\" \"-\" 1 "));
    assert!(with(kept(Format::Common), &record, 0).contains(" 200 2 \"http://r/\" \"a\\\"b\" 1 \"web@nomad\" "));
    let mut options = kept(Format::Generic);
    options.fields.headers.names.insert("referer".into(), Mode::Redact);
    let line = with(options, &record, 0);
    let want = "127.0.0.1 - - [20/Nov/2026:22:36:00 +0000] \"GET / HTTP/1.1\" 200 2 \"REDACTED\" \"a\\\"b\"\n";
    assert_eq!(line, want);
}

#[test]
fn fields_are_dropped_and_queries_cut() {
    let owned = web();
    let record = simple(&owned, "/login?token=x", None);
    let mut options = Options::new(Format::Json);
    options.fields = Fields::all(false);
    options.fields.set("RequestPath", true);
    options.fields.query = false;
    let line = with(options.clone(), &record, 0);
    assert_eq!(
        line,
        "{\"RequestPath\":\"/login\",\"level\":\"info\",\"msg\":\"\",\"time\":\"2026-11-20T22:36:00Z\"}\n"
    );
    options.format = Format::Common;
    assert_eq!(with(options, &record, 0), "- - - [-] \"- /login -\" - - \"-\" \"-\" - \"-\" \"-\" 0ms\n");
}

#[test]
fn filters_ask_for_requests_and_any_of_them_is_enough() {
    let owned = web();
    let mut record = simple(&owned, "/", None);
    let logged = |filters: &Filters, record: &RequestRecord<'_>| {
        let options = Options { filters: filters.clone(), ..Options::new(Format::Json) };
        !with(options, record, 0).is_empty()
    };
    let mut filters = Filters::default();
    assert!(logged(&filters, &record));
    filters.statuses = vec![(404, 404), (500, 599)];
    assert!(!logged(&filters, &record));
    filters.min_duration = Duration::from_millis(2);
    assert!(!logged(&filters, &record));
    filters.min_duration = Duration::from_millis(1);
    assert!(logged(&filters, &record));
    filters.min_duration = Duration::ZERO;
    filters.retried = true;
    assert!(!logged(&filters, &record));
    record.retries = 1;
    assert!(logged(&filters, &record));
    (record.retries, record.status) = (0, 502);
    assert!(logged(&filters, &record));
}

#[test]
fn the_proxys_own_routes_are_logged_only_where_that_is_said() {
    let owned = Owned { router: Some("api@internal".into()), ..web() };
    let options = Options { internals: false, ..Options::new(Format::Json) };
    assert_eq!(with(options, &simple(&owned, "/", None), 0), "");
    assert_ne!(encode(Format::Json, &simple(&owned, "/", None), 0), "");
}

#[test]
fn a_sample_stands_for_many_and_failures_are_never_passed_over() {
    let owned = web();
    let fine = simple(&owned, "/", None);
    let mut failed = simple(&owned, "/failed", None);
    (failed.status, failed.failure) = (502, Some(Cause::Refused.into()));
    let options = Options { sample: 10, ..Options::new(Format::Json) };
    let mut encoder = Encoder::new(options, Numbers::starting_at(Arc::default()));
    for _ in 0..100 {
        encoder.encode(&fine);
    }
    encoder.encode(&failed);
    let lines = encoder.take();
    let rates: Vec<u64> = std::str::from_utf8(&lines)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["SampleRate"].as_u64().unwrap())
        .collect();
    assert_eq!(rates, [vec![10; 10], vec![1]].concat());
}

#[test]
fn what_went_wrong_is_told_with_its_context() {
    let owned = web();
    let mut record = simple(&owned, "/", None);
    let late = crate::http::Failure::new(Cause::TimedOut(Phase::Head));
    record.failure = Some(late.with(Context::Limit(Duration::from_millis(250))));
    record.reason = Some(Reason::HeadTimeout);
    let line = json_with(Options::new(Format::Json), &record);
    let told = ["ProxyCause", "ProxyContext", "ProxyReason", "ProxyRetry", "ProxySide"].map(|key| line[key].clone());
    assert_eq!(told, ["timed out: head", "limit 250ms", "head_timeout", "no", "server"].map(Value::from));
}

#[test]
fn the_clients_address_is_what_a_believed_peer_says() {
    let owned = web();
    let mut record = simple(&owned, "/", None);
    record.forwarded_for = Some("203.0.113.9, 10.0.0.1");
    let line = json_with(Options::new(Format::Json), &record);
    assert_eq!((&line["ClientHost"], &line["ClientAddr"]), (&"203.0.113.9, 10.0.0.1".into(), &"127.0.0.1:5".into()));
}

proptest! {
    /// Whatever a client sends, a line stays one line that can be read back.
    #[test]
    fn no_client_text_breaks_a_line(target in "\\PC*|[\\x00-\\x7f]*", agent in "\\PC*|[\\x00-\\x7f]*") {
        let owned = web();
        let heads = Heads { request: &[("user-agent", agent.as_bytes())], ..Heads::default() };
        let record = simple(&owned, &target, Some(&heads));
        let json = with(kept(Format::Json), &record, 0);
        prop_assert_eq!(json.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(value["RequestPath"].as_str(), Some(&*target));
        prop_assert_eq!(value["request_User-Agent"].as_str(), Some(&*agent));
        let common = with(kept(Format::Common), &record, 0);
        prop_assert_eq!(common.matches('\n').count(), 1);
        // Quotes that are not escaped are the fields' own: five pairs.
        let bare = common.replace("\\\\", "").replace("\\\"", "");
        prop_assert_eq!(bare.matches('"').count(), 10);
    }

    #[test]
    fn instants_are_those_of_go(seconds in 0i64..4_000_000_000, nanos in 0u32..1_000_000_000) {
        let mut buffer = Vec::new();
        Second::new(Zone::utc(), Style::Rfc3339).write(&mut Line::new(&mut buffer), seconds, nanos);
        let text = String::from_utf8(buffer).unwrap();
        let read: jiff::Timestamp = text.parse().unwrap();
        prop_assert_eq!((read.as_second(), read.subsec_nanosecond() as u32), (seconds, nanos));
        prop_assert!(!text.contains('.') || !text.ends_with("0Z"));
    }
}
