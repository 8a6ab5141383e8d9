//! One line on a terminal that is written again and again: how far it is, and how long it will take.

use std::io::{self, Write};
use std::time::Duration;

/// Not more often than this.
const EVERY: Duration = Duration::from_millis(100);
/// Characters of the bar.
const WIDTH: usize = 24;

/// How far it is.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    all: usize,
    done: usize,
    different: usize,
    last: Option<Duration>,
}

impl Progress {
    pub(super) fn new(all: usize) -> Self {
        Self { all, done: 0, different: 0, last: None }
    }

    fn text(&self, elapsed: Duration) -> String {
        let filled = (WIDTH * self.done).checked_div(self.all).unwrap_or(WIDTH).min(WIDTH);
        let bar = format!("{}{}", "#".repeat(filled), "-".repeat(WIDTH - filled));
        let left = self.all.saturating_sub(self.done);
        let seconds = match u32::try_from(self.done) {
            Ok(done) if done > 0 => (elapsed / done).as_secs_f64() * f64::from(u32::try_from(left).unwrap_or(u32::MAX)),
            _ => 0.0,
        };
        format!("[{bar}] {}/{}, {} different, {seconds:.0} s left", self.done, self.all, self.different)
    }
}

/// The line, where there is a terminal.
#[derive(Debug)]
pub(super) struct Line {
    progress: Option<Progress>,
    shown: bool,
}

impl Line {
    pub(super) fn new(progress: Option<Progress>) -> Self {
        Self { progress, shown: false }
    }

    /// One more request is done.
    pub(super) fn advance(&mut self, out: &mut dyn Write, different: bool, elapsed: Duration) -> io::Result<()> {
        let Some(progress) = &mut self.progress else { return Ok(()) };
        progress.done += 1;
        progress.different += usize::from(different);
        if progress.last.is_some_and(|last| elapsed < last + EVERY) {
            return Ok(());
        }
        progress.last = Some(elapsed);
        self.shown = true;
        write!(out, "\r\x1b[K{}", progress.text(elapsed))?;
        out.flush()
    }

    /// Takes the line away, so that something else can be written.
    pub(super) fn clear(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if std::mem::take(&mut self.shown) {
            write!(out, "\r\x1b[K")?;
            out.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_rewritten_and_taken_away() {
        let mut out = Vec::new();
        let mut line = Line::new(Some(Progress::new(4)));
        line.advance(&mut out, true, Duration::from_secs(1)).unwrap();
        line.advance(&mut out, false, Duration::from_millis(1001)).unwrap();
        line.clear(&mut out).unwrap();
        line.clear(&mut out).unwrap();
        let want = "\r\x1b[K[######------------------] 1/4, 1 different, 3 s left\r\x1b[K";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn nothing_is_written_without_a_terminal() {
        let mut out = Vec::new();
        let mut line = Line::new(None);
        line.advance(&mut out, true, Duration::from_secs(1)).unwrap();
        line.clear(&mut out).unwrap();
        assert!(out.is_empty());
    }
}
