//! A catalog that speaks Nomad's and Consul's HTTP API, for `rust-lb dev` and for tests.

pub mod store;
