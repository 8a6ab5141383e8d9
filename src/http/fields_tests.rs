//! [`Headers`] against a list of names and values that knows no tricks.

use super::fields::{Headers, NameSet, Room};
use super::name::{HeaderName, Known};
use super::{HeaderValue, h1};
use ::http::header::HeaderMap;
use proptest::prelude::*;

/// Names known by number and others, also such that differ in little.
const NAMES: [&str; 10] = [
    "host",
    "te",
    "connection",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-xss-protection",
    "x-a",
    "x_a",
    "x-a-longer-name-than-any-that-is-known",
    "te2",
];

const TOKENS: [&str; 4] = ["close", "a", "", "x y"];

/// A field as the naive list has it: the line is kept only where it came so.
#[derive(Debug, Clone)]
struct Field {
    name: String,
    value: Vec<u8>,
    line: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
struct Model(Vec<Field>);

impl Model {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| &*field.value)
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|field| !field.name.eq_ignore_ascii_case(name));
    }

    fn push(&mut self, name: &str, value: &HeaderValue) {
        self.0.push(Field { name: name.to_owned(), value: value.as_bytes().to_vec(), line: None });
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Set(name, value) => {
                self.remove(name);
                self.push(name, value);
            }
            Change::Append(name, value) => self.push(name, value),
            Change::SetDefault(name, value) => {
                if self.all(name).next().is_none_or(<[u8]>::is_empty) {
                    self.remove(name);
                    self.push(name, value);
                }
            }
            Change::Remove(name) => self.remove(name),
            Change::RemoveText(name) => self.remove(name),
            Change::RemoveWith(byte) => self.0.retain(|field| !field.name.as_bytes().contains(byte)),
        }
    }

    fn map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for field in &self.0 {
            let name = ::http::HeaderName::from_bytes(field.name.as_bytes()).expect("a name");
            map.append(name, HeaderValue::from_bytes(&field.value).expect("a value"));
        }
        map
    }

    /// The value's elements, naively.
    fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).any(|value| {
            String::from_utf8_lossy(value)
                .split(',')
                .any(|element| element.trim_matches([' ', '\t']).eq_ignore_ascii_case(token))
        })
    }
}

#[derive(Debug, Clone)]
enum Change {
    Set(&'static str, HeaderValue),
    Append(&'static str, HeaderValue),
    SetDefault(&'static str, HeaderValue),
    Remove(&'static str),
    RemoveText(String),
    RemoveWith(u8),
}

fn apply(headers: &mut Headers, change: Change) {
    match change {
        Change::Set(name, value) => headers.set(HeaderName::from_static(name), value),
        Change::Append(name, value) => headers.append(HeaderName::from_static(name), value),
        Change::SetDefault(name, value) => headers.set_default(HeaderName::from_static(name), || value),
        Change::Remove(name) => headers.remove(&HeaderName::from_static(name)),
        Change::RemoveText(name) => headers.remove_text(&name),
        Change::RemoveWith(byte) => headers.remove_where(|name| name.contains(&byte)),
    }
}

fn value() -> impl Strategy<Value = HeaderValue> {
    let bytes = prop_oneof![
        3 => prop::sample::select(&["", "close", "A, Close", "keep-alive ,a,", "x y", ",", "\u{e9}"][..])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(prop_oneof![Just(b'\t'), 0x20..0x7f_u8, 0x80..=0xff_u8], 0..12)
            .prop_map(|bytes| bytes.trim_ascii().to_vec()),
    ];
    bytes.prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("a value"))
}

/// A name in any case.
fn any_case() -> impl Strategy<Value = String> {
    (prop::sample::select(&NAMES[..]), any::<u64>()).prop_map(|(name, capitals)| {
        let capital = |(at, c): (usize, char)| if capitals >> at & 1 == 1 { c.to_ascii_uppercase() } else { c };
        name.chars().enumerate().map(capital).collect()
    })
}

fn change() -> impl Strategy<Value = Change> {
    let name = || prop::sample::select(&NAMES[..]);
    prop_oneof![
        3 => (name(), value()).prop_map(|(name, value)| Change::Set(name, value)),
        3 => (name(), value()).prop_map(|(name, value)| Change::Append(name, value)),
        2 => (name(), value()).prop_map(|(name, value)| Change::SetDefault(name, value)),
        2 => name().prop_map(Change::Remove),
        2 => any_case().prop_map(Change::RemoveText),
        1 => prop::sample::select(&b"_2"[..]).prop_map(Change::RemoveWith),
    ]
}

/// Lines of a head as a client might write them.
fn head() -> impl Strategy<Value = Model> {
    let blanks = || prop::sample::select(&["", " ", "\t", "  \t "][..]);
    let field = (any_case(), blanks(), value(), blanks()).prop_map(|(name, before, value, behind)| {
        let line = [name.as_bytes(), b":", before.as_bytes(), value.as_bytes(), behind.as_bytes(), b"\r\n"].concat();
        Field { name, value: value.as_bytes().to_vec(), line: Some(line) }
    });
    prop::collection::vec(field, 0..8).prop_map(Model)
}

fn parsed(model: &Model, room: Room) -> Headers {
    let mut head = b"GET / HTTP/1.1\r\n".to_vec();
    for field in &model.0 {
        head.extend_from_slice(field.line.as_deref().expect("it came so"));
    }
    head.extend_from_slice(b"\r\nthe body");
    let mut lines = Vec::new();
    let limits = h1::Limits { head_bytes: 100_000, lines: 100 };
    assert!(matches!(h1::parse_request(&head, &limits, &mut lines), Ok(h1::Parsed::Complete { .. })));
    Headers::parsed(head, &lines, room)
}

/// Asks everything that can be asked.
fn assert_same(headers: &Headers, model: &Model) {
    assert_eq!((headers.len(), headers.is_empty()), (model.0.len(), model.0.is_empty()));
    for text in NAMES {
        let name = HeaderName::from_static(text);
        let values: Vec<&[u8]> = model.all(text).collect();
        let first = values.first().copied();
        assert_eq!(headers.all(&name).collect::<Vec<_>>(), values, "{text}");
        assert_eq!(headers.get(&name), first, "{text}");
        assert_eq!(headers.text(&name), first.and_then(|value| std::str::from_utf8(value).ok()), "{text}");
        assert_eq!(headers.value_of(&name).as_ref().map(HeaderValue::as_bytes), first, "{text}");
        assert_eq!(headers.contains(&name), first.is_some(), "{text}");
        assert_eq!(headers.lacks(&name), first.is_none_or(<[u8]>::is_empty), "{text}");
        let known = name.known != Known::Other;
        let set = NameSet::of(std::slice::from_ref(&name));
        assert!(first.is_none() || !known || headers.may_have_any(set), "{text}");
        let joined = (!values.is_empty()).then(|| values.join(&b", "[..]));
        assert_eq!(headers.joined(&name).as_deref(), joined.as_deref(), "{text}");
        for token in TOKENS {
            assert_eq!(headers.has_token(&name, token), model.has_token(text, token), "{text}: {token:?}");
        }
        let mut seen = Vec::new();
        assert!(!headers.any(&text.to_ascii_uppercase(), &mut |value| {
            seen.push(value.as_bytes().to_vec());
            false
        }));
        assert_eq!(seen, values.into_iter().filter(|value| std::str::from_utf8(value).is_ok()).collect::<Vec<_>>());
    }
    let pairs = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
    let wanted = model.0.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.clone()));
    assert_eq!(pairs.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());

    let mut out = b"before".to_vec();
    headers.write(&mut out);
    let mut written = out.strip_prefix(b"before").expect("it adds");
    for field in &model.0 {
        let made = [field.name.as_bytes(), b": ", &field.value, b"\r\n"].concat();
        let length = field.line.as_ref().unwrap_or(&made).len();
        let (line, rest) = written.split_at(length);
        match &field.line {
            // What nobody touched is as it came, to the letter.
            Some(came) => assert_eq!(line, came),
            None => {
                let (name, value) = line.split_at(field.name.len());
                assert!(name.eq_ignore_ascii_case(field.name.as_bytes()));
                assert_eq!(value, &made[field.name.len()..]);
            }
        }
        written = rest;
    }
    assert!(written.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn headers_are_a_list_of_names_and_values(
        came in head(),
        before in head(),
        changes in prop::collection::vec(change(), 0..12),
    ) {
        // The room of an earlier head is used again, and nothing of that head is seen.
        let (_, room) = parsed(&before, Room::default()).into_parts();
        let (mut model, mut headers) = (came.clone(), parsed(&came, room));
        assert_same(&headers, &model);
        for change in changes {
            model.apply(&change);
            apply(&mut headers, change);
            assert_same(&headers, &model);
        }

        let map = headers.to_map();
        prop_assert_eq!(&map, &model.map());
        let again = Headers::from_map(&map, Default::default());
        prop_assert_eq!(again.len(), headers.len());
        prop_assert_eq!(again.to_map(), map);
    }

    #[test]
    fn what_is_written_is_read_as_the_same(came in head(), changes in prop::collection::vec(change(), 0..12)) {
        let (mut model, mut headers) = (came.clone(), parsed(&came, Room::default()));
        for change in changes {
            model.apply(&change);
            apply(&mut headers, change);
        }
        let mut out = b"GET / HTTP/1.1\r\n".to_vec();
        headers.write(&mut out);
        out.extend_from_slice(b"\r\n");
        let mut lines = Vec::new();
        let limits = h1::Limits { head_bytes: 100_000, lines: 100 };
        let read = h1::parse_request(&out, &limits, &mut lines);
        prop_assert!(matches!(read, Ok(h1::Parsed::Complete { length, .. }) if length == out.len()), "{read:?}");
        for field in &mut model.0 {
            field.line = None;
        }
        let read = Headers::parsed(out, &lines, Room::default());
        prop_assert_eq!(read.to_map(), model.map());
    }
}
