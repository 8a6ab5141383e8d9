//! One order, from the account to the checked certificate (RFC 8555, 7.4).
//!
//! A name is proved by the first configured way that the authority offers, that fits the name and that has
//! not failed; a way that cannot be set up is passed over within the order, one that the authority did
//! not accept in a new order. So an order asks the authority at most once for each way of each name.

mod finish;
mod pace;

use super::account::Accounts;
use super::ari;
use super::authority::{Authority, Method};
use super::challenge::ChallengeKind;
use super::client::Client;
use super::error::{AcmeError, Phase, Problem, said};
use super::issued::Issued;
use super::present::{Offered, Presented};
use super::transport::Transport;
use crate::certs::storage::layout;
use instant_acme::{Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder};
use pace::Pace;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Names in one certificate (Let's Encrypt's limit).
const NAMES: usize = 100;
/// A DNS name has at most so many characters (RFC 1035, section 2.3.4).
const NAME_LIMIT: usize = 253;
/// For telling an authority that an order is given up.
const GIVE_UP: Duration = Duration::from_secs(10);

/// What is ordered.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Names of the one certificate: ASCII (punycode), wildcards as `*.example.org`, addresses.
    pub names: &'a [String],
    /// From whom.
    pub authority: &'a Authority,
    /// How names are proved, in order of preference.
    pub methods: &'a [Method],
    /// PEM chain of the certificate that this one takes the place of (RFC 9773, 5).
    pub replaces: Option<&'a str>,
}

/// How an attempt ended that another may follow.
enum Failed {
    /// The authority did not accept a proof.
    Proof { name: String, kind: ChallengeKind, another: bool, error: AcmeError },
    /// It does not know the account.
    Account(String),
    /// It does not want to hear what is replaced.
    Replaces,
    /// For good.
    Order(AcmeError),
}

impl From<AcmeError> for Failed {
    fn from(error: AcmeError) -> Self {
        Self::Order(error)
    }
}

/// Where an order is, for the message when its time is over.
struct Progress(Mutex<Phase>);

impl Progress {
    fn enter(&self, phase: Phase) -> Phase {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        phase
    }

    fn now(&self) -> Phase {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that has to be proved.
struct Todo {
    /// Its place among the order's authorizations.
    place: usize,
    name: String,
    wildcard: bool,
    offered: Vec<Offered>,
    /// The words of the authority for all that it offers.
    words: Vec<String>,
    /// What was chosen, an index into the methods; `None` where nothing is to be done.
    chosen: Option<usize>,
    /// Ways that could not be set up, and why the last one could not.
    unusable: Vec<(ChallengeKind, Problem)>,
}

/// The names as an authority wants them: lower case, no final dot, each once.
fn names(given: &[String]) -> Result<Vec<String>, AcmeError> {
    let mut names: Vec<String> = Vec::with_capacity(given.len());
    for given in given {
        let name = given.trim().trim_end_matches('.').to_ascii_lowercase();
        let host = name.strip_prefix("*.").unwrap_or(&name);
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let is_name = name.len() <= NAME_LIMIT && host.split('.').all(label);
        if !is_name && name.parse::<IpAddr>().is_err() {
            return Err(AcmeError::Config(format!("`{}` is no name that a certificate can have", said(given))));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match names.len() {
        0 => Err(AcmeError::Config("an order without names".to_owned())),
        1..=NAMES => Ok(names),
        more => Err(AcmeError::Config(format!("{more} names in one order, {NAMES} are possible"))),
    }
}

/// Orders, in as many attempts as there are ways to prove the names.
pub(super) async fn run(client: &Client, order: Order<'_>) -> Result<Issued, AcmeError> {
    let names = names(order.names)?;
    let progress = Progress(Mutex::new(Phase::Directory));
    let limit = client.timing().order;
    match tokio::time::timeout(limit, attempts(client, order, &names, &progress)).await {
        Ok(result) => result,
        Err(_) => Err(AcmeError::TimedOut { phase: progress.now(), limit, retry_after: None }),
    }
}

async fn attempts(
    client: &Client,
    order: Order<'_>,
    names: &[String],
    progress: &Progress,
) -> Result<Issued, AcmeError> {
    let mut run = Run {
        client,
        authority: order.authority,
        methods: order.methods,
        names,
        progress,
        // That the old one cannot be read is no reason to have no new one.
        replaces: order.replaces.and_then(|chain| ari::certificate_id(chain).ok()),
        spent: Vec::new(),
        transport: client.transport(order.authority).await?,
    };
    let accounts = client.accounts();
    let mut gone: Option<String> = None;
    loop {
        match run.attempt(accounts, gone.as_deref()).await {
            Ok(issued) => return Ok(issued),
            Err(Failed::Proof { name, kind, another: true, error }) => {
                tracing::info!(name, %kind, %error, "another way to prove the name is tried");
                run.spent.push((name, kind));
            }
            Err(Failed::Account(location)) if gone.is_none() => gone = Some(location),
            Err(Failed::Account(_)) => {
                let detail = "the authority does not know the account that it has just made".to_owned();
                return Err(AcmeError::Nonsense { phase: Phase::NewOrder, detail });
            }
            Err(Failed::Replaces) => run.replaces = None,
            Err(Failed::Proof { error, .. } | Failed::Order(error)) => return Err(error),
        }
    }
}

/// What the attempts of an order share.
struct Run<'a> {
    client: &'a Client,
    authority: &'a Authority,
    methods: &'a [Method],
    names: &'a [String],
    progress: &'a Progress,
    replaces: Option<CertificateIdentifier<'static>>,
    /// Ways that the authority did not accept.
    spent: Vec<(String, ChallengeKind)>,
    transport: Transport,
}

fn kind_of(kind: &ChallengeType) -> Option<ChallengeKind> {
    match kind {
        ChallengeType::Http01 => Some(ChallengeKind::Http),
        ChallengeType::TlsAlpn01 => Some(ChallengeKind::TlsAlpn),
        ChallengeType::Dns01 => Some(ChallengeKind::Dns),
        _ => None,
    }
}

fn type_of(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http => ChallengeType::Http01,
        ChallengeKind::TlsAlpn => ChallengeType::TlsAlpn01,
        ChallengeKind::Dns => ChallengeType::Dns01,
    }
}

fn word_of(kind: &ChallengeType) -> String {
    match kind {
        ChallengeType::Unknown(word) => said(word),
        other => kind_of(other).map_or_else(|| "device-attest-01".to_owned(), |kind| kind.to_string()),
    }
}

impl Run<'_> {
    async fn attempt(&mut self, accounts: &Accounts, gone: Option<&str>) -> Result<Issued, Failed> {
        self.progress.enter(Phase::Account);
        let account = accounts.find(self.authority, &self.transport, gone).await?;
        let mut order = self.new_order(&account).await?;
        match self.pursue(&account, &mut order).await {
            Ok(issued) => Ok(issued),
            Err(failed) => {
                // Authorities count what is left pending.
                let _ = tokio::time::timeout(GIVE_UP, give_up(&mut order)).await;
                Err(failed)
            }
        }
    }

    async fn new_order(&self, account: &Account) -> Result<instant_acme::Order, Failed> {
        let phase = self.progress.enter(Phase::NewOrder);
        let identifier = |name: &String| match name.parse::<IpAddr>() {
            Ok(address) => Identifier::Ip(address),
            Err(_) => Identifier::Dns(name.clone()),
        };
        let identifiers: Vec<Identifier> = self.names.iter().map(identifier).collect();
        let mut new = NewOrder::new(&identifiers);
        if let Some(profile) = self.authority.profile.as_deref().filter(|profile| !profile.is_empty()) {
            new = new.profile(profile);
        }
        if let Some(replaces) = &self.replaces {
            new = new.replaces(replaces.clone());
        }
        let error = match account.new_order(&new).await {
            Ok(order) => return Ok(order),
            Err(error) => error,
        };
        // An authority without ARI, one that does not know the old certificate, or knows its successor
        // already: none of it is a reason to have no certificate. Authorities disagree on the error's type
        // (pebble says `serverInternal`), so all count but those that are about something else.
        let about_replaces = match &error {
            Error::Unsupported(_) => true,
            Error::Api(problem) => !matches!(
                &*Problem::from(problem).kind,
                "rateLimited"
                    | "accountDoesNotExist"
                    | "badNonce"
                    | "invalidProfile"
                    | "rejectedIdentifier"
                    | "unsupportedIdentifier"
                    | "userActionRequired"
            ),
            // It does not repeat what it was told (RFC 9773, 5).
            Error::Other(error) => error.to_string().contains("replaces"),
            _ => false,
        };
        if self.replaces.is_some() && about_replaces {
            tracing::info!(%error, "the authority is not told which certificate is replaced");
            return Err(Failed::Replaces);
        }
        match self.transport.error(error, phase) {
            AcmeError::Refused { problem, .. } if problem.kind == "accountDoesNotExist" => {
                tracing::warn!(account = said(account.id()), "the authority does not know the ACME account any more");
                Err(Failed::Account(account.id().to_owned()))
            }
            error => Err(Failed::Order(error)),
        }
    }

    async fn pursue(&self, account: &Account, order: &mut instant_acme::Order) -> Result<Issued, Failed> {
        let issuer = layout::issuer_key(&self.authority.directory);
        let mut presented = Presented::new(self.client, issuer);
        let proved = self.prove(account, order, &mut presented).await;
        presented.clean().await;
        proved?;
        let made = self.request().await?;
        self.finalize(order, &made.csr).await?;
        self.fetch(account, order, made).await.map_err(Failed::Order)
    }

    /// Proves all names that are not proved yet.
    async fn prove(
        &self,
        account: &Account,
        order: &mut instant_acme::Order,
        presented: &mut Presented,
    ) -> Result<(), Failed> {
        let mut todo = self.authorizations(order).await?;
        loop {
            let left = |todo: &&Todo| !todo.offered.is_empty();
            // Names that are proved together; one alone where a provider has room for one record only.
            let together = todo.iter().filter(left).any(|todo| !self.is_sequential(todo));
            let (group, rest): (Vec<Todo>, Vec<Todo>) = match together {
                true => todo.into_iter().partition(|todo| !self.is_sequential(todo)),
                false => {
                    let first = todo.iter().filter(left).map(|todo| todo.place).next();
                    todo.into_iter().partition(|todo| Some(todo.place) == first)
                }
            };
            if !group.iter().any(|todo| !todo.offered.is_empty()) {
                return Ok(());
            }
            self.prove_together(account, order, presented, group).await?;
            presented.clean().await;
            todo = rest;
        }
    }

    fn is_sequential(&self, todo: &Todo) -> bool {
        match self.ways(todo).next().and_then(|(index, _)| self.methods.get(index)) {
            Some(Method::Dns(solver)) => solver.sequential(),
            _ => false,
        }
    }

    async fn prove_together(
        &self,
        account: &Account,
        order: &mut instant_acme::Order,
        presented: &mut Presented,
        mut todo: Vec<Todo>,
    ) -> Result<(), Failed> {
        let thumbprint = account.key_thumbprint();
        self.progress.enter(Phase::Present);
        for todo in todo.iter_mut().filter(|todo| !todo.offered.is_empty()) {
            self.set_up(todo, thumbprint, presented).await?;
        }
        // All records are set before the first is waited for: name and wildcard share one.
        for todo in &mut todo {
            self.propagated(todo, thumbprint, presented).await?;
        }
        tokio::time::sleep(self.delay(&todo)).await;
        let phase = self.progress.enter(Phase::Validation);
        self.say_ready(order, &todo).await?;
        let timing = self.client.timing();
        let mut pace = Pace::new(timing, timing.validation);
        let mut handles = order.authorizations();
        let mut place = 0;
        while let Some(handle) = handles.next().await {
            let mut handle = handle.map_err(|error| self.transport.error(error, phase))?;
            place += 1;
            let Some(todo) = todo.iter().find(|todo| todo.place + 1 == place) else { continue };
            let Some(chosen) = todo.chosen else { continue };
            let kind = self.methods[chosen].kind();
            loop {
                match handle.status {
                    AuthorizationStatus::Valid => break,
                    AuthorizationStatus::Pending => {}
                    status => {
                        let error = handle.challenges.iter().find(|c| kind_of(&c.r#type) == Some(kind));
                        let problem = error.and_then(|challenge| challenge.error.as_ref()).map(Problem::from);
                        let status = || Problem::own(format!("the authorization is {status:?}").to_ascii_lowercase());
                        return Err(self.unproved(todo, kind, problem.unwrap_or_else(status)));
                    }
                }
                pace.wait(self.transport.seen().retry_after, phase).await?;
                if let Err(error) = handle.refresh().await {
                    let error = self.transport.error(error, phase);
                    if !pace.forgives(&error) {
                        return Err(error.into());
                    }
                } else {
                    pace.failures = 0;
                }
            }
        }
        Ok(())
    }

    /// Reads what has to be proved. What is proved already has nothing on offer.
    async fn authorizations(&self, order: &mut instant_acme::Order) -> Result<Vec<Todo>, Failed> {
        let phase = self.progress.enter(Phase::Authorization);
        let mut all = Vec::new();
        let mut handles = order.authorizations();
        while let Some(handle) = handles.next().await {
            let handle = handle.map_err(|error| self.transport.error(error, phase))?;
            let identifier = handle.identifier();
            let wildcard = identifier.wildcard;
            let name = identifier.to_string();
            let name = name.strip_prefix("*.").unwrap_or(&name).to_ascii_lowercase();
            let pending = match handle.status {
                AuthorizationStatus::Valid => false,
                AuthorizationStatus::Pending => true,
                status => {
                    let detail = format!("a new order's authorization for `{}` is {status:?}", said(&name));
                    return Err(AcmeError::Nonsense { phase, detail }.into());
                }
            };
            let usable = handle.challenges.iter().filter(|_| pending).filter_map(|challenge| {
                let kind = kind_of(&challenge.r#type)?;
                // Tokens are base64url (RFC 8555, 8.1); anything else does not become a path or a file.
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
                let token = (1..=256).contains(&challenge.token.len()) && challenge.token.bytes().all(plain);
                token.then(|| Offered { kind, url: challenge.url.clone(), token: challenge.token.clone() })
            });
            let offered: Vec<Offered> = usable.collect();
            let words: Vec<String> = handle.challenges.iter().map(|challenge| word_of(&challenge.r#type)).collect();
            if pending && offered.is_empty() {
                return Err(self.no_method(&name, wildcard, &words).into());
            }
            all.push(Todo { place: all.len(), name, wildcard, offered, words, chosen: None, unusable: Vec::new() });
        }
        Ok(all)
    }

    fn no_method(&self, name: &str, wildcard: bool, offered: &[String]) -> AcmeError {
        let list = |words: Vec<String>| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
        let fitting = self.methods.iter().filter(|method| method.fits(name, wildcard));
        AcmeError::NoMethod {
            name: if wildcard { format!("*.{name}") } else { name.to_owned() },
            offered: list(offered.to_vec()),
            configured: list(fitting.map(|method| method.kind().to_string()).collect()),
        }
    }

    /// The ways that are left for a name, as indices into the methods, with what is offered for them.
    fn ways<'t>(&'t self, todo: &'t Todo) -> impl Iterator<Item = (usize, &'t Offered)> {
        self.methods.iter().enumerate().filter_map(move |(index, method)| {
            let kind = method.kind();
            let spent = self.spent.iter().any(|(name, spent)| *name == todo.name && *spent == kind);
            let unusable = todo.unusable.iter().any(|(unusable, _)| *unusable == kind);
            let offered = todo.offered.iter().find(|offered| offered.kind == kind)?;
            (!spent && !unusable && method.fits(&todo.name, todo.wildcard)).then_some((index, offered))
        })
    }

    /// Sets up the first way that can be.
    async fn set_up(&self, todo: &mut Todo, thumbprint: &str, presented: &mut Presented) -> Result<(), Failed> {
        loop {
            let Some((index, offered)) = self.ways(todo).next().map(|(index, offered)| (index, offered.clone())) else {
                return Err(match todo.unusable.pop() {
                    Some((kind, problem)) => AcmeError::Challenge { name: todo.name.clone(), kind, problem }.into(),
                    None => self.no_method(&todo.name, todo.wildcard, &todo.words).into(),
                });
            };
            let method = &self.methods[index];
            let authorization = format!("{}.{thumbprint}", offered.token);
            match presented.present(method, &todo.name, &offered, &authorization).await {
                Ok(()) => {
                    todo.chosen = Some(index);
                    return Ok(());
                }
                Err(problem) => unusable(todo, method.kind(), problem),
            }
        }
    }

    /// Waits until a record can be seen; takes another way where it cannot.
    async fn propagated(&self, todo: &mut Todo, thumbprint: &str, presented: &mut Presented) -> Result<(), Failed> {
        while let Some(Method::Dns(solver)) = todo.chosen.and_then(|chosen| self.methods.get(chosen)) {
            self.progress.enter(Phase::Propagation);
            let Some(offered) = todo.offered.iter().find(|offered| offered.kind == ChallengeKind::Dns) else { break };
            let authorization = format!("{}.{thumbprint}", offered.token);
            match presented.wait(solver, &todo.name, &authorization).await {
                Ok(()) => break,
                Err(problem) => unusable(todo, ChallengeKind::Dns, problem),
            }
            self.set_up(todo, thumbprint, presented).await?;
        }
        Ok(())
    }

    /// The longest pause that is wanted before the authority looks at one of these.
    fn delay(&self, all: &[Todo]) -> Duration {
        let methods = all.iter().filter_map(|todo| self.methods.get(todo.chosen?));
        let delay = methods.map(|method| match method {
            Method::Http => self.authority.http_delay,
            Method::TlsAlpn => self.authority.tls_delay,
            Method::Dns(_) => Duration::ZERO,
        });
        delay.max().unwrap_or_default()
    }

    /// Tells the authority that it may look.
    async fn say_ready(&self, order: &mut instant_acme::Order, all: &[Todo]) -> Result<(), Failed> {
        let mut handles = order.authorizations();
        let mut place = 0;
        while let Some(handle) = handles.next().await {
            let mut handle = handle.map_err(|error| self.transport.error(error, Phase::Validation))?;
            place += 1;
            let Some(todo) = all.iter().find(|todo| todo.place + 1 == place) else { continue };
            let Some(chosen) = todo.chosen else { continue };
            let kind = self.methods[chosen].kind();
            let Some(mut challenge) = handle.challenge(type_of(kind)) else { continue };
            if let Err(error) = challenge.set_ready().await {
                // The challenge's own error comes in an answer that is well.
                let well = self.transport.seen().status.is_some_and(|status| status.is_success());
                return Err(match error {
                    Error::Api(problem) if well => self.unproved(todo, kind, Problem::from(&problem)),
                    error => self.transport.error(error, Phase::Validation).into(),
                });
            }
        }
        Ok(())
    }

    fn unproved(&self, todo: &Todo, kind: ChallengeKind, problem: Problem) -> Failed {
        let another = self.ways(todo).any(|(index, _)| self.methods[index].kind() != kind);
        let (name, limited) = (todo.name.clone(), problem.kind == "rateLimited");
        let shown = if todo.wildcard { format!("*.{name}") } else { name.clone() };
        let error = AcmeError::Challenge { name: shown, kind, problem };
        Failed::Proof { name, kind, another: another && !limited, error }
    }
}

/// Notes a way that could not be set up.
fn unusable(todo: &mut Todo, kind: ChallengeKind, problem: Problem) {
    tracing::warn!(name = todo.name, %kind, %problem, "this way to prove the name cannot be used");
    todo.chosen = None;
    todo.unusable.push((kind, problem));
}

/// Deactivates what is left pending of an order.
async fn give_up(order: &mut instant_acme::Order) {
    let mut handles = order.authorizations();
    while let Some(handle) = handles.next().await {
        let Ok(mut handle) = handle else { return };
        if handle.status == AuthorizationStatus::Pending {
            // Best effort: the authority forgets it some day.
            let _ = handle.deactivate().await;
        }
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
