//! Go's `printf` over JSON values.

use std::{iter::Peekable, str::Chars};

use serde_json::Value as Json;

use super::value::Value;

/// Widest that a value is padded to.
const WIDEST: usize = 1 << 10;

/// How one value is to be printed: `%-08.3f`.
#[derive(Default)]
struct Verb {
    left: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    verb: char,
}

pub fn printf(format: &str, values: &[Value]) -> String {
    let mut printed = String::new();
    let mut values = values.iter();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            printed.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = rest.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => verb.left = true,
                '+' => verb.plus = true,
                '#' => verb.sharp = true,
                ' ' => verb.space = true,
                _ => verb.zero = true,
            }
        }
        verb.width = number(&mut rest).unwrap_or(0);
        if rest.next_if_eq(&'.').is_some() {
            verb.precision = Some(number(&mut rest).unwrap_or(0));
        }
        let Some(letter) = rest.next() else {
            printed += "%!(NOVERB)";
            break;
        };
        verb.verb = letter;
        if letter == '%' {
            printed.push('%');
            continue;
        }
        match values.next() {
            Some(value) => printed += &verb.pad(verb.print(value)),
            None => printed += &format!("%!{letter}(MISSING)"),
        }
    }
    let extra: Vec<_> =
        values.map(|value| format!("{}={}", value.type_name(), value.print())).collect();
    if !extra.is_empty() {
        printed += &format!("%!(EXTRA {})", extra.join(", "));
    }
    printed
}

/// The digits that come next, if there are some.
fn number(rest: &mut Peekable<Chars>) -> Option<usize> {
    let mut number = None;
    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
        let digit = digit.to_digit(10)? as usize;
        number = Some((number.unwrap_or(0) * 10 + digit).min(WIDEST));
    }
    number
}

impl Verb {
    fn print(&self, value: &Value) -> String {
        let wrong = || format!("%!{}({}={})", self.verb, value.type_name(), value.print());
        match (self.verb, &*value.json) {
            ('T', _) => value.type_name().into(),
            ('v', Json::String(text)) if self.sharp => quote(text),
            ('v', Json::Number(_)) => self.signed(value.print()),
            ('v', _) => value.print(),
            (_, Json::Array(items)) => {
                let items: Vec<_> =
                    items.iter().map(|item| self.pad(self.print(&Value::borrowed(item)))).collect();
                format!("[{}]", items.join(" "))
            }
            ('s', Json::String(text)) => self.cut(text),
            ('q', Json::String(text)) => quote(&self.cut(text)),
            ('x', Json::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('X', Json::String(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
            ('t', Json::Bool(value)) => value.to_string(),
            ('f' | 'F' | 'e' | 'E' | 'g' | 'G', Json::Number(number)) if number.is_f64() => {
                self.float(number.as_f64().unwrap_or_default())
            }
            (verb, Json::Number(number)) => match (number.as_i64(), verb) {
                (_, 'd') if !number.is_f64() => self.signed(number.to_string()),
                (Some(number), 'x') => radix(number, self.sharp, "0x", |n| format!("{n:x}")),
                (Some(number), 'X') => radix(number, self.sharp, "0X", |n| format!("{n:X}")),
                (Some(number), 'o') => radix(number, self.sharp, "0", |n| format!("{n:o}")),
                (Some(number), 'b') => radix(number, false, "", |n| format!("{n:b}")),
                (Some(number), 'c' | 'q') => {
                    let c = u32::try_from(number).ok().and_then(char::from_u32);
                    let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
                    if verb == 'c' { c.into() } else { format!("'{c}'") }
                }
                _ => wrong(),
            },
            _ => wrong(),
        }
    }

    fn cut(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }

    fn float(&self, number: f64) -> String {
        let places = self.precision.unwrap_or(6);
        self.signed(match self.verb {
            'f' | 'F' => format!("{number:.places$}"),
            'e' | 'E' => {
                let text = format!("{number:.places$e}");
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let exponent: i32 = exponent.parse().unwrap_or_default();
                let sign = if exponent < 0 { '-' } else { '+' };
                let text = format!("{digits}e{sign}{:02}", exponent.abs());
                if self.verb == 'E' { text.to_uppercase() } else { text }
            }
            _ => number.to_string(),
        })
    }

    fn signed(&self, number: String) -> String {
        match (number.starts_with('-'), self.plus, self.space) {
            (false, true, _) => format!("+{number}"),
            (false, false, true) => format!(" {number}"),
            _ => number,
        }
    }

    fn pad(&self, text: String) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            return text + &" ".repeat(missing);
        }
        match (self.zero, text.strip_prefix('-')) {
            (true, Some(digits)) => format!("-{}{digits}", "0".repeat(missing)),
            (true, None) => "0".repeat(missing) + &text,
            (false, _) => " ".repeat(missing) + &text,
        }
    }
}

fn radix(number: i64, sharp: bool, prefix: &str, digits: fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let prefix = if sharp { prefix } else { "" };
    format!("{sign}{prefix}{}", digits(number.unsigned_abs()))
}

/// As Go's `strconv.Quote`.
pub fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\x07' => quoted += "\\a",
            '\x08' => quoted += "\\b",
            '\x0c' => quoted += "\\f",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '\x0b' => quoted += "\\v",
            '\0'..='\x7f' if c.is_control() => quoted += &format!("\\x{:02x}", u32::from(c)),
            c if c.is_control() => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
