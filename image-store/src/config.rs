//! What an image says of how to run it: the part of its config blob that a container is made from.
//!
//! Field names and defaults are those of the OCI image spec's `config` object, which are Docker's.
//! Values are kept as written: what `User` or `WorkingDir` mean is decided in the guest, against
//! the image's own files (threats.md row 12).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How an image wants to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `name`, `uid`, `name:group` or `uid:gid`; empty for root.
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// `NAME=value` each.
    #[serde(deserialize_with = "null_is_default", serialize_with = "list_or_null")]
    pub env: Vec<String>,
    /// Prefixed to the command.
    #[serde(deserialize_with = "words", serialize_with = "list_or_null")]
    pub entrypoint: Vec<String>,
    /// The command, or the entrypoint's arguments.
    #[serde(deserialize_with = "words", serialize_with = "list_or_null")]
    pub cmd: Vec<String>,
    /// Working directory; empty for `/`.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// `port/protocol` each.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Paths that are volumes.
    #[serde(deserialize_with = "null_is_default", serialize_with = "map_or_null")]
    pub volumes: BTreeMap<String, Empty>,
    /// Free-form labels.
    #[serde(deserialize_with = "null_is_default", serialize_with = "map_or_null")]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks the command to stop: a name or number; empty for SIGTERM.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Instructions for images that are built of this one.
    #[serde(deserialize_with = "null_is_default", serialize_with = "list_or_null")]
    pub on_build: Vec<String>,
}

/// The `{}` that JSON sets have for values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Docker writes `null` where it has nothing.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Docker takes a string for a list of one word, as it once wrote commands.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "neither a string nor a list of strings")]
    enum Words {
        None(()),
        One(String),
        Many(Vec<String>),
    }
    Ok(match Words::deserialize(deserializer)? {
        Words::None(()) => Vec::new(),
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    })
}

fn list_or_null<S: Serializer>(list: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    if list.is_empty() { serializer.serialize_none() } else { list.serialize(serializer) }
}

fn map_or_null<S: Serializer, T: Serialize>(
    map: &BTreeMap<String, T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if map.is_empty() { serializer.serialize_none() } else { map.serialize(serializer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_unknown_fields_of_docker_are_understood() {
        let text = r#"{"Hostname":"","User":"a:b","Env":null,"Cmd":["sh"],"Entrypoint":null,
            "ExposedPorts":{"80/tcp":{}},"Volumes":null,"Labels":{"a":"b"},"OnBuild":null}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.user, "a:b");
        assert_eq!(config.cmd, ["sh"]);
        assert!(config.env.is_empty() && config.exposed_ports.contains_key("80/tcp"));
    }

    #[test]
    fn command_may_be_a_string() {
        let text = r#"{"Cmd":"/bin/sh -c x","Entrypoint":["/init"]}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(
            (config.cmd, config.entrypoint),
            (vec!["/bin/sh -c x".into()], vec!["/init".into()])
        );
        let error = serde_json::from_str::<ImageConfig>(r#"{"Cmd":1}"#).unwrap_err().to_string();
        assert!(error.starts_with("neither a string nor a list of strings"), "{error}");
    }

    #[test]
    fn what_is_not_said_is_written_as_docker_writes_it() {
        let config = ImageConfig { cmd: vec!["sh".to_owned()], ..ImageConfig::default() };
        let text = serde_json::to_value(&config).unwrap();
        let expected = serde_json::json!({
            "User": "", "Env": null, "Entrypoint": null, "Cmd": ["sh"], "WorkingDir": "",
            "Volumes": null, "Labels": null, "OnBuild": null,
        });
        assert_eq!(text, expected);
    }

    #[test]
    fn row12_a_huge_user_or_environment_is_kept_as_text() {
        let user = "4294967296:18446744073709551616";
        let env = "A=".to_owned() + &"x".repeat(1 << 20);
        let text = serde_json::json!({ "User": user, "Env": [env], "WorkingDir": "/link/../.." });
        let config: ImageConfig = serde_json::from_value(text).unwrap();
        assert_eq!(config.user, user);
        assert_eq!(config.env, [env]);
        assert_eq!(config.working_dir, "/link/../..");
    }
}
