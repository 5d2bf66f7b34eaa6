use clap::Parser;

use super::*;
use crate::cli::{Action, Cli};

/// A container that was run with a command of its own.
fn record() -> Record {
    let digest = format!("sha256:{}", "1".repeat(64));
    serde_json::from_value(json!({
        "id": "2".repeat(64),
        "name": "one",
        "created": "2026-01-01T00:00:00Z",
        "image": { "reference": "base", "id": digest, "root": digest },
        "command": {
            "args": [], "env": [], "cwd": "/", "user": "",
            "terminal": false, "stdin": false, "stop_signal": 15,
        },
        "config": {
            "Cmd": ["sh", "-c", "echo x >/x"], "Entrypoint": ["/entry"], "Env": ["PATH=/bin"],
            "WorkingDir": "/srv", "Labels": { "of": "image" },
        },
        "hostname": "host",
        "resources": { "memory_mib": 512, "vcpus": 1, "disk": 10_u64 << 30 },
        "remove_on_exit": false,
        "health": { "Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_u64 },
    }))
    .unwrap()
}

fn args(words: &[&str]) -> CommitArgs {
    let words = ["vmrun", "commit"].iter().chain(words);
    let Action::Commit(args) = Cli::try_parse_from(words).unwrap().action else { unreachable!() };
    args.into_inner()
}

fn changed(instructions: &[&str]) -> Value {
    let instructions: Vec<String> = instructions.iter().map(|&line| line.to_owned()).collect();
    config(&record(), &instructions).unwrap()
}

#[test]
fn pausing_is_the_default_and_can_be_told_both_ways() {
    for (words, pause) in [
        (&["one"][..], true),
        (&["-p", "one", "name"], true),
        (&["--pause", "one"], true),
        (&["--pause=false", "one"], false),
        (&["-p=false", "one"], false),
    ] {
        let args = args(words);
        assert_eq!((args.pause, args.container.as_str()), (pause, "one"), "{words:?}");
    }
}

#[test]
fn names_are_read_as_docker_reads_them() {
    assert_eq!(new_name("mine").unwrap().familiar(), "mine:latest");
    assert_eq!(new_name("localhost:5000/me/x:1").unwrap().familiar(), "localhost:5000/me/x:1");
    let message = |name| new_name(name).unwrap_err().to_string();
    let lower = "invalid reference format: repository name must be lowercase";
    assert_eq!(message("UPPER"), lower);
    assert_eq!(message("mine:1:2"), "invalid reference format");
    let digest = format!("mine@sha256:{}", "1".repeat(64));
    assert_eq!(message(&digest), "refusing to create a tag with a digest reference");
}

#[test]
fn the_container_s_config_goes_on_in_the_image() {
    let config = changed(&[]);
    assert_eq!(config["Cmd"], json!(["sh", "-c", "echo x >/x"]));
    assert_eq!(config["Entrypoint"], json!(["/entry"]));
    assert_eq!(config["Labels"], json!({ "of": "image" }));
    assert_eq!(config["Volumes"], Value::Null);
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000_u64);
}

#[test]
fn changes_come_on_top() {
    let config = changed(&["ENV A=1", "LABEL l=m", "WORKDIR www", "USER nobody", "EXPOSE 80"]);
    assert_eq!(config["Env"], json!(["PATH=/bin", "A=1"]));
    assert_eq!(config["Labels"], json!({ "of": "image", "l": "m" }));
    assert_eq!((&config["WorkingDir"], &config["User"]), (&json!("/srv/www"), &json!("nobody")));
    assert_eq!(config["ExposedPorts"], json!({ "80/tcp": {} }));
}

/// The command of the container is that of its entrypoint.
#[test]
fn a_new_entrypoint_drops_the_command() {
    let of = |instructions: &[&str]| {
        let config = changed(instructions);
        (config["Entrypoint"].clone(), config["Cmd"].clone())
    };
    let echo = r#"ENTRYPOINT ["echo"]"#;
    assert_eq!(of(&[echo]), (json!(["echo"]), Value::Null));
    assert_eq!(of(&[r#"CMD ["x"]"#, echo]), (json!(["echo"]), json!(["x"])));
    assert_eq!(of(&[r#"CMD ["x"]"#]), (json!(["/entry"]), json!(["x"])));
    assert_eq!(of(&["ENTRYPOINT []"]), (Value::Null, json!(["sh", "-c", "echo x >/x"])));
}

#[test]
fn what_is_no_change_is_refused_in_docker_s_words() {
    for (line, message) in [
        ("NOSUCH x", "nosuch is not a valid change command"),
        ("RUN x", "run is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
    ] {
        let error = config(&record(), &[line.to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn the_document_is_the_base_s_with_one_step_more() {
    let base = json!({
        "architecture": "amd64", "variant": "v3", "os": "linux", "author": "before",
        "created": "2020-01-01T00:00:00Z", "config": { "Cmd": ["before"] },
        "rootfs": { "type": "layers", "diff_ids": ["sha256:1"] },
        "history": [{ "created_by": "before" }],
    });
    let args = args(&["-m", "a message", "-a", "Some One", "one"]);
    let digest: Digest = format!("sha256:{}", "7".repeat(64)).parse().unwrap();
    let made = |layer: Option<&Digest>| {
        let step = step(&record(), &args, layer);
        document(&base, &json!({ "Cmd": ["after"] }), layer, &step)
    };
    let with = made(Some(&digest));
    assert_eq!(with["rootfs"]["diff_ids"], json!(["sha256:1", digest]));
    assert_eq!((&with["variant"], &with["author"]), (&json!("v3"), &json!("Some One")));
    assert_eq!(with["config"], json!({ "Cmd": ["after"] }));
    let step = &with["history"][1];
    assert_eq!(step["created_by"], "sh -c echo x >/x");
    assert_eq!((&step["comment"], &step["author"]), (&json!("a message"), &json!("Some One")));
    assert_eq!((&with["created"], step.get("empty_layer")), (&step["created"], None));

    let without = made(None);
    assert_eq!(without["rootfs"]["diff_ids"], json!(["sha256:1"]));
    assert_eq!(without["history"][1]["empty_layer"], true);
}

#[test]
fn row40_a_guest_cannot_send_without_end() {
    let mut bounded = Bounded { inner: io::repeat(0), left: 100_000 };
    let error = io::copy(&mut bounded, &mut io::sink()).unwrap_err();
    assert!(error.to_string().contains("more than the container's disk"), "{error}");
    let mut bounded = Bounded { inner: &[0; 10][..], left: 10 };
    assert_eq!(io::copy(&mut bounded, &mut io::sink()).unwrap(), 10);
}
