//! Certificates from a certificate authority that speaks ACME (RFC 8555): the account, the order with
//! its challenges, and when to renew. What to order and when is decided by the caller.
//!
//! What always holds: every wait has a limit; an order that is given up, even by dropping it, takes
//! its answers to challenges away; account and challenges lie in the storage in the form that Caddy
//! reads and writes, so that each goes on with what the other began; what the authority said reaches the
//! caller, and no secret does.
//!
//! The protocol itself (signatures, nonces, resources) is instant-acme's, over the HTTP client that the
//! rest of the process uses ([`transport`]). Without the cargo feature `acme` only [`Challenges`] is
//! here, which then has no answers of its own.

#[cfg(feature = "acme")]
mod account;
#[cfg(feature = "acme")]
mod ari;
#[cfg(feature = "acme")]
mod authority;
mod challenge;
#[cfg(feature = "acme")]
mod client;
#[cfg(feature = "acme")]
pub mod dns;
#[cfg(feature = "acme")]
mod error;
#[cfg(feature = "acme")]
mod issued;
#[cfg(feature = "acme")]
mod key;
#[cfg(feature = "acme")]
mod order;
#[cfg(feature = "acme")]
mod present;
#[cfg(feature = "acme")]
mod transport;

#[cfg(feature = "acme")]
pub use ari::Window;
#[cfg(feature = "acme")]
pub use authority::{Authority, Eab, KeyType, Method, UnknownKeyType};
pub use challenge::{ChallengeKind, Challenges};
#[cfg(feature = "acme")]
pub use client::{Client, Timing};
#[cfg(feature = "acme")]
pub use error::{AcmeError, Phase, Problem, Subproblem};
#[cfg(feature = "acme")]
pub use issued::Issued;
#[cfg(feature = "acme")]
pub use order::Order;
