//! The static configuration in the words of each stage: stages do not know `config`'s types where they can do without.

use super::control_plane;
use crate::catalog::Health;
use crate::certs::Store as Certificates;
use crate::config::{self, Bound, CatalogCommon, EntryPoint, Settled};
use crate::declare::{self, Dialect};
use crate::listen::Endpoint;
use crate::model::Provider;
use crate::observe::{access, log, metrics};
use crate::proxy;
use crate::table::{self, BuildOptions, DEFAULT_TRANSPORT, Pem, Transport, TransportTls};
use crate::tags::{self, LegacyMode, LegacyOptions, TagOptions, UNVERIFIED, auth_middleware};
use crate::{http, middleware, upstream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What `listen` binds for an entry point.
pub(super) fn endpoint(entry_point: &EntryPoint) -> Endpoint {
    Endpoint { name: entry_point.name.clone(), host: entry_point.address.host.clone(), port: entry_point.address.port }
}

/// What HinD's Caddy says over TLS where no site fits; said on the built-in entry points.
pub(super) const HIND_NOT_FOUND: &str = "_________________ 🕵️‍♀️ with regret, not found 🕵️‍♀️ _________________";

/// What the proxy knows of an entry point.
pub(crate) fn entry_point(ep: &EntryPoint, bound: &Bound, to_tls: Option<proxy::ToTls>) -> proxy::EntryPoint {
    let redirect = ep.redirect.as_ref().map(|redirect| {
        let bound = bound.get(&redirect.to).and_then(|addresses| addresses.first()).map(|address| address.port());
        let port = bound.or_else(|| redirect.to.trim_start_matches(':').parse().ok());
        middleware::Redirection {
            scheme: redirect.scheme.clone(),
            port: port.map(|port| port.to_string().into()).unwrap_or_default(),
            permanent: redirect.permanent,
            priority: redirect.priority,
            spares_acme: ep.allow_acme_bypass,
        }
    });
    let trust = |said: &config::Trusted| proxy::Trust { everybody: said.insecure, networks: said.trusted_ips.clone() };
    proxy::EntryPoint {
        redirect,
        head: head_rules(&ep.head),
        proxy_protocol: ep.proxy_protocol.as_ref().map(trust),
        keep_alive_max_requests: ep.keep_alive_max_requests,
        keep_alive_max_time: ep.keep_alive_max_time,
        to_tls,
        trust: trust(&ep.forwarded_headers),
        read_timeout: ep.timeouts.read,
        write_timeout: ep.timeouts.write,
        idle_timeout: ep.timeouts.idle,
        max_header_bytes: ep.max_header_bytes,
        max_connections: ep.max_connections,
        max_concurrent_streams: ep.max_concurrent_streams,
        ..proxy::EntryPoint::new(ep.name.clone())
    }
}

fn head_rules(said: &config::HeadRules) -> proxy::HeadRules {
    let allowed = |name: &str| !said.denied_characters.contains(&name);
    proxy::HeadRules {
        target: http::target::TargetOptions {
            sanitize_path: said.sanitize_path,
            encode_query_semicolons: said.encode_query_semicolons,
        },
        encoded_characters: http::target::EncodedCharacters {
            slash: allowed("Slash"),
            back_slash: allowed("BackSlash"),
            null: allowed("NullCharacter"),
            semicolon: allowed("Semicolon"),
            percent: allowed("Percent"),
            question_mark: allowed("QuestionMark"),
            hash: allowed("Hash"),
        },
        underscores: match said.underscores.as_str() {
            "delete" => proxy::Underscores::Delete,
            "reject" => proxy::Underscores::Reject,
            _ => proxy::Underscores::Keep,
        },
        kept_connection: said.connection.iter().map(|name| name.to_ascii_lowercase()).collect(),
        append_forwarded_for: !said.not_append_forwarded_for,
        scheme_headers: said.scheme_headers,
    }
}

/// HinD's redirect from `web` to `websecure`, for the built-in entry points: see [`proxy::ToTls`].
pub(super) fn to_tls(bound: &Bound, certificates: &Certificates) -> Option<proxy::ToTls> {
    let port = bound.get("websecure")?.first()?.port();
    let certificates = certificates.clone();
    Some(proxy::ToTls {
        redirection: middleware::Redirection {
            scheme: "https".into(),
            port: port.to_string().into(),
            permanent: true,
            priority: middleware::REDIRECTION_PRIORITY,
            spares_acme: false,
        },
        certified: Arc::new(move |host| certificates.covers(host, SystemTime::now())),
    })
}

/// How servers are reached that no transport is named for.
pub(super) fn default_transport(settled: &Settled) -> Transport {
    let said = &settled.servers_transport;
    Transport {
        tls: TransportTls {
            insecure_skip_verify: said.insecure_skip_verify,
            root_cas: said.root_cas.iter().map(|path| Pem::File(path.display().to_string().into())).collect(),
            ..TransportTls::default()
        },
        dial_timeout: said.dial_timeout,
        response_header_timeout: said.response_header_timeout,
        idle_timeout: said.idle_conn_timeout,
        max_idle: said.max_idle_per_server,
        ..Transport::plain(DEFAULT_TRANSPORT.into())
    }
}

/// How servers are reached: by `default`, by the transports of their services, or, for Nomad behind the control-plane
/// site, as its provider reaches it.
pub(super) fn transports(
    settled: &Settled,
    servers: upstream::Settings,
    nomad_tls: Option<Arc<rustls::ClientConfig>>,
    load: impl Fn(&Arc<Transport>) -> upstream::ServerTls + Send + Sync + 'static,
) -> upstream::Transports {
    let mut own = BTreeMap::new();
    if let Some((_, tls)) = control_plane::nomad(settled) {
        // Nomad's long polls answer after minutes.
        let nomad = upstream::Settings {
            response_header_timeout: Duration::ZERO,
            tls: nomad_tls.map(Into::into),
            server_name: tls.and_then(|tls| tls.server_name.as_deref()).map(Arc::from),
            ..servers.clone()
        };
        own.insert(control_plane::service_id(), nomad);
    }
    upstream::Transports::new(servers, own, load)
}

/// What workers share besides entry points.
pub(super) fn settings(settled: &Settled, upstream: upstream::Transports, host: Option<String>) -> proxy::Settings {
    proxy::Settings {
        upstream,
        reveal: (!settled.own.reveal.is_empty()).then(|| settled.own.reveal.clone().into()),
        services_allow: services_allow(settled),
        linger_wait: settled.own.linger_wait,
        slow_start: settled.own.slow_start,
        security_headers: settled.own.security_headers,
        hostname: host.and_then(|host| http::HeaderValue::from_str(&host).ok()),
        ..proxy::Settings::default()
    }
}

/// Peers that may use services; `None` means all.
pub(crate) fn services_allow(settled: &Settled) -> Option<Arc<[ipnet::IpNet]>> {
    let allowed = &settled.hind.allowed_remote_ips_services;
    (!allowed.is_empty()).then(|| allowed.clone().into())
}

/// How the tags of each provider are read.
pub(crate) fn tag_options(settled: &Settled) -> BTreeMap<Provider, TagOptions> {
    let mut options = BTreeMap::new();
    if let Some(nomad) = &settled.nomad {
        options.insert(Provider::Nomad, of_provider(settled, &nomad.common, BTreeSet::new()));
    }
    if let Some(consul) = &settled.consul {
        let strict = consul.strict_checks.iter().filter_map(|state| Health::named(state)).collect();
        options.insert(Provider::ConsulCatalog, of_provider(settled, &consul.common, strict));
    }
    options
}

fn of_provider(settled: &Settled, common: &CatalogCommon, strict_checks: BTreeSet<Health>) -> TagOptions {
    let dialects = common.legacy_tags.dialects.iter().map(|dialect| match dialect {
        config::Dialect::Traefik => Dialect::Traefik,
        config::Dialect::Urlprefix => Dialect::Urlprefix,
        config::Dialect::Site => Dialect::Site,
    });
    let ports =
        settled.entry_points.values().filter(|ep| ep.address.port != 0 && &*ep.name != config::ADMIN_ENTRY_POINT);
    TagOptions {
        exposed_by_default: common.exposed_by_default,
        default_rule: common.default_rule.clone(),
        prefix: common.prefix.as_str().into(),
        constraints: common.constraints.clone(),
        strict_checks,
        dialects: dialects.collect(),
        legacy: LegacyOptions {
            mode: match common.legacy_tags.mode {
                config::LegacyMode::Fallback => LegacyMode::Fallback,
                config::LegacyMode::Merge => LegacyMode::Merge,
                config::LegacyMode::Off => LegacyMode::Off,
            },
            prefix: common.legacy_tags.prefix.as_str().into(),
            matcher: common.legacy_tags.matcher.parse().unwrap_or_default(),
            glob_disabled: common.legacy_tags.glob_disabled,
            service_status: common.legacy_tags.service_status.iter().filter_map(|s| Health::named(s)).collect(),
            all_checks: common.legacy_tags.all_checks,
            auth_schemes: settled.own.fabio_auth.keys().map(|name| name.as_str().into()).collect(),
            ports: ports.map(|ep| (ep.address.port, ep.name.clone())).collect(),
            redirect_port: redirect_port(settled),
            web: named_or_first(settled, "web", false),
            websecure: named_or_first(settled, "websecure", true),
            ..LegacyOptions::default()
        },
    }
}

/// The entry point that ports 80 and 443 of Fabio's tags mean where nothing listens on them: the one of the usual name,
/// else the first one that is (or is not) for TLS.
fn named_or_first(settled: &Settled, name: &str, tls: bool) -> Arc<str> {
    let mut all = settled.entry_points.values().filter(|ep| &*ep.name != config::ADMIN_ENTRY_POINT);
    match settled.entry_points.contains_key(name) {
        true => name.into(),
        false => all.find(|ep| ep.tls == tls).map_or_else(|| name.into(), |ep| ep.name.clone()),
    }
}

/// Port in a redirect to HTTPS; empty means 443.
fn redirect_port(settled: &Settled) -> Arc<str> {
    match settled.entry_points.get("websecure").map(|ep| ep.address.port) {
        None | Some(0 | 443) => Arc::default(),
        Some(port) => port.to_string().into(),
    }
}

/// What `table::build` knows of the configuration.
pub(crate) fn build_options(settled: &Settled) -> BuildOptions {
    let entry_points = settled.entry_points.values().filter(|ep| &*ep.name != config::ADMIN_ENTRY_POINT);
    BuildOptions {
        entry_points: entry_points
            .map(|ep| table::EntryPoint {
                name: ep.name.clone(),
                tls: ep.tls,
                as_default: ep.as_default,
                middlewares: ep.middlewares.clone(),
                tls_options: ep.tls_options.clone(),
            })
            .collect(),
        internal: internal(settled),
        primary: match settled.own.primary {
            config::Primary::Nomad => Provider::Nomad,
            config::Primary::Consul => Provider::ConsulCatalog,
        },
    }
}

/// What is built in: the control-plane site, the schemes of Fabio's `auth=`, and the transport of its `tlsskipverify=true`.
fn internal(settled: &Settled) -> declare::Dynamic {
    let mut dynamic = control_plane::control_plane(settled, &redirect_port(settled));
    for (name, scheme) in &settled.own.fabio_auth {
        let kind = declare::MiddlewareKind::BasicAuth {
            users: declare::Hashes::default(),
            users_file: scheme.file.display().to_string().into(),
            realm: scheme.realm.as_str().into(),
            remove_header: false,
            header_field: Arc::default(),
            plain: true,
        };
        let source = declare::Source::default();
        let middleware = Arc::new(declare::Middleware { kind, source });
        dynamic.http.middlewares.insert(auth_middleware(name), middleware);
    }
    dynamic.http.servers_transports.insert(UNVERIFIED.into(), Arc::new(tags::unverified()));
    dynamic
}

/// How the process logs.
pub(super) fn log_options(log: &config::Log) -> log::Options {
    log::Options {
        level: log.level,
        format: log.format.map(log_format),
        file: log.file.clone(),
        no_color: log.no_color,
    }
}

fn log_format(format: config::LogFormat) -> log::Format {
    match format {
        config::LogFormat::Common => log::Format::Common,
        config::LogFormat::Json => log::Format::Json,
    }
}

/// What the access log writes.
pub(super) fn access_options(log: &config::AccessLog) -> access::Options {
    let mode = |mode: config::FieldMode| match mode {
        config::FieldMode::Keep => access::Mode::Keep,
        config::FieldMode::Drop => access::Mode::Drop,
        config::FieldMode::Redact => access::Mode::Redact,
    };
    let mut fields = access::Fields::all(log.fields_kept);
    for (name, keep) in &log.fields {
        if !fields.set(name, *keep) {
            tracing::warn!(field = %name, "`accessLog.fields.names`: lines have no such field");
        }
    }
    fields.query = log.query;
    fields.headers = access::Headers {
        default: mode(log.headers),
        names: log.header_names.iter().map(|(name, said)| (name.clone(), mode(*said))).collect(),
    };
    let zone = access::Zone::named(log.time_zone.as_deref()).unwrap_or_else(|problem| {
        tracing::warn!("{problem}; the access log's times are UTC");
        access::Zone::utc()
    });
    access::Options {
        format: match log.format {
            config::AccessFormat::Common => access::Format::Common,
            config::AccessFormat::GenericClf => access::Format::Generic,
            config::AccessFormat::Json => access::Format::Json,
        },
        file: log.file.clone(),
        buffering: log.buffering,
        internals: log.internals,
        filters: access::Filters {
            statuses: log.filters.statuses.clone(),
            retried: log.filters.retried,
            min_duration: log.filters.min_duration,
        },
        fields,
        sample: log.sample,
        zone,
    }
}

/// Which metrics are counted; none of the labels when the exposition is off.
pub(super) fn metrics_options(metrics: Option<&config::Metrics>) -> metrics::Options {
    match metrics {
        Some(metrics) => metrics::Options {
            buckets: metrics.buckets.clone(),
            entry_points_labels: metrics.entry_points_labels,
            routers_labels: metrics.routers_labels,
            services_labels: metrics.services_labels,
        },
        None => metrics::Options {
            entry_points_labels: false,
            routers_labels: false,
            services_labels: false,
            ..metrics::Options::default()
        },
    }
}

/// Sections of the configuration that differ, by the key to look under.
pub(super) fn differences(runs: &Settled, said: &Settled) -> Vec<&'static str> {
    let sections = [
        ("entryPoints", runs.entry_points == said.entry_points),
        ("providers.nomad", runs.nomad == said.nomad),
        ("providers.consulCatalog", runs.consul == said.consul),
        ("providers.file", runs.files == said.files),
        ("providers.rest", runs.rest == said.rest),
        ("log", runs.log == said.log),
        ("accessLog", runs.access_log == said.access_log),
        ("metrics", runs.metrics == said.metrics),
        ("api", runs.api_insecure == said.api_insecure),
        ("serversTransport", runs.servers_transport == said.servers_transport),
        ("certificatesResolvers, rustLb.certificates", runs.certificates == said.certificates),
        ("rustLb", runs.own == said.own),
        ("HinD's variables", runs.hind == said.hind),
    ];
    sections.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}
