//! Arguments and variables in JSON: texts, and what is no text as a list of its bytes.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{Error, SeqAccess, Visitor},
    ser::SerializeSeq,
};

pub fn serialize<S: Serializer>(words: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(words.len()))?;
    for word in words {
        match str::from_utf8(word) {
            Ok(text) => list.serialize_element(text)?,
            Err(_) => list.serialize_element(word)?,
        }
    }
    list.end()
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
    let words = Vec::<Word>::deserialize(deserializer)?;
    Ok(words.into_iter().map(|Word(word)| word).collect())
}

struct Word(Vec<u8>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordVisitor)
    }
}

struct WordVisitor;

impl<'de> Visitor<'de> for WordVisitor {
    type Value = Word;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
        Ok(Word(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Word, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(Word(bytes))
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Words(#[serde(with = "super")] Vec<Vec<u8>>);

    #[test]
    fn words_are_texts_unless_they_are_none() {
        let words = Words(vec![b"sh".to_vec(), vec![0xff, b'a'], Vec::new()]);
        let text = serde_json::to_string(&words).unwrap();
        assert_eq!(text, r#"["sh",[255,97],""]"#);
        assert_eq!(serde_json::from_str::<Words>(&text).unwrap(), words);
        // As they were written before.
        assert_eq!(serde_json::from_str::<Words>("[[115,104],[255,97],[]]").unwrap(), words);
        assert!(serde_json::from_str::<Words>("[[256]]").is_err());
    }
}
