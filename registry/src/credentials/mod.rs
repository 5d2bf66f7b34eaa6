//! Who the user is to a registry: the files that `docker login` and `podman login` write, and the
//! helpers that they name. `vmrun login` writes where Docker does, so either finds the other's.
//!
//! Looked at, in this order, until one knows the registry: `$REGISTRY_AUTH_FILE`,
//! `$DOCKER_CONFIG/config.json` (`~/.docker/config.json`), `$XDG_RUNTIME_DIR/containers/auth.json`,
//! `~/.config/containers/auth.json`.

mod file;
mod helper;

use std::env;
use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

pub(crate) use file::basic;
use file::{AuthFile, names_of};

/// What proves to a registry who the user is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password, or what is used as one.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for others.
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => write!(f, "Password of {username:?}"),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
        }
    }
}

/// Why credentials cannot be read or kept.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// A login file.
    #[error("cannot {action} {}", path.display())]
    File {
        /// "read", "write" and so on.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A credential helper.
    #[error("docker-credential-{helper}: {message}")]
    Helper {
        /// Its name.
        helper: String,
        /// What it said.
        message: String,
    },
    /// No home to keep a login file in.
    #[error("neither HOME nor DOCKER_CONFIG is set, so there is no place for credentials")]
    NoHome,
}

/// Where credentials were put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In a file, readable for whoever reads the file.
    File(PathBuf),
    /// By a helper.
    Helper(String),
}

/// The places where credentials are looked for.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    files: Vec<PathBuf>,
    docker: Option<PathBuf>,
}

impl Credentials {
    /// The places that the environment says.
    #[must_use]
    pub fn from_env() -> Self {
        let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = folder("HOME");
        let docker = folder("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker")));
        let docker = docker.map(|folder| folder.join("config.json"));
        let config = folder("XDG_CONFIG_HOME").or_else(|| Some(home?.join(".config")));
        let podman = |folder: PathBuf| folder.join("containers/auth.json");
        let files = [
            folder("REGISTRY_AUTH_FILE"),
            docker.clone(),
            folder("XDG_RUNTIME_DIR").map(podman),
            config.map(podman),
        ];
        Self { files: files.into_iter().flatten().collect(), docker }
    }

    /// One login file alone, of Docker's kind.
    #[cfg(test)]
    pub(crate) fn in_file(path: PathBuf) -> Self {
        Self { files: vec![path.clone()], docker: Some(path) }
    }

    /// What is known for a repository (`host/path`), or for its host where the path is empty.
    pub(crate) fn find(
        &self,
        host: &str,
        path: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        let names = names_of(host, path);
        for file in &self.files {
            if let Some(found) = AuthFile::read(file)?.find(&names)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The name that is known for a host, if it is known with a password.
    pub fn username(&self, host: &str) -> Result<Option<String>, CredentialError> {
        Ok(match self.find(host, "")? {
            Some(Credential::Password { username, .. }) => Some(username),
            _ => None,
        })
    }

    /// Keeps credentials for a host, where Docker would.
    pub fn keep(&self, host: &str, credential: &Credential) -> Result<Kept, CredentialError> {
        let path = self.docker.as_ref().ok_or(CredentialError::NoHome)?;
        AuthFile::read(path)?.keep(host, credential)
    }

    /// Forgets what is kept for a host in Docker's file; whether anything was.
    pub fn forget(&self, host: &str) -> Result<bool, CredentialError> {
        let path = self.docker.as_ref().ok_or(CredentialError::NoHome)?;
        AuthFile::read(path)?.forget(host)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn files(names: &[&Path]) -> Credentials {
        let files: Vec<_> = names.iter().map(|&path| path.to_owned()).collect();
        Credentials { docker: files.first().cloned(), files }
    }

    fn password(username: &str, password: &str) -> Credential {
        Credential::Password { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn logins_of_docker_and_podman_are_found_most_specific_first() {
        let folder = tempfile::tempdir().unwrap();
        let (docker, podman) = (folder.path().join("config.json"), folder.path().join("auth.json"));
        // "u:one" and so on.
        fs::write(
            &docker,
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpvbmU="},
                "http://b.example/v2/":{"username":"u","password":"two"},
                "t.example":{"auth":"dTp4","identitytoken":"id"},"empty.example":{}}}"#,
        )
        .unwrap();
        fs::write(
            &podman,
            r#"{"auths":{"b.example":{"auth":"dTpmaXZl"},"c.example":{"auth":"dTp0aHJlZQ"},
                "c.example/a/b":{"auth":"dTpmb3Vy"},"empty.example":{"auth":"dTpvbmU="}}}"#,
        )
        .unwrap();
        let known = files(&[&docker, &podman, Path::new("/nonexistent")]);
        for (host, path, expected) in [
            ("docker.io", "library/x", Some(password("u", "one"))),
            ("b.example", "x", Some(password("u", "two"))),
            ("c.example", "a/b/c", Some(password("u", "four"))),
            ("c.example", "a/bc", Some(password("u", "three"))),
            ("t.example", "x", Some(Credential::IdentityToken("id".into()))),
            ("empty.example", "x", Some(password("u", "one"))),
            ("d.example", "x", None),
            ("example", "x", None),
        ] {
            assert_eq!(known.find(host, path).unwrap(), expected, "{host}/{path}");
        }
    }

    #[test]
    fn what_is_kept_is_found_and_what_is_forgotten_is_not_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.json");
        let known = files(&[&path]);
        assert!(!known.forget("a.example").unwrap());
        let login = password("me", "a:b ä");
        assert_eq!(known.keep("a.example:5000", &login).unwrap(), Kept::File(path.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut json: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json["detachKeys"] = "ctrl-x".into();
        fs::write(&path, json.to_string()).unwrap();
        known.keep("docker.io", &Credential::IdentityToken("id".into())).unwrap();
        assert_eq!(known.find("a.example:5000", "x").unwrap(), Some(login));
        assert_eq!(known.username("a.example:5000").unwrap().as_deref(), Some("me"));
        let hub = known.find("docker.io", "library/x").unwrap();
        assert_eq!(hub, Some(Credential::IdentityToken("id".into())));
        assert!(known.forget("a.example:5000").unwrap());
        assert_eq!(known.find("a.example:5000", "x").unwrap(), None);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("ctrl-x") && text.contains("https://index.docker.io/v1/"), "{text}");
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for text in ["{", r#"{"auths":{"a.example":{"auth":"!"}}}"#, r#"{"auths":[]}"#] {
            fs::write(&path, text).unwrap();
            let error = files(&[&path]).find("a.example", "").unwrap_err();
            assert!(error.to_string().contains("config.json"), "{error}");
        }
        fs::write(&path, "[]").unwrap();
        assert!(files(&[&path]).keep("a.example", &password("a", "b")).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "[]");
    }

    #[test]
    fn a_secret_is_not_in_its_debug_form() {
        let shown =
            format!("{:?} {:?}", password("me", "hush"), Credential::IdentityToken("hush".into()));
        assert!(shown.contains("me") && !shown.contains("hush"), "{shown}");
    }
}
