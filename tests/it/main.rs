//! The one integration test binary: a module a capability, `support` for what they share.

mod admin;
mod catalog;
mod config;
mod embedded;
mod proxy;
mod support;
mod table;
mod tags;
