//! Whole loads, and what hostile archives come to.

mod hostile;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;

use serde_json::json;

use crate::erofs::reader::{self, Found};
use crate::limits::Limits;
use crate::testing::{Header, TarBuilder, TestImage, disk_bytes, fsck, gzip, tar_of, zstd};
use crate::{
    Digest, FindError, InUse, LoadError, LoadedImage, NoProgress, Removal, RemoveError, Source,
    Store,
};

struct Host {
    folder: tempfile::TempDir,
    store: Store,
}

impl Host {
    fn new() -> Self {
        Self::with(Limits::DEFAULT)
    }

    fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::with_limits(&folder.path().join("store"), limits).unwrap();
        Self { folder, store }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn load_stream(&self, archive: &[u8]) -> Result<Vec<LoadedImage>, LoadError> {
        self.store.load(Source::Stream(&mut &archive[..]), &NoProgress)
    }

    fn load_file(&self, archive: &[u8]) -> Result<Vec<LoadedImage>, LoadError> {
        let path = self.path("archive.tar");
        fs::write(&path, archive).unwrap();
        self.store.load(Source::Path(&path), &NoProgress)
    }

    /// The tree of an image of these layers, which `fsck.erofs` and the test's own reader accept.
    fn tree(&self, layers: &[Vec<u8>]) -> BTreeMap<String, Found> {
        self.load_stream(&TestImage::new("tree", layers).archive()).unwrap();
        self.tree_of("tree")
    }

    fn tree_of(&self, name: &str) -> BTreeMap<String, Found> {
        let key = self.store.find(name).unwrap().root;
        let disk = disk_bytes(&self.store.open_root(&key).unwrap());
        fsck(&disk);
        let tree = reader::read(&disk).into_iter();
        tree.map(|(path, found)| (String::from_utf8_lossy(&path).into_owned(), found)).collect()
    }

    /// Why an image of these layers is refused; the store must be as it was.
    fn refusal(&self, layers: &[Vec<u8>]) -> String {
        let error = self.load_stream(&TestImage::new("bad", layers).archive()).unwrap_err();
        self.assert_empty();
        chain(&error)
    }

    fn assert_empty(&self) {
        assert_eq!(self.store.images().unwrap(), []);
        let left = fs::read_dir(self.path("store/ingest")).unwrap();
        let folders = left.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
        assert_eq!(folders, 0);
    }

    fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.path("store").join(folder)).unwrap().count()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    assert!(!text.contains('\n') && text.len() < 2000, "{text}");
    text
}

fn names(tree: &BTreeMap<String, Found>) -> Vec<&str> {
    tree.keys().map(String::as_str).filter(|path| !path.is_empty()).collect()
}

fn no_containers() -> std::io::Result<Vec<InUse>> {
    Ok(Vec::new())
}

#[test]
fn every_kind_of_archive_gives_the_same_root() {
    let layers = [
        TarBuilder::new().dir("etc/").file("etc/a", b"one").finish(),
        TarBuilder::new().file("etc/b", &[7; 10_000]).finish(),
    ];
    let image = TestImage::new("demo:1", &layers);
    let plain = TestImage {
        compress: <[u8]>::to_vec,
        layer_type: "application/vnd.oci.image.layer.v1.tar",
        ..image.clone()
    };
    let zstd_layers = TestImage {
        compress: zstd,
        layer_type: "application/vnd.oci.image.layer.v1.tar+zstd",
        ..image.clone()
    };
    let mut trees = Vec::new();
    for archive in [
        image.archive(),
        plain.archive(),
        zstd_layers.archive(),
        image.docker_archive(),
        gzip(&image.archive()),
        zstd(&image.docker_archive()),
    ] {
        for from_file in [true, false] {
            let host = Host::new();
            let loaded =
                if from_file { host.load_file(&archive) } else { host.load_stream(&archive) };
            let loaded = loaded.unwrap();
            assert_eq!(loaded.len(), 1);
            assert_eq!(loaded[0].names[0].familiar(), "demo:1");
            let found = host.store.find("demo:1").unwrap();
            assert_eq!((found.id, &found.config.cmd[..]), (loaded[0].id, &["sh".to_owned()][..]));
            let summary = &host.store.images().unwrap()[0];
            assert_eq!(summary.size, 10_003);
            assert_eq!(summary.created.unwrap().to_string(), "2024-01-02T03:04:05.678Z");
            trees.push(host.tree_of("demo:1"));
        }
    }
    assert!(trees.iter().all(|tree| *tree == trees[0]));
    assert_eq!(names(&trees[0]), ["etc", "etc/a", "etc/b"]);
    assert_eq!(trees[0]["etc/b"].data, [7; 10_000]);
}

#[test]
fn a_layout_folder_is_loaded_as_it_is() {
    let host = Host::new();
    let image = TestImage::new("demo", &[TarBuilder::new().file("a", b"x").finish()]);
    for (name, bytes) in image.layout() {
        let path = host.path("layout").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    host.store.load(Source::Path(&host.path("layout")), &NoProgress).unwrap();
    assert_eq!(names(&host.tree_of("demo")), ["a"]);
}

#[test]
fn equal_layers_of_a_docker_archive_are_links_in_it_and_one_layer_in_the_store() {
    let host = Host::new();
    let layer = TarBuilder::new().file("a", b"x").finish();
    let image = TestImage::new("demo", &[layer.clone(), layer]);
    host.load_file(&image.docker_archive()).unwrap();
    assert_eq!((host.count("layers"), host.count("blobs/sha256")), (1, 3));
    host.tree_of("demo");
}

#[test]
fn names_of_a_newer_docker_archive_come_from_its_list() {
    let host = Host::new();
    let image = TestImage::new("just-a-tag", &[TarBuilder::new().file("a", b"x").finish()]);
    let config = Digest::of(&serde_json::to_vec(&image.config).unwrap()).hex();
    let list = json!([{ "Config": format!("blobs/sha256/{config}"),
        "RepoTags": ["repo:just-a-tag", "other:1"], "Layers": ["ignored"] }]);
    let mut files = image.layout();
    files.push(("manifest.json".to_owned(), serde_json::to_vec(&list).unwrap()));
    let loaded = host.load_file(&tar_of(&files)).unwrap();
    let names: Vec<_> = loaded[0].names.iter().map(crate::Reference::familiar).collect();
    assert_eq!(names, ["other:1", "repo:just-a-tag"]);
}

#[test]
fn attributes_survive() {
    let mut tar = TarBuilder::new();
    let mut header = Header::new(b"bin/su", b'0', 3);
    header.octal(100, 7, 0o4755).octal(108, 7, 70_000).octal(116, 7, 7);
    tar.pax(&[
        ("mtime", b"-1.5"),
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("SCHILY.xattr.user.big", &[9; 3000]),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
    ]);
    tar.raw(&header, b"su!").hard_link("bin/su2", "./bin/su").device("dev/x", 0x123, 0x45678);
    tar.symlink("long", &"x".repeat(99)).symlink("short", "/bin/su");
    tar.pax(&[("linkpath", &[b'y'; 4095])]).symlink("longest", "");
    let tree = Host::new().tree(&[tar.finish()]);
    let su = &tree["bin/su"];
    assert_eq!((su.mode, su.uid, su.gid, su.links), (0o104_755, 70_000, 7, 2));
    assert_eq!((su.mtime, &su.data[..]), ((-2, 500_000_000), &b"su!"[..]));
    assert_eq!(su.xattrs.keys().collect::<Vec<_>>(), ["security.capability", "user.big"]);
    assert_eq!(su.nid, tree["bin/su2"].nid);
    assert_eq!(tree["dev/x"].device, 0x78 | 0x123 << 8 | 0x45600 << 12);
    assert_eq!(tree["short"].mode, 0o120_777);
    assert_eq!(tree["longest"].data.len(), 4095);
    assert_eq!((tree["bin"].mode, tree["bin"].mtime), (0o040_755, (0, 0)));
}

#[test]
fn large_directories_and_odd_names_are_sorted_by_bytes() {
    let mut tar = TarBuilder::new();
    for number in 0..3000 {
        tar.file(&format!("many/file-{number}"), b"");
    }
    for name in ["!x", "-x", ".x", "~", "many/-", "ä"] {
        tar.file(name, b"x");
    }
    tar.pax(&[("path", &[0xff; 255])]).file("x", b"");
    let tree = Host::new().tree(&[tar.finish()]);
    assert_eq!(tree.len(), 1 + 1 + 3000 + 7);
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let lower = TarBuilder::new()
        .file("gone", b"")
        .file("dir/a", b"")
        .file("dir/sub/b", b"")
        .file("opaque/old", b"")
        .file("swap", b"")
        .finish();
    let upper = TarBuilder::new()
        .file(".wh.gone", b"")
        .file("opaque/new", b"")
        .file("opaque/.wh..wh..opq", b"")
        .file("dir/sub/.wh.b", b"")
        .file("again", b"1")
        .file(".wh.again", b"")
        .dir("swap/")
        .file("swap/in", b"")
        .finish();
    let tree = Host::new().tree(&[lower, upper]);
    let expected = ["again", "dir", "dir/a", "dir/sub", "opaque", "opaque/new", "swap", "swap/in"];
    assert_eq!(names(&tree), expected);
}

#[test]
fn a_hundred_and_thirty_layers_work() {
    let layers: Vec<_> = (0..130)
        .map(|number| {
            let mut tar = TarBuilder::new();
            tar.file(&format!("f{number}"), format!("{number}").as_bytes());
            tar.file("last", format!("{number}").as_bytes());
            if number > 0 {
                tar.file(&format!(".wh.f{}", number - 1), b"");
            }
            tar.finish()
        })
        .collect();
    let tree = Host::new().tree(&layers);
    assert_eq!(names(&tree), ["f129", "last"]);
    assert_eq!(tree["last"].data, b"129");
}

#[test]
fn other_platforms_are_named_and_attestations_passed_over() {
    let host = Host::new();
    let mut image = TestImage::new("arm", &[TarBuilder::new().finish()]);
    image.config["architecture"] = json!("arm64");
    for archive in [image.archive(), image.docker_archive()] {
        let text = chain(&host.load_stream(&archive).unwrap_err());
        assert!(text.contains("only for: linux/arm64"), "{text}");
    }
    // An index of both, and of an attestation that is not even there.
    let good = TestImage::new("multi", &[TarBuilder::new().file("a", b"").finish()]);
    let mut files = [image.layout(), good.layout()].concat();
    files.retain(|(name, _)| name.starts_with("blobs"));
    let manifest = |image: &TestImage| {
        let index: serde_json::Value =
            serde_json::from_slice(&image.layout().last().unwrap().1).unwrap();
        index["manifests"][0].clone()
    };
    let attestation = json!({ "digest": Digest::of(b"?"), "size": 1,
        "platform": { "os": "unknown", "architecture": "unknown" } });
    let inner = json!({ "schemaVersion": 2,
        "manifests": [attestation, manifest(&image), manifest(&good)] });
    let inner = serde_json::to_vec(&inner).unwrap();
    let digest = Digest::of(&inner);
    let index = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest, "size": inner.len(),
        "annotations": { "io.containerd.image.name": "registry.example/multi:2" },
    }] });
    files.push((format!("blobs/sha256/{}", digest.hex()), inner));
    files.push(("index.json".to_owned(), serde_json::to_vec(&index).unwrap()));
    let loaded = host.load_stream(&tar_of(&files)).unwrap();
    assert_eq!(
        (loaded.len(), loaded[0].names[0].familiar().as_str()),
        (1, "registry.example/multi:2")
    );
}

#[test]
fn foreign_truncated_and_mislabelled_archives_give_one_line() {
    let host = Host::new();
    let image = TestImage::new("x", &[TarBuilder::new().file("a", &[1; 5000]).finish()]);
    let archive = image.archive();
    for (bytes, reason) in [
        (b"hello".to_vec(), "tar"),
        (Vec::new(), "neither index.json nor manifest.json"),
        (TarBuilder::new().file("etc/passwd", b"").finish(), "neither index.json"),
        (archive[..archive.len() / 2 + 7].to_vec(), "ends in the middle"),
        (gzip(&archive)[..500].to_vec(), "a gzip stream that is cut short"),
        (b"\xfd7zXZ\0\0".to_vec(), "xz"),
    ] {
        for from_file in [true, false] {
            let loaded = if from_file { host.load_file(&bytes) } else { host.load_stream(&bytes) };
            let text = chain(&loaded.unwrap_err());
            assert!(text.contains(reason), "{reason}: {text}");
            host.assert_empty();
        }
    }
    let wrong = TestImage { compress: zstd, ..image };
    let text = chain(&host.load_stream(&wrong.archive()).unwrap_err());
    assert!(text.contains("media type says gzip, its first bytes say zstd"), "{text}");
    let missing = host.store.load(Source::Path(Path::new("/no/such/archive")), &NoProgress);
    assert!(chain(&missing.unwrap_err()).contains("cannot read /no/such/archive"));
}

#[test]
fn row35_concurrent_loads_of_one_image_all_succeed() {
    let host = Host::new();
    let layers: Vec<_> =
        (0..4u8).map(|n| TarBuilder::new().file(&format!("{n}"), &[n; 9000]).finish()).collect();
    let archive = TestImage::new("same", &layers).archive();
    thread::scope(|scope| {
        for _ in 0..8 {
            let store = Store::open(&host.path("store")).unwrap();
            let archive = &archive;
            scope.spawn(move || {
                store.load(Source::Stream(&mut &archive[..]), &NoProgress).unwrap();
            });
        }
    });
    assert_eq!((host.count("layers"), host.count("roots")), (4, 1));
    assert_eq!(host.tree_of("same").len(), 5);
}

#[test]
fn layers_are_shared_and_go_with_the_last_image() {
    let host = Host::new();
    let base = TarBuilder::new().file("base", b"b").finish();
    let top = |name: &str| TarBuilder::new().file(name, b"t").finish();
    host.load_stream(&TestImage::new("one", &[base.clone(), top("1")]).archive()).unwrap();
    host.load_stream(&TestImage::new("two", &[base.clone(), top("2")]).archive()).unwrap();
    assert_eq!((host.count("layers"), host.count("roots")), (3, 2));
    let one = host.store.find("one").unwrap();
    let two = host.store.find("two").unwrap();
    let removed = host.store.remove("one", false, &no_containers).unwrap();
    let expected = [Removal::Untagged("one:latest".to_owned()), Removal::Deleted(one.id.0)];
    assert_eq!(removed[..2], expected);
    assert_eq!((host.count("layers"), host.count("roots"), host.count("blobs/sha256")), (2, 1, 4));
    host.tree_of("two");

    let used = |running| {
        move || {
            let container = "web".to_owned();
            Ok(vec![InUse { container, running, image: two.id, root: two.root }])
        }
    };
    let refused = host.store.remove("two", false, &used(false));
    assert!(matches!(refused, Err(RemoveError::NameInUse { .. })));
    assert!(host.store.remove(&two.id.to_string(), true, &used(true)).is_err());
    host.store.remove("two", true, &used(false)).unwrap();
    assert!(matches!(host.store.find("two"), Err(FindError::NotFound(_))));
    // The container still has its disk.
    fsck(&disk_bytes(&host.store.open_root(&two.root).unwrap()));
    host.load_stream(&TestImage::new("three", &[base]).archive()).unwrap();
    host.store.remove("three", false, &no_containers).unwrap();
    assert!(host.store.open_root(&two.root).is_err());
    assert_eq!((host.count("layers"), host.count("roots"), host.count("blobs/sha256")), (0, 0, 0));
}

#[test]
fn a_name_of_several_is_only_untagged() {
    let host = Host::new();
    let layers = [TarBuilder::new().file("a", b"").finish()];
    host.load_stream(&TestImage::new("a:1", &layers).archive()).unwrap();
    let loaded = host.load_stream(&TestImage::new("b:1", &layers).docker_archive()).unwrap();
    let id = loaded[0].id.to_string();
    assert!(matches!(
        host.store.remove(&id, false, &no_containers),
        Err(RemoveError::SeveralNames(_))
    ));
    let removed = host.store.remove("a:1", false, &no_containers).unwrap();
    assert_eq!(removed, [Removal::Untagged("a:1".to_owned())]);
    assert_eq!(names(&host.tree_of("b:1")), ["a"]);
    assert_eq!(host.store.remove(&id, false, &no_containers).unwrap().len(), 3);
}
