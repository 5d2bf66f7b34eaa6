//! Paths as people type them, by Docker's rules: what a slash or `/.` at the end means is part of
//! the path.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
pub enum Side<'a> {
    Container { name: &'a str, path: &'a [u8] },
    Local(&'a [u8]),
}

impl<'a> Side<'a> {
    /// A colon divides a container's name from a path, unless what is before it looks like a path.
    pub fn parse(argument: &'a OsStr) -> Self {
        let bytes = argument.as_bytes();
        let colon = bytes.iter().position(|&byte| byte == b':');
        let divided = colon.and_then(|colon| bytes.split_at_checked(colon));
        match divided.map(|(name, path)| (str::from_utf8(name), path.get(1..).unwrap_or_default()))
        {
            Some((Ok(name), path)) if !name.is_empty() && !name.starts_with(['/', '.']) => {
                Self::Container { name, path }
            }
            _ => Self::Local(bytes),
        }
    }
}

/// How a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a name.
    Name,
    /// With a slash: it has to be a directory, and a symbolic link is what it leads to.
    Slash,
    /// With `/.`: what is in the directory.
    Dot,
}

/// An absolute path without `.` and `..` in it, and how it was typed at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedPath {
    words: Vec<Vec<u8>>,
    pub end: End,
}

impl TypedPath {
    /// A path from the root, whether it says so or not.
    pub fn from_root(path: &[u8]) -> Self {
        let mut words: Vec<Vec<u8>> = Vec::new();
        for word in path.split(|&byte| byte == b'/') {
            match word {
                b"" | b"." => {}
                b".." => drop(words.pop()),
                word => words.push(word.to_vec()),
            }
        }
        let last = path.iter().rposition(|&byte| byte != b'/').and_then(|at| path.get(..=at));
        let last = last.and_then(|path| path.rsplit(|&byte| byte == b'/').next());
        let end = match last {
            Some(b".") => End::Dot,
            None if path.is_empty() => End::Dot,
            _ if path.ends_with(b"/") => End::Slash,
            _ => End::Name,
        };
        Self { words, end }
    }

    /// A path from a folder, unless it is absolute.
    pub fn from_folder(folder: &Path, path: &[u8]) -> Self {
        if path.starts_with(b"/") {
            return Self::from_root(path);
        }
        let end = Self::from_root(path).end;
        let whole = [folder.as_os_str().as_bytes(), b"/", path].concat();
        Self { end, ..Self::from_root(&whole) }
    }

    /// The same end on another path.
    pub fn moved_to(&self, path: &Path) -> Self {
        Self { end: self.end, ..Self::from_root(path.as_os_str().as_bytes()) }
    }

    /// The path as it would be typed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.cleaned();
        if self.end != End::Name && !self.words.is_empty() {
            bytes.push(b'/');
        }
        if self.end == End::Dot {
            bytes.push(b'.');
        }
        bytes
    }

    /// The path without what was typed at its end.
    pub fn cleaned(&self) -> Vec<u8> {
        [b"/", &self.words.join(&b'/')[..]].concat()
    }

    /// The directory around it; that of the root is the root.
    pub fn parent(&self) -> Vec<u8> {
        let words = self.words.split_last().map(|(_, above)| above).unwrap_or_default();
        [b"/", &words.join(&b'/')[..]].concat()
    }

    /// The last name: `/` for the root, `.` for what is in a directory.
    pub fn base(&self) -> Vec<u8> {
        match (self.end, self.words.last()) {
            (End::Dot, _) => b".".to_vec(),
            (_, Some(last)) => last.clone(),
            (_, None) => b"/".to_vec(),
        }
    }

    /// The directory in which [`TypedPath::base`] is to be found.
    pub fn folder(&self) -> Vec<u8> {
        if self.end == End::Dot { self.cleaned() } else { self.parent() }
    }

    /// Whether the path says that it is a directory.
    pub fn asserts_directory(&self) -> bool {
        self.end != End::Name || self.words.is_empty()
    }
}

/// A path of the file system's.
pub fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container<'a>(name: &'a str, path: &'a str) -> Side<'a> {
        Side::Container { name, path: path.as_bytes() }
    }

    #[test]
    fn a_colon_divides_unless_a_path_is_before_it() {
        for (argument, side) in [
            ("web:/etc", container("web", "/etc")),
            ("web:", container("web", "")),
            ("web:a:b", container("web", "a:b")),
            ("web", Side::Local(b"web")),
            ("./web:x", Side::Local(b"./web:x")),
            ("/a:b", Side::Local(b"/a:b")),
            ("..:b", Side::Local(b"..:b")),
            (":b", Side::Local(b":b")),
            ("-", Side::Local(b"-")),
        ] {
            assert_eq!(Side::parse(OsStr::new(argument)), side, "{argument}");
        }
    }

    #[test]
    fn a_path_keeps_its_end() {
        for (typed, bytes, folder, base) in [
            ("/a/b", "/a/b", "/a", "b"),
            ("a//b/", "/a/b/", "/a", "b"),
            ("/a/b/.", "/a/b/.", "/a/b", "."),
            ("/a/./b/../c", "/a/c", "/a", "c"),
            ("/a/..", "/", "/", "/"),
            ("/", "/", "/", "/"),
            ("/.", "/.", "/", "."),
            ("", "/.", "/", "."),
            ("../..", "/", "/", "/"),
            ("/a/./", "/a/.", "/a", "."),
        ] {
            let path = TypedPath::from_root(typed.as_bytes());
            assert_eq!(path.to_bytes(), bytes.as_bytes(), "{typed}");
            assert_eq!(path.folder(), folder.as_bytes(), "{typed}");
            assert_eq!(path.base(), base.as_bytes(), "{typed}");
        }
    }

    #[test]
    fn local_paths_are_from_the_working_folder() {
        let folder = Path::new("/work/here");
        for (typed, bytes) in [
            ("file", "/work/here/file"),
            (".", "/work/here/."),
            ("..", "/work"),
            ("../x/", "/work/x/"),
            ("/abs/", "/abs/"),
        ] {
            let path = TypedPath::from_folder(folder, typed.as_bytes());
            assert_eq!(path.to_bytes(), bytes.as_bytes(), "{typed}");
        }
    }
}
