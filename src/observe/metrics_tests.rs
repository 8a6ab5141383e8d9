use super::*;
use crate::http::{Cause, Failure, Phase, Protocol, Reason, TlsInfo};
use crate::model::Map;
use crate::observe::memo::Memo;
use crate::observe::record::{RequestRecord, Sink};
use crate::observe::shard::Bounds;
use std::collections::BTreeSet;
use std::rc::Rc;

/// One sample of a text: name, labels sorted, value.
type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// Reads the exposition format back, strictly; fails on a series that comes twice.
fn parse(text: &[u8]) -> (BTreeMap<String, String>, Samples) {
    let text = std::str::from_utf8(text).unwrap();
    assert!(text.ends_with('\n'));
    let (mut types, mut samples) = (BTreeMap::new(), Samples::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (series, ""),
        };
        let labels = labels.split("\",").filter(|l| !l.is_empty()).map(|label| {
            let (key, value) = label.split_once("=\"").unwrap();
            (key.to_owned(), value.trim_end_matches('"').to_owned())
        });
        let key = (name.to_owned(), labels.collect());
        assert!(samples.insert(key, value.parse().unwrap()).is_none(), "{line}");
    }
    (types, samples)
}

fn get(samples: &Samples, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    samples.get(&(name.to_owned(), labels)).copied()
}

struct Request {
    entry_point: Arc<str>,
    router: Option<Arc<str>>,
    service: Option<Arc<str>>,
    method: &'static str,
    status: u16,
    reason: Option<Reason>,
    failure: Option<Failure>,
    tls: Option<TlsInfo>,
    millis: u64,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            entry_point: "web".into(),
            router: Some("web@nomad".into()),
            service: Some("web@nomad".into()),
            method: "GET",
            status: 200,
            reason: None,
            failure: None,
            tls: None,
            millis: 200,
        }
    }
}

fn finish(observer: &Observer, r: &Request) {
    with_record(r, &r.entry_point, |record| observer.finished(record));
}

fn with_record(r: &Request, entry_point: &Arc<str>, take: impl FnOnce(&RequestRecord<'_>)) {
    take(&RequestRecord {
        entry_point,
        router: r.router.as_ref(),
        service: r.service.as_ref(),
        server: None,
        method: r.method,
        host: "a",
        target: "/",
        protocol: Protocol::Http11,
        tls: r.tls,
        client: ([127, 0, 0, 1], 1).into(),
        forwarded_for: None,
        status: r.status,
        origin_status: r.status,
        reason: r.reason,
        failure: r.failure,
        request_bytes: 3,
        response_bytes: 5,
        started: SystemTime::UNIX_EPOCH,
        duration: Duration::from_millis(r.millis),
        origin_duration: Duration::ZERO,
        retries: 1,
        heads: None,
    });
}

fn all() -> Options {
    Options { routers_labels: true, ..Options::default() }
}

/// Runs `test` with two workers that answer scrapes.
fn with_workers<F: Future<Output = ()>>(test: impl FnOnce(Metrics, [Rc<Observer>; 2]) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let metrics = Metrics::new(all());
        let workers = [(); 2].map(|()| Rc::new(metrics.observer(None)));
        for worker in &workers {
            tokio::task::spawn_local(worker.clone().serve());
        }
        test(metrics, workers).await;
    });
}

#[test]
fn sums_the_workers_under_traefiks_names_labels_and_buckets() {
    with_workers(|metrics, workers| async move {
        for worker in &workers {
            finish(worker, &Request::default());
            finish(worker, &Request { millis: 9_000, tls: Some(TlsInfo::new(0x0304, 0x1301)), ..Request::default() });
            finish(
                worker,
                &Request {
                    method: "BREW",
                    router: None,
                    service: None,
                    status: 404,
                    reason: Some(Reason::NoRoute),
                    ..Request::default()
                },
            );
            worker.connection(&"web".into(), "TCP", 2);
            worker.connection(&"web".into(), "TCP", -1);
            worker.connection(&"websecure".into(), "TCP", 0);
        }
        let facts = Facts {
            servers: vec![ServerFact { service: "web@nomad".into(), url: "http://a".into(), up: true }],
            certificates: vec![
                CertificateFact {
                    common_name: "a".into(),
                    sans: "a,b".into(),
                    serial: "12".into(),
                    not_after: UNIX_EPOCH + Duration::from_secs(7),
                };
                2
            ],
            ..Facts::default()
        };
        metrics.table_changed(UNIX_EPOCH + Duration::from_secs(50), 3, 1, 0);
        let (types, samples) = parse(&metrics.text(&facts, Instant::now(), UNIX_EPOCH).await);

        let labels = [("code", "200"), ("method", "GET"), ("protocol", "http")];
        let on = |more: &[(&'static str, &'static str)]| [&labels[..], more].concat();
        let (ep, router) = (on(&[("entrypoint", "web")]), on(&[("router", "web@nomad"), ("service", "web@nomad")]));
        assert_eq!(get(&samples, "traefik_entrypoint_requests_total", &ep), Some(4.0));
        assert_eq!(get(&samples, "traefik_router_requests_total", &router), Some(4.0));
        let service = on(&[("service", "web@nomad")]);
        assert_eq!(get(&samples, "traefik_service_requests_bytes_total", &service), Some(12.0));
        assert_eq!(get(&samples, "traefik_service_responses_bytes_total", &service), Some(20.0));
        assert_eq!(get(&samples, "traefik_service_retries_total", &[("service", "web@nomad")]), Some(4.0));
        for (bound, count) in [("0.1", 0.0), ("0.3", 2.0), ("1.2", 2.0), ("5", 2.0), ("+Inf", 4.0)] {
            let bucket = [&service[..], &[("le", bound)]].concat();
            assert_eq!(
                get(&samples, "traefik_service_request_duration_seconds_bucket", &bucket),
                Some(count),
                "{bound}"
            );
        }
        assert_eq!(get(&samples, "traefik_service_request_duration_seconds_sum", &service), Some(18.4));
        let extension = [("code", "404"), ("method", "EXTENSION_METHOD"), ("protocol", "http"), ("entrypoint", "web")];
        assert_eq!(get(&samples, "traefik_entrypoint_requests_total", &extension), Some(2.0));
        assert_eq!(get(&samples, "rust_lb_proxy_answers_total", &[("reason", "no_route")]), Some(2.0));
        let tls = [("service", "web@nomad"), ("tls_cipher", "TLS_AES_128_GCM_SHA256"), ("tls_version", "1.3")];
        assert_eq!(get(&samples, "traefik_service_requests_tls_total", &tls), Some(2.0));
        let open = |ep| get(&samples, "traefik_open_connections", &[("entrypoint", ep), ("protocol", "TCP")]);
        assert_eq!((open("web"), open("websecure")), (Some(2.0), Some(0.0)));
        assert_eq!(get(&samples, "rust_lb_table_changes_total", &[("kind", "added")]), Some(3.0));
        assert_eq!(get(&samples, "traefik_config_last_reload_success", &[]), Some(50.0));
        assert!(get(&samples, "process_resident_memory_bytes", &[]).unwrap() > 1e5);

        // Everything that Traefik was recorded with is there, with its type and labels.
        let recorded: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/oracle/traefik_admin.json")).unwrap();
        for (name, family) in recorded["metrics"].as_object().unwrap() {
            assert_eq!(types.get(name).map(String::as_str), family["type"].as_str(), "{name}");
            let labels: BTreeSet<&str> =
                family["labels"].as_array().unwrap().iter().filter_map(|l| l.as_str()).collect();
            let sample = if family["type"] == "histogram" { format!("{name}_count") } else { name.clone() };
            let ours = samples.keys().find(|(n, _)| *n == sample).map(|(_, l)| l.keys().map(String::as_str).collect());
            assert_eq!(ours, Some(labels), "{name}");
        }
    });
}

#[test]
fn a_worker_that_does_not_answer_counts_with_its_last_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let metrics = Metrics::new(all());
        let worker = Rc::new(metrics.observer(None));
        let task = tokio::task::spawn_local(worker.clone().serve());
        finish(&worker, &Request::default());
        let before = parse(&metrics.text(&Facts::default(), Instant::now(), UNIX_EPOCH).await).1;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        let after = parse(&metrics.text(&Facts::default(), Instant::now(), UNIX_EPOCH).await).1;
        let requests = |samples: &Samples| {
            samples.iter().find(|((n, _), _)| n == "traefik_service_requests_total").map(|(_, v)| *v)
        };
        assert_eq!((requests(&before), requests(&after)), (Some(1.0), Some(1.0)));
    });
}

#[test]
fn series_of_what_has_gone_leave_after_the_grace() {
    with_workers(|metrics, workers| async move {
        finish(&workers[0], &Request::default());
        let other = Request { router: Some("b@nomad".into()), service: Some("b@nomad".into()), ..Request::default() };
        finish(&workers[0], &other);
        let start = Instant::now();
        let live = Live {
            routers: Arc::new(Map::from([("b@nomad".into(), Arc::new(()))])),
            services: Arc::new(Map::from([("b@nomad".into(), Arc::new(()))])),
        };
        metrics.retain(live, start);
        let services = async |now| {
            let (_, samples) = parse(&metrics.text(&Facts::default(), now, UNIX_EPOCH).await);
            let of = |((name, labels), _): (&(String, BTreeMap<String, String>), &f64)| {
                (name == "traefik_service_requests_total").then(|| labels["service"].clone())
            };
            samples.iter().filter_map(of).collect::<Vec<_>>()
        };
        assert_eq!(services(start).await, ["b@nomad", "web@nomad"]);
        assert_eq!(services(start + GRACE).await, ["b@nomad"]);
        // It comes back under a slot of its own when it is used again.
        finish(&workers[0], &Request::default());
        finish(&workers[0], &other);
        assert_eq!(services(start + GRACE).await, ["b@nomad", "web@nomad"]);
    });
}

#[test]
fn labels_are_escaped() {
    with_workers(|metrics, workers| async move {
        let odd = Request { service: Some("a\"\n\\b@nomad".into()), router: None, ..Request::default() };
        finish(&workers[0], &odd);
        let text = metrics.text(&Facts::default(), Instant::now(), UNIX_EPOCH).await;
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#"service="a\"\n\\b@nomad""#), "{text}");
    });
}

/// An observer is made by the runtime and then moved to the worker's thread.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Observer>();
};

#[test]
fn failures_are_counted_by_service_and_cause() {
    with_workers(|metrics, workers| async move {
        let failed = |cause: Cause| Request { failure: Some(cause.into()), ..Request::default() };
        for worker in &workers {
            finish(worker, &failed(Cause::Refused));
            finish(worker, &failed(Cause::TimedOut(Phase::Head)));
            finish(worker, &Request { service: None, router: None, ..failed(Cause::BadRequest) });
        }
        let (_, samples) = parse(&metrics.text(&Facts::default(), Instant::now(), UNIX_EPOCH).await);
        let of = |service, cause| get(&samples, "rust_lb_failures_total", &[("service", service), ("cause", cause)]);
        assert_eq!(of("web@nomad", "refused"), Some(2.0));
        assert_eq!(of("web@nomad", "timed out: head"), Some(2.0));
        assert_eq!(of("", "bad request"), Some(2.0));
    });
}

#[test]
fn counts_are_found_again_whatever_was_remembered_of_them() {
    let options = all();
    let (mut shard, mut memo) = (Shard::default(), Memo::default());
    let bounds = Bounds::new(&options.buckets);
    let entry_point: Arc<str> = "web".into();
    let names: Vec<Arc<str>> = (0..1_000).map(|n| format!("r{n}@nomad").into()).collect();
    let live = |names: &[Arc<str>]| {
        let known: Map<Arc<str>, ()> = names.iter().map(|name| (name.clone(), Arc::new(()))).collect();
        Live { routers: Arc::new(known.clone()), services: Arc::new(known) }
    };
    let start = Instant::now();
    let count = |shard: &mut Shard, memo: &mut Memo, name: &Arc<str>, status| {
        let request = Request { router: Some(name.clone()), service: Some(name.clone()), status, ..Request::default() };
        with_record(&request, &entry_point, |record| shard.finished(record, options.wanted(), &bounds, memo));
    };
    // More than are remembered, twice, so that they push each other out.
    for status in [200, 404, 200] {
        names.iter().for_each(|name| count(&mut shard, &mut memo, name, status));
    }
    // The first half goes: what is left has other places.
    shard.sweep(&live(&names[500..]), start, &mut memo);
    shard.sweep(&live(&names[500..]), start + GRACE, &mut memo);
    for status in [200, 404] {
        names.iter().for_each(|name| count(&mut shard, &mut memo, name, status));
        // The same name from another table, at another address.
        names.iter().for_each(|name| count(&mut shard, &mut memo, &Arc::from(&**name), status));
    }
    for scopes in [&shard.routers, &shard.services] {
        assert_eq!(scopes.iter().count(), names.len());
        for scope in scopes.iter() {
            let stayed = names[500..].contains(&scope.name);
            for (kind, counts) in &scope.series {
                let before = if !stayed {
                    0
                } else if kind.code == 200 {
                    2
                } else {
                    1
                };
                assert_eq!(counts.requests, before + 2, "{} {kind:?}", scope.name);
                assert_eq!(counts.buckets.iter().sum::<u64>(), before + 2);
            }
        }
    }
    let all: u64 = shard.entry_points.iter().flat_map(|scope| &scope.series).map(|(_, counts)| counts.requests).sum();
    assert_eq!(all, 7_000);
}
