//! `rust-lb`: from a tag in a catalog to a served request.
//!
//! The data's journey is the architecture:
//!
//! ```text
//! catalog -> tags -> (declare) -> table::build -> [swap] -> listen -> proxy -> middleware -> balance -> upstream
//! ```
//!
//! Two things are kept apart. The **table** is what should be: a pure, immutable value, decoded
//! from tags, compared, printed and tested without a socket. The **registry** (in [`upstream`]) is
//! what is: pools and counters by the identity of a server, which outlive every table. A catalog
//! change costs what changed and touches no traffic that it does not concern.
//!
//! Control side (may wait, may fail): [`catalog`], [`tags`], [`declare`], [`rule`], [`table`].
//! Data side (only reads): [`listen`], [`proxy`], [`middleware`], [`balance`], [`upstream`].
//! [`runtime`] wires both; [`cli`] starts it. See `ARCHITECTURE.md`.

pub mod acme;
pub mod api;
pub mod balance;
pub mod catalog;
pub mod certs;
pub mod cli;
pub mod compare;
pub mod config;
pub mod declare;
pub mod diagnostic;
pub mod document;
pub mod embedded;
pub mod explain;
pub mod http;
pub mod listen;
pub mod middleware;
pub mod migrate;
pub mod model;
pub mod observe;
pub mod proxy;
pub mod rule;
pub mod runtime;
pub mod table;
pub mod tags;
pub mod upstream;
