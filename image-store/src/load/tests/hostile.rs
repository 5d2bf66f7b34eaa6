//! Images that are out to harm: rows 1 to 15 of the threat table.

use super::*;

#[test]
fn row01_paths_out_of_the_root_are_refused_and_absolute_ones_confined() {
    let host = Host::new();
    fs::write(host.path("canary"), "alive").unwrap();
    for name in ["../canary", "a/../../canary", "a/.."] {
        let text = host.refusal(&[TarBuilder::new().file(name, b"dead").finish()]);
        assert!(text.contains("\"..\" in the path"), "{text}");
    }
    let nul = TarBuilder::new().pax(&[("path", b"a\0b")]).file("x", b"").finish();
    assert!(host.refusal(&[nul]).contains("NUL"));
    let canary = host.path("canary");
    let mut absolute = TarBuilder::new();
    absolute.pax(&[("path", canary.as_os_str().as_encoded_bytes())]);
    let tree = host.tree(&[absolute.file("x", b"dead").finish()]);
    assert_eq!(tree[canary.to_str().unwrap().trim_start_matches('/')].data, b"dead");
    assert_eq!(fs::read(canary).unwrap(), b"alive");
}

#[test]
fn row02_symlinked_parents_resolve_in_the_image() {
    let host = Host::new();
    fs::write(host.path("canary"), "alive").unwrap();
    let outside = host.folder.path().to_str().unwrap().to_owned();
    let lower = TarBuilder::new()
        .symlink("abs", &outside)
        .symlink("up", "../../../../up-target")
        .symlink("rel", "real/dir")
        .file("real/dir/old", b"")
        .finish();
    let upper = TarBuilder::new()
        .file("abs/canary", b"dead")
        .file("up/file", b"")
        .file("rel/.wh.old", b"")
        .file("rel/new", b"n")
        .hard_link("linked", "rel/new")
        .finish();
    let tree = host.tree(&[lower, upper]);
    assert_eq!(fs::read(host.path("canary")).unwrap(), b"alive");
    assert_eq!(tree[&format!("{}/canary", outside.trim_start_matches('/'))].data, b"dead");
    assert!(tree.contains_key("up-target/file") && !tree.contains_key("real/dir/old"));
    assert_eq!(tree["linked"].nid, tree["real/dir/new"].nid);

    let circle = TarBuilder::new().symlink("a", "b").symlink("b", "a").file("a/x", b"").finish();
    assert!(Host::new().refusal(&[circle]).contains("symlinks in the path"));
}

#[test]
fn row03_the_root_stays_a_directory() {
    for name in [".", "/", "./"] {
        let text = Host::new().refusal(&[TarBuilder::new().symlink(name, "/etc").finish()]);
        assert!(text.contains("replace the root"), "{text}");
    }
    assert!(Host::new().refusal(&[TarBuilder::new().device(".", 1, 3).finish()]).contains("root"));
    let tree = Host::new().tree(&[TarBuilder::new().dir("./").file("./a", b"").finish()]);
    assert_eq!(names(&tree), ["a"]);
}

#[test]
fn row04_hard_links_to_outside_later_or_themselves_are_refused() {
    for (target, reason) in [
        ("../../etc/passwd", "\"..\""),
        ("/etc/passwd", "missing"),
        ("later", "missing"),
        ("link", "itself"),
        ("dir", "a directory"),
        ("/", "the root"),
    ] {
        let mut tar = TarBuilder::new();
        tar.dir("dir/").hard_link("link", target).file("later", b"");
        let text = Host::new().refusal(&[tar.finish()]);
        assert!(text.contains(reason), "{text}");
    }
    let cycle = TarBuilder::new().hard_link("a", "b").hard_link("b", "a").finish();
    assert!(Host::new().refusal(&[cycle]).contains("missing"));
    let layers = [
        TarBuilder::new().file("low", b"x").finish(),
        TarBuilder::new().hard_link("high", "low").finish(),
    ];
    let tree = Host::new().tree(&layers);
    assert_eq!((tree["low"].nid, tree["low"].links), (tree["high"].nid, 2));
}

#[test]
fn row05_two_opinions_on_a_size_are_refused() {
    let mut tar = TarBuilder::new();
    tar.pax(&[("size", b"512")]).raw(&Header::new(b"a", b'0', 0), &[0; 512]);
    assert!(Host::new().refusal(&[tar.finish()]).contains("size is 0 in the header and 512"));
    let mut tar = TarBuilder::new();
    tar.raw(&Header::new(b"d", b'5', 512), &[0; 512]);
    assert!(Host::new().refusal(&[tar.finish()]).contains("512 bytes of data"));
    let junk = [&TarBuilder::new().file("a", b"").finish()[..512], &[b'x'; 512]].concat();
    assert!(Host::new().refusal(&[junk]).contains("no tar header at byte 512"));
}

#[test]
fn row06_a_bomb_stops_at_the_quota() {
    let limits = Limits { free_inflation: 1 << 20, inflation: 10, ..Limits::DEFAULT };
    let host = Host::with(limits);
    let bomb = TarBuilder::new().file("zeros", &vec![0; 4 << 20]).finish();
    assert!(host.refusal(&[bomb]).contains("inflates to more than"));
    let error = host.load_stream(&gzip(&gzip(&vec![0; 4 << 20]))).unwrap_err();
    chain(&error);
    host.assert_empty();
}

#[test]
fn row07_entries_and_depth_are_limited() {
    let limits = Limits { entries: 100, ..Limits::DEFAULT };
    let mut tar = TarBuilder::new();
    for number in 0..101 {
        tar.file(&format!("{number}"), b"");
    }
    assert!(Host::with(limits).refusal(&[tar.finish()]).contains("more than 100 entries"));
    let path = "d/".repeat(100_000);
    let deep = TarBuilder::new().pax(&[("path", path.as_bytes())]).dir("x").finish();
    assert!(Host::new().refusal(&[deep]).contains("path longer than"));
    // Deeper than any path can say, through symlinks.
    let mut tar = TarBuilder::new();
    let step = "d/".repeat(1500);
    tar.pax(&[("path", step.as_bytes())]).dir("x");
    tar.pax(&[("linkpath", step.as_bytes())]).symlink("s", "");
    tar.pax(&[("path", format!("s/{step}").as_bytes())]).dir("x");
    assert!(Host::new().refusal(&[tar.finish()]).contains("directories deep"));
}

#[test]
fn row08_a_sparse_file_of_eight_exbibytes_is_refused() {
    let mut header = Header::new(b"sparse", b'S', 0);
    header.set(257, b"ustar  \0").set(483, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
    let text = Host::new().refusal(&[TarBuilder::new().raw(&header, b"").finish()]);
    assert!(text.contains("bytes in all"), "{text}");
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"9223372036854775807"),
        ("GNU.sparse.name", b"s"),
    ];
    let mut map = b"0\n".to_vec();
    map.resize(512, 0);
    let tar = TarBuilder::new().pax(&records).file("x", &map).finish();
    assert!(Host::new().refusal(&[tar]).contains("bytes in all"));
}

#[test]
fn row09_whiteouts_of_nothing_and_of_dots() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        let text = Host::new().refusal(&[TarBuilder::new().file(name, b"").finish()]);
        assert!(text.contains("whiteout of no name"), "{text}");
    }
    let lower = TarBuilder::new().file("file", b"").file("keep/x", b"").finish();
    let upper = TarBuilder::new()
        .file(".wh.absent", b"")
        .file("absent/.wh..wh..opq", b"")
        .file("file/.wh.x", b"")
        .file(".wh..wh.plnk/1.2", b"")
        .file(".wh..wh.aufs", b"")
        .file("same", b"")
        .file(".wh.same", b"")
        .finish();
    let tree = Host::new().tree(&[lower, upper]);
    assert_eq!(names(&tree), ["absent", "file", "keep", "keep/x", "same"]);
}

#[test]
fn row10_devices_setuid_and_attributes_are_inodes_only() {
    let mut tar = TarBuilder::new();
    tar.device("null", 1, 3);
    tar.pax(&[("SCHILY.xattr.trusted.overlay.metacopy", b""), ("SCHILY.xattr.security.x", b"1")]);
    tar.raw(Header::new(b"suid", b'0', 0).octal(100, 7, 0o6755), b"");
    tar.raw(&Header::new(b"fifo", b'6', 0), b"");
    let tree = Host::new().tree(&[tar.finish()]);
    assert_eq!((tree["null"].mode, tree["null"].device), (0o020_644, 0x103));
    assert_eq!(tree["suid"].mode, 0o106_755);
    assert_eq!(tree["suid"].xattrs.keys().collect::<Vec<_>>(), ["security.x"]);
    assert_eq!(tree["fifo"].mode & 0o170_000, 0o010_000);
}

#[test]
fn row11_no_layers_or_not_as_many_as_diff_ids() {
    let host = Host::new();
    assert!(host.refusal(&[]).contains("0 layers and 0 diffIDs"));
    let mut image = TestImage::new("bad", &[TarBuilder::new().finish()]);
    image.config["rootfs"]["diff_ids"] = json!([]);
    for archive in [image.archive(), image.docker_archive()] {
        let text = chain(&host.load_stream(&archive).unwrap_err());
        assert!(text.contains("1 layers and 0 diffIDs"), "{text}");
    }
    host.assert_empty();
}

#[test]
fn row12_users_and_environments_are_not_judged_here() {
    let host = Host::new();
    let mut image = TestImage::new("odd", &[TarBuilder::new().finish()]);
    image.config["config"] =
        json!({ "User": "4294967296", "Env": ["A=".to_owned() + &"x".repeat(1 << 20)] });
    host.load_stream(&image.archive()).unwrap();
    assert_eq!(host.store.find("odd").unwrap().config.user, "4294967296");
}

#[test]
fn row13_wrong_digests_sizes_and_diff_ids_publish_nothing() {
    let layer = TarBuilder::new().file("a", b"x").finish();
    let image = TestImage::new("bad", &[layer]);
    let files = image.layout();
    for (number, (name, _)) in files.iter().enumerate().skip(1) {
        let host = Host::new();
        let mut changed = files.clone();
        let bytes = &mut changed[number].1;
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(host.load_file(&tar_of(&changed)).is_err(), "{name}");
        host.assert_empty();
        assert_eq!(host.count("layers"), 0);
        let mut longer = files.clone();
        longer[number].1.push(b' ');
        if name != "index.json" {
            assert!(host.load_file(&tar_of(&longer)).is_err(), "{name}");
            host.assert_empty();
        }
    }
    let host = Host::new();
    let mut wrong = image.clone();
    wrong.config["rootfs"]["diff_ids"] = json!([Digest::of(b"other")]);
    let text = chain(&host.load_stream(&wrong.archive()).unwrap_err());
    assert!(text.contains("diffID"), "{text}");
    assert_eq!((host.count("layers"), host.count("blobs/sha256")), (0, 0));
}

#[test]
fn row15_documents_are_limited() {
    let host = Host::new();
    let mut files = TestImage::new("bad", &[TarBuilder::new().finish()]).layout();
    let index = files.last_mut().unwrap();
    index.1.resize((4 << 20) + 1, b' ');
    assert!(chain(&host.load_stream(&tar_of(&files)).unwrap_err()).contains("the limit is"));
    let mut files = Vec::new();
    let mut inner = json!({ "schemaVersion": 2, "manifests": [] });
    for _ in 0..6 {
        let text = serde_json::to_vec(&inner).unwrap();
        let digest = Digest::of(&text);
        inner =
            json!({ "schemaVersion": 2, "manifests": [{ "digest": digest, "size": text.len() }] });
        files.push((format!("blobs/sha256/{}", digest.hex()), text));
    }
    files.push(("index.json".to_owned(), serde_json::to_vec(&inner).unwrap()));
    assert!(chain(&host.load_stream(&tar_of(&files)).unwrap_err()).contains("too deeply"));
    host.assert_empty();
}
