//! Values of templates: JSON, and what Go's types say of it that JSON does not.

use std::borrow::Cow;

use serde_json::Value as Json;

/// Fields that hold maps, whose keys are the user's or the image's.
const MAPS: &[&str] = &[
    "Annotations",
    "Attributes",
    "Data",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Storage",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Of those, maps of something else than texts.
const MAPS_OF_OTHERS: &[&str] = &["ExposedPorts", "Networks", "PortBindings", "Ports", "Volumes"];

/// Fields that are nowhere in the JSON when they are empty, and are there for a template: lists,
/// maps and pointers,
const OMITTED: &[&str] = &[
    "Annotations",
    "ExposedPorts",
    "Health",
    "Healthcheck",
    "Init",
    "Shell",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
];

/// texts,
const OMITTED_TEXTS: &[&str] = &["MacAddress", "Runtime", "StopSignal", "Variant"];

/// and switches.
const OMITTED_SWITCHES: &[&str] = &["ArgsEscaped", "NetworkDisabled"];

/// Fields that are pointers: empty, they are nil, and not an empty list.
const POINTERS: &[&str] = &[
    "Health",
    "Healthcheck",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
];

/// What a template is told of what it is filled in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A Go type of this name: that is in the message about a field that it does not have.
    Named(&'static str),
    /// What Docker's daemon has answered, of which a template is told as of a map.
    Answer,
}

/// A value, borrowed where it can be.
#[derive(Clone, Debug)]
pub struct Value<'a> {
    pub json: Cow<'a, Json>,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// An object whose keys are anybody's, and whose values are texts.
    Map,
    /// One whose values are others.
    MapOfOthers,
    /// A pointer that is nil.
    Nil,
    /// What a map does not have.
    Missing,
}

impl Kind {
    pub fn is_map(self) -> bool {
        matches!(self, Self::Map | Self::MapOfOthers)
    }
}

impl<'a> Value<'a> {
    pub fn owned(value: impl Into<Json>) -> Self {
        Self { json: Cow::Owned(value.into()), kind: Kind::Plain }
    }

    pub fn borrowed(value: &'a Json) -> Self {
        Self { json: Cow::Borrowed(value), kind: Kind::Plain }
    }

    pub fn missing() -> Self {
        Self { json: Cow::Owned(Json::Null), kind: Kind::Missing }
    }

    /// A part of it.
    fn part(&self, part: impl FnOnce(&Json) -> Option<&Json>) -> Option<Self> {
        let json = match &self.json {
            Cow::Borrowed(json) => Cow::Borrowed(part(json)?),
            Cow::Owned(json) => Cow::Owned(part(json)?.clone()),
        };
        Some(Self { json, kind: Kind::Plain })
    }

    /// A field of a struct or a value of a map.
    pub fn field(&self, name: &str) -> Option<Self> {
        let found = self.part(|json| json.get(name));
        // Options of a log driver, whose struct has another `Config` in it than a container's.
        let of_driver = name == "Config" && self.json.get("Type").is_some();
        let (in_map, map) = (self.kind.is_map(), of_driver || MAPS.contains(&name));
        match found {
            _ if in_map => found,
            Some(value) => Some(Self { kind: kind(&value.json, name, map), ..value }),
            None if !self.json.is_object() => None,
            None if OMITTED.contains(&name) => {
                Some(Self { kind: kind(&Json::Null, name, map), ..Self::owned(Json::Null) })
            }
            None if OMITTED_TEXTS.contains(&name) => Some(Self::owned("")),
            None if OMITTED_SWITCHES.contains(&name) => Some(Self::owned(false)),
            None => None,
        }
    }

    /// An item of a list.
    pub fn item(&self, index: usize) -> Option<Self> {
        self.part(|json| json.get(index))
    }

    /// As Go's `if` takes it.
    pub fn is_true(&self) -> bool {
        match &*self.json {
            Json::Null => false,
            Json::Bool(value) => *value,
            Json::Number(number) => number.as_f64() != Some(0.0),
            Json::String(text) => !text.is_empty(),
            Json::Array(items) => !items.is_empty(),
            Json::Object(fields) => !self.kind.is_map() || !fields.is_empty(),
        }
    }

    /// The Go type's name, as messages have it.
    pub fn type_name(&self) -> &'static str {
        match &*self.json {
            Json::Bool(_) => "bool",
            Json::Number(number) if number.is_f64() => "float64",
            Json::Number(_) => "int",
            Json::String(_) => "string",
            Json::Array(_) => "[]interface {}",
            Json::Object(_) if self.kind.is_map() => "map[string]string",
            Json::Object(_) | Json::Null => "interface {}",
        }
    }

    /// As Go prints it.
    pub fn print(&self) -> String {
        match (self.kind, &*self.json) {
            (Kind::Missing, _) => "<no value>".into(),
            (Kind::Nil, _) => "<nil>".into(),
            (kind, Json::Null) if kind.is_map() => "map[]".into(),
            (kind, json) => text(json, kind.is_map()),
        }
    }
}

fn kind(json: &Json, name: &str, map: bool) -> Kind {
    match json {
        Json::Null if POINTERS.contains(&name) => Kind::Nil,
        Json::Null | Json::Object(_) if map && MAPS_OF_OTHERS.contains(&name) => Kind::MapOfOthers,
        Json::Null | Json::Object(_) if map => Kind::Map,
        _ => Kind::Plain,
    }
}

fn text(json: &Json, is_map: bool) -> String {
    match json {
        // A list of nothing.
        Json::Null => "[]".into(),
        Json::String(text) => text.clone(),
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| text(item, false)).collect();
            format!("[{}]", items.join(" "))
        }
        Json::Object(fields) if is_map => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name}:{}", text(value, false)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        Json::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| {
                    text(value, kind(value, name, MAPS.contains(&name.as_str())).is_map())
                })
                .collect();
            format!("{{{}}}", fields.join(" "))
        }
        other => other.to_string(),
    }
}
