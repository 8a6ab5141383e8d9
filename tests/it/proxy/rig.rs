//! A worker in this process, raw clients and raw servers around it. Every wait has a limit, so
//! that what does not come is a failure and not a hang.

use arc_swap::ArcSwap;
use rust_lb::declare;
use rust_lb::http::{Protocol, Reason};
use rust_lb::listen;
use rust_lb::model::Provider;
use rust_lb::observe::record::{RequestRecord, Sink};
use rust_lb::proxy::worker::{self, WorkerConfig, WorkerHandle};
use rust_lb::proxy::{EntryPoint, Settings, TlsSource};
use rust_lb::table::{self, Accepted, BuildOptions, MiddlewareKind, Strategy, Table};
use rust_lb::upstream::Registry;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// The longest that anything may take.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub router: Option<String>,
    pub server: Option<String>,
    pub method: String,
    pub host: String,
    pub target: String,
    pub protocol: Protocol,
    pub status: u16,
    pub origin_status: u16,
    pub reason: Option<Reason>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub retries: u32,
}

/// The target of a request at whose end the sink panics.
pub const FAULT: &str = "/fault-on-purpose";

struct Sent {
    records: mpsc::Sender<Record>,
    connections: Arc<Mutex<Vec<(&'static str, i32)>>>,
}

impl Sink for Sent {
    fn finished(&self, record: &RequestRecord<'_>) {
        assert_ne!(record.target, FAULT, "on purpose");
        let text = |text: Option<&Arc<str>>| text.map(|text| text.to_string());
        let _ = self.records.send(Record {
            router: text(record.router),
            server: text(record.server),
            method: record.method.to_owned(),
            host: record.host.to_owned(),
            target: record.target.to_owned(),
            protocol: record.protocol,
            status: record.status,
            origin_status: record.origin_status,
            reason: record.reason,
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
            retries: record.retries,
        });
    }

    fn connection(&self, _entry_point: &Arc<str>, protocol: &'static str, delta: i32) {
        self.connections.lock().expect("not poisoned").push((protocol, delta));
    }
}

/// A running worker (or several) on one entry point, `web`.
pub struct Rig {
    pub address: SocketAddr,
    pub workers: Vec<WorkerHandle>,
    pub registry: Arc<Registry>,
    pub connections: Arc<Mutex<Vec<(&'static str, i32)>>>,
    records: Receiver<Record>,
    table: Arc<ArcSwap<Table>>,
    generation: watch::Sender<u64>,
}

/// What a rig is started with.
pub struct Start {
    pub entry: EntryPoint,
    pub settings: Settings,
    pub workers: usize,
    pub tls: Option<TlsSource>,
}

impl Default for Start {
    fn default() -> Self {
        let settings = Settings { linger_wait: Duration::ZERO, ..Settings::default() };
        Self { entry: EntryPoint::new("web"), settings, workers: 1, tls: None }
    }
}

impl Start {
    pub fn run(self, routes: &[Route]) -> Rig {
        let endpoint = listen::Endpoint { name: "web".into(), host: "127.0.0.1".to_owned(), port: 0 };
        let listening = listen::bind(&[endpoint], self.workers, false).expect("a port");
        let table = Arc::new(ArcSwap::from_pointee(table_of(routes)));
        let (generation, watched) = watch::channel(0);
        let (records, received) = mpsc::channel();
        let registry = Arc::new(Registry::default());
        let connections = Arc::new(Mutex::new(Vec::new()));
        let workers = listening.workers.into_iter().enumerate().map(|(index, listeners)| {
            let (records, connections) = (records.clone(), connections.clone());
            worker::spawn(WorkerConfig {
                index,
                listeners: listeners.into_iter().map(|(_, listener)| (self.entry.clone(), listener)).collect(),
                table: table.clone(),
                generation: watched.clone(),
                tls: self.tls.clone(),
                registry: registry.clone(),
                settings: self.settings.clone(),
                sink: Box::new(move || Rc::new(Sent { records, connections })),
            })
            .expect("a worker")
        });
        Rig {
            address: listening.bound["web"][0],
            workers: workers.collect(),
            registry,
            connections,
            records: received,
            table,
            generation,
        }
    }
}

impl Rig {
    pub fn start(routes: &[Route]) -> Self {
        Start::default().run(routes)
    }

    pub fn publish(&self, routes: &[Route]) {
        self.table.store(Arc::new(table_of(routes)));
        self.generation.send_modify(|generation| *generation += 1);
    }

    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).expect("a connection"))
    }

    /// One request on a connection of its own.
    pub fn get(&self, host: &str, target: &str) -> Response {
        let mut client = self.connect();
        client.send(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.response("GET")
    }

    pub fn record(&self) -> Record {
        self.records.recv_timeout(LIMIT).expect("a record")
    }

    /// Waits until what another thread does shows.
    pub fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        until(what, || condition(self));
    }

    pub fn waiting(&self) -> usize {
        self.workers.iter().map(|worker| worker.gauges().waiting.load(Ordering::Relaxed)).sum()
    }

    pub fn open(&self) -> usize {
        self.workers.iter().map(|worker| worker.gauges().connections.load(Ordering::Relaxed)).sum()
    }
}

/// Looks again and again until the condition holds.
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        thread::yield_now();
    }
}

/// A router and its service.
#[derive(Clone)]
pub struct Route {
    pub name: &'static str,
    pub rule: String,
    pub tls: bool,
    pub servers: Vec<(String, u32)>,
    pub middlewares: Vec<MiddlewareKind>,
    pub strategy: Strategy,
    pub pass_host_header: bool,
    pub preserve_path: bool,
    /// Requests of a server, and those that wait for it.
    pub limits: Option<(i64, i64)>,
}

impl Route {
    pub fn to(host: &'static str, servers: &[&str]) -> Self {
        Self {
            name: host,
            rule: format!("Host(`{host}`)"),
            tls: false,
            servers: servers.iter().map(|url| ((*url).to_owned(), 1)).collect(),
            middlewares: Vec::new(),
            strategy: Strategy::Wrr,
            pass_host_header: true,
            preserve_path: false,
            limits: None,
        }
    }
}

/// The one place that knows how a table is made: as from a file that declares these routes.
fn table_of(routes: &[Route]) -> Table {
    let mut http = declare::Http::default();
    for route in routes {
        // The two halves of one host are two routers.
        let name: Arc<str> = if route.tls { format!("{}-tls", route.name) } else { route.name.to_owned() }.into();
        let servers = route.servers.iter().map(|(url, weight)| declare::Server {
            url: url.as_str().into(),
            weight: Some(*weight),
            preserve_path: route.preserve_path,
        });
        let load_balancer = declare::LoadBalancer {
            servers: servers.collect(),
            strategy: route.strategy.clone(),
            pass_host_header: route.pass_host_header,
            rust_lb_max_requests: route.limits.map(|(most, _)| most),
            rust_lb_max_queue: route.limits.map(|(_, queue)| queue),
            rust_lb_queue_timeout: route.limits.map(|_| declare::GoDuration::from_seconds(3_600)),
            ..declare::LoadBalancer::default()
        };
        let service = declare::Service { load_balancer: Some(load_balancer), ..declare::Service::default() };
        http.services.insert(name.clone(), Arc::new(service));
        let middlewares: Vec<Arc<str>> = (0..route.middlewares.len()).map(|i| format!("{name}-{i}").into()).collect();
        for (id, kind) in middlewares.iter().zip(&route.middlewares) {
            let middleware = declare::Middleware { kind: kind.clone(), source: declare::Source::default() };
            http.middlewares.insert(id.clone(), Arc::new(middleware));
        }
        let router = declare::Router {
            rule: route.rule.as_str().into(),
            service: name.clone(),
            middlewares,
            tls: route.tls.then(declare::RouterTls::default),
            ..declare::Router::default()
        };
        http.routers.insert(name, Arc::new(router));
    }
    let options = BuildOptions {
        entry_points: vec![table::EntryPoint {
            name: "web".into(),
            tls: false,
            as_default: true,
            middlewares: Vec::new(),
            tls_options: Default::default(),
        }],
        primary: Provider::Nomad,
        internal: declare::Dynamic::default(),
    };
    let declarations = [(Provider::File, declare::Dynamic { http, ..declare::Dynamic::default() })].into();
    let built = table::build(&declarations, &Accepted::default(), &options);
    assert!(built.diagnostics.is_empty(), "{:?}", built.diagnostics);
    Table::clone(&built.table)
}

/// One end of a connection, spoken by hand.
pub struct Client<S = TcpStream> {
    pub stream: S,
    buffer: Vec<u8>,
}

/// An answer, or a request, as it came.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<String> {
        fields(&self.head, name)
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }
}

/// All values of a field in a head.
pub fn fields(head: &str, name: &str) -> Vec<String> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        stream.set_write_timeout(Some(LIMIT)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, buffer: Vec::new() }
    }
}

impl<S: Read + Write> Client<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("written");
        self.stream.flush().expect("flushed");
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 4_096];
        let read = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read)
    }

    /// Exactly this many bytes.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert_ne!(self.fill().expect("more"), 0, "ended after {:?}", String::from_utf8_lossy(&self.buffer));
        }
        self.buffer.drain(..count).collect()
    }

    /// Up to and with `end`.
    pub fn through(&mut self, end: &str) -> String {
        self.try_through(end).expect("more")
    }

    /// Up to and with `end`; `None` when the connection ended before.
    pub fn try_through(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end.as_bytes()) {
                let bytes: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            match self.fill() {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing came for {LIMIT:?}"),
                Err(_) => return None,
            }
        }
    }

    /// Whatever comes until the end.
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing came for {LIMIT:?}"),
                Err(_) => break,
            }
        }
        std::mem::take(&mut self.buffer)
    }

    /// A head without its body.
    pub fn head(&mut self) -> Response {
        let head = self.through("\r\n\r\n");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Response { status, head, body: Vec::new() }
    }

    /// An answer to a request of this method; interim answers are passed over.
    pub fn response(&mut self, method: &str) -> Response {
        let mut response = self.head();
        while response.status == 100 {
            response = self.head();
        }
        if method == "HEAD" || matches!(response.status, 101..=199 | 204 | 304) {
            return response;
        }
        response.body = self.body(&response.head);
        response
    }

    fn body(&mut self, head: &str) -> Vec<u8> {
        if let Some(length) = fields(head, "content-length").first() {
            return self.exactly(length.parse().expect("a length"));
        }
        if fields(head, "transfer-encoding").is_empty() {
            return if head.starts_with("HTTP/") { self.rest() } else { Vec::new() };
        }
        let mut body = Vec::new();
        loop {
            let size = self.through("\r\n");
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
            if size == 0 {
                // Trailers, if any, stay for whoever wants them.
                return body;
            }
            body.extend(self.exactly(size));
            self.exactly(2);
        }
    }

    /// A request with its body, on a server's side.
    pub fn request(&mut self) -> Option<Response> {
        let head = self.try_through("\r\n\r\n")?;
        let body = self.body(&head);
        if !fields(&head, "transfer-encoding").is_empty() {
            self.through("\r\n");
        }
        Some(Response { status: 0, head, body })
    }
}

/// A server spoken by hand: a thread for each connection.
pub struct Server {
    pub address: SocketAddr,
    pub accepted: Arc<AtomicUsize>,
}

impl Server {
    pub fn start(serve: impl Fn(Client, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (accepted.clone(), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                thread::spawn(move || serve(Client::new(stream), number));
            }
        });
        Self { address, accepted }
    }

    /// Answers each request on a connection with what `answer` says.
    pub fn answering(answer: impl Fn(&Response) -> String + Send + Sync + 'static) -> Self {
        Self::start(move |mut client, _| {
            while let Some(request) = client.request() {
                let answer = answer(&request);
                client.send(&answer);
            }
        })
    }

    /// Answers with its name.
    pub fn named(name: &'static str) -> Self {
        Self::answering(move |_| ok(name))
    }

    /// Answers with the head that it got.
    pub fn echo() -> Self {
        Self::answering(|request| ok(&request.head))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// 200 with a body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A URL where nobody listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}
