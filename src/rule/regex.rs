//! Regular expressions in Go's syntax (<https://pkg.go.dev/regexp/syntax>, as of Go 1.26), rewritten
//! for the `regex` crate so that they mean the same, or refused with a reason.
//!
//! What differs: in Go `\d`, `\s`, `\w` and `\b` know ASCII only, `\Q…\E` and octal escapes exist,
//! `[` and `&&` within a class are plain characters, a repetition cannot be repeated, `{,2}` is
//! plain text, and the flags `x`, `u`, `R` do not exist. In rules only whether an expression matches counts, so
//! that greediness and captures are dropped there.

use regex::bytes::{Regex, RegexBuilder};
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// Deepest nesting of groups.
const MAX_DEPTH: usize = 100;
/// Greatest count of a repetition, also as the product of nested ones (Go's limit).
const MAX_REPEAT: u32 = 1000;
/// Memory that one compiled expression may take, in bytes.
const MAX_SIZE: usize = 10 << 20;

/// Compiles an expression in Go's syntax.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern)?;
    RegexBuilder::new(&translated).size_limit(MAX_SIZE).nest_limit(1000).build().map_err(why)
}

/// Compiles an expression in Go's syntax for texts that are replaced: what groups match is kept, and as in Go.
///
/// # Errors
/// What is wrong with it.
pub fn replacing(pattern: &str) -> Result<regex::Regex, String> {
    let translated = Translator::run_on(pattern, true)?;
    regex::RegexBuilder::new(&translated).size_limit(MAX_SIZE).nest_limit(1000).build().map_err(why)
}

fn why(error: regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("compiled it is larger than {limit} bytes"),
        other => other.to_string(),
    }
}

/// The literal text that begins every path that the expression matches.
pub(super) fn literal_prefix(pattern: &str) -> &str {
    let Some(text) = pattern.strip_prefix('^') else { return "" };
    if text.contains('|') {
        return "";
    }
    let end = text.find(|c: char| r"\.+*?()[]{}^$".contains(c)).unwrap_or(text.len());
    let literal = &text[..end];
    match text[end..].chars().next() {
        // The last character may be missing.
        Some('*' | '?' | '{') => literal.char_indices().next_back().map_or("", |(at, _)| &literal[..at]),
        _ => literal,
    }
}

/// An expression in Go's syntax in that of the `regex` crate.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    Translator::run_on(pattern, false)
}

type Outcome<T> = Result<T, String>;

#[derive(Clone, Copy, Default)]
struct Flags {
    /// `i`
    fold: bool,
    /// `m`
    lines: bool,
    /// `s`
    dot_all: bool,
    /// `U`
    lazy: bool,
}

/// Something that a repetition can follow, in the crate's syntax.
struct Piece {
    text: String,
    /// The greatest product of counts of nested repetitions within.
    repeats: u32,
    /// True when the text is one unit already.
    is_unit: bool,
}

impl Piece {
    fn unit(text: impl Into<String>) -> Self {
        Self { text: text.into(), repeats: 1, is_unit: true }
    }
}

#[derive(Default)]
struct Group {
    alternatives: String,
    alternatives_repeats: u32,
    pieces: Vec<Piece>,
    flags: Flags,
    /// How it opens; empty for one that keeps nothing.
    opening: String,
}

impl Group {
    fn end_alternative(&mut self) {
        for piece in self.pieces.drain(..) {
            self.alternatives.push_str(&piece.text);
            self.alternatives_repeats = self.alternatives_repeats.max(piece.repeats);
        }
    }

    fn close(mut self) -> Piece {
        self.end_alternative();
        Piece { text: self.alternatives, repeats: self.alternatives_repeats.max(1), is_unit: false }
    }
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    groups: Vec<Group>,
    here: Group,
    /// What groups match counts, and which of several ways to match is taken.
    keeps: bool,
}

impl<'a> Translator<'a> {
    fn run_on(pattern: &'a str, keeps: bool) -> Outcome<String> {
        let rest = pattern.chars().peekable();
        let mut translator = Self { rest, groups: Vec::new(), here: Group::default(), keeps };
        translator.run()?;
        if !translator.groups.is_empty() {
            return Err("missing closing `)`".to_owned());
        }
        Ok(translator.here.close().text)
    }

    fn run(&mut self) -> Outcome<()> {
        let mut repeated = false;
        while let Some(c) = self.rest.next() {
            let was_repeated = std::mem::take(&mut repeated);
            match c {
                '(' => self.open()?,
                ')' => {
                    let outer = self.groups.pop().ok_or("`)` without `(`")?;
                    let mut group = std::mem::replace(&mut self.here, outer);
                    let opening = std::mem::take(&mut group.opening);
                    let mut group = group.close();
                    let opening = if opening.is_empty() { "(?:" } else { &opening };
                    group.text = format!("{opening}{})", group.text);
                    group.is_unit = true;
                    self.here.pieces.push(group);
                }
                '|' => {
                    self.here.end_alternative();
                    self.here.alternatives.push('|');
                }
                '^' => self.push(if self.here.flags.lines { "(?m:^)" } else { r"\A" }),
                '$' => self.push(if self.here.flags.lines { "(?m:$)" } else { r"\z" }),
                '.' => self.push(if self.here.flags.dot_all { "(?s:.)" } else { "." }),
                '[' => self.class()?,
                '*' | '+' | '?' => {
                    self.repeat(&c.to_string(), 1, was_repeated)?;
                    repeated = true;
                }
                '{' => match self.counts() {
                    Some((text, min, max)) => {
                        if min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || max < min) {
                            return Err(format!("invalid repeat count `{text}`"));
                        }
                        self.repeat(&text, max.unwrap_or(min.max(1)), was_repeated)?;
                        repeated = true;
                    }
                    None => self.literal('{'),
                },
                '\\' => self.escaped()?,
                other => self.literal(other),
            }
        }
        Ok(())
    }

    fn push(&mut self, text: impl Into<String>) {
        self.here.pieces.push(Piece::unit(text));
    }

    fn literal(&mut self, c: char) {
        let mut text = String::new();
        let fold = self.here.flags.fold && (c.is_alphabetic() || !c.is_ascii());
        text.push_str(if fold { "(?i:" } else { "" });
        write_char(&mut text, c);
        text.push_str(if fold { ")" } else { "" });
        self.push(text);
    }

    /// Behind `(`: a group, or a change of flags.
    fn open(&mut self) -> Outcome<()> {
        let outer = self.here.flags;
        let mut flags = outer;
        let mut opening = if self.keeps { "(".to_owned() } else { String::new() };
        let special = self.rest.next_if_eq(&'?').is_some();
        let name = if special { self.named()? } else { None };
        if let Some(name) = &name {
            if self.keeps {
                opening = format!("(?P<{name}>");
            }
        } else if special {
            opening.clear();
            let (mut on, mut seen) = (true, true);
            loop {
                let c = self.rest.next().ok_or("missing closing `)`")?;
                match c {
                    'i' => flags.fold = on,
                    'm' => flags.lines = on,
                    's' => flags.dot_all = on,
                    'U' => flags.lazy = on,
                    '-' if on => {
                        on = false;
                        seen = false;
                        continue;
                    }
                    ')' if seen => {
                        self.here.flags = flags;
                        return Ok(());
                    }
                    ':' if seen => break,
                    _ => return Err(format!("invalid group or flag `{c}` behind `(?`")),
                }
                seen = true;
            }
        }
        if self.groups.len() == MAX_DEPTH {
            return Err(format!("groups stand deeper than {MAX_DEPTH} levels"));
        }
        let inner = Group { flags, opening, ..Group::default() };
        self.groups.push(std::mem::replace(&mut self.here, inner));
        Ok(())
    }

    /// Behind `(?`: the name if one follows, `P<name>` or `<name>`.
    fn named(&mut self) -> Outcome<Option<String>> {
        let mut ahead = self.rest.clone();
        ahead.next_if_eq(&'P');
        if ahead.next() != Some('<') {
            return Ok(None);
        }
        let name: String = ahead.by_ref().take_while(|c| *c != '>').collect();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("invalid group name `{name}`"));
        }
        // Without its `>` the pattern is at its end, which misses the group's `)` too.
        self.rest = ahead;
        Ok(Some(name))
    }

    /// `{2}`, `{2,}` or `{2,3}` behind its brace, which is consumed; else `None` and nothing is.
    fn counts(&mut self) -> Option<(String, u32, Option<u32>)> {
        let inner: String = self.rest.clone().take_while(|c| *c != '}').collect();
        if self.rest.clone().nth(inner.chars().count()) != Some('}') {
            return None;
        }
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let leading_zero = text.len() > 1 && text.starts_with('0');
            (plain && !leading_zero).then(|| text.parse().unwrap_or(u32::MAX))
        };
        let (min, max) = match inner.split_once(',') {
            None => (number(&inner)?, Some(number(&inner)?)),
            Some((min, "")) => (number(min)?, None),
            Some((min, max)) => (number(min)?, Some(number(max)?)),
        };
        self.rest.nth(inner.chars().count());
        Some((format!("{{{inner}}}"), min, max))
    }

    fn repeat(&mut self, operator: &str, count: u32, was_repeated: bool) -> Outcome<()> {
        let lazy = self.rest.next_if_eq(&'?').is_some() != self.here.flags.lazy;
        let Some(piece) = self.here.pieces.pop() else {
            return Err(format!("nothing to repeat before `{operator}`"));
        };
        if was_repeated {
            return Err(format!("`{operator}` behind another repetition"));
        }
        let repeats = piece.repeats.saturating_mul(count);
        if count > 1 && repeats > MAX_REPEAT {
            return Err(format!("nested repetitions count over {MAX_REPEAT}"));
        }
        let text = if piece.is_unit { piece.text } else { format!("(?:{})", piece.text) };
        self.here.pieces.push(Piece {
            text: format!("{text}{operator}{}", if lazy && self.keeps { "?" } else { "" }),
            repeats,
            is_unit: false,
        });
        Ok(())
    }

    /// Behind a backslash, outside of classes.
    fn escaped(&mut self) -> Outcome<()> {
        match self.rest.peek() {
            Some('A') => self.push(r"\A"),
            Some('z') => self.push(r"\z"),
            Some('b') => self.push(r"(?-u:\b)"),
            Some('B') => self.push(r"(?-u:\B)"),
            Some('Q') => {
                self.rest.next();
                loop {
                    match self.rest.next() {
                        None => return Ok(()),
                        Some('\\') if self.rest.next_if_eq(&'E').is_some() => return Ok(()),
                        Some(c) => self.literal(c),
                    }
                }
            }
            _ => {
                match self.named_class()? {
                    Some(class) => self.push_class(&class),
                    None => match self.character()? {
                        Some(c) => self.literal(c),
                        None => self.push_class(""),
                    },
                }
                return Ok(());
            }
        }
        self.rest.next();
        Ok(())
    }

    /// A class with these items; without any it matches nothing.
    fn push_class(&mut self, items: &str) {
        let text = if items.is_empty() { r"[^\x{0}-\x{10FFFF}]".to_owned() } else { format!("[{items}]") };
        self.push(if self.here.flags.fold { format!("(?i:{text})") } else { text });
    }

    /// Behind a backslash: `\pL`, `\p{Greek}`, `\d` and the like as an item of a class.
    fn named_class(&mut self) -> Outcome<Option<String>> {
        let class = match self.rest.peek() {
            Some('d') => "0-9",
            Some('D') => "[^0-9]",
            Some('s') => r"\t\n\x0C\r\x20",
            Some('S') => r"[^\t\n\x0C\r\x20]",
            Some('w') => "0-9A-Za-z_",
            Some('W') => "[^0-9A-Za-z_]",
            Some('p' | 'P') => {
                let mut negated = self.rest.next() == Some('P');
                let name: String = match self.rest.next() {
                    Some('{') => {
                        let name: String = self.rest.clone().take_while(|c| *c != '}').collect();
                        if self.rest.nth(name.chars().count()) != Some('}') {
                            return Err("missing closing `}`".to_owned());
                        }
                        name
                    }
                    Some(c) => c.into(),
                    None => return Err(r"missing class name behind `\p`".to_owned()),
                };
                let plain = match name.strip_prefix('^') {
                    Some(plain) => {
                        negated = !negated;
                        plain
                    }
                    None => &name,
                };
                let class = unicode_class(plain).ok_or_else(|| format!("unknown class `{name}`"))?;
                return Ok(Some(format!(r"\{}{{{class}}}", if negated { 'P' } else { 'p' })));
            }
            _ => return Ok(None),
        };
        self.rest.next();
        Ok(Some(class.to_owned()))
    }

    /// Behind a backslash: the character meant; `None` for a surrogate, which no text has.
    fn character(&mut self) -> Outcome<Option<char>> {
        let c = self.rest.next().ok_or("trailing backslash")?;
        let invalid = || Err(format!(r"invalid escape `\{c}`"));
        let octal = |c: &char| c.is_digit(8);
        Ok(Some(match c {
            '0'..='7' => {
                if c != '0' && !self.rest.peek().is_some_and(octal) {
                    return invalid();
                }
                let mut code = c.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    match self.rest.next_if(octal).and_then(|c| c.to_digit(8)) {
                        Some(digit) => code = code * 8 + digit,
                        None => break,
                    }
                }
                return Ok(char::from_u32(code));
            }
            'x' => {
                let digits: String = if self.rest.next_if_eq(&'{').is_some() {
                    let digits = self.rest.clone().take_while(|c| *c != '}').collect::<String>();
                    if self.rest.nth(digits.chars().count()) != Some('}') {
                        return invalid();
                    }
                    digits
                } else {
                    let two: String = self.rest.by_ref().take(2).collect();
                    if two.chars().count() != 2 {
                        return invalid();
                    }
                    two
                };
                let hexadecimal = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
                let significant = digits.trim_start_matches('0');
                match (hexadecimal, u32::from_str_radix(if significant.is_empty() { "0" } else { significant }, 16)) {
                    (true, Ok(code)) if code <= u32::from(char::MAX) => return Ok(char::from_u32(code)),
                    _ => return invalid(),
                }
            }
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => other,
            _ => return invalid(),
        }))
    }

    /// Behind `[`.
    fn class(&mut self) -> Outcome<()> {
        const OPEN: &str = "missing closing `]`";
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut items = String::new();
        let mut first = true;
        while first || self.rest.peek() != Some(&']') {
            first = false;
            if let Some(named) = self.posix_class()? {
                items.push_str(&named);
                continue;
            }
            let low = match self.rest.next().ok_or(OPEN)? {
                '\\' => match self.named_class()? {
                    Some(named) => {
                        items.push_str(&named);
                        continue;
                    }
                    None => self.code()?,
                },
                c => u32::from(c),
            };
            let mut ahead = self.rest.clone();
            let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
            let high = if is_range {
                self.rest.next();
                match self.rest.next().ok_or(OPEN)? {
                    '\\' => self.code()?,
                    c => u32::from(c),
                }
            } else {
                low
            };
            if high < low {
                return Err("a range of characters ends before it begins".to_owned());
            }
            write_range(&mut items, low, high);
        }
        self.rest.next();
        match (negated, items.is_empty()) {
            (true, true) => self.push(r"(?s:.)"),
            (true, false) => self.push_class(&format!("^{items}")),
            (false, _) => self.push_class(&items),
        }
        Ok(())
    }

    /// Behind a backslash in a class: the code of the character meant, which may be a surrogate's.
    fn code(&mut self) -> Outcome<u32> {
        // Which surrogate makes no difference but to the order of a range's ends.
        Ok(self.character()?.map_or(0xD800, u32::from))
    }

    /// `[:alpha:]` in a class.
    fn posix_class(&mut self) -> Outcome<Option<String>> {
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('[') || ahead.next() != Some(':') {
            return Ok(None);
        }
        let rest: String = ahead.collect();
        let Some((name, _)) = rest.split_once(":]") else { return Ok(None) };
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("unknown class `[:{name}:]`"));
        }
        self.rest.nth(name.chars().count() + 3);
        Ok(Some(format!("[:{name}:]")))
    }
}

/// The name of a Unicode category or script as the crate takes it. Go looks names up regardless of
/// case, blanks, `_` and `-`; other properties and short names of scripts it does not know.
fn unicode_class(name: &str) -> Option<String> {
    /// Scripts whose full name has four letters, as every short name has.
    const FOUR_LETTERS: [&str; 6] = ["ahom", "cham", "kawi", "lisu", "thai", "toto"];
    let plain: String = name.chars().filter(|c| !['_', '-', ' '].contains(c)).map(|c| c.to_ascii_lowercase()).collect();
    if plain.is_empty() || plain.starts_with("is") || !plain.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let script_allowed = plain.len() != 4 || FOUR_LETTERS.contains(&&*plain);
    let known = |property: &str| {
        let class = format!("{property}={plain}");
        regex::Regex::new(&format!(r"\p{{{class}}}")).is_ok().then_some(class)
    };
    known("gc").or_else(|| script_allowed.then(|| known("sc")).flatten())
}

/// A character that stands for itself, in or outside a class.
fn write_char(out: &mut String, c: char) {
    if c.is_alphanumeric() || c == '/' || c == '_' {
        out.push(c);
    } else {
        // Writing to a string cannot fail.
        let _ = write!(out, r"\x{{{:X}}}", u32::from(c));
    }
}

/// A range of characters in a class, without the surrogates that it may span.
fn write_range(out: &mut String, low: u32, high: u32) {
    let low = if (0xD800..0xE000).contains(&low) { 0xE000 } else { low };
    let high = if (0xD800..0xE000).contains(&high) { 0xD7FF } else { high };
    if low > high {
        return;
    }
    let _ = write!(out, r"\x{{{low:X}}}-\x{{{high:X}}}");
}
