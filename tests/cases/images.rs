//! Images of all kinds: loaded, listed, run, shared and removed.

use std::{fs::File, io::Read, time::Duration};

use crate::support::{Store, archive, image, sh, vmrun};

/// The tree that the guest sees of an image, against GNU tar's extraction and `rm` for whiteouts.
#[track_caller]
fn assert_tree(store: &Store, name: &str, folder: &str, list: &str) {
    let run = ["run", "--rm", name, "python3", "/lister.py", "/"];
    let run = store.vmrun(run.into_iter().chain((folder != "/").then_some(folder)));
    let seen = run.patience(Duration::from_secs(400)).run().succeeds();
    let expected = std::fs::read_to_string(archive(list)).unwrap();
    // The runtime puts its files into /etc, as Docker does, so it was changed.
    let is_changed = |line: &str| line.starts_with("/etc dir ");
    let of_image = |line: &&str| !line.starts_with("/etc/mtab ");
    let seen: Vec<&str> = seen.lines().filter(of_image).collect();
    for (&seen, expected) in seen.iter().zip(expected.lines()) {
        assert!(
            seen == expected || is_changed(seen) && is_changed(expected),
            "{name}: {seen} is not {expected}"
        );
    }
    assert_eq!(seen.len(), expected.lines().count(), "{name}");
}

#[test]
fn archives_of_every_kind_give_one_tree() {
    let store = Store::new();
    for file in [
        "debian.tar",
        "debian-oci",
        "debian-docker.tar",
        "debian-docker25.tar",
        "debian-zstd.tar",
        "debian-uncompressed.tar",
    ] {
        let out = store.load(file).succeeds();
        assert_eq!(out, "Loaded image: debian:demo\n", "{file}");
        // The name of a root disk is made of the digests of its layers' contents.
        let roots = std::fs::read_dir(store.path().join("roots")).unwrap().count();
        assert_eq!(roots, 1, "{file}");
    }
    assert_tree(&store, "debian:demo", "/", "debian.list");
}

#[test]
fn index_of_several_platforms_gives_this_one() {
    for file in ["platforms", "platforms.tar"] {
        let store = Store::new();
        assert_eq!(store.load(file).succeeds(), "Loaded image: platforms:latest\n");
        let out = store.vmrun(["run", "--rm", "platforms", "ls", "/wrong-platform"]).run();
        assert_ne!(out.status(), 0);
    }
}

#[test]
fn archive_comes_by_stdin_too() {
    let store = Store::new();
    let mut bytes = Vec::new();
    File::open(archive("busybox.tar")).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(
        store.vmrun(["load"]).input(bytes.clone()).run().succeeds(),
        "Loaded image: busybox:latest\n"
    );
    let store = Store::new();
    assert_eq!(
        store.vmrun(["load", "-i", "-"]).input(bytes).run().succeeds(),
        "Loaded image: busybox:latest\n"
    );
}

#[test]
fn images_and_rmi_tell_what_is_there() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let out = store.vmrun(["images"]).run().succeeds();
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with("REPOSITORY   TAG       IMAGE ID       CREATED"), "{out}");
    assert!(lines[1].starts_with("busybox      latest   "), "{out}");
    let id = store.vmrun(["images", "-q"]).run().succeeds();
    store.vmrun(["run", "--rm", id.trim(), "true"]).run().succeeds();
    let out = store.vmrun(["rmi", "busybox"]).run().succeeds();
    assert!(out.contains("Untagged: busybox:latest") && out.contains("Deleted: sha256:"), "{out}");
    assert_eq!(store.vmrun(["images", "-q"]).run().succeeds(), "");
    store.vmrun(["rmi", "busybox"]).run().fails(1, &["o such image", "busybox"]);
}

#[test]
fn image_behind_a_container_is_kept() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    store.vmrun(["run", "--name", "user", "busybox", "true"]).run().succeeds();
    store.vmrun(["rmi", "busybox"]).run().fails(1, &["conflict", "is using"]);
    store.vmrun(["rmi", "-f", "busybox"]).run().succeeds();
    // The container has what it needs all the same.
    store.vmrun(["start", "-a", "user"]).run().succeeds();
    store.vmrun(["rm", "user"]).run().succeeds();
}

/// The end state is as `scripts/make-images.d/many-layers` says.
#[test]
fn hundred_and_twenty_eight_layers_are_one_root() {
    let script = "cat /many/same; ls /many/opaque | sort -n | head -1; ls /many/opaque | wc -l; \
        test ! -e /many/4 && test -e /many/5 && ls /many | grep -c '^[0-9]'";
    let out = vmrun(["run", "--rm", image("many-layers"), "sh", "-c", script]).run().succeeds();
    assert_eq!(out, "128\n100\n29\n85\n");
}

/// busybox is in frames whose windows are wider than the first one's.
#[test]
fn layer_with_a_frame_for_each_file_is_run() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    store.load("chunked.tar").succeeds();
    let files = "cd /; find . -xdev -type f -path './[bu]*' | sort | xargs sha256sum";
    let [gzip, chunked] = ["busybox", "chunked"]
        .map(|image| store.vmrun(["run", "--rm", image, "sh", "-c", files]).run().succeeds());
    assert!(gzip.contains("  ./bin/busybox\n"), "{gzip}");
    assert_eq!(chunked, gzip);
}

/// The image's command is dpkg, which knows the digest of each file; documentation is not installed.
#[test]
fn ten_thousand_small_files_of_one_layer_are_all_there() {
    let store = Store::new();
    store.load("many-files.tar").succeeds();
    let patience = Duration::from_secs(400);
    let out = store.vmrun(["run", "--rm", "many-files"]).patience(patience).run();
    for line in out.succeeds().lines() {
        assert!(line.starts_with("missing     /usr/share/doc/"), "{line}");
    }
    let script = "find /usr/share/go-1.19/src -type f | wc -l";
    let out =
        store.vmrun(["run", "--rm", "many-files", "sh", "-c", script]).patience(patience).run();
    let files: u32 = out.succeeds().trim().parse().unwrap();
    assert!(files > 8000, "{files}");
}

#[test]
fn attributes_are_what_gnu_tar_would_give() {
    let store = Store::new();
    store.load("attrs.tar").succeeds();
    assert_tree(&store, "attrs", "/attrs", "attrs.list");
    let out = store.vmrun(["run", "--rm", "attrs", "cat", "/implicit/deep/file"]).run();
    assert_eq!(out.succeeds(), "implicit\n");
}

#[test]
fn sparse_file_of_five_gibibytes_costs_nothing() {
    let store = Store::new();
    store.load("huge-sparse.tar").succeeds();
    let script = "stat -c %s /huge; tail -c 4096 /huge | head -c 8";
    let out = store.vmrun(["run", "--rm", "huge-sparse", "sh", "-c", script]).run().succeeds();
    assert_eq!(out, format!("{}\nfar away", (5_u64 << 30) + 4096));
}

#[test]
fn concurrent_loads_all_succeed() {
    let store = Store::new();
    let archive = archive("debian.tar");
    let load =
        || store.vmrun([std::ffi::OsStr::new("load"), "-i".as_ref(), archive.as_os_str()]).spawn();
    let children: Vec<_> = (0..3).map(|_| load()).collect();
    for child in children {
        let output = crate::support::finish(child, "vmrun load");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    store.vmrun(["run", "--rm", "debian:demo", "true"]).run().succeeds();
}

#[test]
fn image_is_not_changed_by_its_containers() {
    sh("rm -rf /bin/busybox /etc; true");
    sh("test -d /etc").succeeds();
}
