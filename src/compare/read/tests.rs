//! Each format by lines as they are really written, and that no line at all panics.

use super::*;
use crate::compare::Scheme;
use proptest::prelude::*;

fn read_with(text: &[u8], format: Option<Format>, defaults: &Defaults) -> Result<(Told, Vec<Request>), ReadError> {
    let methods = ["GET", "HEAD", "OPTIONS"].map(str::to_owned);
    let witnesses = |_: &serde_json::Value| vec![Recorded::get("http://from.rules/")];
    let wanted = Wanted { defaults, methods: &methods, sample: 1.0, limit: None, witnesses: &witnesses };
    let mut requests = Requests::default();
    let told = requests.read("log", &mut &*text, format, &wanted)?;
    Ok((told, requests.into_list()))
}

fn read(text: &str) -> (Told, Vec<String>) {
    let defaults = Defaults { host: Some("fallback.test".to_owned()), ..Defaults::default() };
    let (told, list) = read_with(text.as_bytes(), None, &defaults).unwrap();
    let line = |r: Request| {
        let scheme = r.scheme.map_or("-", Scheme::as_str);
        format!("{} {scheme} {} {} x{}", r.method, r.host_text(), r.target, r.times)
    };
    (told, list.into_iter().map(line).collect())
}

#[test]
fn common_log_format() {
    let (told, list) = read(concat!(
        "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /apache_pb.gif HTTP/1.0\" 200 2326\n",
        "192.0.2.9 - - [10/Oct/2026:13:55:36 +0000] \"GET /a?b=%20c HTTP/2.0\" 200 12 \"https://x/\" \"Mozilla/5.0 (X11) \\\"q\\\"\"\n",
        "192.0.2.9 - - [10/Oct/2026:13:55:37 +0000] \"POST /login HTTP/1.1\" 302 0 \"-\" \"curl/8\"\n",
        "192.0.2.9 - - [10/Oct/2026:13:55:38 +0000] \"-\" 408 0 \"-\" \"-\"\n",
        "192.0.2.9 - - [10/Oct/2026:13:55:39 +0000] \"\\x16\\x03\\x01\" 400 0 \"-\" \"-\"\n",
        "shop.test:443 2001:db8::1 - - [10/Oct/2026:13:55:40 +0000] \"HEAD /v HTTP/1.1\" 200 5 \"-\" \"-\"\n",
        "10.0.0.1 - - [20/Nov/2026:22:36:00 +0000] \"GET /t HTTP/1.1\" 200 5 \"-\" \"-\" 7 \"shop@consulcatalog\" \"http://10.1.2.3:80\" 4ms\n",
        "192.0.2.9 - - [10/Oct/2026:13:55:41 +0000] \"GET http://abs.test/p HTTP/1.1\" 200 5\n",
        "half a li",
    ));
    assert_eq!((told.format, told.guessed, told.records, told.others, told.bad), (Format::Clf, true, 9, 1, 2));
    assert_eq!(
        list,
        [
            "GET - fallback.test /apache_pb.gif x1",
            "GET https fallback.test /a?b=%20c x1",
            "HEAD https shop.test /v x1",
            "GET - fallback.test /t x1",
            "GET http abs.test /p x1",
        ]
    );
    assert_eq!(told.first_bad[1].0.to_string(), "log:9");
}

#[test]
fn logs_of_nginx_as_strangers_fill_them() {
    let line = |request: &str, agent: &[u8]| {
        let head = format!(r#"192.0.2.9 - - [22/Nov/2026:01:57:46 +0000] "{request}" 400 157 "-" ""#);
        [head.as_bytes(), agent, b"\"\n"].concat()
    };
    // the bytes of a user agent are nobody's concern; those of a target are
    let text = [
        line("GET /k HTTP/1.1", b"a\\x22b\\x5Cc\xff\xfe"),
        line("CONNECT x:443 HTTP/1.1", b"-"),
        line(r"GET /%ff\xFF\xFE HTTP/1.1", b"-"),
        line(r"\x16\x03\x01", b"-"),
        line("OPTIONS * HTTP/1.1", b"-"),
    ]
    .concat();
    let defaults = Defaults { host: Some("a.test".to_owned()), ..Defaults::default() };
    let (told, list) = read_with(&text, None, &defaults).unwrap();
    assert_eq!((told.format, told.records, told.bad), (Format::Clf, 5, 2));
    assert_eq!(list.iter().map(|r| r.target.as_str()).collect::<Vec<_>>(), ["/k", "*"]);
    assert_eq!(told.first_bad[0].1, Bad::NotText);

    // what was no request has the names and nothing in them
    let text = [
        &br#"{"host":"n.test","request_method":"GET","request_uri":"/a","ua":""#[..],
        b"\xc3\"}\n",
        br#"{"host":"","request_method":"","request_uri":"","status":400}"#,
        b"\n",
        br#"{"http_host":"n.test","request":"","status":"400"}"#,
        b"\n",
        br#"{"http_host":"n.test","request":"GET /a b c HTTP/1.1","status":"400"}"#,
        b"\n",
    ]
    .concat();
    let (told, list) = read_with(&text, None, &Defaults::default()).unwrap();
    assert_eq!((told.format, told.records, told.others, told.bad, list.len()), (Format::Json, 4, 2, 1, 1));
    assert_eq!(told.first_bad[0].1, Bad::Target("/a b c".to_owned()));
}

#[test]
fn a_log_without_hosts_needs_one() {
    let line = b"127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 2326\n";
    let (told, list) = read_with(line, None, &Defaults::default()).unwrap();
    assert_eq!((told.bad, list.len(), &told.first_bad[0].1), (1, 0, &Bad::NoHost));
}

#[test]
fn caddy() {
    let (told, list) = read(concat!(
        r#"{"level":"info","ts":1646861401.52,"logger":"http.log.access.log0","msg":"handled request","request":{"remote_ip":"127.0.0.1","remote_port":"41342","client_ip":"127.0.0.1","proto":"HTTP/2.0","method":"GET","host":"shop.test","uri":"/a?b=1","headers":{"User-Agent":["curl/7.82.0"],"Cookie":["REDACTED"],"X-Canary":["1"]},"tls":{"resumed":false,"version":772,"cipher_suite":4865,"proto":"h2","server_name":"shop.test"}},"bytes_read":0,"user_id":"","duration":0.0009,"size":10900,"status":200,"resp_headers":{"Server":["Caddy"]}}"#,
        "\n",
        r#"{"level":"error","ts":1646861402.0,"logger":"http.log.error","msg":"dial tcp: refused","request":{"method":"GET","host":"shop.test","uri":"/down","proto":"HTTP/1.1"},"status":502}"#,
        "\n",
        r#"{"level":"info","ts":1646861402.1,"logger":"admin","msg":"admin endpoint started","address":"localhost:2019"}"#,
        "\n",
        "2026/11/20 22:36:00.000\tINFO\thttp.log.access\thandled request\t",
        r#"{"request":{"proto":"HTTP/1.1","method":"GET","host":"shop.test:8080","uri":"/plain","headers":{}},"status":200}"#,
        "\n",
        r#"{"level":"info","ts":1,"logger":"http.log.access","msg":"handled request","request":{"method":"GET","uri":"relative","host":"x"}}"#,
        "\n",
    ));
    assert_eq!((told.format, told.records, told.others, told.bad), (Format::Caddy, 5, 2, 1));
    assert_eq!(list, ["GET https shop.test /a?b=1 x1", "GET http shop.test:8080 /plain x1"]);
}

#[test]
fn traefik() {
    let line = |method: &str, addr: &str, path: &str| {
        format!(
            r#"{{"ClientAddr":"127.0.0.1:40354","DownstreamStatus":200,"RequestAddr":"{addr}","RequestHost":"{addr}","RequestMethod":"{method}","RequestPath":"{path}","RequestPort":"-","RequestProtocol":"HTTP/1.1","RequestScheme":"https","entryPointName":"websecure","level":"info","msg":"","time":"2026-11-21T22:58:20Z","request_X-Canary":"1"}}"#
        ) + "\n"
    };
    let own = r#"{"timestamp":"2026-11-21T22:58:14Z","level":"INFO","message":"catalog connected"}"#;
    let text = line("GET", "a.test", "/x?y")
        + &line("GET", "a.test", "/x?y")
        + own
        + "\n"
        + &line("DELETE", "a.test", "/x")
        + "{\n";
    let (told, list) = read(&text);
    assert_eq!((told.format, told.records, told.others, told.bad), (Format::Traefik, 5, 1, 1));
    assert_eq!(list, ["GET https a.test /x?y x2"]);
}

#[test]
fn json_of_others() {
    let (told, list) = read(concat!(
        r#"{"time":"x","host":"n.test","request_method":"GET","request_uri":"/nginx?q=1","scheme":"https","status":200}"#,
        "\n",
        r#"{"http_host":"n.test","request":"GET /line HTTP/1.1","status":"200"}"#,
        "\n",
        r#"{":authority":"e.test","method":"GET","path":"/envoy","protocol":"HTTP/2"}"#,
        "\n",
        r#"{"req":{"method":"GET","url":"/pino","headers":{"host":"p.test"}},"msg":"request completed"}"#,
        "\n",
        r#"{"httpRequest":{"requestMethod":"GET","requestUrl":"https://g.test/cloud"}}"#,
        "\n",
        r#"{"method":"GET","path":"/split","query":"a=1","host":"s.test"}"#,
        "\n",
        r#"{"message":"hello"}"#,
        "\n",
        r#"{"request":"x","method":5}"#,
        "\n",
    ));
    assert_eq!((told.format, told.bad), (Format::Json, 2));
    assert_eq!(
        list,
        [
            "GET https n.test /nginx?q=1 x1",
            "GET - n.test /line x1",
            "GET - e.test /envoy x1",
            "GET - p.test /pino x1",
            "GET https g.test /cloud x1",
            "GET - s.test /split?a=1 x1",
        ]
    );
}

#[test]
fn archives_and_catalogs() {
    let har = r#"{
  "log": {"version": "1.2", "entries": [
    {"startedDateTime": "x", "request": {"method": "GET", "url": "https://h.test/p?q#frag", "headers": [
      {"name": ":authority", "value": "h.test"}, {"name": "Cookie", "value": "id=1"}, {"name": "X-Api", "value": "2"}]},
      "response": {"status": 200, "content": {"text": "large"}}},
    {"request": {"method": "GET", "url": "wss://h.test/socket"}},
    {"request": {"method": "POST", "url": "https://h.test/form", "postData": {"text": "a=b"}}},
    {"request": {"method": "GET", "url": "https://h.test/null", "headers": [{"name": "A", "value": null}], "postData": {"params": [], "text": null}}},
    {}
  ]}
}"#;
    for text in [har.to_owned(), har.replace('\n', "")] {
        let (told, list) = read(&text);
        assert_eq!((told.format, told.records, told.others, told.bad), (Format::Har, 5, 1, 1));
        assert_eq!(list, ["GET https h.test /p?q x1", "GET https h.test /null x1"]);
    }
    let (told, list) = read("{\n \"routers\": {}\n}\n");
    assert_eq!((told.format, list.len()), (Format::Rawdata, 1));
    let refused = read_with(b"{\n \"other\": {}\n}\n", None, &Defaults::default());
    assert!(matches!(refused, Err(ReadError::Unknown(_))));
}

#[test]
fn urls() {
    let (told, list) = read("\u{feff}# a list\r\n\r\nhttps://u.test/a\r\nHEAD http://u.test\r\nnot a url\r\n");
    assert_eq!((told.format, told.bad), (Format::Urls, 1));
    assert_eq!(list, ["GET https u.test /a x1", "HEAD http u.test / x1"]);
}

#[test]
fn what_is_no_log_is_refused_as_a_whole() {
    for text in ["", "\n\n", "hello\nworld\n", "\u{1}\u{2}", "# nothing\n"] {
        assert!(read_with(text.as_bytes(), None, &Defaults::default()).is_err(), "{text:?}");
    }
    assert!(read_with(&[0x1f, 0x8b, 0xff, 0xfe, b'\n'], None, &Defaults::default()).is_err());
}

#[test]
fn a_line_without_end_is_skipped() {
    let long = format!("GET http://a.test/{}\nhttp://a.test/next\n", "x".repeat(MAX_LINE * 2));
    let (told, list) = read_with(long.as_bytes(), Some(Format::Urls), &Defaults::default()).unwrap();
    // the first line may be a document, but is none
    assert!(told.bad <= 1 && list.iter().any(|r| r.target == "/next"), "{told:?}");
    let long = format!("http://a.test/\nGET http://a.test/{}\nhttp://a.test/next\n", "x".repeat(MAX_LINE * 2));
    let (told, list) = read_with(long.as_bytes(), None, &Defaults::default()).unwrap();
    assert_eq!((told.bad, list.len(), told.first_bad[0].1.clone()), (1, 2, Bad::TooLong));
}

#[test]
fn samples_and_limits_keep_their_word() {
    let text: String = (0..1000).map(|n| format!("http://a.test/{n}\n")).collect();
    let methods = ["GET".to_owned()];
    let defaults = Defaults::default();
    let run = |sample, limit| {
        let wanted = Wanted { defaults: &defaults, methods: &methods, sample, limit, witnesses: &|_| Vec::new() };
        let mut requests = Requests::default();
        let told = requests.read("log", &mut text.as_bytes(), None, &wanted).unwrap();
        let left_out = requests.left_out;
        (told, requests.into_list().into_iter().map(|r| r.target.to_string()).collect::<Vec<_>>(), left_out)
    };
    let (told, list, _) = run(1.0, Some(10));
    assert_eq!((told.left_at, list.len()), (Some(10), 10));
    let (_, some, left_out) = run(0.2, None);
    assert!((100..300).contains(&some.len()), "{}", some.len());
    assert_eq!((u64::try_from(some.len()).unwrap() + left_out, run(0.2, None).1), (1000, some));
    assert_eq!(run(0.0, None).1.len(), 0);
}

proptest! {
    #[test]
    fn no_line_panics(line in "\\PC{0,120}", at in 0..7usize) {
        let format = Format::ALL[at];
        drop(read_with(line.as_bytes(), Some(format), &Defaults::default()));
        drop(read_with(line.as_bytes(), None, &Defaults::default()));
    }

    #[test]
    fn nothing_that_is_nearly_a_line_panics(
        line in r#"[0-9a-f.:]{1,12} [-a-z]{1,3} ?[-a-z]{0,3} ?\[[^]]{0,9}\]? "?(GET|P|) ?[ -~\\x]{0,20}"? ?[0-9-]{0,4}.{0,10}"#,
        cut in 0..200usize,
    ) {
        drop(read_line(&line, Format::Clf));
        let caddy = r#"{"logger":"http.log.access","request":{"method":"GET","host":"a","uri":"/","headers":{"A":["b"]}}}"#;
        drop(read_line(&caddy.chars().take(cut).collect::<String>(), Format::Caddy));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..7usize) {
        drop(read_with(&bytes, Some(Format::ALL[at]), &Defaults::default()));
        drop(read_with(&bytes, None, &Defaults::default()));
    }
}
