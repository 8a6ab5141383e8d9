//! The expression of a circuit breaker (<https://doc.traefik.io/traefik/middlewares/http/circuitbreaker/>): text to a tree
//! that tells of measures whether the breaker opens. Pure.
//!
//! What always holds: parsing returns a tree or says what is wrong, and never panics; printing a tree and parsing the text
//! gives the same tree. Where Traefik wants `0.5` or `50`, either is a number here.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{char, multispace0};
use nom::combinator::{map, map_opt, opt, value};
use nom::multi::separated_list1;
use nom::number::complete::recognize_float;
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};
use std::fmt;

/// Deepest nesting of parentheses, and longest text in bytes.
const LIMITS: (usize, usize) = (32, 4_096);

/// When a breaker opens.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// One of these, `||`.
    Any(Vec<Self>),
    /// All of these, `&&`.
    All(Vec<Self>),
    /// A measure compared with a number.
    Is(Measure, Comparison, f64),
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// Share of requests answered 502 or 504.
    NetworkErrorRatio,
    /// Requests answered from the first status up to, but without, the second, in relation to those from the third up to the
    /// fourth.
    ResponseCodeRatio([i64; 4]),
    /// Milliseconds within which so many per cent of requests end.
    LatencyAtQuantileMs(f64),
}

/// How it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    Different,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Condition {
    /// Of a text.
    ///
    /// # Errors
    /// What was expected, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("it is empty".to_owned());
        }
        if text.len() > LIMITS.1 {
            return Err(format!("it is longer than {} bytes", LIMITS.1));
        }
        match any(text, 0) {
            Ok((rest, condition)) if rest.trim_start().is_empty() => Ok(condition),
            Ok((rest, _)) => Err(format!("expected `&&`, `||` or its end at `{}`", shown(rest))),
            Err(nom::Err::Error(error) | nom::Err::Failure(error)) => {
                let here = if error.input.trim_start().is_empty() { "its end" } else { &shown(error.input) };
                Err(format!(
                    "expected `NetworkErrorRatio()`, `ResponseCodeRatio(a, b, c, d)` or `LatencyAtQuantileMS(q)` and what \
                     it is compared with, got `{here}`"
                ))
            }
            Err(nom::Err::Incomplete(_)) => Err("it is not complete".to_owned()),
        }
    }

    /// Whether the breaker opens, by what is measured.
    pub fn holds(&self, measured: &dyn Fn(Measure) -> f64) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(measured)),
            Self::All(parts) => parts.iter().all(|part| part.holds(measured)),
            Self::Is(measure, comparison, number) => {
                let found = measured(*measure);
                match comparison {
                    Comparison::Equal => found == *number,
                    Comparison::Different => found != *number,
                    Comparison::Less => found < *number,
                    Comparison::LessOrEqual => found <= *number,
                    Comparison::Greater => found > *number,
                    Comparison::GreaterOrEqual => found >= *number,
                }
            }
        }
    }

    /// Whether it asks how long requests take.
    pub fn asks_for_latency(&self) -> bool {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().any(Self::asks_for_latency),
            Self::Is(measure, ..) => matches!(measure, Measure::LatencyAtQuantileMs(_)),
        }
    }
}

fn shown(text: &str) -> String {
    text.trim_start().chars().take(20).collect()
}

fn blank<'a, T>(
    parser: impl Parser<&'a str, Output = T, Error = nom::error::Error<&'a str>>,
) -> impl Parser<&'a str, Output = T, Error = nom::error::Error<&'a str>> {
    preceded(multispace0, parser)
}

fn any(text: &str, depth: usize) -> IResult<&str, Condition> {
    let parts = separated_list1(blank(tag("||")), |text| all(text, depth));
    map(parts, |parts| of_parts(parts, Condition::Any)).parse(text)
}

fn all(text: &str, depth: usize) -> IResult<&str, Condition> {
    let parts = separated_list1(blank(tag("&&")), |text| one(text, depth));
    map(parts, |parts| of_parts(parts, Condition::All)).parse(text)
}

fn of_parts(mut parts: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            join(parts)
        }
    }
}

fn one(text: &str, depth: usize) -> IResult<&str, Condition> {
    if depth == LIMITS.0 {
        return Err(nom::Err::Failure(nom::error::Error::new(text, nom::error::ErrorKind::TooLarge)));
    }
    let grouped = delimited(blank(char('(')), |text| any(text, depth + 1), blank(char(')')));
    let is = map((blank(measure), blank(comparison), blank(number)), |(m, c, n)| Condition::Is(m, c, n));
    alt((grouped, is)).parse(text)
}

fn measure(text: &str) -> IResult<&str, Measure> {
    let arguments =
        delimited(blank(char('(')), opt(separated_list1(blank(char(',')), blank(number))), blank(char(')')));
    let call = (take_while1(|c: char| c.is_ascii_alphanumeric()), arguments);
    map_opt(call, |(name, arguments): (&str, Option<Vec<f64>>)| match (name, &*arguments.unwrap_or_default()) {
        ("NetworkErrorRatio", []) => Some(Measure::NetworkErrorRatio),
        ("LatencyAtQuantileMS", [quantile]) => Some(Measure::LatencyAtQuantileMs(*quantile)),
        ("ResponseCodeRatio", statuses @ [_, _, _, _]) if statuses.iter().all(|s| s.fract() == 0.0) => {
            let mut all = [0; 4];
            for (to, status) in all.iter_mut().zip(statuses) {
                *to = *status as i64;
            }
            Some(Measure::ResponseCodeRatio(all))
        }
        _ => None,
    })
    .parse(text)
}

fn comparison(text: &str) -> IResult<&str, Comparison> {
    alt((
        value(Comparison::Equal, tag("==")),
        value(Comparison::Different, tag("!=")),
        value(Comparison::LessOrEqual, tag("<=")),
        value(Comparison::GreaterOrEqual, tag(">=")),
        value(Comparison::Less, tag("<")),
        value(Comparison::Greater, tag(">")),
    ))
    .parse(text)
}

/// A number without a sign.
fn number(text: &str) -> IResult<&str, f64> {
    let finite = |text: &str| {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        number.filter(|_| !text.starts_with(['+', '-']))
    };
    map_opt(recognize_float, finite).parse(text)
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], with: &str| {
            for (at, part) in parts.iter().enumerate() {
                f.write_str(if at == 0 { "" } else { with })?;
                match part {
                    Self::Is(..) => write!(f, "{part}")?,
                    _ => write!(f, "({part})")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Any(parts) => joined(f, parts, " || "),
            Self::All(parts) => joined(f, parts, " && "),
            Self::Is(measure, comparison, number) => {
                match measure {
                    Measure::NetworkErrorRatio => f.write_str("NetworkErrorRatio()")?,
                    Measure::ResponseCodeRatio([a, b, c, d]) => write!(f, "ResponseCodeRatio({a}, {b}, {c}, {d})")?,
                    Measure::LatencyAtQuantileMs(quantile) => write!(f, "LatencyAtQuantileMS({quantile:?})")?,
                }
                let comparison = match comparison {
                    Comparison::Equal => "==",
                    Comparison::Different => "!=",
                    Comparison::Less => "<",
                    Comparison::LessOrEqual => "<=",
                    Comparison::Greater => ">",
                    Comparison::GreaterOrEqual => ">=",
                };
                write!(f, " {comparison} {number:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn condition() -> impl Strategy<Value = Condition> {
        let measure = prop_oneof![
            Just(Measure::NetworkErrorRatio),
            prop::array::uniform4(0i64..1_000).prop_map(Measure::ResponseCodeRatio),
            (0.0..100.0).prop_map(Measure::LatencyAtQuantileMs),
        ];
        let comparison = prop::sample::select(vec![
            Comparison::Equal,
            Comparison::Different,
            Comparison::Less,
            Comparison::LessOrEqual,
            Comparison::Greater,
            Comparison::GreaterOrEqual,
        ]);
        let is = (measure, comparison, 0.0..1e9).prop_map(|(m, c, n)| Condition::Is(m, c, n));
        is.prop_recursive(4, 24, 4, |inner| {
            let parts = prop::collection::vec(inner, 2..4);
            prop_oneof![parts.clone().prop_map(Condition::All), parts.prop_map(Condition::Any)]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_the_same(condition in condition()) {
            prop_assert_eq!(Condition::parse(&condition.to_string()), Ok(condition));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[A-Za-z0-9.,()&|<>=! _%-]{0,80}") {
            if let Ok(condition) = Condition::parse(&text) {
                prop_assert_eq!(Condition::parse(&condition.to_string()), Ok(condition));
            }
        }
    }

    #[test]
    fn expressions_of_the_documentation() {
        let holds = |text: &str, network: f64, code: f64, latency: f64| {
            Condition::parse(text).unwrap().holds(&|measure| match measure {
                Measure::NetworkErrorRatio => network,
                Measure::ResponseCodeRatio([500, 600, 0, 600]) => code,
                Measure::ResponseCodeRatio(_) => 9.0,
                Measure::LatencyAtQuantileMs(quantile) => latency * quantile / 50.0,
            })
        };
        assert!(holds("NetworkErrorRatio() > 0.30", 0.31, 0.0, 0.0));
        assert!(!holds("NetworkErrorRatio() > 0.30", 0.3, 0.0, 0.0));
        assert!(holds("ResponseCodeRatio(500, 600, 0, 600) > 0.25", 0.0, 0.26, 0.0));
        assert!(holds("LatencyAtQuantileMS(50.0) > 100", 0.0, 0.0, 101.0));
        let both =
            "ResponseCodeRatio(500,600,0,600)>0.30 || NetworkErrorRatio()>0.10 && LatencyAtQuantileMS(100.0)>=200";
        assert!(holds(both, 0.0, 0.4, 0.0));
        assert!(!holds(both, 0.2, 0.0, 99.0));
        assert!(holds(both, 0.2, 0.0, 100.0));
        assert!(!holds(&format!("({both}) && NetworkErrorRatio() == 0"), 0.2, 0.4, 0.0));
        assert!(Condition::parse(both).unwrap().asks_for_latency());
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        let deep = format!("{}NetworkErrorRatio() > 1{}", "(".repeat(5_000), ")".repeat(5_000));
        for bad in [
            "",
            " ",
            "NetworkErrorRatio()",
            "NetworkErrorRatio() >",
            "NetworkErrorRatio(1) > 0.1",
            "ResponseCodeRatio(500, 600) > 0.1",
            "ResponseCodeRatio(500.5, 600, 0, 600) > 0.1",
            "Latency() > 1",
            "0.1 < NetworkErrorRatio()",
            "NetworkErrorRatio() > 0.1 &&",
            "NetworkErrorRatio() > 0.1 and NetworkErrorRatio() > 0.1",
            "!(NetworkErrorRatio() > 0.1)",
            "NetworkErrorRatio() > -1",
            "(NetworkErrorRatio() > 0.1",
            &deep,
            &deep[..3_000],
        ] {
            assert!(Condition::parse(bad).is_err(), "{bad}");
        }
    }
}
