//! What there is: the inventory for people, and what is wrong with it. Without keys.

use super::Store;
use super::folder::Problem;
use super::pair::Pair;
use crate::diagnostic::{Diagnostic, Origin};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

/// Diagnostics about files, at most; the inventory has them all.
const LIMIT: usize = 200;

/// One certificate of the inventory, or a file that should be one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Hosts and addresses that it names.
    pub names: Vec<Arc<str>>,
    /// Those of its names whose clients get it now; another certificate is better for the others.
    pub served_for: Vec<Arc<str>>,
    /// Clients that name no host get it, or those whose host no certificate names.
    pub default: bool,
    /// Common name of the subject; may be empty.
    pub common_name: String,
    /// Issuer, as a distinguished name.
    pub issuer: String,
    /// Serial number, decimal.
    pub serial: String,
    /// Start of validity; `None` for a file that could not be read.
    #[serde(serialize_with = "as_rfc3339")]
    pub not_before: Option<SystemTime>,
    /// End of validity.
    #[serde(serialize_with = "as_rfc3339")]
    pub not_after: Option<SystemTime>,
    /// File of the chain.
    pub file: PathBuf,
    /// Which one of a file with several: resolver and domain of Traefik's `acme.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<Arc<str>>,
    /// Issued by an authority of the house.
    pub local: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What is to be said of it although it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

fn as_rfc3339<S: serde::Serializer>(t: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match t.and_then(|t| jiff::Timestamp::try_from(t).ok()) {
        Some(t) => serializer.collect_str(&t),
        None => serializer.serialize_none(),
    }
}

impl Store {
    /// Everything found, by file, with what is wrong at `now`.
    pub fn certificates(&self, now: SystemTime) -> Vec<Certificate> {
        let (problems, index) = (self.findings.problems.load(), self.findings.index.load());
        let mut by_file: HashMap<&Path, Vec<&Problem>> = HashMap::new();
        for problem in problems.iter() {
            by_file.entry(&problem.file).or_default().push(problem);
        }
        let prefer_local = self.findings.prefer_local.load(Ordering::Relaxed);
        let defaults = [index.for_unknown(), index.for_no_host(now)];
        let of_pair = |pair: &Arc<Pair>| {
            let of_file = || by_file.get(&*pair.file).into_iter().flatten();
            // In a file with several, what is wrong with one says which.
            let its = |problem: &&&Problem| pair.entry.as_ref().is_none_or(|entry| problem.text.contains(&**entry));
            let kept = of_file().find(|problem| problem.kept && its(problem));
            let time =
                pair.out_of_time(now).map(|text| text.replace("has expired", "expired").replace("is not", "not"));
            let answers = |name: &&Arc<str>| {
                index.find(name, now, prefer_local, |_| true).is_some_and(|best| Arc::ptr_eq(best, pair))
            };
            Certificate {
                names: pair.names.iter().cloned().chain(pair.addresses.iter().map(|a| a.to_string().into())).collect(),
                served_for: pair.names.iter().filter(answers).cloned().collect(),
                default: defaults.into_iter().flatten().any(|default| Arc::ptr_eq(default, pair)),
                common_name: pair.common_name.clone(),
                issuer: pair.issuer.clone(),
                serial: pair.serial.clone(),
                not_before: Some(pair.not_before),
                not_after: Some(pair.not_after),
                file: pair.file.to_path_buf(),
                entry: pair.entry.clone(),
                local: pair.local,
                problem: kept.map(|kept| format!("{}; the pair from before is served", kept.text)).or(time),
                warning: of_file().find(|problem| problem.remark).map(|problem| problem.text.clone()),
            }
        };
        let mut all: Vec<Certificate> = index.all().iter().map(of_pair).collect();
        let broken = problems.iter().filter(|problem| !problem.kept && !problem.remark && problem.file != self.dir);
        all.extend(broken.map(|problem| Certificate {
            file: problem.file.clone(),
            problem: Some(problem.text.clone()),
            ..Certificate::default()
        }));
        all.sort_by(|a, b| a.file.cmp(&b.file).then_with(|| a.entry.cmp(&b.entry)));
        all
    }

    /// What is wrong now: directories, files, and hosts whose best certificate is not valid.
    pub fn diagnostics(&self, now: SystemTime) -> Vec<Diagnostic> {
        let at = |file: &Path| Origin { file: Some(file.display().to_string().into()), ..Origin::default() };
        let mut all = (*self.trouble).clone();
        all.extend(self.local.as_ref().and_then(|local| local.diagnostic()));
        let copied = self.findings.copied.load(Ordering::Relaxed);
        if copied > 0 {
            let message = format!("the certificate directory does not answer: {copied} of the local copy are served");
            all.push(Diagnostic::warning("certificate_directory", message).with_origin(at(&self.dir)));
        }
        if copied == 0 && self.findings.hangs(Instant::now()) {
            let message = "the certificate directory does not answer: what was read of it before is served";
            all.push(Diagnostic::warning("certificate_directory", message).with_origin(at(&self.dir)));
        }
        if let Some(text) = &*self.findings.copy_trouble.load() {
            let message = format!("the local copy of the certificates is not up to date: {text}");
            all.push(Diagnostic::warning("certificate_copy", message));
        }
        let clock = Instant::now();
        let mirror = self.findings.mirror_problems.load();
        all.extend(mirror.iter().filter(|(_, from)| *from <= clock).take(LIMIT).map(|(problem, _)| problem.clone()));
        let problems = self.findings.problems.load();
        all.extend(problems.iter().take(LIMIT).map(|problem| self.said(problem).with_origin(at(&problem.file))));
        let index = self.findings.index.load();
        let prefer_local = self.findings.prefer_local.load(Ordering::Relaxed);
        let invalid = index.all().iter().filter(|pair| !pair.local && !pair.valid_at(now));
        let mut of_time = invalid.filter_map(|pair| {
            let best = |name: &&Arc<str>| {
                index.find(name, now, prefer_local, |_| true).is_some_and(|best| Arc::ptr_eq(best, pair))
            };
            let (name, state) = (pair.names.iter().find(best)?, pair.out_of_time(now)?);
            let message = format!("the only certificate for `{name}` {state}");
            let code = if now < pair.not_after { "certificate_not_yet_valid" } else { "certificate_expired" };
            Some(Diagnostic::error(code, message).with_origin(at(&pair.file)))
        });
        all.extend(of_time.by_ref().take(LIMIT));
        let more = problems.len().saturating_sub(LIMIT) + of_time.count();
        if more > 0 {
            let message = format!("{more} further certificates have problems; the list of certificates shows them");
            all.push(Diagnostic::warning("bad_certificate", message).with_origin(at(&self.dir)));
        }
        all
    }

    fn said(&self, problem: &Problem) -> Diagnostic {
        if problem.remark {
            Diagnostic::warning("key_exposed", problem.text.clone())
                .with_help("let its owner alone read it: `chmod 600`")
        } else if problem.file == self.dir {
            Diagnostic::warning("certificate_directory", format!("the certificate directory: {}", problem.text))
        } else if problem.kept {
            let message = format!("certificate not replaced: {}", problem.text);
            Diagnostic::error("bad_certificate", message).with_help("the pair from before is served")
        } else {
            Diagnostic::error("bad_certificate", format!("certificate not served: {}", problem.text))
        }
    }
}
