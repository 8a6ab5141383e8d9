//! What definitions are called in messages, by the section and the part of it that they stand in.

/// The word for a definition, in messages.
pub(super) fn word(section: &str, part: &str) -> &'static str {
    match (section, part) {
        ("http", "routers") => "router",
        ("http", "services") => "service",
        ("http", "middlewares") => "middleware",
        ("http", _) => "serversTransport",
        ("tcp", "routers") => "TCP router",
        ("tcp", "services") => "TCP service",
        ("tcp", "middlewares") => "TCP middleware",
        ("tcp", _) => "TCP serversTransport",
        ("udp", "routers") => "UDP router",
        ("udp", _) => "UDP service",
        (_, "options") => "TLS option",
        (_, "stores") => "TLS store",
        _ => "TLS certificate",
    }
}

/// What happens instead of what it declares.
pub(super) fn not_served(section: &str, part: &str) -> &'static str {
    match (section, part) {
        ("udp", _) => "no UDP packet is passed on",
        (_, "stores") => "the store `default` alone serves anybody",
        _ => "only those of the default store with both `certFile` and `keyFile` are served",
    }
}
