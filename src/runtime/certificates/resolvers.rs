//! Certificate resolvers as they are configured, made ready for orders: files read, key types and DNS providers understood.

use crate::acme::dns::{self, Solver};
use crate::acme::{Authority, Eab, Method};
use crate::config::{CertificatesResolver, DnsChallenge, Settled};
use crate::diagnostic::Diagnostic;
use crate::runtime::{absolute, within};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a file of authorities may take to be read.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// Port of name servers.
const DNS: u16 = 53;

/// One that orders.
#[derive(Debug)]
pub(super) struct Resolver {
    pub authority: Authority,
    pub methods: Vec<Method>,
}

/// All of them by name, and what is wrong with those that are missing.
pub(super) fn all(settled: &Settled) -> (BTreeMap<Arc<str>, Arc<Resolver>>, Vec<Diagnostic>) {
    let (mut resolvers, mut problems) = (BTreeMap::new(), Vec::new());
    for (name, said) in &settled.certificates.resolvers {
        match resolver(said) {
            Ok(resolver) => drop(resolvers.insert(name.as_str().into(), Arc::new(resolver))),
            Err(why) => {
                let message = format!("the certificate resolver `{name}` orders nothing: {why}");
                problems.push(Diagnostic::error("bad_resolver", message).with_origin(said.origin.clone()));
            }
        }
    }
    (resolvers, problems)
}

fn resolver(said: &CertificatesResolver) -> Result<Resolver, String> {
    let mut roots = Vec::new();
    for file in &said.ca_certificates {
        roots.push(read(file)?);
    }
    let authority = Authority {
        email: Some(said.email.clone()).filter(|email| !email.is_empty()),
        eab: said.eab.clone().map(|(kid, hmac)| Eab { kid, hmac }),
        key_type: said.key_type.parse().map_err(|error: crate::acme::UnknownKeyType| error.to_string())?,
        system_roots: said.ca_system_pool || roots.is_empty(),
        roots,
        server_name: said.ca_server_name.clone(),
        preferred_chain: said.preferred_chain.clone(),
        profile: said.profile.clone(),
        certificate_limit: Some(said.certificate_timeout).filter(|limit| !limit.is_zero()),
        request_limit: Some(said.client_timeout).filter(|limit| !limit.is_zero()),
        http_delay: said.http.unwrap_or_default(),
        tls_delay: said.tls.unwrap_or_default(),
        ..Authority::new(said.ca_server.clone())
    };
    let mut methods = Vec::new();
    if let Some(dns) = &said.dns {
        methods.push(Method::Dns(Arc::new(solver(dns)?)));
    }
    // of the two that need no zone, the one on port 443 needs no other port
    methods.extend(said.tls.map(|_| Method::TlsAlpn));
    methods.extend(said.http.map(|_| Method::Http));
    Ok(Resolver { authority, methods })
}

fn solver(said: &DnsChallenge) -> Result<Solver, String> {
    let variable = |name: &str| said.variables.get(name).map(|secret| secret.reveal().to_owned());
    let settings = dns::Settings::from_variables(&said.provider, variable).map_err(|error| error.to_string())?;
    let mut servers = Vec::new();
    for text in said.resolvers.iter().cloned().chain(if said.resolvers.is_empty() { system() } else { Vec::new() }) {
        servers.push(dns::Server::parse(&text, DNS)?);
    }
    let propagation = dns::Propagation {
        disable_checks: said.disable_checks,
        delay_before_checks: said.delay,
        require_all_recursive: said.require_all,
        disable_authoritative: said.skip_authoritative,
        resolvers: servers,
        ..dns::Propagation::default()
    };
    Solver::new(&settings, propagation).map_err(|error| error.to_string())
}

/// The system's name servers (resolv.conf(5)); none where it does not say.
fn system() -> Vec<String> {
    let text = read(Path::new("/etc/resolv.conf")).unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next());
    servers.map(str::to_owned).collect()
}

fn read(file: &Path) -> Result<String, String> {
    let path = absolute(file);
    let file = file.display();
    match within(READ_LIMIT, move || std::fs::read_to_string(path)) {
        Some(Ok(text)) => Ok(text),
        Some(Err(error)) => Err(format!("`{file}` cannot be read: {error}")),
        None => Err(format!("`{file}` takes too long to be read")),
    }
}
