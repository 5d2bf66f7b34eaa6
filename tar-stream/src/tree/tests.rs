//! Trees there and back, and archives that nobody in their right mind would unpack.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::testing::{Header, TarBuilder};

fn source<'a>(folder: &'a File, entry: &'a [u8], name: &'a [u8]) -> Source<'a> {
    let shown = b"/shown";
    Source { folder: folder.as_fd(), entry, name, shown, owner: None, without_tmpfs: false }
}

fn packed(folder: &Path, entry: &str, name: &str) -> Vec<u8> {
    let folder = File::open(folder).unwrap();
    let mut archive = Vec::new();
    pack(&source(&folder, entry.as_bytes(), name.as_bytes()), &mut archive).unwrap();
    archive
}

fn unpacked(
    into: &Path,
    rights: Rights,
    entries: &Entries,
    archive: &[u8],
) -> Result<(), UnpackError> {
    let root = File::open(into).unwrap();
    let destination = Destination { root: root.as_fd(), folder: b".", shown: b"/shown", rights };
    unpack(&destination, entries, archive)
}

const USER: Rights = Rights::User { owners: false };

fn refusal(into: &Path, archive: &TarBuilder) -> String {
    unpacked(into, USER, &Entries::Any, &archive.finish()).unwrap_err().to_string()
}

/// Every path below a folder, and all that is to be kept of it.
fn listing(folder: &Path) -> BTreeMap<String, String> {
    fn visit(top: &Path, path: &Path, found: &mut BTreeMap<String, String>) {
        let metadata = fs::symlink_metadata(path).unwrap();
        let content = match metadata.file_type() {
            kind if kind.is_file() => format!("{:?}", fs::read(path).unwrap()),
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(path).unwrap()),
            _ => String::new(),
        };
        let name = path.strip_prefix(top).unwrap().display().to_string();
        let (mode, time, links) = (metadata.mode(), metadata.mtime(), metadata.nlink());
        // A directory's links depend on what is in it.
        let links = if metadata.is_dir() { 0 } else { links };
        found.insert(name, format!("{mode:o} {time} {links} {content}"));
        if metadata.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                visit(top, &entry.unwrap().path(), found);
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(folder, folder, &mut found);
    found
}

/// One of everything, dated, in `tree`.
fn example() -> TempDir {
    let folder = tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    fs::write(tree.join("sub/large"), vec![7; 300_000]).unwrap();
    fs::write(tree.join("sub").join("n".repeat(200)), "").unwrap();
    fs::hard_link(tree.join("file"), tree.join("sub/also-file")).unwrap();
    symlink("../file", tree.join("sub/link")).unwrap();
    symlink("/nowhere/".repeat(40), tree.join("dangling")).unwrap();
    mknodat(CWD, tree.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    fs::set_permissions(tree.join("file"), Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(tree.join("sub"), Permissions::from_mode(0o555)).unwrap();
    let touch = ["-h", "-d", "2001-02-03 04:05:06"];
    let mut find = Command::new("find");
    find.arg(&tree).args(["-depth", "-exec", "touch"]).args(touch).args(["{}", ";"]);
    assert!(find.status().unwrap().success());
    folder
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let (from, to) = (example(), tempdir().unwrap());
    let entries = Entries::Directory { name: b"tree".to_vec(), rename: b"tree".to_vec() };
    for rights in [USER, Rights::Root] {
        // As somebody who may not give files away, root's rights are only tried with own files.
        unpacked(to.path(), rights, &entries, &packed(from.path(), "tree", "tree")).unwrap();
        assert_eq!(listing(&to.path().join("tree")), listing(&from.path().join("tree")));
    }
}

#[test]
fn gnu_tar_makes_the_same_tree_of_an_archive() {
    let (from, to, judge) = (example(), tempdir().unwrap(), tempdir().unwrap());
    let archive = packed(from.path(), "tree", "tree");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &archive).unwrap();
    let tar = Command::new("tar").arg("-xpf").arg(file.path()).arg("-C").arg(judge.path()).status();
    assert!(tar.unwrap().success());
    unpacked(to.path(), USER, &Entries::Any, &archive).unwrap();
    assert_eq!(listing(&to.path().join("tree")), listing(&judge.path().join("tree")));
}

fn names_in(archive: &[u8]) -> Vec<String> {
    let mut reader = crate::TarReader::new(archive);
    let mut names = Vec::new();
    while let Some(member) = reader.next_member().unwrap() {
        names.push(String::from_utf8(member.path).unwrap());
    }
    names
}

#[test]
fn names_in_the_archive_are_docker_s() {
    let folder = tempdir().unwrap();
    fs::create_dir_all(folder.path().join("b/d")).unwrap();
    for file in ["b/c", "b-", "b/d/e", "a"] {
        fs::write(folder.path().join(file), "").unwrap();
    }
    let names = |entry: &str, name: &str| names_in(&packed(folder.path(), entry, name));
    assert_eq!(names("b", "new"), ["new/", "new/c", "new/d/", "new/d/e"]);
    assert_eq!(names("a", "a"), ["a"]);
    assert_eq!(names(".", "."), ["./", "./a", "./b/", "./b/c", "./b/d/", "./b/d/e", "./b-"]);
    assert_eq!(names(".", "/"), ["/", "/a", "/b/", "/b/c", "/b/d/", "/b/d/e", "/b-"]);
}

#[test]
fn only_attributes_that_mean_the_same_elsewhere_are_carried() {
    let (from, to) = (tempdir().unwrap(), tempdir().unwrap());
    let file = from.path().join("file");
    fs::write(&file, "").unwrap();
    if setxattr(&file, "user.mine", b"\0value", XattrFlags::empty()).is_err() {
        // A file system without attributes: nothing to be carried is an answer too.
        assert!(fs::metadata(&file).unwrap().is_file());
    }
    let archive = packed(from.path(), "file", "file");
    unpacked(to.path(), USER, &Entries::Any, &archive).unwrap();
    let read = |path: &Path| {
        let mut value = [0; 16];
        rustix::fs::getxattr(path, "user.mine", &mut value[..])
            .map(|length| value[..length].to_vec())
    };
    assert_eq!(read(&to.path().join("file")), read(&file));
    for (name, carried) in [
        ("user.mine", true),
        ("security.capability", true),
        ("system.posix_acl_access", true),
        ("security.selinux", false),
        ("trusted.overlay.opaque", false),
        ("user.overlay.opaque", false),
    ] {
        assert_eq!(is_carried(name.as_bytes()), carried, "{name}");
    }
}

#[test]
fn an_owner_can_be_put_in_place_of_all_others() {
    let folder = example();
    let opened = File::open(folder.path()).unwrap();
    let mut archive = Vec::new();
    let owner = Some((0, 5_000_000));
    pack(&Source { owner, ..source(&opened, b"tree", b"tree") }, &mut archive).unwrap();
    let mut reader = crate::TarReader::new(&archive[..]);
    while let Some(member) = reader.next_member().unwrap() {
        assert_eq!((member.uid, member.gid), (0, 5_000_000));
    }
}

#[test]
fn what_the_kernel_makes_up_is_only_its_mount_point() {
    assert!(Path::new("/dev/pts/ptmx").exists(), "devpts is mounted where Linux has it");
    let root = File::open("/").unwrap();
    let mut archive = Vec::new();
    pack(&Source { without_tmpfs: true, ..source(&root, b"dev", b"dev") }, &mut archive).unwrap();
    let names = names_in(&archive);
    assert_eq!(names_in(&packed(Path::new("/"), "proc", "proc")), ["proc/"]);
    assert!(names.contains(&"dev/null".to_owned()), "{names:?}");
    assert!(names.contains(&"dev/pts/".to_owned()), "{names:?}");
    assert!(!names.contains(&"dev/pts/ptmx".to_owned()), "{names:?}");
}

#[test]
fn a_source_that_is_not_there_is_named() {
    let folder = tempdir().unwrap();
    let opened = File::open(folder.path()).unwrap();
    let error = pack(&source(&opened, b"absent", b"absent"), Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "lstat /shown: no such file or directory");
}

#[test]
fn files_are_replaced_and_directories_merged() {
    let to = tempdir().unwrap();
    fs::create_dir(to.path().join("dir")).unwrap();
    fs::write(to.path().join("dir/kept"), "kept").unwrap();
    fs::write(to.path().join("canary"), "safe").unwrap();
    fs::hard_link(to.path().join("canary"), to.path().join("dir/hard")).unwrap();
    symlink("../canary", to.path().join("dir/soft")).unwrap();
    let mut tar = TarBuilder::new();
    tar.dir("dir/").file("dir/hard", b"new").file("dir/soft", b"new").file("dir/deep/er/x", b"new");
    unpacked(to.path(), USER, &Entries::Any, &tar.finish()).unwrap();
    let read = |path: &str| fs::read_to_string(to.path().join(path)).unwrap();
    assert_eq!((read("dir/kept"), read("canary")), ("kept".into(), "safe".into()));
    for path in ["dir/hard", "dir/soft", "dir/deep/er/x"] {
        assert_eq!(read(path), "new", "{path}");
    }
}

#[test]
fn files_and_directories_do_not_take_each_other_s_place() {
    let to = tempdir().unwrap();
    fs::create_dir(to.path().join("dir")).unwrap();
    fs::write(to.path().join("file"), "").unwrap();
    assert_eq!(
        refusal(to.path(), TarBuilder::new().file("dir", b"")),
        r#"cannot overwrite directory "/shown/dir" with non-directory "/shown""#
    );
    assert_eq!(
        refusal(to.path(), TarBuilder::new().dir("file/")),
        r#"cannot overwrite non-directory "/shown/file" with directory "/shown""#
    );
}

#[test]
fn the_destination_itself_stays_as_it_is() {
    let to = tempdir().unwrap();
    let before = fs::metadata(to.path()).unwrap().mode();
    let contents = Entries::Contents { into: None };
    unpacked(to.path(), USER, &contents, &TarBuilder::new().dir("./").finish()).unwrap();
    assert_eq!(fs::metadata(to.path()).unwrap().mode(), before);
}

#[test]
fn row30_names_that_lead_out_are_refused() {
    let folder = tempdir().unwrap();
    let to = folder.path().join("to");
    fs::create_dir(&to).unwrap();
    fs::write(folder.path().join("canary"), "safe").unwrap();
    for name in ["../canary", "a/../../canary", "/../canary", ".."] {
        let text = refusal(&to, TarBuilder::new().file(name, b"lost"));
        assert!(text.contains("outside"), "{text}");
    }
    // Absolute names are below the destination, as in Docker.
    unpacked(&to, USER, &Entries::Any, &TarBuilder::new().file("/canary", b"in").finish()).unwrap();
    assert_eq!(fs::read(to.join("canary")).unwrap(), b"in");
    assert_eq!(fs::read(folder.path().join("canary")).unwrap(), b"safe");
}

#[test]
fn row30_links_are_not_followed_on_a_user_s_behalf() {
    let folder = tempdir().unwrap();
    let (to, out) = (folder.path().join("to"), folder.path().join("out"));
    for path in [&to, &out] {
        fs::create_dir(path).unwrap();
    }
    fs::write(out.join("canary"), "safe").unwrap();
    for target in ["../out", out.to_str().unwrap(), "/proc/self/root", ".", "sub"] {
        let mut tar = TarBuilder::new();
        tar.dir("sub/").symlink("link", target).file("link/canary", b"lost");
        let text = refusal(&to, &tar);
        assert!(text.starts_with("open /shown/link: "), "{text}");
        let mut hard = TarBuilder::new();
        hard.symlink("link", target).hard_link("hard", "link/canary");
        assert!(refusal(&to, &hard).starts_with("link /shown/hard: "));
    }
    // The link itself is only a name: what it names is not touched, and it can be replaced.
    let mut tar = TarBuilder::new();
    tar.symlink("link", "../out/canary").file("link", b"in");
    unpacked(&to, USER, &Entries::Any, &tar.finish()).unwrap();
    assert_eq!(fs::read(to.join("link")).unwrap(), b"in");
    assert_eq!(fs::read(out.join("canary")).unwrap(), b"safe");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
}

#[test]
fn row30_hard_links_stay_inside_and_change_no_metadata() {
    let folder = tempdir().unwrap();
    let to = folder.path().join("to");
    fs::create_dir(&to).unwrap();
    let canary = folder.path().join("canary");
    fs::write(&canary, "safe").unwrap();
    fs::set_permissions(&canary, Permissions::from_mode(0o600)).unwrap();
    assert!(refusal(&to, TarBuilder::new().hard_link("x", "../canary")).contains("outside"));
    let text = refusal(&to, TarBuilder::new().hard_link("x", canary.to_str().unwrap()));
    assert!(text.starts_with("link /shown/x: "), "{text}");
    fs::rename(&canary, to.join("canary")).unwrap();
    let mut tar = TarBuilder::new();
    tar.raw(Header::new(b"x", b'1', 0).link(b"canary").octal(100, 7, 0o777), b"").file("x", b"new");
    unpacked(&to, USER, &Entries::Any, &tar.finish()).unwrap();
    let metadata = fs::metadata(to.join("canary")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o600, 1));
    assert_eq!(fs::read(to.join("canary")).unwrap(), b"safe");
}

#[test]
fn row30_devices_and_set_user_id_are_not_for_users() {
    let to = tempdir().unwrap();
    let text = refusal(to.path(), TarBuilder::new().device("null", 1, 3));
    assert_eq!(text, "mknod /shown/null: operation not permitted");
    let mut tar = TarBuilder::new();
    tar.raw(Header::new(b"su", b'0', 0).octal(100, 7, 0o6755), b"");
    unpacked(to.path(), USER, &Entries::Any, &tar.finish()).unwrap();
    assert_eq!(fs::metadata(to.path().join("su")).unwrap().mode() & 0o7777, 0o755);
    unpacked(to.path(), Rights::Root, &Entries::Any, &tar_of_own_su()).unwrap();
    assert_eq!(fs::metadata(to.path().join("su")).unwrap().mode() & 0o7777, 0o6755);
}

/// The same with the owner that runs the test, who may set these bits on what is its own.
fn tar_of_own_su() -> Vec<u8> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut header = Header::new(b"su", b'0', 0);
    header.octal(100, 7, 0o6755).octal(108, 7, uid.into()).octal(116, 7, gid.into());
    TarBuilder::new().raw(&header, b"").finish()
}

#[test]
fn row30_what_was_not_asked_for_is_refused() {
    let to = tempdir().unwrap();
    let single = Entries::Single { name: b"file".to_vec(), rename: b"new".to_vec() };
    for tar in [
        TarBuilder::new().file("file", b"x").file(".bashrc", b"evil"),
        TarBuilder::new().dir("file/"),
        TarBuilder::new().file("file", b"x").hard_link("file", "../secret"),
    ] {
        assert!(unpacked(to.path(), USER, &single, &tar.finish()).is_err());
    }
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn row30_control_characters_are_escaped_in_messages() {
    let to = tempdir().unwrap();
    let text = refusal(to.path(), TarBuilder::new().device("\x1b[2Jnull", 1, 3));
    assert_eq!(text, r"mknod /shown/\u{1b}[2Jnull: operation not permitted");
    let text = refusal(to.path(), TarBuilder::new().file("../\x1b[2J\n", b""));
    assert!(!text.contains(['\x1b', '\n']), "{text}");
    assert_eq!(show("naïve name".as_bytes()), "naïve name");
    assert_eq!(show(&[b'x'; 1000]).chars().count(), 401);
}

#[test]
fn a_truncated_archive_is_an_error() {
    let folder = example();
    let archive = packed(folder.path(), "tree", "tree");
    for cut in [100, 700, 200_000] {
        let to = tempdir().unwrap();
        assert!(unpacked(to.path(), USER, &Entries::Any, &archive[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn a_container_s_own_links_are_followed_within_its_root() {
    let outside = tempdir().unwrap();
    let root = outside.path().join("root");
    fs::create_dir_all(root.join("data")).unwrap();
    fs::create_dir_all(outside.path().join("data")).unwrap();
    symlink("/data", root.join("app")).unwrap();
    symlink("../../../data", root.join("data/up")).unwrap();
    let mut tar = TarBuilder::new();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    for name in ["app/one", "app/up/two", "data/up/up/up/three"] {
        let mut header = Header::new(name.as_bytes(), b'0', 1);
        tar.raw(header.octal(108, 7, uid.into()).octal(116, 7, gid.into()), b"x");
    }
    unpacked(&root, Rights::Root, &Entries::Any, &tar.finish()).unwrap();
    for name in ["one", "two", "three"] {
        assert!(root.join("data").join(name).is_file(), "{name}");
    }
    assert_eq!(fs::read_dir(outside.path().join("data")).unwrap().count(), 0);
}

/// Somebody swaps a directory for a link out of the destination, again and again.
#[test]
fn row30_a_racing_link_leads_nowhere() {
    let outside = tempdir().unwrap();
    let (to, out) = (outside.path().join("to"), outside.path().join("out"));
    fs::create_dir_all(to.join("dir")).unwrap();
    fs::create_dir(&out).unwrap();
    symlink(&out, to.join("link")).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, two) = (to.join("dir"), to.join("link"));
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(CWD, &one, CWD, &two, exchange);
            }
        });
        for _ in 0..2000 {
            let mut tar = TarBuilder::new();
            tar.file("dir/x", b"in").file("other", b"").file("dir/y", b"in");
            let _ = unpacked(&to, USER, &Entries::Any, &tar.finish());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}
