//! The user of the command, looked up in the image's own `/etc/passwd` and `/etc/group` by Docker's
//! rules. libc's lookups are no use: they would load libraries, and the files are hostile.
//!
//! A malformed line is no entry. Docker reads a broken number as 0, which makes it root; here the
//! user is not found.

use std::collections::BTreeMap;

use rustix::fs::{FileType, fstat};
use rustix::io::{self, Errno, read};

use super::paths::open_file;

/// Largest uid and gid, as Docker's (`threats.md` row 12, CVE-2024-40635).
const MAX_ID: i64 = i32::MAX as i64;
/// Longest passwd or group file that is read, in bytes.
const MAX_FILE: usize = 8 << 20;
/// Most supplementary groups that the kernel takes.
const MAX_GROUPS: usize = 65_536;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("uids and gids must be in range 0-{MAX_ID}")]
    Range,
    #[error("cannot read {path}")]
    Read {
        path: &'static str,
        #[source]
        cause: Errno,
    },
}

/// Who the command runs as.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// All groups, the first one included (CVE-2022-36109).
    pub(super) groups: Vec<u32>,
    /// Home directory; `/` for a user without an entry.
    pub(super) home: Vec<u8>,
}

impl Identity {
    /// Looks up `user`, `user:group`, either by name or number, and more groups in the files of
    /// the current root.
    pub(super) fn look_up(user: &str, more: &[String]) -> Result<Self, UserError> {
        let group = read_file("/etc/group")?;
        let mut identity = resolve(user, &read_file("/etc/passwd")?, &group)?;
        for wanted in more {
            identity.groups.push(explicit_group(wanted, &group)?);
        }
        identity.groups = distinct(identity.groups);
        Ok(identity)
    }
}

/// The names of users by uid, from the files of the current root; of several, the first. None that
/// cannot be read.
pub(crate) fn user_names() -> BTreeMap<u32, Vec<u8>> {
    names(&read_file("/etc/passwd").unwrap_or_default())
}

fn names(passwd: &[u8]) -> BTreeMap<u32, Vec<u8>> {
    let mut names = BTreeMap::new();
    for entry in entries(passwd, passwd_entry) {
        if let Ok(uid) = id(entry.uid) {
            names.entry(uid).or_insert_with(|| entry.name.to_vec());
        }
    }
    names
}

/// A line of passwd.
struct PasswdEntry<'a> {
    name: &'a [u8],
    uid: i64,
    gid: i64,
    home: &'a [u8],
}

/// A line of group.
struct GroupEntry<'a> {
    name: &'a [u8],
    gid: i64,
    members: &'a [u8],
}

fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<Identity, UserError> {
    let mut parts = user.split(':');
    let user = parts.next().unwrap_or_default();
    let group_part = parts.next().unwrap_or_default();

    let number = if user.is_empty() { Some(0) } else { user.parse::<i64>().ok() };
    let entry = entries(passwd, passwd_entry).find(|entry| {
        (!user.is_empty() && entry.name == user.as_bytes()) || number == Some(entry.uid)
    });
    let (uid, default_gid) = match (&entry, number) {
        (Some(entry), _) => (id(entry.uid)?, id(entry.gid)?),
        (None, Some(number)) => (id(number)?, 0),
        (None, None) => return Err(UserError::NoUser(user.into())),
    };

    let (gid, mut groups) = if !group_part.is_empty() {
        (explicit_group(group_part, group)?, Vec::new())
    } else if let Some(entry) = &entry {
        (default_gid, groups_of(entry.name, group)?)
    } else {
        (default_gid, Vec::new())
    };
    groups.insert(0, gid);
    Ok(Identity { uid, gid, groups: distinct(groups), home: home_of(uid, passwd) })
}

/// The group that was asked for, by name or number.
fn explicit_group(wanted: &str, group: &[u8]) -> Result<u32, UserError> {
    let number = wanted.parse::<i64>().ok();
    let found = entries(group, group_entry)
        .find(|entry| number == Some(entry.gid) || entry.name == wanted.as_bytes());
    match (found, number) {
        (Some(entry), _) => id(entry.gid),
        (None, Some(number)) => id(number),
        (None, None) => Err(UserError::NoGroup(wanted.into())),
    }
}

/// The groups that list `name` as a member.
fn groups_of(name: &[u8], group: &[u8]) -> Result<Vec<u32>, UserError> {
    entries(group, group_entry)
        .filter(|entry| entry.members.split(|byte| *byte == b',').any(|member| member == name))
        .map(|entry| id(entry.gid))
        .collect()
}

/// The home directory that goes with a uid, as Docker has it: of its first entry.
fn home_of(uid: u32, passwd: &[u8]) -> Vec<u8> {
    entries(passwd, passwd_entry)
        .find(|entry| entry.uid == i64::from(uid))
        .map(|entry| entry.home.to_vec())
        .filter(|home| !home.is_empty())
        .unwrap_or_else(|| b"/".to_vec())
}

fn distinct(groups: Vec<u32>) -> Vec<u32> {
    let mut seen = std::collections::BTreeSet::new();
    groups.into_iter().filter(|group| seen.insert(*group)).take(MAX_GROUPS).collect()
}

fn id(number: i64) -> Result<u32, UserError> {
    if (0..=MAX_ID).contains(&number) {
        u32::try_from(number).map_err(|_| UserError::Range)
    } else {
        Err(UserError::Range)
    }
}

/// The entries of a file, in order.
fn entries<'a, T>(
    file: &'a [u8],
    parse: impl Fn(&[&'a [u8]]) -> Option<T>,
) -> impl Iterator<Item = T> {
    file.split(|byte| *byte == b'\n').filter_map(move |line| {
        let fields: Vec<_> = line.trim_ascii().splitn(8, |byte| *byte == b':').collect();
        parse(&fields)
    })
}

fn passwd_entry<'a>(fields: &[&'a [u8]]) -> Option<PasswdEntry<'a>> {
    let [name @ [_, ..], _, uid, gid, rest @ ..] = fields else { return None };
    let home = rest.get(1).copied().unwrap_or_default();
    Some(PasswdEntry { name, uid: parse_number(uid)?, gid: parse_number(gid)?, home })
}

fn group_entry<'a>(fields: &[&'a [u8]]) -> Option<GroupEntry<'a>> {
    let [name @ [_, ..], _, gid, rest @ ..] = fields else { return None };
    let members = rest.first().copied().unwrap_or_default();
    Some(GroupEntry { name, gid: parse_number(gid)?, members })
}

fn parse_number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads a file of the image; one that is missing is empty.
fn read_file(path: &'static str) -> Result<Vec<u8>, UserError> {
    let read = || {
        let file = match open_file(path.as_bytes()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            file => file?,
        };
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::RegularFile => read_bounded(&file),
            _ => Err(Errno::INVAL),
        }
    };
    read().map_err(|cause| UserError::Read { path, cause })
}

fn read_bounded(file: &std::os::fd::OwnedFd) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        match read(file, &mut chunk) {
            Ok(0) => return Ok(contents),
            Ok(count) => contents.extend(chunk.iter().take(count)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        if contents.len() > MAX_FILE {
            return Err(Errno::FBIG);
        }
    }
}

#[cfg(test)]
mod tests;
