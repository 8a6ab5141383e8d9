//! The log of the process: `tracing` events as text for people on a terminal, as JSON lines
//! otherwise, to standard error or to a file that can be opened again after a rotation.
//!
//! Requests are not logged here (see [`super::access`]), so a lock around the output is fine.

use super::writer::Output;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text.
    Common,
    /// One JSON object a line.
    Json,
}

/// What the log should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Level of our own events.
    pub level: Level,
    /// `None`: text on a terminal, JSON otherwise.
    pub format: Option<Format>,
    /// File; `None` is standard error.
    pub file: Option<PathBuf>,
    /// No colours, even on a terminal (`noColor`, `NO_COLOR`).
    pub no_color: bool,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened for appending.
    #[error("log file `{}` cannot be opened: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Something else in the process logs already.
    #[error("the log is set up already")]
    Twice,
}

/// The log's output, for opening it again.
#[derive(Clone)]
pub struct Log {
    output: Arc<Mutex<Output>>,
}

impl Log {
    fn to(file: Option<&Path>) -> Result<Self, LogError> {
        let output = match file {
            None => Output::stderr(),
            Some(path) => Output::file(path).map_err(|source| LogError::Open { path: path.to_owned(), source })?,
        };
        Ok(Self { output: Arc::new(Mutex::new(output)) })
    }

    /// Opens the file again under its name (SIGUSR1).
    ///
    /// # Errors
    /// It cannot be opened: the old file goes on.
    pub fn reopen(&self) -> io::Result<()> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).reopen()
    }
}

/// One event's writer: the event is put together first, then written in one piece.
pub struct EventWriter(Arc<Mutex<Output>>);

impl Write for EventWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The log's own reader may be gone before the process has drained: there is nobody left to tell, least of all by the
        // library's word on standard error, which would panic.
        drop(output.write_all(bytes).and_then(|()| output.flush()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = EventWriter;

    fn make_writer(&'a self) -> Self::Writer {
        EventWriter(self.output.clone())
    }
}

/// Our own events at the level asked for; those of libraries only from two steps above it, at
/// least warnings: a debug log of ours should not drown in theirs.
fn filter(level: Level) -> Targets {
    let libraries = match level {
        Level::TRACE => LevelFilter::DEBUG,
        Level::DEBUG => LevelFilter::INFO,
        Level::ERROR => LevelFilter::ERROR,
        _ => LevelFilter::WARN,
    };
    Targets::new().with_default(libraries).with_target("rust_lb", level)
}

fn layer<S>(log: Log, options: &Options, terminal: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let format = options.format.unwrap_or(if terminal { Format::Common } else { Format::Json });
    let filter = filter(options.level);
    match format {
        Format::Common => tracing_subscriber::fmt::layer()
            .with_writer(log)
            .with_ansi(terminal && !options.no_color)
            .with_target(false)
            .with_filter(filter)
            .boxed(),
        Format::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(log).with_filter(filter).boxed()
        }
    }
}

/// Sets the log of the process up, once.
///
/// # Errors
/// The file cannot be opened, or the log is set up already.
pub fn init(options: &Options) -> Result<Log, LogError> {
    let log = Log::to(options.file.as_deref())?;
    let terminal = options.file.is_none() && io::stderr().is_terminal();
    let subscriber = tracing_subscriber::registry().with(layer(log.clone(), options, terminal));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(format: Option<Format>, file: &Path) -> Options {
        Options { level: Level::INFO, format, file: Some(file.to_owned()), no_color: true }
    }

    fn written(format: Option<Format>, terminal: bool, write: impl Fn(&Log, &Path)) -> (String, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made/log");
        let log = Log::to(Some(&file)).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer(log.clone(), &options(format, &file), terminal));
        tracing::subscriber::with_default(subscriber, || write(&log, &file));
        (std::fs::read_to_string(&file).unwrap(), dir)
    }

    #[test]
    fn json_lines_where_no_terminal_is() {
        let (text, _dir) = written(None, false, |_, _| {
            tracing::info!(target: "rust_lb::x", service = "web", "registered");
            tracing::debug!(target: "rust_lb::x", "too fine");
            tracing::info!(target: "h2::codec", "a library's");
        });
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert_eq!(lines[0]["message"], "registered");
        assert_eq!(lines[0]["service"], "web");
        assert_eq!(lines[0]["level"], "INFO");
    }

    #[test]
    fn text_on_a_terminal_without_colour_when_unwanted() {
        let (text, _dir) = written(None, true, |_, _| tracing::warn!(target: "rust_lb", "look"));
        assert!(text.contains("WARN") && text.contains("look") && !text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn goes_on_in_a_new_file_after_a_rotation() {
        let (text, _dir) = written(Some(Format::Json), false, |log, file| {
            tracing::info!(target: "rust_lb", "one");
            std::fs::rename(file, file.with_extension("1")).unwrap();
            log.reopen().unwrap();
            tracing::info!(target: "rust_lb", "two");
        });
        assert!(text.contains("two") && !text.contains("one"), "{text}");
    }

    #[test]
    fn says_which_file_cannot_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let error = Log::to(Some(dir.path())).err().unwrap().to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
    }
}
