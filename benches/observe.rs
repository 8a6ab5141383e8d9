//! What a finished request costs in counts and in its line of the access log, by the observer that
//! workers use: `cargo bench --bench observe`.

use divan::Bencher;
use rust_lb::http::{Protocol, TlsInfo};
use rust_lb::observe::access::{self, Format};
use rust_lb::observe::metrics::{Metrics, Options};
use rust_lb::observe::record::{RequestRecord, Sink};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

fn main() {
    // `cargo test` also starts benches; this one measures only when asked to.
    if std::env::args().any(|a| a == "--bench") {
        divan::main();
    }
}

/// Requests for so many routers in turn, counted by entry point, router and service.
fn requests(bencher: Bencher<'_, '_>, routers: usize, log: Option<Format>) {
    let writer = log.map(|format| {
        let options = access::Options { file: Some("/dev/null".into()), ..access::Options::new(format) };
        access::start(options).expect("the access log")
    });
    let metrics = Metrics::new(Options { routers_labels: true, ..Options::default() });
    let observer = metrics.observer(writer.as_ref().map(access::AccessLogWriter::handle));
    let entry_point: Arc<str> = "websecure".into();
    let names: Vec<(Arc<str>, Arc<str>)> = (0..routers)
        .map(|n| (format!("service-{n}-web@consulcatalog").into(), format!("http://10.1.2.3:{}", 20_000 + n).into()))
        .collect();
    let started = SystemTime::now();
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        let (name, server) = &names[n % routers];
        observer.finished(&RequestRecord {
            entry_point: &entry_point,
            router: Some(name),
            service: Some(name),
            server: Some(server),
            method: if n & 1 == 0 { "GET" } else { "POST" },
            host: "app.example.org",
            target: "/api/v1/things/12345?page=2&sort=name",
            protocol: Protocol::Http11,
            tls: Some(TlsInfo::new(0x0304, 0x1301)),
            client: ([10, 20, 30, 40], 51_234).into(),
            forwarded_for: None,
            status: if n.is_multiple_of(3) { 304 } else { 200 },
            origin_status: 200,
            reason: None,
            failure: None,
            request_bytes: 120,
            response_bytes: 5_321,
            started,
            duration: Duration::from_nanos(683_636 + n as u64),
            origin_duration: Duration::from_nanos(559_069),
            retries: 0,
            heads: None,
        });
    });
}

#[divan::bench(args = [1, 50, 1_000])]
fn counted(bencher: Bencher<'_, '_>, routers: usize) {
    requests(bencher, routers, None);
}

#[divan::bench(args = [1, 50])]
fn counted_and_logged_as_json(bencher: Bencher<'_, '_>, routers: usize) {
    requests(bencher, routers, Some(Format::Json));
}
