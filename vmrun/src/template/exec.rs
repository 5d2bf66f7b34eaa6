//! Fills a template in.

use serde_json::Value as Json;

use super::{
    Subject, Type,
    functions::{Arguments, Function},
    printf::quote,
    tree::{Branch, Call, Command, Definitions, Node, Operand, Pipe, What},
    value::{Kind, Value},
};

/// Parts of templates in one another, at most: as much as the stack has room for. Go has 100000.
const DEEPEST: usize = 250;

/// Why a template cannot be filled in, where in its text, in bytes, and in which of those that it
/// defines.
#[derive(Debug)]
pub struct Failure {
    pub template: String,
    pub at: usize,
    pub context: String,
    pub why: String,
}

/// What comes after a part of a template.
#[derive(PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// One filling in.
pub struct Execution<'a> {
    subject: &'a Subject<'a>,
    definitions: &'a Definitions,
    /// The name of the one that is filled in now.
    template: &'a str,
    depth: usize,
    variables: Vec<(String, Value<'a>)>,
    output: String,
}

impl<'a> Execution<'a> {
    pub fn new(definitions: &'a Definitions, subject: &'a Subject<'a>) -> Self {
        let (template, depth) = ("", 0);
        Self { subject, definitions, template, depth, variables: Vec::new(), output: String::new() }
    }

    pub fn run(mut self) -> Result<String, Failure> {
        let done = self.fill_in("", Value::borrowed(self.subject.value));
        match done {
            Ok(()) => Ok(self.output),
            Err(failure) => Err(Failure { template: self.template.to_owned(), ..failure }),
        }
    }

    /// Fills in one of what is defined, which sees no variables but its own.
    fn fill_in(&mut self, name: &str, dot: Value<'a>) -> Result<(), Failure> {
        let Some((name, nodes)) = self.definitions.get_key_value(name) else { return Ok(()) };
        let outside = std::mem::replace(&mut self.template, name);
        let variables = std::mem::replace(&mut self.variables, vec![("$".into(), dot.clone())]);
        self.list(nodes, &dot)?;
        (self.template, self.variables) = (outside, variables);
        Ok(())
    }

    fn call(&mut self, call: &Call, dot: &Value<'a>) -> Result<(), Failure> {
        let failed = |why| Err(failure(call.at, call.to_string(), why));
        if !self.definitions.contains_key(&call.name) {
            return failed(format!("template {} not defined", quote(&call.name)));
        }
        let pipe = call.pipe.as_ref().map(|pipe| self.pipe(pipe, dot));
        if self.depth > DEEPEST {
            return failed(format!("exceeded maximum template depth ({DEEPEST})"));
        }
        self.fill_in(&call.name, pipe.unwrap_or_else(|| Ok(Value::missing()))?)
    }

    fn list(&mut self, nodes: &[Node], dot: &Value<'a>) -> Result<Flow, Failure> {
        self.depth += 1;
        let flow = self.nodes(nodes, dot)?;
        self.depth -= 1;
        Ok(flow)
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value<'a>) -> Result<Flow, Failure> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.output += text;
                    Flow::Next
                }
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.output += &value.print();
                    }
                    Flow::Next
                }
                Node::If(branch) => self.branch(branch, dot, false)?,
                Node::With(branch) => self.branch(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Template(call) => {
                    self.call(call, dot)?;
                    Flow::Next
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn branch(&mut self, branch: &Branch, dot: &Value<'a>, with: bool) -> Result<Flow, Failure> {
        let known = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = if !value.is_true() {
            self.list(&branch.otherwise, dot)
        } else {
            self.list(&branch.body, if with { &value } else { dot })
        };
        self.variables.truncate(known);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value<'a>) -> Result<Flow, Failure> {
        let known = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let items: Vec<(Json, Value)> = match (&*value.json, value.kind) {
            (Json::Null, _) => Vec::new(),
            (Json::Array(items), _) => {
                let item = |at: usize| Some((at.into(), value.item(at)?));
                (0..items.len()).filter_map(item).collect()
            }
            (Json::Object(fields), kind) if kind.is_map() => {
                let mut names: Vec<_> = fields.keys().cloned().collect();
                names.sort_unstable();
                let item = |name: String| Some((name.as_str().into(), value.field(&name)?));
                names.into_iter().filter_map(item).collect()
            }
            _ => {
                let why = format!("range can't iterate over {}", value.print());
                return Err(failure(branch.pipe.at, branch.pipe.to_string(), why));
            }
        };
        if items.is_empty() {
            let flow = self.list(&branch.otherwise, dot);
            self.variables.truncate(known);
            return flow;
        }
        for (key, item) in items {
            self.variables.truncate(known);
            match branch.pipe.variables.as_slice() {
                [one] => self.set(one, item.clone(), branch.pipe.assigns),
                [one, two] => {
                    self.set(one, Value::owned(key), branch.pipe.assigns);
                    self.set(two, item.clone(), branch.pipe.assigns);
                }
                _ => {}
            }
            if self.list(&branch.body, &item)? == Flow::Break {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(Flow::Next)
    }

    fn set(&mut self, name: &str, value: Value<'a>, assigns: bool) {
        let there = self.variables.iter_mut().rev().find(|(known, _)| assigns && known == name);
        match there {
            Some((_, there)) => *there = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value<'a>) -> Result<Value<'a>, Failure> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        let value = last.unwrap_or_else(Value::missing);
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value<'a>,
        last: Option<Value<'a>>,
    ) -> Result<Value<'a>, Failure> {
        let Command(words) = command;
        let Some((word, rest)) = words.split_first() else { return Ok(Value::missing()) };
        let has_arguments = !rest.is_empty() || last.is_some();
        match &word.what {
            What::Function(function, name) => {
                let mut arguments = Vec::new();
                for argument in rest {
                    arguments.push(self.operand(argument, dot)?);
                    let so_far = arguments.last().is_some_and(Value::is_true);
                    // As in Go, what follows is not looked at when the answer is there.
                    if matches!(*name, "and" | "or") && so_far == (*name == "or") {
                        return Ok(arguments.pop().unwrap_or_else(Value::missing));
                    }
                }
                arguments.extend(last);
                self.function(*function, name, arguments)
                    .map_err(|why| failure(word.at, command.to_string(), why))
            }
            What::Fields(names) if has_arguments => {
                match (names.as_slice(), self.subject.label, rest, last) {
                    ([name], Some(label), [argument], None) if name == "Label" => {
                        let argument = self.operand(argument, dot)?;
                        Ok(Value::owned(label(argument.json.as_str().unwrap_or_default())))
                    }
                    _ => {
                        let name = names.last().map_or("", String::as_str);
                        let why = format!("{name} has arguments but cannot be invoked as function");
                        Err(failure(word.at, word.text.clone(), why))
                    }
                }
            }
            _ if has_arguments => {
                let why = format!("can't give argument to non-function {}", word.text);
                Err(failure(word.at, word.text.clone(), why))
            }
            What::Nil => Err(failure(word.at, word.text.clone(), "nil is not a command".into())),
            _ => self.operand(word, dot),
        }
    }

    fn function(
        &self,
        function: Function,
        name: &str,
        values: Vec<Value<'a>>,
    ) -> Result<Value<'a>, String> {
        function(Arguments { values, headers: self.subject.headers })
            .map_err(|why| format!("error calling {name}: {why}"))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value<'a>) -> Result<Value<'a>, Failure> {
        match &operand.what {
            What::Dot => Ok(dot.clone()),
            What::Nil => Ok(Value { kind: Kind::Nil, ..Value::owned(Json::Null) }),
            What::Constant(value) => Ok(Value::owned(value.clone())),
            What::Function(function, name) => self
                .function(*function, name, Vec::new())
                .map_err(|why| failure(operand.at, operand.text.clone(), why)),
            What::Fields(names) => self.fields(operand, dot.clone(), names),
            What::Variable(name, names) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let value = found.map_or_else(Value::missing, |(_, value)| value.clone());
                self.fields(operand, value, names)
            }
            What::Parens(pipe, names) => {
                let value = self.pipe(pipe, dot)?;
                self.fields(operand, value, names)
            }
        }
    }

    /// Goes down a chain of fields.
    fn fields(
        &self,
        operand: &Operand,
        mut value: Value<'a>,
        names: &[String],
    ) -> Result<Value<'a>, Failure> {
        let mut before = "";
        for name in names {
            let is_root = std::ptr::eq(&*value.json, self.subject.value);
            value = match value.field(name) {
                Some(found) => found,
                None if value.kind.is_map() || value.kind == Kind::Missing => Value::missing(),
                None => {
                    let why = match (self.subject.of, &*value.json) {
                        // Docker's second try says so of the pointer.
                        (Type::Answer, Json::Null) => {
                            format!("map has no entry for key {before:?}")
                        }
                        (Type::Answer, Json::Object(_)) => {
                            format!("map has no entry for key {name:?}")
                        }
                        (Type::Named(_), Json::Null) => {
                            format!("nil pointer evaluating interface {{}}.{name}")
                        }
                        (Type::Named(of), _) if is_root => {
                            format!("can't evaluate field {name} in type {of}")
                        }
                        _ => {
                            format!("can't evaluate field {name} in type {}", value.type_name())
                        }
                    };
                    return Err(failure(operand.at, operand.text.clone(), why));
                }
            };
            before = name;
        }
        Ok(value)
    }
}

fn failure(at: usize, context: String, why: String) -> Failure {
    Failure { template: String::new(), at, context, why }
}
