//! What Docker does with images that are there: names, lists, history, inspection, archives, disk
//! usage, pruning, and whether the store is sound. Judges: skopeo, umoci and GNU tar.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use serde_json::Value;

use crate::support::{Named, Store, archive, image, pty::Terminal, vmrun};

/// A store with busybox in it, and a folder for files.
fn busybox() -> (Store, tempfile::TempDir) {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let folder = tempfile::tempdir_in(store.path().parent().unwrap()).unwrap();
    (store, folder)
}

/// Runs a tool that is not ours.
#[track_caller]
fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn ok(store: &Store, args: &[&str]) -> String {
    store.vmrun(args).run().succeeds()
}

fn inspect(store: &Store, name: &str) -> Value {
    let all: Value = serde_json::from_str(&ok(store, &["inspect", name])).unwrap();
    all[0].clone()
}

#[test]
fn tags_come_go_and_move() {
    let (store, _folder) = busybox();
    ok(&store, &["tag", "busybox", "mine:1"]);
    ok(&store, &["image", "tag", "busybox:latest", "localhost:5000/team/box"]);
    let names = ok(&store, &["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["busybox:latest", "localhost:5000/team/box:latest", "mine:1"]);
    let id = ok(&store, &["images", "-q", "--no-trunc", "mine"]);
    let refused = store.vmrun(["rmi", id.trim()]).run();
    refused.fails(1, &["unable to delete", "(must be forced)", "multiple repositories"]);
    assert_eq!(ok(&store, &["rmi", "mine:1"]), "Untagged: mine:1\n");
    store.load("many-layers.tar").succeeds();
    ok(&store, &["tag", "many-layers", "busybox"]);
    // The one that had the name has none left there, and goes by the other.
    assert_eq!(ok(&store, &["images", "-q", "--no-trunc", "localhost:5000/team/box"]), id);
    store.vmrun(["tag", "none", "x"]).run().fails(1, &["No such image: none"]);
    store.vmrun(["tag", "busybox", "Not/Valid"]).run().fails(1, &["not a valid repository/tag"]);
}

#[test]
fn images_are_listed_as_docker_lists_them() {
    let (store, _folder) = busybox();
    store.load("many-layers.tar").succeeds();
    for (args, expected) in [
        (&["--format", "{{.Repository}}", "busy*"][..], "busybox\n"),
        (&["-f", "reference=many*:*", "--format", "{{.Tag}}"], "latest\n"),
        (&["--filter", "dangling=true", "-q"], ""),
        (&["--filter", "before=busybox", "--filter", "since=busybox", "-q"], ""),
        (
            &["--format", "table {{.Tag}}\\t{{.Repository}}", "many-layers"],
            "TAG       REPOSITORY\nlatest    many-layers\n",
        ),
        (&["nothing"], "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"),
    ] {
        assert_eq!(ok(&store, &[&["images"], args].concat()), expected, "{args:?}");
    }
    let json = ok(&store, &["image", "ls", "--json", "busybox"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["Repository"], &json["Tag"]), (&"busybox".into(), &"latest".into()));
    let digests = ok(&store, &["images", "--digests", "busybox"]);
    assert!(digests.contains("DIGEST") && digests.contains("sha256:"), "{digests}");
    for (args, words) in [
        (["images", "-f", "colour=red"], ["Invalid filter", "colour"]),
        (["images", "--format", "{{.Colour}}"], ["template", "Colour"]),
    ] {
        store.vmrun(args).run().fails(1, &words);
    }
}

#[test]
fn names_that_are_lost_leave_a_dangling_image_for_prune() {
    let (store, _folder) = busybox();
    store.load("many-layers.tar").succeeds();
    ok(&store, &["tag", "many-layers", "busybox"]);
    let dangling = ok(&store, &["images", "-f", "dangling=true", "--format", "{{.Repository}}"]);
    assert_eq!(dangling, "<none>\n");
    let asked = store.vmrun(["image", "prune"]).input("n\n").run().succeeds();
    assert!(asked.contains("WARNING! This will remove all dangling images.\n"), "{asked}");
    assert!(asked.ends_with("[y/N] Total reclaimed space: 0B\n"), "{asked}");
    let pruned = store.vmrun(["image", "prune"]).input("y\n").run().succeeds();
    assert!(pruned.contains("Deleted Images:\ndeleted: sha256:"), "{pruned}");
    assert!(!pruned.contains("space: 0B"), "{pruned}");
    assert_eq!(
        ok(&store, &["image", "prune", "-af", "--filter", "until=2000-01-01"]),
        "Total reclaimed space: 0B\n"
    );
    let pruned = ok(&store, &["system", "prune", "-a", "-f"]);
    assert!(pruned.contains("untagged: busybox:latest\n"), "{pruned}");
    assert_eq!(ok(&store, &["images", "-q"]), "");
    let left: Vec<_> = fs::read_dir(store.path().join("layers")).unwrap().collect();
    assert_eq!(left.len(), 0);
}

/// The other side is what skopeo says of the same archive.
#[test]
fn history_and_inspect_tell_what_the_image_says() {
    let (store, _folder) = busybox();
    store.load("debian.tar").succeeds();
    let said = tool(
        "skopeo",
        &["inspect", "--config", &format!("oci-archive:{}", text(&archive("debian.tar")))],
    );
    let said: Value = serde_json::from_str(&said).unwrap();
    let shown = inspect(&store, "debian:demo");
    assert_eq!(shown["RootFS"]["Layers"], said["rootfs"]["diff_ids"]);
    assert_eq!(shown["Config"]["Env"], said["config"]["Env"]);
    assert_eq!(shown["Config"]["Cmd"], said["config"]["Cmd"]);
    assert_eq!((&shown["Os"], &shown["Architecture"]), (&said["os"], &said["architecture"]));
    let tags =
        ok(&store, &["inspect", "-f", "{{index .RepoTags 0}} {{json .Config.Cmd}}", "debian:demo"]);
    assert_eq!(tags, format!("debian:demo {}\n", said["config"]["Cmd"]));

    let history = ok(
        &store,
        &["history", "--human=false", "--no-trunc", "--format", "{{.Size}}", "debian:demo"],
    );
    let sizes: Vec<u64> = history.lines().map(|size| size.parse().unwrap()).collect();
    assert_eq!(sizes.iter().sum::<u64>(), shown["Size"].as_u64().unwrap());
    let table = ok(&store, &["history", "debian:demo"]);
    assert!(table.starts_with("IMAGE          CREATED"), "{table}");
    let ids = ok(&store, &["history", "-q", "debian:demo"]);
    assert!(ids.lines().skip(1).all(|id| id == "<missing>"), "{ids}");

    let nothing = store.vmrun(["inspect", "nothing"]).run().exits(1);
    assert_eq!(
        (nothing.stdout().as_str(), nothing.stderr().as_str()),
        ("[]\n", "vmrun: No such object: nothing\n")
    );
    store
        .vmrun(["image", "inspect", "-f", "{{.Id}}", "nothing"])
        .run()
        .fails(1, &["No such image: nothing"]);
}

#[test]
fn what_is_saved_is_what_other_tools_and_another_store_read() {
    let (store, folder) = busybox();
    store.load("many-layers.tar").succeeds();
    ok(&store, &["tag", "busybox", "busybox:other"]);
    let file = folder.path().join("saved.tar");
    ok(&store, &["save", "-o", text(&file), "busybox:latest"]);

    let digest = |source: &str| tool("skopeo", &["inspect", "--raw", source]);
    let raw = digest(&format!("oci-archive:{}", text(&archive("busybox.tar"))));
    assert_eq!(digest(&format!("oci-archive:{}", text(&file))), raw);
    let docker = format!("docker-archive:{}:busybox:latest", text(&file));
    let config: Value =
        serde_json::from_str(&tool("skopeo", &["inspect", "--config", &docker])).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], inspect(&store, "busybox")["RootFS"]["Layers"]);

    let layout = folder.path().join("layout");
    fs::create_dir(&layout).unwrap();
    tool("tar", &["-xf", text(&file), "-C", text(&layout)]);
    let bundle = folder.path().join("bundle");
    let image = format!("{}:latest", text(&layout));
    tool("umoci", &["unpack", "--rootless", "--image", &image, text(&bundle)]);
    assert!(bundle.join("rootfs/bin/busybox").exists());

    // Several, one of them with two names; through stdout, another store, and back.
    let saved = store.vmrun(["save", "many-layers", "busybox"]).run().exits(0).output.stdout;
    let other = Store::new();
    let loaded = other.vmrun(["load"]).input(saved.clone()).run().succeeds();
    let mut loaded: Vec<_> = loaded.lines().collect();
    loaded.sort_unstable();
    assert_eq!(
        loaded,
        [
            "Loaded image: busybox:latest",
            "Loaded image: busybox:other",
            "Loaded image: many-layers:latest"
        ]
    );
    let again = other.vmrun(["save", "many-layers", "busybox"]).run().exits(0).output.stdout;
    assert!(again == saved, "save, load, save: not the same bytes");
}

#[test]
fn save_refuses_terminals_and_leaves_no_half_archive() {
    let (store, folder) = busybox();
    let mut terminal = Terminal::start(&store.vmrun(["save", "busybox"]).command());
    terminal.shows("cowardly refusing to save to a terminal. Use the -o flag or redirect");
    assert_eq!(terminal.status(), 1);
    let file = folder.path().join("saved.tar");
    store
        .vmrun(["save", "-o", text(&file), "busybox", "none"])
        .run()
        .fails(1, &["No such image: none"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let nowhere = folder.path().join("absent/saved.tar");
    store.vmrun(["save", "-o", text(&nowhere), "busybox"]).run().fails(1, &["does not exist"]);
}

#[test]
fn root_file_systems_are_imported_with_changes() {
    let (store, folder) = busybox();
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("etc/motd"), "hello\n").unwrap();
    let tar = folder.path().join("root.tar.gz");
    tool("tar", &["-czf", text(&tar), "-C", text(&tree), "."]);
    let args =
        ["import", "-c", "CMD [\"cat\"]", "-c", "ENV A=b", "-m", "made here", text(&tar), "mine:1"];
    let id = ok(&store, &args);
    assert!(id.starts_with("sha256:"), "{id}");
    let shown = inspect(&store, "mine:1");
    assert_eq!(shown["Id"], id.trim());
    assert_eq!(shown["Config"]["Cmd"], serde_json::json!(["cat"]));
    assert_eq!(
        (&shown["Comment"], &shown["Config"]["Env"][0]),
        (&"made here".into(), &"A=b".into())
    );

    // What skopeo and umoci make of it is the tree that was imported.
    let saved = folder.path().join("saved.tar");
    ok(&store, &["save", "-o", text(&saved), "mine:1"]);
    let layout = format!("{}:mine", text(&folder.path().join("layout")));
    let source = format!("oci-archive:{}", text(&saved));
    tool("skopeo", &["--insecure-policy", "copy", "-q", &source, &format!("oci:{layout}")]);
    let bundle = folder.path().join("bundle");
    tool("umoci", &["unpack", "--rootless", "--image", &layout, text(&bundle)]);
    assert_eq!(fs::read_to_string(bundle.join("rootfs/etc/motd")).unwrap(), "hello\n");

    let bytes = fs::read(&tar).unwrap();
    let nameless = store.vmrun(["import", "-"]).input(bytes).run().succeeds();
    assert!(nameless.starts_with("sha256:"));
    store
        .vmrun(["import", "-"])
        .input("not a tar")
        .run()
        .fails(1, &["vmrun: cannot import standard input: "]);
    store
        .vmrun(["import", "-c", "RUN true", text(&tar)])
        .run()
        .fails(1, &["run is not a valid change command"]);
}

/// Answers each request on loopback with this; gives where.
fn served(status: &'static str, announced: usize, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let lines = stream.by_ref().lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {announced}\r\n\r\n");
            let _ = stream.get_mut().write_all(&[head.as_bytes(), &body].concat());
        }
    });
    format!("http://{address}/root.tar.gz")
}

#[test]
fn root_file_system_is_imported_from_a_url() {
    let (store, folder) = busybox();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("noise"), vec![7; 300_000]).unwrap();
    let tar = folder.path().join("root.tar.gz");
    tool("tar", &["-czf", text(&tar), "-C", text(&tree), "."]);
    let bytes = fs::read(&tar).unwrap();
    let length = bytes.len();

    let url = served("200 OK", length, bytes.clone());
    let out = ok(&store, &["import", &url, "web:1"]);
    let id = inspect(&store, "web:1")["Id"].as_str().unwrap().to_owned();
    assert_eq!(out, format!("Downloading from {url}\n{id}\n"));
    assert_eq!(inspect(&store, "web:1")["Comment"], format!("Imported from {url}"));
    let from_file = ok(&store, &["import", text(&tar), "file:1"]);
    assert!(from_file.starts_with("sha256:"), "{from_file}");
    let layers = |name| inspect(&store, name)["RootFS"]["Layers"].clone();
    assert_eq!(layers("web:1"), layers("file:1"));

    let images = ok(&store, &["images", "-q"]);
    let gone = served("404 Not Found", 0, Vec::new());
    let run = |url: &str| store.vmrun(["import", url]).run();
    run(&gone)
        .fails(1, &[&format!("cannot download {gone}: 127.0.0.1:"), " answered 404: not found"]);
    let cut = served("200 OK", length, bytes[..length / 2].to_vec());
    run(&cut).fails(1, &[&format!("cannot import {cut}: ")]);
    run("http://localhost:1/x").fails(1, &["cannot reach localhost:1: "]);
    assert_eq!(ok(&store, &["images", "-q"]), images);
}

fn bytes(text: &str) -> f64 {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let unit = match &text[end..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        other => panic!("{other}"),
    };
    text[..end].parse::<f64>().unwrap() * unit
}

#[test]
fn disk_usage_adds_up_to_what_du_says() {
    let (store, _folder) = busybox();
    store.load("many-layers.tar").succeeds();
    let size = ok(&store, &["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Size}}"]);
    let line = size.lines().next().unwrap().strip_prefix("Images 2 ").unwrap();
    let parts = ["blobs", "layers", "roots"].map(|part| text(&store.path().join(part)).to_owned());
    let du = tool("du", &["-sc", "--block-size=1", &parts[0], &parts[1], &parts[2]]);
    let du: f64 = du.lines().last().unwrap().split('\t').next().unwrap().parse().unwrap();
    assert!((bytes(line) / du - 1.0).abs() < 0.02, "{line} against {du}");
    let verbose = ok(&store, &["system", "df", "-v"]);
    assert!(verbose.contains("SHARED SIZE   UNIQUE SIZE   CONTAINERS"), "{verbose}");
    assert!(verbose.contains("Containers space usage:"), "{verbose}");
}

fn any_file(folder: &Path, name: &str) -> PathBuf {
    let found = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().join(name));
    found.filter(|path| path.is_file()).max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

#[test]
fn row38_rot_in_the_store_is_found_and_mended() {
    let (store, _folder) = busybox();
    assert_eq!(ok(&store, &["system", "check"]), "1 images and 1 layers are sound\n");
    let rot = |path: &Path| {
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 5000).unwrap();
        file.write_all_at(&[!byte[0]], 5000).unwrap();
    };
    let layer = any_file(&store.path().join("layers"), "blob");
    rot(&layer);
    let found = store.vmrun(["system", "check"]).run().exits(1).stdout();
    assert!(found.contains("busybox:latest") && found.contains("--repair"), "{found}");
    let mended = ok(&store, &["system", "check", "--repair"]);
    assert!(mended.contains("made anew"), "{mended}");
    // The layer as it came is gone: what is left tells, and a load brings it back.
    rot(&any_file(&store.path().join("blobs"), &largest(&store.path().join("blobs/sha256"))));
    let removed = store.vmrun(["system", "check", "--repair"]).run().exits(1).stdout();
    assert!(removed.contains("removed; load or pull the image again"), "{removed}");
    store.load("busybox.tar").succeeds();
    ok(&store, &["system", "check"]);
}

fn largest(folder: &Path) -> String {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let largest = files.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap();
    largest.file_name().into_string().unwrap()
}

#[test]
fn store_of_a_newer_format_is_refused_in_one_line() {
    let (store, _folder) = busybox();
    let catalog = store.path().join("images.json");
    let text =
        fs::read_to_string(&catalog).unwrap().replacen("\"version\": 1", "\"version\": 99", 1);
    fs::write(&catalog, text).unwrap();
    for args in [&["images"][..], &["ps"], &["rmi", "busybox"], &["system", "check"]] {
        store.vmrun(args).run().fails(1, &["store format 99", "newer vmrun"]);
    }
}

#[test]
fn containers_are_listed_filtered_and_inspected() {
    let name = Named::new("inspected");
    let args = ["run", "--name", &name.0, "-e", "A=b", image("busybox"), "sh", "-c", "exit 3"];
    vmrun(args).run().exits(3);
    let shown = vmrun(["inspect", &name.0]).run().succeeds();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let shown = &shown[0];
    assert_eq!(shown["Name"], format!("/{}", name.0));
    assert_eq!(
        (&shown["State"]["Status"], &shown["State"]["ExitCode"]),
        (&"exited".into(), &3.into())
    );
    assert_eq!((&shown["Path"], &shown["Args"][1]), (&"sh".into(), &"exit 3".into()));
    let env = ["container", "inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", &name.0];
    assert!(vmrun(env).run().succeeds().contains("A=b\n"));

    let ps = |filters: &[&str]| {
        let named = format!("name={}", name.0);
        let args = ["ps", "-a", "--format", "{{.Names}} {{.State}}", "--filter", &named];
        vmrun([&args[..], filters].concat()).run().succeeds()
    };
    let line = format!("{} exited\n", name.0);
    assert_eq!(ps(&[]), line);
    assert_eq!(ps(&["-f", "status=exited", "-f", "exited=3", "-f", "ancestor=busybox"]), line);
    assert_eq!(ps(&["-f", "exited=0"]), "");
    assert_eq!(ps(&["-f", "status=running"]), "");
    vmrun(["ps", "-f", "status=happy"]).run().fails(1, &["Invalid filter", "happy"]);
    let json = vmrun(["container", "ls", "-a", "--json", "-f", &format!("name={}", name.0)]).run();
    let json: Value = serde_json::from_str(&json.succeeds()).unwrap();
    assert_eq!(json["Names"], name.0);
}

#[test]
fn images_behind_containers_are_kept_and_prune_takes_the_rest() {
    let (store, _folder) = busybox();
    store.load("many-layers.tar").succeeds();
    ok(&store, &["run", "--name", "user", "busybox", "true"]);
    let id = ok(&store, &["images", "-q", "busybox"]);
    store
        .vmrun(["rmi", "busybox"])
        .run()
        .fails(1, &["unable to remove repository reference", "(must force)"]);
    store.vmrun(["rmi", id.trim()]).run().fails(1, &["(must be forced)", "stopped container"]);
    ok(&store, &["image", "prune", "-a", "-f"]);
    assert_eq!(ok(&store, &["images", "--format", "{{.Repository}}"]), "busybox\n");
    let pruned = ok(&store, &["container", "prune", "-f"]);
    assert!(pruned.starts_with("Deleted Containers:\n"), "{pruned}");
    assert_eq!(ok(&store, &["ps", "-aq"]), "");
    let pruned = ok(&store, &["image", "prune", "-a", "-f"]);
    assert!(pruned.contains("untagged: busybox:latest"), "{pruned}");
}
