//! A login file: JSON whose `auths` has what is known for each registry, and which may name helpers
//! that know more. What is not understood of it is kept as it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Credential, CredentialError, Kept, helper};

/// The default registry, as references name it.
const DEFAULT: &str = "docker.io";
/// What Docker files its credentials under.
const DEFAULT_KEY: &str = "https://index.docker.io/v1/";
/// Other names of it.
const DEFAULT_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// Padding may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `Authorization` of a name and a password (RFC 7617 §2).
pub(crate) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", encode(username, password))
}

fn encode(username: &str, password: &str) -> String {
    BASE64.encode(format!("{username}:{password}"))
}

/// The names under which a repository's credentials may be filed, most specific first.
pub(super) fn names_of(host: &str, path: &str) -> Vec<String> {
    let mut name = format!("{host}/{path}");
    let mut names = vec![name.clone()];
    while let Some((parent, _)) = name.rsplit_once('/') {
        name = parent.to_owned();
        names.push(name.clone());
    }
    names
}

/// A key of a login file as a name: without scheme and API path, the default registry by its usual
/// name.
fn normalise(key: &str) -> String {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let name = match rest {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    };
    let (host, path) = name.split_once('/').map_or((name, None), |(host, path)| (host, Some(path)));
    let host = if DEFAULT_ALIASES.contains(&host) { DEFAULT } else { host };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

fn key_of(host: &str) -> &str {
    if host == DEFAULT { DEFAULT_KEY } else { host }
}

/// The parts that are understood.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Understood {
    auths: Option<BTreeMap<String, Auth>>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// A login file.
#[derive(Debug)]
pub(super) struct AuthFile {
    path: PathBuf,
    whole: Map<String, Value>,
    understood: Understood,
}

impl AuthFile {
    /// Reads a file; an absent one knows nothing.
    pub(super) fn read(path: &Path) -> Result<Self, CredentialError> {
        let failed = |source| error("read", path, source);
        let whole: Map<String, Value> = match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.into()))?,
            Err(error) if absent(&error) => Map::new(),
            Err(error) => return Err(failed(error.into())),
        };
        let understood = serde_json::from_value(Value::Object(whole.clone()));
        let understood = understood.map_err(|error| failed(error.into()))?;
        Ok(Self { path: path.to_owned(), whole, understood })
    }

    pub(super) fn find(&self, names: &[String]) -> Result<Option<Credential>, CredentialError> {
        let host = names.last().map_or("", String::as_str);
        if let Some(helper) = self.helper(host)
            && let Some(found) = helper::get(helper, key_of(host))?
        {
            return Ok(Some(found));
        }
        for name in names {
            let auths = self.understood.auths.iter().flatten();
            for (_, auth) in auths.filter(|(key, _)| normalise(key) == *name) {
                if let Some(found) = self.credential(auth)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The helper for a host.
    fn helper(&self, host: &str) -> Option<&str> {
        let helpers = self.understood.cred_helpers.iter().flatten();
        let own = helpers.filter(|(key, _)| normalise(key) == host).map(|(_, helper)| helper);
        let helper = own.chain(&self.understood.creds_store).next();
        helper.map(String::as_str).filter(|helper| !helper.is_empty())
    }

    fn credential(&self, auth: &Auth) -> Result<Option<Credential>, CredentialError> {
        if let Some(token) = auth.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Credential::IdentityToken(token.clone())));
        }
        if let Some(encoded) = auth.auth.as_ref().filter(|encoded| !encoded.is_empty()) {
            let decoded =
                BASE64.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
            let (username, password) = pair.ok_or_else(|| {
                error("read", &self.path, "an \"auth\" in it is not base64 of name:password".into())
            })?;
            // Docker pads what it encodes with NUL.
            let password = password.trim_end_matches('\0');
            return Ok(Some(Credential::Password {
                username: username.to_owned(),
                password: password.to_owned(),
            }));
        }
        let pair = auth.username.clone().zip(auth.password.clone());
        Ok(pair.map(|(username, password)| Credential::Password { username, password }))
    }

    pub(super) fn keep(mut self, host: &str, new: &Credential) -> Result<Kept, CredentialError> {
        let helper = self.helper(host).map(str::to_owned);
        let entry = match (&helper, new) {
            (Some(_), _) => json!({}),
            (None, Credential::Password { username, password }) => {
                json!({ "auth": encode(username, password) })
            }
            (None, Credential::IdentityToken(token)) => {
                json!({ "auth": encode("<token>", ""), "identitytoken": token })
            }
        };
        if let Some(helper) = &helper {
            helper::store(helper, key_of(host), new)?;
        }
        let auths = self.whole.entry("auths").or_insert_with(|| json!({}));
        if let Some(auths) = auths.as_object_mut() {
            auths.retain(|key, _| normalise(key) != host);
            auths.insert(key_of(host).to_owned(), entry);
        }
        self.write()?;
        Ok(helper.map_or(Kept::File(self.path), Kept::Helper))
    }

    pub(super) fn forget(mut self, host: &str) -> Result<bool, CredentialError> {
        let helper = self.helper(host).map(str::to_owned);
        let mut known = false;
        if let Some(helper) = helper
            && helper::get(&helper, key_of(host))?.is_some()
        {
            helper::erase(&helper, key_of(host))?;
            known = true;
        }
        let auths = self.whole.get_mut("auths").and_then(Value::as_object_mut);
        if let Some(auths) = auths {
            let before = auths.len();
            auths.retain(|key, _| normalise(key) != host);
            if auths.len() < before {
                known = true;
                self.write()?;
            }
        }
        Ok(known)
    }

    /// Writes beside and renames; for the user alone. A symbolic link stays one.
    fn write(&self) -> Result<(), CredentialError> {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let folder = path.parent().unwrap_or(&path);
        let failed = |error: io::Error| self::error("write", &path, error.into());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let mut text = serde_json::to_vec_pretty(&self.whole).map_err(|e| failed(e.into()))?;
        text.push(b'\n');
        let mut new = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        new.as_file().set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
        new.write_all(&text).and_then(|()| new.as_file().sync_all()).map_err(failed)?;
        new.persist(&path).map_err(|error| failed(error.error))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

fn absent(error: &io::Error) -> bool {
    // Another user's runtime folder is as good as none.
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
    )
}

fn error(
    action: &'static str,
    path: &Path,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> CredentialError {
    CredentialError::File { action, path: path.to_owned(), source }
}
