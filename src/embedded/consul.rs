//! Consul's HTTP API as far as a watcher of services uses it, with the texts and headers recorded
//! at Consul 1.8.7 in dev mode (which indents its JSON); and the handle with which Rust code
//! changes its state.
//!
//! Parameters that the real API serves and this one does not are refused with 501, never ignored.

mod kv;

use super::acl::{Acl, ConsulToken};
use super::blocking::{Lost, blocking};
use super::checks::Checks;
use super::control::{Contact, Control, State, lock};
use super::definition::{BadDefinition, Definition};
use super::exchange::{Answer, Reply, Request, TEXT, Wait, parse_wait};
use super::server::{Api, Server};
use super::store::Read;
use super::store::consul::{CheckEntry, ConsulStore, Entry, LOCAL_NODE, Status};
use hyper::http::{Method, StatusCode};
use rand::seq::SliceRandom;
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MAX_WAIT: Duration = Duration::from_secs(600);
const TOKEN_HEADER: &str = "x-consul-token";
const LEADER: &str = "127.0.0.1:8300";
const NODE_MAINTENANCE: &str = "_node_maintenance";

#[derive(Debug)]
pub(crate) struct ConsulApi {
    store: Arc<Mutex<ConsulStore>>,
    state: Arc<State>,
    checks: Checks,
    acl: Mutex<Option<Acl<ConsulToken>>>,
}

/// The embedded Consul: its state and its server.
#[derive(Debug, Clone)]
pub struct Consul {
    api: Arc<ConsulApi>,
    control: Control,
    server: Option<Arc<Server<ConsulApi>>>,
}

impl Consul {
    pub(crate) fn start(addr: Option<SocketAddr>, limit: usize) -> std::io::Result<Self> {
        let control = Control::new(limit);
        let store = Arc::<Mutex<ConsulStore>>::default();
        let checks = Checks::new(store.clone());
        let api = Arc::new(ConsulApi { store, state: control.state.clone(), checks, acl: Mutex::default() });
        let start = |addr| Server::start(api.clone(), control.clone(), addr);
        let server = addr.map(start).transpose()?.map(Arc::new);
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

    /// Registers a service at the local agent; gives the raft index.
    pub fn register(&self, definition: Definition) -> u64 {
        self.api.register(definition)
    }

    /// Registers a service on another node, which is made when it is not there.
    pub fn register_on(&self, node: &str, address: &str, definition: Definition) -> u64 {
        let checks = definition.checks.into_iter().map(|(check, _)| check).collect();
        self.store(|store| {
            store.add_node(node, address);
            store.register(node, definition.service, checks)
        })
    }

    /// Removes a service of the local agent; `None` when there is none.
    pub fn deregister(&self, id: &str) -> Option<u64> {
        self.api.deregister(id)
    }

    /// Sets the check that a service of the local agent has by default (`service:<id>`); false
    /// when there is none.
    pub fn set_health(&self, id: &str, status: Status) -> bool {
        self.store(|store| store.set_check(LOCAL_NODE, &format!("service:{id}"), status, ""))
    }

    /// Anything else that the state can do.
    pub fn store<T>(&self, change: impl FnOnce(&mut ConsulStore) -> T) -> T {
        change(&mut lock(&self.api.store))
    }

    /// Turns access control on with these tokens, or off.
    pub fn set_acl(&self, acl: Option<Acl<ConsulToken>>) {
        *lock(&self.api.acl) = acl;
    }

    /// Ends the agent as SIGKILL does: every connection closes, blocked queries get no answer, new
    /// connections are refused. The state stays.
    pub async fn stop(&self) {
        if let Some(server) = &self.server {
            server.kill().await;
        }
    }

    /// Ends the agent as SIGTERM does: blocked queries are answered with what they had, then new
    /// connections are refused. The state stays.
    pub async fn terminate(&self) {
        if let Some(server) = &self.server {
            server.drain().await;
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
        self.api.checks.stop_all();
        self.store(ConsulStore::wipe);
        self.start_again()
    }

    pub(crate) fn abort(&self) {
        self.api.checks.stop_all();
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl Api for ConsulApi {
    const INDEX_HEADER: &'static str = "X-Consul-Index";
    const OVER_LIMIT: Option<&'static str> = None;

    async fn reply(self: Arc<Self>, request: Request) -> Reply {
        self.answer(&request).await.unwrap_or_else(Refusal::into_answer).into()
    }
}

/// Why a request is not served.
#[derive(Debug)]
enum Refusal {
    /// Allowed method, and the one sent.
    Method(&'static str, Method),
    /// Of a read that got as far as the servers: carries index headers.
    Read(StatusCode, &'static str),
    Text(StatusCode, String),
    NoPath,
}

impl Refusal {
    fn bad(text: impl Into<String>) -> Self {
        Self::Text(StatusCode::BAD_REQUEST, text.into())
    }

    fn not_served(parameter: &str) -> Self {
        Self::Text(StatusCode::NOT_IMPLEMENTED, format!("the embedded catalog does not serve `{parameter}`"))
    }

    fn into_answer(self) -> Answer {
        let text =
            |status, text: String| Answer::new(status, text).with("Vary", "Accept-Encoding").with("Content-Type", TEXT);
        match self {
            Self::Method(allowed, sent) => {
                let answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("method {sent} not allowed"));
                answer.with("Allow", format!("OPTIONS,{allowed}"))
            }
            Self::Read(status, why) => text(status, why.into())
                .with("X-Consul-Index", 1)
                .with("X-Consul-Knownleader", false)
                .with("X-Consul-Lastcontact", 0),
            Self::Text(status, why) => text(status, why),
            Self::NoPath => Answer::new(StatusCode::NOT_FOUND, ""),
        }
    }
}

impl From<Lost> for Refusal {
    fn from(lost: Lost) -> Self {
        let text = match lost {
            Lost::NoLeader => "No cluster leader",
            Lost::Meanwhile => "rpc error making call: EOF",
        };
        Self::Read(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

impl From<BadDefinition> for Refusal {
    fn from(bad: BadDefinition) -> Self {
        Self::bad(bad.to_string())
    }
}

/// How a read is asked for.
struct Asked {
    wait: Wait,
    stale: bool,
    consistency: &'static str,
    rights: ConsulToken,
}

impl ConsulApi {
    async fn answer(&self, request: &Request) -> Result<Answer, Refusal> {
        let get = || method(request, "GET");
        let put = || method(request, "PUT");
        let path = request.path.as_str();
        let rest = |prefix: &str| path.strip_prefix(prefix);
        match path {
            "/v1/catalog/services" => return get().map(|()| self.catalog_services(request))?.await,
            "/v1/catalog/nodes" => return get().map(|()| self.nodes(request))?.await,
            "/v1/status/leader" => return get().map(|()| self.leader()),
            "/v1/agent/self" => return get().and_then(|()| self.agent_self(request)),
            "/v1/agent/service/register" => return put().and_then(|()| self.put_service(request)),
            "/v1/agent/maintenance" => return put().and_then(|()| self.put_maintenance(request, None)),
            "/v1/txn" => return self.txn(request),
            _ => {}
        }
        if let Some(key) = rest("/v1/kv/") {
            self.kv(request, key).await
        } else if let Some(what) = rest("/v1/session/") {
            self.sessions(request, what)
        } else if let Some(name) = rest("/v1/health/service/") {
            get().map(|()| self.instances(request, name, true))?.await
        } else if let Some(name) = rest("/v1/catalog/service/") {
            get().map(|()| self.instances(request, name, false))?.await
        } else if let Some(state) = rest("/v1/health/state/") {
            get().map(|()| self.health_state(request, state))?.await
        } else if let Some(id) = rest("/v1/agent/service/deregister/") {
            put().and_then(|()| self.put_deregister(request, id))
        } else if let Some(id) = rest("/v1/agent/service/maintenance/") {
            put().and_then(|()| self.put_maintenance(request, Some(id)))
        } else if let Some(what) = rest("/v1/agent/check/") {
            put().and_then(|()| self.put_check(request, what))
        } else {
            Err(Refusal::NoPath)
        }
    }

    async fn catalog_services(&self, request: &Request) -> Result<Answer, Refusal> {
        let asked = self.asked(request, &["node-meta", "cached"])?;
        let (index, names) = self.read(&asked, request, ConsulStore::services).await?;
        let mut body = Map::new();
        for (name, tags) in names.into_iter().filter(|(name, _)| asked.rights.services.has(name)) {
            let mut tags: Vec<_> = tags.into_iter().map(Value::String).collect();
            tags.shuffle(&mut rand::rng());
            body.insert(name, Value::Array(tags));
        }
        Ok(self.listed(&Value::Object(body), index, &asked))
    }

    /// Nodes; what narrows them, and waiting, is not served.
    async fn nodes(&self, request: &Request) -> Result<Answer, Refusal> {
        let asked = self.asked(request, &["filter", "node-meta", "near", "cached", "index"])?;
        let (index, nodes) = self.read(&asked, request, ConsulStore::nodes).await?;
        let seen = if asked.rights.nodes { nodes } else { Vec::new() };
        Ok(self.listed(&Value::Array(seen), index, &asked))
    }

    /// `health/service` or `catalog/service`.
    async fn instances(&self, request: &Request, name: &str, health: bool) -> Result<Answer, Refusal> {
        if name.is_empty() {
            return Err(Refusal::bad("Missing service name"));
        }
        let asked = self.asked(request, &["filter", "node-meta", "cached"])?;
        let passing = health && passing_only(request)?;
        let read =
            |store: &mut ConsulStore| if health { store.health_service(name) } else { store.catalog_service(name) };
        let (index, entries) = self.read(&asked, request, read).await?;
        let tags: Vec<_> = request.query.all("tag").filter(|tag| !tag.is_empty()).collect();
        let wanted = |entry: &Entry| {
            let tagged = tags.iter().all(|tag| entry.tags.iter().any(|t| t.eq_ignore_ascii_case(tag)));
            asked.rights.nodes && asked.rights.services.has(&entry.name) && tagged && (!passing || entry.passing)
        };
        let entries: Vec<_> = entries.into_iter().filter(wanted).map(|entry| entry.json).collect();
        Ok(self.listed(&Value::Array(entries), index, &asked))
    }

    async fn health_state(&self, request: &Request, state: &str) -> Result<Answer, Refusal> {
        let asked = self.asked(request, &["filter", "node-meta", "cached"])?;
        let (index, mut checks) = self.read(&asked, request, |store| store.health_state(state)).await?;
        let rights = &asked.rights;
        checks.retain(|check| rights.nodes && (check.service.is_empty() || rights.services.has(&check.service)));
        let checks = checks.into_iter().map(|check| check.json).collect();
        Ok(self.listed(&Value::Array(checks), index, &asked))
    }

    /// Without a leader the answer is an empty text, not an error.
    fn leader(&self) -> Answer {
        let leader = if self.state.contact().known_leader { LEADER } else { "" };
        vary(Answer::json(&json!(leader), true))
    }

    fn agent_self(&self, request: &Request) -> Result<Answer, Refusal> {
        if !self.agent_rights(request)?.agent {
            return Err(denied("Permission denied"));
        }
        let config = json!({
            "Datacenter": "dc1", "NodeName": LOCAL_NODE, "Revision": "rust-lb", "Server": true, "Version": "1.8.7",
        });
        let consul = json!({"leader": "true", "leader_addr": LEADER, "server": "true"});
        let body = json!({"Config": config, "Stats": {"consul": consul}, "Member": {"Name": LOCAL_NODE, "Status": 1}});
        Ok(vary(Answer::json(&body, true)))
    }

    fn put_service(&self, request: &Request) -> Result<Answer, Refusal> {
        let definition = Definition::from_json(&request.body)?;
        self.may_write(request, &definition.service.name)?;
        self.register(definition);
        Ok(done())
    }

    fn put_deregister(&self, request: &Request, id: &str) -> Result<Answer, Refusal> {
        if id.is_empty() {
            return Err(Refusal::Text(StatusCode::INTERNAL_SERVER_ERROR, "ServiceID missing".into()));
        }
        if let Some(name) = self.name_of(id) {
            self.may_write(request, &name)?;
        }
        self.deregister(id); // an unknown id is not an error
        Ok(done())
    }

    fn put_maintenance(&self, request: &Request, id: Option<&str>) -> Result<Answer, Refusal> {
        let enable = match request.query.get("enable") {
            None | Some("") => return Err(Refusal::bad("Missing value for enable")),
            Some(text) => go_bool(text).ok_or_else(|| Refusal::bad(format!("Invalid value for enable: {text:?}")))?,
        };
        if let Some(id) = id {
            if id.is_empty() {
                return Err(Refusal::bad("Missing service ID"));
            }
            let unknown = || Refusal::Text(StatusCode::NOT_FOUND, format!("No service registered with ID {id:?}"));
            self.may_write(request, &self.name_of(id).ok_or_else(unknown)?)?;
        } else if !self.agent_rights(request)?.agent {
            return Err(denied("Permission denied"));
        }
        let (check_id, what) = match id {
            Some(id) => (format!("_service_maintenance:{id}"), "service"),
            None => (NODE_MAINTENANCE.to_owned(), "node"),
        };
        let mut store = lock(&self.store);
        if !enable {
            store.remove_check(LOCAL_NODE, &check_id);
            return Ok(done());
        }
        let notes = match request.query.get("reason").filter(|reason| !reason.is_empty()) {
            Some(reason) => reason.to_owned(),
            None => format!(
                "Maintenance mode is enabled for this {what}, but no reason was provided. This is a default message."
            ),
        };
        let name = if id.is_some() { "Service Maintenance Mode" } else { "Node Maintenance Mode" }.to_owned();
        let check = CheckEntry {
            id: check_id,
            name,
            status: Status::Critical,
            notes,
            output: String::new(),
            kind: "maintenance".into(),
        };
        if store.check(LOCAL_NODE, &check.id).is_none() {
            store.add_check(LOCAL_NODE, id, check);
        }
        Ok(done())
    }

    /// `pass`, `warn`, `fail` and `update`, each with a check's id behind it.
    fn put_check(&self, request: &Request, what: &str) -> Result<Answer, Refusal> {
        let (verb, id) = what.split_once('/').unwrap_or((what, ""));
        let note = || request.query.get("note").unwrap_or("").to_owned();
        let (status, output) = match verb {
            "pass" => (Status::Passing, note()),
            "warn" => (Status::Warning, note()),
            "fail" => (Status::Critical, note()),
            "update" => read_update(&request.body)?,
            _ => return Err(Refusal::NoPath),
        };
        let ttl = lock(&self.store).check(LOCAL_NODE, id).is_some_and(|check| check.kind == "ttl");
        if !ttl {
            let text = format!("CheckID {id:?} does not have associated TTL");
            return Err(Refusal::Text(StatusCode::INTERNAL_SERVER_ERROR, text));
        }
        self.agent_rights(request)?;
        self.checks.updated(id, &output);
        lock(&self.store).set_check(LOCAL_NODE, id, status, &output);
        Ok(done())
    }

    fn register(&self, definition: Definition) -> u64 {
        let (checks, runs): (Vec<_>, Vec<_>) = definition.checks.into_iter().unzip();
        let ids: Vec<_> = checks.iter().map(|check| check.id.clone()).collect();
        let index = lock(&self.store).register(LOCAL_NODE, definition.service, checks);
        for (id, runs) in ids.iter().zip(runs) {
            self.checks.start(id, runs, "");
        }
        index
    }

    fn deregister(&self, id: &str) -> Option<u64> {
        let mut store = lock(&self.store);
        let checks = store.check_ids(LOCAL_NODE, id);
        let index = store.deregister(LOCAL_NODE, id)?;
        for check in checks {
            self.checks.stop(&check);
        }
        Some(index)
    }

    fn name_of(&self, id: &str) -> Option<String> {
        lock(&self.store).service_name(LOCAL_NODE, id)
    }

    fn rights(&self, request: &Request) -> Option<ConsulToken> {
        let acl = lock(&self.acl);
        let Some(acl) = &*acl else { return Some(ConsulToken::management()) };
        let token = request.query.get("token").map(str::to_owned).or_else(|| request.token(TOKEN_HEADER));
        acl.rights(token.as_deref())
    }

    fn agent_rights(&self, request: &Request) -> Result<ConsulToken, Refusal> {
        self.rights(request).ok_or_else(|| denied("ACL not found"))
    }

    fn may_write(&self, request: &Request, name: &str) -> Result<(), Refusal> {
        if self.agent_rights(request)?.write.has(name) {
            return Ok(());
        }
        Err(denied(format!("Permission denied: Missing service:write on {name}")))
    }

    fn asked(&self, request: &Request, not_served: &[&str]) -> Result<Asked, Refusal> {
        if request.query.has("ns") {
            let text = "Bad request: Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature";
            return Err(Refusal::bad(text));
        }
        let wait = parse_wait(&request.query, MAX_WAIT).map_err(Refusal::bad)?;
        let (stale, consistent) = (request.query.has("stale"), request.query.has("consistent"));
        if stale && consistent {
            return Err(Refusal::bad("Cannot specify ?stale with ?consistent, conflicting semantics."));
        }
        if let Some(parameter) = not_served.iter().find(|parameter| request.query.has(parameter)) {
            return Err(Refusal::not_served(parameter));
        }
        if request.query.get("dc").is_some_and(|dc| !dc.is_empty() && dc != "dc1") {
            return Err(Refusal::Read(StatusCode::INTERNAL_SERVER_ERROR, "No path to datacenter"));
        }
        let consistency = match (stale, consistent) {
            (true, _) => "stale",
            (_, true) => "consistent",
            _ => "leader",
        };
        let rights = self.rights(request).ok_or(Refusal::Read(StatusCode::FORBIDDEN, "ACL not found"))?;
        Ok(Asked { wait, stale, consistency, rights })
    }

    async fn read<T>(
        &self,
        asked: &Asked,
        request: &Request,
        mut read: impl FnMut(&mut ConsulStore) -> Read<T>,
    ) -> Result<(u64, T), Refusal> {
        let read = || read(&mut lock(&self.store));
        Ok(blocking(&self.state, asked.wait, asked.stale, &request.draining, read).await?)
    }

    fn listed(&self, body: &Value, index: u64, asked: &Asked) -> Answer {
        self.read_at(Answer::json(body, true), index, asked)
    }

    /// What every read is answered with besides its body.
    fn read_at(&self, answer: Answer, index: u64, asked: &Asked) -> Answer {
        let Contact { known_leader, last_contact } = self.state.contact();
        vary(answer)
            .with("X-Consul-Effective-Consistency", asked.consistency)
            .with("X-Consul-Index", index)
            .with("X-Consul-Knownleader", known_leader)
            .with("X-Consul-Lastcontact", last_contact.as_millis())
    }
}

fn vary(answer: Answer) -> Answer {
    answer.with("Vary", "Accept-Encoding")
}

/// What a write is answered with.
fn done() -> Answer {
    vary(Answer::new(StatusCode::OK, ""))
}

fn denied(text: impl Into<String>) -> Refusal {
    Refusal::Text(StatusCode::FORBIDDEN, text.into())
}

fn method(request: &Request, allowed: &'static str) -> Result<(), Refusal> {
    if request.method == allowed { Ok(()) } else { Err(Refusal::Method(allowed, request.method.clone())) }
}

/// `strconv.ParseBool`.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn passing_only(request: &Request) -> Result<bool, Refusal> {
    match request.query.get("passing") {
        None => Ok(false),
        Some("") => Ok(true),
        Some(text) => go_bool(text).ok_or_else(|| Refusal::bad("Invalid value for ?passing")),
    }
}

/// The body of `check/update`: `{"Status": …, "Output": …}`.
fn read_update(body: &[u8]) -> Result<(Status, String), Refusal> {
    let body: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("Request decode failed: {error}")))?;
    let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let status = field("Status");
    match Status::parse(&status) {
        Some(status) => Ok((status, field("Output"))),
        None => Err(Refusal::bad(format!("Invalid check status: '{status}'"))),
    }
}
