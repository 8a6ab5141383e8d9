//! Who a request comes from, for limits and lists: which address counts, or which other part of the request.

use super::networks;
use crate::declare;
use ipnet::IpNet;
use std::sync::Arc;

/// Which address is the client's.
#[derive(Debug, Clone)]
pub enum Address {
    /// The TCP peer's; of IPv6 so many bits.
    Peer(Option<u8>),
    /// The how-manieth of `X-Forwarded-For` from the right; of IPv6 so many bits.
    Depth(usize, Option<u8>),
    /// The first of `X-Forwarded-For` from the right that is in none of these.
    Outside(Vec<IpNet>),
}

/// What requests of one source have in common.
#[derive(Debug, Clone)]
pub enum Criterion {
    /// The client's address.
    Address(Address),
    /// The value of this field, in lower case.
    Field(Arc<str>),
    /// The host.
    Host,
}

impl Address {
    /// Of what was declared.
    ///
    /// # Errors
    /// The option that cannot be used, and why.
    pub fn new(declared: Option<&declare::IpStrategy>) -> Result<Self, String> {
        let Some(declared) = declared else { return Ok(Self::Peer(None)) };
        let subnet = || match declared.ipv6_subnet {
            None => Ok(None),
            Some(bits) => match u8::try_from(bits) {
                Ok(bits @ 1..=128) => Ok(Some(bits)),
                _ => Err(format!("`ipStrategy.ipv6Subnet`: expected 1 to 128, got `{bits}`")),
            },
        };
        if let Some(depth) = usize::try_from(declared.depth).ok().filter(|depth| *depth > 0) {
            return Ok(Self::Depth(depth, subnet()?));
        }
        if declared.depth < 0 {
            return Err(format!("`ipStrategy.depth`: expected 0 or more, got `{}`", declared.depth));
        }
        if !declared.excluded_ips.is_empty() {
            return networks("ipStrategy.excludedIPs", &declared.excluded_ips).map(Self::Outside);
        }
        Ok(Self::Peer(subnet()?))
    }
}

impl Criterion {
    /// Of what was declared; `or` if nothing was.
    ///
    /// # Errors
    /// The option that cannot be used, and why.
    pub fn new(declared: Option<&declare::SourceCriterion>, or: Self) -> Result<Self, String> {
        let Some(declared) = declared else { return Ok(or) };
        let (field, host) = (!declared.request_header_name.is_empty(), declared.request_host);
        if usize::from(declared.ip_strategy.is_some()) + usize::from(field) + usize::from(host) > 1 {
            return Err(
                "`sourceCriterion`: it can name one of `ipStrategy`, `requestHeaderName` and `requestHost`".into()
            );
        }
        if field {
            let name = &declared.request_header_name;
            if http::HeaderName::try_from(&**name).is_err() {
                return Err(format!("`sourceCriterion.requestHeaderName`: `{name}` is not the name of a field"));
            }
            return Ok(Self::Field(name.to_ascii_lowercase().into()));
        }
        match &declared.ip_strategy {
            Some(strategy) => Address::new(Some(strategy)).map(Self::Address),
            None if host => Ok(Self::Host),
            None => Ok(or),
        }
    }
}
