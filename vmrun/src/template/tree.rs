//! A template as a tree, and as Go writes parts of it in messages.

use std::{collections::BTreeMap, fmt};

use serde_json::Value as Json;

use super::{functions, printf::quote};

/// What a template's text has defined, by name; under no name, the template itself.
pub type Definitions = BTreeMap<String, Vec<Node>>;

#[derive(Debug)]
pub enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template(Call),
    Break,
    Continue,
}

impl Node {
    /// Whether it is text and nothing but blanks: of that, another definition may take the place.
    pub fn is_blank(&self) -> bool {
        matches!(self, Self::Text(text) if text.trim().is_empty())
    }
}

/// `{{template "name" pipe}}`
#[derive(Debug)]
pub struct Call {
    pub name: String,
    pub pipe: Option<Pipe>,
    pub at: usize,
}

#[derive(Debug)]
pub struct Branch {
    pub pipe: Pipe,
    pub body: Vec<Node>,
    pub otherwise: Vec<Node>,
}

/// `$a, $b := command | command`
#[derive(Debug)]
pub struct Pipe {
    pub variables: Vec<String>,
    /// `=`: the variables are there already.
    pub assigns: bool,
    pub commands: Vec<Command>,
    pub at: usize,
}

/// A word and its arguments.
#[derive(Debug)]
pub struct Command(pub Vec<Operand>);

/// Something with a value, and where it stands in the text.
#[derive(Debug)]
pub struct Operand {
    pub at: usize,
    pub text: String,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    Dot,
    Nil,
    Constant(Json),
    Function(functions::Function, &'static str),
    /// `.A.B`
    Fields(Vec<String>),
    /// `$a.B.C`
    Variable(String, Vec<String>),
    /// `(pipe).B.C`
    Parens(Box<Pipe>, Vec<String>),
}

/// As Go writes it.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(|word| word.text.as_str()).collect();
        f.write_str(&words.join(" "))
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commands: Vec<_> = self.commands.iter().map(ToString::to_string).collect();
        f.write_str(&commands.join(" | "))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{template {}", quote(&self.name))?;
        if let Some(pipe) = &self.pipe {
            let variables = pipe.variables.join(", ");
            let declares = if variables.is_empty() { "" } else { " := " };
            write!(f, " {variables}{declares}{pipe}")?;
        }
        f.write_str("}}")
    }
}
