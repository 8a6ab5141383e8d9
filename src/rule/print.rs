//! A rule as text, in the canonical form: documented spelling of matchers, one blank around
//! operators, parentheses only where needed, raw strings where possible.

use super::ast::{Expr, Rule, Test};
use std::fmt::{self, Display, Formatter, Write};

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.root().fmt(f)
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut Formatter<'_>, parts: &[Self], operator: &str, inside_all: bool| {
            for (i, part) in parts.iter().enumerate() {
                if i > 0 {
                    f.write_str(operator)?;
                }
                match part {
                    Self::Any(_) if inside_all => write!(f, "({part})")?,
                    _ => part.fmt(f)?,
                }
            }
            Ok(())
        };
        match self {
            Self::Test(test) => test.fmt(f),
            Self::Not(inner) => match **inner {
                Self::All(_) | Self::Any(_) => write!(f, "!({inner})"),
                _ => write!(f, "!{inner}"),
            },
            Self::All(parts) => joined(f, parts, " && ", true),
            Self::Any(parts) => joined(f, parts, " || ", false),
        }
    }
}

impl Display for Test {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name.as_str())?;
        for (i, arg) in self.args.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            quote(f, arg)?;
        }
        f.write_char(')')
    }
}

const BOM: char = '\u{feff}';

fn quote(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    if !text.contains(|c: char| c == '`' || c.is_control() || c == BOM) {
        return write!(f, "`{text}`");
    }
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            _ if c.is_control() || c == BOM => write!(f, "\\u{:04x}", u32::from(c))?,
            _ => f.write_char(c)?,
        }
    }
    f.write_char('"')
}
