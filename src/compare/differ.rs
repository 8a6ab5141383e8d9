//! Two answers side by side: what differs, leaving out what two proxies may say otherwise (dates, their own names, the
//! values of cookies). Pure.

use super::client::{Answer, Ending, NoAnswer, Proxy};
use super::hide;
use super::request::Scheme;
use crate::http::split_port;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Fields that are of one connection (RFC 9110, 7.6.1), or that say what is compared otherwise.
const OF_CONNECTION: [&str; 8] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"];
/// Fields that are not compared unless told; a `*` at the end stands for any.
pub const IGNORED: [&str; 20] = [
    "date",
    "age",
    "expires",
    "server",
    "via",
    "alt-svc",
    "x-request-id",
    "request-id",
    "x-correlation-id",
    "x-trace-id",
    "x-amzn-trace-id",
    "traceparent",
    "tracestate",
    "x-b3-*",
    "cf-ray",
    "server-timing",
    "x-runtime",
    "x-response-time",
    "x-envoy-upstream-service-time",
    "nel",
];
/// Parts of a cookie that change with each answer.
const OF_COOKIE: [&str; 2] = ["expires", "max-age"];
/// Characters of a value that are shown.
const SHOWN: usize = 200;

/// What is compared.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    ignored: Vec<String>,
    compared: Vec<String>,
    /// Slower by more than this is a difference.
    pub max_slower: Option<Duration>,
}

impl Rules {
    /// The default fields, with `more` left out too, and `compared` not.
    pub fn new(more: &[String], compared: &[String], max_slower: Option<Duration>) -> Self {
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>();
        let ignored = IGNORED.iter().map(|name| (*name).to_owned()).chain(lower(more)).collect();
        Self { ignored, compared: lower(compared), max_slower }
    }

    fn ignores(&self, name: &str) -> bool {
        if self.compared.iter().any(|compared| compared == name) {
            return false;
        }
        OF_CONNECTION.contains(&name)
            || self.ignored.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == pattern,
            })
    }
}

/// What of two answers differs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Aspect {
    /// One gave none, or for another reason.
    Answer,
    /// The status.
    Status,
    /// The field of this name.
    Header(String),
    /// The body.
    Body,
    /// The time, where that counts.
    Time,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer => f.write_str("answer"),
            Self::Status => f.write_str("status"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Body => f.write_str("body"),
            Self::Time => f.write_str("time"),
        }
    }
}

/// One difference, in words that may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub aspect: Aspect,
    /// With the old proxy.
    pub old: String,
    /// With the new one.
    pub new: String,
}

pub(super) type Got = Result<Answer, NoAnswer>;

/// What differs between two answers; each proxy's own ports in redirects count as none.
pub(super) fn differences(
    rules: &Rules,
    (old, of_old): (&Got, &Proxy),
    (new, of_new): (&Got, &Proxy),
) -> Vec<Difference> {
    let mut found = Vec::new();
    let (a, b) = match (old, new) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(a), Err(b)) if a.trouble == b.trouble => return found,
        _ => {
            let said = |got: &Got| got.as_ref().map_or_else(ToString::to_string, |answer| answer.status.to_string());
            found.push(Difference { aspect: Aspect::Answer, old: said(old), new: said(new) });
            return found;
        }
    };
    if a.status != b.status {
        found.push(Difference { aspect: Aspect::Status, old: a.status.to_string(), new: b.status.to_string() });
    }
    let names: BTreeSet<&str> = a.headers.keys().chain(b.headers.keys()).map(|name| name.as_str()).collect();
    for name in names.into_iter().filter(|name| !rules.ignores(name)) {
        let (old, new) = (values(&a.headers, name, of_old), values(&b.headers, name, of_new));
        if old != new {
            let aspect = Aspect::Header(name.to_owned());
            found.push(Difference { aspect, old: shown(name, &old), new: shown(name, &new) });
        }
    }
    // what did not end in time, of either, says nothing of the rest
    let same = if a.ending == Ending::Unfinished && b.ending == Ending::Unfinished {
        true
    } else {
        (a.length, a.hash, a.ending) == (b.length, b.hash, b.ending)
    };
    if !same {
        found.push(Difference { aspect: Aspect::Body, old: body(a), new: body(b) });
    } else if let (Some(old), Some(new)) = (announced(a), announced(b))
        && old != new
    {
        let (old, new) = (format!("{old} bytes announced"), format!("{new} bytes announced"));
        found.push(Difference { aspect: Aspect::Body, old, new });
    }
    if let Some(limit) = rules.max_slower
        && b.took > a.took.saturating_add(limit)
    {
        found.push(Difference { aspect: Aspect::Time, old: milliseconds(a.took), new: milliseconds(b.took) });
    }
    found
}

/// A time as people read it.
pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// The length that an answer names, where its body was not read to the end (HEAD, 304, one above the bound): what was read
/// says it better.
fn announced(answer: &Answer) -> Option<u64> {
    let unread = answer.ending == Ending::Bound || answer.ending == Ending::Whole && answer.length == 0;
    let named = answer.headers.get(CONTENT_LENGTH).filter(|_| unread)?;
    named.to_str().ok()?.trim().parse().ok()
}

fn body(answer: &Answer) -> String {
    let hash: String = answer.hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let ending = match answer.ending {
        Ending::Whole => "",
        Ending::Bound => " and more",
        Ending::Unfinished => ", not at its end",
        Ending::Broken => ", broken off",
    };
    format!("{} bytes{ending}, sha256 {hash}…", answer.length)
}

/// The values of a field in the form in which they are compared.
fn values(headers: &HeaderMap, name: &str, proxy: &Proxy) -> Vec<Vec<u8>> {
    let bytes = |value: &HeaderValue| match (name, value.to_str()) {
        ("set-cookie", Ok(text)) => cookie(text).into_bytes(),
        ("location" | "content-location", Ok(text)) => without_own_port(text, proxy).into_bytes(),
        _ => value.as_bytes().to_vec(),
    };
    let mut values: Vec<Vec<u8>> = headers.get_all(name).iter().map(bytes).collect();
    if name == "set-cookie" {
        values.sort();
    }
    values
}

/// A cookie without its value and without its time.
fn cookie(text: &str) -> String {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().and_then(|pair| pair.split('=').next()).unwrap_or_default();
    let mut attributes: Vec<String> = parts
        .map(str::to_ascii_lowercase)
        .filter(|part| !OF_COOKIE.contains(&part.split('=').next().unwrap_or_default()))
        .collect();
    attributes.sort();
    attributes.insert(0, format!("{name}=***"));
    attributes.join("; ")
}

/// `https://host:8443/` of a proxy whose HTTPS is at 8443 is `https://host/` of one whose is at 443.
fn without_own_port(url: &str, proxy: &Proxy) -> String {
    let stripped = || {
        let (word, rest) = url.split_once("://")?;
        let scheme = Scheme::named(word)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = (rest.get(..end)?, rest.get(end..)?);
        let (host, port) = split_port(authority);
        let port: u16 = port?.parse().ok()?;
        let own = proxy.port(scheme) == Some(port) || port == scheme.port();
        own.then(|| format!("{word}://{host}{path}"))
    };
    stripped().unwrap_or_else(|| url.to_owned())
}

fn shown(name: &str, values: &[Vec<u8>]) -> String {
    if values.is_empty() {
        return "(none)".to_owned();
    }
    // the values of cookies are out of it already
    if hide::field(name) && name != "set-cookie" {
        return "***".to_owned();
    }
    let text: Vec<String> = values.iter().map(|value| hide::query(&String::from_utf8_lossy(value))).collect();
    let text = hide::printable(&text.join(", "));
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Address, Tls, Trust};
    use http::Version;

    fn tls() -> Tls {
        Tls { trust: Trust::Insecure, http2: true }
    }

    fn proxy(addresses: &[&str]) -> Proxy {
        let addresses = addresses.iter().map(|text| Address::parse(text).unwrap()).collect();
        Proxy::new(addresses, &tls(), Duration::from_secs(1), 1000).unwrap()
    }

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Got {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let took = Duration::from_millis(1);
        let version = Version::HTTP_11;
        Ok(Answer { status, version, headers: map, length: 0, hash: [0; 32], ending: Ending::Whole, took })
    }

    fn compared(old: &Got, new: &Got) -> Vec<String> {
        let (a, b) = (proxy(&["http://a", "https://a:8443"]), proxy(&["http://b:8000", "https://b:9443"]));
        let found = differences(&Rules::new(&["x-mine".to_owned()], &["Via".to_owned()], None), (old, &a), (new, &b));
        found.into_iter().map(|d| format!("{}: {} -> {}", d.aspect, d.old, d.new)).collect()
    }

    #[test]
    fn what_two_proxies_may_say_otherwise_is_left_out() {
        let old = answer(
            200,
            &[
                ("date", "Mon"),
                ("server", "Caddy"),
                ("content-length", "3"),
                ("x-b3-traceid", "1"),
                ("x-mine", "1"),
                ("set-cookie", "id=1; Path=/; Max-Age=9; Secure"),
                ("location", "https://h:8443/x?token=1"),
            ],
        );
        let new = answer(
            200,
            &[
                ("date", "Tue"),
                ("alt-svc", "clear"),
                ("set-cookie", "id=2; secure; path=/"),
                ("location", "https://h/x?token=1"),
            ],
        );
        assert_eq!(compared(&old, &new), Vec::<String>::new());
        let new =
            answer(404, &[("via", "1.1 b"), ("set-cookie", "id=2; path=/"), ("location", "https://h:9444/x?token=2")]);
        assert_eq!(
            compared(&old, &new),
            [
                "status: 200 -> 404",
                "header location: https://h/x?token=*** -> https://h:9444/x?token=***",
                "header set-cookie: id=***; path=/; secure -> id=***; path=/",
                "header via: (none) -> 1.1 b",
            ]
        );
    }

    #[test]
    fn no_answer_is_a_difference_unless_both_give_none() {
        let none = |trouble| Err(NoAnswer { trouble, text: "gone".to_owned() });
        let (refused, closed) = (none(super::super::Trouble::Connect), none(super::super::Trouble::Closed));
        assert!(compared(&refused, &refused).is_empty());
        assert_eq!(compared(&answer(200, &[]), &closed), ["answer: 200 -> gone"]);
        assert_eq!(compared(&refused, &closed).len(), 1);
    }

    #[test]
    fn bodies_and_times() {
        let (old, mut new) = (answer(200, &[]), answer(200, &[]).unwrap());
        (new.length, new.hash[0], new.took) = (4, 1, Duration::from_millis(500));
        let of = proxy(&["http://a"]);
        let rules = Rules::new(&[], &[], Some(Duration::from_millis(100)));
        let new = Ok(new);
        let found = differences(&rules, (&old, &of), (&new, &of));
        assert_eq!(found.iter().map(|d| d.aspect.to_string()).collect::<Vec<_>>(), ["body", "time"]);
        let mut endless = [old, new].map(|got| got.map(|a| Answer { ending: Ending::Unfinished, ..a }));
        assert!(differences(&Rules::default(), (&endless[0], &of), (&endless[1], &of)).is_empty());
        endless[0] = answer(200, &[]);
        assert_eq!(differences(&Rules::default(), (&endless[0], &of), (&endless[1], &of)).len(), 1);
    }
}
