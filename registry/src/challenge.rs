//! `WWW-Authenticate`: what a registry wants to see before it answers (RFC 9110 §11.6.1).

use std::collections::BTreeMap;

use ureq::http::HeaderMap;
use ureq::http::header::WWW_AUTHENTICATE;

/// Longest header looked at, in bytes.
const MAX_HEADER: usize = 8 << 10;

/// How a registry wants its clients to show who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A name and a password with each request.
    Basic,
    /// A token, which another server gives.
    Bearer {
        /// URL of that server.
        realm: String,
        /// What to ask it for the token of.
        service: Option<String>,
        /// What the token has to allow.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The challenge of a response that can be answered; a token is preferred.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        let mut found: Vec<Self> = texts.flat_map(parse).collect();
        found.sort_by_key(|challenge| *challenge == Self::Basic);
        found.into_iter().next()
    }
}

/// The challenges in one header that are understood.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = text.get(..text.len().min(MAX_HEADER)).unwrap_or_default();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match after.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, after) = take_value(value.trim_start());
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.insert(word.to_ascii_lowercase(), value);
                }
                rest = after;
            }
            None => {
                found.push((word.to_ascii_lowercase(), BTreeMap::new()));
                rest = after;
            }
        }
    }
    found.into_iter().filter_map(|(scheme, parameters)| understand(&scheme, parameters)).collect()
}

fn understand(scheme: &str, mut parameters: BTreeMap<String, String>) -> Option<Challenge> {
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
        }),
        _ => None,
    }
}

/// A token or a quoted string, and what follows it.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => value.extend(characters.next()),
            other => value.push(other),
        }
    }
    (value, characters.as_str())
}

fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let (service, scope) = (service.map(str::to_owned), scope.map(str::to_owned));
        Some(Challenge::Bearer { realm: realm.to_owned(), service, scope })
    }

    #[test]
    fn challenges_of_registries_are_understood() {
        let value = r#"Bearer realm="https://a.example/token",service="a b",scope="repository:x/y:pull,push""#;
        let expected =
            bearer("https://a.example/token", Some("a b"), Some("repository:x/y:pull,push"));
        assert_eq!(of(&[value]), expected);
        assert_eq!(of(&[r#"Basic realm="Registry Realm""#]), Some(Challenge::Basic));
        assert_eq!(of(&["basic"]), Some(Challenge::Basic));
        let expected = bearer("r", None, None);
        assert_eq!(of(&[r#"Basic realm="x", BEARER Realm = r"#]), expected);
        assert_eq!(of(&["Basic", r#"Bearer realm="r""#]), expected);
        assert_eq!(of(&[r#"Bearer realm="a\"b\\c""#]), bearer(r#"a"b\c"#, None, None));
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(text in "[ -~]{0,60}", words in "[a-z=\", \\\\]{0,60}") {
            let _ = parse(&text);
            let _ = parse(&format!("Bearer {words}"));
        }
    }

    #[test]
    fn what_cannot_be_answered_is_no_challenge() {
        for value in
            ["", "Negotiate", "Bearer", r#"Bearer service="x""#, "=,=,", r#"Digest realm="#]
        {
            assert_eq!(of(&[value]), None, "{value}");
        }
        assert_eq!(of(&[r#"Bearer realm="unterminated"#]), bearer("unterminated", None, None));
        assert!(of(&[&"Basic,".repeat(100_000)]).is_some());
    }
}
