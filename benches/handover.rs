//! New connections at a fixed rate while the worker process is handed over (SIGUSR2) and killed: how many are refused, reset
//! or unanswered, and the slowest. `cargo bench --bench handover [-- CONNECTIONS_PER_SECOND SECONDS]`; exit code 1 where a
//! hand-over lost one.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Between two hand-overs, or two deaths.
const EVERY: Duration = Duration::from_secs(2);
/// A connection that is not answered by then is lost.
const LIMIT: Duration = Duration::from_secs(20);

/// What became of a connection.
enum Outcome {
    Answered(Duration),
    Refused,
    Reset,
    Other(String),
}

async fn connect(web: SocketAddr) -> Outcome {
    let begun = Instant::now();
    let ask = async {
        let mut stream = TcpStream::connect(web).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(LIMIT, ask).await {
        Ok(Ok(answer)) if answer.starts_with(b"HTTP/1.1 200 ") => Outcome::Answered(begun.elapsed()),
        Ok(Ok(answer)) if answer.is_empty() => Outcome::Reset,
        Ok(Ok(answer)) => Outcome::Other(String::from_utf8_lossy(answer.get(..20).unwrap_or(&answer)).into_owned()),
        Ok(Err(error)) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Outcome::Refused,
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Outcome::Reset,
            _ => Outcome::Other(error.to_string()),
        },
        Err(_) => Outcome::Other("no answer in time".to_owned()),
    }
}

async fn origin(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            // A request without a body comes in one piece here.
            while matches!(stream.read(&mut buffer).await, Ok(1..)) {
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                    return;
                }
            }
        });
    }
}

/// The proxy; killed at the end.
struct Proxy {
    child: Child,
    web: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Proxy {
    fn start(origin: SocketAddr) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let routes = format!(
            "http:\n  routers: {{a: {{rule: 'Host(`a.test`)', service: s}}}}\n  \
             services: {{s: {{loadBalancer: {{servers: [{{url: 'http://{origin}'}}]}}}}}}\n"
        );
        std::fs::write(path("routes.yaml"), routes).expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_rust-lb"))
            .args(["serve", "--entryPoints.web.address=127.0.0.1:0", "--entryPoints.traefik.address=127.0.0.1:0"])
            .arg(format!("--providers.file.filename={}", path("routes.yaml")))
            .arg(format!("--rustLb.stateDir={}", path("state")))
            .arg(format!("--rustLb.certificates.directory={}", path("certs")))
            .args(["--workers=2", "--accessLog=false"])
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let listens = |line: &String| line.contains("\"listening\"") && line.contains("\"web\"");
        let line = lines.by_ref().find(listens).expect("it listens");
        let web = line.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, web: web.expect("an address"), _dir: dir }
    }

    fn children(&self) -> Vec<String> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_ascii_whitespace().map(str::to_owned).collect()
    }
}

fn kill(signal: &str, pid: &str) {
    drop(Command::new("kill").args([signal, pid]).status());
}

/// Runs `what` every now and then under load. Gives the number of connections that were lost.
async fn measure(name: &str, rate: u32, time: Duration, origin: SocketAddr, what: impl Fn(&Proxy)) -> usize {
    let proxy = Proxy::start(origin);
    let web = proxy.web;
    let begun = Instant::now();
    while !matches!(connect(web).await, Outcome::Answered(_)) {
        assert!(begun.elapsed() < LIMIT, "the proxy does not serve");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let (mut sent, mut times) = (0_u32, 0_u32);
    while begun.elapsed() < time {
        ticks.tick().await;
        // As many as are due: the rate does not follow the proxy's.
        while f64::from(sent) < begun.elapsed().as_secs_f64() * f64::from(rate) {
            sent += 1;
            let outcomes = outcomes.clone();
            tasks.spawn(async move {
                let outcome = connect(web).await;
                outcomes.lock().expect("not poisoned").push(outcome);
            });
        }
        if begun.elapsed() >= EVERY * (times + 1) && begun.elapsed() + EVERY / 2 < time {
            times += 1;
            what(&proxy);
        }
    }
    while tasks.join_next().await.is_some() {}
    let outcomes = std::mem::take(&mut *outcomes.lock().expect("not poisoned"));
    let (mut refused, mut reset, mut others, mut took) = (0, 0, Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Outcome::Answered(time) => took.push(time),
            Outcome::Refused => refused += 1,
            Outcome::Reset => reset += 1,
            Outcome::Other(text) => others.push(text),
        }
    }
    took.sort_unstable();
    let at = |share: f64| took.get(((took.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default();
    let line = format!(
        "{name}: {times} times, {sent} connections at {rate} a second: {refused} refused, {reset} reset, {} other; \
         median {:?}, p99 {:?}, slowest {:?}\n",
        others.len(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
    drop(std::io::stdout().write_all(line.as_bytes()));
    others.iter().take(3).for_each(|other| drop(writeln!(std::io::stdout(), "  {other}")));
    refused + reset + others.len()
}

fn main() -> ExitCode {
    // `cargo test` also starts benches; this one measures only when asked to.
    if !std::env::args().any(|a| a == "--bench") {
        return ExitCode::SUCCESS;
    }
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let rate = numbers.next().unwrap_or(1_000);
    let time = Duration::from_secs(numbers.next().unwrap_or(10).into());
    let runtime = |threads| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime")
    };
    let servers = runtime(1);
    let listener = servers.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("bound");
    servers.spawn(origin(listener));
    let lost = runtime(1).block_on(async {
        measure("nothing", rate, time, address, |_| {}).await;
        let lost = measure("SIGUSR2", rate, time, address, |proxy| kill("-USR2", &proxy.child.id().to_string())).await;
        // Those that the dead worker had accepted are lost with it.
        measure("kill -9 of the worker", rate, time, address, |proxy| {
            proxy.children().iter().for_each(|worker| kill("-KILL", worker));
        })
        .await;
        lost
    });
    if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
