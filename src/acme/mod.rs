//! Certificates ordered over ACME (RFC 8555).

pub mod dns;
