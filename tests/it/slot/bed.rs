//! A box in a folder: the programs of the slot, a catalog, a server, and whoever supervises.

use super::super::support::binary::Running;
use super::super::support::{client, eventually, tls};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

/// The TLS stream of a client.
pub type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

fn free_ports<const N: usize>() -> [u16; N] {
    std::array::from_fn(|_| crate::support::ports::free())
}

/// A box; everything in it is killed at the end.
pub struct Bed {
    pub dir: tempfile::TempDir,
    pub env: BTreeMap<String, String>,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub server: SocketAddr,
    pub catalog: Option<Running>,
    supervisor: Option<Child>,
    wake: Option<Child>,
}

impl Bed {
    /// The hosts are known to the catalog by HinD's tags, and to Caddy by its file.
    pub fn new(hosts: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        for name in ["bin", "etc", "pv", "conf.d"] {
            std::fs::create_dir(dir.path().join(name)).expect("a folder");
        }
        let [http, https, caddy, admin] = free_ports();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("supervisor");
        for script in ["proxy-run", "proxy-switch", "proxy-lib.sh", "proxy-probe.sh"] {
            std::fs::copy(source.join(script), dir.path().join("bin").join(script)).expect("copied");
        }
        std::fs::copy(source.join("proxy.conf"), dir.path().join("conf.d/zz-proxy.conf")).expect("copied");
        // Debian has no consul-template: what counts here is whether it is run.
        program(&dir.path().join("bin/consul-template"), "#!/bin/sh\nexec sleep 100000\n");
        std::fs::write(dir.path().join("conf.d/supervisord.conf"), HIND).expect("written");
        let main = SUPERVISORD.replace("DIR", &dir.path().display().to_string());
        std::fs::write(dir.path().join("supervisord.conf"), main).expect("written");
        let server = server();
        let catalog = Running::dev(dir.path(), &["--no-samples"]);
        let consul = catalog.addr("consul");
        let flags = format!(
            "--entryPoints.web.address=127.0.0.1:{http} --entryPoints.websecure.address=127.0.0.1:{https} \
             --entryPoints.websecure.http.tls=true --entryPoints.traefik.address=127.0.0.1:{admin} \
             --entryPoints.websecure.transport.lifeCycle.graceTimeOut=30s \
             --providers.consulCatalog.endpoint.address={consul} --rustLb.certificates.directory={}",
            path("pv/CERTS")
        );
        let path_variable = std::env::var("PATH").unwrap_or_default();
        let env = [
            ("PATH", format!("{}:{path_variable}", path("bin"))),
            ("HOME", path("")),
            ("PROXY_DIR", path("pv/rust-lb/host")),
            ("PROXY_LOCAL", path("local")),
            ("PROXY_RUN_DIR", path("run")),
            ("PROXY_CERTS", path("pv/CERTS")),
            ("PROXY_RUST_LB", env!("CARGO_BIN_EXE_rust-lb").to_owned()),
            ("PROXY_RUST_LB_ARGS", flags),
            ("PROXY_RUST_LB_ADMIN", format!("127.0.0.1:{admin}")),
            ("PROXY_CADDY", which("caddy").unwrap_or_default().display().to_string()),
            ("PROXY_CADDYFILE", path("etc/Caddyfile")),
            ("PROXY_CADDY_ADMIN", format!("127.0.0.1:{caddy}")),
            ("PROXY_CONSUL_TEMPLATE", path("bin/consul-template")),
            ("PROXY_HTTP_PORT", http.to_string()),
            ("PROXY_HTTPS_PORT", https.to_string()),
            ("PROXY_SUPERVISORCTL", format!("supervisorctl -c {}", path("supervisord.conf"))),
            ("PROXY_SUPERVISOR_SOCKET", path("supervisor.sock")),
            ("PROXY_SCANDIR", path("scan")),
        ];
        let bed = Self {
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            http: (Ipv4Addr::LOCALHOST, http).into(),
            https: (Ipv4Addr::LOCALHOST, https).into(),
            server,
            catalog: Some(catalog),
            supervisor: None,
            wake: None,
            dir,
        };
        bed.caddyfile(hosts);
        for host in hosts {
            bed.register(host, &format!("https://{host}"));
        }
        bed
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As consul-template would render it.
    pub fn caddyfile(&self, hosts: &[&str]) {
        let (http, https) = (self.http.port(), self.https.port());
        let storage = self.path("pv/CERTS");
        let mut text = format!(
            "{{\n  skip_install_trust\n  admin {}\n  storage file_system {}\n  auto_https disable_redirects\n  http_port {http}\n  \
             https_port {https}\n}}\n:{http} {{\n  redir https://{{host}}:{https}{{uri}} permanent\n}}\n\
             https:// {{\n  handle {{\n    respond \"not found\" 404\n  }}\n}}\n",
            self.env["PROXY_CADDY_ADMIN"],
            storage.display()
        );
        for host in hosts {
            let _ = write!(text, "https://{host} {{\n  reverse_proxy {}\n  tls internal\n}}\n", self.server);
        }
        std::fs::write(self.path("etc/Caddyfile"), text).expect("written");
    }

    pub fn register(&self, name: &str, tag: &str) {
        self.register_tags(name, &[tag]);
    }

    pub fn register_tags(&self, name: &str, tags: &[&str]) {
        let consul = self.catalog.as_ref().expect("a catalog").addr("consul");
        let body = serde_json::json!({
            "ID": name, "Name": name.replace('.', "-"), "Address": self.server.ip().to_string(),
            "Port": self.server.port(), "Tags": tags,
        });
        let answer = client::send(consul, "PUT", "consul", "/v1/agent/service/register", "", &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Starts supervisord as an entrypoint does.
    pub fn start(&mut self, proxy_server: &str) {
        let log = std::fs::File::create(self.path("log")).expect("a file");
        let mut command = Command::new("supervisord");
        command.arg("-n").arg("-c").arg(self.path("supervisord.conf"));
        command.env_clear().envs(&self.env).env("PROXY_SERVER", proxy_server);
        let log = (log.try_clone().expect("a file"), log);
        let child = command.stdin(Stdio::null()).stdout(log.0).stderr(log.1).spawn().expect("supervisord starts");
        self.supervisor = Some(child);
        self.wake = Some(self.command("proxy-run", &["--wake"]).spawn().expect("it runs"));
    }

    /// Ends supervisord, and waits until it and all that it ran are gone.
    pub fn stop(&mut self) {
        if let Some(mut supervisor) = self.supervisor.take() {
            drop(Command::new("kill").args(["-TERM", &supervisor.id().to_string()]).status());
            drop(supervisor.wait());
        }
        if let Some(mut wake) = self.wake.take() {
            drop(wake.kill());
            drop(wake.wait());
        }
        eventually("the ports are free", || {
            [self.http, self.https].iter().all(|port| TcpStream::connect(port).is_err()).then_some(())
        });
    }

    /// Waits until supervisord says that it is up.
    pub fn supervisor_up(&self) -> Instant {
        eventually("supervisord is up", || self.log().contains("supervisord started").then(Instant::now))
    }

    /// Waits until the redirect to HTTPS answers.
    pub fn served_at_http(&self) -> Instant {
        eventually(&format!("a.test is served: {}", self.log()), || {
            client::try_get(self.http, "a.test", "/").ok().filter(|answer| answer.status == 301).map(|_| Instant::now())
        })
    }

    /// Waits until the host is in the state that a start without catalogs is served from.
    pub fn wait_until_kept(&self, host: &str) {
        eventually("the last good state is written", || {
            let text = std::fs::read_to_string(self.path("pv/rust-lb/host/last-good.json")).ok()?;
            text.contains(host).then_some(())
        });
    }

    /// All that the programs have said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(which(program).unwrap_or_else(|| self.path("bin").join(program)));
        command.args(args).env_clear().envs(&self.env).env("PROXY_SERVER", "caddy").stdin(Stdio::null());
        command
    }

    /// `proxy-switch` with more environment; gives the exit code and what it said.
    pub fn switch_with(&self, args: &[&str], env: &[(&str, &str)]) -> (i32, String) {
        let output = self.command("proxy-switch", args).envs(env.iter().copied()).output().expect("it runs");
        said(&output)
    }

    pub fn switch(&self, args: &[&str]) -> (i32, String) {
        self.switch_with(args, &[])
    }

    /// `proxy-switch` in the background.
    pub fn switching(&self, args: &[&str]) -> Child {
        let mut command = self.command("proxy-switch", args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs")
    }

    pub fn supervisorctl(&self, args: &[&str]) -> String {
        let file = self.path("supervisord.conf").display().to_string();
        let args: Vec<&str> = ["-c", &file].into_iter().chain(args.iter().copied()).collect();
        said(&self.command("supervisorctl", &args).output().expect("it runs")).1
    }

    /// Waits until this program is in this state.
    pub fn is(&self, program: &str, state: &str) {
        eventually(&format!("{program} is {state}: {}", self.log()), || {
            let status = self.supervisorctl(&["status", program]);
            (status.split_whitespace().nth(1) == Some(state)).then_some(())
        });
    }

    /// The certificate that is served for a host; who answers, `caddy` or `rust-lb`, and with what.
    pub fn ask(&self, host: &str) -> Option<(Vec<u8>, &'static str, u16)> {
        let mut tls = self.connect(host)?;
        write!(tls, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        drop(tls.read_to_end(&mut answer));
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let certificate = tls.conn.peer_certificates()?.first()?.to_vec();
        Some((certificate, if text.contains("\r\nserver: caddy") { "caddy" } else { "rust-lb" }, status))
    }

    /// A connection that trusts Caddy's own root, which both serve by.
    pub fn connect(&self, host: &str) -> Option<Tls> {
        let root = std::fs::read(self.path("pv/CERTS/pki/authorities/local/root.crt")).ok()?;
        tls::connect(self.https, Ipv4Addr::UNSPECIFIED, &root, host)
    }

    /// Waits until this one answers for the host; gives the certificate.
    pub fn served_by(&self, who: &str, host: &str) -> Vec<u8> {
        eventually(&format!("{host} is served by {who}"), || {
            self.ask(host).filter(|(_, by, status)| (*by, *status) == (who, 200)).map(|(certificate, ..)| certificate)
        })
    }

    /// An answer that goes on for ever.
    pub fn answer(&self, host: &str) -> Tls {
        let mut tls = self.connect(host).expect("a connection");
        write!(tls, "GET /ticks HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("sent");
        assert!(goes_on(&mut tls), "the answer begins");
        tls
    }

    /// A WebSocket through the proxy.
    pub fn stream(&self, host: &str) -> Tls {
        let mut tls = self.connect(host).expect("a connection");
        write!(tls, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .expect("sent");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            tls.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        tls
    }
}

/// Whether what is said comes back.
pub fn echoes(stream: &mut Tls) -> bool {
    let mut back = [0; 5];
    stream.write_all(b"hello").and_then(|()| stream.read_exact(&mut back)).is_ok() && &back == b"hello"
}

/// When the ticks of answers that go on began.
static EPOCH: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

/// Whether something comes that was sent later than now.
pub fn goes_on(stream: &mut Tls) -> bool {
    let now = EPOCH.elapsed().as_millis();
    let (mut line, mut byte) = (String::new(), [0]);
    loop {
        if stream.read_exact(&mut byte).is_err() {
            return false;
        }
        if byte != *b"\n" {
            line.push(char::from(byte[0]));
            continue;
        }
        if line.strip_prefix("tick ").and_then(|tick| tick.parse().ok()).is_some_and(|tick: u128| tick > now) {
            return true;
        }
        line.clear();
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.supervisor.is_some() {
            self.stop();
        }
    }
}

pub fn said(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

pub fn program(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// A server that answers, and echoes what comes on connections that are switched to another protocol.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    address
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if String::from_utf8_lossy(&head).to_ascii_lowercase().contains("\r\nupgrade:") {
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
            let mut back = stream.try_clone()?;
            return std::io::copy(&mut stream, &mut back).map(drop);
        }
        if head.starts_with(b"GET /ticks ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")?;
            loop {
                // The pace of the stream.
                std::thread::sleep(std::time::Duration::from_millis(20));
                stream.write_all(format!("tick {}\n", EPOCH.elapsed().as_millis()).as_bytes())?;
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    }
}

/// HinD's own programs, as far as the slot is concerned.
const HIND: &str = "\
[program:caddy]
directory=/etc
command=/usr/bin/caddy run
autorestart=true
startretries=10
startsecs=10

[program:consul-template]
directory=/etc
command=/usr/bin/consul-template
autorestart=true
startretries=10
startsecs=10

[program:caddy-restarter]
directory=/etc/supervisor
command=/bin/bash -c '/bin/sleep 43200  &&  /bin/supervisorctl restart caddy'
autorestart=true
startretries=10
";

const SUPERVISORD: &str = "\
[unix_http_server]
file=DIR/supervisor.sock
[supervisord]
logfile=DIR/supervisord.log
pidfile=DIR/supervisord.pid
childlogdir=DIR
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://DIR/supervisor.sock
[include]
files = DIR/conf.d/*.conf
";
