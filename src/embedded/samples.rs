//! Sample services for `rust-lb dev`: small HTTP servers that say who they are and what they were
//! asked, registered in the embedded catalogs with tags of every dialect.

use super::exchange::Body;
use super::{Definition, Embedded, EmbeddedError, Registration, Status};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One URL to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Catalog service.
    pub service: String,
    /// `traefik`, `urlprefix` or `site`.
    pub dialect: &'static str,
    /// Host of the URL, below the domain suffix.
    pub host: String,
    /// Path of the URL.
    pub path: String,
    /// Whether it is served over TLS only.
    pub tls: bool,
}

/// The sample services; dropping it ends them (the catalogs still list them).
#[derive(Debug)]
pub struct Samples {
    /// What to try.
    pub list: Vec<Sample>,
    _running: DropGuard,
}

/// Starts the sample services and registers them. Hosts are below `domain` (`localhost` resolves
/// to this machine in browsers and curl); the service that has no rule relies on the default rule
/// of the same domain.
///
/// # Errors
/// When no port can be had.
pub fn start(embedded: &Embedded, domain: &str) -> Result<Samples, EmbeddedError> {
    let token = CancellationToken::new();
    let serve = |service: &str, instance: &str| serve(service, instance, &token);
    let mut list = Vec::new();
    let mut sample = |service: &str, dialect, host: &str, path: &str, tls| {
        let (host, path) = (format!("{host}.{domain}"), path.to_owned());
        list.push(Sample { service: service.to_owned(), dialect, host, path, tls });
    };

    let rule = format!("traefik.http.routers.whoami.rule=Host(`whoami.{domain}`)");
    for instance in ["whoami-1", "whoami-2"] {
        let registration = Registration::new("whoami", serve("whoami", instance)?);
        embedded.nomad().register(registration.tags(["traefik.enable=true", &rule]));
    }
    sample("whoami", "traefik", "whoami", "/", false);

    let hello = Registration::new("hello", serve("hello", "hello-1")?);
    embedded.nomad().register(hello.tags(["traefik.enable=true"]));
    sample("hello", "traefik", "hello", "/", false);

    let consul = |name: &str, id: &str, tag: String| {
        let definition = Definition::new(name, serve(name, id)?).id(id).tags([tag]).check(Status::Passing);
        embedded.consul().register(definition);
        Ok::<_, EmbeddedError>(())
    };
    consul("docs", "docs-1", format!("urlprefix-docs.{domain}/docs strip=/docs"))?;
    sample("docs", "urlprefix", "docs", "/docs/", false);

    consul("shop", "shop-1", format!("urlprefix-shop.{domain}/ weight=0.75"))?;
    consul("shop-canary", "shop-canary-1", format!("urlprefix-shop.{domain}/ weight=0.25"))?;
    sample("shop", "urlprefix", "shop", "/", false);

    consul("site", "site-1", format!("https://site.{domain}"))?;
    sample("site", "site", "site", "/", true);

    Ok(Samples { list, _running: token.drop_guard() })
}

/// Serves one instance on a port of the kernel's choice, until the token is cancelled.
fn serve(service: &str, instance: &str, token: &CancellationToken) -> Result<SocketAddr, EmbeddedError> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let failed = |source| EmbeddedError::Listen { what: format!("sample service `{service}`"), addr: any, source };
    let bound = std::net::TcpListener::bind(any).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, TcpListener::from_std(listener)?))
    });
    let (addr, listener) = bound.map_err(failed)?;
    let who = format!("service: {service}\ninstance: {instance}\naddress: {addr}\n");
    tokio::spawn(token.clone().run_until_cancelled_owned(accept(listener, who, token.clone())));
    Ok(addr)
}

async fn accept(listener: TcpListener, who: String, token: CancellationToken) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let who = who.clone();
        let service = service_fn(move |request| {
            let answer = answer(&who, &request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let token = token.clone();
        tokio::spawn(async move {
            // How a connection ends is the peer's affair.
            let _ = token.run_until_cancelled_owned(connection).await;
        });
    }
}

/// Who answers, what was asked, and the headers that arrived.
fn answer(who: &str, request: &Request<Incoming>) -> Response<Body> {
    let mut text = format!("{who}request: {} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    let plain = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, plain);
    response
}
