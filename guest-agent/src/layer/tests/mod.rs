//! Changes on real overlays, against two judges: a plain comparison of both trees as Docker makes it,
//! and the layer as GNU tar puts it over a copy of the image.

mod judge;
mod random;

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use agent_protocol::{Change, ChangeKind, read_frame};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::*;

/// As the agent mounts it (`boot/mounts.rs`).
const OPTIONS: &str = "index=off,redirect_dir=on,metacopy=on,xino=on";

/// An overlay on a tmpfs, in a mount namespace that ends with the test's thread.
struct Overlay {
    folder: tempfile::TempDir,
}

impl Overlay {
    /// Makes one over an image that a shell script makes in its working directory.
    fn of_script(script: &str) -> Self {
        Self::of(|lower| sh(lower, script))
    }

    fn of(make_lower: impl FnOnce(&Path)) -> Self {
        // SAFETY: the thread gets its own mounts, root and working directory; it shares no file
        // descriptor of the old ones with code that relies on them.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
            .expect("this test needs to be root");
        let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", flags).unwrap();
        let folder = tempfile::tempdir().unwrap();
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), c"").unwrap();
        let overlay = Self { folder };
        for name in ["lower", "upper", "work", "merged", "applied", "layer"] {
            fs::create_dir(overlay.at(name)).unwrap();
        }
        make_lower(&overlay.at("lower"));
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| overlay.at(name));
        let data = format!(
            "lowerdir={},upperdir={},workdir={},{OPTIONS}",
            lower.display(),
            upper.display(),
            work.display()
        );
        let data = std::ffi::CString::new(data).unwrap();
        mount("overlay", overlay.at("merged"), "overlay", MountFlags::empty(), &*data).unwrap();
        overlay
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a script in the container's root.
    fn sh(&self, script: &str) {
        sh(&self.at("merged"), script);
    }

    fn with_trees<T>(&self, act: impl FnOnce(&Trees<'_>) -> T) -> T {
        let [lower, upper, merged] = ["lower", "upper", "merged"].map(|name| self.at(name));
        act(&Trees { lower: &lower, upper: &upper, merged: &merged })
    }

    /// The list of changes.
    fn changes(&self) -> Vec<Change> {
        let mut wire = Vec::new();
        self.with_trees(|trees| changes(trees, &mut wire)).unwrap();
        let mut wire = wire.as_slice();
        std::iter::from_fn(|| read_frame(&mut wire).unwrap()).collect()
    }

    /// The list as `docker diff` prints it.
    fn diff(&self) -> String {
        self.changes().iter().map(line).collect()
    }

    fn archive(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        self.with_trees(|trees| archive(trees, &mut tar)).unwrap();
        tar
    }

    /// The names in the layer, as GNU tar lists them.
    fn entries(&self) -> Vec<String> {
        let path = self.at("layer.tar");
        fs::write(&path, self.archive()).unwrap();
        let path = path.to_str().unwrap();
        let output = Command::new("tar").args(["-tf", path]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let detach = rustix::mount::UnmountFlags::DETACH;
        let _ = rustix::mount::unmount(self.at("merged"), detach);
        let _ = rustix::mount::unmount(self.folder.path(), detach);
    }
}

fn line(change: &Change) -> String {
    let kind = match change.kind {
        ChangeKind::Changed => 'C',
        ChangeKind::Added => 'A',
        ChangeKind::Deleted => 'D',
    };
    let path = std::ffi::OsString::from_vec(change.path.clone());
    format!("{kind} {}\n", Path::new(&path).display())
}

fn sh(folder: &Path, script: &str) {
    let output = Command::new("bash").args(["-euc", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// `user::rw-,user:1234:rw-,group::r--,mask::rw-,other::r--` as `posix_acl_xattr_entry`s.
const ACL: &[u8] = b"\x02\0\0\0\
    \x01\0\x06\0\xff\xff\xff\xff\x02\0\x06\0\xd2\x04\0\0\x04\0\x04\0\xff\xff\xff\xff\
    \x10\0\x06\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";

const IMAGE: &str = r"
    mkdir -p etc usr/bin usr/lib/deep/er var/empty home srv/opaque/sub moved/inner
    for file in etc/passwd etc/group usr/bin/tool usr/lib/deep/er/x srv/opaque/old srv/opaque/sub/x \
        moved/one moved/inner/two srv/gone home/same; do echo $file > $file; done
    ln usr/bin/tool usr/bin/other-name
    ln moved/one moved/one-too
    ln -s passwd etc/link
    chmod 4755 usr/bin/tool
";

#[test]
#[ignore = "mounts overlays as root: scripts/test runs it in the test host"]
fn every_kind_of_change_is_listed_as_docker_lists_it() {
    let overlay = Overlay::of_script(IMAGE);
    assert_eq!(overlay.diff(), "");
    overlay.sh(r"
        echo more >> etc/passwd
        echo new > etc/new
        rm srv/gone etc/link
        chown 7 usr/lib/deep/er/x
        rm -r srv/opaque; mkdir srv/opaque; echo new > srv/opaque/new
        mv moved renamed
        mkdir -p a/b; mkdir a-b; touch a/b/c
        rm home/same; mkdir home/same; touch home/same/below
        touch home/passing; rm home/passing
    ");
    assert_eq!(
        overlay.diff(),
        "A /a\nA /a/b\nA /a/b/c\nA /a-b\nC /etc\nD /etc/link\nA /etc/new\nC /etc/passwd\n\
         C /home\nC /home/same\nA /home/same/below\nD /moved\nA /renamed\nA /renamed/inner\n\
         A /renamed/inner/two\nA /renamed/one\nA /renamed/one-too\nC /srv\nD /srv/gone\n\
         C /srv/opaque\nA /srv/opaque/new\nD /srv/opaque/old\nD /srv/opaque/sub\nC /usr\n\
         C /usr/lib\nC /usr/lib/deep\nC /usr/lib/deep/er\nC /usr/lib/deep/er/x\n"
    );
    judge::agrees(&overlay);
}

#[test]
#[ignore = "mounts overlays as root: scripts/test runs it in the test host"]
fn attributes_and_special_files_come_through_the_layer() {
    let overlay = Overlay::of_script(IMAGE);
    let long = "n".repeat(250);
    overlay.sh(&format!(
        r#"
        chown 3000000:4000000 etc/group; chmod 6711 etc/group
        touch -d '1960-01-01 00:00:00.25' old; touch -d '2300-01-01' late; touch -d @5.000000001 exact
        mkdir -p {long}/{long}/{long}; echo deep > {long}/{long}/{long}/{long}
        ln -s {long}/{long} long-link
        ln {long}/{long}/{long}/{long} long-hard-link
        echo x > $'not-utf8-\xff\xfe'; echo x > $'new\nline'; echo x > 'a.wh.b'
        mknod null c 1 3; mknod disk b 8 70000; mkfifo -m 622 fifo
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
        rm srv/gone; mv socket srv/gone; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
        chown -h 5:6 etc/link
        ln usr/bin/tool usr/bin/linked; ln -s target symlink; ln symlink symlink-too
        chmod 700 .
        truncate -s 0 moved/one
    "#
    ));
    for (path, name, value) in [
        // cap_net_raw+ep, as `vfs_cap_data` of revision 2.
        (
            "usr/bin/tool",
            "security.capability",
            &b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..],
        ),
        ("usr/bin/tool", "trusted.own", b"x"),
        ("etc/passwd", "user.text", b"a=b%c"),
        ("etc/passwd", "user.a%25=b", b"\0\n"),
        ("home", "user.big", &[b'x'; 1000]),
        ("etc/passwd", "system.posix_acl_access", ACL),
        ("srv", "system.posix_acl_default", ACL),
    ] {
        let place = overlay.at("merged").join(path);
        rustix::fs::setxattr(place, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    judge::agrees(&overlay);
    let entries = overlay.entries();
    assert!(!entries.iter().any(|name| name.contains("socket")), "{entries:?}");
    assert_eq!(entries[0], "./");
}

#[test]
#[ignore = "mounts overlays as root: scripts/test runs it in the test host"]
fn whiteouts_come_ahead_of_what_takes_their_place() {
    let overlay = Overlay::of_script(IMAGE);
    overlay.sh("rm -r srv/opaque moved; mkdir srv/opaque; mv usr/lib moved; rm etc/group");
    assert_eq!(
        overlay.entries(),
        [
            "etc/",
            "etc/.wh.group",
            "moved/",
            "moved/.wh..wh..opq",
            "moved/deep/",
            "moved/deep/er/",
            "moved/deep/er/x",
            "srv/",
            "srv/opaque/",
            "srv/opaque/.wh..wh..opq",
            "usr/",
            "usr/.wh.lib",
        ]
    );
    judge::agrees(&overlay);
}

#[test]
#[ignore = "mounts overlays as root: scripts/test runs it in the test host"]
fn what_was_only_made_to_mount_on_is_no_change() {
    let overlay = Overlay::of_script("mkdir -p usr etc; touch etc/hosts");
    overlay.sh(r"
        mkdir -p proc sys dev; touch etc/hostname etc/resolv.conf; ln -s /proc/mounts etc/mtab
    ");
    assert_eq!(overlay.diff(), "");
    assert_eq!(overlay.entries(), [""; 0]);
    assert_eq!(overlay.archive(), [0; 1024]);
    overlay.sh("echo 1.2.3.4 > etc/resolv.conf; touch etc/more; mkdir dev/own");
    assert_eq!(overlay.diff(), "A /dev\nA /dev/own\nC /etc\nA /etc/more\nA /etc/resolv.conf\n");
    overlay.sh("ln -sfn /proc/self/mounts etc/mtab");
    assert!(overlay.diff().contains("A /etc/mtab\n"));

    let bare = Overlay::of_script("mkdir usr");
    bare.sh("mkdir etc proc; touch etc/hosts etc/hostname etc/resolv.conf");
    assert_eq!((bare.diff(), bare.entries()), (String::new(), Vec::new()));
    bare.sh("touch etc/passwd");
    assert_eq!(bare.diff(), "A /etc\nA /etc/passwd\n");
}

#[test]
#[ignore = "mounts overlays as root: scripts/test runs it in the test host"]
fn holes_of_ten_gibibytes_cost_nothing() {
    let overlay = Overlay::of_script("mkdir var");
    overlay.sh(r"
        truncate -s 10G var/empty
        printf head > var/file; truncate -s 5G var/file; printf tail >> var/file
        dd if=/dev/urandom of=var/pieces bs=4096 count=1 seek=100 status=none
        dd if=/dev/urandom of=var/pieces bs=4096 count=9 seek=500 conv=notrunc status=none
        truncate -s 8M var/pieces
        head -c 200000 /dev/zero > var/zeros
    ");
    let layer = overlay.archive();
    assert!(layer.len() < 400_000, "{}", layer.len());
    judge::agrees(&overlay);
}

/// Its whiteout is longer than a name can be, but is no file.
#[test]
#[ignore = "mounts overlays as root: scripts/test runs it in the test host"]
fn the_longest_name_can_be_whited_out() {
    let name = "n".repeat(255);
    let overlay = Overlay::of_script(&format!("touch {name}"));
    overlay.sh(&format!("rm {name}"));
    assert_eq!(overlay.entries(), [format!(".wh.{name}")]);
    assert_eq!(overlay.diff(), format!("D /{name}\n"));
}

/// It would take something from an image that has it.
#[test]
#[ignore = "mounts overlays as root: scripts/test runs it in the test host"]
fn name_of_a_whiteout_does_not_get_into_the_layer() {
    let overlay = Overlay::of_script(IMAGE);
    overlay.sh("touch usr/.wh.bin; mkdir .wh..wh..opq; touch .wh..wh..opq/x");
    assert_eq!(overlay.entries(), ["usr/"]);
    assert_eq!(overlay.diff(), "A /.wh..wh..opq\nA /.wh..wh..opq/x\nC /usr\nA /usr/.wh.bin\n");
}
