//! The command: looked up as Docker does, inside the container's root and as its user, and
//! executed. The messages are Docker's, which are those of Go's `os/exec`.

use std::ffi::{CString, c_char};
use std::ptr;

use agent_protocol::StartFailure;
use rustix::fs::{Access, FileType, access, stat};
use rustix::io::Errno;

use super::environment::Environment;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum CommandError {
    #[error("no command specified")]
    None,
    #[error("argument {0:?} contains a NUL")]
    Nul(String),
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    #[error("exec: {name:?}: stat {name}: {}", words(*cause))]
    NoSuchFile { name: String, cause: Errno },
    #[error("exec: {name:?}: {}", words(*cause))]
    Unusable { name: String, cause: Errno },
    #[error("exec {path}: {}", words(*cause))]
    Execute { path: String, cause: Errno },
}

impl CommandError {
    /// Docker's exit statuses: 127 for what is not there, 126 for what is not to be executed.
    pub(super) fn reason(&self) -> StartFailure {
        match self {
            Self::None | Self::Nul(_) => StartFailure::Setup,
            Self::NotInPath(_)
            | Self::NoSuchFile { cause: Errno::NOENT, .. }
            | Self::Execute { cause: Errno::NOENT, .. } => StartFailure::NotFound,
            Self::NoSuchFile { .. } | Self::Unusable { .. } | Self::Execute { .. } => {
                StartFailure::NotExecutable
            }
        }
    }
}

/// A command that exists, ready to be executed.
#[derive(Debug)]
pub(super) struct Command {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Command {
    /// Finds the file of the command.
    pub(super) fn look_up(
        arguments: &[Vec<u8>],
        environment: Environment,
    ) -> Result<Self, CommandError> {
        let arguments: Vec<CString> =
            arguments.iter().cloned().map(c_string).collect::<Result<_, _>>()?;
        let name = arguments.first().ok_or(CommandError::None)?.to_bytes();
        let path = c_string(if name.contains(&b'/') {
            check_file(name)?;
            name.to_vec()
        } else {
            find_in(environment.path.as_deref().unwrap_or_default(), name)
                .ok_or_else(|| CommandError::NotInPath(lossy(name)))?
        })?;
        Ok(Self { path, arguments, environment: environment.variables })
    }

    /// Becomes the command; returns only on failure.
    pub(super) fn execute(&self) -> CommandError {
        let arguments = pointers(&self.arguments);
        let environment = pointers(&self.environment);
        // SAFETY: the path is a C string, both lists end with a null pointer and otherwise hold
        // pointers to C strings, and all of them outlive the call.
        unsafe { libc::execve(self.path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        let cause = crate::last_error();
        CommandError::Execute { path: lossy(self.path.to_bytes()), cause }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// The first executable file of that name in the directories of `path`; what else has the name is
/// passed over.
fn find_in(path: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    if path.is_empty() || name.is_empty() {
        return None;
    }
    path.split(|byte| *byte == b':')
        .map(|directory| {
            let directory = if directory.is_empty() { b"." } else { directory };
            [directory, b"/", name].concat()
        })
        .find(|candidate| is_executable(candidate).is_ok())
}

fn check_file(name: &[u8]) -> Result<(), CommandError> {
    stat(name).map_err(|cause| CommandError::NoSuchFile { name: lossy(name), cause })?;
    is_executable(name).map_err(|cause| CommandError::Unusable { name: lossy(name), cause })
}

fn is_executable(path: &[u8]) -> Result<(), Errno> {
    if FileType::from_raw_mode(stat(path)?.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    access(path, Access::EXEC_OK)
}

fn c_string(bytes: Vec<u8>) -> Result<CString, CommandError> {
    CString::new(bytes).map_err(|error| CommandError::Nul(lossy(&error.into_vec())))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An error in the words Docker's users know, which are lower case and without the number.
fn words(error: Errno) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn look_up(name: &str, path: &str) -> Result<String, CommandError> {
        let variables = [format!("PATH={path}").into_bytes()];
        let environment = Environment::prepare(&variables, b"/").unwrap();
        let command = Command::look_up(&[name.as_bytes().to_vec()], environment)?;
        Ok(command.path.to_string_lossy().into_owned())
    }

    fn file(directory: &Path, name: &str, mode: u32) -> String {
        let path = directory.join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().into()
    }

    #[test]
    fn first_executable_in_path_is_taken() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        file(a.path(), "tool", 0o644);
        let tool = file(b.path(), "tool", 0o755);
        let path = format!("/none:{}:{}", a.path().display(), b.path().display());
        assert_eq!(look_up("tool", &path).unwrap(), tool);
    }

    #[test]
    fn directory_of_that_name_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("tool")).unwrap();
        let error = look_up("tool", directory.path().to_str().unwrap()).unwrap_err();
        assert_eq!(error, CommandError::NotInPath("tool".into()));
    }

    #[test]
    fn unknown_name_is_not_found() {
        let error = look_up("foo", "/none").unwrap_err();
        assert_eq!(error.to_string(), r#"exec: "foo": executable file not found in $PATH"#);
        assert_eq!(error.reason(), StartFailure::NotFound);
        assert_eq!(look_up("foo", "").unwrap_err().reason(), StartFailure::NotFound);
        assert_eq!(look_up("", "/bin").unwrap_err().reason(), StartFailure::NotFound);
    }

    #[test]
    fn missing_file_is_not_found() {
        let error = look_up("/x/y", "/bin").unwrap_err();
        assert_eq!(error.to_string(), r#"exec: "/x/y": stat /x/y: no such file or directory"#);
        assert_eq!(error.reason(), StartFailure::NotFound);
    }

    #[test]
    fn directory_is_not_executable() {
        let error = look_up("/usr", "").unwrap_err();
        assert_eq!(error.to_string(), r#"exec: "/usr": is a directory"#);
        assert_eq!(error.reason(), StartFailure::NotExecutable);
    }

    #[test]
    fn file_without_the_bit_is_not_executable() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(directory.path(), "data", 0o644);
        let error = look_up(&path, "").unwrap_err();
        assert_eq!(error.to_string(), format!("exec: {path:?}: permission denied"));
        assert_eq!(error.reason(), StartFailure::NotExecutable);
    }

    #[test]
    fn file_below_a_file_is_not_executable() {
        let error = look_up("/dev/null/x", "").unwrap_err();
        let text = r#"exec: "/dev/null/x": stat /dev/null/x: not a directory"#;
        assert_eq!(error.to_string(), text);
        assert_eq!(error.reason(), StartFailure::NotExecutable);
    }

    #[test]
    fn file_of_no_known_format_fails_in_execve() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(directory.path(), "garbage", 0o755);
        fs::write(&path, "\x01\x02 no format").unwrap();
        let environment = Environment::prepare(&[], b"/").unwrap();
        let command = Command::look_up(&[path.clone().into_bytes()], environment).unwrap();
        let error = command.execute();
        assert_eq!(error.to_string(), format!("exec {path}: exec format error"));
        assert_eq!(error.reason(), StartFailure::NotExecutable);
    }

    #[test]
    fn no_command_and_nul_are_refused() {
        let environment = || Environment::prepare(&[], b"/").unwrap();
        assert_eq!(Command::look_up(&[], environment()).unwrap_err(), CommandError::None);
        let nul = Command::look_up(&[b"a\0b".to_vec()], environment()).unwrap_err();
        assert_eq!(nul.reason(), StartFailure::Setup);
    }

    proptest! {
        #[test]
        fn hostile_names_and_paths_never_panic(
            name in proptest::collection::vec(any::<u8>(), 0..64),
            path in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = find_in(&path, &name);
            let _ = check_file(&name);
            let _ = std::ffi::OsStr::from_bytes(&name);
        }
    }
}
