//! Nomad's HTTP API as far as a watcher of services uses it, with the texts and headers recorded
//! at Nomad 2.0; and the handle with which Rust code changes its state.
//!
//! One extension: `PUT /v1/service/:name` registers one service, in the form in which `GET` lists it.
//! Parameters that the real API serves and this one does not are refused with 501, never ignored.

use super::acl::{Acl, NomadToken};
use super::blocking::{Lost, blocking};
use super::control::{Contact, Control, State, lock};
use super::exchange::{Answer, Reply, Request, parse_wait};
use super::server::{Api, Server};
use super::store::Read;
use super::store::nomad::{AllocationCheck, DEFAULT_NAMESPACE, Listing, Namespaces, NomadStore, Registration};
use super::stream::{self, Wanted};
use futures_util::FutureExt;
use hyper::http::{Method, StatusCode};
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MAX_WAIT: Duration = Duration::from_secs(300);
const TOKEN_HEADER: &str = "x-nomad-token";
const NO_LEADER: &str = "No cluster leader";
/// What a server says of a token that is neither known nor a JWT.
const NOT_A_JWT: &str = "failed to parse signed token: go-jose/go-jose: compact JWS format must have three parts";

#[derive(Debug)]
pub(crate) struct NomadApi {
    pub(crate) store: Arc<Mutex<NomadStore>>,
    pub(crate) state: Arc<State>,
    pub(crate) heartbeat: Duration,
    acl: Mutex<Option<Acl<NomadToken>>>,
    /// As shown by `/v1/status/leader`: the address of the servers' RPC port.
    leader: &'static str,
}

/// The embedded Nomad: its state and its server.
#[derive(Debug, Clone)]
pub struct Nomad {
    api: Arc<NomadApi>,
    control: Control,
    server: Option<Arc<Server<NomadApi>>>,
}

impl Nomad {
    pub(crate) fn start(addr: Option<SocketAddr>, limit: usize, heartbeat: Duration) -> std::io::Result<Self> {
        let control = Control::new(limit);
        let api = Arc::new(NomadApi {
            store: Arc::default(),
            state: control.state.clone(),
            heartbeat,
            acl: Mutex::default(),
            leader: "127.0.0.1:4647",
        });
        let server = addr.map(|addr| Server::start(api.clone(), control.clone(), addr)).transpose()?.map(Arc::new);
        Ok(Self { api, control, server })
    }

    /// Where it listens; `None` when it does not.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(|server| server.addr())
    }

    /// Behaviours and counters.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Registers one service; gives the raft index.
    pub fn register(&self, registration: Registration) -> u64 {
        self.store(|store| store.register([registration]))
    }

    /// Registers many services in one raft write; gives the raft index.
    pub fn register_all(&self, registrations: impl IntoIterator<Item = Registration>) -> u64 {
        self.store(|store| store.register(registrations))
    }

    /// Removes a registration by namespace and id; `None` when there is none.
    pub fn deregister(&self, namespace: &str, id: &str) -> Option<u64> {
        self.store(|store| store.deregister(namespace, id))
    }

    /// Sets how a check of a service stands in an allocation.
    pub fn set_check(&self, allocation: &str, service: &str, name: &str, check: AllocationCheck) {
        self.store(|store| store.set_check(allocation, service, name, check));
    }

    /// Anything else that the state can do.
    pub fn store<T>(&self, change: impl FnOnce(&mut NomadStore) -> T) -> T {
        change(&mut lock(&self.api.store))
    }

    /// Turns access control on with these tokens, or off.
    pub fn set_acl(&self, acl: Option<Acl<NomadToken>>) {
        *lock(&self.api.acl) = acl;
    }

    /// Ends the agent as SIGTERM, SIGINT and SIGKILL do: every connection closes, blocked queries
    /// get no answer, new connections are refused. The state stays.
    pub async fn stop(&self) {
        if let Some(server) = &self.server {
            server.kill().await;
        }
    }

    /// Starts the agent again at its port.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub fn start_again(&self) -> std::io::Result<()> {
        self.server.as_ref().map_or(Ok(()), |server| server.restart())
    }

    /// Stops, removes all state and starts again: the index starts over.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub async fn wipe(&self) -> std::io::Result<()> {
        self.stop().await;
        self.store(NomadStore::wipe);
        self.start_again()
    }

    pub(crate) fn abort(&self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl Api for NomadApi {
    const INDEX_HEADER: &'static str = "X-Nomad-Index";
    const OVER_LIMIT: Option<&'static str> =
        Some("Your IP is issuing too many concurrent connections, please rate limit your calls\n");

    async fn reply(self: Arc<Self>, request: Request) -> Reply {
        if request.path == "/v1/event/stream" && request.method == Method::GET {
            return match Wanted::parse(&request.query) {
                Err(text) => vary(Answer::text(StatusCode::BAD_REQUEST, text)).into(),
                Ok(wanted) => Reply::Take(Box::new(move |stream| stream::run(stream, self, request, wanted).boxed())),
            };
        }
        let answer = vary(self.answer(&request).await.unwrap_or_else(Refusal::into_answer));
        match request.path.starts_with("/v1/client/allocation/") {
            true => answer.with("Vary", "Origin").into(),
            false => answer.into(),
        }
    }
}

fn vary(answer: Answer) -> Answer {
    answer.with("Vary", "Accept-Encoding")
}

/// Why a request is not served.
#[derive(Debug)]
enum Refusal {
    Method,
    Denied,
    Text(StatusCode, String),
    NoPath,
}

impl Refusal {
    fn bad(text: impl Into<String>) -> Self {
        Self::Text(StatusCode::BAD_REQUEST, text.into())
    }

    fn server(text: impl Into<String>) -> Self {
        Self::Text(StatusCode::INTERNAL_SERVER_ERROR, text.into())
    }

    fn into_answer(self) -> Answer {
        match self {
            Self::Method => Answer::text(StatusCode::METHOD_NOT_ALLOWED, "Invalid method"),
            Self::Denied => Answer::text(StatusCode::FORBIDDEN, "Permission denied"),
            Self::Text(status, text) => Answer::text(status, text),
            Self::NoPath => Answer::new(StatusCode::NOT_FOUND, ""),
        }
    }
}

impl From<Lost> for Refusal {
    fn from(lost: Lost) -> Self {
        Self::server(match lost {
            Lost::NoLeader => NO_LEADER,
            Lost::Meanwhile => "rpc error: EOF",
        })
    }
}

/// The rights of a request, with access control off or on.
enum Rights {
    Off,
    Token(NomadToken),
    /// A secret that no token has.
    Unknown,
}

impl Rights {
    fn reads(&self, namespace: &str) -> bool {
        match self {
            Self::Off => true,
            Self::Token(token) => token.management || token.workload_identity || token.read_job.has(namespace),
            Self::Unknown => false,
        }
    }

    /// In a listing of all namespaces a workload identity counts for nothing.
    fn lists(&self, namespace: &str) -> bool {
        match self {
            Self::Token(token) => token.management || token.read_job.has(namespace),
            _ => self.reads(namespace),
        }
    }

    fn writes(&self, namespace: &str) -> bool {
        match self {
            Self::Off => true,
            Self::Token(token) => token.management || token.submit_job.has(namespace),
            Self::Unknown => false,
        }
    }

    fn sees(&self, namespace: &str) -> bool {
        self.lists(namespace) || matches!(self, Self::Token(token) if token.other.has(namespace))
    }

    fn reads_agent(&self) -> bool {
        self.manages() || matches!(self, Self::Token(token) if token.agent)
    }

    fn manages(&self) -> bool {
        matches!(self, Self::Off) || matches!(self, Self::Token(token) if token.management)
    }
}

impl NomadApi {
    async fn answer(&self, request: &Request) -> Result<Answer, Refusal> {
        if let Some(rest) = request.path.strip_prefix("/v1/service/") {
            return self.service(request, rest).await;
        }
        if let Some(name) = request.path.strip_prefix("/v1/namespace/") {
            return self.put_namespace(request, name).await;
        }
        let get = || if request.method == Method::GET { Ok(()) } else { Err(Refusal::Method) };
        let of_allocation = request.path.strip_prefix("/v1/client/allocation/");
        if let Some(id) = of_allocation.and_then(|rest| rest.strip_suffix("/checks")) {
            return get().and_then(|()| self.checks(request, id));
        }
        match request.path.as_str() {
            "/v1/services" => {
                get()?;
                self.services(request).await
            }
            "/v1/namespaces" => {
                get()?;
                self.namespaces(request).await
            }
            "/v1/status/leader" => {
                get()?;
                self.leader_known().await?;
                Ok(Answer::json(&json!(self.leader), false))
            }
            "/v1/agent/health" => get().map(|()| self.health(request))?.await,
            "/v1/agent/self" => get().and_then(|()| self.agent_self(request)),
            "/v1/acl/token/self" => get().and_then(|()| self.token_self(request)),
            "/v1/regions" => get().map(|()| Answer::json(&json!(["global"]), false)),
            "/v1/event/stream" => Err(Refusal::Method),
            _ => Err(Refusal::NoPath),
        }
    }

    async fn services(&self, request: &Request) -> Result<Answer, Refusal> {
        let asked = self.asked(request)?;
        let rights = self.rights(request);
        let index_and_rows = if asked.namespace == "*" {
            if matches!(rights, Rights::Unknown) {
                return Err(Refusal::Denied);
            }
            self.read(&asked, request, |store| {
                let all = store.namespaces().value.into_iter().map(|(name, _)| name);
                let allowed: BTreeSet<_> = all.filter(|name| rights.lists(name)).collect();
                if allowed.is_empty() {
                    // Nothing was looked at, so there is no index, and nothing to wake for.
                    let changed = Arc::new(tokio::sync::Notify::new()).notified_owned();
                    return Read { index: 0, value: Listing::new(), changed };
                }
                store.services(Namespaces::Of(&allowed))
            })
            .await?
        } else {
            allowed(rights.reads(asked.namespace))?;
            self.read(&asked, request, |store| store.services(Namespaces::One(asked.namespace))).await?
        };
        let (index, listing) = index_and_rows;
        Ok(self.listed(&shuffled_listing(listing), index))
    }

    async fn service(&self, request: &Request, rest: &str) -> Result<Answer, Refusal> {
        let parts: Vec<_> = rest.split('/').collect();
        match (&request.method, &parts[..]) {
            (_, [""]) => Err(Refusal::bad("missing service name")),
            (&Method::GET, [name]) => self.instances(request, name).await,
            (&Method::PUT | &Method::POST, [name]) => self.put_service(request, name).await,
            (&Method::DELETE, [_, id]) => self.delete_service(request, id).await,
            _ => Err(Refusal::Method),
        }
    }

    async fn instances(&self, request: &Request, name: &str) -> Result<Answer, Refusal> {
        let asked = self.asked(request)?;
        for parameter in ["filter", "choose", "per_page", "next_token"] {
            if request.query.has(parameter) {
                let text = format!("the embedded catalog does not serve `{parameter}`");
                return Err(Refusal::Text(StatusCode::NOT_IMPLEMENTED, text));
            }
        }
        allowed(self.rights(request).reads(asked.namespace))?;
        let (index, rows) = self.read(&asked, request, |store| store.service(asked.namespace, name)).await?;
        Ok(self.listed(&json!(rows), index))
    }

    /// The extension: one registration, what is left out filled in.
    async fn put_service(&self, request: &Request, name: &str) -> Result<Answer, Refusal> {
        check_name(name)?;
        let mut body: Value = serde_json::from_slice(&request.body).map_err(|error| Refusal::bad(error.to_string()))?;
        let fields = body.as_object_mut().ok_or_else(|| Refusal::bad("expected one registration, a JSON object"))?;
        let said = fields.entry("ServiceName").or_insert_with(|| name.into());
        if *said != name {
            return Err(Refusal::bad(format!("the path names service `{name}`, the body {said}")));
        }
        if let (Some(namespace), false) = (request.query.get("namespace"), fields.contains_key("Namespace")) {
            fields.insert("Namespace".into(), namespace.into());
        }
        fields.retain(|_, value| !value.is_null());
        let row: Registration = serde_json::from_value(body).map_err(|error| Refusal::bad(error.to_string()))?;
        allowed(self.rights(request).writes(&row.namespace))?;
        self.leader_known().await?;
        let index = lock(&self.store).register([row]);
        Ok(Answer::new(StatusCode::OK, "").with("X-Nomad-Index", index))
    }

    async fn delete_service(&self, request: &Request, id: &str) -> Result<Answer, Refusal> {
        let namespace = namespace(request);
        allowed(self.rights(request).writes(namespace))?;
        self.leader_known().await?;
        match lock(&self.store).deregister(namespace, id) {
            Some(index) => Ok(Answer::new(StatusCode::OK, "").with("X-Nomad-Index", index)),
            None => Err(Refusal::server("service registration not found")),
        }
    }

    async fn namespaces(&self, request: &Request) -> Result<Answer, Refusal> {
        let asked = self.asked(request)?;
        let rights = self.rights(request);
        if matches!(rights, Rights::Unknown) {
            return Err(Refusal::Denied);
        }
        let (index, mut rows) = self.read(&asked, request, NomadStore::namespaces).await?;
        rows.retain(|(name, _)| rights.sees(name));
        let row = |(name, index): &(String, u64)| {
            let description = if name == DEFAULT_NAMESPACE { "Default shared namespace" } else { "" };
            json!({
                "Capabilities": null, "ConsulConfiguration": null, "CreateIndex": index, "Description": description,
                "Hash": "", "Meta": null, "ModifyIndex": index, "Name": name, "NodePoolConfiguration": null,
                "OptionalExtraClaims": null, "Quota": "", "RequiredExtraClaims": null, "VaultConfiguration": null,
            })
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        Ok(self.listed(&json!(rows), index))
    }

    async fn put_namespace(&self, request: &Request, name: &str) -> Result<Answer, Refusal> {
        if !matches!(request.method, Method::PUT | Method::POST) {
            return Err(Refusal::Method);
        }
        allowed(self.rights(request).manages())?;
        self.leader_known().await?;
        let index = lock(&self.store).add_namespace(name);
        Ok(Answer::new(StatusCode::OK, "").with("X-Nomad-Index", index))
    }

    async fn health(&self, request: &Request) -> Result<Answer, Refusal> {
        if !self.state.leader(false).await {
            let body = json!({"server": {"ok": false, "message": NO_LEADER}});
            let mut answer = Answer::json(&body, false);
            answer.status = StatusCode::INTERNAL_SERVER_ERROR;
            return Ok(answer);
        }
        let ok = json!({"message": "ok", "ok": true});
        let body = match request.query.get("type") {
            Some("server") => json!({"server": ok}),
            Some("client") => json!({"client": ok}),
            _ => json!({"client": ok, "server": ok}),
        };
        Ok(Answer::json(&body, false))
    }

    fn agent_self(&self, request: &Request) -> Result<Answer, Refusal> {
        if self.malformed_token(request) {
            return Err(Refusal::server(format!("ACL token not found or invalid workload identity: {NOT_A_JWT}")));
        }
        allowed(self.rights(request).reads_agent())?;
        let acl = lock(&self.acl).is_some();
        let version = json!({
            "BuildDate": null, "Revision": "", "Version": "2.0.6", "VersionMetadata": "rust-lb", "VersionPrerelease": "",
        });
        let config = json!({"Datacenter": "dc1", "Region": "global", "Version": version, "ACL": {"Enabled": acl}});
        let stats = json!({"nomad": {"server": "true", "leader": "true", "leader_addr": self.leader}});
        Ok(Answer::json(&json!({"config": config, "stats": stats}), false))
    }

    /// Answered by the client that runs the allocation: without an index, and nothing can be waited for.
    fn checks(&self, request: &Request, id: &str) -> Result<Answer, Refusal> {
        if self.malformed_token(request) {
            return Err(Refusal::server(format!("rpc error: {NOT_A_JWT}")));
        }
        let rights = self.rights(request);
        if matches!(rights, Rights::Unknown) {
            return Err(Refusal::Denied);
        }
        let store = lock(&self.store);
        let unknown = || Refusal::Text(StatusCode::NOT_FOUND, format!("Unknown allocation {id}"));
        let (namespace, job) = store.allocation(id).ok_or_else(unknown)?;
        allowed(rights.lists(namespace))?;
        let check = |((service, name), check): (&(String, String), &AllocationCheck)| {
            let id = check_id(&[id, service, name]);
            let mut row = json!({
                "Check": name, "Group": format!("{job}.{job}[0]"), "ID": id, "Mode": "healthiness", "Output": check.output,
                "Service": service, "Status": check.status,
                "Timestamp": jiff::Timestamp::now().as_second(),
            });
            if let Some(code) = check.status_code {
                row["StatusCode"] = code.into();
            }
            (id, row)
        };
        let checks: serde_json::Map<String, Value> = store.checks(id).map(check).collect();
        Ok(Answer::json(&Value::Object(checks), false))
    }

    fn token_self(&self, request: &Request) -> Result<Answer, Refusal> {
        if self.malformed_token(request) {
            return Err(Refusal::server(NOT_A_JWT));
        }
        let rights = self.rights(request);
        let (accessor, name, kind) = match (&rights, request.token(TOKEN_HEADER)) {
            (Rights::Unknown, _) => return Err(Refusal::Denied),
            (Rights::Off, _) => ("acls-disabled", "ACLs disabled token", "client"),
            (_, None) => ("anonymous", "Anonymous Token", "client"),
            (Rights::Token(token), _) if token.workload_identity => {
                return Err(Refusal::Text(StatusCode::NOT_FOUND, "ACL token not found".into()));
            }
            (Rights::Token(token), _) if token.management => ("00000000-0000-4000-8000-000000000001", "", "management"),
            _ => ("00000000-0000-4000-8000-000000000002", "", "client"),
        };
        let policies = if accessor == "anonymous" { json!(["anonymous"]) } else { Value::Null };
        let body = json!({
            "ExpirationTTL": "", "AccessorID": accessor, "SecretID": request.token(TOKEN_HEADER).unwrap_or_default(),
            "Name": name, "Type": kind, "Policies": policies, "Roles": null, "Global": false, "Hash": null,
            "CreateTime": "0001-01-01T00:00:00Z", "ExpirationTime": null, "CreateIndex": 0, "ModifyIndex": 0,
        });
        Ok(self.listed(&body, 0))
    }

    /// Whether a stream's caller has the rights for it, now.
    pub(crate) fn may_stream(&self, request: &Request, wanted: &Wanted) -> bool {
        let rights = self.rights(request);
        if request.query.get("region").is_some_and(|region| !region.is_empty() && region != "global") {
            return false;
        }
        match namespace(request) {
            _ if !wanted.names_topics() => rights.manages(),
            "*" => lock(&self.store).namespaces().value.iter().all(|(name, _)| rights.lists(name)),
            name => rights.lists(name),
        }
    }

    fn rights(&self, request: &Request) -> Rights {
        match &*lock(&self.acl) {
            None => Rights::Off,
            Some(acl) => acl.rights(request.token(TOKEN_HEADER).as_deref()).map_or(Rights::Unknown, Rights::Token),
        }
    }

    /// A secret that is no UUID is taken for a JWT, and is none.
    fn malformed_token(&self, request: &Request) -> bool {
        let uuid = |text: &str| text.len() == 36 && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
        matches!(self.rights(request), Rights::Unknown) && request.token(TOKEN_HEADER).is_some_and(|t| !uuid(&t))
    }

    async fn leader_known(&self) -> Result<(), Refusal> {
        if self.state.leader(false).await { Ok(()) } else { Err(Lost::NoLeader.into()) }
    }

    fn asked<'a>(&self, request: &'a Request) -> Result<Asked<'a>, Refusal> {
        let wait = parse_wait(&request.query, MAX_WAIT).map_err(Refusal::bad)?;
        let stale = match request.query.get("stale") {
            None | Some("false") => false,
            Some("" | "true") => true,
            Some(_) => return Err(Refusal::bad("Expect `true` or `false` for `stale` query string parameter")),
        };
        match request.query.get("region") {
            None | Some("" | "global") => Ok(Asked { wait, stale, namespace: namespace(request) }),
            Some(_) => Err(Refusal::server("No path to region")),
        }
    }

    async fn read<T>(
        &self,
        asked: &Asked<'_>,
        request: &Request,
        mut read: impl FnMut(&mut NomadStore) -> Read<T>,
    ) -> Result<(u64, T), Refusal> {
        let read = || read(&mut lock(&self.store));
        Ok(blocking(&self.state, asked.wait, asked.stale, &request.draining, read).await?)
    }

    fn listed(&self, body: &Value, index: u64) -> Answer {
        let Contact { known_leader, last_contact } = self.state.contact();
        Answer::json(body, false)
            .with("X-Nomad-Index", index)
            .with("X-Nomad-Knownleader", known_leader)
            .with("X-Nomad-Lastcontact", last_contact.as_millis())
    }
}

/// The parameters of a read.
struct Asked<'a> {
    wait: super::exchange::Wait,
    stale: bool,
    namespace: &'a str,
}

fn namespace(request: &Request) -> &str {
    request.query.get("namespace").filter(|name| !name.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
}

fn allowed(yes: bool) -> Result<(), Refusal> {
    if yes { Ok(()) } else { Err(Refusal::Denied) }
}

/// An id as a client makes them: 64 hexadecimal digits that depend on what the check is.
fn check_id(parts: &[&str]) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let digits = (0_u8..4).map(|turn| {
        let mut hasher = DefaultHasher::new();
        (turn, parts).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    });
    digits.collect()
}

/// Holds names to what Nomad takes in a job.
fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain && name.len() <= 63 && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    Err(Refusal::bad(format!(
        "Service name must be valid per RFC 1123 and can contain only alphanumeric characters or dashes and must be no \
         longer than 63 characters: {name:?}"
    )))
}

/// In the random order of Go's maps.
fn shuffled_listing(listing: Listing) -> Value {
    let rng = &mut rand::rng();
    let mut namespaces = Vec::new();
    for (namespace, names) in listing {
        let mut services = Vec::new();
        for (name, tags) in names {
            let mut tags: Vec<_> = tags.into_iter().collect();
            tags.shuffle(rng);
            services.push(json!({"ServiceName": name, "Tags": tags}));
        }
        services.shuffle(rng);
        namespaces.push(json!({"Namespace": namespace, "Services": services}));
    }
    namespaces.shuffle(rng);
    Value::Array(namespaces)
}
