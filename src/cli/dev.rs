//! `rust-lb dev`: the proxy together with an embedded catalog and sample services, on a machine where
//! nothing else is installed. The catalog and the samples run on a thread of their own; the proxy reaches
//! them over loopback, as it would reach real ones.

use super::{FAILED, USAGE, fail, refused};
use crate::config;
use crate::embedded::{self, samples};
use crate::listen;
use crate::runtime::{self, Options, Running};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const HELP: &str = "\
usage: rust-lb dev [options] [static configuration flags]

Runs the proxy together with an embedded catalog that speaks Nomad's and Consul's HTTP API, and a few sample services in each
tag dialect; prints the URLs to try.

options (port 0: any):
  --web ADDR         plain HTTP, default 127.0.0.1:8000
  --websecure ADDR   HTTPS, default 127.0.0.1:8443
  --admin ADDR       admin API, default 127.0.0.1:8080
  --nomad ADDR       embedded Nomad API, default 127.0.0.1:4646
  --consul ADDR      embedded Consul API, default 127.0.0.1:8500
  --no-samples       start without sample services
  --json             print one JSON line once ready

examples:
  rust-lb dev
  rust-lb dev --web 127.0.0.1:0 --websecure 127.0.0.1:0 --admin 127.0.0.1:0 --nomad 127.0.0.1:0 --consul 127.0.0.1:0 --json
";

/// What was said on the command line besides configuration flags.
struct Said {
    web: String,
    websecure: String,
    admin: String,
    nomad: SocketAddr,
    consul: SocketAddr,
    samples: bool,
    json: bool,
    rest: Vec<String>,
}

impl Said {
    fn read(args: &[String]) -> Result<Self, String> {
        let loopback = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let mut said = Self {
            web: "127.0.0.1:8000".to_owned(),
            websecure: "127.0.0.1:8443".to_owned(),
            admin: "127.0.0.1:8080".to_owned(),
            nomad: loopback(4646),
            consul: loopback(8500),
            samples: true,
            json: false,
            rest: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, inline) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            let mut value = || {
                let value = inline.clone().or_else(|| args.next().cloned());
                value.ok_or_else(|| format!("`{name}` needs an address such as 127.0.0.1:0"))
            };
            let socket = |text: String| {
                text.parse::<SocketAddr>()
                    .map_err(|_| format!("`{name}`: `{text}` is not an address such as 127.0.0.1:0"))
            };
            match name {
                "--web" => said.web = socket(value()?)?.to_string(),
                "--websecure" => said.websecure = socket(value()?)?.to_string(),
                "--admin" => said.admin = socket(value()?)?.to_string(),
                "--nomad" => said.nomad = socket(value()?)?,
                "--consul" => said.consul = socket(value()?)?,
                "--no-samples" => said.samples = false,
                "--json" => said.json = true,
                _ => said.rest.push(arg.clone()),
            }
        }
        Ok(said)
    }
}

/// How long the announcement waits for the samples to be in the table.
const FIRST_READ: Duration = Duration::from_secs(5);

/// As HinD sets `http_max_conns_per_client`, so that many blocked queries can be tried out.
const HIND_CONSUL_CONNECTIONS: usize = 32_767;

/// The embedded catalog, running on its thread until dropped.
struct Catalog {
    nomad: SocketAddr,
    consul: SocketAddr,
    samples: Vec<samples::Sample>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

fn start_catalog(said: &Said, domain: String) -> Result<Catalog, String> {
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (nomad, consul, with_samples) = (said.nomad, said.consul, said.samples);
    let thread = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return drop(tell.send(Err(e.to_string()))),
        };
        runtime.block_on(async move {
            let options = embedded::Options {
                nomad: Some(nomad),
                consul: Some(consul),
                consul_connections: HIND_CONSUL_CONNECTIONS,
                ..embedded::Options::default()
            };
            let start = || {
                let embedded = embedded::start(&options)?;
                let samples = with_samples.then(|| samples::start(&embedded, &domain)).transpose()?;
                Ok::<_, embedded::EmbeddedError>((embedded, samples))
            };
            match start() {
                Err(e) => drop(tell.send(Err(with_owner(&e)))),
                Ok((embedded, samples)) => {
                    let listed = samples.as_ref().map(|s| s.list.clone()).unwrap_or_default();
                    drop(tell.send(Ok((embedded.nomad_addr(), embedded.consul_addr(), listed))));
                    // Ends when the receiver's other half is dropped, at the end of the program.
                    drop(stopped.await);
                }
            }
        });
    };
    std::thread::Builder::new().name("embedded".to_owned()).spawn(thread).map_err(|e| e.to_string())?;
    match told.recv() {
        Ok(Ok((Some(nomad), Some(consul), samples))) => Ok(Catalog { nomad, consul, samples, _stop: stop }),
        Ok(Ok(_)) | Err(_) => Err("the embedded catalog did not start".to_owned()),
        Ok(Err(e)) => Err(e),
    }
}

/// Names who has the port, where that can be seen.
fn with_owner(error: &embedded::EmbeddedError) -> String {
    let owner = match error {
        embedded::EmbeddedError::PortInUse { addr, .. } => listen::owner(*addr),
        embedded::EmbeddedError::Listen { .. } => None,
    };
    match owner {
        Some(owner) => format!("{error}\nhint: it is in use by {owner}"),
        None => error.to_string(),
    }
}

pub(super) fn run(input: config::Input, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let said = match Said::read(&input.args) {
        Ok(said) => said,
        Err(e) => return fail(stderr, USAGE, format_args!("{e}\nhint: `rust-lb dev --help`")),
    };
    let domain =
        input.env.get("DOMAIN_SUFFIX").filter(|v| !v.is_empty()).cloned().unwrap_or_else(|| "localhost".to_owned());
    let catalog = match start_catalog(&said, domain) {
        Ok(catalog) => catalog,
        Err(e) => return fail(stderr, FAILED, format_args!("{e}")),
    };
    if config::standby(&input.args).is_some() {
        return fail(stderr, USAGE, format_args!("`dev` is no standby: `rust-lb serve --standby` is"));
    }
    let state = state_dir(&input);
    if let Err(e) = std::fs::create_dir_all(state.join("certs")) {
        return fail(
            stderr,
            FAILED,
            format_args!("{}: {e}\nhint: set `XDG_STATE_HOME` to a folder of yours", state.display()),
        );
    }
    let input = settle_on(input, &said, &catalog, &state);
    let loaded = match config::load(&input) {
        Ok(loaded) => loaded,
        Err(problems) => return refused(&problems, &input, stderr),
    };
    let mut loaded = loaded;
    // The person named none of them: `dev` did.
    loaded.notes.retain(|note| !note.message.ends_with("are dropped"));
    let options = Options { reload: Some(input), signals: true, log: true, ..Options::default() };
    match runtime::start(loaded, options) {
        Ok(running) => {
            running.wait_until_read(FIRST_READ);
            if let Err(e) = announce(&running, &catalog, &said, stdout) {
                return fail(stderr, FAILED, format_args!("stdout: {e}"));
            }
            running.join()
        }
        Err(e) => fail(stderr, FAILED, format_args!("{e}")),
    }
}

/// The configuration of `dev`: its own flags first, so that what the person says besides wins.
fn settle_on(input: config::Input, said: &Said, catalog: &Catalog, state: &Path) -> config::Input {
    let mut args = vec![
        format!("--entryPoints.web.address={}", said.web),
        "--entryPoints.web.asDefault=true".to_owned(),
        format!("--entryPoints.websecure.address={}", said.websecure),
        "--entryPoints.websecure.http.tls=true".to_owned(),
        "--entryPoints.websecure.asDefault=true".to_owned(),
        format!("--entryPoints.traefik.address={}", said.admin),
        format!("--providers.nomad.endpoint.address=http://{}", catalog.nomad),
        "--providers.nomad.exposedByDefault=false".to_owned(),
        format!("--providers.consulCatalog.endpoint.address=http://{}", catalog.consul),
        "--providers.consulCatalog.exposedByDefault=false".to_owned(),
        format!("--rustLb.stateDir={}", state.display()),
        format!("--rustLb.certificates.directory={}", state.join("certs").display()),
        "--rustLb.lastGood.maxAge=off".to_owned(),
    ];
    args.extend(said.rest.iter().cloned());
    config::Input { args, ..input }
}

/// A folder that outlives the run, so that the local root needs trusting only once.
fn state_dir(input: &config::Input) -> PathBuf {
    let from = |name: &str| input.env.get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    from("XDG_STATE_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir)
        .join("rust-lb-dev")
}

fn announce(running: &Running, catalog: &Catalog, said: &Said, stdout: &mut dyn Write) -> std::io::Result<()> {
    let at =
        |name: &str| running.bound().get(name).and_then(|a| a.first()).map(ToString::to_string).unwrap_or_default();
    let (web, websecure, admin) = (at("web"), at("websecure"), at("traefik"));
    let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
    let url = |sample: &samples::Sample| {
        let (scheme, address) = if sample.tls { ("https", &websecure) } else { ("http", &web) };
        format!("{scheme}://{}:{}{}", sample.host, port(address), sample.path)
    };
    let ca = running.root_certificate().map(|p| p.display().to_string()).unwrap_or_default();
    if said.json {
        let samples: Vec<_> = catalog
            .samples
            .iter()
            .map(|s| serde_json::json!({"service": s.service, "dialect": s.dialect, "url": url(s)}))
            .collect();
        let line = serde_json::json!({
            "web": web, "websecure": websecure, "admin": admin,
            "nomad": catalog.nomad.to_string(), "consul": catalog.consul.to_string(), "ca": ca, "samples": samples,
        });
        writeln!(stdout, "{line}")?;
        return stdout.flush();
    }
    writeln!(stdout, "rust-lb is ready; Ctrl-C ends it\n")?;
    writeln!(
        stdout,
        "  web        http://{web}\n  websecure  https://{websecure}\n  admin      http://{admin}/api/rawdata"
    )?;
    writeln!(stdout, "  nomad      http://{}\n  consul     http://{}", catalog.nomad, catalog.consul)?;
    writeln!(stdout, "  root       {ca}\n")?;
    if !catalog.samples.is_empty() {
        writeln!(stdout, "try:")?;
        for sample in &catalog.samples {
            let trust = if sample.tls { format!("--cacert {ca} ") } else { String::new() };
            writeln!(stdout, "  curl {trust}{:<40} # {}, {}", url(sample), sample.service, sample.dialect)?;
        }
        writeln!(stdout)?;
    }
    writeln!(stdout, "register a service of your own (here: whatever listens on 127.0.0.1:9000):")?;
    writeln!(
        stdout,
        "  curl -X PUT http://{}/v1/agent/service/register -d '{{\"Name\":\"mine\",\"Address\":\"127.0.0.1\",\"Port\":9000,\"Tags\":[\"urlprefix-mine.localhost/\"]}}'",
        catalog.consul
    )?;
    writeln!(stdout, "  curl http://mine.localhost:{}/", port(&web))?;
    stdout.flush()
}
