//! Environment variables of a container.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use anyhow::{Result, anyhow, bail};

/// `NAME=value` entries, one a name, in the order in which the names came first.
#[derive(Debug, Default)]
pub struct Variables(Vec<Vec<u8>>);

impl Variables {
    /// Sets a variable, in place of one of the same name.
    pub fn set(&mut self, entry: Vec<u8>) {
        let name = name(&entry).to_vec();
        match self.0.iter_mut().find(|other| self::name(other) == name) {
            Some(other) => *other = entry,
            None => self.0.push(entry),
        }
    }

    /// Sets a variable that is not there yet.
    pub fn set_if_missing(&mut self, entry: Vec<u8>) {
        if !self.0.iter().any(|other| self::name(other) == self::name(&entry)) {
            self.0.push(entry);
        }
    }

    /// Sets `NAME=value`, or passes `NAME` on from this process; one that is not set here is
    /// removed.
    pub fn set_or_pass_on(&mut self, entry: Vec<u8>) -> Result<()> {
        if name(&entry).is_empty() {
            bail!("invalid environment variable: {}", String::from_utf8_lossy(&entry));
        }
        if entry.contains(&b'=') {
            self.set(entry);
        } else if let Some(value) = env::var_os(OsStr::from_bytes(&entry)) {
            self.set([entry, b"=".to_vec(), value.into_vec()].concat());
        } else {
            self.0.retain(|other| name(other) != entry);
        }
        Ok(())
    }

    /// Reads a file of variables: one a line; blank lines and lines that begin with `#` are
    /// skipped; values are taken as they are, quotes and all.
    pub fn read_file(&mut self, path: &Path) -> Result<()> {
        let shown = path.display();
        let text = fs::read(path)
            .map_err(|error| anyhow!("open {shown}: {}", crate::commands::in_words(&error)))?;
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        for line in text.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let name = name(line);
            if name.is_empty() {
                let line = String::from_utf8_lossy(line);
                bail!("no variable name on line '{line}' of the env file {shown}");
            }
            if name.iter().any(u8::is_ascii_whitespace) {
                let name = String::from_utf8_lossy(name);
                bail!("variable '{name}' contains whitespaces in the env file {shown}");
            }
            self.set_or_pass_on(line.to_vec())?;
        }
        Ok(())
    }

    /// The entries.
    pub fn into_entries(self) -> Vec<Vec<u8>> {
        self.0
    }
}

fn name(entry: &[u8]) -> &[u8] {
    entry.split(|&byte| byte == b'=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(text: &str) -> Result<Vec<String>> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(text.as_bytes())?;
        let mut variables = Variables::default();
        variables.read_file(file.path())?;
        let entries = variables.into_entries().into_iter();
        Ok(entries.map(|entry| String::from_utf8_lossy(&entry).into_owned()).collect())
    }

    #[test]
    fn env_file_reads_as_in_docker() {
        let entries =
            read("# note\n\nA=1\r\n  B='two words'\nA=3\nC=\nNOT_SET_ANYWHERE\n").unwrap();
        assert_eq!(entries, ["A=3", "B='two words'", "C="]);
    }

    #[test]
    fn faults_in_an_env_file_are_named() {
        for text in ["=x\n", "A B=1\n"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn variable_without_value_is_passed_on() {
        let mut variables = Variables::default();
        variables.set_or_pass_on(b"PATH".to_vec()).unwrap();
        let path = env::var_os("PATH").unwrap().into_vec();
        assert_eq!(variables.into_entries(), [[b"PATH=".to_vec(), path].concat()]);
    }
}
