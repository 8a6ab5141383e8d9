//! The state of the embedded catalogs, without IO: services, indexes, and which blocked query
//! wakes at which change. `nomad` and `consul` hold one product each; both build on `radix` (who
//! watches which part of a table) and `wake` (who sleeps on what).

pub mod consul;
pub mod nomad;
pub mod radix;
mod registration;
pub mod wake;

use tokio::sync::futures::OwnedNotified;

/// The answer to a query at one moment, and what to sleep on for a later one.
#[derive(Debug)]
pub struct Read<T> {
    /// The query's index, as the header shows it.
    pub index: u64,
    /// The rows.
    pub value: T,
    /// Completes when the query is worth running again. Its result may well be the same.
    pub changed: OwnedNotified,
}
