//! The three tasks on a folder in the place of a container's root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use agent_protocol::{PathAnswer, PathStat, read_frame};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tar_stream::testing::{Header, TarBuilder};
use tar_stream::{MemberKind, TarReader};

use super::*;

/// A root, and beside it what nobody may reach.
struct Container {
    folder: tempfile::TempDir,
}

impl Container {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("root/etc")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/secret"), "secret").unwrap();
        fs::write(folder.path().join("root/etc/passwd"), "root:x:0").unwrap();
        Self { folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.path(path)).unwrap();
        self
    }

    fn files(&self) -> Files {
        Files::open(&self.path("")).unwrap()
    }

    fn stat(&self, path: &str) -> PathAnswer {
        let mut answer = Vec::new();
        self.files().stat(path.as_bytes(), &mut answer).unwrap();
        read_frame(&mut &answer[..]).unwrap().unwrap()
    }

    fn found(&self, path: &str) -> PathStat {
        match self.stat(path) {
            PathAnswer::Found(stat) => stat,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn target(&self, path: &str) -> String {
        String::from_utf8(self.found(path).link_target).unwrap()
    }

    /// Name, kind and link of each member.
    fn archive(&self, path: &str) -> Result<Vec<(String, MemberKind)>, String> {
        let mut archive = Vec::new();
        self.files().archive(path.as_bytes(), &mut archive).map_err(|error| error.to_string())?;
        let mut reader = TarReader::new(&archive[..]);
        let mut members = Vec::new();
        while let Some(member) = reader.next_member().unwrap() {
            members.push((String::from_utf8(member.path).unwrap(), member.kind));
        }
        Ok(members)
    }

    fn names(&self, path: &str) -> Vec<String> {
        self.archive(path).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    fn extract(&self, folder: &str, archive: &TarBuilder) -> Result<(), String> {
        let archive = archive.finish();
        let extracted = self.files().extract(folder.as_bytes(), &mut &archive[..]);
        extracted.map_err(|error| error.to_string())
    }
}

/// An archive of one small file of whoever runs the test, who may not give files away.
fn own_file(name: &str) -> TarBuilder {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut header = Header::new(name.as_bytes(), b'0', 3);
    header.octal(108, 7, uid.into()).octal(116, 7, gid.into());
    let mut tar = TarBuilder::new();
    tar.raw(&header, b"new");
    tar
}

#[test]
fn a_path_is_looked_at_as_docker_does() {
    let container = Container::new();
    let passwd = container.found("etc/passwd");
    assert_eq!((&passwd.name[..], passwd.size), (&b"passwd"[..], 8));
    assert_eq!(passwd.mode & 0o170_000, 0o100_000);
    assert!(passwd.mtime_seconds > 1_500_000_000);
    for (path, name) in [
        ("/etc", "etc"),
        ("etc/", "etc"),
        ("/etc/.", "."),
        ("/etc/.//", "."),
        ("/", "/"),
        ("", "."),
        (".", "."),
        ("/../../etc/x/../", "etc"),
        ("/etc/..", "/"),
    ] {
        let found = container.found(path);
        assert!(found.is_directory(), "{path}");
        assert_eq!(found.name, name.as_bytes(), "{path}");
    }
    assert_eq!(container.stat("/absent"), PathAnswer::Missing);
    assert_eq!(container.stat("/absent/deeper"), PathAnswer::Missing);
    let not_a_directory = "lstat /etc/passwd/: not a directory".to_owned();
    assert_eq!(container.stat("/etc/passwd/"), PathAnswer::Failed(not_a_directory));
}

#[test]
fn links_lead_to_places_in_the_root() {
    let container = Container::new();
    container.link("relative", "etc/passwd").link("absolute", "/etc/passwd").link("dir", "etc");
    container
        .link("etc/up", "../../../outside/secret")
        .link("dangling", "/no/where")
        .link("chain", "dir");
    container.link("etc/more", "up/../passwd");
    for (path, target) in [
        ("relative", "/etc/passwd"),
        ("absolute", "/etc/passwd"),
        ("dir", "/etc"),
        ("chain", "/etc"),
        ("etc/up", "/outside/secret"),
        ("dir/up", "/outside/secret"),
        ("dangling", "/no/where"),
        ("etc/more", "/outside/passwd"),
    ] {
        assert!(container.found(path).is_symlink(), "{path}");
        assert_eq!(container.target(path), target, "{path}");
    }
    // With a slash behind it, a link is what it leads to.
    assert!(container.found("dir/").is_directory());
    assert_eq!(container.found("chain/.").name, b".");
    assert_eq!(container.found("chain/passwd").size, 8);
    assert_eq!(container.stat("etc/up/"), PathAnswer::Missing);
}

#[test]
fn links_in_a_circle_are_told() {
    let container = Container::new();
    container.link("one", "two").link("two", "one");
    let told = "lstat one/x: too many levels of symbolic links".to_owned();
    assert_eq!(container.stat("one/x"), PathAnswer::Failed(told));
    container.link("grow", "grow/x");
    assert!(matches!(container.stat("grow/y"), PathAnswer::Failed(_)));
}

#[test]
fn archives_begin_with_the_name_that_was_asked_for() {
    let container = Container::new();
    container.link("dir", "etc");
    assert_eq!(container.names("/etc"), ["etc/", "etc/passwd"]);
    assert_eq!(container.names("etc/."), ["./", "./passwd"]);
    assert_eq!(container.names("dir/"), ["dir/", "dir/passwd"]);
    assert_eq!(container.names("dir/passwd"), ["passwd"]);
    assert_eq!(container.names("/"), ["/", "/dir", "/etc/", "/etc/passwd"]);
    assert_eq!(container.archive("/dir").unwrap(), [("dir".into(), MemberKind::Symlink)]);
    assert_eq!(container.archive("/no").unwrap_err(), "Could not find the file /no");
}

#[test]
fn a_fifo_and_a_device_are_not_opened() {
    let container = Container::new();
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, container.path("etc/fifo"), FileType::Fifo, mode, 0).unwrap();
    assert_eq!(container.archive("etc/fifo").unwrap(), [("fifo".into(), MemberKind::Fifo)]);
}

#[test]
fn nothing_of_the_kernel_s_is_found() {
    let files = Files::open(Path::new("/")).unwrap();
    for path in ["/proc/version", "/proc/self/fd/0", "/proc/self/exe/", "/proc/self/stat"] {
        let mut archive = Vec::new();
        assert!(files.archive(path.as_bytes(), &mut archive).is_err(), "{path}");
        assert!(archive.is_empty(), "{path}");
    }
    let mut archive = Vec::new();
    files.archive(b"/proc", &mut archive).unwrap();
    assert_eq!(archive.len(), 512 + 1024);
}

#[test]
fn an_archive_goes_where_links_lead_within_the_root() {
    let container = Container::new();
    fs::create_dir(container.path("outside")).unwrap();
    container.link("dir", "/etc").link("up", "../../outside");
    container.extract("/dir/", &own_file("one")).unwrap();
    container.extract("up", &own_file("two")).unwrap();
    container.extract("/", &own_file("up/three")).unwrap();
    for path in ["etc/one", "outside/two", "outside/three"] {
        assert_eq!(fs::read(container.path(path)).unwrap(), b"new", "{path}");
    }
    assert_eq!(fs::read_dir(container.folder.path().join("outside")).unwrap().count(), 1);
}

#[test]
fn what_an_archive_cannot_go_to_is_told() {
    let container = Container::new();
    container.link("dangling", "/no/where");
    let told = |folder: &str| container.extract(folder, &own_file("x")).unwrap_err();
    assert_eq!(told("/absent"), "Could not find the file /absent");
    assert_eq!(told("/dangling"), "Could not find the file /dangling");
    assert_eq!(told("/etc/passwd"), "extraction point is not a directory");
    let over = container.extract("/", &own_file("etc")).unwrap_err();
    assert_eq!(over, r#"cannot overwrite directory "/etc" with non-directory "/""#);
    let out = container.extract("/etc", &own_file("../x")).unwrap_err();
    assert_eq!(out, r#""../x" is outside of the destination"#);
}

#[test]
fn the_input_is_read_to_its_end() {
    let container = Container::new();
    let archive = [own_file("x").finish(), vec![0; 10 << 10]].concat();
    let mut left = &archive[..];
    container.files().extract(b"/", &mut left).unwrap();
    assert!(left.is_empty());
}

#[test]
fn what_was_archived_comes_back() {
    let (from, to) = (Container::new(), Container::new());
    fs::write(from.path("etc/large"), vec![1; 1 << 20]).unwrap();
    from.link("etc/link", "large");
    let mut archive = Vec::new();
    from.files().archive(b"etc", &mut archive).unwrap();
    fs::create_dir(to.path("new")).unwrap();
    to.files().extract(b"new", &mut &archive[..]).unwrap();
    assert_eq!(fs::read(to.path("new/etc/link")).unwrap(), vec![1; 1 << 20]);
    assert_eq!(to.names("new/etc"), from.names("etc"));
}
