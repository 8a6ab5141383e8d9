//! What the proxy tells of itself: metrics, the access log, the log. All stages write to it;
//! it knows none of them.
//!
//! On the request path nothing is formatted, locked or allocated without need: a worker records a
//! finished request into its own [`worker::Observer`]. A scrape asks each worker for a copy of its
//! counts through a channel and adds them up; the access log goes in batches through a bounded
//! queue to a thread of its own, which drops (and counts) what it cannot write in time.

pub mod access;
mod access_line;
pub mod access_options;
mod family;
mod line;
pub mod log;
mod memo;
pub mod metrics;
mod process;
pub mod record;
mod shard;
pub mod worker;
mod writer;
pub mod zone;
