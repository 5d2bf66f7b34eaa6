//! The keys that leave a container running (`--detach-keys`, Ctrl-P Ctrl-Q by default).

use std::str::FromStr;

/// Bytes that, one after the other, mean the user leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

/// Not keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid escape keys ({0}) provided")]
pub struct KeysError(String);

impl Default for DetachKeys {
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl FromStr for DetachKeys {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        let key = |word: &str| match (word.strip_prefix("ctrl-"), word.as_bytes()) {
            (Some(letter), _) => match letter.as_bytes() {
                [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
                [letter @ b'@'..=b'_'] => Some(letter - b'@'),
                _ => None,
            },
            (None, [byte]) => Some(*byte),
            (None, _) => None,
        };
        let keys = text.split(',').map(key).collect::<Option<Vec<_>>>();
        keys.map(Self).ok_or_else(|| KeysError(text.into()))
    }
}

/// Watches what is typed for the keys.
#[derive(Debug)]
pub struct Watch {
    keys: DetachKeys,
    /// How many of the keys have been typed, and held back.
    typed: usize,
}

/// What becomes of what was typed.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// To be passed on.
    Input(Vec<u8>),
    /// To be passed on, and then the user leaves.
    Leave(Vec<u8>),
}

impl Watch {
    pub fn new(keys: DetachKeys) -> Self {
        Self { keys, typed: 0 }
    }

    /// Takes in what was typed. Keys that may be the beginning are held back until it is clear.
    pub fn take(&mut self, bytes: &[u8]) -> Typed {
        let keys = &self.keys.0;
        let mut input = Vec::with_capacity(bytes.len() + self.typed);
        for &byte in bytes {
            if keys.get(self.typed) == Some(&byte) {
                self.typed += 1;
                if self.typed == keys.len() {
                    return Typed::Leave(input);
                }
                continue;
            }
            input.extend(keys.iter().take(self.typed));
            self.typed = usize::from(keys.first() == Some(&byte));
            if self.typed == 0 {
                input.push(byte);
            }
        }
        Typed::Input(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_in_docker() {
        assert_eq!("ctrl-p,ctrl-q".parse(), Ok(DetachKeys::default()));
        assert_eq!("ctrl-@,a,ctrl-[".parse(), Ok(DetachKeys(vec![0, b'a', 27])));
        for bad in ["", "ctrl-", "ctrl-1", "ab", "a,,b"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_in_a_row_leave_and_others_are_passed_on() {
        let mut watch = Watch::new(DetachKeys::default());
        assert_eq!(watch.take(b"ls\r"), Typed::Input(b"ls\r".to_vec()));
        assert_eq!(watch.take(b"\x10"), Typed::Input(vec![]));
        assert_eq!(watch.take(b"x"), Typed::Input(b"\x10x".to_vec()));
        assert_eq!(watch.take(b"a\x10\x10"), Typed::Input(b"a\x10".to_vec()));
        assert_eq!(watch.take(b"\x11b"), Typed::Leave(vec![]));
    }
}
