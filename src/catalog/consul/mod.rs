//! Consul.
