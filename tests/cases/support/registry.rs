//! A registry that others wrote (Debian's `docker-registry`) on loopback, and `skopeo` beside it.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{PATIENCE, finish, scratch};

/// What is asked of whoever uses a registry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Open,
    /// The name `me` and the password `secret`.
    Password,
    /// TLS with a certificate of [`Registry::ca`].
    Tls,
}

/// A running registry; its content goes with it.
pub struct Registry {
    folder: tempfile::TempDir,
    child: Option<Child>,
    kind: Kind,
    port: u16,
}

impl Registry {
    pub fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir_in(scratch()).expect("a folder on the scratch disk");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        let mut registry = Self { folder, child: None, kind, port };
        if kind == Kind::Tls {
            registry.make_certificates();
        }
        registry.up();
        registry
    }

    /// `localhost:port`
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The CA of its certificate.
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Lines of its log with these words in them.
    pub fn requests(&self, words: &str) -> usize {
        let log = fs::read_to_string(self.path("log")).expect("its log");
        log.lines().filter(|line| line.contains(words)).count()
    }

    /// The same registry with nothing in it.
    pub fn empty(&mut self) {
        self.down();
        fs::remove_dir_all(self.path("data")).expect("its content");
        self.up();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn up(&mut self) {
        let show = |name: &str| self.path(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{ level: warn }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\n\
             http:\n  addr: 127.0.0.1:{}\n",
            show("data"),
            self.port
        );
        match self.kind {
            Kind::Open => {}
            Kind::Password => {
                let output = Command::new("htpasswd").args(["-Bbn", "me", "secret"]).output();
                let output = output.expect("htpasswd of package apache2-utils");
                fs::write(self.path("htpasswd"), output.stdout).expect("a password file");
                config +=
                    &format!("auth:\n  htpasswd: {{ realm: r, path: {} }}\n", show("htpasswd"));
            }
            Kind::Tls => {
                let (certificate, key) = (show("cert.pem"), show("key.pem"));
                config += &format!("  tls: {{ certificate: {certificate}, key: {key} }}\n");
            }
        }
        fs::write(self.path("config.yml"), config).expect("its settings");
        let log = File::options().create(true).append(true).open(self.path("log")).expect("a log");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(self.path("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log)
            .spawn()
            .expect("docker-registry of the package of that name");
        self.child = Some(child);
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "the registry does not listen");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn make_certificates(&self) {
        let extensions = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        let folder = self.folder.path();
        run(openssl(
            folder,
            "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
            -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca",
        ));
        run(openssl(
            folder,
            "req -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
            -keyout key.pem -out cert.csr -subj /CN=localhost",
        ));
        fs::write(folder.join("ext"), extensions).expect("a file");
        run(openssl(
            folder,
            "x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
            -out cert.pem -days 2 -extfile ext",
        ));
    }

    /// Copies an image to it with skopeo, all platforms of it; its reference.
    pub fn give(&self, from: &str, name: &str) -> String {
        self.copy(&["--all"], from, name)
    }

    /// The same with documents of that format (`oci`, `v2s2`) and layers that are compressed anew.
    pub fn give_as(&self, format: &str, compression: &str, from: &str, name: &str) -> String {
        let compress =
            ["--format", format, "--dest-compress", "--dest-compress-format", compression];
        self.copy(&compress, from, name)
    }

    fn copy(&self, options: &[&str], from: &str, name: &str) -> String {
        let to = format!("docker://{}/{name}", self.host());
        let copy = ["copy", "-q", "--dest-tls-verify=false", "--dest-creds=me:secret"];
        skopeo(&[&copy, options, &[from, &to]].concat());
        format!("{}/{name}", self.host())
    }

    /// The digest that skopeo sees under a name.
    pub fn digest(&self, name: &str) -> String {
        let image = format!("docker://{}/{name}", self.host());
        let args =
            ["inspect", "--tls-verify=false", "--creds=me:secret", "-n", "-f", "{{.Digest}}"];
        skopeo(&[&args[..], &[&image]].concat()).trim().to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.down();
    }
}

fn openssl(folder: &Path, words: &str) -> Command {
    let mut command = Command::new("openssl");
    command.args(words.split_whitespace()).current_dir(folder);
    command
}

/// Runs skopeo, which has to succeed; its output.
pub fn skopeo(args: &[&str]) -> String {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(args);
    run(command)
}

fn run(mut command: Command) -> String {
    let line = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(command.spawn().expect(&line), &line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
