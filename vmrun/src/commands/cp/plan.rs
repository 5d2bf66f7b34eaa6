//! Where a copy goes and what it is called there: the table of Docker's documentation.
//!
//! ```text
//! source       destination                    goes into       is called
//! ----------   ----------------------------   -------------   ---------------
//! anything     a directory                    that            as the source
//! file         a file                         its directory   as that
//! directory    a file                         —               cannot copy directory
//! directory    nothing                        its directory   as that
//! file         nothing, a slash at its end    —               no such directory
//! file         nothing                        its directory   as that
//! ```

use super::paths::TypedPath;

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub path: TypedPath,
    /// Its name where that is not the last one of the path: a link that was followed keeps its own.
    pub called: Option<Vec<u8>>,
    pub is_directory: bool,
}

/// Where it is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub path: TypedPath,
    pub found: Found,
}

/// What is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    Directory,
    Other,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The directory that it goes into.
    pub folder: Vec<u8>,
    /// Its name there; `.` or `/` if only what is in the source goes there.
    pub name: Vec<u8>,
}

/// Why it will not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("cannot copy directory")]
    DirectoryToFile,
    #[error("no such directory")]
    NoDirectory,
}

impl Plan {
    pub fn make(source: &Source, target: &Target) -> Result<Self, PlanError> {
        match (target.found, source.is_directory) {
            (Found::Directory, _) => {
                let name = source.called.clone().unwrap_or_else(|| source.path.base());
                Ok(Self { folder: target.path.to_bytes(), name })
            }
            (Found::Other, true) => Err(PlanError::DirectoryToFile),
            (Found::Nothing, false) if target.path.asserts_directory() => {
                Err(PlanError::NoDirectory)
            }
            _ => Ok(Self { folder: target.path.folder(), name: target.path.base() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(
        source: &str,
        is_directory: bool,
        target: &str,
        found: Found,
    ) -> Result<Plan, PlanError> {
        let path = TypedPath::from_root(source.as_bytes());
        let source = Source { path, called: None, is_directory };
        Plan::make(&source, &Target { path: TypedPath::from_root(target.as_bytes()), found })
    }

    #[test]
    fn docker_s_table_holds() {
        let goes = |folder: &str, name: &str| {
            Ok(Plan { folder: folder.as_bytes().to_vec(), name: name.as_bytes().to_vec() })
        };
        for (source, is_directory, target, found, expected) in [
            ("/f", false, "/new", Found::Nothing, goes("/", "new")),
            ("/f", false, "/new/", Found::Nothing, Err(PlanError::NoDirectory)),
            ("/f", false, "/new/.", Found::Nothing, Err(PlanError::NoDirectory)),
            ("/f", false, "/d/file", Found::Other, goes("/d", "file")),
            ("/f", false, "/d", Found::Directory, goes("/d", "f")),
            ("/s", true, "/d/new", Found::Nothing, goes("/d", "new")),
            ("/s", true, "/d/new/", Found::Nothing, goes("/d", "new")),
            ("/s", true, "/d/file", Found::Other, Err(PlanError::DirectoryToFile)),
            ("/s", true, "/d", Found::Directory, goes("/d", "s")),
            ("/s/", true, "/d/", Found::Directory, goes("/d/", "s")),
            ("/s/.", true, "/d", Found::Directory, goes("/d", ".")),
            ("/s/.", true, "/d/new", Found::Nothing, goes("/d", "new")),
            ("/", true, "/d", Found::Directory, goes("/d", "/")),
        ] {
            assert_eq!(plan(source, is_directory, target, found), expected, "{source} {target}");
        }
    }
}
