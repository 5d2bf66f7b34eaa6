//! Damages of every kind, and whether they are found and mended.

use std::os::unix::fs::FileExt;

use super::*;
use crate::testing::{TarBuilder, TestImage, disk_bytes};
use crate::{NoProgress, Source, Store};

struct Host {
    _folder: tempfile::TempDir,
    root: PathBuf,
    store: Store,
    archive: Vec<u8>,
}

fn nobody() -> io::Result<Vec<InUse>> {
    Ok(Vec::new())
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        let store = Store::open(&root).unwrap();
        let layers = ["one", "two"].map(|name| TarBuilder::new().file(name, &[7; 9000]).finish());
        let archive = TestImage::new("image", &layers).archive();
        let host = Self { _folder: folder, root, store, archive };
        host.load();
        host
    }

    fn load(&self) {
        self.store.load(Source::Stream(&mut &self.archive[..]), &NoProgress).unwrap();
    }

    /// Of the first layer, config or manifest in the catalog.
    fn record(&self) -> Record {
        Catalog::read(&Paths::create(&self.root).unwrap()).unwrap().images.remove(0)
    }

    fn outcomes(&self, repair: bool) -> Vec<Outcome> {
        let checked = self.store.check(repair, &nobody).unwrap();
        assert_eq!((checked.images, checked.layers), (1, 2));
        for damage in &checked.damages {
            assert_eq!(damage.images, ["image:latest"], "{damage:?}");
            assert!(!damage.problem.contains('\n'));
        }
        checked.damages.iter().map(|damage| damage.outcome).collect()
    }

    fn path(&self, part: &str) -> PathBuf {
        self.root.join(part)
    }

    /// Turns one bit of a file.
    fn rot(&self, part: &str, at: u64) {
        let file = File::options().read(true).write(true).open(self.path(part)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
}

#[test]
fn a_sound_store_is_called_so_and_left_as_it_is() {
    let host = Host::new();
    assert_eq!(host.outcomes(false), []);
    assert_eq!(host.outcomes(true), []);
    host.store.find("image").unwrap();
}

/// `threats.md` row 38.
#[test]
fn row38_a_rotten_layer_or_root_is_found_and_made_anew() {
    let host = Host::new();
    let record = host.record();
    let before = disk_bytes(&host.store.open_root(&record.root).unwrap());
    let layer = format!("layers/{}", record.layers[0].diff_id.hex());
    let root = format!("roots/{}", record.root.0.hex());
    for (part, at) in [
        (format!("{layer}/blob"), 8999),
        (format!("{layer}/index"), 60),
        (format!("{root}/metadata.erofs"), 1100),
        (format!("{root}/disk.json"), 3),
    ] {
        host.rot(&part, at);
        assert_eq!(host.outcomes(false), [Outcome::Found], "{part}");
        assert_eq!(host.outcomes(true), [Outcome::Remade], "{part}");
        assert_eq!(host.outcomes(false), [], "{part}");
        assert_eq!(disk_bytes(&host.store.open_root(&record.root).unwrap()), before, "{part}");
    }
    for part in [layer, root] {
        fs::remove_dir_all(host.path(&part)).unwrap();
        assert_eq!(host.outcomes(true), [Outcome::Remade], "{part}");
    }
}

#[test]
fn row38_a_rotten_blob_is_removed_and_comes_back_with_the_next_load() {
    let host = Host::new();
    let record = host.record();
    for digest in [record.id.0, record.manifest, record.layers[1].blob] {
        let blob = format!("blobs/sha256/{}", digest.hex());
        host.rot(&blob, 20);
        assert_eq!(host.outcomes(false), [Outcome::Found]);
        assert_eq!(host.outcomes(true), [Outcome::Removed]);
        assert_eq!(host.outcomes(true), [Outcome::Lost]);
        host.load();
        assert_eq!(host.outcomes(false), []);
    }
}

#[test]
fn a_layer_with_nothing_to_make_it_of_comes_back_with_the_next_load() {
    let host = Host::new();
    let record = host.record();
    host.rot(&format!("layers/{}/index", record.layers[0].diff_id.hex()), 60);
    fs::remove_file(host.path(&format!("blobs/sha256/{}", record.layers[0].blob.hex()))).unwrap();
    assert_eq!(host.outcomes(true), [Outcome::Lost, Outcome::Removed]);
    host.load();
    assert_eq!(host.outcomes(false), []);
}

#[test]
fn what_containers_have_of_removed_images_is_checked_too() {
    let host = Host::new();
    let image = host.store.find("image").unwrap();
    let user =
        InUse { container: "c".to_owned(), running: false, image: image.id, root: image.root };
    let in_use = || Ok(vec![user.clone()]);
    let layer = host.record().layers[0].diff_id;
    host.store.remove("image", true, &in_use).unwrap();
    let sound = host.store.check(true, &in_use).unwrap();
    assert_eq!((sound.images, sound.layers, sound.damages.len()), (0, 2, 0));
    let blob = host.path(&format!("layers/{}/blob", layer.hex()));
    File::options().write(true).open(&blob).unwrap().set_len(4096).unwrap();
    let damages = host.store.check(false, &in_use).unwrap().damages;
    assert_eq!(damages.len(), 1);
    assert!(damages[0].problem.contains("4096 bytes instead of"), "{damages:?}");
}
