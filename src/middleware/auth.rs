//! Traefik's `basicAuth` (<https://doc.traefik.io/traefik/middlewares/http/basicauth/>, RFC 7617), which
//! also stands for Fabio's `auth=`.
//!
//! What always holds: a worker never works out a slow hash itself, it asks for it ([`Question`]); no
//! more of them run at once than [`AT_ONCE`], in the whole process. Verdicts are remembered under a
//! keyed digest of hash and password, so that a changed hash counts at once and nothing of a password
//! stays in memory; how many and how long is bounded. A user that is not there takes as long as one
//! that is. Files are read elsewhere ([`UserFiles`]); one that was not read lets nobody in.

use super::htpasswd;
use crate::http::{Exchange, HeaderName, HeaderValue, Made, Reason, StatusCode, name};
use crate::table::Users;
use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Slow hashes that are worked out at once.
const AT_ONCE: usize = 2;
/// Requests that wait for one, beyond which they are turned away.
const WAITING: usize = 64;
/// Good verdicts that are remembered, and how long.
const GOOD: (usize, Duration) = (1_024, Duration::from_secs(600));
/// Bad ones: whoever tries passwords pushes out other bad ones only.
const BAD: (usize, Duration) = (256, Duration::from_secs(30));

/// What the files named by `usersFile` hold, by path; shared by all workers, written by who reads them.
#[derive(Debug, Clone, Default)]
pub struct UserFiles(Arc<ArcSwap<BTreeMap<Arc<str>, Arc<Users>>>>);

impl UserFiles {
    /// Puts new contents in force.
    pub fn publish(&self, files: BTreeMap<Arc<str>, Arc<Users>>) {
        self.0.store(Arc::new(files));
    }

    /// What is in force.
    pub fn current(&self) -> Arc<BTreeMap<Arc<str>, Arc<Users>>> {
        self.0.load_full()
    }
}

/// What `basicAuth` says.
pub(super) struct Basic<'a> {
    pub(super) users: &'a Users,
    pub(super) file: &'a str,
    pub(super) realm: &'a str,
    pub(super) remove_header: bool,
    pub(super) header_field: &'a str,
    /// Words of a file that are no hashes are passwords.
    pub(super) plain: bool,
}

/// A password whose hash has to be worked out elsewhere.
pub struct Question {
    hash: Arc<str>,
    password: Vec<u8>,
    plain: bool,
    key: Key,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question(***)")
    }
}

/// The slow hashes that may be worked out at once, in the whole process.
static PLACES: LazyLock<(Semaphore, Semaphore)> =
    LazyLock::new(|| (Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE + WAITING)));

impl Question {
    /// Works the hash out on a thread that may block, and remembers the verdict.
    ///
    /// # Errors
    /// The answer when too many wait already.
    pub async fn ask(self, guard: &Guard) -> Result<(), Made> {
        let busy = || Made::unavailable(Reason::QueueFull);
        let _waiting = PLACES.1.try_acquire().map_err(|_| busy())?;
        let _running = PLACES.0.acquire().await.map_err(|_| busy())?;
        let Self { hash, password, plain, key } = self;
        let fits = tokio::task::spawn_blocking(move || htpasswd::fits(&hash, &password, plain));
        let fits = fits.await.map_err(|_| Made::status(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal))?;
        guard.verdicts.borrow_mut().remember(key, fits, Instant::now());
        Ok(())
    }

    /// The same at once, for who has the time.
    pub(super) fn answer(self, guard: &Guard) {
        let fits = htpasswd::fits(&self.hash, &self.password, self.plain);
        guard.verdicts.borrow_mut().remember(self.key, fits, Instant::now());
    }
}

/// What a worker knows of users: files and verdicts.
#[derive(Debug)]
pub struct Guard {
    files: UserFiles,
    verdicts: RefCell<Verdicts>,
    salt: hmac::Key,
}

impl Guard {
    /// A guard that has seen nobody.
    pub fn new(files: UserFiles) -> Self {
        let mut salt = [0; 32];
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut salt);
        Self { files, verdicts: RefCell::default(), salt: hmac::Key::new(hmac::HMAC_SHA256, &salt) }
    }

    fn key(&self, hash: &str, password: &[u8]) -> Key {
        let mut context = hmac::Context::with_key(&self.salt);
        context.update(&(hash.len() as u64).to_be_bytes());
        context.update(hash.as_bytes());
        context.update(password);
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        key
    }
}

type Key = [u8; 32];

#[derive(Debug, Default)]
struct Verdicts {
    good: HashMap<Key, Instant>,
    bad: HashMap<Key, Instant>,
}

impl Verdicts {
    fn of(&self, key: &Key, now: Instant) -> Option<bool> {
        let fresh = |at: &Instant, age: Duration| now.saturating_duration_since(*at) < age;
        let good = self.good.get(key).filter(|at| fresh(at, GOOD.1)).map(|_| true);
        good.or_else(|| self.bad.get(key).filter(|at| fresh(at, BAD.1)).map(|_| false))
    }

    fn remember(&mut self, key: Key, fits: bool, now: Instant) {
        let (kept, (most, age)) = if fits { (&mut self.good, GOOD) } else { (&mut self.bad, BAD) };
        if kept.len() >= most {
            kept.retain(|_, at| now.saturating_duration_since(*at) < age);
        }
        if kept.len() >= most
            && let Some(oldest) = kept.iter().min_by_key(|(_, at)| **at).map(|(key, _)| *key)
        {
            kept.remove(&oldest);
        }
        kept.insert(key, now);
    }
}

/// What comes of asking.
pub(super) enum Verdict {
    In,
    Out(Made),
    Ask(Question),
}

/// Lets a request in, or not, or asks.
pub(super) fn check(basic: &Basic<'_>, exchange: &mut Exchange, guard: &Guard) -> Verdict {
    let Some((user, password)) = exchange.request.headers.get(&name::AUTHORIZATION).and_then(credentials) else {
        return Verdict::Out(challenge(basic.realm));
    };
    let files = guard.files.0.load();
    let file = files.get(basic.file);
    let found = basic.users.hash(&user).map(|hash| (hash, false));
    let found = found.or_else(|| file.and_then(|file| file.hash(&user)).map(|hash| (hash, basic.plain)));
    // for a user that is not there somebody else's hash is worked out all the same
    let other = || basic.users.any().or_else(|| file.and_then(|file| file.any())).map(|hash| (hash, basic.plain));
    let known = found.is_some();
    let Some((hash, plain)) = found.or_else(other) else { return Verdict::Out(challenge(basic.realm)) };
    let fits = if htpasswd::is_slow(hash) {
        let key = guard.key(hash, password.as_bytes());
        match guard.verdicts.borrow().of(&key, Instant::now()) {
            Some(fits) => fits,
            None => {
                let question = Question { hash: hash.clone(), password: password.into_bytes(), plain, key };
                return Verdict::Ask(question);
            }
        }
    } else {
        htpasswd::fits(hash, password.as_bytes(), plain)
    };
    if !(fits && known) {
        return Verdict::Out(challenge(basic.realm));
    }
    if basic.remove_header {
        exchange.identity.hide_credentials = true;
    }
    if !basic.header_field.is_empty() {
        let field = HeaderName::try_from(basic.header_field).ok().zip(HeaderValue::try_from(user).ok());
        // a name that no field can hold must not leave a field of the client's own in its place
        let Some(field) = field else { return Verdict::Out(challenge(basic.realm)) };
        exchange.identity.fields.push(field);
    }
    Verdict::In
}

/// User and password of an `Authorization` field.
fn credentials(value: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// 401 with the realm, in Traefik's words.
fn challenge(realm: &str) -> Made {
    let mut made = Made::new(StatusCode::UNAUTHORIZED, "401 Unauthorized\n", Reason::Denied);
    let realm = if realm.is_empty() { "traefik" } else { realm };
    let quoted: String = realm.chars().filter(|c| !matches!(c, '"' | '\\') && !c.is_control()).collect();
    let challenge = HeaderValue::try_from(format!("Basic realm=\"{quoted}\""));
    let challenge = challenge.unwrap_or(HeaderValue::from_static("Basic"));
    made.head.headers.set(name::WWW_AUTHENTICATE, challenge);
    made.head.headers.set(name::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_time() {
        let mut verdicts = Verdicts::default();
        let begin = Instant::now();
        let key = |n: u64| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            key
        };
        verdicts.remember(key(0), true, begin);
        for n in 1..5_000 {
            verdicts.remember(key(n), false, begin + Duration::from_nanos(n));
        }
        assert_eq!((verdicts.good.len(), verdicts.bad.len()), (1, BAD.0));
        assert_eq!(verdicts.of(&key(0), begin), Some(true), "bad passwords push no good one out");
        assert_eq!(verdicts.of(&key(4_999), begin), Some(false));
        assert_eq!(verdicts.of(&key(1), begin), None);
        assert_eq!(verdicts.of(&key(0), begin + GOOD.1), None);
        assert_eq!(verdicts.of(&key(4_999), begin + BAD.1 * 2), None);
    }

    #[test]
    fn credentials_as_clients_send_them() {
        let read = |text: &'static str| credentials(text.as_bytes());
        assert_eq!(read("Basic YTpiOmM="), Some(("a".into(), "b:c".into())));
        assert_eq!(read("bASIC YTo="), Some(("a".into(), String::new())));
        for bad in ["", "Basic", "Basic !", "Bearer YTpi", "Basic YQ==", "Basic /w=="] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
