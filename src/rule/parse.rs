//! Text to [`Rule`]. The grammar is the part of Go's expressions that has a meaning as a rule;
//! everything else that Go's parser would read (arithmetic, selectors, types) is refused either way.
//!
//! nom's types stay in this file. Every parser here either succeeds, or fails for good with a
//! [`Fault`] that names its place; only the blanks and the operators between operands backtrack.

use super::ast::{Expr, Name, Rule, Span, Test};
use super::error::{Found, Problem, RuleError};
use super::predicate::{self, Refusal};
use super::{Kind, Syntax};
use crate::model::lossy;
use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_until, take_while_m_n, take_while1};
use nom::character::complete::{char, one_of};
use nom::combinator::{map, map_opt, opt, recognize, value, verify};
use nom::error::{ErrorKind, ParseError};
use nom::multi::{fold_many0, many0, many0_count};
use nom::sequence::{delimited, pair, preceded, terminated};
use nom::{IResult, Parser};

/// Deepest nesting of parentheses. Go's own limit is 100,000; nobody writes more than a handful.
const MAX_DEPTH: usize = 100;

/// Parses and checks a rule. Regular expressions are checked for their syntax, not yet compiled.
///
/// # Errors
/// [`RuleError`] with the first problem and its place in `text`.
pub fn parse(text: &str, kind: Kind, syntax: Syntax) -> Result<Rule, RuleError> {
    // Go skips one byte order mark at the very start and refuses it, like NUL, anywhere else.
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let skipped = text.len() - body.len();
    for (c, what) in [('\0', "a NUL character"), ('\u{feff}', "a byte order mark")] {
        if let Some(at) = body.find(c) {
            let start = skipped + at;
            return Err(RuleError { span: start..start + c.len_utf8(), problem: Problem::Character { what } });
        }
    }
    let grammar = Grammar { kind, syntax, length: body.len() };
    let parsed = terminated(|i| grammar.any(i, 0), end).parse_complete(body);
    match parsed {
        Ok((_, root)) => Ok(Rule::new(kind, syntax, root)),
        Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => {
            let start = text.len() - fault.rest;
            Err(RuleError { span: start..start + fault.length, problem: fault.problem })
        }
        // Complete parsers never ask for more.
        Err(nom::Err::Incomplete(_)) => {
            Err(RuleError { span: text.len()..text.len(), problem: expected("a rule", "").problem })
        }
    }
}

/// A problem and its place, counted from the end of the text.
#[derive(Debug)]
struct Fault {
    rest: usize,
    length: usize,
    problem: Problem,
}

type Parsed<'a, T> = IResult<&'a str, T, Fault>;

impl<'a> ParseError<&'a str> for Fault {
    fn from_error_kind(input: &'a str, _: ErrorKind) -> Self {
        expected("something else", input)
    }

    fn append(_: &'a str, _: ErrorKind, other: Self) -> Self {
        other
    }
}

fn expected(expected: &'static str, input: &str) -> Fault {
    let found = match input.chars().next() {
        None => Found::End,
        Some('\n') => Found::Line,
        Some(_) if input.starts_with("//") || input.starts_with("/*") => Found::Line,
        Some(first) => {
            let same = |c: char| if is_word(first) { is_word(c) } else { "&|=<>".contains(first) && c == first };
            let tail = input.chars().skip(1).take_while(|c| same(*c)).map(char::len_utf8).sum::<usize>();
            Found::Text(input.chars().take(1).chain(input[first.len_utf8()..][..tail].chars()).collect())
        }
    };
    let length = match &found {
        Found::Text(text) => text.len(),
        Found::End | Found::Line => 0,
    };
    Fault { rest: input.len(), length, problem: Problem::Syntax { expected, found } }
}

fn fail<T>(fault: Fault) -> Result<T, nom::Err<Fault>> {
    Err(nom::Err::Failure(fault))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `parser`, or for good: `what` was expected.
fn need<'a, P: Parser<&'a str, Error = Fault>>(
    mut parser: P,
    what: &'static str,
) -> impl Parser<&'a str, Output = P::Output, Error = Fault> {
    move |i: &'a str| match parser.parse_complete(i) {
        Err(nom::Err::Error(_)) => fail(expected(what, i)),
        other => other,
    }
}

fn comment(i: &str) -> Parsed<'_, &str> {
    let line = recognize(pair(tag("//"), opt(is_not("\n"))));
    let unclosed = |i: &str| Fault {
        rest: i.len(),
        length: 2,
        problem: Problem::Unclosed { what: "a comment", expected: "`*/`" },
    };
    let block = |i| {
        let (rest, open) = tag("/*").parse_complete(i)?;
        match terminated(take_until::<_, _, Fault>("*/"), tag("*/")).parse_complete(rest) {
            Ok((rest, inner)) => Ok((rest, &i[..open.len() + inner.len() + 2])),
            Err(_) => fail(unclosed(i)),
        }
    };
    alt((line, block)).parse_complete(i)
}

/// Blanks, line ends and comments.
fn blank(i: &str) -> Parsed<'_, usize> {
    many0_count(alt((take_while1(|c| " \t\r\n".contains(c)), comment))).parse_complete(i)
}

/// Blanks and comments up to where a line ends. Behind an operand Go reads a line's end as the
/// expression's end, and a comment that runs to or over one counts as such.
fn blank_in_line(i: &str) -> Parsed<'_, usize> {
    let within = verify(comment, |c: &str| c.starts_with("/*") && !c.contains('\n'));
    many0_count(alt((take_while1(|c| " \t\r".contains(c)), within))).parse_complete(i)
}

/// The end of the rule; one line's end or more may precede it.
fn end(i: &str) -> Parsed<'_, ()> {
    let (i, _) = blank_in_line(i)?;
    match blank(i)? {
        ("", _) => Ok(("", ())),
        _ => fail(expected("`&&`, `||` or the end", i)),
    }
}

/// What the parsers of expressions need to know.
struct Grammar {
    kind: Kind,
    syntax: Syntax,
    length: usize,
}

impl Grammar {
    fn any<'a>(&self, i: &'a str, depth: usize) -> Parsed<'a, Expr> {
        let more = preceded((blank_in_line, tag("||")), |i| self.all(i, depth));
        map(pair(|i| self.all(i, depth), many0(more)), |(first, more)| Expr::any(chained(first, more)))
            .parse_complete(i)
    }

    fn all<'a>(&self, i: &'a str, depth: usize) -> Parsed<'a, Expr> {
        let more = preceded((blank_in_line, tag("&&")), |i| self.unary(i, depth));
        map(pair(|i| self.unary(i, depth), many0(more)), |(first, more)| Expr::all(chained(first, more)))
            .parse_complete(i)
    }

    fn unary<'a>(&self, i: &'a str, depth: usize) -> Parsed<'a, Expr> {
        let (i, negations) = preceded(blank, many0_count(terminated(char('!'), blank))).parse_complete(i)?;
        let (i, operand) = self.operand(i, depth)?;
        Ok((i, if negations % 2 == 1 { operand.negate() } else { operand }))
    }

    fn operand<'a>(&self, i: &'a str, depth: usize) -> Parsed<'a, Expr> {
        match i.chars().next() {
            Some('(') if depth == MAX_DEPTH => {
                fail(Fault { rest: i.len(), length: 1, problem: Problem::TooDeep { limit: MAX_DEPTH } })
            }
            Some('(') => {
                let close = need(char(')'), "`&&`, `||` or `)`");
                delimited(char('('), |i| self.any(i, depth + 1), (blank_in_line, close)).parse_complete(i)
            }
            Some(c) if is_word(c) && !c.is_numeric() => self.test(i),
            _ => fail(expected("a matcher, `!` or `(`", i)),
        }
    }

    fn test<'a>(&self, i: &'a str) -> Parsed<'a, Expr> {
        let start = i;
        let (i, word) = take_while1(is_word).parse_complete(i)?;
        let name = Name::known(self.kind, self.syntax).iter().copied().find(|name| name.is_spelt(word));
        let (i, _) = preceded(blank_in_line, need(char('('), "`(` behind the matcher's name")).parse_complete(i)?;
        let Some(name) = name else {
            let expected = self.suggest(word);
            let problem = Problem::UnknownMatcher { name: word.to_owned(), expected };
            return fail(Fault { rest: start.len(), length: word.len(), problem });
        };
        let (i, args) = arguments(i)?;
        let offset = |rest: &str| self.length - rest.len();
        let (args, places): (Vec<_>, Vec<_>) = args.into_iter().unzip();
        let test = Test { name, args, span: Span { start: offset(start), end: offset(i) } };
        match predicate::check(self.kind, self.syntax, &test) {
            Ok(()) => Ok((i, Expr::Test(test))),
            Err(Refusal { arg, problem }) => {
                let (rest, length) =
                    arg.and_then(|n| places.get(n)).copied().unwrap_or((start.len(), start.len() - i.len()));
                fail(Fault { rest, length, problem })
            }
        }
    }

    /// What to write instead of an unknown matcher.
    fn suggest(&self, word: &str) -> String {
        let known = Name::known(self.kind, self.syntax);
        let like = known.iter().find(|name| name.as_str().eq_ignore_ascii_case(word));
        let counterpart = match (self.syntax, word.to_ascii_lowercase().as_str()) {
            (Syntax::V3, "headers") => Some(Name::Header),
            (Syntax::V3, "headersregexp") => Some(Name::HeaderRegexp),
            (Syntax::V3, "hostheader") => Some(Name::Host),
            (Syntax::V2, "header") => Some(Name::Headers),
            (Syntax::V2, "headerregexp") => Some(Name::HeadersRegexp),
            _ => None,
        };
        match like.copied().or(counterpart.filter(|name| known.contains(name))) {
            Some(name) => format!("`{}`", name.as_str()),
            None => {
                let names: Vec<_> = known.iter().map(|name| format!("`{}`", name.as_str())).collect();
                format!("one of {}", names.join(", "))
            }
        }
    }
}

fn chained(first: Expr, mut more: Vec<Expr>) -> Vec<Expr> {
    more.insert(0, first);
    more
}

/// An argument, and where it stands (its rest and length).
type Argument = (String, (usize, usize));

/// Arguments up to and with the closing parenthesis. As in any Go call a comma may follow the last
/// argument, and so may `...`, which means nothing here.
fn arguments(i: &str) -> Parsed<'_, Vec<Argument>> {
    let close = |i| preceded(blank, char(')')).parse_complete(i);
    let mut args = Vec::new();
    let mut rest = i;
    loop {
        if let Ok((i, _)) = close(rest) {
            return Ok((i, args));
        }
        let (i, _) = blank(rest)?;
        let what = if args.is_empty() { "a string or `)`" } else { "a string in backticks or double quotes" };
        let (after, text) = need(alt((raw, quoted)), what).parse_complete(i)?;
        args.push((text, (i.len(), i.len() - after.len())));
        let (i, spread) = preceded(blank_in_line, opt(tag("..."))).parse_complete(after)?;
        let (i, _) = blank_in_line(i)?;
        match char::<_, Fault>(',').parse_complete(i) {
            Ok((i, _)) if spread.is_none() => rest = i,
            Ok((i, _)) => {
                return map(preceded(blank, need(char(')'), "`)`")), |_| std::mem::take(&mut args)).parse_complete(i);
            }
            Err(_) => return map(need(char(')'), "`,` or `)`"), |_| std::mem::take(&mut args)).parse_complete(i),
        }
    }
}

/// A raw string; Go drops carriage returns within.
fn raw(i: &str) -> Parsed<'_, String> {
    let (rest, _) = char('`').parse_complete(i)?;
    match terminated(opt(is_not::<_, _, Fault>("`")), char('`')).parse_complete(rest) {
        Ok((rest, text)) => Ok((rest, text.unwrap_or_default().replace('\r', ""))),
        Err(_) => {
            let problem = Problem::Unclosed { what: "a string", expected: "a backtick" };
            fail(Fault { rest: i.len(), length: i.len(), problem })
        }
    }
}

/// A string with escapes. These may name single bytes; what is then no UTF-8 becomes U+FFFD, byte
/// by byte, as in the path that it is compared with.
fn quoted(i: &str) -> Parsed<'_, String> {
    let (rest, _) = char('"').parse_complete(i)?;
    let text = map(is_not("\"\\\n"), |text: &str| text.as_bytes().to_vec());
    let (rest, bytes) = fold_many0(alt((text, escape)), Vec::new, |mut all, piece| {
        all.extend(piece);
        all
    })
    .parse_complete(rest)?;
    match char::<_, Fault>('"').parse_complete(rest) {
        Ok((rest, _)) => Ok((rest, lossy(bytes))),
        Err(_) => {
            let problem = Problem::Unclosed { what: "a string", expected: "a double quote" };
            fail(Fault { rest: i.len(), length: i.len() - rest.len(), problem })
        }
    }
}

fn escape(i: &str) -> Parsed<'_, Vec<u8>> {
    let simple = |c, byte: u8| value(vec![byte], char(c));
    let digits = |n, radix| {
        map_opt(take_while_m_n(n, n, move |c: char| c.is_digit(radix)), move |text| {
            u32::from_str_radix(text, radix).ok()
        })
    };
    let byte = |n: u32| u8::try_from(n).ok().map(|byte| vec![byte]);
    let unicode = |n: u32| char::from_u32(n).map(|c| c.to_string().into_bytes());
    let named = alt((
        simple('a', 7),
        simple('b', 8),
        simple('f', 12),
        simple('n', b'\n'),
        simple('r', b'\r'),
        simple('t', b'\t'),
        simple('v', 11),
        map(one_of("\\\""), |c| vec![u8::try_from(c).unwrap_or_default()]),
    ));
    let numbered = alt((
        map_opt(digits(3, 8), byte),
        map_opt(preceded(char('x'), digits(2, 16)), byte),
        map_opt(preceded(char('u'), digits(4, 16)), unicode),
        map_opt(preceded(char('U'), digits(8, 16)), unicode),
    ));
    let all = alt((named, numbered));
    preceded(char('\\'), need(all, "an escape such as `\\n`, `\\\\`, `\\x41` or `\\u00e9` (or a string in backticks)"))
        .parse_complete(i)
}
