//! Copies between folders: one stands for here, the other for a container's root, where the agent's
//! own functions work. And archives that no honest agent sends.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Mutex,
};

use agent_protocol::read_frame;
use guest_agent::files::Files;
use tar_stream::{TarReader, testing::TarBuilder};
use tempfile::{TempDir, tempdir};

use super::*;

/// The agent's functions on a folder.
struct Guest(Files);

impl ContainerFiles for &Guest {
    fn stat(&self, path: &[u8]) -> Result<PathAnswer> {
        let mut answer = Vec::new();
        self.0.stat(path, &mut answer)?;
        Ok(read_frame(&mut &answer[..])?.expect("one frame"))
    }

    fn archive(&self, path: &[u8]) -> Result<Box<dyn Read + '_>> {
        let mut archive = Vec::new();
        self.0.archive(path, &mut archive)?;
        Ok(Box::new(io::Cursor::new(archive)))
    }

    fn extract(&self, folder: &[u8], mut archive: &mut dyn Read) -> Result<()> {
        Ok(self.0.extract(folder, &mut archive)?)
    }
}

/// A guest that says and sends what it likes, and keeps what it gets.
struct Forged {
    mode: u32,
    archive: Vec<u8>,
    got: Mutex<Vec<u8>>,
}

impl Forged {
    fn file(archive: &TarBuilder) -> Self {
        Self { mode: 0o100_644, archive: archive.finish(), got: Mutex::default() }
    }

    fn directory(archive: &TarBuilder) -> Self {
        Self { mode: 0o040_755, ..Self::file(archive) }
    }
}

impl ContainerFiles for &Forged {
    fn stat(&self, path: &[u8]) -> Result<PathAnswer> {
        let name = path.to_vec();
        let (size, mtime_seconds, mtime_nanoseconds) = (0, 0, 0);
        let (mode, link_target) = (self.mode, Vec::new());
        Ok(PathAnswer::Found(PathStat {
            name,
            size,
            mode,
            mtime_seconds,
            mtime_nanoseconds,
            link_target,
        }))
    }

    fn archive(&self, _path: &[u8]) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(&self.archive[..]))
    }

    fn extract(&self, _folder: &[u8], archive: &mut dyn Read) -> Result<()> {
        archive.read_to_end(&mut self.got.lock().unwrap())?;
        Ok(())
    }
}

/// Here and there.
struct Scene {
    folder: TempDir,
    guest: Guest,
}

/// The same tree on both sides: a file, a directory with things in it, links to both.
fn scene() -> Scene {
    let folder = tempdir().unwrap();
    for side in ["here", "there"] {
        let side = folder.path().join(side);
        fs::create_dir_all(side.join("dir/sub")).unwrap();
        fs::create_dir(side.join("existing")).unwrap();
        for (name, text) in [("file", "f"), ("dir/one", "1"), ("dir/sub/two", "2"), ("old", "old")]
        {
            fs::write(side.join(name), text).unwrap();
        }
        symlink("file", side.join("to-file")).unwrap();
        symlink("dir", side.join("to-dir")).unwrap();
        symlink("nothing", side.join("to-nothing")).unwrap();
    }
    let guest = Guest(Files::open(&folder.path().join("there")).unwrap());
    Scene { folder, guest }
}

impl Scene {
    fn here(&self, path: &str) -> PathBuf {
        self.folder.path().join("here").join(path)
    }

    fn there(&self, path: &str) -> PathBuf {
        self.folder.path().join("there").join(path)
    }

    /// Copies with the owners of the source: whoever runs the test may set no others.
    fn cp(&self, options: &str, source: OsString, destination: OsString) -> Result<(), String> {
        let args = CpArgs {
            archive: true,
            follow_link: options.contains('L'),
            quiet: true,
            source,
            destination,
        };
        let copied = copy(&args, &mut io::empty(), &mut io::sink(), |_| Ok(&self.guest));
        copied.map_err(|error| format!("{error:#}"))
    }

    fn to_here(&self, source: &str, destination: &str) -> Result<(), String> {
        self.cp("", format!("web:{source}").into(), self.here(destination).into())
    }

    fn take_from_here(&self, source: &str, destination: &str) -> Result<(), String> {
        self.cp("", self.here(source).into(), format!("web:{destination}").into())
    }
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Source, destination, and what is then at the destination's side: a file and what is in it, or
/// the complaint.
/// What a copy comes to: names on both sides, or an error.
type Expected = Result<(&'static str, &'static str), &'static str>;

const TABLE: &[(&str, &str, Expected)] = &[
    ("file", "/new", Ok(("new", "f"))),
    ("file", "/new/", Err("no such directory")),
    ("file", "/old", Ok(("old", "f"))),
    ("file", "/existing", Ok(("existing/file", "f"))),
    ("file", "/existing/", Ok(("existing/file", "f"))),
    ("file", "/existing/.", Ok(("existing/file", "f"))),
    ("file", "/to-dir", Ok(("dir/file", "f"))),
    ("file", "/to-file", Ok(("file", "f"))),
    ("file", "/to-nothing", Ok(("nothing", "f"))),
    ("dir", "/new", Ok(("new/sub/two", "2"))),
    ("dir", "/new/", Ok(("new/sub/two", "2"))),
    ("dir/", "/new", Ok(("new/sub/two", "2"))),
    ("dir/.", "/new", Ok(("new/sub/two", "2"))),
    ("dir", "/old", Err("cannot copy directory")),
    ("dir/.", "/old", Err("cannot copy directory")),
    ("dir", "/existing", Ok(("existing/dir/sub/two", "2"))),
    ("dir/", "/existing/", Ok(("existing/dir/sub/two", "2"))),
    ("dir/.", "/existing", Ok(("existing/sub/two", "2"))),
    ("to-dir/", "/existing", Ok(("existing/to-dir/sub/two", "2"))),
    ("to-dir/.", "/existing", Ok(("existing/sub/two", "2"))),
    ("dir/sub/../one", "/new", Ok(("new", "1"))),
];

#[test]
fn copies_from_a_container_follow_docker_s_table() {
    for (source, destination, expected) in TABLE {
        let scene = scene();
        let done = scene.to_here(source, destination.trim_start_matches('/'));
        match expected {
            Ok((file, text)) => {
                done.unwrap_or_else(|error| panic!("{source} {destination}: {error}"));
                assert_eq!(read(scene.here(file)), *text, "{source} {destination}");
            }
            Err(words) => assert_eq!(done.unwrap_err(), *words, "{source} {destination}"),
        }
    }
}

#[test]
fn copies_to_a_container_follow_docker_s_table() {
    for (source, destination, expected) in TABLE {
        let scene = scene();
        let done = scene.take_from_here(source, destination);
        match expected {
            Ok((file, text)) => {
                done.unwrap_or_else(|error| panic!("{source} {destination}: {error}"));
                assert_eq!(read(scene.there(file)), *text, "{source} {destination}");
            }
            Err(words) => assert_eq!(done.unwrap_err(), *words, "{source} {destination}"),
        }
    }
}

#[test]
fn links_are_copied_as_links_unless_followed() {
    let scene = scene();
    scene.to_here("to-file", "link").unwrap();
    assert_eq!(fs::read_link(scene.here("link")).unwrap(), PathBuf::from("file"));
    scene.take_from_here("to-dir", "link").unwrap();
    assert_eq!(fs::read_link(scene.there("link")).unwrap(), PathBuf::from("dir"));
    for (from, to) in [("to-file", "existing"), ("to-dir", "existing")] {
        scene.cp("L", format!("web:{from}").into(), scene.here(to).into()).unwrap();
        scene.cp("L", scene.here(from).into(), format!("web:{to}").into()).unwrap();
    }
    for side in [scene.here(""), scene.there("")] {
        assert_eq!(read(side.join("existing/to-file")), "f");
        assert_eq!(read(side.join("existing/to-dir/sub/two")), "2");
        assert!(fs::symlink_metadata(side.join("existing/to-file")).unwrap().is_file());
    }
}

#[test]
fn what_is_not_there_is_told_in_docker_s_words() {
    let scene = scene();
    let here = |path: &str| scene.here(path).display().to_string();
    for (from, to, words) in [
        ("web:/no".to_owned(), here("x"), "No such container:path: web:/no".to_owned()),
        ("web:no/file".into(), here("x"), "No such container:path: web:no/file".into()),
        ("web:/file/".into(), here("x"), "lstat /file/: not a directory".into()),
        (
            "web:/file".into(),
            here("no/x"),
            format!("invalid output path: directory \"{}\" does not exist", here("no")),
        ),
        (
            "web:/file".into(),
            "/dev/null".into(),
            "invalid output path: \"/dev/null\" must be a directory or a regular file: got a device"
                .into(),
        ),
        ("web:/file".into(), here("old/"), format!("stat {}: not a directory", here("old/"))),
        ("web:".into(), here("x"), "bad parameter: pathcannot be empty".into()),
        (here("no"), "web:/".into(), format!("lstat {}: no such file or directory", here("no"))),
        (here("no/x"), "web:/".into(), format!("lstat {}: no such file or directory", here("no"))),
        (here("file/"), "web:/".into(), "not a directory".into()),
        (here("file"), "web:/no/x".into(), "No such container:path: web:/no".into()),
        (here("dir"), "web:/no/x".into(), "No such container:path: web:/no".into()),
        (here("file"), "web:/old/x".into(), "extraction point is not a directory".into()),
        ("-".into(), "web:/old".into(), "destination \"web:/old\" must be a directory".into()),
        ("-".into(), "web:/no".into(), "destination \"web:/no\" must be a directory".into()),
        ("web:a".into(), "other:b".into(), "copying between containers is not supported".into()),
        (here("a"), here("b"), "must specify at least one container source".into()),
        (String::new(), here("b"), "source can not be empty".into()),
        ("web:a".into(), String::new(), "destination can not be empty".into()),
    ] {
        let told = scene.cp("", from.clone().into(), to.clone().into()).unwrap_err();
        assert_eq!(told, words, "{from} {to}");
    }
}

#[test]
fn directories_and_files_do_not_take_each_other_s_place() {
    let scene = scene();
    fs::create_dir_all(scene.here("existing/file")).unwrap();
    let told = scene.to_here("file", "existing").unwrap_err();
    let (path, folder) = (scene.here("existing/file"), scene.here("existing"));
    assert_eq!(told, format!("cannot overwrite directory {path:?} with non-directory {folder:?}"));
    fs::write(scene.there("existing/dir"), "").unwrap();
    let told = scene.take_from_here("dir", "existing").unwrap_err();
    assert_eq!(
        told,
        "cannot overwrite non-directory \"/existing/dir\" with directory \"/existing\""
    );
}

#[test]
fn streams_are_tar_archives() {
    let scene = scene();
    let args = |source: &str, destination: &str| CpArgs {
        archive: false,
        follow_link: false,
        quiet: true,
        source: source.into(),
        destination: destination.into(),
    };
    let mut stream = Vec::new();
    let out = args("web:/dir", "-");
    copy(&out, &mut io::empty(), &mut stream, |_| Ok(&scene.guest)).unwrap();
    let back = args("-", "web:/existing");
    let (unowned, forged) = (args("-", "web:/"), Forged::directory(&TarBuilder::new()));
    copy(&back, &mut &stream[..], &mut io::sink(), |_| Ok(&scene.guest)).unwrap();
    assert_eq!(read(scene.there("existing/dir/sub/two")), "2");
    let gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut gzip = gzip.unwrap();
    gzip.stdin.take().unwrap().write_all(&TarBuilder::new().file("zipped", b"z").finish()).unwrap();
    let stream = gzip.wait_with_output().unwrap().stdout;
    copy(&unowned, &mut &stream[..], &mut io::sink(), |_| Ok(&forged)).unwrap();
    let got = forged.got.lock().unwrap().clone();
    assert_eq!(TarReader::new(&got[..]).next_member().unwrap().unwrap().path, b"zipped");
    // An empty one is an archive of nothing, as in Docker.
    copy(&back, &mut io::empty(), &mut io::sink(), |_| Ok(&scene.guest)).unwrap();
}

#[test]
fn a_tree_there_and_back_is_the_same() {
    let scene = scene();
    fs::write(scene.here("dir/large"), vec![9; 3 << 20]).unwrap();
    fs::set_permissions(scene.here("dir/one"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::hard_link(scene.here("dir/one"), scene.here("dir/again")).unwrap();
    scene.take_from_here("dir", "/new").unwrap();
    scene.to_here("/new", "back").unwrap();
    for name in ["one", "again", "large", "sub/two", "sub", ""] {
        let [before, after] = ["dir", "back"].map(|top| {
            let metadata = fs::symlink_metadata(scene.here(top).join(name)).unwrap();
            (metadata.mode(), metadata.mtime(), metadata.len())
        });
        assert_eq!(before, after, "{name}");
    }
    let inode = |path: &str| fs::metadata(scene.here(path)).unwrap().ino();
    assert_eq!(inode("back/one"), inode("back/again"));
}

#[test]
fn owners_are_root_s_in_a_container_unless_kept() {
    let scene = scene();
    let guest = Forged::directory(&TarBuilder::new());
    for (archive, expected) in [(false, 0), (true, rustix::process::getuid().as_raw())] {
        guest.got.lock().unwrap().clear();
        let args = CpArgs {
            archive,
            follow_link: false,
            quiet: true,
            source: scene.here("dir").into(),
            destination: "web:/".into(),
        };
        copy(&args, &mut io::empty(), &mut io::sink(), |_| Ok(&guest)).unwrap();
        let got = guest.got.lock().unwrap();
        let mut reader = TarReader::new(&got[..]);
        let mut count = 0;
        while let Some(member) = reader.next_member().unwrap() {
            assert_eq!(member.uid, expected);
            count += 1;
        }
        assert_eq!(count, 4);
    }
}

#[test]
fn whoever_failed_first_is_the_reason() {
    let scene = scene();
    fs::write(scene.here("dir/large"), vec![9; 3 << 20]).unwrap();
    // The guest takes nothing: that the pipe to it breaks is not the reason.
    fs::write(scene.there("existing/dir"), "").unwrap();
    let told = scene.take_from_here("dir", "existing").unwrap_err();
    assert!(told.starts_with("cannot overwrite non-directory"), "{told}");
    // Nobody can read this file: that the guest's archive ends early is not the reason.
    let unreadable = "/sys/bus/platform/drivers_probe";
    let told = scene.cp("", unreadable.into(), "web:/existing".into()).unwrap_err();
    assert!(told.contains(&format!(" {unreadable}: ")), "{told}");
}

/// Copies from a forged guest to `here/target`; gives the complaint.
fn forged(scene: &Scene, guest: &Forged, source: &str, target: &str) -> Result<(), String> {
    let args = CpArgs {
        archive: false,
        follow_link: false,
        quiet: true,
        source: format!("web:{source}").into(),
        destination: scene.here(target).into(),
    };
    let copied = copy(&args, &mut io::empty(), &mut io::sink(), |_| Ok(guest));
    copied.map_err(|error| format!("{error:#}"))
}

#[test]
fn row30_a_guest_cannot_send_what_was_not_asked_for() {
    let scene = scene();
    for archive in [
        TarBuilder::new().file(".bashrc", b"evil"),
        TarBuilder::new().file("file", b"f").file("other", b"evil"),
        TarBuilder::new().file("../old", b"evil"),
        TarBuilder::new().file("file/../../old", b"evil"),
        TarBuilder::new().dir("file/"),
        TarBuilder::new().hard_link("file", "/etc/passwd"),
    ] {
        forged(&scene, &Forged::file(archive), "/file", "existing").unwrap_err();
    }
    for archive in [
        TarBuilder::new().dir("dir/").file(".ssh/authorized_keys", b"evil"),
        TarBuilder::new().dir("dir/").file("dir/../old", b"evil"),
        TarBuilder::new().dir("dir/").symlink("dir/up", "..").file("dir/up/up/old", b"evil"),
        TarBuilder::new().dir("dir/").hard_link("dir/x", "../old"),
        TarBuilder::new().dir("dir/").device("dir/sda", 8, 0),
    ] {
        forged(&scene, &Forged::directory(archive), "/dir", "existing").unwrap_err();
    }
    assert_eq!(read(scene.here("old")), "old");
    for name in [".bashrc", ".ssh", "other"] {
        assert!(!scene.here("existing").join(name).exists(), "{name}");
    }
}

#[test]
fn row30_links_at_the_destination_are_not_written_through() {
    let scene = scene();
    symlink("../old", scene.here("existing/one")).unwrap();
    symlink("..", scene.here("existing/sub")).unwrap();
    let told = scene.to_here("dir/.", "existing").unwrap_err();
    assert!(told.starts_with("cannot overwrite non-directory"), "{told}");
    assert_eq!(read(scene.here("old")), "old");
    assert_eq!(read(scene.here("existing/one")), "1");
}

#[test]
fn row30_a_guest_s_words_cannot_move_the_cursor() {
    let scene = scene();
    let archive = TarBuilder::new().dir("dir/").device("dir/\x1b[2J\r\n", 8, 0).clone();
    let told = forged(&scene, &Forged::directory(&archive), "/dir", "new").unwrap_err();
    assert!(told.contains(r"\u{1b}[2J\r\n") && !told.contains(char::is_control), "{told}");
    let told = forged(&scene, &Forged::file(&archive), "/\x1b[2J", "no/x").unwrap_err();
    assert!(!told.contains(char::is_control), "{told}");
}

#[test]
fn row30_an_archive_that_ends_early_or_never_is_told() {
    let scene = scene();
    let mut guest = Forged::file(TarBuilder::new().file("file", &[1; 4000]));
    guest.archive.truncate(2000);
    let told = forged(&scene, &guest, "/file", "new").unwrap_err();
    assert_eq!(told, "the tar stream ends in the middle of an entry");
    let mut guest = Forged::file(TarBuilder::new().file("file", b"x"));
    guest.archive.resize(64 << 20, 7);
    forged(&scene, &guest, "/file", "new").unwrap();
    assert_eq!(read(scene.here("new")), "x");
}
