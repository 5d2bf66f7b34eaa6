//! What is done with images that are there: names, removal, pruning, saving.

use std::fs;
use std::path::Path;

use crate::testing::{TarBuilder, TestImage};
use crate::{
    Digest, FindError, InUse, LoadedImage, NoProgress, Pruned, Reference, Removal, RemoveError,
    SaveError, Source, Store, TagError,
};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

fn layer(name: &str) -> Vec<u8> {
    TarBuilder::new().file(name, &[7; 100_000]).finish()
}

fn load(store: &Store, image: &TestImage) -> LoadedImage {
    load_archive(store, &image.archive()).remove(0)
}

fn load_archive(store: &Store, archive: &[u8]) -> Vec<LoadedImage> {
    store.load(Source::Stream(&mut &archive[..]), &NoProgress).unwrap()
}

fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

fn nobody() -> std::io::Result<Vec<InUse>> {
    Ok(Vec::new())
}

/// A container of an image.
fn user(store: &Store, image: &str, running: bool) -> InUse {
    let image = store.find(image).unwrap();
    InUse { container: "c".to_owned(), running, image: image.id, root: image.root }
}

fn remove(store: &Store, name: &str, force: bool, user: &InUse) -> Result<usize, RemoveError> {
    let users = || Ok(vec![user.clone()]);
    store.remove(name, force, &users).map(|removals| removals.len())
}

fn saved(store: &Store, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut archive = Vec::new();
    store.save(&names, &mut archive).unwrap();
    archive
}

fn count(folder: &Path, what: &str) -> usize {
    fs::read_dir(folder.join("store").join(what)).unwrap().count()
}

#[test]
fn a_tag_moves_and_a_digest_cannot_be_one() {
    let (_folder, store) = store();
    let one = load(&store, &TestImage::new("one", &[layer("one")]));
    let two = load(&store, &TestImage::new("two", &[layer("two")]));
    store.tag("one", &reference("new:1")).unwrap();
    store.tag("two", &reference("new:1")).unwrap();
    store.tag(&one.id.short(), &reference("host.example:5000/a/b")).unwrap();
    assert_eq!(store.find("new:1").unwrap().id, two.id);
    assert_eq!(store.find("host.example:5000/a/b:latest").unwrap().id, one.id);
    let digest = reference(&format!("a@{}", Digest::of(b"")));
    assert!(matches!(store.tag("one", &digest), Err(TagError::Digest(_))));
    let absent = store.tag("none", &reference("a"));
    assert!(matches!(absent, Err(TagError::Find(FindError::NotFound(_)))));
}

#[test]
fn removing_tells_of_the_layers_that_no_other_image_has() {
    let (_folder, store) = store();
    let layers = [layer("base"), layer("top")];
    load(&store, &TestImage::new("base", &layers[..1]));
    let top = load(&store, &TestImage::new("top", &layers));
    let chain =
        Digest::of(format!("{} {}", Digest::of(&layers[0]), Digest::of(&layers[1])).as_bytes());
    let removals = store.remove("top", false, &nobody).unwrap();
    let untagged = Removal::Untagged("top:latest".to_owned());
    assert_eq!(removals, [untagged, Removal::Deleted(top.id.0), Removal::Deleted(chain)]);
}

#[test]
fn the_last_name_of_an_image_with_a_container_needs_force() {
    let (_folder, store) = store();
    load(&store, &TestImage::new("one", &[layer("one")]));
    let stopped = user(&store, "one", false);
    let refused = remove(&store, "one", false, &stopped);
    assert!(matches!(refused, Err(RemoveError::NameInUse { .. })));
    store.tag("one", &reference("other")).unwrap();
    assert!(matches!(remove(&store, "other", false, &stopped), Ok(1)));
    // The layer stays for the container, so only the image is told of.
    assert!(matches!(remove(&store, "one", true, &stopped), Ok(2)));
}

#[test]
fn an_image_that_runs_can_lose_its_name_but_not_more() {
    let (_folder, store) = store();
    let one = load(&store, &TestImage::new("one", &[layer("one")]));
    let running = user(&store, "one", true);
    let id = one.id.short();
    let refused = remove(&store, &id, true, &running).unwrap_err().to_string();
    assert!(refused.contains("(cannot be forced) - image is being used by running container c"));
    assert!(matches!(remove(&store, "one", true, &running), Ok(1)));
    assert_eq!(store.images().unwrap()[0].names, []);
    let stopped = InUse { running: false, ..running };
    let refused = remove(&store, &id, false, &stopped).unwrap_err().to_string();
    assert!(refused.contains("(must be forced) - image is being used by stopped container c"));
    assert!(matches!(remove(&store, &id, true, &stopped), Ok(1)));
}

#[test]
fn pruning_takes_what_is_unwanted_and_unused_and_frees_its_bytes() {
    let (folder, store) = store();
    for name in ["used", "kept", "gone"] {
        load(&store, &TestImage::new(name, &[layer(name)]));
    }
    let unused = store.prune(&|_| false, &nobody).unwrap();
    assert_eq!(unused, Pruned::default());
    let users = [user(&store, "used", false)];
    let is_kept = |name: &Reference| name.familiar() == "kept:latest";
    let pruned =
        store.prune(&|image| !image.names.iter().any(is_kept), &|| Ok(users.to_vec())).unwrap();
    assert_eq!(pruned.removals[0], Removal::Untagged("gone:latest".to_owned()));
    assert!(pruned.freed > 100_000, "{}", pruned.freed);
    assert_eq!(store.images().unwrap().len(), 2);
    assert_eq!(count(folder.path(), "layers"), 2);
}

#[test]
fn what_is_saved_loads_as_the_same_image_and_saves_as_the_same_bytes() {
    let (_folder, store) = store();
    let layers = [layer("one"), layer("two")];
    let one = load(&store, &TestImage::new("repo:1", &layers));
    let two = load(&store, &TestImage::new("two", &layers[..1]));
    store.tag("repo:1", &reference("repo:2")).unwrap();
    let (_elsewhere, other) = self::store();
    let archive = saved(&store, &["repo", "two", "repo:2"]);
    let loaded = load_archive(&other, &archive);
    let names = |image: &LoadedImage| image.names.iter().map(Reference::familiar).collect();
    let names: Vec<Vec<String>> = loaded.iter().map(names).collect();
    assert_eq!(names, [vec!["repo:1", "repo:2"], vec!["two:latest"]]);
    assert_eq!([loaded[0].digest, loaded[1].digest], [one.digest, two.digest]);
    assert_eq!(saved(&other, &["repo", "two"]), archive);
    // By id there is no name in it.
    let (_elsewhere, other) = self::store();
    let nameless = load_archive(&other, &saved(&store, &[&one.id.short()]));
    assert_eq!((nameless[0].digest, nameless[0].names.len()), (one.digest, 0));
}

#[test]
fn saving_what_is_not_there_is_refused() {
    let (_folder, store) = store();
    let refused = store.save(&["none".to_owned()], &mut Vec::new());
    assert!(matches!(refused, Err(SaveError::Find(FindError::NotFound(_)))));
}

#[test]
fn details_have_the_whole_config_and_the_layers_sizes() {
    let (_folder, store) = store();
    let layers = [layer("one"), layer("two")];
    load(&store, &TestImage::new("one", &layers));
    let details = store.details("one").unwrap();
    let sizes: Vec<u64> = details.layers.iter().map(|layer| layer.size).collect();
    // Of the files, without the tar around them.
    assert_eq!(sizes, [100_000, 100_000]);
    assert_eq!(details.config["config"]["Cmd"], serde_json::json!(["sh"]));
}

#[test]
fn shared_bytes_count_once_and_unique_ones_go_with_their_image() {
    let (_folder, store) = store();
    let layers = [layer("base"), layer("top")];
    load(&store, &TestImage::new("base", &layers[..1]));
    load(&store, &TestImage::new("top", &layers));
    let usage = store.usage(&|_| false).unwrap();
    let unique: u64 = usage.images.iter().map(|image| image.unique).sum();
    assert_eq!(usage.images[0].shared, usage.images[1].shared);
    assert_eq!(usage.total, unique + usage.images[0].shared);
    let top = usage.images.iter().find(|usage| usage.image.names[0] == reference("top:latest"));
    let freed = store.prune(&|image| image.id == top.unwrap().image.id, &nobody).unwrap().freed;
    assert_eq!(freed, top.unwrap().unique);
}
