//! Certificates in the static configuration: where they are kept, who orders them
//! (<https://doc.traefik.io/traefik/reference/install-configuration/tls/certificate-resolvers/acme/>), and what HinD's
//! variables say of it (`CERTS_SELF_SIGNED`, `ON_DEMAND_TLS_ASK`, `ACME_DNS`).
//!
//! What always holds: in the HinD set-up there is a resolver `default`, unless resolvers are named or certificates are
//! signed by the house itself; a resolver that cannot work (no challenge, an entry point that is not there) is an error.

use super::merge::{Merged, View};
use super::*;
use crate::diagnostic::{Diagnostic, Origin};

/// Name of the resolver of the HinD set-up.
pub const DEFAULT_RESOLVER: &str = "default";
/// Let's Encrypt.
const CA_SERVER: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// HinD's acme-dns account, in the certificate directory.
const ACME_DNS_FILE: &str = "acme-dns.json";
/// Beginnings of the variables that DNS providers read, by lego's names.
const DNS_VARIABLES: &[&str] = &["ACME_DNS_", "RFC2136_", "CF_", "CLOUDFLARE_", "EXEC_", "HTTPREQ_"];

/// Certificates.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificates {
    /// `rustLb.certificates.directory` (/pv/CERTS).
    pub directory: PathBuf,
    /// `CERTS_SELF_SIGNED`, `rustLb.certificates.selfSigned`: signed by Caddy's local authority; nothing is ordered.
    pub self_signed: bool,
    /// Where those that were ordered are kept.
    pub store: CertificateStore,
    /// At the first handshake; `None` when off.
    pub on_demand: Option<OnDemand>,
    /// Resolvers by name.
    pub resolvers: BTreeMap<String, CertificatesResolver>,
    /// The one that orders for hosts of `https://` tags and of `FQDN`.
    pub automatic: Option<String>,
    /// `ACME_DNS`: domains that have a wildcard certificate each.
    pub wildcards: Vec<String>,
    /// Time before the end of a certificate from which it is told.
    pub warn_before: Duration,
    /// `rustLb.notify.url`.
    pub notify: Option<Secret>,
}

/// `rustLb.certificates.store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateStore {
    /// The certificate directory.
    Directory,
    /// Consul's key-value store, below this prefix.
    Consul(String),
}

/// `rustLb.certificates.onDemand`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnDemand {
    /// `ON_DEMAND_TLS_ASK`: URL that must answer 200 to `?domain=<host>`.
    pub ask: Option<String>,
    /// Orders an hour for a registered domain (5).
    pub per_domain: u64,
    /// Orders an hour in all (20).
    pub per_process: u64,
    /// Orders a day for the hosts of one service (10).
    pub per_service: u64,
    /// How long a refusal is remembered (10 min).
    pub remember: Duration,
}

/// `certificatesResolvers.*.acme`.
#[derive(Debug, Clone, PartialEq)]
pub struct CertificatesResolver {
    /// URL of the directory.
    pub ca_server: String,
    /// Whom the authority may write to; empty for nobody, as in HinD.
    pub email: String,
    /// External account: key id and key.
    pub eab: Option<(String, Secret)>,
    /// `EC256`, `RSA4096`, …
    pub key_type: String,
    /// PEM files of who signs the authority's own server.
    pub ca_certificates: Vec<PathBuf>,
    /// The system's roots count besides.
    pub ca_system_pool: bool,
    /// Name to verify instead of the host.
    pub ca_server_name: Option<String>,
    /// Common name of the root to prefer.
    pub preferred_chain: Option<String>,
    /// Profile to order by.
    pub profile: Option<String>,
    /// Traefik's `acme.json`, to be read.
    pub storage: Option<PathBuf>,
    /// Limit of a request to the authority.
    pub client_timeout: Duration,
    /// Limit of waiting for the certificate.
    pub certificate_timeout: Duration,
    /// HTTP-01, and how long to wait before it is looked at.
    pub http: Option<Duration>,
    /// TLS-ALPN-01, likewise.
    pub tls: Option<Duration>,
    /// DNS-01.
    pub dns: Option<DnsChallenge>,
    /// Where it was said.
    pub origin: Origin,
}

/// `dnsChallenge`.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsChallenge {
    /// Provider, by lego's name.
    pub provider: String,
    /// Name servers to ask; empty: the system's.
    pub resolvers: Vec<String>,
    /// Do not look whether the record is seen.
    pub disable_checks: bool,
    /// Before the first look.
    pub delay: Duration,
    /// Ask all name servers of `resolvers`, too.
    pub require_all: bool,
    /// Do not ask the zone's own name servers.
    pub skip_authoritative: bool,
    /// The provider's variables, as the environment has them.
    pub variables: BTreeMap<String, Secret>,
}

/// Reads all of it.
pub(super) fn certificates(
    merged: &Merged,
    default_entry_points: bool,
    entry_points: &BTreeMap<Arc<str>, EntryPoint>,
    env: &BTreeMap<String, String>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Certificates {
    let view = merged.at(&["rustLb", "certificates"]);
    let directory = view.path_of("directory").unwrap_or_default();
    let variable = |name: &str| env.get(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let self_signed = variable("CERTS_SELF_SIGNED").is_some() || view.bool("selfSigned");
    let wildcards = wildcards(variable("ACME_DNS").as_deref(), diagnostics);
    let mut resolvers = BTreeMap::new();
    for name in merged.names(&["certificatesResolvers"]) {
        if merged.is_on(&["certificatesResolvers", &name, "acme"]) {
            let resolver = resolver(merged, &name, env, entry_points, diagnostics);
            resolvers.insert(name, resolver);
        }
    }
    let said = view.text("resolver");
    let mut automatic = match &*said {
        "none" => None,
        "" if default_entry_points && resolvers.is_empty() => {
            resolvers.insert(DEFAULT_RESOLVER.to_owned(), of_hind(&wildcards, &directory));
            Some(DEFAULT_RESOLVER.to_owned())
        }
        "" => Some(DEFAULT_RESOLVER.to_owned()).filter(|name| default_entry_points && resolvers.contains_key(name)),
        name if resolvers.contains_key(name) => Some(name.to_owned()),
        name => {
            let message =
                format!("`rustLb.certificates.resolver` names `{name}`, which `certificatesResolvers` has not");
            diagnostics.push(Diagnostic::error("unknown_resolver", message).with_origin(view.origin("resolver")));
            None
        }
    };
    if self_signed {
        automatic = None;
        resolvers.clear();
    }
    if !wildcards.is_empty() && automatic.is_none() {
        let why = if self_signed { "certificates are self-signed" } else { "no resolver orders for hosts of itself" };
        let message = format!("`ACME_DNS` does nothing: {why}");
        let origin = Origin { file: Some("$ACME_DNS".into()), ..Origin::default() };
        diagnostics.push(Diagnostic::warning("not_served", message).with_origin(origin));
    }
    for ep in entry_points.values().filter(|ep| !ep.cert_resolver.is_empty() && !self_signed) {
        if !resolvers.contains_key(&*ep.cert_resolver) {
            let message = format!(
                "entry point `{}` names the certificate resolver `{}`, which `certificatesResolvers` has not: nothing is \
                 ordered for it",
                ep.name, ep.cert_resolver
            );
            let origin = merged.at(&["entryPoints", &ep.name]).origin("http.tls.certResolver");
            diagnostics.push(Diagnostic::warning("unknown_resolver", message).with_origin(origin));
        }
    }
    Certificates {
        directory,
        self_signed,
        store: store(merged, &view, self_signed, diagnostics),
        on_demand: on_demand(&view, variable("ON_DEMAND_TLS_ASK"), diagnostics).filter(|_| !self_signed),
        resolvers,
        automatic,
        wildcards,
        warn_before: view.time("warnBefore"),
        notify: merged.at(&["rustLb", "notify"]).secret("url"),
    }
}

/// Consul keeps them only where its catalog is read: that says where it is.
fn store(merged: &Merged, view: &View<'_>, self_signed: bool, diagnostics: &mut Vec<Diagnostic>) -> CertificateStore {
    if view.text("store") != "consul" {
        return CertificateStore::Directory;
    }
    let origin = view.origin("store");
    if self_signed {
        let message = "`rustLb.certificates.store` does nothing: certificates are self-signed";
        diagnostics.push(Diagnostic::warning("not_served", message).with_origin(origin));
        return CertificateStore::Directory;
    }
    if !merged.is_on(&["providers", "consulCatalog"]) {
        let message = "`rustLb.certificates.store` is `consul`, but `providers.consulCatalog` is off";
        let help = "switch it on: its endpoint says where Consul is, with which token and TLS";
        diagnostics.push(Diagnostic::error("no_consul", message).with_origin(origin).with_help(help));
    }
    let said = view.text("consul.prefix");
    let prefix = said.trim_end_matches('/');
    let plain = |part: &str| {
        let plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_@.-".contains(&b));
        plain && !matches!(part, "" | "." | "..")
    };
    let fits = prefix.is_empty() || prefix.split('/').count() <= 8 && prefix.split('/').all(plain);
    if !fits {
        let message = format!(
            "expected at most eight words of letters, digits and `_@.-` with `/` between them, got `{}`",
            value::shown(&said)
        );
        diagnostics.push(Diagnostic::error("bad_value", message).with_origin(view.origin("consul.prefix")));
    }
    CertificateStore::Consul(prefix.to_owned())
}

fn on_demand(view: &View<'_>, variable: Option<String>, diagnostics: &mut Vec<Diagnostic>) -> Option<OnDemand> {
    let said = Some(view.text("onDemand.ask")).filter(|ask| !ask.is_empty());
    let origin = match &said {
        Some(_) => view.origin("onDemand.ask"),
        None => Origin { file: Some("$ON_DEMAND_TLS_ASK".into()), ..Origin::default() },
    };
    let ask = said.or(variable);
    if ask.is_none() && !view.is_on("onDemand") {
        return None;
    }
    if let Some(ask) = &ask
        && !(ask.starts_with("http://") || ask.starts_with("https://"))
    {
        let message =
            format!("expected the URL of who is asked for certificates on demand, got `{}`", value::shown(ask));
        diagnostics.push(Diagnostic::error("bad_value", message).with_origin(origin));
    }
    let count = |key: &str| view.number(&format!("onDemand.{key}")).unwrap_or_default();
    Some(OnDemand {
        ask,
        per_domain: count("perDomain"),
        per_process: count("perProcess"),
        per_service: count("perService"),
        remember: view.time("onDemand.remember"),
    })
}

/// The domains of `ACME_DNS`: separated by commas, with or without `*.`.
fn wildcards(text: Option<&str>, diagnostics: &mut Vec<Diagnostic>) -> Vec<String> {
    let mut domains = Vec::new();
    for word in text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let domain = word.strip_prefix("*.").unwrap_or(word).trim_end_matches('.').to_ascii_lowercase();
        let good = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if domain.contains('.') && domain.split('.').all(good) {
            domains.push(domain);
        } else {
            let message = format!("`ACME_DNS`: expected domains separated by commas, got `{}`", value::shown(word));
            let origin = Origin { file: Some("$ACME_DNS".into()), ..Origin::default() };
            let help = "for example `example.com`, for which a certificate of `*.example.com` is ordered";
            diagnostics.push(Diagnostic::error("bad_value", message).with_origin(origin).with_help(help));
        }
    }
    domains
}

/// The resolver of the HinD set-up: Let's Encrypt, nobody's address, and with `ACME_DNS` the DNS challenge alone.
fn of_hind(wildcards: &[String], directory: &Path) -> CertificatesResolver {
    let by_dns = !wildcards.is_empty();
    let file = directory.join(ACME_DNS_FILE).display().to_string();
    CertificatesResolver {
        ca_server: CA_SERVER.to_owned(),
        email: String::new(),
        eab: None,
        key_type: "EC256".to_owned(),
        ca_certificates: Vec::new(),
        ca_system_pool: false,
        ca_server_name: None,
        preferred_chain: None,
        profile: None,
        storage: None,
        client_timeout: Duration::from_secs(30),
        certificate_timeout: Duration::from_secs(30),
        http: (!by_dns).then_some(Duration::ZERO),
        tls: (!by_dns).then_some(Duration::ZERO),
        dns: by_dns.then(|| DnsChallenge {
            provider: "acme-dns".to_owned(),
            resolvers: Vec::new(),
            disable_checks: false,
            delay: Duration::ZERO,
            require_all: false,
            skip_authoritative: false,
            variables: BTreeMap::from([("ACME_DNS_STORAGE_PATH".to_owned(), Secret::new(file))]),
        }),
        origin: Origin { file: Some("$ACME_DNS".into()), ..Origin::default() },
    }
}

fn resolver(
    merged: &Merged,
    name: &str,
    env: &BTreeMap<String, String>,
    entry_points: &BTreeMap<Arc<str>, EntryPoint>,
    diagnostics: &mut Vec<Diagnostic>,
) -> CertificatesResolver {
    let view = merged.at(&["certificatesResolvers", name, "acme"]);
    let origin = merged.origin(&["certificatesResolvers", name, "acme"]);
    let said = |key: &str| Some(view.text(key)).filter(|text| !text.is_empty());
    let mut refuse = |key: &str, message: String| {
        let message = format!("`certificatesResolvers.{name}.acme`: {message}");
        let origin = if view.entry(key).is_some() { view.origin(key) } else { origin.clone() };
        diagnostics.push(Diagnostic::error("bad_resolver", message).with_origin(origin));
    };
    let ca_server = view.text("caServer");
    if !ca_server.starts_with("https://") && !is_here(&ca_server) {
        refuse("caServer", format!("expected an `https://` URL as `caServer`, got `{}`", value::shown(&ca_server)));
    }
    let eab = match (said("eab.kid"), view.secret("eab.hmacEncoded")) {
        (Some(kid), Some(key)) => Some((kid, key)),
        (None, None) => None,
        (Some(_), None) => {
            refuse("eab.kid", "`eab` has a `kid` but no `hmacEncoded`".to_owned());
            None
        }
        (None, Some(_)) => {
            refuse("eab.hmacEncoded", "`eab` has a `hmacEncoded` but no `kid`".to_owned());
            None
        }
    };
    let dns = view.is_on("dnsChallenge").then(|| dns(&view, env));
    let challenge = |key: &str| view.is_on(key).then(|| view.time(&format!("{key}.delay")));
    let (http, tls) = (challenge("httpChallenge"), challenge("tlsChallenge"));
    if dns.as_ref().is_some_and(|dns| dns.provider.is_empty()) {
        refuse("dnsChallenge", "`dnsChallenge` names no `provider`".to_owned());
    }
    if http.is_none() && tls.is_none() && dns.is_none() {
        refuse("", "no challenge is named: `httpChallenge`, `tlsChallenge` or `dnsChallenge`".to_owned());
    }
    if let Some(entry_point) = said("httpChallenge.entryPoint")
        && !entry_points.contains_key(&*entry_point)
    {
        refuse("httpChallenge.entryPoint", format!("there is no entry point `{entry_point}`"));
    }
    CertificatesResolver {
        ca_server,
        email: view.text("email"),
        eab,
        key_type: view.text("keyType"),
        ca_certificates: view.list("caCertificates").into_iter().map(PathBuf::from).collect(),
        ca_system_pool: view.bool("caSystemCertPool"),
        ca_server_name: said("caServerName"),
        preferred_chain: said("preferredChain"),
        profile: said("profile"),
        storage: view.path_of("storage"),
        client_timeout: view.time("clientTimeout"),
        certificate_timeout: view.time("certificateTimeout"),
        http,
        tls,
        dns,
        origin,
    }
}

/// Whether a URL is plain HTTP to this machine, where nobody else listens.
fn is_here(url: &str) -> bool {
    let host = url.strip_prefix("http://").map(|rest| rest.split(['/', '?']).next().unwrap_or(rest));
    let host = host.map(|host| host.rsplit_once(':').map_or(host, |(host, _)| host));
    host.is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

fn dns(view: &View<'_>, env: &BTreeMap<String, String>) -> DnsChallenge {
    let key = |key: &str| format!("dnsChallenge.{key}");
    let variables = env.iter().filter(|(name, _)| DNS_VARIABLES.iter().any(|begin| name.starts_with(begin)));
    DnsChallenge {
        provider: view.text(&key("provider")).to_ascii_lowercase(),
        resolvers: view.list(&key("resolvers")),
        disable_checks: view.bool(&key("propagation.disableChecks")) || view.bool(&key("disablePropagationCheck")),
        delay: view.time(&key("propagation.delayBeforeChecks")).max(view.time(&key("delayBeforeCheck"))),
        require_all: view.bool(&key("propagation.requireAllRNS")),
        skip_authoritative: view.bool(&key("propagation.disableANSChecks")),
        variables: variables.map(|(name, text)| (name.clone(), Secret::new(text.clone()))).collect(),
    }
}

/// The names of `http.tls.domains` of an entry point.
pub(super) fn domains(merged: &Merged, entry_point: &str) -> Vec<String> {
    let path = ["entryPoints", entry_point, "http", "tls", "domains"];
    let mut all = Vec::new();
    for place in merged.said_below(&path) {
        let view = merged.at(&[path[0], path[1], path[2], path[3], path[4], &place]);
        let names = std::iter::once(view.text("main")).chain(view.list("sans"));
        all.extend(names.filter(|name| !name.is_empty()).map(|name| name.to_ascii_lowercase()));
    }
    all
}
