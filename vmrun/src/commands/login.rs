//! `vmrun login` and `vmrun logout`

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context, Result, bail};
use registry::{Credential, Credentials, Kept};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{Host, print};
use crate::cli::{LoginArgs, LogoutArgs};

/// The registry that is meant where none is named.
const DEFAULT: &str = "docker.io";
/// Longest password, in bytes.
const MAX_PASSWORD: u64 = 64 << 10;

pub fn login(args: &LoginArgs) -> Result<()> {
    let server = host_of(args.server.as_deref());
    let registries = Host::open()?.registries()?;
    let credentials = Credentials::from_env();
    if args.password.is_some() {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let (username, password) = ask(args, &server, &credentials)?;
    if username.is_empty() || password.is_empty() {
        bail!("username and password must not be empty");
    }
    let credential = Credential::Password { username, password };
    registries.check(&server, &credential).with_context(|| format!("cannot log in to {server}"))?;
    if let Kept::File(path) = credentials.keep(&server, &credential)? {
        let path = path.display();
        eprintln!("WARNING! Your password will be stored unencrypted in {path}.");
    }
    print("Login Succeeded\n")
}

pub fn logout(args: &LogoutArgs) -> Result<()> {
    let server = host_of(args.server.as_deref());
    match Credentials::from_env().forget(&server)? {
        true => print(&format!("Removing login credentials for {server}\n")),
        false => print(&format!("Not logged in to {server}\n")),
    }
}

/// A registry as references name it, from what may be a URL.
fn host_of(server: Option<&str>) -> String {
    let server = server.unwrap_or(DEFAULT);
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT.to_owned(),
        host => host.to_owned(),
    }
}

/// Name and password: as given, else from stdin or the terminal.
fn ask(args: &LoginArgs, server: &str, credentials: &Credentials) -> Result<(String, String)> {
    if args.password_stdin {
        let username =
            args.username.clone().context("must provide --username with --password-stdin")?;
        let mut password = String::new();
        io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut password)?;
        return Ok((username, password.trim_end_matches(['\r', '\n']).to_owned()));
    }
    let missing = args.username.is_none() || args.password.is_none();
    if missing && !io::stdin().is_terminal() {
        bail!(
            "cannot perform an interactive login from a non TTY device; use --username and \
             --password-stdin"
        );
    }
    let username = match &args.username {
        Some(username) => username.clone(),
        None => ask_username(credentials.username(server)?)?,
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None => {
            let _silent = Silent::enter()?;
            let password = prompt("Password: ");
            eprintln!();
            password?
        }
    };
    Ok((username, password))
}

fn ask_username(known: Option<String>) -> Result<String> {
    let Some(known) = known else { return prompt("Username: ") };
    let answer = prompt(&format!("Username ({known}): "))?;
    Ok(if answer.is_empty() { known } else { answer })
}

fn prompt(text: &str) -> Result<String> {
    io::stderr().write_all(text.as_bytes())?;
    let mut line = String::new();
    io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed, until dropped.
struct Silent(Termios);

impl Silent {
    fn enter() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot read the terminal's settings")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)
            .context("cannot keep the terminal from showing the password")?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_as_in_references() {
        for (server, host) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("localhost:5000"), "localhost:5000"),
            (Some("https://images.example/v2/"), "images.example"),
        ] {
            assert_eq!(host_of(server), host);
        }
    }
}
