//! Certificates by ACME (RFC 8555).

pub mod limits;
pub mod names;
pub mod schedule;
