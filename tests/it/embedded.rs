//! The embedded catalog is no kinder than the real ones: what was recorded of those, asked of it;
//! and each behaviour that a watcher must stand, on request.

#[path = "embedded/consul.rs"]
mod consul;
#[path = "embedded/nomad.rs"]
mod nomad;
#[path = "embedded/raw.rs"]
mod raw;
#[path = "embedded/replay.rs"]
mod replay;
#[path = "embedded/whole.rs"]
mod whole;
