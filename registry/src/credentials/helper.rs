//! Credential helpers: programs `docker-credential-NAME` that keep secrets for Docker. They are told
//! what to do by an argument, and about what by stdin; they answer in JSON.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::{Credential, CredentialError};

/// The name that goes with an identity token.
const TOKEN_NAME: &str = "<token>";
/// What helpers say when they know nothing of a server.
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

/// What a helper knows for a server. A helper that is not installed knows nothing: settings are
/// carried from machine to machine.
pub(super) fn get(helper: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    let answer = match run(helper, "get", server.as_bytes())? {
        Some(Ok(answer)) => answer,
        Some(Err(message)) if message.contains(NOT_FOUND) => return Ok(None),
        Some(Err(message)) => return Err(failed(helper, &message)),
        None => return Ok(None),
    };
    let secret: Secret = serde_json::from_slice(&answer)
        .map_err(|_| failed(helper, "its answer is not the JSON of a credential"))?;
    Ok(match secret {
        Secret { secret, .. } if secret.is_empty() => None,
        Secret { username, secret, .. } if username == TOKEN_NAME => {
            Some(Credential::IdentityToken(secret))
        }
        Secret { username, secret, .. } => {
            Some(Credential::Password { username, password: secret })
        }
    })
}

/// Has a helper keep a credential.
pub(super) fn store(helper: &str, server: &str, new: &Credential) -> Result<(), CredentialError> {
    let (username, secret) = match new {
        Credential::Password { username, password } => (username.as_str(), password),
        Credential::IdentityToken(token) => (TOKEN_NAME, token),
    };
    let secret =
        Secret { server: server.into(), username: username.into(), secret: secret.clone() };
    let input = serde_json::to_vec(&secret).map_err(|error| failed(helper, &error.to_string()))?;
    command(helper, "store", &input)
}

/// Has a helper forget a server.
pub(super) fn erase(helper: &str, server: &str) -> Result<(), CredentialError> {
    command(helper, "erase", server.as_bytes())
}

fn command(helper: &str, action: &str, input: &[u8]) -> Result<(), CredentialError> {
    match run(helper, action, input)? {
        Some(Ok(_)) => Ok(()),
        Some(Err(message)) => Err(failed(helper, &message)),
        None => Err(failed(helper, "no such program")),
    }
}

/// What the helper wrote, or why it failed; `None` if there is no such program.
fn run(
    helper: &str,
    action: &str,
    input: &[u8],
) -> Result<Option<Result<Vec<u8>, String>>, CredentialError> {
    let io_failed = |error: io::Error| failed(helper, &error.to_string());
    if helper.contains('/') {
        return Err(failed(helper, "not the name of a helper"));
    }
    let child = Command::new(format!("docker-credential-{helper}"))
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        child => child.map_err(io_failed)?,
    };
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            // Then it has already made up its mind.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(io_failed(error));
            }
            _ => {}
        }
    }
    let output = child.wait_with_output().map_err(io_failed)?;
    if output.status.success() {
        return Ok(Some(Ok(output.stdout)));
    }
    // They report on stdout.
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let line = String::from_utf8_lossy(&said).lines().next().unwrap_or("failed").to_owned();
    Ok(Some(Err(line)))
}

fn failed(helper: &str, message: &str) -> CredentialError {
    CredentialError::Helper { helper: helper.to_owned(), message: message.to_owned() }
}
