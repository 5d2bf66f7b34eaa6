//! Pulls, pushes and logins, with a registry and a client that others wrote as judges.

use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt, thread, time::Duration};

use crate::support::{
    Finished, Store, archive, finish,
    registry::{Kind, Registry, skopeo},
};

/// An image of the test set as skopeo names it.
fn layout(file: &str) -> String {
    format!("oci-archive:{}", archive(file).display())
}

/// `vmrun` with a store, and with logins of its own.
fn vmrun<'a>(store: &Store, args: impl IntoIterator<Item = &'a str>) -> Finished {
    let config = store.path().join("docker");
    store.vmrun(args).env("DOCKER_CONFIG", config).run()
}

fn digests_of_layers(registry: &Registry, name: &str) -> Vec<String> {
    let image = format!("docker://{}/{name}", registry.host());
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &image]);
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn pulled_image_is_what_was_given_and_goes_back_with_the_same_digests() {
    let mut registry = Registry::start(Kind::Open);
    for (format, compression) in [("oci", "gzip"), ("oci", "zstd"), ("v2s2", "gzip")] {
        let name = format!("some/{format}-{compression}");
        let image =
            registry.give_as(format, compression, &layout("busybox.tar"), &format!("{name}:1"));
        let (digest, layers) = (
            registry.digest(&format!("{name}:1")),
            digests_of_layers(&registry, &format!("{name}:1")),
        );
        let store = Store::new();
        let out = vmrun(&store, ["pull", &image]).succeeds();
        assert!(out.starts_with(&format!("1: Pulling from {name}\n")), "{out}");
        let end =
            format!("Digest: {digest}\nStatus: Downloaded newer image for {image}\n{image}\n");
        assert!(out.ends_with(&end), "{out}");
        assert_eq!(out.matches("Pull complete").count(), layers.len(), "{out}");
        registry.empty();
        let out = vmrun(&store, ["push", &image]).succeeds();
        assert!(out.contains(&format!("\n1: digest: {digest} size: ")), "{out}");
        assert_eq!(registry.digest(&format!("{name}:1")), digest);
        assert_eq!(digests_of_layers(&registry, &format!("{name}:1")), layers);
        let copy = format!("dir:{}", store.path().join("copy").display());
        let from = format!("docker://{image}");
        skopeo(&["copy", "-q", "--src-tls-verify=false", &from, &copy]);
        let out = vmrun(&store, ["push", &image]).succeeds();
        assert_eq!(out.matches("Layer already exists").count(), layers.len(), "{out}");
    }
}

#[test]
fn image_is_run_after_a_pull_and_not_pulled_again() {
    let registry = Registry::start(Kind::Open);
    let image = registry.give(&layout("busybox.tar"), "busybox:latest");
    let image = image.trim_end_matches(":latest");
    let store = Store::new();
    let run =
        |policy: &str| vmrun(&store, ["run", "--rm", "--pull", policy, image, "echo", "hello"]);
    run("never").fails(125, &["No such image: ", image]);
    let first = run("missing").exits(0);
    assert_eq!(first.stdout(), "hello\n");
    let stderr = first.stderr();
    assert!(
        stderr.starts_with(&format!("Unable to find image '{image}:latest' locally\n")),
        "{stderr}"
    );
    assert!(stderr.contains("Status: Downloaded newer image for "), "{stderr}");
    let asked = registry.requests("manifests/latest");
    let second = run("missing").exits(0);
    assert_eq!((second.stdout().as_str(), second.stderr().as_str()), ("hello\n", ""));
    assert_eq!(registry.requests("manifests/latest"), asked);
    let third = run("always").exits(0);
    assert!(third.stderr().contains("Status: Image is up to date for "), "{}", third.stderr());
}

#[test]
fn what_is_not_at_the_registry_is_told_as_docker_does() {
    let registry = Registry::start(Kind::Open);
    let store = Store::new();
    let missing = format!("{}/none:1", registry.host());
    vmrun(&store, ["pull", &missing])
        .fails(1, &[&format!("manifest for {missing} not found: manifest unknown")]);
    let run = vmrun(&store, ["run", &missing]).exits(125);
    let stderr = run.stderr();
    assert!(stderr.starts_with(&format!("Unable to find image '{missing}' locally\n")), "{stderr}");
    vmrun(&store, ["pull", "localhost:1/x"]).fails(1, &["cannot reach localhost:1", "refused"]);
    vmrun(&store, ["pull", "Wrong"])
        .fails(1, &["invalid reference format: repository name must be lowercase"]);
    vmrun(&store, ["push", &missing])
        .fails(1, &["an image does not exist locally with the tag: ", &missing]);
}

#[test]
fn all_tags_and_quiet_and_digests() {
    let registry = Registry::start(Kind::Open);
    for (file, tag) in [("busybox.tar", "1"), ("huge-sparse.tar", "2")] {
        registry.give(&layout(file), &format!("many:{tag}"));
    }
    let repository = format!("{}/many", registry.host());
    let store = Store::new();
    let by_digest = format!("{repository}@{}", registry.digest("many:1"));
    assert_eq!(vmrun(&store, ["pull", "-q", &by_digest]).succeeds(), format!("{by_digest}\n"));
    let out = vmrun(&store, ["pull", "-a", &repository]).succeeds();
    assert_eq!(out.matches("Status: ").count(), 2, "{out}");
    assert!(out.ends_with(&format!("\n{repository}\n")), "{out}");
    let out = vmrun(&store, ["images", "-q"]).succeeds();
    assert_eq!(out.lines().count(), 2, "{out}");
    vmrun(&store, ["pull", "-a", &by_digest]).fails(1, &["tag can't be used"]);
    let out = vmrun(&store, ["push", "-q", "-a", &repository]).succeeds();
    assert_eq!(out, format!("{repository}\n"));
}

#[test]
fn index_gives_the_image_for_the_platform() {
    let registry = Registry::start(Kind::Open);
    let image = registry.give(&layout("platforms.tar"), "platforms:1");
    let store = Store::new();
    let out = vmrun(&store, ["pull", &image]).succeeds();
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{image}")]);
    let index: serde_json::Value = serde_json::from_str(&raw).unwrap();
    let platforms = index["manifests"].as_array().unwrap().iter().map(|entry| {
        let platform = &entry["platform"];
        format!(
            "{}/{}",
            platform["os"].as_str().unwrap(),
            platform["architecture"].as_str().unwrap()
        )
    });
    assert!(out.contains(&format!("Digest: {}", registry.digest("platforms:1"))), "{out}");
    let other = platforms.into_iter().find(|platform| platform != "linux/amd64").unwrap();
    let before = vmrun(&store, ["images", "-q"]).succeeds();
    vmrun(&store, ["pull", "--platform", &other, &image]).succeeds();
    assert_ne!(vmrun(&store, ["images", "-q"]).succeeds(), before);
    vmrun(&store, ["pull", "--platform", "linux/riscv64", &image])
        .fails(1, &["no image for linux/riscv64", "linux/amd64"]);
}

#[test]
fn login_opens_a_registry_and_logout_closes_it() {
    let registry = Registry::start(Kind::Password);
    let image = registry.give(&layout("busybox.tar"), "private/busybox:1");
    let (host, store) = (registry.host(), Store::new());
    let denied = |finished: Finished| finished.fails(1, &["access denied for ", "'vmrun login'"]);
    denied(vmrun(&store, ["pull", &image]));
    let login = |password: &str| {
        let args = ["login", "-u", "me", "--password-stdin", &host];
        let config = store.path().join("docker");
        store.vmrun(args).env("DOCKER_CONFIG", config).input(password).run()
    };
    login("wrong\n").fails(1, &["cannot log in to", "unauthorized"]);
    denied(vmrun(&store, ["pull", &image]));
    assert_eq!(login("secret\n").succeeds(), "Login Succeeded\n");
    let file = store.path().join("docker/config.json");
    // skopeo reads what vmrun wrote.
    let login = ["inspect", "-n", "--tls-verify=false", "--authfile"];
    let inspected = format!("docker://{image}");
    skopeo(&[&login[..], &[&file.display().to_string(), &inspected]].concat());
    vmrun(&store, ["pull", &image]).succeeds();
    vmrun(&store, ["push", &image]).succeeds();
    let out = vmrun(&store, ["logout", &host]).succeeds();
    assert_eq!(out, format!("Removing login credentials for {host}\n"));
    assert_eq!(vmrun(&store, ["logout", &host]).succeeds(), format!("Not logged in to {host}\n"));
    denied(vmrun(&store, ["pull", &image]));
    denied(vmrun(&store, ["push", &image]));
}

#[test]
fn helper_keeps_the_login() {
    let registry = Registry::start(Kind::Password);
    let image = registry.give(&layout("busybox.tar"), "private/busybox:1");
    let (host, store) = (registry.host(), Store::new());
    let path = |name: &str| store.path().join(name);
    fs::create_dir_all(path("docker")).unwrap();
    fs::create_dir(path("bin")).unwrap();
    fs::write(path("docker/config.json"), r#"{"credsStore":"file","other":1}"#).unwrap();
    let script = "#!/bin/sh\ncase $1 in\nstore) cat >$KEPT;;\nget) cat $KEPT 2>/dev/null ||\n\
        { echo credentials not found in native keychain; exit 1; };;\nerase) rm $KEPT;;\nesac\n";
    fs::write(path("bin/docker-credential-file"), script).unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path("bin/docker-credential-file"), executable).unwrap();
    let folders = format!("{}:{}", path("bin").display(), std::env::var("PATH").unwrap());
    let vmrun = |args: &[&str], input: &str| {
        let command = store.vmrun(args).env("DOCKER_CONFIG", path("docker"));
        command.env("PATH", &folders).env("KEPT", path("kept")).input(input).run()
    };
    let login = vmrun(&["login", "-u", "me", "--password-stdin", &host], "secret").exits(0);
    assert_eq!((login.stdout().as_str(), login.stderr().as_str()), ("Login Succeeded\n", ""));
    let config = fs::read_to_string(path("docker/config.json")).unwrap();
    assert!(config.contains("\"other\": 1") && !config.contains("auth\""), "{config}");
    assert!(fs::read_to_string(path("kept")).unwrap().contains("secret"));
    vmrun(&["pull", &image], "").succeeds();
    vmrun(&["logout", &host], "").succeeds();
    assert!(!path("kept").exists());
    vmrun(&["pull", &image], "").fails(1, &["access denied for "]);
}

#[test]
fn certificates_are_checked_against_the_configured_ca() {
    let registry = Registry::start(Kind::Tls);
    let image = registry.give(&layout("busybox.tar"), "busybox:1");
    let (host, store) = (registry.host(), Store::new());
    let settings = store.path().join("registries.toml");
    fs::write(&settings, format!("[registry.\"{host}\"]\nplain-http = false\n")).unwrap();
    vmrun(&store, ["pull", &image])
        .fails(1, &["certificate of", "is not trusted", "registries.toml"]);
    let ca = registry.ca();
    fs::write(&settings, format!("[registry.\"{host}\"]\nca = {ca:?}\n")).unwrap();
    vmrun(&store, ["pull", &image]).succeeds();
    vmrun(&store, ["push", &image]).succeeds();
    fs::write(&settings, "[registry]\nx = 1").unwrap();
    let failed = vmrun(&store, ["pull", &image]).exits(1);
    assert!(failed.stderr().contains("registries.toml"), "{}", failed.stderr());
}

#[test]
fn pulls_at_once_fetch_each_layer_once() {
    let registry = Registry::start(Kind::Open);
    let image = registry.give(&layout("busybox.tar"), "many:1");
    let layers = digests_of_layers(&registry, "many:1");
    let store = Store::new();
    let pulls: Vec<_> = (0..4).map(|_| store.vmrun(["pull", &image]).spawn()).collect();
    for pull in pulls {
        let output = finish(pull, "vmrun pull");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for layer in layers {
        // Its log has more than one line a request.
        let words = format!("\"GET /v2/many/blobs/{layer} HTTP/1.1\" 200");
        assert_eq!(registry.requests(&words), 1, "{layer}");
    }
}

#[test]
fn row35_fifty_pulls_runs_and_removals_at_once_all_succeed() {
    let registry = Registry::start(Kind::Open);
    let image = registry.give(&layout("busybox.tar"), "busy:1");
    let layers = digests_of_layers(&registry, "busy:1");
    let store = Store::new();
    let command = &|number: usize| {
        let name = format!("busy-{number}");
        match number % 3 {
            0 => drop(vmrun(&store, ["pull", "-q", &image]).succeeds()),
            1 => {
                let out = vmrun(&store, ["run", "--rm", &image, "echo", &name]).exits(0);
                assert_eq!(out.stdout(), format!("{name}\n"));
            }
            _ => {
                vmrun(&store, ["create", "--name", &name, &image, "true"]).exits(0);
                vmrun(&store, ["rm", &name]).succeeds();
            }
        }
    };
    thread::scope(|scope| {
        for number in 0..50 {
            scope.spawn(move || command(number));
        }
    });
    assert_eq!(vmrun(&store, ["ps", "-aq"]).succeeds(), "");
    assert_eq!(vmrun(&store, ["images", "-q"]).succeeds().lines().count(), 1);
    for layer in layers {
        let words = format!("\"GET /v2/busy/blobs/{layer} HTTP/1.1\" 200");
        assert_eq!(registry.requests(&words), 1, "{layer}");
    }
    vmrun(&store, ["system", "check"]).succeeds();
}

#[test]
fn tagged_image_is_pushed_and_its_layers_are_mounted() {
    let registry = Registry::start(Kind::Open);
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let names =
        ["one/busybox:1", "two/busybox:2"].map(|name| format!("{}/{name}", registry.host()));
    for (name, word) in names.iter().zip(["Pushed", "Mounted from one/busybox"]) {
        vmrun(&store, ["tag", "busybox", name]).succeeds();
        let out = vmrun(&store, ["push", name]).succeeds();
        assert!(out.contains(word), "{out}");
    }
    assert_eq!(registry.digest("one/busybox:1"), registry.digest("two/busybox:2"));
    let out = vmrun(&store, ["inspect", "-f", "{{.RepoDigests}}", "busybox"]).succeeds();
    assert_eq!(out.matches(&registry.digest("one/busybox:1")).count(), 2, "{out}");
}

#[test]
fn damaged_layer_is_fetched_again() {
    let registry = Registry::start(Kind::Open);
    let image = registry.give(&layout("busybox.tar"), "busybox:1");
    let store = Store::new();
    vmrun(&store, ["pull", &image]).succeeds();
    let layer = digests_of_layers(&registry, "busybox:1").remove(0);
    let blob = store.path().join("blobs").join(layer.replace(':', "/"));
    fs::write(blob, "damage").unwrap();
    assert_ne!(vmrun(&store, ["system", "check"]).status(), 0);
    vmrun(&store, ["system", "check", "--repair"]);
    let out = vmrun(&store, ["pull", &image]).succeeds();
    assert!(out.contains("Pull complete"), "{out}");
    vmrun(&store, ["system", "check"]).succeeds();
}

#[test]
fn killed_pull_leaves_nothing_and_the_next_works() {
    let registry = Registry::start(Kind::Open);
    let image = registry.give(&layout("busybox.tar"), "killed:1");
    let store = Store::new();
    for milliseconds in [10, 50, 200] {
        let mut pull = store.vmrun(["pull", &image]).spawn();
        thread::sleep(Duration::from_millis(milliseconds));
        let _ = pull.kill();
        let _ = pull.wait();
    }
    store.vmrun([OsStr::new("pull"), OsStr::new(&image)]).run().succeeds();
    let folders = fs::read_dir(store.path().join("ingest")).unwrap().flatten();
    assert_eq!(folders.filter(|entry| entry.path().is_dir()).count(), 0);
}
