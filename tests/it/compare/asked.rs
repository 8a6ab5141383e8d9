//! What is sent, what counts as a difference, and what is told.

use super::{Scripted, answer, compare, compare_with, ok};
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn equal_answers_are_the_same() {
    let (old, new) = (Scripted::saying("hello"), Scripted::saying("hello"));
    let given = compare(&old, &new, "", &["--url", "http://shop.test/a?b=c", "--url", "HEAD http://shop.test/"]);
    assert_eq!((given.code, given.err.as_str()), (Some(0), ""), "{}", given.out);
    assert!(
        given.out.contains("compared 2 requests (of 2 recorded): 2 the same, 0 different, 0 unstable"),
        "{}",
        given.out
    );
    for server in [&old, &new] {
        let heads = server.heads();
        assert_eq!(heads.len(), 2);
        let asked = heads.iter().any(|head| {
            head.starts_with("GET /a?b=c HTTP/1.1\r\n") && head.to_lowercase().contains("host: shop.test\r\n")
        });
        assert!(asked, "{heads:?}");
    }
}

#[test]
fn each_difference_is_told_with_its_request() {
    let old = Scripted::start(|head| match head.split(' ').nth(1) {
        Some("/status") => ok("x"),
        Some("/field") => answer("200 OK", "Cache-Control: no-store\r\nSet-Cookie: id=OLDSECRET; Path=/\r\n", "x"),
        Some("/moved") => answer("301 Moved", "Location: /here\r\n", ""),
        _ => ok("old"),
    });
    let new = Scripted::start(|head| match head.split(' ').nth(1) {
        Some("/status") => answer("404 Not Found", "", "none"),
        Some("/field") => answer("200 OK", "Set-Cookie: id=NEWSECRET; Path=/; Secure\r\n", "x"),
        Some("/moved") => answer("301 Moved", "Location: /there\r\n", ""),
        _ => ok("new"),
    });
    let input = "http://a.test/status\nhttp://a.test/field\nhttp://b.test/body?token=hunter2\nhttp://b.test/moved\n";
    let given = compare(&old, &new, input, &["-"]);
    assert_eq!(given.code, Some(1), "{}", given.err);
    for line in [
        "different GET http://a.test/status (-:1)\n  status: 200 -> 404\n",
        "  header cache-control: no-store -> (none)\n  header set-cookie: id=***; path=/ -> id=***; path=/; secure\n",
        "different GET http://b.test/body?token=*** (-:3)\n  body: 3 bytes, sha256 ",
        "  header location: /here -> /there\n",
        "4 different",
        "different by host: a.test 2, b.test 2\n",
    ] {
        assert!(given.out.contains(line), "{line:?} not in\n{}", given.out);
    }
    assert!(!given.out.contains("SECRET") && !given.out.contains("hunter2"), "{}", given.out);
    assert!(given.err.contains("-: 4 records of URLs (guessed"), "{}", given.err);
    // each was asked again three times, and no redirect was followed
    assert_eq!(new.heads().len(), 16);
    assert!(!new.heads().iter().any(|head| head.contains("/there")));

    let given = compare(&old, &new, input, &["-", "--json"]);
    let json = given.json();
    assert_eq!((given.code, &json["same"], &json["requests"]["different"]), (Some(1), &false.into(), &4.into()));
    let of = |url: &str| {
        json["differences"].as_array().expect("a list").iter().find(|d| d["url"] == url).expect("it").clone()
    };
    let status = of("http://a.test/status");
    assert_eq!(
        status["differences"][0],
        serde_json::json!({"what": "status", "old": "200", "new": "404", "everyTime": true})
    );
    assert_eq!((&status["source"], &status["at"], &status["askedAgain"]), (&"-".into(), &1.into(), &3.into()));
    assert_eq!(json["hosts"], serde_json::json!({"a.test": 2, "b.test": 2}));
    assert!(json["milliseconds"]["new"]["p95"].is_number(), "{json}");

    // what is not wanted is not compared
    let given = compare(
        &old,
        &new,
        "http://a.test/field\n",
        &["-", "--ignore-header", "set-cookie", "--ignore-header", "Cache-*"],
    );
    assert_eq!(given.code, Some(0), "{}", given.out);
}

#[test]
fn a_page_that_changes_by_itself_is_no_difference() {
    let counting = || {
        let count = AtomicUsize::new(0);
        Scripted::start(move |head| match head.split(' ').nth(1) {
            Some("/clock") => ok(&count.fetch_add(1, Ordering::SeqCst).to_string()),
            _ => ok("still"),
        })
    };
    let (old, new) = (counting(), counting());
    // the new one is a step ahead
    let _ = compare(&new, &new, "", &["--url", "http://a.test/clock", "--repeat", "0"]);
    let urls = ["--url", "http://a.test/clock", "--url", "http://a.test/"];
    let given = compare(&old, &new, "", &urls);
    assert_eq!(given.code, Some(0), "{}", given.out);
    assert!(given.out.contains("unstable  GET http://a.test/clock"), "{}", given.out);
    assert!(given.out.contains("the old proxy differs from itself in: body"), "{}", given.out);
    assert!(given.out.contains("1 the same, 0 different, 1 unstable"), "{}", given.out);
}

#[test]
fn a_new_proxy_that_fails_now_and_then_is_different() {
    let count = AtomicUsize::new(0);
    let old = Scripted::saying("x");
    let new = Scripted::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer("503 Service Unavailable", "", ""),
        _ => ok("x"),
    });
    let given = compare(&old, &new, "", &["--url", "http://a.test/"]);
    assert_eq!(given.code, Some(1), "{}", given.out);
    assert!(given.out.contains("  status: 200 -> 503 (not every time)"), "{}", given.out);
}

#[test]
fn no_answer_is_a_difference() {
    let (old, new) = (Scripted::saying("x"), Scripted::start(|_| String::new()));
    let given = compare(&old, &new, "", &["--url", "http://a.test/"]);
    assert_eq!(given.code, Some(1), "{}", given.out);
    assert!(given.out.contains("answer: 200 -> closed without an answer"), "{}", given.out);
    // neither: nothing was compared
    let given = compare(&new, &new, "", &["--url", "http://a.test/"]);
    assert_eq!(given.code, Some(2), "{}", given.out);
    assert!(given.err.contains("neither proxy answered anything"), "{}", given.err);
}

#[test]
fn an_answer_that_does_not_end_is_given_up() {
    let endless = || Scripted::start(|_| "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ndata: 1\n\n".to_owned());
    let (old, new) = (endless(), endless());
    let given = compare(&old, &new, "", &["--url", "http://a.test/events", "--timeout", "200ms"]);
    assert_eq!(given.code, Some(0), "{}{}", given.out, given.err);
    let given =
        compare(&Scripted::saying("data: 1\n\n"), &new, "", &["--url", "http://a.test/events", "--timeout", "200ms"]);
    assert_eq!(given.code, Some(1), "{}{}", given.out, given.err);
    assert!(given.out.contains("-> 9 bytes, not at its end"), "{}", given.out);
}

#[test]
fn bodies_are_compared_up_to_a_bound() {
    let (old, new) = (Scripted::saying("0123456789-old"), Scripted::saying("0123456789-new"));
    assert_eq!(compare(&old, &new, "", &["--url", "http://a.test/", "--max-body", "10"]).code, Some(0));
    assert_eq!(compare(&old, &new, "", &["--url", "http://a.test/", "--max-body", "14"]).code, Some(1));
}

#[test]
fn only_safe_methods_are_sent_unless_told() {
    let (old, new) = (Scripted::saying("x"), Scripted::saying("y"));
    let given = compare(&old, &new, "", &["--url", "POST http://a.test/"]);
    assert_eq!(given.code, Some(2));
    assert!(
        given.err.contains("`--url`: POST is not among the methods that are sent\nhint: `--methods`"),
        "{}",
        given.err
    );
    let input = "POST http://a.test/\nDELETE http://a.test/\nGET http://a.test/\n";
    let given = compare(&old, &new, input, &["-"]);
    assert!(given.out.contains("left out: 1 DELETE (`--methods`), 1 POST (`--methods`)"), "{}", given.out);
    let given = compare(&old, &new, "POST http://a.test/\n", &["-"]);
    assert_eq!(given.code, Some(2), "{}", given.out);
    assert!(old.heads().iter().all(|head| head.starts_with("GET ")), "{:?}", old.heads());
    // told, it is sent, and once only, although the answers differ
    let given = compare(&old, &new, "POST http://a.test/\n", &["-", "--methods", "get,post"]);
    assert_eq!(given.code, Some(1), "{}", given.err);
    assert_eq!(new.heads().iter().filter(|head| head.starts_with("POST ")).count(), 1);
}

#[test]
fn a_proxy_that_is_not_there_is_said_at_once() {
    let there = Scripted::saying("x");
    let gone = format!("127.0.0.1:{}", crate::support::ports::free());
    let given =
        compare_with("", &["--old", &there.url(), "--new", &format!("http://{gone}"), "--url", "http://a.test/"]);
    assert_eq!((given.code, given.out.as_str()), (Some(2), ""));
    assert!(given.err.contains(&format!("`--new http://{gone}`: no connection")), "{}", given.err);
    assert!(there.heads().is_empty());
}

#[test]
fn the_rate_is_kept() {
    let (old, new) = (Scripted::saying("x"), Scripted::saying("x"));
    let input: String = (0..11).map(|n| format!("http://a.test/{n}\n")).collect();
    let began = Instant::now();
    let given =
        compare_with(&input, &["--old", &old.url(), "--new", &new.url(), "--rate", "50", "--concurrency", "8", "-"]);
    assert_eq!(given.code, Some(0), "{}", given.err);
    // ten gaps of 20 ms; slower is the machine's
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    assert_eq!(old.heads().len(), 11);
}

#[test]
fn slower_counts_only_where_it_is_said() {
    let slow = || {
        Scripted::start(|_| {
            // the time of an answer is what is tested
            std::thread::park_timeout(Duration::from_secs(2));
            ok("x")
        })
    };
    let (old, new) = (Scripted::saying("x"), slow());
    assert_eq!(compare(&old, &new, "", &["--url", "http://a.test/"]).code, Some(0));
    let given = compare(&old, &new, "", &["--url", "http://a.test/", "--max-slower", "100ms", "--repeat", "1"]);
    assert_eq!(given.code, Some(1), "{}", given.out);
    assert!(given.out.contains("\n  time: "), "{}", given.out);
}

#[test]
fn wrong_words() {
    let (a, b) = ("http://127.0.0.1:1", "http://127.0.0.1:2");
    for (args, says) in [
        (&["--old", a, "--new", b][..], "required"),
        (&["--old", "127.0.0.1:1", "--new", b, "x"], "`--old`: expected `http://HOST[:PORT]`"),
        (&["--old", a, "--old", a, "--new", b, "x"], "one address for each"),
        (&["--old", a, "--new", b, "--sample", "2", "x"], "`--sample`"),
        (&["--old", a, "--new", b, "--rate=-1", "x"], "`--rate`"),
        (&["--old", a, "--new", b, "--timeout", "soon", "x"], "`--timeout`"),
        (&["--old", a, "--new", b, "--format", "xml", "x"], "`--format`: expected one of clf, caddy"),
        (&["--old", a, "--new", b, "-H", "secret", "x"], "`--header`: expected `NAME: VALUE`\n"),
        (&["--old", a, "--new", b, "/nonexistent/log"], "`/nonexistent/log` cannot be read"),
        (&["--old", a, "--new", b, "--ca", "/nonexistent/ca", "--url", "http://a/"], "`/nonexistent/ca`"),
    ] {
        let given = compare_with("", args);
        assert_eq!(given.code, Some(2), "{args:?}: {}", given.err);
        assert!(given.err.contains(says), "{args:?}: {}", given.err);
    }
    let given = compare_with("", &["--help"]);
    assert_eq!(given.code, Some(0));
    for word in ["Examples:", "--ignore-header", "Exit code:", "HAR", "--insecure"] {
        assert!(given.out.contains(word), "{word} not in\n{}", given.out);
    }
}

#[test]
fn a_unix_socket_is_told_how_the_request_came() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("proxy.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|n| n > 0) {}
            // the first connection only looks whether somebody is there
            if !head.is_empty() {
                drop(stream.write_all(ok("x").as_bytes()));
                drop(tell.send(head.to_lowercase()));
            }
        }
    });
    let old = Scripted::saying("x");
    let given = compare_with(
        "",
        &["--old", &old.url(), "--new", &format!("unix:{}", path.display()), "--url", "https://s.test/p"],
    );
    assert_eq!(given.code, Some(0), "{}{}", given.out, given.err);
    let head = told.recv_timeout(crate::support::PATIENCE).expect("a request");
    assert!(head.starts_with("get /p http/1.1\r\n") && head.contains("x-forwarded-proto: https\r\n"), "{head}");
    assert!(!old.heads()[0].to_lowercase().contains("x-forwarded-proto"));
}

#[test]
fn a_length_that_is_only_announced_is_compared() {
    // the body of one is longer than is read, the other is asked for by HEAD: nothing but the announced length differs
    let long = |length: usize| {
        Scripted::start(move |_| {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n0123456789{}", "x".repeat(length - 10))
        })
    };
    let (old, new) = (long(100), long(200));
    for url in ["http://a.test/", "HEAD http://a.test/"] {
        let given = compare(&old, &new, "", &["--url", url, "--max-body", "10"]);
        assert_eq!(given.code, Some(1), "{url}: {}", given.out);
        assert!(given.out.contains("  body: 100 bytes announced -> 200 bytes announced\n"), "{url}: {}", given.out);
        assert_eq!(compare(&old, &long(100), "", &["--url", url, "--max-body", "10"]).code, Some(0), "{url}");
    }
}

#[test]
fn a_request_that_changes_something_is_sent_once_over_a_kept_connection() {
    let (old, new) = (Scripted::saying("x"), Scripted::saying("x"));
    let input: String = (0..50).map(|n| format!("POST http://a.test/{n}\n")).collect();
    let given = compare(&old, &new, &input, &["-", "--methods", "POST", "--concurrency", "1"]);
    assert_eq!(given.code, Some(0), "{}{}", given.out, given.err);
    assert_eq!((old.heads().len(), new.heads().len()), (50, 50));
}

#[test]
fn the_summary_says_what_differs_most() {
    let old = Scripted::saying("x");
    let new = Scripted::start(|head| match head.split(' ').nth(1) {
        Some("/gone") => answer("404 Not Found", "X-Frame-Options: DENY\r\n", "x"),
        _ => answer("200 OK", "X-Frame-Options: DENY\r\n", "x"),
    });
    let input = "http://a.test/1\nhttp://a.test/2\nhttp://a.test/gone\n";
    let given = compare(&old, &new, input, &["-", "--repeat", "0"]);
    assert!(given.out.contains("different in: header x-frame-options 3, status 1\n"), "{}", given.out);
    let json = compare(&old, &new, input, &["-", "--repeat", "0", "--json"]).json();
    assert_eq!(json["aspects"], serde_json::json!({"header x-frame-options": 3, "status": 1}));
}
