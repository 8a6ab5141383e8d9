//! The life of one request, from an accepted socket to the finished record.
//!
//! Its phases, by the names that code and log use: *accept* (`accept`), *handshake* (`handshake`),
//! *head* (`head`, `forwarded`), *route* (`routes`), *middlewares in* (`request`), *choose* and *connect* (`service`, `choose`),
//! *send* and *receive* (`http1`, `http2`; copies: `mirror`), *middlewares out* ([`crate::middleware::secure`]), *finish* (`finish`). What
//! lies between head and choice is the same for all protocols; `http1` and `http2` are the two ways in and out. What
//! belongs to TCP routers takes its own way from the handshake on (`tcp`).
//!
//! What always holds: a worker is one thread; nothing on the way of a request takes a lock or
//! crosses to another thread. A request is routed by one snapshot of the table and ends on it,
//! whatever is published meanwhile. Whatever ends a request, its record is handed to the sink once.

mod accept;
mod buffers;
#[cfg(test)]
mod buffers_tests;
mod certify;
mod choose;
mod client;
#[cfg(test)]
mod client_tests;
mod connect_protocol;
mod crew;
mod deadline;
mod failure;
mod finish;
mod flood;
mod forwarded;
mod frames;
#[cfg(test)]
mod frames_tests;
mod handshake;
mod head;
mod hop;
mod http1;
mod http2;
mod lasting;
mod logged;
mod mirror;
mod over_h2;
pub mod preview;
mod proxy_protocol;
mod request;
mod retry;
mod room;
mod routes;
#[cfg(test)]
mod scripted;
mod sender;
mod service;
mod settings;
mod standing;
mod sticky;
mod stream;
mod tcp;
mod wait;
pub mod worker;

pub use certify::{Certification, Certifier, Known};
pub use crew::Crew;
pub use settings::{EntryPoint, HeadRules, Settings, TlsByName, TlsChoice, TlsSource, ToTls, Trust, Underscores};
