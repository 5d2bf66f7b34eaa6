//! What a container changed: `diff`, and `commit`, which makes an image of it. Judges: the container's
//! own view of its tree, GNU tar, umoci, skopeo and a registry.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::support::{
    Named, Store, image,
    registry::{Kind, Registry},
    vmrun,
};

/// Long enough for a guest that hashes a whole Debian on a machine made of software.
const LONG: Duration = Duration::from_secs(400);

/// An image that goes when the case ends, after the containers that are made of it.
struct Tagged(String);

impl Tagged {
    fn new(prefix: &str) -> Self {
        Self(format!("{prefix}-{}:1", std::process::id()))
    }
}

impl Drop for Tagged {
    fn drop(&mut self) {
        let _ = vmrun(["rmi", "-f", &self.0]).run();
    }
}

#[track_caller]
fn ok(args: &[&str]) -> String {
    vmrun(args).patience(LONG).run().succeeds()
}

/// Runs a shell script in a new container, which stays.
#[track_caller]
fn changed(name: &Named, of: &str, script: &str) {
    ok(&["run", "--name", &name.0, of, "sh", "-ec", script]);
}

/// A tool that is not ours.
#[track_caller]
fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("a tool that is needed");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Unpacks the layers of a saved image one by one; their folder.
fn saved_layers(name: &str, folder: &Path) -> (PathBuf, Vec<PathBuf>) {
    let archive = folder.join("saved.tar");
    ok(&["save", "-o", text(&archive), name]);
    let layout = folder.join("layout");
    let from = format!("docker-archive:{}", text(&archive));
    let to = format!("oci:{}:saved", text(&layout));
    tool("skopeo", &["--insecure-policy", "copy", "-q", &from, &to]);
    let manifest = tool("skopeo", &["inspect", "--raw", &to]);
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    (layout.clone(), layers.map(|layer| blob(layer["digest"].as_str().unwrap())).collect())
}

/// Everything that can be done to files, each in a place of its own.
const CHANGES: &str = r#"
    cd /root
    mv /usr/share/perl5 /usr/share/moved; mv /usr/lib/mime /root/mime
    rm -r /etc/cron.daily; rm /etc/issue
    rm -r /etc/skel; mkdir /etc/skel; echo new > /etc/skel/new
    rm -r /opt; echo file > /opt; rm /etc/debian_version; mkdir -p /etc/debian_version/below
    chown 3000000:4000000 /usr/bin/perl; chmod 4711 /usr/bin/find; chmod 700 /srv
    echo more >> /etc/passwd; cp /bin/true /bin/true.new; mv /bin/true.new /bin/true
    ln /etc/passwd hard; ln hard hard-too; ln /bin/cat cat; ln -s /nowhere link; chown -h 5:6 link
    mkfifo -m 622 pipe; mknod null c 1 3; mknod disk b 7 300; chmod 3777 disk
    printf x > "$(printf 'not-utf8-\377')"; printf x > "$(printf 'new\nline')"; touch "a.wh.b"
    long=$(printf 'n%.0s' $(seq 250)); mkdir -p $long/$long; echo deep > $long/$long/$long
    ln -s $long/$long long-link; ln $long/$long/$long long-hard
    truncate -s 40M hole; printf tail >> hole; printf head > piece; truncate -s 10M piece
    touch -d '1960-01-02 03:04:05.25' old; touch -d @2000000000.123456789 /srv
    touch /var/passing; rm /var/passing
    python3 -c 'import os
os.setxattr("/root/old", "user.a=b", b"x\0y"); os.setxattr("/etc/hostname.d", "user.on", b"dir")
os.setxattr("/usr/bin/find", "security.capability", bytes.fromhex("0100000200200000" + "00" * 12))'
"#;

/// The lines of a listed tree. The time of `/etc` is that of the last start, which mounts there. The
/// image's names of a file that lost one to a change still count it, until they are in an image of
/// their own.
fn comparable(list: &str) -> Vec<String> {
    let without_links = |line: &str| {
        let columns = line.split(' ').enumerate().filter(|(column, _)| *column != 7);
        columns.map(|(_, text)| text).collect::<Vec<_>>().join(" ")
    };
    let of_runtime = |line: &&str| line.starts_with("/etc dir ") || line.starts_with("/etc/mtab ");
    let lines = list.lines().filter(|line| !of_runtime(line));
    lines
        .map(|line| if line.starts_with("/usr/") { without_links(line) } else { line.to_owned() })
        .collect()
}

/// The tree of the new image is the one that the container saw.
#[test]
fn committed_image_is_what_the_container_saw() {
    let (name, tagged) = (Named::new("commit-tree"), Tagged::new("commit-tree"));
    let of = image("debian:demo");
    let script = format!("mkdir /etc/hostname.d; {CHANGES}\n python3 /lister.py /");
    let run = vmrun(["run", "--name", &name.0, of, "bash", "-ec", &script]).patience(LONG);
    let seen = comparable(&run.run().succeeds());
    let id = ok(&["commit", &name.0, &tagged.0]);
    assert!(id.starts_with("sha256:") && id.len() == 72, "{id}");
    let committed = comparable(&ok(&["run", "--rm", &tagged.0, "python3", "/lister.py", "/"]));
    for (committed, seen) in committed.iter().zip(&seen) {
        assert_eq!(committed, seen);
    }
    assert_eq!(committed.len(), seen.len());

    // Nothing was changed in that, and so nothing is in the next layer.
    let again = Named::new("commit-again");
    ok(&["run", "--name", &again.0, &tagged.0, "true"]);
    assert_eq!(ok(&["diff", &again.0]), "");
}

#[test]
fn diff_lists_what_docker_lists() {
    let name = Named::new("diff");
    ok(&["create", "--name", &name.0, image("busybox"), "true"]);
    assert_eq!(ok(&["diff", &name.0]), "");
    ok(&["rm", &name.0]);
    changed(
        &name,
        image("busybox"),
        "echo x > /root/new; mkdir -p /a/b; echo y > /a/b/c; rm /etc/group; echo z >> /etc/passwd
         chmod 700 /tmp; ln -s new /root/link; rm -r /usr; touch /bin/x; rm /bin/x",
    );
    let expected = "A /a\nA /a/b\nA /a/b/c\nC /etc\nD /etc/group\nC /etc/passwd\nC /root\n\
                    A /root/link\nA /root/new\nC /tmp\nD /usr\n";
    assert_eq!(ok(&["diff", &name.0]), expected);
    assert_eq!(ok(&["container", "diff", &name.0]), expected);
    let ps = ["ps", "-a", "--format", "{{.State}}", "--filter", &format!("name={}", name.0)];
    assert_eq!(ok(&ps), "exited\n");
    vmrun(["diff", "nobody-here"]).run().fails(1, &["No such container: nobody-here"]);
}

#[test]
fn message_author_and_changes_are_in_the_new_image() {
    let (name, tagged) = (Named::new("commit-config"), Tagged::new("commit-config"));
    changed(&name, image("busybox"), "echo x > /x");
    let change =
        ["-c", r#"CMD ["cat", "/x"]"#, "-c", "ENV A=1", "-c", "LABEL l=m", "-c", "WORKDIR /d"];
    let options = ["commit", "-m", "a message", "--author", "Some One <one@example>"];
    ok(&[&options[..], &change, &[&name.0, &tagged.0]].concat());
    let inspect = |format: &str| ok(&["inspect", "-f", format, &tagged.0]);
    assert_eq!(
        inspect("{{.Author}}|{{.Comment}}|{{json .Config.Cmd}}|{{json .Config.Env}}"),
        "Some One <one@example>|a message|[\"cat\",\"/x\"]|[\"PATH=/bin\",\"A=1\"]\n"
    );
    assert_eq!(inspect("{{json .Config.Labels}} {{.Config.WorkingDir}}"), "{\"l\":\"m\"} /d\n");
    let history =
        ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", &tagged.0]);
    assert_eq!(history.lines().next(), Some("sh -ec echo x > /x|a message"), "{history}");
    assert_eq!(ok(&["run", "--rm", &tagged.0]), "x\n");

    // Without a name it has none; the container's own command goes on.
    let id = ok(&["commit", &name.0]);
    let dangling = ok(&["images", "-f", "dangling=true", "-q", "--no-trunc"]);
    assert!(dangling.contains(&id), "{dangling}");
    assert_eq!(
        ok(&["inspect", "-f", "{{json .Config.Cmd}} {{json .RepoTags}}", id.trim()]),
        "[\"sh\",\"-ec\",\"echo x \\u003e /x\"] []\n".replace("\\u003e", ">")
    );
    ok(&["rmi", id.trim()]);
}

#[test]
fn what_cannot_be_committed_is_refused_and_leaves_nothing() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    store.vmrun(["run", "--name", "changed", "busybox", "touch", "/new"]).run().succeeds();
    let images = || store.vmrun(["images", "-aq", "--no-trunc"]).run().succeeds();
    let before = images();
    for (args, words) in [
        (&["changed", "UPPER"][..], "invalid reference format: repository name must be lowercase"),
        (&["-c", "RUN x", "changed"], "run is not a valid change command"),
        (&["nobody-here"], "No such container: nobody-here"),
    ] {
        store.vmrun([&["commit"], args].concat()).run().fails(1, &[words]);
    }
    assert_eq!(images(), before);
}

/// A container that writes two files in turns: what stood still has them one step apart at most.
const TURNS: &str =
    "n=0; while :; do n=$((n+1)); echo $n > /t; mv /t /a; echo $n > /t; mv /t /b; done";

#[test]
fn running_container_stands_still_while_it_is_committed_and_goes_on() {
    let (name, tagged) = (Named::new("commit-live"), Tagged::new("commit-live"));
    ok(&["run", "-d", "--name", &name.0, image("busybox"), "sh", "-c", TURNS]);
    let read = |file: &str| -> i64 {
        ok(&["exec", &name.0, "cat", file]).trim().parse().expect("a number")
    };
    crate::support::eventually("it writes", || {
        vmrun(["exec", &name.0, "test", "-e", "/b"]).run().status() == 0
    });
    ok(&["commit", &name.0, &tagged.0]);
    let both = ok(&["run", "--rm", &tagged.0, "sh", "-c", "cat /a /b"]);
    let both: Vec<i64> = both.lines().map(|line| line.parse().unwrap()).collect();
    assert!((0..=1).contains(&(both[0] - both[1])), "{both:?}");
    let before = read("/b");
    assert!(before > both[1], "{before} {both:?}");
    crate::support::eventually("it goes on", || read("/b") > before);
    ok(&["commit", "--pause=false", &name.0, &tagged.0]);
    assert!(ok(&["diff", &name.0]).contains("A /a\nA /b\n"));
    let ps = ["ps", "--format", "{{.Status}}", "--filter", &format!("name={}", name.0)];
    assert!(ok(&ps).starts_with("Up "), "{}", ok(&ps));
}

#[test]
fn paused_container_is_committed_and_stays_paused() {
    let (name, tagged) = (Named::new("commit-paused"), Tagged::new("commit-paused"));
    ok(&["run", "-d", "--name", &name.0, image("busybox"), "sh", "-c", TURNS]);
    crate::support::eventually("it writes", || {
        vmrun(["exec", &name.0, "test", "-e", "/b"]).run().status() == 0
    });
    ok(&["pause", &name.0]);
    let untagged = ok(&["commit", &name.0, &tagged.0]);
    let of = |image: &str| ok(&["run", "--rm", image, "sh", "-c", "cat /a /b"]);
    let first = of(&tagged.0);
    assert!(ok(&["diff", &name.0]).contains("A /a\nA /b\n"));
    ok(&["commit", &name.0, &tagged.0]);
    assert_eq!(of(&tagged.0), first);
    let ps = ["ps", "--format", "{{.State}}", "--filter", &format!("name={}", name.0)];
    assert_eq!(ok(&ps), "paused\n");
    ok(&["unpause", &name.0]);
    ok(&["rmi", "-f", untagged.trim()]);
}

/// The layers that others get, against what `diff` says.
#[test]
fn layer_of_a_commit_holds_the_changes_and_nothing_else() {
    let (name, tagged) = (Named::new("commit-layer"), Tagged::new("commit-layer"));
    changed(
        &name,
        image("busybox"),
        "echo new > /etc/new; rm /etc/group; mv /usr /moved; mkdir /root/sub; chmod 1777 /root
         ln /etc/new /root/sub/link; truncate -s 8M /root/hole",
    );
    ok(&["commit", &name.0, &tagged.0]);
    let folder = tempfile::tempdir_in(crate::support::scratch()).unwrap();
    let (layout, layers) = saved_layers(&tagged.0, folder.path());
    let list = tool("tar", &["-tzf", text(layers.last().unwrap())]);
    let entries: BTreeSet<&str> = list.lines().map(|name| name.trim_end_matches('/')).collect();
    let diff = ok(&["diff", &name.0]);
    let expected = diff.lines().map(|line| match line.split_at(2) {
        ("D ", path) => {
            let (folder, name) = path[1..].rsplit_once('/').unwrap_or_else(|| ("", &path[1..]));
            format!("{folder}/.wh.{name}").trim_start_matches('/').to_owned()
        }
        (_, path) => path[1..].to_owned(),
    });
    assert_eq!(entries, expected.collect::<Vec<_>>().iter().map(String::as_str).collect());
    assert!(fs::metadata(layers.last().unwrap()).unwrap().size() < 10_000);

    let bundle = folder.path().join("bundle");
    let saved = format!("{}:saved", text(&layout));
    tool("umoci", &["unpack", "--rootless", "--image", &saved, text(&bundle)]);
    let there = |path: &str| bundle.join("rootfs").join(path).symlink_metadata();
    assert_eq!(there("root/hole").unwrap().len(), 8 << 20);
    assert_eq!(there("etc/new").unwrap().ino(), there("root/sub/link").unwrap().ino());
    assert!(there("etc/group").is_err() && there("usr").is_err() && there("moved").is_ok());
}

#[test]
fn hole_of_ten_gibibytes_costs_nothing() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let ok = |args: &[&str]| store.vmrun(args).patience(LONG).run().succeeds();
    let layers = text(&store.path().join("layers")).to_owned();
    let used = || -> u64 {
        let used = tool("du", &["-sk", &layers]);
        used.split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = used();
    let make = "truncate -s 10G /root/hole; printf end >> /root/hole";
    ok(&["run", "--name", "holed", "busybox", "sh", "-ec", make]);
    ok(&["commit", "holed", "holed:1"]);
    assert!(used() - before < 64, "KiB: {} after {before}", used());
    // The size is that of the files, as Docker has it.
    let history = ok(&["history", "--human=false", "--format", "{{.Size}}", "holed:1"]);
    assert_eq!(history.lines().next(), Some("10737418243"));
    let script = "stat -c %s /root/hole; tail -c 3 /root/hole";
    assert_eq!(ok(&["run", "--rm", "holed:1", "sh", "-c", script]), "10737418243\nend");
}

/// Pushed, pulled elsewhere and saved again: the same image.
#[test]
fn committed_image_goes_to_a_registry_and_comes_back() {
    let registry = Registry::start(Kind::Open);
    let name = Named::new("commit-push");
    let tagged = Tagged(format!("{}/mine:1", registry.host()));
    changed(&name, image("busybox"), "echo pushed > /pushed; rm /etc/group");
    let id = ok(&["commit", &name.0, &tagged.0]);
    ok(&["push", &tagged.0]);
    let store = Store::new();
    store.vmrun(["pull", &tagged.0]).run().succeeds();
    assert_eq!(store.vmrun(["images", "-q", "--no-trunc"]).run().succeeds(), id);
    let run = ["run", "--rm", &tagged.0, "sh", "-c", "cat /pushed; test ! -e /etc/group"];
    assert_eq!(store.vmrun(run).run().succeeds(), "pushed\n");
    assert_eq!(store.vmrun(["system", "check"]).run().exits(0).status(), 0);
}

/// `vmrun commit` is killed, or its container is: the store is as it was.
#[test]
fn killed_commit_leaves_nothing_and_the_next_works() {
    // Other cases commit to the shared store meanwhile.
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let ok = |args: &[&str]| store.vmrun(args).patience(LONG).run().succeeds();
    let (name, tagged) = ("killed", "killed:1");
    let script = "head -c 30000000 /dev/urandom > /large; sleep 100000";
    ok(&["run", "-d", "--name", name, "busybox", "sh", "-c", script]);
    crate::support::eventually("it has written", || {
        store.vmrun(["exec", name, "pidof", "sleep"]).run().status() == 0
    });
    let images = ok(&["images", "-aq", "--no-trunc"]);
    for milliseconds in [50, 300, 700, 1200] {
        let mut child = store.vmrun(["commit", name, tagged]).spawn();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let _ = child.kill();
        let committed = child.wait().unwrap().success();
        assert!(committed || ok(&["images", "-aq", "--no-trunc"]) == images);
    }
    // The container is not left frozen by whoever froze it.
    assert_eq!(ok(&["exec", name, "echo", "goes on"]), "goes on\n");
    ok(&["commit", name, tagged]);
    assert_eq!(ok(&["run", "--rm", tagged, "sh", "-c", "wc -c < /large"]), "30000000\n");
    ok(&["rm", "-f", name]);
}
