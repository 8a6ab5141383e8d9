//! Certificates from a certificate authority that speaks ACME (RFC 8555): the account, the order with
//! its challenges, and when to renew. What to order and when is decided by the caller.
//!
//! What always holds: every wait has a limit; an order that is given up, even by dropping it, takes
//! its answers to challenges away; account and challenges lie in the storage in the form that Caddy
//! reads and writes, so that each goes on with what the other began; what the authority said reaches the
//! caller, and no secret does.
//!
//! The protocol itself (signatures, nonces, resources) is instant-acme's, over the HTTP client that the
//! rest of the process uses ([`transport`]).

mod account;
mod ari;
mod authority;
mod challenge;
mod client;
pub mod dns;
mod error;
mod issued;
mod key;
pub mod limits;
pub mod names;
mod order;
mod present;
pub mod schedule;
mod site;
mod transport;

pub use ari::Window;
pub use authority::{Authority, Eab, KeyType, Method, UnknownKeyType};
pub use challenge::{ChallengeKind, Challenges};
pub use client::{Client, Timing};
pub use error::{AcmeError, Phase, Problem, Subproblem};
pub use issued::Issued;
pub use order::Order;
