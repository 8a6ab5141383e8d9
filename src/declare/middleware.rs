//! HTTP middlewares: the kinds that are served as typed values, all others as a tree of their
//! options, so that every one can be printed and compared.

use super::{CircuitBreaker, Headers, InFlightReq, IpStrategy, RateLimit, Retry, Source, is_default};
use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A middleware. Kinds that rust-lb knows but does not serve yet are kept as declared: a router
/// that names one is refused with a diagnostic, never served without it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Middleware {
    /// What it does.
    #[serde(flatten)]
    pub kind: MiddlewareKind,
    /// Where it was declared, for messages; not part of what it is.
    #[serde(skip)]
    pub source: Source,
}

/// What a middleware does (<https://doc.traefik.io/traefik/middlewares/http/overview/>). One of a
/// served kind with an option that its typed form does not hold is kept as declared, too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum MiddlewareKind {
    /// Cuts the first of these prefixes that fits off the path.
    StripPrefix {
        /// Raw prefixes.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prefixes: Vec<Arc<str>>,
    },
    /// Puts a prefix before the path.
    AddPrefix {
        /// The prefix.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        prefix: Arc<str>,
    },
    /// rust-lb's own, between Fabio's `strip=` and `prepend=`: a path of which nothing is left becomes `/`.
    LeadingSlash {},
    /// Redirects to another scheme, and port where given.
    #[serde(rename_all = "camelCase")]
    RedirectScheme {
        /// `https`.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        scheme: Arc<str>,
        /// Port; empty means the scheme's default.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        port: Arc<str>,
        /// 301 (308 for other methods than GET) instead of 302 (307).
        #[serde(default, skip_serializing_if = "is_default")]
        permanent: bool,
    },
    /// Redirects what an expression matches, the whole URL
    /// (<https://doc.traefik.io/traefik/middlewares/http/redirectregex/>).
    #[serde(rename_all = "camelCase")]
    RedirectRegex {
        /// The expression.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        regex: Arc<str>,
        /// The new URL, with `${1}` for what groups matched.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        replacement: Arc<str>,
        /// 301 (308 for other methods than GET) instead of 302 (307).
        #[serde(default, skip_serializing_if = "is_default")]
        permanent: bool,
    },
    /// rust-lb's own, for Fabio's `redirect=<status>,<url>` (<https://fabiolb.net/feature/http-redirects/>).
    PrefixRedirect {
        /// The target, in which `$host` and `$path` stand for the request's.
        url: Arc<str>,
        /// Status of the answer, whatever the method.
        status: u16,
        /// Cut off the request's path.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        strip: Arc<str>,
        /// Put before what is left of it.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        prepend: Arc<str>,
        /// The port of HTTPS where the redirect leads there on the request's own host; in place of any in
        /// the target. Empty means 443.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<Arc<str>>,
    },
    /// Sets and takes off fields of requests and answers; CORS; security headers
    /// (<https://doc.traefik.io/traefik/middlewares/http/headers/>).
    Headers(Box<Headers>),
    /// rust-lb's own, for Fabio's `allow=`: 403 unless the peer, and every address that
    /// `X-Forwarded-For` names, is in one of the networks.
    #[serde(rename_all = "camelCase")]
    PrefixAllowList {
        /// The networks.
        source_range: Vec<Arc<str>>,
    },
    /// rust-lb's own, for Fabio's `deny=`: 403 if the peer, or an address that `X-Forwarded-For`
    /// names, is in one of the networks.
    #[serde(rename_all = "camelCase")]
    PrefixDenyList {
        /// The networks.
        source_range: Vec<Arc<str>>,
    },
    /// 403 unless the client is in one of the networks: the TCP peer, or who `ipStrategy` says
    /// (<https://doc.traefik.io/traefik/middlewares/http/ipallowlist/>).
    #[serde(rename_all = "camelCase")]
    IpAllowList {
        /// Addresses and networks.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        source_range: Vec<Arc<str>>,
        /// Which address is the client's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ip_strategy: Option<IpStrategy>,
        /// Status of the refusal; 0 means 403.
        #[serde(default, skip_serializing_if = "is_default")]
        reject_status_code: u16,
    },
    /// The old name of `ipAllowList`.
    #[serde(rename_all = "camelCase")]
    IpWhiteList {
        /// Addresses and networks.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        source_range: Vec<Arc<str>>,
        /// Which address is the client's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ip_strategy: Option<IpStrategy>,
    },
    /// Replaces the path (<https://doc.traefik.io/traefik/middlewares/http/replacepath/>).
    ReplacePath {
        /// The path, escaped.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        path: Arc<str>,
    },
    /// Rewrites a path that an expression matches
    /// (<https://doc.traefik.io/traefik/middlewares/http/replacepathregex/>).
    ReplacePathRegex {
        /// The expression, over the escaped path.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        regex: Arc<str>,
        /// What stands for each match, with `${1}` for what groups matched.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        replacement: Arc<str>,
    },
    /// Cuts what an expression matches off the path's beginning
    /// (<https://doc.traefik.io/traefik/middlewares/http/stripprefixregex/>).
    StripPrefixRegex {
        /// The expressions, over the decoded path.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        regex: Vec<Arc<str>>,
    },
    /// Several under one name (<https://doc.traefik.io/traefik/middlewares/http/chain/>).
    Chain {
        /// Their names, in order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        middlewares: Vec<Arc<str>>,
    },
    /// Limits requests by time.
    RateLimit(Box<RateLimit>),
    /// Limits requests at a time.
    InFlightReq(Box<InFlightReq>),
    /// Tries another time.
    Retry(Box<Retry>),
    /// Stops asking a service that fails.
    CircuitBreaker(Box<CircuitBreaker>),
    /// Asks for a user and a password (<https://doc.traefik.io/traefik/middlewares/http/basicauth/>).
    #[serde(rename_all = "camelCase")]
    BasicAuth {
        /// `name:hash`, as `htpasswd` writes them.
        #[serde(default, skip_serializing_if = "Hashes::is_empty")]
        users: Hashes,
        /// File of such lines.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        users_file: Arc<str>,
        /// What the client is told that it is for; empty means `traefik`.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        realm: Arc<str>,
        /// Servers do not get the credentials.
        #[serde(default, skip_serializing_if = "is_default")]
        remove_header: bool,
        /// Field in which servers get the user's name.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        header_field: Arc<str>,
        /// rust-lb's own, for Fabio's schemes: what is no hash in the file is the password itself.
        #[serde(skip)]
        plain: bool,
    },
    /// rust-lb's own: nobody gets through. What stands where an access rule cannot be read or used.
    Refuse {
        /// Status of the answer.
        status: u16,
    },
    /// A kind of Traefik's that is not served yet: its name and options as declared.
    #[serde(untagged)]
    NotServed(NotServed),
}

impl MiddlewareKind {
    /// The middleware that stands in a declaration as kinds with their options.
    pub fn of(kinds: Map<String, Value>) -> Self {
        serde_json::from_value(Value::Object(kinds.clone())).unwrap_or_else(|_| Self::NotServed(NotServed::of(kinds)))
    }
}

/// Users with the hashes of their passwords; not printed for debugging.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hashes(pub Vec<Arc<str>>);

impl Hashes {
    /// True when there is no user.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Hashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hashes({})", self.0.len())
    }
}

/// A middleware that is known and not served yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NotServed {
    /// Name of the kind in Traefik's spelling (`basicAuth`). Empty if it was declared as of no or
    /// several kinds; then the options are the kinds.
    pub kind: Arc<str>,
    /// Its options, as declared.
    pub options: Options,
}

impl NotServed {
    fn of(mut kinds: Map<String, Value>) -> Self {
        let mut all = kinds.iter_mut();
        if let (Some((kind, Value::Object(options))), None) = (all.next(), all.next()) {
            return Self { kind: kind.as_str().into(), options: Options(std::mem::take(options)) };
        }
        kinds.sort_keys();
        Self { kind: Arc::default(), options: Options(kinds) }
    }
}

impl<'de> Deserialize<'de> for NotServed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kinds = Map::<String, Value>::deserialize(deserializer)?;
        if kinds.values().any(|options| !options.is_object()) {
            return Err(D::Error::custom("expected the kind of a middleware with its options"));
        }
        Ok(Self::of(kinds))
    }
}

impl Serialize for NotServed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.kind.is_empty() {
            return self.options.serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&*self.kind, &self.options)?;
        map.end()
    }
}

/// Options as a tree in Traefik's spelling. `Debug` shows their names alone: a value may be a key or a password.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options(pub Map<String, Value>);

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Deref for Options {
    type Target = Map<String, Value>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FromIterator<(Arc<str>, Arc<str>)> for Options {
    /// Options that are texts, by dotted path.
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(texts: I) -> Self {
        let mut options = Map::new();
        for (path, text) in texts {
            let mut at = &mut options;
            let mut parts = path.split('.').peekable();
            while let Some(part) = parts.next() {
                if parts.peek().is_none() {
                    at.insert(part.to_owned(), Value::from(&*text));
                    break;
                }
                let below = at.entry(part).or_insert_with(|| Value::Object(Map::new()));
                match below {
                    Value::Object(map) => at = map,
                    // a text stands there already: the first one stays
                    _ => break,
                }
            }
        }
        Self(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> MiddlewareKind {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn reads_and_prints_traefiks_form() {
        for form in [
            json!({"stripPrefix": {"prefixes": ["/a"]}}),
            json!({"stripPrefix": {"prefixes": ["/a"], "forceSlash": false}}),
            json!({"addPrefix": {}}),
            json!({"redirectScheme": {"scheme": "https", "permanent": true}}),
            json!({"basicAuth": {"users": ["a:b"]}}),
            json!({"addPrefix": {"prefix": "/x"}, "chain": {"middlewares": ["a"]}}),
        ] {
            assert_eq!(serde_json::to_value(read(form.clone())).unwrap(), form);
        }
        assert!(serde_json::from_value::<MiddlewareKind>(json!({"addPrefix": 1})).is_err());
        assert!(serde_json::from_value::<MiddlewareKind>(json!("x")).is_err());
    }

    #[test]
    fn a_served_kind_is_typed_unless_it_says_more() {
        let strip = MiddlewareKind::StripPrefix { prefixes: vec!["/a".into()] };
        assert_eq!(read(json!({"stripPrefix": {"prefixes": ["/a"]}})), strip);
        let MiddlewareKind::NotServed(more) = read(json!({"stripPrefix": {"forceSlash": true}})) else { panic!() };
        assert_eq!(&*more.kind, "stripPrefix");
        let MiddlewareKind::NotServed(several) = read(json!({"chain": {}, "addPrefix": {}})) else { panic!() };
        let kinds: Vec<&str> = several.options.keys().map(String::as_str).collect();
        assert_eq!((&*several.kind, kinds), ("", vec!["addPrefix", "chain"]));
    }

    #[test]
    fn texts_by_path_make_a_tree() {
        let texts: [(Arc<str>, Arc<str>); 2] = [("a.b".into(), "1".into()), ("c".into(), "2".into())];
        let options: Options = texts.into_iter().collect();
        assert_eq!(serde_json::to_value(options).unwrap(), json!({"a": {"b": "1"}, "c": "2"}));
    }
}
