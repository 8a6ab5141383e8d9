//! The HTTP/1.1 server under both APIs: listens, counts, limits, and can be ended and started
//! again on the same port in every way an agent is.
//!
//! hyper speaks HTTP; where the real agents leave HTTP's framing (event streams, spoilt answers,
//! ends without an answer) the service fails on purpose, hyper gives the socket back without having
//! written anything, and the reply goes on with the bare socket, as Go's `Hijack` does.

use super::control::{Control, Fault, State, lock};
use super::exchange::{Answer, Query, Reply, Request, unescape};
use futures_util::FutureExt;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Largest request body taken.
const MAX_BODY: usize = 1 << 20;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// One of the two APIs.
pub(crate) trait Api: Send + Sync + 'static {
    /// Answers one request; may wait as long as a blocking query does.
    fn reply(self: Arc<Self>, request: Request) -> impl Future<Output = Reply> + Send;

    /// The header that carries the index, for spoilt answers.
    const INDEX_HEADER: &'static str;

    /// What those get who hold too many connections: text of a 429, or a reset where `None`.
    const OVER_LIMIT: Option<&'static str>;
}

/// A server that can be ended and started again.
pub(crate) struct Server<A> {
    api: Arc<A>,
    control: Control,
    addr: SocketAddr,
    run: Mutex<Option<Run>>,
    /// Keeps the port while nothing listens on it, so that nobody else gets it meanwhile.
    placeholder: Arc<Mutex<Option<socket2::Socket>>>,
    runtime: tokio::runtime::Handle,
}

impl<A> std::fmt::Debug for Server<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Run {
    /// Ends everything at once, without answers.
    kill: CancellationToken,
    /// Ends listening and lets what is in flight be answered.
    drain: CancellationToken,
    tasks: TaskTracker,
}

impl<A: Api> Server<A> {
    /// Binds and serves. Must be called within a tokio runtime.
    pub(crate) fn start(api: Arc<A>, control: Control, addr: SocketAddr) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(std::io::Error::other)?;
        let listener = listen(addr)?;
        let server = Self {
            addr: listener.local_addr()?,
            api,
            control,
            run: Mutex::default(),
            placeholder: Arc::default(),
            runtime,
        };
        server.serve(listener);
        Ok(server)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Listens again after an end. Does nothing while it runs.
    pub(crate) fn restart(&self) -> std::io::Result<()> {
        if lock(&self.run).is_none() {
            let listener = {
                let _guard = self.runtime.enter();
                listen(self.addr)?
            };
            lock(&self.placeholder).take();
            self.serve(listener);
        }
        Ok(())
    }

    /// Ends as a killed process does: every connection closes without an answer, new ones are
    /// refused. Complete when no connection is left.
    pub(crate) async fn kill(&self) {
        let run = lock(&self.run).take();
        if let Some(run) = run {
            run.kill.cancel();
            run.tasks.wait().await;
        }
    }

    /// Ends as an agent that was asked to: nothing new is taken, what is asked is answered.
    pub(crate) async fn drain(&self) {
        let run = lock(&self.run).take();
        if let Some(run) = run {
            run.drain.cancel();
            run.tasks.wait().await;
        }
    }

    /// Ends without waiting.
    pub(crate) fn abort(&self) {
        if let Some(run) = lock(&self.run).take() {
            run.kill.cancel();
        }
    }

    fn serve(&self, listener: TcpListener) {
        let run = Run { kill: CancellationToken::new(), drain: CancellationToken::new(), tasks: TaskTracker::new() };
        let (api, state, addr, placeholder) =
            (self.api.clone(), self.control.state.clone(), self.addr, self.placeholder.clone());
        let accept = accept(listener, api, state, run.clone());
        run.tasks.spawn_on(
            async move {
                // The listener is dropped with this future.
                accept.await;
                *lock(&placeholder) = hold(addr).ok();
            },
            &self.runtime,
        );
        run.tasks.close();
        *lock(&self.run) = Some(run);
    }
}

impl<A> Drop for Server<A> {
    fn drop(&mut self) {
        if let Some(run) = lock(&self.run).take() {
            run.kill.cancel();
        }
    }
}

fn socket(addr: SocketAddr) -> std::io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket(addr)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds without listening: connections are refused, and the port stays ours.
fn hold(addr: SocketAddr) -> std::io::Result<socket2::Socket> {
    socket(addr)
}

async fn accept<A: Api>(listener: TcpListener, api: Arc<A>, state: Arc<State>, run: Run) {
    let mut turned_away = Bucket::new();
    let mut apart = state.apart();
    let mut plug = Plug::default();
    loop {
        let cut = *apart.borrow_and_update();
        if cut != plug.is_in() {
            plug.set(cut, &listener).await;
        }
        let accepted = tokio::select! {
            biased;
            () = run.kill.cancelled() => return,
            () = run.drain.cancelled() => return,
            Ok(()) = apart.changed() => continue,
            accepted = listener.accept(), if !cut => accepted,
        };
        if accepted.as_ref().is_ok_and(|(_, client)| plug.is_of(*client)) {
            continue;
        }
        let Ok((stream, client)) = accepted else {
            // Out of descriptors, or a connection that was gone already: not a reason to end.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let Some(place) = state.admit(client.ip()) else {
            state.count_refused();
            turn_away::<A>(stream, turned_away.take(), &run);
            continue;
        };
        state.count_accepted();
        let open = state.counted(|stats| &mut stats.connections);
        let (api, state, kill, drain) = (api.clone(), state.clone(), run.kill.clone(), run.drain.clone());
        run.tasks.spawn(async move {
            let _open = open;
            let stranded = state.stranded();
            let mut served = std::pin::pin!(serve(stream, api, state, drain, place));
            tokio::select! {
                biased;
                () = kill.cancelled() => {}
                // It holds its socket, and nothing comes of it any more.
                () = stranded => kill.cancelled().await,
                () = served.as_mut() => {}
            }
        });
    }
}

/// What keeps the queue of a listener full, so that the kernel drops who knocks.
#[derive(Default)]
struct Plug {
    is_in: bool,
    held: Vec<TcpStream>,
    /// Where its connections come from, so that they pass for nobody's.
    from: Vec<SocketAddr>,
}

impl Plug {
    fn is_in(&self) -> bool {
        self.is_in
    }

    fn is_of(&self, client: SocketAddr) -> bool {
        self.from.contains(&client)
    }

    async fn set(&mut self, cut: bool, listener: &TcpListener) {
        self.is_in = cut;
        if !cut {
            self.held.clear();
            let _ = socket2::SockRef::from(listener).listen(BACKLOG);
            return;
        }
        self.from.clear();
        let Ok(addr) = listener.local_addr() else { return };
        let _ = socket2::SockRef::from(listener).listen(0);
        // A queue of none takes one; who comes then is dropped, which shows by nothing.
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(addr)).await {
            self.from.extend(stream.local_addr());
            self.held.push(stream);
        }
    }
}

/// What a taken connection goes on with.
type Taken = Arc<Mutex<Option<Reply>>>;

async fn serve<A: Api>(
    stream: TcpStream,
    api: Arc<A>,
    state: Arc<State>,
    drain: CancellationToken,
    place: super::control::Place,
) {
    let taken = Taken::default();
    let service = service_fn({
        let (taken, drain) = (taken.clone(), drain.clone());
        move |request: hyper::Request<Incoming>| {
            let (api, state, taken, drain) = (api.clone(), state.clone(), taken.clone(), drain.clone());
            Box::pin(async move {
                match exchange(api, &state, request, drain).await {
                    Reply::Answer(answer) => Ok(answer.into_response()),
                    take => {
                        *lock(&taken) = Some(take);
                        Err("the connection was taken")
                    }
                }
            })
        }
    });
    let mut connection = http1::Builder::new().title_case_headers(true).serve_connection(TokioIo::new(stream), service);
    let mut draining = std::pin::pin!(drain.cancelled().fuse());
    let ended = poll_fn(|cx| {
        if draining.as_mut().poll(cx).is_ready() {
            Pin::new(&mut connection).graceful_shutdown();
        }
        connection.poll_without_shutdown(cx)
    })
    .await;
    let stream = connection.into_parts().io.into_inner();
    let reply = lock(&taken).take();
    match reply {
        Some(Reply::Take(go_on)) => {
            drop(place); // as measured: what was taken out of HTTP no longer counts towards the limit
            go_on(stream).await;
        }
        _ => {
            let mut stream = stream;
            if ended.is_ok() {
                let _ = stream.shutdown().await;
            }
        }
    }
}

async fn exchange<A: Api>(
    api: Arc<A>,
    state: &State,
    request: hyper::Request<Incoming>,
    draining: CancellationToken,
) -> Reply {
    state.thawed().await;
    let (head, body) = request.into_parts();
    let path = unescape(head.uri.path(), false);
    state.count_request(head.method.as_str(), &path);
    let fault = state.fault_for(&path);
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Answer::text(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large").into(),
    };
    let query = Query::parse(head.uri.query().unwrap_or(""));
    let request =
        Request { method: head.method, path, query, headers: head.headers, body, version: head.version, draining };
    let reply = match fault {
        None => api.reply(request).await,
        Some(fault) => spoilt(api, request, fault).await,
    };
    state.late().await;
    state.thawed().await;
    reply
}

async fn spoilt<A: Api>(api: Arc<A>, request: Request, fault: Fault) -> Reply {
    let raw = |bytes: Vec<u8>| {
        Reply::Take(Box::new(move |mut stream: TcpStream| {
            async move {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
            .boxed()
        }))
    };
    match fault {
        Fault::Close => raw(Vec::new()),
        Fault::Garbage => raw(b"\x15\x03\x01\x00\x02\x02\x46".to_vec()),
        Fault::Silence => std::future::pending().await,
        Fault::Html => Answer::new(StatusCode::OK, "<html><body>please log in</body></html>\n")
            .with("Content-Type", "text/html; charset=utf-8")
            .into(),
        Fault::Status(code, text) => {
            Answer::text(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), text).into()
        }
        Fault::Huge(_) | Fault::Index(_) | Fault::Body(_) | Fault::Truncated => match api.reply(request).await {
            Reply::Answer(answer) => edited::<A>(answer, fault, raw),
            taken => taken,
        },
    }
}

fn edited<A: Api>(mut answer: Answer, fault: Fault, raw: impl Fn(Vec<u8>) -> Reply) -> Reply {
    match fault {
        Fault::Index(index) => {
            answer.headers.retain(|(name, _)| *name != A::INDEX_HEADER);
            answer.headers.push((A::INDEX_HEADER, index.to_string()));
        }
        Fault::Body(body) => answer.body = body.into(),
        Fault::Huge(blanks) => {
            let mut body = vec![b' '; blanks.max(2)];
            (body[0], body[blanks.max(2) - 1]) = (b'[', b']');
            answer.body = body.into();
        }
        _ => {
            let mut bytes = format!("HTTP/1.1 {}\r\n", answer.status).into_bytes();
            for (name, value) in &answer.headers {
                bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", answer.body.len()).as_bytes());
            bytes.extend_from_slice(&answer.body[..answer.body.len() / 2]);
            return raw(bytes);
        }
    }
    answer.into()
}

/// Nomad tells the first hundred with a 429, ten more a second after that, and closes on the rest;
/// Consul resets all.
fn turn_away<A: Api>(stream: TcpStream, tell: bool, run: &Run) {
    let Some(text) = A::OVER_LIMIT else {
        let _ = stream.set_zero_linger();
        return;
    };
    if !tell {
        return;
    }
    let kill = run.kill.clone();
    run.tasks.spawn(async move {
        let told = async move {
            let mut stream = stream;
            let head = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\n";
            let answer = format!("{head}Content-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            // A request that is still on its way would turn the close into a reset, and the answer
            // would be lost with it: read it away.
            let mut rest = [0; 1024];
            let gone = async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} };
            let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
        };
        tokio::select! {
            () = kill.cancelled() => {}
            () = told => {}
        }
    });
}

/// A token bucket of a hundred, refilled by ten a second.
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    const SIZE: f64 = 100.0;

    fn new() -> Self {
        Self { left: Self::SIZE, at: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        self.left = Self::SIZE.min(self.left + 10.0 * (now - self.at).as_secs_f64());
        self.at = now;
        let some = self.left >= 1.0;
        if some {
            self.left -= 1.0;
        }
        some
    }
}
