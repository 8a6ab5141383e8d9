//! What a matcher with its arguments means. [`build`] checks the arguments and yields the meaning,
//! generic over what becomes of regular expressions: nothing when a rule is only parsed, compiled
//! ones for a matcher.

use super::ast::{Name, Test};
use super::error::Problem;
use super::{Kind, Syntax, regex, template};
use ipnet::IpNet;
use std::net::IpAddr;
use std::str::FromStr;

/// What a matcher of an HTTP rule asks.
#[derive(Debug, Clone)]
pub(super) enum Request<R> {
    /// Always true.
    Always,
    /// Never true.
    Never,
    /// The host is one of these: lower case, `*` as the first label for any one label (v3).
    Host(Vec<HostName>),
    /// One fits the canonical host.
    HostRegex(R),
    /// One fits the host as sent, without port.
    AuthorityRegex(Vec<R>),
    Path(String),
    PathPrefix(String),
    /// One fits the path.
    PathRegex(Vec<R>),
    /// One of these, upper case.
    Method(Vec<String>),
    /// Each header has the value.
    Headers(Vec<(String, String)>),
    /// Each header has a value that fits.
    HeadersRegex(Vec<(String, R)>),
    /// One value of the parameter equals.
    Query(String, String),
    /// One value of the parameter fits.
    QueryRegex(String, R),
    /// For each parameter, `name=value` with the first value fits; nothing where it is missing.
    QueryTemplates(Vec<(String, R)>),
    ClientIp(Vec<IpNet>),
}

/// What a matcher of a TCP rule asks.
#[derive(Debug, Clone)]
pub(super) enum Connection<R> {
    /// Always true.
    Always,
    /// True if there is a server name.
    Named,
    /// The server name is one of these.
    ServerName(Vec<HostName>),
    /// One fits the server name.
    ServerNameRegex(Vec<R>),
    /// One of these is offered.
    Alpn(Vec<String>),
    ClientIp(Vec<IpNet>),
}

/// A host name in a rule.
#[derive(Debug, Clone)]
pub(super) struct HostName {
    pub(super) text: String,
    /// True when a leading `*` stands for the first label.
    pub(super) wildcard: bool,
}

impl HostName {
    /// Equal, letter case aside. With a wildcard the first label, whatever it is, counts as `*`.
    pub(super) fn is(&self, host: &str) -> bool {
        Self::same(&self.text, self.wildcard, host)
    }

    /// As [`is`](Self::is), one trailing dot on either side aside; an empty host is none.
    pub(super) fn is_with_or_without_dot(&self, host: &str) -> bool {
        !host.is_empty()
            && (self.is(host)
                || self.text.strip_suffix('.').is_some_and(|text| Self::same(text, self.wildcard, host))
                || host.strip_suffix('.').is_some_and(|host| self.is(host)))
    }

    fn same(text: &str, wildcard: bool, host: &str) -> bool {
        match text.strip_prefix('*') {
            Some(rest) if wildcard => {
                let labels_behind = host.find('.').map_or("", |dot| host.get(dot..).unwrap_or_default());
                rest.eq_ignore_ascii_case(labels_behind)
            }
            _ => text.eq_ignore_ascii_case(host),
        }
    }
}

/// Why a matcher was refused, and for which argument.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) arg: Option<usize>,
    pub(super) problem: Problem,
}

impl Refusal {
    fn at(arg: usize, problem: Problem) -> Self {
        Self { arg: Some(arg), problem }
    }
}

type Outcome<T> = Result<T, Refusal>;

/// Checks a matcher's arguments.
pub(super) fn check(kind: Kind, syntax: Syntax, test: &Test) -> Outcome<()> {
    match kind {
        Kind::Http => request(syntax, test, &|pattern| regex::translate(pattern).map(drop)).map(drop),
        Kind::Tcp => connection(syntax, test, &|pattern| regex::translate(pattern).map(drop)).map(drop),
    }
}

/// How regular expressions, in Go's syntax, are compiled; errors say why not.
pub(super) type Compile<'a, R> = &'a dyn Fn(&str) -> Result<R, String>;

/// The meaning of a matcher in an HTTP rule.
pub(super) fn request<R>(syntax: Syntax, test: &Test, compile: Compile<'_, R>) -> Outcome<Request<R>> {
    let args = &test.args;
    let pattern = |n: usize| {
        let pattern = &args[n];
        compile(pattern).map_err(|reason| Refusal::at(n, Problem::Regex { pattern: pattern.clone(), reason }))
    };
    let templates = |of: template::Of| {
        let one = |(n, text): (usize, &String)| {
            template::compile(text, of, compile).map_err(|problem| Refusal::at(n, problem))
        };
        args.iter().enumerate().map(one).collect::<Outcome<Vec<R>>>()
    };
    if syntax == Syntax::V3 {
        match test.name {
            Name::Query | Name::QueryRegexp => counted(test, &[1, 2], "1 or 2")?,
            Name::Header | Name::HeaderRegexp => counted(test, &[2], "2")?,
            _ => counted(test, &[1], "1")?,
        }
    } else {
        counted(test, &[], "at least 1")?;
    }
    Ok(match (test.name, syntax) {
        (Name::Host, Syntax::V3) if args[0] == "*" => Request::Always,
        (Name::Host | Name::HostHeader, _) => {
            each(test, ascii)?;
            let name = |arg: &String| HostName { text: arg.to_ascii_lowercase(), wildcard: syntax == Syntax::V3 };
            Request::Host(args.iter().map(name).collect())
        }
        (Name::HostRegexp, Syntax::V3) => {
            each(test, ascii)?;
            Request::HostRegex(pattern(0)?)
        }
        (Name::HostRegexp, Syntax::V2) => {
            each(test, ascii)?;
            Request::AuthorityRegex(templates(template::Of::Host)?)
        }
        (Name::Path | Name::PathPrefix | Name::PathRegexp, _) => {
            if test.name != Name::PathRegexp {
                each(test, path)?;
            }
            match (test.name, syntax) {
                (Name::PathRegexp, _) => Request::PathRegex(vec![pattern(0)?]),
                (Name::Path, Syntax::V3) => Request::Path(args[0].clone()),
                (Name::Path, Syntax::V2) => Request::PathRegex(templates(template::Of::Path)?),
                (_, Syntax::V3) => Request::PathPrefix(args[0].clone()),
                (_, Syntax::V2) => Request::PathRegex(templates(template::Of::PathPrefix)?),
            }
        }
        (Name::Method, _) => Request::Method(args.iter().map(|arg| arg.to_ascii_uppercase()).collect()),
        (Name::Header | Name::Headers, _) => {
            let headers = pairs(test)?;
            if headers.iter().any(|(n, _)| is_no_header(&args[*n])) {
                return Ok(Request::Never);
            }
            Request::Headers(headers.into_iter().map(|(n, value)| (args[n].clone(), args[value].clone())).collect())
        }
        (Name::HeaderRegexp | Name::HeadersRegexp, _) => {
            let compiled = |(n, value): (usize, usize)| Ok((args[n].clone(), pattern(value)?));
            let headers = pairs(test)?.into_iter().map(compiled).collect::<Outcome<Vec<_>>>()?;
            if headers.iter().any(|(name, _)| is_no_header(name)) {
                return Ok(Request::Never);
            }
            Request::HeadersRegex(headers)
        }
        (Name::Query | Name::QueryRegexp, Syntax::V3) => match (test.name, args.get(1)) {
            (Name::QueryRegexp, Some(_)) => Request::QueryRegex(args[0].clone(), pattern(1)?),
            (_, value) => Request::Query(args[0].clone(), value.cloned().unwrap_or_default()),
        },
        (Name::Query, Syntax::V2) => {
            let queries = template::queries(args, compile).map_err(|problem| Refusal { arg: None, problem })?;
            Request::QueryTemplates(queries)
        }
        (Name::ClientIp, _) => Request::ClientIp(networks(test)?),
        // The parser takes a kind's and syntax's own matchers only.
        _ => Request::Never,
    })
}

/// The meaning of a matcher in a TCP rule.
pub(super) fn connection<R>(syntax: Syntax, test: &Test, compile: Compile<'_, R>) -> Outcome<Connection<R>> {
    match syntax {
        Syntax::V2 => counted(test, &[], "at least 1")?,
        Syntax::V3 => counted(test, &[1], "1")?,
    }
    let args = &test.args;
    Ok(match test.name {
        Name::HostSni => {
            each(test, |test, arg| server_name(test, arg, syntax))?;
            let without_dot = |arg: &str| arg.strip_suffix('.').unwrap_or(arg).to_owned();
            let exactly = |text| HostName { text, wildcard: false };
            match (args.iter().position(|arg| arg == "*"), syntax) {
                (Some(0), _) => Connection::Always,
                // v2 takes `*` behind other names too, but then not for connections without a name.
                (Some(_), _) => Connection::Named,
                (None, Syntax::V3) => {
                    let name = |arg: &String| HostName { text: without_dot(arg), wildcard: true };
                    Connection::ServerName(args.iter().map(name).collect())
                }
                (None, Syntax::V2) => {
                    let both = |arg: &String| [exactly(arg.clone()), exactly(without_dot(arg))];
                    Connection::ServerName(args.iter().flat_map(both).collect())
                }
            }
        }
        Name::HostSniRegexp => {
            let one = |(n, text): (usize, &String)| match syntax {
                Syntax::V2 => template::compile(text, template::Of::ServerName, compile)
                    .map_err(|problem| Refusal::at(n, problem)),
                Syntax::V3 => {
                    compile(text).map_err(|reason| Refusal::at(n, Problem::Regex { pattern: text.clone(), reason }))
                }
            };
            if syntax == Syntax::V3 {
                each(test, ascii)?;
            }
            Connection::ServerNameRegex(args.iter().enumerate().map(one).collect::<Outcome<_>>()?)
        }
        Name::Alpn => {
            each(test, |test, arg| match arg {
                "acme-tls/1" => Err(Problem::Value {
                    matcher: test.name.as_str(),
                    value: arg.to_owned(),
                    reason: "it belongs to the TLS-ALPN challenge of ACME",
                }),
                _ => Ok(()),
            })?;
            Connection::Alpn(args.clone())
        }
        _ => Connection::ClientIp(networks(test)?),
    })
}

/// Checks the number of arguments (`allowed` empty = any) and that none is empty.
fn counted(test: &Test, allowed: &[usize], expected: &'static str) -> Outcome<()> {
    let (matcher, got) = (test.name.as_str(), test.args.len());
    if got == 0 || !allowed.is_empty() && !allowed.contains(&got) {
        return Err(Refusal { arg: None, problem: Problem::ArgumentCount { matcher, expected, got } });
    }
    each(test, |_, arg| if arg.is_empty() { Err(Problem::EmptyArgument { matcher }) } else { Ok(()) })
}

fn each(test: &Test, check: impl Fn(&Test, &str) -> Result<(), Problem>) -> Outcome<()> {
    test.args.iter().enumerate().try_for_each(|(n, arg)| check(test, arg).map_err(|problem| Refusal::at(n, problem)))
}

fn ascii(test: &Test, arg: &str) -> Result<(), Problem> {
    if arg.is_ascii() {
        return Ok(());
    }
    Err(Problem::NotAscii { matcher: test.name.as_str(), value: arg.to_owned() })
}

fn path(_: &Test, arg: &str) -> Result<(), Problem> {
    if arg.starts_with('/') { Ok(()) } else { Err(Problem::Path { value: arg.to_owned() }) }
}

fn server_name(test: &Test, arg: &str, syntax: Syntax) -> Result<(), Problem> {
    let rest = match syntax {
        Syntax::V3 => arg.strip_prefix("*.").unwrap_or(arg),
        Syntax::V2 => arg,
    };
    let fits = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-:".contains(&b));
    if arg == "*" || fits {
        return Ok(());
    }
    Err(Problem::Value { matcher: test.name.as_str(), value: arg.to_owned(), reason: "it is not a host name" })
}

/// Indexes of names and their values. A name that stands twice keeps its last value.
fn pairs(test: &Test) -> Outcome<Vec<(usize, usize)>> {
    let (args, got) = (&test.args, test.args.len());
    if got % 2 == 1 {
        let matcher = test.name.as_str();
        return Err(Refusal {
            arg: None,
            problem: Problem::ArgumentCount { matcher, expected: "pairs of a name and a value", got },
        });
    }
    let last = |n: &usize| !(n + 2..got).step_by(2).any(|later| args[later] == args[*n]);
    Ok((0..got).step_by(2).filter(last).map(|n| (n, n + 1)).collect())
}

/// Header fields that Go's HTTP library takes out of the headers, so that matchers never see them.
fn is_no_header(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case("transfer-encoding")
}

fn networks(test: &Test) -> Outcome<Vec<IpNet>> {
    let one = |(n, arg): (usize, &String)| {
        network(arg).ok_or_else(|| Refusal::at(n, Problem::Address { value: arg.clone() }))
    };
    test.args.iter().enumerate().map(one).collect()
}

/// An address or a network. IPv4 in IPv6 form (`::ffff:10.0.0.0/104`) is IPv4, as far as the
/// network lies within that form.
fn network(text: &str) -> Option<IpNet> {
    let Some((address, bits)) = text.split_once('/') else {
        return IpAddr::from_str(text).ok().map(|address| IpNet::from(address.to_canonical()));
    };
    let address = IpAddr::from_str(address).ok()?;
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let bits: u8 = if digits { bits.parse().ok()? } else { return None };
    let net = IpNet::new(address, bits).ok()?.trunc();
    let mapped = match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        _ => None,
    };
    match mapped {
        Some((v4, bits)) => IpNet::new(IpAddr::V4(v4), bits).ok(),
        None => Some(net),
    }
}

/// True if one of the networks has the address.
pub(super) fn contains(networks: &[IpNet], address: Option<IpAddr>) -> bool {
    address.is_some_and(|address| {
        let address = address.to_canonical();
        networks.iter().any(|network| network.contains(&address))
    })
}
