//! Names in archives: made harmless, checked against what was asked for, and renamed.

use super::UnpackError;
use super::show;

/// Longest path in bytes: Linux' `PATH_MAX` without its NUL.
const MAX_PATH: usize = 4095;

/// Which names an archive may have, and what becomes of them. Paths are relative and clean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entries {
    /// Any, as they are.
    Any,
    /// What lies in a directory, under names relative to it; it goes into the directory of this
    /// name, or straight to the destination.
    Contents { into: Option<Vec<u8>> },
    /// A directory of this name and what is below it, to be called otherwise.
    Directory { name: Vec<u8>, rename: Vec<u8> },
    /// A single thing that is not a directory, to be called otherwise.
    Single { name: Vec<u8>, rename: Vec<u8> },
}

impl Entries {
    /// The path that an entry goes to, relative to the destination; empty for the destination
    /// itself.
    pub(super) fn place(&self, name: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let unexpected = || UnpackError::Unexpected(show(name));
        let path = clean(name).ok_or_else(|| UnpackError::Outside(show(name)))?;
        let placed = match self {
            Self::Any | Self::Contents { into: None } => path,
            Self::Contents { into: Some(into) } => join(into, &path),
            Self::Directory { name: top, rename } => {
                let rest = path.strip_prefix(&top[..]).ok_or_else(unexpected)?;
                match rest.split_first() {
                    None => rename.clone(),
                    Some((b'/', rest)) => join(rename, rest),
                    Some(_) => return Err(unexpected()),
                }
            }
            Self::Single { name: only, rename } if path == *only => rename.clone(),
            Self::Single { .. } => return Err(unexpected()),
        };
        if placed.len() > MAX_PATH {
            return Err(UnpackError::PathTooLong(show(name)));
        }
        Ok(placed)
    }
}

/// The shortest relative path that means the same where no symbolic link is on the way, `..` taken
/// back word by word: empty for the top itself, `None` for what is above it.
#[must_use]
pub fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let mut words: Vec<&[u8]> = Vec::new();
    for word in path.split(|&byte| byte == b'/') {
        match word {
            b"" | b"." => {}
            b".." => drop(words.pop()?),
            word => words.push(word),
        }
    }
    Some(words.join(&b'/'))
}

fn join(top: &[u8], path: &[u8]) -> Vec<u8> {
    if path.is_empty() { top.to_vec() } else { [top, b"/", path].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_word_by_word() {
        for (path, expected) in [
            ("a//b/./c/", Some("a/b/c")),
            ("/a/../b", Some("b")),
            ("./", Some("")),
            ("/", Some("")),
            ("a/../..", None),
            ("../a", None),
            ("...", Some("...")),
        ] {
            assert_eq!(clean(path.as_bytes()).as_deref(), expected.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn row30_only_what_was_asked_for_is_taken() {
        let (name, rename) = (b"dir".to_vec(), b"new".to_vec());
        let directory = Entries::Directory { name: name.clone(), rename: rename.clone() };
        let single = Entries::Single { name, rename };
        let place = |entries: &Entries, name: &str| {
            entries.place(name.as_bytes()).ok().map(|path| String::from_utf8(path).unwrap())
        };
        assert_eq!(place(&directory, "dir/"), Some("new".into()));
        assert_eq!(place(&directory, "/dir/x"), Some("new/x".into()));
        assert_eq!(place(&single, "dir"), Some("new".into()));
        for name in [".bashrc", "dirx", "dir/../.ssh", "../dir", ".", ""] {
            assert_eq!(place(&directory, name), None, "{name}");
            assert_eq!(place(&single, name), None, "{name}");
        }
        assert_eq!(place(&single, "dir/x"), None);
    }

    #[test]
    fn contents_go_into_a_directory_or_to_the_top() {
        let top = Entries::Contents { into: None };
        let into = Entries::Contents { into: Some(b"new".to_vec()) };
        assert_eq!(top.place(b"./a").unwrap(), b"a");
        assert_eq!(top.place(b"./").unwrap(), b"");
        assert_eq!(into.place(b"./a").unwrap(), b"new/a");
        assert_eq!(into.place(b"/").unwrap(), b"new");
        assert!(into.place(b"./../a").is_err());
    }
}
