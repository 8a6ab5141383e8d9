//! The resources of RFC 8555, 7, and of RFC 9773.

use super::issue::Issuing;
use super::jws::{Jws, Refusal, malformed, thumbprint};
use super::validate::validate;
use super::{Inner, lock};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

type Reply = Result<Said, Refusal>;

/// An answer that is no error.
struct Said {
    status: u16,
    body: Bytes,
    kind: &'static str,
    fields: Vec<(&'static str, String)>,
}

#[derive(Default)]
pub struct State {
    nonces: HashSet<String>,
    accounts: Vec<Account>,
    orders: Vec<Order>,
    authz: Vec<Authz>,
    certificates: Vec<Certificate>,
}

struct Account {
    jwk: Value,
    contact: Vec<String>,
    /// Not known any more.
    gone: bool,
}

struct Order {
    account: usize,
    names: Vec<String>,
    authz: Vec<usize>,
    status: &'static str,
    error: Value,
    certificate: Option<usize>,
    replaces: Option<String>,
    profile: Option<String>,
    looks: usize,
}

struct Authz {
    account: usize,
    name: String,
    wildcard: bool,
    status: &'static str,
    challenges: Vec<Challenge>,
}

struct Challenge {
    kind: &'static str,
    token: String,
    status: &'static str,
    error: Value,
}

struct Certificate {
    account: usize,
    chains: [String; 2],
    id: String,
    names: Vec<String>,
    end: SystemTime,
    replaced: bool,
}

fn problem(kind: &str, words: &str) -> Value {
    json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": words})
}

fn ok(status: u16, body: &Value) -> Said {
    Said { status, body: body.to_string().into(), kind: "application/json", fields: Vec::new() }
}

fn refuse<T>(status: u16, kind: &'static str, words: &str) -> Result<T, Refusal> {
    Err((status, kind, words.to_owned()))
}

/// A nonce that may be used once.
pub fn nonce(inner: &Inner) -> String {
    let nonce = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 12]>());
    lock(&inner.state).nonces.insert(nonce.clone());
    nonce
}

impl State {
    pub fn forget_accounts(&mut self) {
        self.accounts.iter_mut().for_each(|account| account.gone = true);
    }

    pub fn accounts(&self) -> (usize, Vec<String>) {
        (self.accounts.len(), self.accounts.last().map(|account| account.contact.clone()).unwrap_or_default())
    }

    pub fn last_order(&self) -> (Option<String>, Option<String>) {
        let last = self.orders.last().expect("an order");
        (last.profile.clone(), last.replaces.clone())
    }

    pub fn ordered(&self) -> Vec<String> {
        self.orders.iter().flat_map(|order| order.names.clone()).collect()
    }

    pub fn pending(&self) -> usize {
        self.authz.iter().filter(|authz| authz.status == "pending").count()
    }

    fn order_json(&self, inner: &Inner, id: usize) -> Value {
        let (order, base) = (&self.orders[id], &inner.base);
        let kind = |name: &str| if name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
        let mut value = json!({
            "status": order.status,
            "expires": "2099-01-01T00:00:00Z",
            "identifiers": order.names.iter().map(|name| json!({"type": kind(name), "value": name})).collect::<Vec<_>>(),
            "authorizations": order.authz.iter().map(|id| format!("{base}/authz/{id}")).collect::<Vec<_>>(),
            "finalize": format!("{base}/order/{id}/finalize"),
        });
        if !order.error.is_null() {
            value["error"] = order.error.clone();
        }
        if let (Some(certificate), "valid") = (order.certificate, order.status) {
            value["certificate"] = format!("{base}/cert/{certificate}").into();
        }
        for (name, field) in [("replaces", &order.replaces), ("profile", &order.profile)] {
            if let Some(field) = field {
                value[name] = field.clone().into();
            }
        }
        value
    }

    fn challenge_json(&self, inner: &Inner, id: usize, challenge: &Challenge) -> Value {
        let mut value = json!({"type": challenge.kind, "url": format!("{}/chal/{id}/{}", inner.base, challenge.kind),
            "token": challenge.token, "status": challenge.status});
        if !challenge.error.is_null() {
            value["error"] = challenge.error.clone();
        }
        value
    }

    fn authz_json(&self, inner: &Inner, id: usize) -> Value {
        let authz = &self.authz[id];
        let kind = if authz.name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
        let status = if authz.status == "processing" { "pending" } else { authz.status };
        let challenges = authz.challenges.iter().map(|challenge| self.challenge_json(inner, id, challenge));
        let mut value = json!({"status": status, "expires": "2099-01-01T00:00:00Z",
            "identifier": {"type": kind, "value": authz.name}, "challenges": challenges.collect::<Vec<_>>()});
        if authz.wildcard {
            value["wildcard"] = true.into();
        }
        value
    }

    /// Orders follow their authorizations (RFC 8555, 7.1.6).
    fn settle(&mut self) {
        for order in self.orders.iter_mut().filter(|order| order.status == "pending") {
            let is = |status: &str| order.authz.iter().filter(|id| self.authz[**id].status == status).count();
            if is("invalid") + is("deactivated") > 0 {
                order.status = "invalid";
            } else if is("valid") == order.authz.len() {
                order.status = "ready";
            }
        }
    }
}

/// What a request is answered with.
pub fn answer(inner: &Arc<Inner>, parts: &Parts, body: &[u8]) -> Response<Full<Bytes>> {
    let reply = match parts.method {
        Method::GET | Method::HEAD => get(inner, parts),
        Method::POST => post(inner, parts, body),
        _ => refuse(405, "malformed", "method"),
    };
    let said = reply.unwrap_or_else(|(status, kind, words)| {
        let mut body = problem(kind, &words);
        body["status"] = status.into();
        Said { status, body: body.to_string().into(), kind: "application/problem+json", fields: Vec::new() }
    });
    let mut made = Response::builder().status(said.status).header("content-type", said.kind);
    for (name, value) in said.fields {
        made = made.header(name, value);
    }
    let index = format!("<{}/dir>;rel=\"index\"", inner.base);
    made.header("replay-nonce", nonce(inner)).header("link", index).body(Full::new(said.body)).expect("an answer")
}

fn get(inner: &Inner, parts: &Parts) -> Reply {
    let base = &inner.base;
    match parts.uri.path() {
        "/dir" => {
            let mut directory = json!({"newNonce": format!("{base}/new-nonce"), "newAccount": format!("{base}/new-account"),
                "newOrder": format!("{base}/new-order"), "revokeCert": format!("{base}/revoke"),
                "keyChange": format!("{base}/key-change"), "meta": {"profiles": {"short": "six days"}}});
            if lock(&inner.manner).ari {
                directory["renewalInfo"] = format!("{base}/ari").into();
            }
            Ok(ok(200, &directory))
        }
        "/new-nonce" => Ok(ok(200, &Value::Null)),
        path => {
            let id = path.strip_prefix("/ari/").ok_or((405, "malformed", "POST-as-GET is needed".to_owned()))?;
            let state = lock(&inner.state);
            let Some(certificate) = state.certificates.iter().find(|certificate| certificate.id == id) else {
                return refuse(404, "malformed", "no such certificate");
            };
            let now = SystemTime::now();
            let left = certificate.end.duration_since(now).unwrap_or_default();
            let at = |after: Duration| jiff::Timestamp::try_from(now + after).expect("a time").to_string();
            let window = json!({"start": at(left * 2 / 3), "end": at(left * 2 / 3 + Duration::from_secs(7_200))});
            let mut said = ok(200, &json!({"suggestedWindow": window, "explanationURL": "https://ca.test/why"}));
            said.fields.push(("retry-after", "7200".to_owned()));
            Ok(said)
        }
    }
}

fn post(inner: &Arc<Inner>, parts: &Parts, body: &[u8]) -> Reply {
    let field = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if field("content-type") != "application/jose+json" || field("user-agent").is_empty() {
        return refuse(415, "malformed", "content type and user agent");
    }
    let outer: Value = serde_json::from_slice(body).map_err(|_| malformed("not JSON"))?;
    let jws = Jws::parse(&outer)?;
    let url = format!("{}{}", inner.base, parts.uri.path());
    if jws.header["url"] != *url {
        return refuse(401, "unauthorized", "the url in the header is another");
    }
    let mut state = lock(&inner.state);
    if !jws.header["nonce"].as_str().is_some_and(|nonce| state.nonces.remove(nonce)) {
        return refuse(400, "badNonce", "unknown or used");
    }
    let path: Vec<&str> = parts.uri.path().trim_start_matches('/').split('/').collect();
    if path == ["new-account"] {
        return new_account(inner, &mut state, &jws, &url);
    }
    if !jws.header["jwk"].is_null() {
        return Err(malformed("a key instead of its identifier"));
    }
    let kid = jws.header["kid"].as_str().and_then(|kid| kid.strip_prefix(&format!("{}/account/", inner.base)));
    let account: usize = kid.and_then(|kid| kid.parse().ok()).ok_or_else(|| malformed("kid"))?;
    match state.accounts.get(account) {
        Some(known) if !known.gone => jws.verify(&known.jwk)?,
        _ => return refuse(400, "accountDoesNotExist", "no such account"),
    }
    let payload = jws.json()?;
    let number = |at: usize| path.get(at).and_then(|id| id.parse::<usize>().ok());
    let not_found = || (404, "malformed", "not found".to_owned());
    match (path[0], number(1), path.get(2).copied(), payload) {
        ("new-order", None, None, Some(payload)) => new_order(inner, &mut state, account, &payload),
        ("order", Some(id), None, None) => {
            state.settle();
            let manner = lock(&inner.manner).clone();
            let order = state.orders.get_mut(id).filter(|order| order.account == account).ok_or_else(not_found)?;
            if order.status == "processing" {
                match (order.looks, manner.breaks) {
                    (0, true) => {
                        order.status = "invalid";
                        order.error = problem("serverInternal", "the order broke");
                        order.error["subproblems"] = json!([{"type": "urn:ietf:params:acme:error:caa",
                            "detail": "CAA forbids it", "identifier": {"type": "dns", "value": order.names[0]}}]);
                    }
                    (0, false) => order.status = "valid",
                    (looks, _) => order.looks = looks - 1,
                }
            }
            let mut said = ok(200, &state.order_json(inner, id));
            if let (Some(after), "processing" | "pending") = (manner.retry_after, state.orders[id].status) {
                said.fields.push(("retry-after", after.to_string()));
            }
            Ok(said)
        }
        ("order", Some(id), Some("finalize"), Some(payload)) => finalize(inner, &mut state, account, id, &payload),
        ("authz", Some(id), None, payload) => {
            let authz = state.authz.get_mut(id).filter(|authz| authz.account == account).ok_or_else(not_found)?;
            match payload {
                None => {}
                Some(payload) if payload == json!({"status": "deactivated"}) => authz.status = "deactivated",
                Some(_) => return Err(malformed("only deactivation")),
            }
            state.settle();
            Ok(ok(200, &state.authz_json(inner, id)))
        }
        ("chal", Some(id), Some(kind), Some(payload)) => {
            if payload != json!({}) {
                return Err(malformed("an empty object"));
            }
            let key = thumbprint(&state.accounts[account].jwk);
            let authz = state.authz.get_mut(id).filter(|authz| authz.account == account).ok_or_else(not_found)?;
            let challenge =
                authz.challenges.iter_mut().find(|challenge| challenge.kind == kind).ok_or_else(not_found)?;
            if authz.status != "pending" {
                return Err(malformed("the authorization is not pending"));
            }
            (authz.status, challenge.status) = ("processing", "processing");
            let (kind, token, name) = (challenge.kind, challenge.token.clone(), authz.name.clone());
            let inner_ = inner.clone();
            tokio::spawn(async move {
                let known = || Some(lock(&inner_.manner).clone()).filter(|m| !m.waits || m.look.http.is_some());
                let look = loop {
                    // before it is looked at, so that no change is missed
                    let changed = inner_.changed.notified();
                    match known() {
                        Some(manner) => break manner.look,
                        None => changed.await,
                    }
                };
                let verdict = validate(&look, kind, &name, &token, &format!("{token}.{key}")).await;
                let mut state = lock(&inner_.state);
                let authz = &mut state.authz[id];
                let challenge = authz.challenges.iter_mut().find(|challenge| challenge.kind == kind).expect("there");
                match verdict {
                    Ok(()) => (authz.status, challenge.status) = ("valid", "valid"),
                    Err((error, words)) => {
                        (authz.status, challenge.status) = ("invalid", "invalid");
                        challenge.error = problem(error, &words);
                    }
                }
            });
            let challenge = state.authz[id].challenges.iter().find(|challenge| challenge.kind == kind).expect("there");
            Ok(ok(200, &state.challenge_json(inner, id, challenge)))
        }
        ("cert", Some(id), other, None) => {
            let certificate = state.certificates.get(id).filter(|certificate| certificate.account == account);
            let certificate = certificate.ok_or_else(not_found)?;
            let chain = certificate.chains[usize::from(other.is_some())].clone();
            let fields = vec![("link", format!("<{}/cert/{id}/1>;rel=\"alternate\"", inner.base))];
            Ok(Said { status: 200, body: chain.into(), kind: "application/pem-certificate-chain", fields })
        }
        _ => Err(not_found()),
    }
}

fn new_account(inner: &Inner, state: &mut State, jws: &Jws, url: &str) -> Reply {
    let jwk = jws.header["jwk"].clone();
    if jwk.is_null() || !jws.header["kid"].is_null() {
        return Err(malformed("a key is needed"));
    }
    jws.verify(&jwk)?;
    let payload = jws.json()?.ok_or_else(|| malformed("payload"))?;
    let known = state.accounts.iter().position(|known| !known.gone && thumbprint(&known.jwk) == thumbprint(&jwk));
    let said = |status: u16, id: usize, state: &State| {
        let orders = format!("{}/orders/{id}", inner.base);
        let contact = &state.accounts[id].contact;
        let mut said = ok(status, &json!({"status": "valid", "contact": contact, "orders": orders, "key": jwk}));
        said.fields.push(("location", format!("{}/account/{id}", inner.base)));
        Ok(said)
    };
    if let Some(id) = known {
        return said(200, id, state);
    }
    if payload["onlyReturnExisting"] == true {
        return refuse(400, "accountDoesNotExist", "no such account");
    }
    if payload["termsOfServiceAgreed"] != true {
        return refuse(403, "userActionRequired", "the terms have to be agreed to");
    }
    let contact: Vec<String> = serde_json::from_value(payload["contact"].clone()).unwrap_or_default();
    if contact.iter().any(|contact| !contact.starts_with("mailto:") || !contact.contains('@')) {
        return refuse(400, "unsupportedContact", "mailto only");
    }
    if let Some((kid, key)) = &lock(&inner.manner).eab {
        let binding = &payload["externalAccountBinding"];
        if binding.is_null() {
            return refuse(403, "externalAccountRequired", "an external account is needed");
        }
        Jws::parse(binding)?.verify_binding(kid, key, url, &jwk)?;
    }
    state.accounts.push(Account { jwk: jwk.clone(), contact, gone: false });
    said(201, state.accounts.len() - 1, state)
}

fn new_order(inner: &Inner, state: &mut State, account: usize, payload: &Value) -> Reply {
    let manner = lock(&inner.manner).clone();
    let identifiers = payload["identifiers"].as_array().ok_or_else(|| malformed("identifiers"))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let names: Vec<String> = identifiers.iter().filter_map(|identifier| text(&identifier["value"])).collect();
    let distinct: HashSet<&String> = names.iter().collect();
    if names.is_empty() || distinct.len() != identifiers.len() {
        return Err(malformed("identifiers"));
    }
    let refused: Vec<&String> = names.iter().filter(|name| manner.refuses.contains(&name.as_str())).collect();
    if !refused.is_empty() {
        let sub = |name: &&String| {
            let mut sub = problem("rejectedIdentifier", "policy forbids it");
            sub["identifier"] = json!({"type": "dns", "value": name});
            sub
        };
        let mut body = problem("rejectedIdentifier", "some names are refused");
        body["subproblems"] = refused.iter().map(sub).collect();
        return Ok(Said { kind: "application/problem+json", ..ok(400, &body) });
    }
    let profile = text(&payload["profile"]);
    if profile.as_deref().is_some_and(|profile| profile != "short") {
        return refuse(400, "invalidProfile", "no such profile");
    }
    let replaces = text(&payload["replaces"]);
    if let Some(id) = &replaces {
        let old = state.certificates.iter_mut().find(|old| old.id == *id && old.account == account);
        let old = old.filter(|old| old.names.iter().any(|name| names.contains(name)));
        let old = old.ok_or((404, "malformed", "could not find the certificate that the order replaces".to_owned()))?;
        if std::mem::replace(&mut old.replaced, true) {
            return refuse(409, "alreadyReplaced", "another order did it");
        }
    }
    let mut authz = Vec::new();
    for name in &names {
        let wildcard = name.starts_with("*.");
        let offers = manner.offers.iter().filter(|kind| !wildcard || **kind == "dns-01");
        let challenge = |kind: &&'static str| Challenge {
            kind,
            token: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
            status: "pending",
            error: Value::Null,
        };
        let name = name.trim_start_matches("*.").to_owned();
        let challenges = offers.map(challenge).collect();
        authz.push(state.authz.len());
        state.authz.push(Authz { account, name, wildcard, status: "pending", challenges });
    }
    let order = Order {
        account,
        names,
        authz,
        status: "pending",
        error: Value::Null,
        certificate: None,
        replaces,
        profile,
        looks: manner.slow,
    };
    state.orders.push(order);
    let id = state.orders.len() - 1;
    let mut said = ok(201, &state.order_json(inner, id));
    said.fields.push(("location", format!("{}/order/{id}", inner.base)));
    Ok(said)
}

fn finalize(inner: &Inner, state: &mut State, account: usize, id: usize, payload: &Value) -> Reply {
    state.settle();
    let serial = state.certificates.len();
    let order = state.orders.get_mut(id).filter(|order| order.account == account);
    let order = order.ok_or((404, "malformed", "not found".to_owned()))?;
    if order.status != "ready" {
        return refuse(403, "orderNotReady", order.status);
    }
    let csr = payload["csr"].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let bad = |words: &str| (400, "badCSR", words.to_owned());
    let mut request = csr.and_then(Issuing::read).ok_or_else(|| bad("it does not parse or its signature is wrong"))?;
    let sorted = |names: &[String]| names.iter().cloned().collect::<std::collections::BTreeSet<_>>();
    if sorted(&request.names) != sorted(&order.names) || request.names.len() != order.names.len() {
        return Err(bad("its names are not those of the order"));
    }
    let point = &request.public_key[request.public_key.len().saturating_sub(64)..];
    if state.accounts[account].jwk["x"] == *URL_SAFE_NO_PAD.encode(&point[..point.len() / 2]) {
        return Err(bad("its key is the account's"));
    }
    let manner = lock(&inner.manner).clone();
    if manner.wrong_name {
        request.rename("other.test");
    }
    let (now, names) = (SystemTime::now(), order.names.clone());
    let dates = manner.dates.iter().find(|(name, ..)| names.iter().any(|ordered| ordered == name));
    let at = |seconds: i64| match Duration::from_secs(seconds.unsigned_abs()) {
        ago if seconds < 0 => now - ago,
        ahead => now + ahead,
    };
    let (begin, end) = dates.map_or((at(-60), now + manner.life), |(_, begin, end)| (at(*begin), at(*end)));
    let (chains, ari) = inner.issuing.issue(request, serial, [begin, end]);
    (order.status, order.certificate) = ("processing", Some(serial));
    state.certificates.push(Certificate { account, chains, id: ari, names, end, replaced: false });
    Ok(ok(200, &state.order_json(inner, id)))
}
