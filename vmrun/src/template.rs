//! Go templates, as `--format` takes them: `{{.Field}}`, `{{json .}}`, `{{range .List}}…{{end}}`.
//!
//! The language is the crate `gtmpl-ng`'s; here are the functions that Docker adds to it, and the
//! way from JSON values to its own. Of a struct (an object of fixed fields) a field that it does
//! not have is an error; of a map (labels and the like) a key that it does not have is
//! `<no value>`, as in Go.

use anyhow::{Result, anyhow};
use gtmpl_ng::{Context, Func, FuncError, NumberKind, Template, Value as Go};
use serde_json::Value;

/// Fields that hold maps, whose keys are the user's or the image's.
const MAPS: &[&str] = &[
    "Annotations",
    "Attributes",
    "Data",
    "ExposedPorts",
    "Labels",
    "Networks",
    "OnBuild",
    "Options",
    "Ports",
    "Storage",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Docker's functions, beside those of Go itself.
const FUNCTIONS: &[(&str, Func)] = &[
    ("json", json),
    ("join", join),
    ("split", split),
    ("title", |args| map_text(args, title)),
    ("lower", |args| map_text(args, |text| text.to_lowercase())),
    ("upper", |args| map_text(args, |text| text.to_uppercase())),
    ("pad", pad),
    ("truncate", truncate),
];

/// A template, ready to be filled in.
pub struct Format(Template);

impl Format {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self> {
        let mut template = Template::default();
        template.add_funcs(FUNCTIONS);
        template.parse(text).map_err(|error| anyhow!("template parsing error: {error}"))?;
        Ok(Self(template))
    }

    /// Fills it in.
    pub fn render(&self, value: &Value) -> Result<String> {
        let context = Context::from(to_go(value, false));
        self.0.render(&context).map_err(|error| {
            let line = error.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ");
            anyhow!("template error: {line}")
        })
    }
}

fn to_go(value: &Value, is_map: bool) -> Go {
    match value {
        Value::Null => Go::Nil,
        Value::Bool(value) => Go::Bool(*value),
        Value::String(text) => Go::String(text.clone()),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Go::from(number),
            (None, Some(number)) => Go::from(number),
            (None, None) => Go::from(number.as_f64().unwrap_or_default()),
        },
        Value::Array(values) => Go::Array(values.iter().map(|value| to_go(value, false)).collect()),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                (name.clone(), to_go(value, MAPS.contains(&name.as_str())))
            };
            let fields = fields.iter().map(field).collect();
            if is_map { Go::Map(fields) } else { Go::Object(fields) }
        }
    }
}

fn from_go(value: &Go) -> Value {
    match value {
        Go::Bool(value) => (*value).into(),
        Go::String(text) => text.as_str().into(),
        Go::Number(number) => match number.kind() {
            NumberKind::Unsigned(number) => number.into(),
            NumberKind::Signed(number) => number.into(),
            NumberKind::Float(number) => number.into(),
        },
        Go::Array(values) => values.iter().map(from_go).collect(),
        Go::Object(fields) | Go::Map(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            fields.into_iter().map(|(name, value)| (name.clone(), from_go(value))).collect()
        }
        _ => Value::Null,
    }
}

fn failed(message: &str) -> FuncError {
    FuncError::Generic(message.to_owned())
}

fn text(args: &[Go], at: usize) -> Result<&str, FuncError> {
    match args.get(at) {
        Some(Go::String(text)) => Ok(text),
        _ => Err(failed("a string is wanted here")),
    }
}

fn count(args: &[Go], at: usize) -> Result<usize, FuncError> {
    match args.get(at) {
        Some(Go::Number(number)) => number.as_u64().and_then(|number| number.try_into().ok()),
        _ => None,
    }
    .filter(|count| *count <= 1 << 16)
    .ok_or_else(|| failed("a small number is wanted here"))
}

fn map_text(args: &[Go], map: fn(&str) -> String) -> Result<Go, FuncError> {
    text(args, 0).map(|text| map(text).into())
}

fn title(text: &str) -> String {
    let mut inside = false;
    let upper = text.chars().flat_map(|c| {
        let first = !inside && c.is_alphabetic();
        inside = !c.is_whitespace();
        let upper: String = if first { c.to_uppercase().collect() } else { c.into() };
        upper.chars().collect::<Vec<_>>()
    });
    upper.collect()
}

fn json(args: &[Go]) -> Result<Go, FuncError> {
    let value = args.first().ok_or_else(|| failed("json wants a value"))?;
    Ok(from_go(value).to_string().into())
}

fn join(args: &[Go]) -> Result<Go, FuncError> {
    let separator = text(args, 1)?;
    match args.first() {
        Some(Go::Array(values)) => {
            let words: Vec<String> = values.iter().map(ToString::to_string).collect();
            Ok(words.join(separator).into())
        }
        Some(Go::Nil) => Ok(String::new().into()),
        _ => Err(failed("join wants a list")),
    }
}

fn split(args: &[Go]) -> Result<Go, FuncError> {
    let parts = text(args, 0)?.split(text(args, 1)?);
    Ok(Go::Array(parts.map(Go::from).collect()))
}

/// `pad TEXT BEFORE AFTER`
fn pad(args: &[Go]) -> Result<Go, FuncError> {
    let (text, before, after) = (text(args, 0)?, count(args, 1)?, count(args, 2)?);
    let spaces = |count| if text.is_empty() { String::new() } else { " ".repeat(count) };
    Ok(format!("{}{text}{}", spaces(before), spaces(after)).into())
}

fn truncate(args: &[Go]) -> Result<Go, FuncError> {
    let kept: String = text(args, 0)?.chars().take(count(args, 1)?).collect();
    Ok(kept.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> Result<String> {
        Format::parse(template)?.render(&json!({
            "Id": "sha256:ab", "Size": 12_345_678_901_u64, "RepoTags": ["a:1", "b:2"],
            "Volumes": null, "State": { "Running": true, "ExitCode": 0 },
            "Config": { "Env": ["A=1"], "Labels": { "x.y": "z" }, "Cmd": null },
        }))
    }

    #[test]
    fn fields_functions_and_control_read_as_in_go() {
        for (template, expected) in [
            ("{{.Id}} {{ .Size }}", "sha256:ab 12345678901"),
            ("{{json .Config}}", r#"{"Cmd":null,"Env":["A=1"],"Labels":{"x.y":"z"}}"#),
            ("{{json .Config.Cmd}}{{json .Id}}", r#"null"sha256:ab""#),
            ("{{.State.Running}}{{if .State.Running}}up{{else}}down{{end}}", "trueup"),
            ("{{if .State.ExitCode}}failed{{end}}", ""),
            ("{{range .RepoTags}}<{{.}}>{{end}}", "<a:1><b:2>"),
            ("{{range $i, $tag := .RepoTags}}{{$i}}={{$tag}};{{end}}", "0=a:1;1=b:2;"),
            ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\n"),
            (r#"{{index .Config.Labels "x.y"}}"#, "z"),
            ("{{index .RepoTags 1}} {{len .RepoTags}}", "b:2 2"),
            (r#"{{join .RepoTags ", "}}"#, "a:1, b:2"),
            (r#"{{upper .Id}} {{.Id | lower}} {{title "one two"}}"#, "SHA256:AB sha256:ab One Two"),
            (r#"{{index (split .Id ":") 1}}"#, "ab"),
            (r#"{{truncate .Id 3}}{{pad "x" 1 2}}|"#, "sha x  |"),
            (r#"{{printf "%s-%d" .Id .State.ExitCode}}"#, "sha256:ab-0"),
            (r#"{{with .Config}}{{.Env}}{{end}}{{eq .Id "x"}}"#, "[A=1]false"),
        ] {
            assert_eq!(render(template).unwrap(), expected, "{template}");
        }
    }

    #[test]
    fn what_a_struct_does_not_have_is_an_error_on_one_line() {
        for template in
            ["{{.Absent}}", "{{.Config.absent}}", "{{", "{{if}}", "{{nope .}}", "{{end}}"]
        {
            let error = format!("{:#}", render(template).unwrap_err());
            assert!(error.starts_with("template") && !error.contains('\n'), "{error}");
        }
        assert_eq!(render("{{.Config.Labels.absent}}").unwrap(), "<no value>");
    }
}
