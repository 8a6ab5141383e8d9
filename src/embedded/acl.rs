//! Tokens and what they allow, as far as the answers to a watcher depend on it.

use crate::model::Secret;
use std::collections::{BTreeSet, HashMap};

/// A set of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// None.
    #[default]
    Nothing,
    /// All.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Scope {
    /// Exactly these names.
    pub fn only<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Self {
        Self::Only(names.into_iter().map(Into::into).collect())
    }

    /// Whether a name is in it.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// What a Nomad token allows. All false is a token without a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NomadToken {
    /// A management token.
    pub management: bool,
    /// Namespaces with `read-job`.
    pub read_job: Scope,
    /// Namespaces with `submit-job`.
    pub submit_job: Scope,
    /// Namespaces with any other capability, such as `list-jobs`; seen in `/v1/namespaces` alone.
    pub other: Scope,
    /// Whether it may read the agent.
    pub agent: bool,
    /// A workload identity: reads services of any single namespace without a policy.
    pub workload_identity: bool,
}

impl NomadToken {
    /// `read-job` in these namespaces.
    pub fn read(read_job: Scope) -> Self {
        Self { read_job, ..Self::default() }
    }

    /// Everything.
    pub fn management() -> Self {
        Self { management: true, ..Self::default() }
    }
}

/// What a Consul token allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsulToken {
    /// Services it may read.
    pub services: Scope,
    /// Whether it may read nodes; without it the health of every service is an empty list.
    pub nodes: bool,
    /// Services it may register and deregister.
    pub write: Scope,
    /// Whether it may read the agent.
    pub agent: bool,
}

impl ConsulToken {
    /// `service_prefix "" { policy = "read" }` and `node_prefix "" { policy = "read" }`.
    pub fn catalog() -> Self {
        Self { services: Scope::All, nodes: true, ..Self::default() }
    }

    /// Everything.
    pub fn management() -> Self {
        Self { services: Scope::All, nodes: true, write: Scope::All, agent: true }
    }
}

/// Access control that is on: tokens by secret, and what those without one may do.
#[derive(Debug, Clone, Default)]
pub struct Acl<T> {
    tokens: HashMap<Secret, T>,
    anonymous: T,
}

impl<T: Default + Clone> Acl<T> {
    /// On, with no token: the default is to deny.
    pub fn deny() -> Self {
        Self { tokens: HashMap::new(), anonymous: T::default() }
    }

    /// With this token besides.
    pub fn token(mut self, secret: &str, token: T) -> Self {
        self.tokens.insert(Secret::new(secret), token);
        self
    }

    /// With these rights for those who send no token.
    pub fn anonymous(mut self, token: T) -> Self {
        self.anonymous = token;
        self
    }

    /// The rights of a secret; `None` when there is no such token.
    pub fn rights(&self, secret: Option<&str>) -> Option<T> {
        match secret {
            None => Some(self.anonymous.clone()),
            Some(secret) => self.tokens.get(&Secret::new(secret)).cloned(),
        }
    }
}
