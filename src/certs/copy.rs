//! The local copy of what is served: for a start while the certificate directory, mostly on NFS, is away.
//!
//! What always holds: the copy is written and read by threads of its own that nobody waits for; a file of it is whole or is not taken (its
//! name carries the digest of what is in it); what has been removed from the directory is removed from the copy. Directory 0700,
//! files 0600.

use super::files::{self, FILE_LIMIT};
use super::pair::{self, Chains, Pair, Whence};
use super::watch::Findings;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Changes that come within this are written at once.
const SETTLE: Duration = Duration::from_secs(1);
/// How often it is seen whether the certificate directory answers.
const WATCHED: Duration = Duration::from_secs(5);
/// All files of the copy together, in bytes.
const COPY_LIMIT: usize = 256 << 20;
/// A chain and its key.
const PAIR_LIMIT: u64 = 3 * FILE_LIMIT;

/// Where a copied pair comes from: the first line of its file.
#[derive(serde::Serialize, serde::Deserialize)]
struct Head {
    file: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<Arc<str>>,
    #[serde(default)]
    local: bool,
}

fn short(digest: &digest::Digest) -> String {
    digest.as_ref().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The name of a pair's file: of whence it is, and of what is in it.
fn name(pair: &Pair) -> &str {
    pair.copy_name.get_or_init(|| new_name(pair).into())
}

fn new_name(pair: &Pair) -> String {
    let mut whence = digest::Context::new(&digest::SHA256);
    whence.update(pair.file.as_os_str().as_encoded_bytes());
    whence.update(&[0]);
    whence.update(pair.entry.as_deref().unwrap_or_default().as_bytes());
    let mut content = digest::Context::new(&digest::SHA256);
    content.update(pair.secret().1);
    pair.chain().for_each(|der| content.update(der));
    format!("{}-{}.pem", short(&whence.finish()), short(&content.finish()))
}

fn text(pair: &Pair) -> Option<String> {
    let head = Head { file: pair.file.to_path_buf(), entry: pair.entry.clone(), local: pair.local };
    let mut text = serde_json::to_string(&head).ok()? + "\n";
    let mut block = |label: &str, der: &[u8]| {
        let _ = writeln!(text, "-----BEGIN {label}-----");
        let encoded = STANDARD.encode(der);
        for line in encoded.as_bytes().chunks(64) {
            let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
        }
        let _ = writeln!(text, "-----END {label}-----");
    };
    let (label, key) = pair.secret();
    block(label, key);
    pair.chain().for_each(|der| block("CERTIFICATE", der));
    Some(text)
}

/// Every whole pair of the copy.
///
/// # Errors
/// The directory is there and cannot be listed.
pub(super) fn read(dir: &Path) -> io::Result<Vec<Pair>> {
    let names = match files::names(dir) {
        Ok((names, _)) => names,
        Err(error) if files::absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let chains = Chains::default();
    let mut pairs = Vec::new();
    for file in names.iter().filter(|file| file.ends_with(".pem")) {
        let Ok(text) = files::read(&dir.join(file), PAIR_LIMIT) else { continue };
        let Some(end) = memchr::memchr(b'\n', &text) else { continue };
        let (head, pem) = text.split_at(end);
        let Ok(head) = serde_json::from_slice::<Head>(head) else { continue };
        let whence = Whence { file: head.file.into(), entry: head.entry, local: head.local, default: true };
        let Ok(pair) = pair::parse(pem, pem, whence, &chains) else { continue };
        if name(&pair) == file {
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

/// Makes the copy what these pairs are. What is in place already is not written again.
///
/// # Errors
/// The first thing that could not be written; everything else was tried.
pub(super) fn write(dir: &Path, pairs: &[Arc<Pair>]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut wanted: BTreeMap<&str, &Arc<Pair>> = pairs.iter().map(|pair| (name(pair), pair)).collect();
    // In PEM form.
    let length = |pair: &Pair| (pair.chain().map(<[u8]>::len).sum::<usize>() + pair.secret().1.len()) / 3 * 4;
    let (mut result, mut size) = (Ok(()), 0usize);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Some(pair) = wanted.remove(&*name) {
            size = size.saturating_add(length(pair));
        } else if name.ends_with(".pem") || name.starts_with(".pem.") {
            result = result.and(fs::remove_file(entry.path()));
        }
    }
    for (name, pair) in wanted {
        let Some(text) = text(pair) else { continue };
        size = size.saturating_add(text.len());
        if size > COPY_LIMIT {
            let full = || io::Error::other(format!("the copy would be larger than {COPY_LIMIT} bytes"));
            return result.and(Err(full()));
        }
        result = result.and(place(dir, name, &text));
    }
    result
}

fn place(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let temporary = dir.join(format!(".pem.{:016x}", rand::random::<u64>()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    // Without waiting for the disk: a file that a crash cut off does not fit its name.
    let placed = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&temporary, dir.join(name)));
    if placed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    placed
}

/// The way to the thread that writes, which ends when this is gone.
pub(super) struct Writer(SyncSender<()>);

impl Writer {
    /// Starts the thread. What lies in `mirror` is a copy already.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(dir: PathBuf, mirror: Option<PathBuf>, findings: &Arc<Findings>) -> io::Result<Self> {
        let (wake, receiver) = sync_channel(1);
        let findings = Arc::downgrade(findings);
        std::thread::Builder::new()
            .name("certs-copy".to_owned())
            .spawn(move || run(&dir, mirror.as_deref(), &findings, &receiver))?;
        Ok(Self(wake))
    }

    /// Says that what is served has changed; waits for nothing.
    pub(super) fn wake(&self) {
        // Full: it is about to write anyway.
        let _ = self.0.try_send(());
    }
}

/// Logs that the certificate directory hangs, and that it no longer does: the thread that looks at it cannot.
fn tell(findings: &Findings, hung: &mut bool) {
    let hangs = findings.hangs(Instant::now());
    match (hangs, std::mem::replace(hung, hangs)) {
        (true, false) => tracing::warn!("the certificate directory does not answer; what was read before is served"),
        (false, true) => tracing::info!("the certificate directory answers again"),
        _ => {}
    }
}

fn run(dir: &Path, mirror: Option<&Path>, findings: &Weak<Findings>, wake: &Receiver<()>) {
    let mut hung = false;
    loop {
        let woken = match wake.recv_timeout(WATCHED) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(findings) = findings.upgrade() else { return };
        tell(&findings, &mut hung);
        if !woken {
            continue;
        }
        std::thread::sleep(SETTLE);
        // What came meanwhile is seen by this writing.
        while wake.try_recv().is_ok() {}
        let index = findings.index.load_full();
        let elsewhere = |pair: &&Arc<Pair>| !mirror.is_some_and(|mirror| pair.file.starts_with(mirror));
        let pairs: Vec<Arc<Pair>> = index.all().iter().filter(elsewhere).cloned().collect();
        let trouble = write(dir, &pairs).err().map(|error| error.to_string());
        let before = findings.copy_trouble.load();
        if let Some(text) = trouble.as_ref().filter(|text| before.as_deref() != Some(text)) {
            tracing::warn!(dir = %dir.display(), "the local copy of the certificates is not up to date: {text}");
        }
        findings.copy_trouble.store(trouble.map(Arc::new));
    }
}
