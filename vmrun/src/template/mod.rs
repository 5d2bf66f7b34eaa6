//! Go templates, as `--format` takes them: `{{.Field}}`, `{{json .}}`, `{{range .List}}…{{end}}`.
//!
//! The language of Go's `text/template` with Docker's functions, over JSON values. Of a struct (an
//! object of fixed fields) a field that it does not have is an error; of a map (labels and the like)
//! a key that it does not have is `<no value>`, as in Go. Errors are Go's lines.
//!
//! No crate does this: the one there is (`gtmpl`, and its forks) keeps maps in hash tables, so that
//! `range` and `json` give another order at each run, and has errors of its own.

mod exec;
mod functions;
mod lex;
mod parse;
mod printf;
mod tree;
mod value;

use serde_json::Value as Json;

use self::{exec::Execution, tree::Definitions};

pub use self::{printf::quote, value::Type};

/// A template, ready to be filled in.
pub struct Format<'a> {
    text: &'a str,
    definitions: Definitions,
}

/// What a template is filled in with.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub value: &'a Json,
    pub of: Type,
    /// What `.Label "name"` gives, where there is such a thing.
    pub label: Option<&'a dyn Fn(&str) -> String>,
    /// The value is the headers of a table: functions let them be.
    pub headers: bool,
}

/// Go's line about a template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

impl<'a> Format<'a> {
    /// Parses a template.
    pub fn parse(text: &'a str) -> Result<Self, TemplateError> {
        let definitions = parse::parse(text).map_err(TemplateError)?;
        Ok(Self { text, definitions })
    }

    /// Fills it in.
    pub fn render(&self, subject: &Subject) -> Result<String, TemplateError> {
        Execution::new(&self.definitions, subject).run().map_err(|failure| {
            let before = &self.text[..failure.at];
            let line = 1 + before.matches('\n').count();
            let column = failure.at - before.rfind('\n').map_or(0, |newline| newline + 1);
            let (name, context, why) = (quote(&failure.template), failure.context, failure.why);
            TemplateError(format!(
                "template: :{line}:{column}: executing {name} at <{context}>: {why}"
            ))
        })
    }
}

impl<'a> Subject<'a> {
    /// A value and nothing else.
    pub fn of(value: &'a Json, of: Type) -> Self {
        Self { value, of, label: None, headers: false }
    }
}

#[cfg(test)]
mod tests;
