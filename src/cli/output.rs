//! What people see on a terminal: colours where they are wanted, and diagnostics with the line they
//! speak of and a caret under the place. A line is never shown with a value that may be secret.

use crate::config::MAX_FILE_BYTES;
use crate::diagnostic::{Diagnostic, Severity};
use std::io::{self, Read as _, Write};

/// Characters of a source line that are shown around the place.
const WIDTH: usize = 120;

/// Words in a key whose value is not shown.
const SECRET_WORDS: [&str; 6] = ["token", "password", "secret", "auth", "credential", "hmac"];

/// Whether output is coloured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Coloured on a terminal, unless `NO_COLOR` is set (<https://no-color.org>) or the terminal is
    /// `dumb`.
    pub fn for_stream(is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Self {
        Self { colour: is_terminal && no_color.is_none_or(str::is_empty) && term != Some("dumb") }
    }

    /// Without colours.
    pub fn plain() -> Self {
        Self::default()
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// For errors.
    pub fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// For warnings.
    pub fn yellow(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// For what is well.
    pub fn green(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// For headings and names.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// For what frames the rest.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// Writes a diagnostic: what, where, the line with a caret where one is known, and the advice.
///
/// # Errors
/// Those of the writer.
pub fn diagnostic(out: &mut dyn Write, d: &Diagnostic, style: Style) -> io::Result<()> {
    let severity = match d.severity {
        Severity::Error => style.red(&format!("error[{}]", d.code)),
        Severity::Warning => style.yellow(&format!("warning[{}]", d.code)),
    };
    writeln!(out, "{severity}: {}", style.bold(&d.message))?;
    let o = &d.origin;
    let place = [
        o.file.as_deref().map(str::to_owned),
        o.service.as_deref().map(|service| match o.provider.as_deref() {
            Some(provider) => format!("{service}@{provider}"),
            None => service.to_owned(),
        }),
        o.line.map(|line| line.to_string()),
        o.column.map(|column| column.to_string()),
    ];
    let place: Vec<String> = place.into_iter().flatten().collect();
    if !place.is_empty() {
        writeln!(out, "  {} {}", style.dim("-->"), place.join(":"))?;
    }
    let shown = match (&o.tag, &o.file, o.line) {
        (Some(tag), _, _) => Some((String::new(), tag.to_string())),
        (None, Some(file), Some(line)) => source_line(file, line).map(|text| (line.to_string(), text)),
        _ => None,
    };
    if let Some((number, text)) = shown {
        let column = o.column.map(|column| if o.tag.is_some() { column } else { within(&text, column, d.span) });
        let (text, caret) = window(&without_secret(&text, d), column.unwrap_or(1));
        let margin = " ".repeat(number.len());
        let bar = style.dim("|");
        writeln!(out, " {margin} {bar}")?;
        writeln!(out, " {} {bar} {text}", style.dim(&number))?;
        // a tag as a whole may be what is meant
        if o.column.is_some() {
            writeln!(out, " {margin} {bar} {}", style.red(&caret))?;
        }
    }
    if let Some(help) = &d.help {
        writeln!(out, "  {} {help}", style.dim("= help:"))?;
    }
    Ok(())
}

/// A line of a file, if it is one that can be read.
fn source_line(file: &str, line: u32) -> Option<String> {
    if file.starts_with(['$', '-']) {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(file).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let line = bytes.split(|b| *b == b'\n').nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    Some(String::from_utf8_lossy(line).trim_end().to_owned())
}

/// The column of what a span within a value points at; that of the value where it does not stand in the line as it is.
fn within(line: &str, column: u32, span: Option<(usize, usize)>) -> u32 {
    let from = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
    let value: String = line.chars().skip(from).collect();
    let quoted = value.strip_prefix(['"', '\'']);
    let plain = quoted.unwrap_or(&value);
    let Some(before) = span.and_then(|(start, _)| plain.get(..start)) else { return column };
    // escapes make the value another one, and a block begins behind the line
    if before.contains('\\') || before.contains("''") || plain.starts_with(['|', '>', '"', '\'']) {
        return column;
    }
    let shift = before.chars().count() + usize::from(quoted.is_some());
    column.saturating_add(u32::try_from(shift).unwrap_or(0))
}

/// Cuts the value off where the key may be that of a secret: it is named so, or nobody knows it.
fn without_secret(line: &str, d: &Diagnostic) -> String {
    let Some(end) = line.find([':', '=']).filter(|_| d.origin.tag.is_none()) else { return line.to_owned() };
    let lower = line.to_ascii_lowercase();
    let hide = &*d.code == "unknown_key" || SECRET_WORDS.iter().any(|word| lower.contains(word));
    let value = line[end + 1..].trim();
    if hide && !value.is_empty() { format!("{} ***", &line[..=end]) } else { line.to_owned() }
}

/// The part of a line around a column (in characters from 1), and carets under what stands there.
fn window(line: &str, column: u32) -> (String, String) {
    let chars: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let at = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1).min(chars.len());
    let start = if chars.len() > WIDTH { at.saturating_sub(WIDTH / 2) } else { 0 };
    let end = chars.len().min(start + WIDTH);
    let word = chars[at..end].iter().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-')).count().max(1);
    (chars[start..end].iter().collect(), format!("{}{}", " ".repeat(at - start), "^".repeat(word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Origin;

    fn printed(d: &Diagnostic, style: Style) -> String {
        let mut out = Vec::new();
        diagnostic(&mut out, d, style).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn shows_the_line_and_a_caret_but_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, "a:\n  tokn: hunter2\n  level: loud\n").unwrap();
        let at = |line, column| Origin {
            file: Some(path.to_string_lossy().into()),
            line: Some(line),
            column: Some(column),
            ..Origin::default()
        };
        let d =
            Diagnostic::error("unknown_key", "unknown key `tokn`").with_origin(at(2, 3)).with_help("did you mean it?");
        let text = printed(&d, Style::plain());
        let want = format!(
            "error[unknown_key]: unknown key `tokn`\n  --> {}:2:3\n   |\n 2 |   tokn: ***\n   |   ^^^^\n  = help: did you mean it?\n",
            path.display()
        );
        assert_eq!(text, want);
        let d = Diagnostic::warning("bad_value", "x").with_origin(at(3, 10));
        assert!(printed(&d, Style::plain()).contains(" 3 |   level: loud\n   |          ^^^^\n"));
        let d = Diagnostic::warning("bad_value", "x").with_origin(at(99, 1));
        assert!(!printed(&d, Style::plain()).contains('|'));
    }

    #[test]
    fn shows_a_tag_with_its_column() {
        let d = Diagnostic::error("bad_rule", "expected `)`").with_origin(Origin {
            provider: Some("nomad".into()),
            service: Some("web".into()),
            tag: Some("traefik.x=Host(".into()),
            column: Some(15),
            ..Origin::default()
        });
        let text = printed(&d, Style::plain());
        assert!(text.contains("--> web@nomad:15\n") && text.contains("| traefik.x=Host(\n"), "{text}");
    }

    #[test]
    fn colours_only_where_wanted() {
        for (terminal, no_color, term, colour) in [
            (true, None, Some("xterm"), true),
            (true, Some(""), None, true),
            (true, Some("1"), None, false),
            (true, None, Some("dumb"), false),
            (false, None, None, false),
        ] {
            let style = Style::for_stream(terminal, no_color, term);
            assert_eq!(style.red("x").contains('\x1b'), colour);
        }
    }

    #[test]
    fn a_window_never_leaves_the_line() {
        for (line, column) in [("", 0), ("", 9), ("é", 2), (&"x".repeat(1000) as &str, 900), ("a\tb", 3)] {
            let (text, caret) = window(line, column);
            assert!(text.chars().count() <= WIDTH && caret.chars().count() <= WIDTH + 1, "{line}");
        }
    }
}
