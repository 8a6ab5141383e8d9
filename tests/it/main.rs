//! The one integration test binary: a module a capability, `support` for what they share.

mod admin;
mod architecture;
mod auth;
mod catalog;
mod cli;
mod config;
mod corpora;
mod embedded;
mod explain;
mod failures;
mod files;
mod grpc;
mod h1;
mod hind;
mod middleware;
mod proxy;
mod real;
mod render;
mod rule;
mod smuggling;
mod spine;
mod support;
mod table;
mod tags;
mod transport;
