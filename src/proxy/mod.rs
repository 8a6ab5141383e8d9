//! The life of one request, from an accepted socket to the finished record.
//!
//! Its phases, by the names that code and log use: *accept* (`accept`), *handshake* (`handshake`,
//! `connection`), *head* (`head`, `forwarded`), *route* (`routes`), *middlewares in*
//! ([`crate::middleware::enter`]), *choose*, *connect*, *send*, *receive* (`forward`), *middlewares
//! out* ([`crate::middleware::secure`]), *finish* (`finish`). The walk itself is `request`.
//!
//! What always holds: a worker is one thread; nothing on the way of a request takes a lock or
//! crosses to another thread. A request is routed by one snapshot of the table and ends on it,
//! whatever is published meanwhile. Whatever ends a request, its record is handed to the sink once.

mod accept;
mod connect_protocol;
mod connection;
mod finish;
mod flood;
mod forward;
mod forwarded;
mod handshake;
mod head;
mod hop;
mod preface;
pub mod preview;
mod request;
mod routes;
mod settings;
mod tunnel;
mod wait;
pub mod worker;

pub use settings::{EntryPoint, Settings, TlsSource, ToTls, Trust};
