//! An image, as `inspect` shows it.

use std::path::Path;

use image_store::{ImageDetails, Reference};
use serde_json::{Map, Value, json};

use super::NEVER;
use crate::disk;

/// Fields of a `Config`, as Docker has them if nothing is said of them.
const CONFIG: &[(&str, Default)] = &[
    ("Hostname", Default::Text),
    ("Domainname", Default::Text),
    ("User", Default::Text),
    ("AttachStdin", Default::No),
    ("AttachStdout", Default::No),
    ("AttachStderr", Default::No),
    ("ExposedPorts", Default::Absent),
    ("Tty", Default::No),
    ("OpenStdin", Default::No),
    ("StdinOnce", Default::No),
    ("Env", Default::Null),
    ("Cmd", Default::Words),
    ("Healthcheck", Default::Absent),
    ("ArgsEscaped", Default::Absent),
    ("Image", Default::Text),
    ("Volumes", Default::Null),
    ("WorkingDir", Default::Text),
    ("Entrypoint", Default::Words),
    ("OnBuild", Default::Null),
    ("Labels", Default::Null),
    ("StopSignal", Default::Absent),
    ("StopTimeout", Default::Absent),
    ("Shell", Default::Absent),
];

#[derive(Clone, Copy)]
enum Default {
    Text,
    No,
    Null,
    /// Null; a string is a list of one.
    Words,
    Absent,
}

pub fn show(details: &ImageDetails, root: &Path) -> Value {
    let summary = &details.summary;
    let said = &details.config;
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect::<Vec<_>>();
    let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
    // One that says nothing of it is taken for what runs here.
    let or = |name: &str, default: &str| {
        Some(text(name)).filter(|it| !it.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    let last = said["history"].as_array().and_then(|steps| steps.last());
    let comment = last.and_then(|step| step["comment"].as_str()).unwrap_or_default();
    let mut image = json!({
        "Id": summary.id,
        "RepoTags": familiar(&summary.names),
        "RepoDigests": familiar(&summary.digests),
        "Parent": "",
        "Comment": comment,
        "Created": text("created"),
        "Container": text("container"),
        "ContainerConfig": config(&said["container_config"]),
        "DockerVersion": text("docker_version"),
        "Author": text("author"),
        "Config": config(&said["config"]),
        "Architecture": or("architecture", "amd64"),
    });
    if said["variant"].is_string() {
        image["Variant"] = said["variant"].clone();
    }
    let layers: Vec<_> = details.layers.iter().map(|layer| layer.diff_id).collect();
    image["Os"] = or("os", "linux").into();
    image["Size"] = summary.size.into();
    image["VirtualSize"] = summary.size.into();
    image["GraphDriver"] = json!({ "Data": { "RootDisk": root }, "Name": disk::DRIVER });
    image["RootFS"] = json!({ "Type": "layers", "Layers": layers });
    image["Metadata"] = json!({ "LastTagTime": NEVER });
    image["Descriptor"] = json!({ "digest": summary.digest });
    image
}

/// What is said, with Docker's fields in Docker's order, then those that Docker does not know.
pub fn config(said: &Value) -> Value {
    let mut config = Map::new();
    for (name, default) in CONFIG {
        let value = match (said.get(name), default) {
            (None | Some(Value::Null), Default::Text) => "".into(),
            (None | Some(Value::Null), Default::No) => false.into(),
            (Some(word @ Value::String(_)), Default::Words) => json!([word]),
            (Some(value), _) => value.clone(),
            (None, Default::Null | Default::Words) => Value::Null,
            (None, Default::Absent) => continue,
        };
        config.insert((*name).to_owned(), value);
    }
    for (name, value) in said.as_object().into_iter().flatten() {
        if !config.contains_key(name) {
            config.insert(name.clone(), value.clone());
        }
    }
    config.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_has_docker_s_fields_and_keeps_others() {
        let config = config(
            &json!({ "Own": 1, "Cmd": ["sh"], "Entrypoint": "e", "User": null, "StopSignal": "INT" }),
        );
        assert_eq!((&config["Cmd"], &config["Entrypoint"]), (&json!(["sh"]), &json!(["e"])));
        assert_eq!(config["User"], "");
        assert_eq!((&config["Env"], &config["WorkingDir"]), (&Value::Null, &json!("")));
        assert!(config.get("Healthcheck").is_none());
        assert_eq!(config.as_object().unwrap().keys().next_back().unwrap(), "Own");
    }
}
