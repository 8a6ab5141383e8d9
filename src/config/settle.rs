//! From the merged options to [`Settled`]: what a single value cannot tell is checked here, and
//! every default that depends on others is filled in.

use super::access_log::access_log;
use super::certificates::certificates;
use super::entry_points::entry_points;
use super::fabio::fabio_auth;
use super::hind::hind;
use super::merge::{Merged, View};
use super::providers::{consul, files, nomad, rest};
use super::*;
use crate::diagnostic::Diagnostic;

/// What the sources were like.
#[derive(Debug)]
pub(super) struct SetUp {
    /// The static file that was read.
    pub file: Option<PathBuf>,
    /// No entry point was named.
    pub default_entry_points: bool,
    /// A file names the Nomad provider in Traefik's form, so that Traefik's defaults hold.
    pub traefiks_nomad: bool,
    /// The same for the Consul catalog.
    pub traefiks_consul: bool,
}

/// Settles everything; problems are added to `diagnostics`, and where one is an error the result
/// is not to be used.
pub(super) fn settle(
    merged: &Merged,
    set_up: SetUp,
    env: &BTreeMap<String, String>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Settled {
    let root = merged.at(&[]);
    let hind = hind(env, set_up.default_entry_points, diagnostics);
    let entry_points = entry_points(merged, &hind.trusted_proxies, diagnostics);
    let lifecycle = LifeCycle {
        request_accept_grace: longest(&entry_points, |ep| ep.lifecycle.request_accept_grace),
        grace: longest(&entry_points, |ep| ep.lifecycle.grace),
    };
    let own = Own { fabio_auth: fabio_auth(merged, diagnostics), ..own(&root) };
    let nomad = nomad(merged, &set_up, &own.domain_suffix, diagnostics);
    let named = !hind.fqdn.is_empty() || !hind.nomad_addr_extra.is_empty();
    if named && nomad.as_ref().is_some_and(|nomad| nomad.common.endpoint.starts_with("unix://")) {
        let message = "the control plane of `FQDN` is not served: Nomad is reached through a Unix socket";
        let origin = merged.at(&["providers", "nomad"]).origin("endpoint.address");
        let help = "name Nomad's `http://` or `https://` address";
        diagnostics.push(Diagnostic::warning("not_served", message).with_origin(origin).with_help(help));
    }
    Settled {
        nomad,
        consul: consul(merged, &set_up, &own.domain_suffix, diagnostics),
        files: files(merged, diagnostics),
        rest: rest(merged, own.api_token_file.as_ref(), diagnostics),
        log: Log {
            level: level(&root.text("log.level")),
            format: match root.text("log.format").as_str() {
                "common" => Some(LogFormat::Common),
                "json" => Some(LogFormat::Json),
                _ => None,
            },
            file: root.path_of("log.filePath"),
            no_color: root.bool("log.noColor"),
        },
        access_log: root.is_on("accessLog").then(|| access_log(merged, env, diagnostics)),
        metrics: root.is_on("metrics.prometheus").then(|| Metrics {
            buckets: root.numbers("metrics.prometheus.buckets"),
            entry_points_labels: root.bool("metrics.prometheus.addEntryPointsLabels"),
            routers_labels: root.bool("metrics.prometheus.addRoutersLabels"),
            services_labels: root.bool("metrics.prometheus.addServicesLabels"),
        }),
        api_insecure: root.bool("api.insecure"),
        servers_transport: servers_transport(&root),
        certificates: certificates(merged, set_up.default_entry_points, &entry_points, env, diagnostics),
        file: set_up.file,
        entry_points,
        lifecycle,
        own,
        hind,
    }
}

fn longest(entry_points: &BTreeMap<Arc<str>, EntryPoint>, time: impl Fn(&EntryPoint) -> Duration) -> Duration {
    entry_points.values().map(time).max().unwrap_or_default()
}

fn level(text: &str) -> tracing::Level {
    match text {
        "TRACE" => tracing::Level::TRACE,
        "DEBUG" => tracing::Level::DEBUG,
        "WARN" => tracing::Level::WARN,
        "ERROR" | "FATAL" | "PANIC" => tracing::Level::ERROR,
        _ => tracing::Level::INFO,
    }
}

fn servers_transport(root: &View<'_>) -> ServersTransport {
    let time = |key: &str| root.time(&format!("serversTransport.forwardingTimeouts.{key}"));
    ServersTransport {
        dial_timeout: time("dialTimeout"),
        response_header_timeout: time("responseHeaderTimeout"),
        idle_conn_timeout: time("idleConnTimeout"),
        max_idle_per_server: root.size("serversTransport.maxIdleConnsPerHost"),
        insecure_skip_verify: root.bool("serversTransport.insecureSkipVerify"),
        root_cas: root.list("serversTransport.rootCAs").into_iter().map(PathBuf::from).collect(),
    }
}

fn own(root: &View<'_>) -> Own {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Own {
        workers: root.number("rustLb.workers").and_then(|n| usize::try_from(n).ok()).unwrap_or_else(cores),
        state_dir: root.path_of("rustLb.stateDir").unwrap_or_default(),
        primary: match root.text("rustLb.primary").as_str() {
            "consul" => Primary::Consul,
            _ => Primary::Nomad,
        },
        domain_suffix: root.text("rustLb.domainSuffix").trim_matches('.').to_ascii_lowercase(),
        security_headers: root.bool("rustLb.securityHeaders"),
        history_size: root.size("rustLb.history.size"),
        linger_for: root.time("rustLb.linger.for"),
        linger_wait: root.time("rustLb.linger.wait"),
        drain_limit: root.time("rustLb.drain.limit"),
        slow_start: root.time("rustLb.slowStart"),
        panic_threshold: root.number("rustLb.panicThreshold").and_then(|n| u8::try_from(n).ok()).unwrap_or_default(),
        reset_hold: root.time("rustLb.resetHold"),
        last_good_max_age: root.duration("rustLb.lastGood.maxAge"),
        fabio_auth: BTreeMap::new(),
        reveal: root.nets("rustLb.errors.reveal"),
        api_token_file: root.path_of("rustLb.api.tokenFile"),
        overlap: root.bool("rustLb.overlap"),
    }
}
