//! What a migration needs of the legacy dialects: tags one by one as they are read here, and the names, rules and
//! priorities that their pools get, so that what it writes cannot mean anything else than what serves.

pub(crate) use super::glob::{is_glob, quote, to_regex};
pub(crate) use super::names::fnv1;
pub(crate) use super::pool::{
    Manner, PoolKey, PrefixOptions, loop_guard, named, pool_name, prefix_rule, site_rule, slots,
};
pub(crate) use super::rank::priority;
pub(crate) use super::site::{Site, is_site, read_tag as read_site};
pub(crate) use super::urlprefix::{Read as Prefix, read_tag as read_prefix};
pub(crate) use super::urlprefix_tcp::{Route as TcpRoute, is_tcp, read as read_tcp, service_port};
