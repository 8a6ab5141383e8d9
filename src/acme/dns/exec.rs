//! A program as hook, with lego's contract: `EXEC_PATH present|cleanup <fqdn> <value>`, in mode RAW
//! `EXEC_PATH present|cleanup -- <domain> <token> <key authorization>`.
//!
//! What always holds: no shell; arguments are checked names and base64url; one run at a time; a run ends
//! within its limit, with all processes of its group; what it writes is read and bounded.

use super::error::{DnsError, HookFault, one_line};
use super::settings;
use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// Of what the program writes, the last bytes are kept.
const KEPT: usize = 4096;
/// Of those, this many characters are told.
const TOLD: usize = 1000;
/// How long a program's output is read after its end, should a child of it keep it open.
const REST: Duration = Duration::from_millis(500);

/// The provider.
#[derive(Debug)]
pub(super) struct Exec {
    settings: settings::Exec,
    /// Scripts are not written to run beside themselves.
    running: tokio::sync::Mutex<()>,
}

/// Kills a group of processes when it goes out of scope before its program has ended.
struct Group(Option<rustix::process::Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may be gone already.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

type Tail = Arc<Mutex<VecDeque<u8>>>;

impl Exec {
    pub fn new(settings: settings::Exec) -> Self {
        Self { settings, running: tokio::sync::Mutex::new(()) }
    }

    /// True when the program is to be told token and key authorization.
    pub fn raw(&self) -> bool {
        self.settings.raw
    }

    pub async fn run(&self, action: &'static str, arguments: &[&str]) -> Result<(), DnsError> {
        let _running = self.running.lock().await;
        let program = self.settings.path.display().to_string();
        let fault =
            |fault: HookFault, output: String| DnsError::Hook { program: program.clone(), action, fault, output };
        let mut child = Command::new(&self.settings.path)
            .arg(action)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| fault(HookFault::Start(e.to_string()), String::new()))?;
        let mut group =
            Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw));
        let tail = Tail::default();
        let ended = tokio::time::timeout(self.settings.limit, watch(&mut child, &tail)).await;
        let output = shown(&tail);
        let status = match ended {
            Err(_) => {
                drop(group);
                // Killed: its end is near.
                let _ = tokio::time::timeout(REST, child.wait()).await;
                return Err(fault(HookFault::TooSlow(self.settings.limit), output));
            }
            Ok(Err(error)) => return Err(fault(HookFault::Failed(error.to_string()), output)),
            Ok(Ok(status)) => status,
        };
        // What a hook leaves running on purpose goes on.
        group.0 = None;
        if status.success() {
            tracing::debug!(program, action, output, "the DNS hook has run");
            return Ok(());
        }
        Err(fault(HookFault::Failed(status.to_string()), output))
    }
}

/// Reads what the program writes until it has ended.
async fn watch(child: &mut Child, tail: &Tail) -> std::io::Result<ExitStatus> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reading = async {
        tokio::join!(keep(out, tail), keep(err, tail));
    };
    tokio::pin!(reading);
    let status = tokio::select! {
        status = child.wait() => status?,
        () = &mut reading => return child.wait().await,
    };
    // What was written before the end may still be in the pipes.
    let _ = tokio::time::timeout(REST, reading).await;
    Ok(status)
}

async fn keep(stream: Option<impl AsyncRead + Unpin>, tail: &Tail) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if let (Ok(mut tail), Some(read)) = (tail.lock(), buffer.get(..length)) {
            tail.extend(read);
            let excess = tail.len().saturating_sub(KEPT);
            tail.drain(..excess);
        }
    }
}

fn shown(tail: &Tail) -> String {
    let bytes: Vec<u8> = tail.lock().map(|tail| tail.iter().copied().collect()).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    // The end tells why it failed.
    let skipped = text.chars().count().saturating_sub(TOLD);
    one_line(&text.chars().skip(skipped).collect::<String>(), TOLD)
}
