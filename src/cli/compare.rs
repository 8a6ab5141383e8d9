//! `rust-lb compare`: requests of logs, archives or a catalog are sent to two proxies, and what they answer otherwise is
//! told: the check before a switch. Differences go to stdout as they are found, the rest to stderr.

mod progress;
mod tell;
mod witness;

use super::output::Style;
use super::{FAILED, USAGE, admin, fail, parsed};
use crate::compare::read::{Format, ReadError, Requests, Told, Wanted};
use crate::compare::{Address, Defaults, Proxy, Replay, Rules, Scheme, Tally, Tls, Trust, Verdict, replay};
use crate::model::parse_duration;
use clap::Parser;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Replays requests against two proxies and reports what they answer otherwise
#[derive(Debug, Parser)]
#[command(
    name = "rust-lb compare",
    override_usage = "rust-lb compare --old ADDRESS --new ADDRESS SOURCE… [OPTIONS]",
    after_help = "\
A source is an access log, a HAR file, a list of URLs or an answer of `/api/rawdata`; `-` is standard input. The format is \
guessed from the first lines, and said. Equal requests are sent once. Host and scheme are the record's; an address may be \
given for each scheme, else the only one takes all. Over TLS the record's host is the server name, and HTTP/2 is spoken with a \
proxy that offers it. No redirect is followed, and no Accept-Encoding is sent (`-H 'Accept-Encoding: gzip'` does).

What differs is asked again on both proxies: where the old one differs from itself in the same thing, the page is `unstable`, \
which is told and is no difference. Not compared are what belongs to one connection, the values and times of cookies, and \
Date, Age, Expires, Server, Via, Alt-Svc, Server-Timing and the usual fields with the number or trace of a request.

Examples:
  rust-lb compare --old http://127.0.0.1:80 --new http://127.0.0.1:8000 /var/log/caddy.log
  rust-lb compare --old https://127.0.0.1 --new unix:/run/rust-lb.sock --insecure access.log --host shop.example.org
  rust-lb compare --old http://10.0.0.1:9999 --new http://10.0.0.1:8000 --url http://shop.example.org/cart
  rust-lb compare --old http://a --new http://b --from-admin http://127.0.0.1:8080 --json
  zcat access.log.*.gz | rust-lb compare --old http://a --new http://b - --sample 0.01

Exit code: 0 if all answers are the same, 1 if some differ, 2 if the command is misused, a source cannot be read, a proxy \
cannot be reached, or nothing was compared."
)]
struct Options {
    /// The proxy that is known to be right: `http://HOST[:PORT]`, `https://…` or `unix:PATH`; once for each scheme
    #[arg(long, value_name = "ADDRESS", required = true)]
    old: Vec<String>,
    /// The proxy to be tried, likewise
    #[arg(long, value_name = "ADDRESS", required = true)]
    new: Vec<String>,
    /// Where the requests are recorded
    #[arg(value_name = "SOURCE", required_unless_present_any = ["urls", "from_admin"])]
    sources: Vec<String>,
    /// A request: `URL` or `METHOD URL`
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// Requests for the rules of all routers of a running rust-lb or Traefik, asked at its admin entry point
    #[arg(long, value_name = "URL")]
    from_admin: Option<String>,
    /// How the sources are written: clf, caddy, traefik, json, har, urls, rawdata
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The host of records that have none, as those in Common Log Format
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The scheme of records that have none: http or https
    #[arg(long, value_name = "SCHEME")]
    scheme: Option<String>,
    /// The methods that are sent; others are counted and left out
    #[arg(long, value_name = "METHOD,…", value_delimiter = ',', default_value = "GET,HEAD,OPTIONS")]
    methods: Vec<String>,
    /// A field that is sent with each request
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Send recorded cookies and Authorization, too
    #[arg(long)]
    credentials: bool,
    /// A field of answers that is not compared; `x-debug-*` for all that begin so
    #[arg(long, value_name = "NAME")]
    ignore_header: Vec<String>,
    /// A field that is compared although it is left out else
    #[arg(long, value_name = "NAME")]
    compare_header: Vec<String>,
    /// Requests a second to each proxy; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 50.0)]
    rate: f64,
    /// Requests at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// Stop reading after so many different requests; 0 for all
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    limit: usize,
    /// Share of the different requests that is sent, from 0 to 1; the same ones in each run
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    sample: f64,
    /// How often a request that differs is asked again
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    repeat: u32,
    /// Time for one whole answer
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    timeout: String,
    /// Bytes of a body that are compared
    #[arg(long, value_name = "BYTES", default_value_t = 8 * 1024 * 1024)]
    max_body: u64,
    /// An answer that the new proxy gives slower by more than this, each time it is asked, is a difference
    #[arg(long, value_name = "DURATION")]
    max_slower: Option<String>,
    /// Believe any certificate
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Believe only certificates signed by these roots (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Speak HTTP/1.1 alone; else HTTP/2 over TLS with a proxy that offers it
    #[arg(long)]
    http1: bool,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// Time for an answer of the admin entry point.
const ADMIN_LIMIT: Duration = Duration::from_secs(10);

/// What was read.
struct Read {
    requests: Requests,
    sources: Vec<Told>,
    /// Rules for which no request can be made here, and why.
    without: Vec<String>,
}

/// What is said of the terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal {
    pub(super) stdout: Style,
    pub(super) stderr: Style,
    /// Whether a line may be rewritten on stderr.
    pub(super) progress: bool,
}

/// Runs the command; gives the exit code.
pub(super) fn run(
    args: &[String],
    terminal: Terminal,
    stdin: &mut dyn BufRead,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    let options: Options = match parsed("rust-lb compare", args, stdout, stderr) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let prepared = prepare(&options, stdin).and_then(|(plan, read)| {
        tell::sources(stderr, terminal.stderr, &read).map_err(|e| e.to_string())?;
        Ok((plan, read))
    });
    let (plan, read) = match prepared {
        Ok(prepared) => prepared,
        Err(message) => return fail(stderr, USAGE, format_args!("{message}")),
    };
    match replayed(&options, plan, read, terminal, (stdout, stderr)) {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => fail(stderr, USAGE, format_args!("{error}")),
    }
}

/// The proxies and how to ask them.
struct Plan {
    old: Proxy,
    new: Proxy,
    rules: Rules,
}

fn duration(flag: &str, text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|e| format!("`{flag}`: {e}"))
}

fn addresses(flag: &str, given: &[String]) -> Result<Vec<Address>, String> {
    let parsed: Result<Vec<Address>, String> = given.iter().map(|text| Address::parse(text)).collect();
    let parsed = parsed.map_err(|e| format!("`{flag}`: {e}"))?;
    let scheme = |address: &Address| match address {
        Address::Tcp(scheme, ..) => Some(*scheme),
        Address::Unix(_) => None,
    };
    let twice =
        parsed.iter().enumerate().any(|(at, one)| parsed.iter().skip(at + 1).any(|two| scheme(one) == scheme(two)));
    if twice || parsed.len() > 1 && parsed.iter().any(|address| scheme(address).is_none()) {
        return Err(format!("`{flag}`: one address for each of `http` and `https`, or one Unix socket"));
    }
    Ok(parsed)
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    // the value may be a credential: it is not repeated
    let wrong = || "`--header`: expected `NAME: VALUE`".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    if name == http::header::HOST {
        return Err("`--header`: the host is the record's\nhint: `--host` is for records without one".to_owned());
    }
    Ok((name, value))
}

fn prepare(options: &Options, stdin: &mut dyn BufRead) -> Result<(Plan, Read), String> {
    if !(0.0..=1.0).contains(&options.sample) {
        return Err(format!("`--sample`: expected a share from 0 to 1, got {}", options.sample));
    }
    if !(options.rate >= 0.0 && options.rate.is_finite()) {
        return Err(format!("`--rate`: expected requests a second, got {}", options.rate));
    }
    let limit = duration("--timeout", &options.timeout)?;
    if limit.is_zero() {
        return Err("`--timeout`: no answer comes in no time".to_owned());
    }
    let max_slower = options.max_slower.as_deref().map(|text| duration("--max-slower", text)).transpose()?;
    let rules = Rules::new(&options.ignore_header, &options.compare_header, max_slower);
    let trust = match &options.ca {
        _ if options.insecure => Trust::Insecure,
        Some(file) => Trust::Roots(file.clone()),
        None => Trust::System,
    };
    let tls = Tls { trust, http2: !options.http1 };
    if options.ca.is_some() {
        tls.check().map_err(|e| format!("`--ca`: {e}"))?;
    }
    let proxy = |flag: &str, given: &[String]| {
        Proxy::new(addresses(flag, given)?, &tls, limit, options.max_body).map_err(|e| e.to_string())
    };
    let plan = Plan { old: proxy("--old", &options.old)?, new: proxy("--new", &options.new)?, rules };
    let headers: Result<HeaderMap, String> = options.headers.iter().map(|text| header(text)).collect();
    let scheme = match options.scheme.as_deref() {
        Some(text) => {
            Some(Scheme::named(text).ok_or_else(|| format!("`--scheme`: expected http or https, got `{text}`"))?)
        }
        // what does not say so goes where both can be asked
        None => sole_scheme(&plan),
    };
    let defaults = Defaults { host: options.host.clone(), scheme, credentials: options.credentials, headers: headers? };
    read(options, &defaults, stdin).map(|read| (plan, read))
}

/// The scheme of records that do not say theirs: `https` where both proxies have it.
fn sole_scheme(plan: &Plan) -> Option<Scheme> {
    let has =
        |proxy: &Proxy| proxy.addresses().iter().any(|address| matches!(address, Address::Tcp(Scheme::Https, ..)));
    Some(if has(&plan.old) && has(&plan.new) { Scheme::Https } else { Scheme::Http })
}

fn read(options: &Options, defaults: &Defaults, stdin: &mut dyn BufRead) -> Result<Read, String> {
    let format = match options.format.as_deref() {
        Some(text) => Some(Format::named(text).ok_or_else(|| {
            let known: Vec<&str> = Format::ALL.iter().map(|format| format.as_str()).collect();
            format!("`--format`: expected one of {}, got `{text}`", known.join(", "))
        })?),
        None => None,
    };
    let without = std::cell::RefCell::new(Vec::new());
    let methods: Vec<String> = options.methods.iter().map(|method| method.trim().to_ascii_uppercase()).collect();
    let wanted = Wanted {
        defaults,
        methods: &methods,
        sample: options.sample,
        limit: (options.limit > 0).then_some(options.limit),
        witnesses: &|rawdata| witness::requests(rawdata, &mut without.borrow_mut()),
    };
    let (mut requests, mut sources) = (Requests::default(), Vec::new());
    for (text, line) in options.urls.iter().zip(1..) {
        let method = text.trim().split_once(' ').map_or("GET", |(method, _)| method);
        if !methods.iter().any(|allowed| allowed == method) {
            let hint = "hint: `--methods` allows others than GET, HEAD and OPTIONS";
            return Err(format!("`--url`: {method} is not among the methods that are sent\n{hint}"));
        }
        requests.say(text, line, &wanted).map_err(|bad| format!("`--url`: {bad}"))?;
    }
    if let Some(url) = &options.from_admin {
        let failed = |e: String| format!("the admin entry point `{url}`: {e}");
        let authority = admin::of_url(url).map_err(|e| format!("`--from-admin`: {e}"))?;
        let (status, body) =
            admin::ask(&authority, "/api/rawdata", None, ADMIN_LIMIT).map_err(|e| failed(e.to_string()))?;
        if status != 200 {
            return Err(failed(format!("it answered {status} to /api/rawdata")));
        }
        let told = requests.read(url, &mut body.as_bytes(), Some(Format::Rawdata), &wanted);
        sources.push(told.map_err(|e| failed(e.to_string()))?);
    }
    for source in &options.sources {
        let told = if source == "-" {
            requests.read(source, stdin, format, &wanted)
        } else {
            let file = File::open(source).map_err(ReadError::Io);
            file.and_then(|file| requests.read(source, &mut BufReader::new(file), format, &wanted))
        };
        sources.push(told.map_err(|e| unreadable(source, &e))?);
    }
    Ok(Read { requests, sources, without: without.into_inner() })
}

fn unreadable(source: &str, error: &ReadError) -> String {
    let hint = match error {
        ReadError::Unknown(_) if source.ends_with(".gz") => "\nhint: unpack it: `zcat FILE | rust-lb compare … -`",
        ReadError::Unknown(_) => "\nhint: `--format` says how it is written",
        _ => "",
    };
    format!("`{source}` cannot be read: {error}{hint}")
}

fn replayed(
    options: &Options,
    plan: Plan,
    read: Read,
    terminal: Terminal,
    (stdout, stderr): (&mut dyn Write, &mut dyn Write),
) -> io::Result<u8> {
    let Read { requests, sources, without } = read;
    let counts = tell::Counts::of(&requests, sources, without);
    let list = requests.into_list();
    if list.is_empty() {
        tell::counts(stderr, terminal.stderr, &counts)?;
        return Ok(fail(stderr, USAGE, format_args!("there is no request to compare{}", counts.hint())));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (flag, proxy) in [("--old", &plan.old), ("--new", &plan.new)] {
        if let Err((address, error)) = runtime.block_on(proxy.reach()) {
            return Ok(fail(stderr, USAGE, format_args!("`{flag} {address}`: {error}")));
        }
    }
    let rate = (options.rate > 0.0).then_some(options.rate);
    let (concurrency, repeat) = (usize::from(options.concurrency), options.repeat);
    let work = Replay { old: plan.old, new: plan.new, requests: list, rules: plan.rules, rate, concurrency, repeat };
    let work = Arc::new(work);
    let mut report = tell::Report::new(work.clone(), counts);
    let progress = terminal.progress.then(|| progress::Progress::new(work.requests.len()));
    let (whole, mut progress) = runtime.block_on(watch(&work, progress, stderr, |verdict, stderr, progress| {
        if tell::is_worth_telling(&verdict) && !options.json {
            progress.clear(stderr)?;
            tell::verdict(stdout, terminal.stdout, &work, &verdict)?;
            stdout.flush()?;
        }
        report.add(verdict);
        Ok(())
    }))?;
    progress.clear(stderr)?;
    if options.json {
        report.json(stdout, whole)?;
    } else {
        report.summary(stdout, terminal.stdout)?;
    }
    stdout.flush()?;
    let Tally { compared, different, .. } = report.tally();
    if !whole {
        return Ok(fail(stderr, USAGE, format_args!("a proxy takes no connections any more: given up before the end")));
    }
    if *compared == 0 {
        let why = report.tally().why_unanswered.clone().unwrap_or_default();
        let hint =
            if why.starts_with("no TLS") { "\nhint: `--ca FILE` names roots, `--insecure` asks for none" } else { "" };
        return Ok(fail(stderr, USAGE, format_args!("neither proxy answered anything: {why}{hint}")));
    }
    Ok(if *different > 0 { FAILED } else { 0 })
}

type OnVerdict<'a> = dyn FnMut(Verdict, &mut dyn Write, &mut progress::Line) -> io::Result<()> + 'a;

/// Replays, and hands each verdict on; in between the progress is shown.
async fn watch(
    work: &Arc<Replay>,
    progress: Option<progress::Progress>,
    stderr: &mut dyn Write,
    mut on: impl FnMut(Verdict, &mut dyn Write, &mut progress::Line) -> io::Result<()>,
) -> io::Result<(bool, progress::Line)> {
    let on: &mut OnVerdict<'_> = &mut on;
    let mut line = progress::Line::new(progress);
    let (tell, mut told) = tokio::sync::mpsc::channel(64);
    let run = tokio::spawn(replay(work.clone(), tell));
    let began = Instant::now();
    while let Some(verdict) = told.recv().await {
        let differs = !verdict.differences.is_empty();
        on(verdict, stderr, &mut line)?;
        line.advance(stderr, differs, began.elapsed())?;
    }
    let whole = run.await.map_err(io::Error::other)?;
    Ok((whole, line))
}
