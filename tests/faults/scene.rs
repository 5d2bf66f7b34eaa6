//! A store with images and containers in it, commands that change it, and what must be true of the store whatever
//! happened to such a command.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    images::{Image, layer},
    trace::{self, Ended, Watch},
};

/// A command that changes a store.
#[derive(Clone, Debug)]
pub struct Act {
    pub name: &'static str,
    pub args: Vec<String>,
    /// What there is then: see [`Scene::content`].
    pub after: Vec<&'static str>,
}

/// A folder with stores in it, and what the acts need.
pub struct Scene {
    folder: tempfile::TempDir,
    /// The registry with the image that is pulled.
    registry: String,
}

/// What there is before each act.
pub const BEFORE: [&str; 5] =
    ["<none>:<none>", "container kept", "container old", "first:1", "second:1"];

/// The words that make a container, with its name in a label too.
pub fn create(name: &str) -> Vec<String> {
    let label = format!("name={name}");
    ["create", "--name", name, "--label", &label, "first:1", "true"].map(str::to_owned).to_vec()
}

impl Scene {
    /// A folder with nothing in it.
    pub fn empty() -> Self {
        // In memory: real syncs would take most of the time, and say nothing here.
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder for the scene");
        Self { folder, registry: String::new() }
    }

    pub fn new() -> Self {
        let registry = Image::new(&["ground", "pulled"]).serve();
        let scene = Self { registry, ..Self::empty() };
        let images = [
            ("first", "one", "first:1"),
            ("lost", "lost", "second:1"),
            ("second", "two", "second:1"),
            ("third", "three", "third:1"),
        ];
        for (folder, word, name) in images {
            Image::new(&["ground", word]).write(&scene.path(folder), name);
        }
        fs::write(scene.path("tree.tar"), layer("imported")).unwrap();
        fs::create_dir(scene.path("before")).unwrap();
        for name in ["first", "lost", "second"] {
            scene.plain("before", &scene.load(name)).succeeds();
        }
        for name in ["kept", "old"] {
            scene.plain("before", &create(name)).succeeds();
        }
        assert_eq!(scene.content("before"), BEFORE);
        let expected = scene.path("expected.tar");
        scene.plain("before", &["save", "-o", text(&expected), "first:1"]).succeeds();
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The words that load one of the images.
    pub fn load(&self, image: &str) -> Vec<String> {
        ["load", "-q", "-i", text(&self.path(image))].map(str::to_owned).to_vec()
    }

    /// All acts, each from the store as it is before.
    pub fn acts(&self) -> Vec<Act> {
        let act = |name, args: &[&str], after: &[&'static str]| {
            let args = args.iter().map(|&arg| arg.to_owned()).collect();
            Act { name, args, after: sorted(after) }
        };
        let more = |name| [&BEFORE[..], &[name]].concat();
        let less = |names: &[&str]| {
            let mut left = BEFORE.to_vec();
            left.retain(|name| !names.contains(name));
            left
        };
        let renamed = [&less(&["container old"])[..], &["container new"]].concat();
        let (third, tree, saved) =
            (self.path("third"), self.path("tree.tar"), self.path("saved.tar"));
        let pulled = format!("{}/pulled:1", self.registry);
        vec![
            act("load", &["load", "-q", "-i", text(&third)], &more("third:1")),
            act("pull", &["pull", "-q", &pulled], &more("pulled:1")),
            act("import", &["import", text(&tree), "imported:1"], &more("imported:1")),
            act("tag", &["tag", "first:1", "other:1"], &more("other:1")),
            act("rmi", &["rmi", "second:1"], &less(&["second:1"])),
            act("prune", &["image", "prune", "-f"], &less(&["<none>:<none>"])),
            Act { name: "create", args: create("made"), after: sorted(&more("container made")) },
            act("rename", &["rename", "old", "new"], &renamed),
            act("update", &["update", "--restart", "always", "kept"], &BEFORE),
            act("rm", &["rm", "old"], &less(&["container old"])),
            act(
                "container prune",
                &["container", "prune", "-f", "--filter", "label!=name=kept"],
                &less(&["container old"]),
            ),
            act("save", &["save", "-o", text(&saved), "first:1"], &BEFORE),
            act(REPAIR, &["system", "check", "--repair"], &BEFORE),
        ]
    }

    /// Makes `store` what it is before an act.
    pub fn set(&self, store: &str, act: &Act) {
        let path = self.path(store);
        let _ = fs::remove_dir_all(&path);
        let _ = fs::remove_file(self.path("saved.tar"));
        copy(&self.path("before"), &path);
        if act.name == REPAIR {
            for (folder, file) in [("layers", "blob"), ("roots", "metadata.erofs")] {
                for entry in fs::read_dir(path.join(folder)).unwrap() {
                    rot(&entry.unwrap().path().join(file));
                }
            }
        }
    }

    /// Does an act that is watched.
    pub fn watched(&self, store: &str, act: &Act, watch: &mut dyn Watch) -> Ended {
        trace::run(self.vmrun(store, &act.args), watch)
    }

    /// Runs a command to its end.
    pub fn plain(&self, store: &str, args: &[impl AsRef<OsStr>]) -> Ended {
        let output = self.vmrun(store, args).output().expect("vmrun starts");
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        Ended { status: output.status.code(), stdout, stderr }
    }

    /// `vmrun` with the store in that folder.
    fn vmrun(&self, store: &str, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env::var_os("VMRUN").expect("VMRUN names the built vmrun"));
        command.args(args).env("VMRUN_ROOT", self.path(store)).env("HOME", self.folder.path());
        command
    }

    /// The images of a store, without their registry, and its containers, sorted.
    pub fn content(&self, store: &str) -> Vec<String> {
        let images = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
        let images = self.plain(store, &images).succeeds();
        let containers = ["ps", "-a", "--format", "container {{.Names}}"];
        let containers = self.plain(store, &containers).succeeds();
        let name = |line: &str| line.rsplit('/').next().unwrap_or_default().to_owned();
        let mut content: Vec<String> = images.lines().chain(containers.lines()).map(name).collect();
        content.sort_unstable();
        content
    }

    /// Checks a store in which an act was to be done: it opens and is sound, the images
    /// and containers are those from before or from after the act, nothing between; the act can be done again; and what it
    /// took away comes back with a load.
    #[track_caller]
    pub fn verify(&self, store: &str, act: &Act) {
        let content = self.content(store);
        let done = content == act.after;
        assert!(done || content == BEFORE, "{content:?}");
        if act.name != REPAIR {
            self.plain(store, &["system", "check"]).succeeds();
        }
        // These would do something else the second time.
        if !(done && matches!(act.name, "rmi" | "import" | "create" | "rename" | "rm")) {
            self.plain(store, &act.args).succeeds();
        }
        assert_eq!(self.content(store), act.after);
        self.plain(store, &["system", "check"]).succeeds();
        let left = fs::read_dir(self.path(store).join("ingest")).unwrap().flatten();
        assert_eq!(
            left.filter(|entry| entry.path().is_dir()).count(),
            0,
            "ingest folders are left"
        );
        for image in ["first", "lost", "second"] {
            self.plain(store, &self.load(image)).succeeds();
        }
        self.plain(store, &["system", "check"]).succeeds();
        self.verify_containers(store);
        if act.name == "save" {
            let saved = fs::read(self.path("saved.tar")).unwrap();
            assert_eq!(saved, fs::read(self.path("expected.tar")).unwrap());
        }
    }

    /// Checks that all containers have disks that can be used, that nothing is left of others, and that
    /// they can be removed.
    #[track_caller]
    pub fn verify_containers(&self, store: &str) {
        let ids = self.plain(store, &["ps", "-aq", "--no-trunc"]).succeeds();
        let ids: Vec<&str> = ids.lines().collect();
        let folder = self.path(store).join("containers");
        for id in &ids {
            let disk = folder.join(id).join("disk.ext4");
            let checked = Command::new("e2fsck").arg("-fn").arg(&disk).output().unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        }
        if !ids.is_empty() {
            self.plain(store, &[&["rm"], &ids[..]].concat()).succeeds();
        }
        let left = fs::read_dir(&folder).into_iter().flatten().flatten();
        let left: Vec<_> = left.filter(|entry| entry.file_name().len() > 20).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

pub fn sorted(names: &[&'static str]) -> Vec<&'static str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names
}

const REPAIR: &str = "repair";

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Copies a folder; holes stay holes.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--sparse=always"]).args([from, to]).status();
    assert!(status.unwrap().success(), "cp of {}", from.display());
}

/// Changes a byte in the middle of a file.
fn rot(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    if file.read_at(&mut byte, middle).unwrap() == 1 {
        file.write_all_at(&[!byte[0]], middle).unwrap();
    }
}
