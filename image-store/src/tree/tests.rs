//! What merging comes to, by the paths that are left. Whole images are tested in `load::tests`.

use super::*;

fn entry(path: &str, kind: EntryKind) -> Entry {
    let path = path.as_bytes().to_vec();
    Entry {
        path,
        kind,
        mode: 0o700,
        uid: 1,
        gid: 2,
        mtime: Timestamp::default(),
        xattrs: Vec::new(),
    }
}

fn file(path: &str) -> Entry {
    entry(path, EntryKind::Regular { size: 0, block: 0 })
}

fn symlink(path: &str, target: &str) -> Entry {
    entry(path, EntryKind::Symlink(target.as_bytes().to_vec()))
}

fn hard_link(path: &str, target: &str) -> Entry {
    entry(path, EntryKind::HardLink(target.as_bytes().to_vec()))
}

fn merge(layers: &[Vec<Entry>], limits: &Limits) -> Result<Tree, TreeError> {
    let mut tree = Tree::new(limits);
    for (number, layer) in layers.iter().enumerate() {
        for entry in layer {
            tree.apply_whiteout(entry)?;
        }
        for entry in layer {
            tree.apply(entry.clone(), u16::try_from(number).unwrap())?;
        }
    }
    Ok(tree)
}

fn paths(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), NodeId::ROOT)];
    while let Some((path, id)) = folders.pop() {
        let Some(directory) = tree.directory(id) else { continue };
        for (name, &child) in &directory.children {
            let path = format!("{path}/{}", String::from_utf8_lossy(name));
            found.push(path.clone());
            folders.push((path, child));
        }
    }
    found.sort();
    found
}

fn merged(layers: &[Vec<Entry>]) -> Vec<String> {
    paths(&merge(layers, &Limits::DEFAULT).unwrap())
}

#[test]
fn a_directory_again_keeps_its_children_and_takes_the_attributes() {
    let layers = [vec![file("d/a")], vec![entry("d", EntryKind::Directory)]];
    let tree = merge(&layers, &Limits::DEFAULT).unwrap();
    assert_eq!(paths(&tree), ["/d", "/d/a"]);
    let directory = tree.child(NodeId::ROOT, b"d").unwrap();
    assert_eq!(tree.node(directory).attributes.mode, 0o700);
}

#[test]
fn files_and_directories_give_way_to_each_other() {
    assert_eq!(merged(&[vec![file("d/a")], vec![file("d")]]), ["/d"]);
    assert_eq!(merged(&[vec![file("d")], vec![file("d/a")]]), ["/d", "/d/a"]);
    let link_to_directory = vec![symlink("d", "real"), file("real/x")];
    let replaced = merged(&[link_to_directory, vec![entry("d", EntryKind::Directory)]]);
    assert_eq!(replaced, ["/d", "/real", "/real/x"]);
}

#[test]
fn row02_a_whiteout_through_a_symlink_stays_in_the_tree() {
    let lower = vec![file("etc/passwd"), symlink("out", "../../../etc"), symlink("dot", "/")];
    let upper = vec![entry("out/passwd", EntryKind::Whiteout), file("dot/new")];
    assert_eq!(merged(&[lower, upper]), ["/dot", "/etc", "/new", "/out"]);
}

#[test]
fn whiteouts_in_a_directory_that_takes_a_symlink_s_place_leave_its_target_alone() {
    let lower = || vec![file("run/pid"), symlink("var", "run"), symlink("loop", "loop")];
    for whiteout in [entry("var", EntryKind::Opaque), entry("var/pid", EntryKind::Whiteout)] {
        let upper = vec![entry("var", EntryKind::Directory), whiteout, file("var/new")];
        let expected = ["/loop", "/run", "/run/pid", "/var", "/var/new"];
        assert_eq!(merged(&[lower(), upper]), expected);
    }
    // Where the layer has no such directory, they go where the symlink leads.
    let through = vec![entry("var/pid", EntryKind::Whiteout)];
    assert_eq!(merged(&[lower(), through]), ["/loop", "/run", "/var"]);
    // One that leads nowhere hides nothing.
    let nowhere = vec![entry("loop/x", EntryKind::Whiteout), entry("loop", EntryKind::Opaque)];
    assert_eq!(merged(&[lower(), nowhere]), ["/loop", "/run", "/run/pid", "/var"]);
    let into = vec![file("loop/x")];
    assert!(matches!(merge(&[lower(), into], &Limits::DEFAULT), Err(TreeError::Symlinks(_))));
}

#[test]
fn row04_a_link_below_what_it_replaces_keeps_its_target() {
    let tree = merge(&[vec![file("a/b"), hard_link("a", "a/b")]], &Limits::DEFAULT).unwrap();
    assert_eq!(paths(&tree), ["/a"]);
    assert_eq!(tree.node(tree.child(NodeId::ROOT, b"a").unwrap()).names, 1);
    // Making the link's parent removes the target.
    let layers = [vec![file("a"), hard_link("a/b", "a")]];
    assert!(matches!(merge(&layers, &Limits::DEFAULT), Err(TreeError::HardLink { .. })));
}

#[test]
fn names_are_counted_through_replacements() {
    let layers = [vec![file("a"), hard_link("b", "a"), hard_link("c", "a"), file("b")]];
    let tree = merge(&layers, &Limits::DEFAULT).unwrap();
    assert_eq!(tree.node(tree.child(NodeId::ROOT, b"a").unwrap()).names, 2);
    assert_eq!(tree.node(tree.child(NodeId::ROOT, b"b").unwrap()).names, 1);
    let again = [vec![file("a"), hard_link("b", "a"), hard_link("b", "a")]];
    let tree = merge(&again, &Limits::DEFAULT).unwrap();
    assert_eq!(tree.node(tree.child(NodeId::ROOT, b"a").unwrap()).names, 2);
}

#[test]
fn row07_removed_files_do_not_count_and_implicit_directories_do() {
    let limits = Limits { entries: 10, ..Limits::DEFAULT };
    let layers: Vec<_> = (0..50).map(|n| vec![file("d/x"), file(&format!("d/{n}"))]).collect();
    assert!(matches!(merge(&layers, &limits), Err(TreeError::Inodes(10))));
    let opaque = || entry("d", EntryKind::Opaque);
    let layers: Vec<_> = (0..50).map(|n| vec![opaque(), file(&format!("d/{n}"))]).collect();
    assert_eq!(paths(&merge(&layers, &limits).unwrap()), ["/d", "/d/49"]);
    let deep = vec![file("1/2/3/4/5/6/7/8/9/10/11")];
    assert!(matches!(merge(&[deep], &limits), Err(TreeError::Inodes(10))));
}

#[test]
fn row07_paths_that_are_slow_to_resolve_are_stopped() {
    let mut tree = Tree::new(&Limits::DEFAULT);
    tree.work = 50;
    let last = (0..20).map(|_| tree.apply(file("a/b/c/d"), 0)).last().unwrap();
    assert!(matches!(last, Err(TreeError::Work(_))));
}
