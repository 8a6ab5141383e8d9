//! What can go wrong while a DNS challenge is set, waited for or taken away.
//!
//! What always holds: no secret is in a text; what strangers said is bounded and without control
//! characters.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Why a challenge cannot be shown in DNS.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// No name that a challenge can have.
    #[error("`{name}` cannot be the name of a challenge: {reason}")]
    Name {
        /// The name, escaped.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value, token or key authorization that is not what RFC 8555 says.
    #[error("{0} of the challenge is not base64url")]
    Value(&'static str),
    /// The provider was set up in a way that cannot work.
    #[error("{what}: {reason}")]
    SetUp {
        /// Which setting.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A look-up that no resolver answered.
    #[error("no resolver answers for {kind} of {name}: {}", all(.heard))]
    Lookup {
        /// What was asked for.
        name: String,
        /// The record type.
        kind: String,
        /// Who said what.
        heard: Vec<Heard>,
    },
    /// There is nobody to ask.
    #[error("no resolver is known: set `dnsChallenge.resolvers`, or name servers in /etc/resolv.conf")]
    NoResolvers,
    /// CNAMEs that go in a circle, or on and on.
    #[error("the CNAMEs of {name} do not end: {}", .through.join(" -> "))]
    EndlessCname {
        /// Where they begin.
        name: String,
        /// The names passed.
        through: Vec<String>,
    },
    /// No name above is a zone.
    #[error("no zone was found that holds {name}; asked: {asked}")]
    NoZone {
        /// The name.
        name: String,
        /// Who was asked.
        asked: String,
    },
    /// A name server that cannot be reached or answers nothing that counts.
    #[error("{server}: {reason}")]
    Unanswered {
        /// Whom we asked.
        server: String,
        /// What happened.
        reason: String,
    },
    /// An update that the name server refused (RFC 2136).
    #[error("{server} refuses the update of {name} in zone {zone}: {code}{}", refused(.tsig))]
    Refused {
        /// The name server.
        server: String,
        /// The zone that was named.
        zone: String,
        /// The record's name.
        name: String,
        /// Its answer.
        code: Rcode,
        /// What it says of our signature.
        tsig: Option<TsigFault>,
    },
    /// An HTTP request that got no answer, or one that is too long or no JSON.
    #[error("{request}: {reason}")]
    Request {
        /// Method and address, without credentials.
        request: String,
        /// What happened.
        reason: String,
    },
    /// An HTTP answer that refuses.
    #[error("{request}: status {status}{}{text}", if .text.is_empty() { "" } else { ": " })]
    Status {
        /// Method and address, without credentials.
        request: String,
        /// The answer's status.
        status: u16,
        /// What it says.
        text: String,
        /// When to come again (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// The zone is not in the provider's account, or more than once.
    #[error("{name}: {reason}")]
    Zone {
        /// The name that is to be set.
        name: String,
        /// What was found.
        reason: String,
    },
    /// The file of the acme-dns accounts.
    #[error("{}: {reason}", .file.display())]
    Accounts {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No acme-dns account for a domain, and nowhere to get one.
    #[error(
        "{} has no acme-dns account for {domain} (it has: {known}); add one, or set ACME_DNS_API_BASE so that one is registered",
        .file.display()
    )]
    UnknownAccount {
        /// The domain.
        domain: String,
        /// The file.
        file: PathBuf,
        /// The domains that it has.
        known: String,
    },
    /// The person has to set a CNAME (once).
    #[error(
        "{} {domain}: set this record in its zone, then the next try goes on:\n{fqdn} CNAME {target}",
        if *.registered { "a new acme-dns account was registered for" } else { "the acme-dns account is not linked to" }
    )]
    CnameRequired {
        /// The domain of the certificate.
        domain: String,
        /// The name to set.
        fqdn: String,
        /// What it has to lead to.
        target: String,
        /// An account was made just now.
        registered: bool,
    },
    /// A hook program.
    #[error("{program} {action}: {fault}{}{output}", if .output.is_empty() { "" } else { "; it said: " })]
    Hook {
        /// Its path.
        program: String,
        /// `present` or `cleanup`.
        action: &'static str,
        /// How it ended.
        fault: HookFault,
        /// The end of what it wrote.
        output: String,
    },
    /// Mode RAW tells the hook token and key authorization, which were not given.
    #[error("mode RAW needs the challenge's token and key authorization")]
    RawNeedsKey,
    /// The record is not seen everywhere in time.
    #[error("after {waited:.0?} {name} does not have the value of the challenge everywhere: {}", all(.heard))]
    NotPropagated {
        /// The name that was asked for (behind CNAMEs).
        name: String,
        /// How long was waited.
        waited: Duration,
        /// Who answered what last.
        heard: Vec<Heard>,
    },
}

impl DnsError {
    /// When the provider wants to be asked again, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What a server said, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Name and address.
    pub server: String,
    /// Its answer, or why there is none.
    pub said: String,
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.server, self.said)
    }
}

fn all(heard: &[Heard]) -> String {
    heard.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn refused(tsig: &Option<TsigFault>) -> String {
    tsig.map(|fault| format!("; of our signature: {fault}")).unwrap_or_default()
}

/// Response codes of DNS (RFC 1035 section 4.1.1, RFC 2136 section 2.2), with what to do about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    /// 0
    NoError,
    /// 1
    FormErr,
    /// 2
    ServFail,
    /// 3
    NxDomain,
    /// 4
    NotImp,
    /// 5
    Refused,
    /// 6
    YxDomain,
    /// 7
    YxRrset,
    /// 8
    NxRrset,
    /// 9
    NotAuth,
    /// 10
    NotZone,
    /// Any other.
    Other(u16),
}

impl From<u16> for Rcode {
    fn from(code: u16) -> Self {
        match code {
            0 => Self::NoError,
            1 => Self::FormErr,
            2 => Self::ServFail,
            3 => Self::NxDomain,
            4 => Self::NotImp,
            5 => Self::Refused,
            6 => Self::YxDomain,
            7 => Self::YxRrset,
            8 => Self::NxRrset,
            9 => Self::NotAuth,
            10 => Self::NotZone,
            other => Self::Other(other),
        }
    }
}

impl Rcode {
    /// Its name (RFC 6895, 2.3).
    pub fn word(self) -> String {
        let word = match self {
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::YxDomain => "YXDOMAIN",
            Self::YxRrset => "YXRRSET",
            Self::NxRrset => "NXRRSET",
            Self::NotAuth => "NOTAUTH",
            Self::NotZone => "NOTZONE",
            Self::Other(code) => return format!("RCODE {code}"),
        };
        word.to_owned()
    }
}

/// Its name, and what it means as the answer to an update.
impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let means = match self {
            Self::NoError | Self::Other(_) => return f.write_str(&self.word()),
            Self::FormErr => "it does not understand the message",
            Self::ServFail => "it failed; its log tells why, often a journal that it cannot write",
            Self::NxDomain => "no such name",
            Self::NotImp => "it takes no dynamic updates",
            Self::Refused => "its policy does not let this key change this name",
            Self::YxDomain => "a name exists that should not",
            Self::YxRrset => "a record exists that should not",
            Self::NxRrset => "a record that should exist does not",
            Self::NotAuth => "it has no authority over the zone, or does not accept the key",
            Self::NotZone => "the name is not within the zone",
        };
        write!(f, "{} ({means})", self.word())
    }
}

/// What a server finds wrong with a signature (RFC 8945, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TsigFault {
    /// 16: the secret differs.
    BadSig,
    /// 17: it knows no such key.
    BadKey,
    /// 18: the clocks differ; the server's, in seconds since 1970, if it said.
    BadTime(Option<u64>),
    /// 22: truncated too much.
    BadTrunc,
    /// Any other.
    Other(u16),
}

impl fmt::Display for TsigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadSig => f.write_str("BADSIG (the secret is not the server's)"),
            Self::BadKey => f.write_str("BADKEY (it knows no key of this name and algorithm)"),
            Self::BadTime(None) => f.write_str("BADTIME (the clocks of the two machines differ)"),
            Self::BadTime(Some(theirs)) => {
                write!(f, "BADTIME (the clocks of the two machines differ; its shows {theirs} s since 1970)")
            }
            Self::BadTrunc => f.write_str("BADTRUNC"),
            Self::Other(code) => write!(f, "error {code}"),
        }
    }
}

/// How a hook program failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookFault {
    /// It cannot be run.
    #[error("cannot be run: {0}")]
    Start(String),
    /// It took too long and was killed.
    #[error("did not end within {0:?} and was killed")]
    TooSlow(Duration),
    /// It failed.
    #[error("failed with {0}")]
    Failed(String),
}

/// What a stranger said, in one line of at most `limit` characters.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line: String = words.chars().filter(|c| !c.is_control()).take(limit).collect();
    if words.chars().count() > limit {
        line.push('…');
    }
    line
}
