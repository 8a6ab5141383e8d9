//! What the proxy tells of itself: metrics, the access log, the log. All stages write to it;
//! it knows none of them.
//!
//! On the request path nothing is formatted, locked or allocated without need: a worker records a
//! finished request into its own [`worker::Observer`].

pub mod record;
