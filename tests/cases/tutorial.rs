//! What tutorials of Docker have people type, as it stands, with `vmrun` for `docker`.

use std::{env, fs, process::Command, thread};

use crate::support::{Store, binary, finish_within, pty::Terminal};

/// Long enough for a whole tutorial on a machine made of software.
const LONG: std::time::Duration = std::time::Duration::from_secs(600);

/// A user with an image, and the `vmrun` that is typed.
struct User {
    store: Store,
    path: String,
}

impl User {
    fn new() -> Self {
        let store = Store::new();
        store.load("busybox.tar").succeeds();
        let folder = binary().parent().unwrap().display().to_string();
        let path = format!("{folder}:{}", env::var("PATH").unwrap_or_default());
        Self { store, path }
    }

    fn shell(&self) -> Command {
        let mut shell = Command::new("sh");
        let docker = self.store.path().join("docker");
        shell.env("PATH", &self.path).env("VMRUN_ROOT", self.store.path());
        shell.env("DOCKER_CONFIG", docker).current_dir(self.store.path());
        shell
    }

    /// Types these lines; the first that fails ends it. What they print.
    fn types(&self, lines: &str) -> String {
        let mut shell = self.shell();
        shell.args(["-eu", "-c", lines]).stdout(std::process::Stdio::piped());
        shell.stderr(std::process::Stdio::piped()).stdin(std::process::Stdio::null());
        let output = finish_within(LONG, shell.spawn().unwrap(), lines);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{lines}\n{stdout}{stderr}");
        stdout
    }
}

#[test]
fn first_steps_are_docker_s() {
    let user = User::new();
    // An interactive container, twice of one image.
    for answer in ["hello from one", "hello from two"] {
        let mut shell = user.shell();
        shell.args(["-c", "vmrun run -it busybox sh"]);
        let mut terminal = Terminal::start(&shell);
        terminal.shows("# ");
        terminal.types(&format!("echo {answer} > /greeting; cat /greeting\r"));
        terminal.shows(&format!("\n{answer}"));
        terminal.types("exit\r");
        assert_eq!(terminal.status(), 0);
    }
    assert_eq!(user.types("vmrun ps -q").lines().count(), 0);
    let listed = user.types("vmrun ps -a");
    assert_eq!(listed.matches("Exited (0) ").count(), 2, "{listed}");
    assert_eq!(user.types("vmrun images -q").lines().count(), 1);

    // What one of them changed is not seen in the other, nor in the image.
    let greeting = user.types("vmrun cp $(vmrun ps -lq):/greeting - | tar -xO");
    assert_eq!(greeting, "hello from two\n");
    assert_eq!(
        user.types("vmrun run --rm busybox ls /greeting 2>&1 || true").matches("No such").count(),
        1
    );
    assert_eq!(user.types("vmrun diff $(vmrun ps -lq) | grep greeting"), "A /greeting\n");

    // An image of it, whose history shows one layer more.
    let before = user.types("vmrun history -q busybox").lines().count();
    user.types("vmrun commit -m 'a greeting' -a me $(vmrun ps -lq) greeter:v1");
    let history = user.types("vmrun history greeter:v1");
    assert_eq!(history.lines().count(), before + 2, "{history}");
    assert!(history.contains("a greeting"), "{history}");
    let greeted = user.types("vmrun run --rm greeter:v1 cat /greeting");
    assert_eq!(greeted, "hello from two\n");

    // In the background, looked at, entered, stopped.
    user.types(
        "vmrun run -d --name web greeter:v1 sh -c 'while :; do cat /greeting; sleep 1; done'",
    );
    let ps = user.types("vmrun ps");
    assert!(ps.contains("greeter:v1") && ps.contains("Up ") && ps.contains("web"), "{ps}");
    assert_eq!(user.types("sleep 2; vmrun logs web | head -n 1"), "hello from two\n");
    assert_eq!(user.types("vmrun exec web cat /proc/1/comm"), "sh\n");
    assert_eq!(user.types("echo inside | vmrun exec -i web tee /greeting"), "inside\n");
    assert_eq!(
        user.types("vmrun stop -t 1 web; vmrun start web; vmrun exec web cat /greeting"),
        "web\nweb\ninside\n"
    );
    assert_eq!(
        user.types("vmrun inspect -f '{{.State.Running}} {{.Config.Image}}' web"),
        "true greeter:v1\n"
    );

    // Everything is cleaned up.
    assert_eq!(user.types("vmrun rm -f web"), "web\n");
    let stopped = user.types("vmrun ps -aq").lines().count();
    assert_eq!(user.types("vmrun rm $(vmrun ps -aq)").lines().count(), stopped);
    assert_eq!(user.types("vmrun ps -aq"), "");
    user.types("vmrun tag busybox greeter:v1");
    let dangling = user.types("vmrun images -f dangling=true -q");
    assert_eq!(dangling.lines().count(), 1);
    let deleted = user.types("vmrun rmi $(vmrun images -f dangling=true -q)");
    assert!(deleted.contains("Deleted: sha256:"), "{deleted}");
    assert_eq!(user.types("vmrun images -q | sort -u").lines().count(), 1);
    user.types("vmrun rmi greeter:v1 busybox");
    assert_eq!(user.types("vmrun images -q"), "");
    let left = fs::read_dir(user.store.path().join("layers")).unwrap().count();
    assert_eq!(left, 0, "layers of no image");
}

#[test]
fn several_people_s_first_steps_at_once_are_the_same() {
    let user = User::new();
    let steps = &|who: usize| {
        let out = user.types(&format!(
            "vmrun run --name one-{who} busybox sh -c 'echo {who} > /who' \n\
             vmrun commit one-{who} image-{who} >/dev/null \n\
             vmrun run -d --name two-{who} image-{who} sleep 1000 >/dev/null \n\
             vmrun exec two-{who} cat /who \n\
             vmrun ps --filter name=two-{who} --format '{{{{.Image}}}}' \n\
             vmrun cp two-{who}:/who - | tar -xO \n\
             vmrun rm -f two-{who} one-{who} \n\
             vmrun rmi image-{who} | grep -c Untagged"
        ));
        let expected = format!("{who}\nimage-{who}\n{who}\ntwo-{who}\none-{who}\n1\n");
        assert_eq!(out, expected);
    };
    thread::scope(|scope| {
        for who in 0..4 {
            scope.spawn(move || steps(who));
        }
    });
    assert_eq!(
        user.types("vmrun ps -aq; vmrun images -q | wc -l; vmrun system check >/dev/null"),
        "1\n"
    );
}
