//! For `tests/fuzz`: parsers that nothing outside calls.

use ureq::http::header::WWW_AUTHENTICATE;
use ureq::http::{HeaderMap, HeaderValue};

use crate::challenge::Challenge;

/// Parses the value of a `WWW-Authenticate` header.
pub fn challenge(value: &[u8]) {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.append(WWW_AUTHENTICATE, value);
        let _ = Challenge::of(&headers);
    }
}
