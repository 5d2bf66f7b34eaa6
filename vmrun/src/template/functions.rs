//! The functions that a template may call: Go's own, and Docker's.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::{
    printf::printf,
    value::{Kind, Value},
};

/// Most characters that `pad` adds or `truncate` leaves.
const LONGEST: u64 = 1 << 16;

/// What a function is called with.
pub struct Arguments<'a> {
    pub values: Vec<Value<'a>>,
    /// They are the headers of a table, which functions let be.
    pub headers: bool,
}

pub type Function = for<'a> fn(Arguments<'a>) -> Result<Value<'a>, String>;

const FUNCTIONS: &[(&str, Function)] = &[
    ("and", last),
    ("or", last),
    ("not", |args| Ok(Value::owned(!args.at(0)?.is_true()))),
    ("len", len),
    ("index", index),
    ("slice", slice),
    ("print", |args| Ok(Value::owned(print(&args.values)))),
    ("println", |args| Ok(Value::owned(println(&args.values)))),
    ("printf", |args| Ok(Value::owned(printf(args.text(0)?, &args.values[1..])))),
    ("html", |args| Ok(Value::owned(html(&print(&args.values))))),
    ("js", |args| Ok(Value::owned(js(&print(&args.values))))),
    ("urlquery", |args| Ok(Value::owned(url_query(&print(&args.values))))),
    ("eq", equal),
    ("ne", |args| Ok(Value::owned(!is_equal(args.at(0)?, args.at(1)?)?))),
    ("lt", |args| compare(&args, Ordering::is_lt)),
    ("le", |args| compare(&args, Ordering::is_le)),
    ("gt", |args| compare(&args, Ordering::is_gt)),
    ("ge", |args| compare(&args, Ordering::is_ge)),
    ("json", json),
    ("join", join),
    ("split", split),
    ("title", |args| map_text(&args, title)),
    ("lower", |args| map_text(&args, |text| text.to_lowercase())),
    ("upper", |args| map_text(&args, |text| text.to_uppercase())),
    ("pad", pad),
    ("truncate", truncate),
];

/// The function of a name.
pub fn find(name: &str) -> Option<(&'static str, Function)> {
    FUNCTIONS.iter().find(|(known, _)| *known == name).copied()
}

impl<'a> Arguments<'a> {
    fn at(&self, at: usize) -> Result<&Value<'a>, String> {
        self.values.get(at).ok_or_else(|| {
            format!("wrong number of args: want at least {} got {}", at + 1, self.values.len())
        })
    }

    fn text(&self, at: usize) -> Result<&str, String> {
        let value = self.at(at)?;
        value.json.as_str().ok_or_else(|| {
            format!("wrong type for value; expected string; got {}", value.type_name())
        })
    }

    fn count(&self, at: usize) -> Result<usize, String> {
        let count = self.at(at)?.json.as_u64().filter(|count| *count <= LONGEST);
        let count = count.and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| "a small number is wanted here".into())
    }
}

/// As Go's `Sprint`: a space between two that are not texts.
pub fn print(values: &[Value]) -> String {
    let mut printed = String::new();
    for (at, value) in values.iter().enumerate() {
        let texts = at == 0 || [value, &values[at - 1]].iter().any(|value| value.json.is_string());
        if !texts {
            printed.push(' ');
        }
        printed += &value.print();
    }
    printed
}

fn println(values: &[Value]) -> String {
    let printed: Vec<_> = values.iter().map(Value::print).collect();
    printed.join(" ") + "\n"
}

/// `and` and `or`, where the answer is none of the first.
fn last(mut args: Arguments) -> Result<Value, String> {
    args.at(0)?;
    Ok(args.values.pop().unwrap_or_else(Value::missing))
}

fn len(args: Arguments) -> Result<Value, String> {
    let value = args.at(0)?;
    let length = match &*value.json {
        Json::String(text) => text.len(),
        Json::Array(items) => items.len(),
        Json::Object(fields) if value.kind.is_map() => fields.len(),
        Json::Null if !matches!(value.kind, Kind::Nil | Kind::Missing) => 0,
        _ => return Err(format!("len of type {}", value.type_name())),
    };
    Ok(Value::owned(length))
}

fn index(args: Arguments) -> Result<Value, String> {
    let mut value = args.at(0)?.clone();
    for key in &args.values[1..] {
        value = match (&*value.json, &*key.json) {
            (Json::Array(_), Json::Number(at)) => {
                let item = at.as_u64().and_then(|at| value.item(usize::try_from(at).ok()?));
                item.ok_or_else(|| format!("index out of range: {at}"))?
            }
            (Json::String(text), Json::Number(at)) => {
                let byte = at.as_u64().and_then(|at| usize::try_from(at).ok());
                let byte = byte.and_then(|at| text.as_bytes().get(at).copied());
                Value::owned(byte.ok_or_else(|| format!("index out of range: {at}"))?)
            }
            // Of a map, what it does not have is empty.
            (Json::Object(_) | Json::Null, Json::String(name)) if value.kind.is_map() => {
                value.field(name).unwrap_or_else(|| match value.kind {
                    Kind::Map => Value::owned(""),
                    _ => Value::missing(),
                })
            }
            (Json::Array(_), _) => {
                return Err(format!("cannot index slice/array with type {}", key.type_name()));
            }
            (Json::Null, _) => return Err("index of untyped nil".into()),
            _ => return Err(format!("can't index item of type {}", value.type_name())),
        };
    }
    Ok(value)
}

fn slice(args: Arguments) -> Result<Value, String> {
    let value = args.at(0)?;
    let bound = |at: usize, otherwise: usize| match args.values.get(at) {
        None => Ok(otherwise),
        Some(_) => args.count(at),
    };
    let length = match &*value.json {
        Json::String(text) => text.len(),
        Json::Array(items) => items.len(),
        _ => return Err(format!("can't slice item of type {}", value.type_name())),
    };
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    let part = match &*value.json {
        Json::String(text) => text.get(from..to).map(Value::owned),
        Json::Array(items) => items.get(from..to).map(|items| Value::owned(items.to_vec())),
        _ => None,
    };
    part.ok_or_else(|| format!("index out of range: {to}"))
}

fn equal(args: Arguments) -> Result<Value, String> {
    let first = args.at(0)?;
    args.at(1)?;
    for other in &args.values[1..] {
        if is_equal(first, other)? {
            return Ok(Value::owned(true));
        }
    }
    Ok(Value::owned(false))
}

fn is_equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (&*a.json, &*b.json) {
        (Json::Number(a), Json::Number(b)) => Ok(a.as_f64() == b.as_f64()),
        (Json::String(_), Json::String(_)) | (Json::Bool(_), Json::Bool(_)) => Ok(a.json == b.json),
        (Json::Null, Json::Null) => Ok(true),
        (Json::Null, _) | (_, Json::Null) => Ok(false),
        (Json::Array(_) | Json::Object(_), _) | (_, Json::Array(_) | Json::Object(_)) => {
            Err("non-comparable type".into())
        }
        _ => Err("incompatible types for comparison".into()),
    }
}

fn compare<'a>(args: &Arguments<'a>, wanted: fn(Ordering) -> bool) -> Result<Value<'a>, String> {
    let ordering = match (&*args.at(0)?.json, &*args.at(1)?.json) {
        (Json::Number(a), Json::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64().partial_cmp(&b.as_f64()),
        },
        (Json::String(a), Json::String(b)) => Some(a.cmp(b)),
        _ => return Err("incompatible types for comparison".into()),
    };
    Ok(Value::owned(ordering.is_some_and(wanted)))
}

fn html(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '&' => safe += "&amp;",
            '"' => safe += "&#34;",
            '\'' => safe += "&#39;",
            c => safe.push(c),
        }
    }
    safe
}

fn js(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => safe.extend(['\\', c]),
            '<' | '>' | '&' | '=' => safe += &format!("\\u{:04X}", u32::from(c)),
            c if c.is_control() => safe += &format!("\\u{:04X}", u32::from(c)),
            c => safe.push(c),
        }
    }
    safe
}

fn url_query(text: &str) -> String {
    let mut safe = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                safe.push(byte.into());
            }
            b' ' => safe.push('+'),
            byte => safe += &format!("%{byte:02X}"),
        }
    }
    safe
}

/// What is in it, in JSON; of a map by its sorted keys.
fn json(args: Arguments) -> Result<Value, String> {
    let value = args.at(0)?;
    if args.headers {
        return Ok(value.clone());
    }
    let text = match (&*value.json, value.kind) {
        (Json::Object(fields), kind) if kind.is_map() => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields = fields.into_iter().map(|(name, value)| (name.clone(), value.clone()));
            Json::Object(fields.collect()).to_string()
        }
        (json, _) => json.to_string(),
    };
    Ok(Value::owned(text))
}

fn join(args: Arguments) -> Result<Value, String> {
    let separator = args.text(1)?;
    match &*args.at(0)?.json {
        Json::Array(items) => {
            let words = items.iter().map(|item| Value::borrowed(item).print());
            Ok(Value::owned(words.collect::<Vec<_>>().join(separator)))
        }
        Json::Null => Ok(Value::owned("")),
        _ => Err("wrong type for value; expected []string".into()),
    }
}

fn split(args: Arguments) -> Result<Value, String> {
    let parts: Vec<Json> = args.text(0)?.split(args.text(1)?).map(Json::from).collect();
    Ok(Value::owned(parts))
}

fn map_text<'a>(args: &Arguments<'a>, map: fn(&str) -> String) -> Result<Value<'a>, String> {
    if args.headers {
        return args.at(0).cloned();
    }
    args.text(0).map(|text| Value::owned(map(text)))
}

fn title(text: &str) -> String {
    let mut inside = false;
    let mut titled = String::new();
    for c in text.chars() {
        if !inside && c.is_alphabetic() {
            titled.extend(c.to_uppercase());
        } else {
            titled.push(c);
        }
        inside = !c.is_whitespace();
    }
    titled
}

/// `pad TEXT BEFORE AFTER`
fn pad(args: Arguments) -> Result<Value, String> {
    let (text, before, after) = (args.text(0)?, args.count(1)?, args.count(2)?);
    let spaces = |count| if text.is_empty() { String::new() } else { " ".repeat(count) };
    Ok(Value::owned(format!("{}{text}{}", spaces(before), spaces(after))))
}

fn truncate(args: Arguments) -> Result<Value, String> {
    if args.headers {
        return args.at(0).cloned();
    }
    let kept: String = args.text(0)?.chars().take(args.count(1)?).collect();
    Ok(Value::owned(kept))
}
