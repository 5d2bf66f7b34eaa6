//! `vmrun cp`: Docker's rules both ways, on containers that run and that do not; and containers that
//! mean harm. Which name goes where is in the unit tests of `vmrun/src/commands/cp`.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Finished, Named, Vmrun, eventually, image, pty::Terminal, scratch, vmrun};

/// A folder here, and a container.
struct Scene {
    here: tempfile::TempDir,
    name: Named,
}

impl Scene {
    /// One that runs, once this has been done in it.
    fn running(prefix: &str, script: &str) -> Self {
        let scene = Self::new(prefix);
        let script = format!("{{ {script} ; }} && touch /ready && exec sleep 1000");
        scene.start(&[], &script);
        eventually("ready", || {
            let ready = scene.exec(&["test", "-e", "/ready"]).status() == 0;
            assert!(ready || scene.state().starts_with("running "), "{}", scene.state());
            ready
        });
        scene
    }

    fn new(prefix: &str) -> Self {
        let here = tempfile::tempdir_in(scratch()).unwrap();
        Self { here, name: Named::new(prefix) }
    }

    fn start(&self, options: &[&str], script: &str) {
        let name = ["run", "-d", "--name", &self.name.0];
        let command = [image("busybox"), "sh", "-c", script];
        let args = [&name[..], options, &command[..]].concat();
        vmrun(args).run().succeeds();
    }

    /// Its state, and what went wrong.
    fn state(&self) -> String {
        let state = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}";
        vmrun(["inspect", "-f", state, &self.name.0]).run().succeeds()
    }

    fn stop(&self) {
        vmrun(["stop", "-t", "0", &self.name.0]).run().succeeds();
    }

    fn exec(&self, command: &[&str]) -> Finished {
        vmrun([&["exec", &self.name.0], command].concat()).run()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.here.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(path), text).unwrap();
        self.path(path)
    }

    /// `vmrun cp` with paths from here; `:` stands for the container.
    fn cp(&self, args: &[&str]) -> Finished {
        self.command(args).run()
    }

    fn command(&self, args: &[&str]) -> Vmrun {
        let sides = args.iter().map(|arg| match arg.strip_prefix(':') {
            Some(path) => format!("{}:{path}", self.name.0),
            None if arg.starts_with('-') => (*arg).to_owned(),
            None => self.path(arg).display().to_string(),
        });
        vmrun(["cp".to_owned()].into_iter().chain(sides))
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn files_and_folders_go_both_ways_by_docker_s_rules() {
    let script = "mkdir -p /d/e; echo f >/d/f; echo g >/d/e/g; ln -s f /d/l; ln -s d /dl; \
        chmod 640 /d/f; chown 7:8 /d/f";
    let scene = Scene::running("cp-rules", script);
    assert_eq!(scene.cp(&[":/d/f", "f"]).succeeds(), "");
    assert_eq!((scene.read("f"), mode(&scene.path("f"))), ("f\n".into(), 0o640));
    let owner = fs::metadata(scene.path("f")).unwrap().uid();
    assert_eq!(owner, rustix::process::getuid().as_raw());
    scene.cp(&[":/d", "whole"]).succeeds();
    scene.cp(&[":d/e/g", "relative"]).succeeds();
    scene.cp(&[":/dl/", "whole"]).succeeds();
    scene.cp(&["-L", ":/d/l", "followed"]).succeeds();
    for (path, text) in
        [("whole/e/g", "g\n"), ("relative", "g\n"), ("whole/dl/e/g", "g\n"), ("followed", "f\n")]
    {
        assert_eq!(scene.read(path), text, "{path}");
    }
    assert!(scene.path("whole/l").is_symlink() && !scene.path("followed").is_symlink());

    scene.write("tool", "#!/bin/sh\necho works\n");
    fs::set_permissions(scene.path("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    scene.cp(&["tool", ":/bin"]).succeeds();
    assert_eq!(scene.exec(&["tool"]).succeeds(), "works\n");
    assert_eq!(scene.exec(&["stat", "-c", "%u:%g %a", "/bin/tool"]).succeeds(), "0:0 4755\n");
    scene.cp(&["-a", "tool", ":/bin/kept"]).succeeds();
    let kept = scene.exec(&["stat", "-c", "%u", "/bin/kept"]).succeeds();
    assert_eq!(kept.trim(), owner.to_string());
    scene.cp(&["whole/.", ":/made"]).succeeds();
    assert_eq!(scene.exec(&["cat", "/made/dl/e/g"]).succeeds(), "g\n");
    // Onto a link: what it leads to is the destination.
    scene.cp(&["f", ":/dl"]).succeeds();
    assert_eq!(scene.exec(&["cat", "/d/f"]).succeeds(), "f\n");

    scene.cp(&[":/d/no", "x"]).fails(1, &["No such container:path: ", ":/d/no"]);
    scene.cp(&[":/d/f/", "x"]).fails(1, &["lstat /d/f/: not a directory"]);
    scene.cp(&[":/d", "f"]).fails(1, &["cannot copy directory"]);
    scene.cp(&["f", ":/no/"]).fails(1, &["no such directory"]);
    scene.cp(&["f", ":/no/x"]).fails(1, &["No such container:path: ", ":/no"]);
    scene.cp(&["f", ":/d/f/x"]).fails(1, &["extraction point is not a directory"]);
    scene.cp(&["f", ":/dev/null"]).fails(1, &["must be a directory or a regular file"]);
    scene.cp(&["no", ":/"]).fails(1, &["lstat ", "/no: no such file or directory"]);
    vmrun(["cp", "no-such-one:/x", "."]).run().fails(1, &["No such container"]);
}

#[test]
fn container_that_does_not_run_is_copied_to_and_from() {
    let scene = Scene::new("cp-stopped");
    scene.start(&[], "mkdir /d; echo kept >/d/f; cat /in 2>/dev/null; exec sleep 1000");
    scene.stop();
    scene.write("in", "brought\n");
    scene.cp(&["in", ":/in"]).succeeds();
    scene.cp(&[":/d/f", "f"]).succeeds();
    scene.cp(&[":/in", "back"]).succeeds();
    assert_eq!((scene.read("f"), scene.read("back")), ("kept\n".into(), "brought\n".into()));
    scene.cp(&[":/no", "x"]).fails(1, &["No such container:path: "]);
    assert!(!vmrun(["ps"]).run().succeeds().contains(&scene.name.0), "it does not run for that");
    vmrun(["start", &scene.name.0]).run().succeeds();
    assert_eq!(scene.exec(&["cat", "/in"]).succeeds(), "brought\n");
}

#[test]
fn container_that_never_ran_and_one_that_is_paused_have_files_too() {
    let scene = Scene::new("cp-created");
    vmrun(["create", "--name", &scene.name.0, image("busybox"), "cat", "/in"]).run().succeeds();
    scene.write("in", "first\n");
    scene.cp(&["in", ":/in"]).succeeds();
    assert_eq!(vmrun(["start", "-a", &scene.name.0]).run().succeeds(), "first\n");

    let scene = Scene::running("cp-paused", "echo f >/f");
    vmrun(["pause", &scene.name.0]).run().succeeds();
    scene.cp(&[":/f", "f"]).succeeds();
    scene.cp(&["f", ":/g"]).succeeds();
    assert!(vmrun(["ps"]).run().succeeds().contains("(Paused)"));
    vmrun(["unpause", &scene.name.0]).run().succeeds();
    assert_eq!(scene.exec(&["cat", "/g"]).succeeds(), "f\n");
}

#[test]
fn read_only_container_takes_no_files() {
    let scene = Scene::new("cp-read-only");
    scene.start(&["--read-only"], "exec sleep 1000");
    scene.write("f", "f");
    scene.cp(&["f", ":/f"]).fails(1, &["container rootfs is marked read-only"]);
    scene.cp(&[":/etc/passwd", "passwd"]).succeeds();
    scene.stop();
    scene.cp(&["f", ":/f"]).fails(1, &["container rootfs is marked read-only"]);
}

/// GNU tar on the other side of the stream, both ways.
#[test]
fn streams_are_what_gnu_tar_reads_and_writes() {
    let script = "mkdir -p /d/e; echo f >/d/f; ln /d/f /d/e/hard; ln -s f /d/l; mkfifo /d/p; \
        chown -R 7:8 /d; chmod 1770 /d/e";
    let scene = Scene::running("cp-stream", script);
    let out = scene.cp(&[":/d", "-"]).exits(0).output.stdout;
    fs::write(scene.path("out.tar"), &out).unwrap();
    let listed = tar(&["--numeric-owner", "-tvf"], &scene.path("out.tar"));
    let lines: Vec<_> = listed
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            format!("{} {} {}", fields[0], fields[1], fields[5..].join(" "))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "drwxr-xr-x 7/8 d/",
            "drwxrwx--T 7/8 d/e/",
            "-rw-r--r-- 7/8 d/e/hard",
            "hrw-r--r-- 7/8 d/f link to d/e/hard",
            "lrwxrwxrwx 7/8 d/l -> f",
            "prw-r--r-- 7/8 d/p",
        ]
    );
    scene.command(&["-", ":/tmp"]).input(out).run().succeeds();
    let copy = scene.exec(&["sh", "-c", "cd /tmp/d; stat -c '%n %u:%g %a %F' * e/*"]).succeeds();
    let first = scene.exec(&["sh", "-c", "cd /d; stat -c '%n %u:%g %a %F' * e/*"]).succeeds();
    assert_eq!(copy, first);

    scene.write("zipped", "z");
    let args = ["-czf", "-", "--owner=3", "--group=4", "zipped"];
    let archive = Command::new("tar").args(args).current_dir(scene.here.path()).output().unwrap();
    scene.command(&["-", ":/tmp"]).input(archive.stdout).run().succeeds();
    assert_eq!(scene.exec(&["stat", "-c", "%u:%g", "/tmp/zipped"]).succeeds(), "3:4\n");
    scene.command(&["-", ":/d/f"]).input("").run().fails(1, &["must be a directory"]);
    scene.command(&["-", ":/tmp"]).input("not a tar archive at all").run().exits(1);
}

fn tar(args: &[&str], archive: &Path) -> String {
    let output = Command::new("tar").args(args).arg(archive).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// More than any buffer on the way holds, and more files than a request each would bear.
#[test]
fn large_and_many_files_pass_byte_for_byte() {
    let scene = Scene::running("cp-large", "mkdir /many");
    let mut large = fs::File::create(scene.path("large")).unwrap();
    let mut state = 1_u64;
    for _ in 0..200 {
        let block: Vec<u8> = (0..1 << 17)
            .flat_map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_le_bytes()
            })
            .collect();
        large.write_all(&block).unwrap();
    }
    drop(large);
    scene.cp(&["large", ":/large"]).succeeds();
    let there = scene.exec(&["sha256sum", "/large"]).succeeds();
    let here = Command::new("sha256sum").arg(scene.path("large")).output().unwrap().stdout;
    assert_eq!(there.split(' ').next(), String::from_utf8(here).unwrap().split(' ').next());
    scene.cp(&[":/large", "back"]).succeeds();
    let same = Command::new("cmp").arg(scene.path("large")).arg(scene.path("back")).status();
    assert!(same.unwrap().success());

    fs::create_dir(scene.path("many")).unwrap();
    for number in 0..3000 {
        scene.write(&format!("many/{number}"), number.to_string());
    }
    scene.cp(&["many/.", ":/many"]).succeeds();
    scene.cp(&[":/many", "many-back"]).succeeds();
    let [one, other] = ["many", "many-back"].map(|name| scene.path(name));
    assert!(Command::new("diff").arg("-r").arg(one).arg(other).status().unwrap().success());
}

/// `threats.md` row 30.
#[test]
fn row30_a_container_s_links_and_names_do_no_harm_here() {
    let script = "mkdir -p /d/out; ln -s ../../../canary /d/up; ln -s /etc/passwd /d/abs; \
        ln -s / /d/root; touch \"/d/$(printf 'a\\033[2J\\nb')\"; chmod 6755 /d; \
        cp /bin/busybox /d/su; chmod 4755 /d/su; mkfifo /d/fifo; ln -s /proc/self/root /d/magic";
    let scene = Scene::running("cp-hostile", script);
    scene.write("canary", "safe");
    scene.cp(&[":/d", "d"]).succeeds();
    assert_eq!(fs::read_link(scene.path("d/up")).unwrap(), Path::new("../../../canary"));
    assert!(scene.path("d/a\x1b[2J\nb").exists());
    assert_eq!(mode(&scene.path("d/su")), 0o755);
    // Once more, into what is there by now: links there are replaced, not followed.
    scene.cp(&[":/d/.", "d"]).succeeds();
    // Paths through the container's links lead to the container's files.
    scene.cp(&[":/d/root/etc/passwd", "root"]).succeeds();
    // One through `/proc` leads nowhere, as nothing of that is there.
    scene.cp(&[":/d/magic/etc/passwd", "passwd"]).exits(1);
    scene.cp(&["-L", ":/d/abs", "abs"]).succeeds();
    for copy in ["root", "abs"] {
        assert!(scene.read(copy).contains("/bin/sh"), "{copy}");
        assert_ne!(scene.read(copy), fs::read_to_string("/etc/passwd").unwrap(), "{copy}");
    }
    let told = scene.cp(&["-L", ":/d/up", "up"]).exits(1).stderr();
    assert!(told.contains("No such container:path"), "{told}");
    let told = scene.cp(&[":/d/a\x1b[2J\nc", "x"]).exits(1).stderr();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(!told.contains('\x1b'), "{told}");
    // A device is nothing that a user could make.
    scene.cp(&[":/dev/null", "null"]).fails(1, &["mknod ", "operation not permitted"]);
    assert_eq!(scene.read("canary"), "safe");
}

/// What the kernel makes up is not there, as in Docker; a whole root can be copied.
#[test]
fn whole_root_is_copied_without_the_kernel_s_files() {
    let scene = Scene::running("cp-root", "mkfifo /fifo; echo mine >/mine");
    scene.cp(&[":/", "root"]).succeeds();
    assert_eq!(scene.read("root/mine"), "mine\n");
    assert!(scene.path("root/bin/busybox").exists());
    for folder in ["proc", "sys", "dev"] {
        let count = fs::read_dir(scene.path("root").join(folder)).unwrap().count();
        assert_eq!(count, 0, "{folder}");
    }
    scene.cp(&[":/proc/version", "x"]).fails(1, &["No such container:path"]);
}

/// `threats.md` row 30: names that become links while they are written to.
#[test]
fn row30_a_container_that_races_cannot_lead_a_copy_astray() {
    let script = "mkdir -p /d/real /away; ln -s /away /d/fake; \
        (while :; do mv /d/real /d/x; mv /d/fake /d/real; mv /d/x /d/fake; \
        mv /d/real /d/x; mv /d/fake /d/real; mv /d/x /d/fake; done) & true";
    let scene = Scene::running("cp-race", script);
    fs::create_dir_all(scene.path("tree/real/sub")).unwrap();
    for number in 0..20 {
        scene.write(&format!("tree/real/sub/{number}"), "x");
    }
    symlink("/etc", scene.path("tree/real/link")).unwrap();
    for round in 0..10 {
        // It may fail, or end on either side; it must end, with the agent alive.
        scene.cp(&["tree/.", ":/d"]);
        scene.cp(&[":/d", &format!("back-{round}")]);
    }
    assert_eq!(scene.exec(&["echo", "alive"]).succeeds(), "alive\n");
}

#[test]
fn copy_that_is_killed_leaves_a_container_that_goes_on() {
    let scene = Scene::running("cp-killed", "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null");
    for (from, to) in [(":/big", "big"), ("big", ":/copy")] {
        for delay in [50, 300, 900] {
            let child = scene.command(&[from, to]).command().spawn().unwrap();
            thread::sleep(Duration::from_millis(delay));
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            let _ = kill_process(pid, Signal::KILL);
            let _ = child.wait_with_output();
        }
        scene.write("big", vec![0; 64 << 20]);
    }
    eventually("no task is left", || !scene.exec(&["ps"]).succeeds().contains("guest-agent"));
    scene.cp(&["big", ":/copy"]).succeeds();
    assert_eq!(scene.exec(&["cmp", "/big", "/copy"]).status(), 0);
}

#[test]
fn summary_is_shown_on_a_terminal_only() {
    let scene = Scene::running("cp-terminal", "echo f >/f");
    let quiet = scene.cp(&[":/f", "f"]).exits(0);
    assert_eq!((quiet.stdout(), quiet.stderr()), (String::new(), String::new()));
    let mut terminal = Terminal::start(&scene.command(&[":/f", "f"]).command());
    assert_eq!(terminal.status(), 0);
    let place = scene.path("f").display().to_string();
    terminal.shows(&format!("Successfully copied 2.05kB to {place}"));
}

#[test]
fn all_files_are_exported_and_make_an_image() {
    let scene = Scene::running("exported", "echo mine > /own; chown 5:6 /own; rm /bin/vi");
    let file = scene.here.path().join("all.tar");
    let path = file.to_str().unwrap();
    vmrun(["export", "-o", path, &scene.name.0]).run().succeeds();
    let listed = Command::new("tar").args(["-tvf", path]).output().unwrap();
    assert!(listed.status.success());
    let listed = String::from_utf8(listed.stdout).unwrap();
    let own = listed.lines().find(|line| line.ends_with("own")).unwrap();
    assert!(own.starts_with("-rw-r--r-- 5/6 "), "{own}");
    assert!(!listed.contains("bin/vi ") && listed.contains(" ./bin/busybox"), "{listed}");
    scene.stop();
    let archive = vmrun(["export", &scene.name.0]).run().exits(0).output.stdout;
    let flat =
        vmrun(["import", "-c", "CMD [\"cat\", \"/own\"]", "-"]).input(archive).run().succeeds();
    assert_eq!(vmrun(["run", "--rm", flat.trim()]).run().succeeds(), "mine\n");
    vmrun(["rmi", flat.trim()]).run().succeeds();
    vmrun(["export", "nosuch"]).run().fails(1, &["No such container: nosuch"]);
    let nowhere = ["export", "-o", "/nosuch/file", &scene.name.0];
    vmrun(nowhere).run().fails(1, &["invalid output path"]);
}
