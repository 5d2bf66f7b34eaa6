//! From tokens to a tree, by the grammar of Go's `text/template`.

use serde_json::Value as Json;

use super::{
    functions,
    lex::{Kind, Token, tokens},
    printf::quote,
    tree::{Branch, Call, Command, Definitions, Node, Operand, Pipe, What},
};

/// Blocks and parentheses in one another, at most.
const DEEPEST: usize = 100;

const KEYWORDS: &[&str] =
    &["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

/// Reads a template; its error is Go's line.
pub fn parse(text: &str) -> Result<Definitions, String> {
    let mut parser = Parser {
        text,
        tokens: tokens(text),
        next: 0,
        variables: vec!["$".into()],
        depth: 0,
        loops: 0,
        definitions: Definitions::new(),
    };
    match parser.whole() {
        Ok(()) => Ok(parser.definitions),
        Err(why) => {
            let at = parser.tokens[..parser.next].last().map_or(0, |token| token.at);
            Err(format!("template: :{}: {why}", 1 + text[..at].matches('\n').count()))
        }
    }
}

enum ListEnd {
    /// Of the template.
    End,
    /// `{{end}}`
    Close,
    Else,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    /// Those declared so far, the innermost last.
    variables: Vec<String>,
    depth: usize,
    loops: usize,
    definitions: Definitions,
}

impl<'a> Parser<'a> {
    fn take(&mut self) -> Token<'a> {
        let token = self.peek().clone();
        self.next = (self.next + 1).min(self.tokens.len());
        token
    }

    /// The next token; the last one stays.
    fn peek(&self) -> &Token<'a> {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
    }

    fn take_after_space(&mut self) -> Token<'a> {
        self.skip_space();
        self.take()
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEEPEST { Err("max expression depth exceeded".into()) } else { Ok(()) }
    }

    /// The template itself, with definitions of others in it.
    fn whole(&mut self) -> Result<(), String> {
        match self.list()? {
            (nodes, ListEnd::End) => self.define(String::new(), nodes),
            (_, ListEnd::Close) => Err("unexpected {{end}}".into()),
            (_, ListEnd::Else) => Err("unexpected {{else}}".into()),
        }
    }

    /// `{{define "name"}}`
    fn definition(&mut self) -> Result<(), String> {
        self.take();
        let context = "define clause";
        let (name, _) = self.name(context)?;
        self.close(context)?;
        self.body_of(name, context)
    }

    /// A template of its own up to its end: no variable from outside is known in it.
    fn body_of(&mut self, name: String, context: &str) -> Result<(), String> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let loops = std::mem::take(&mut self.loops);
        self.deeper()?;
        match self.list()? {
            (nodes, ListEnd::Close) => self.define(name, nodes)?,
            (_, ListEnd::Else) => return Err(format!("unexpected {{{{else}}}} in {context}")),
            (_, ListEnd::End) => return Err("unexpected EOF".into()),
        }
        self.depth -= 1;
        (self.variables, self.loops) = (variables, loops);
        Ok(())
    }

    /// Of two of one name, one has to be blank: the other is meant.
    fn define(&mut self, name: String, nodes: Vec<Node>) -> Result<(), String> {
        let is_blank = |nodes: &Vec<Node>| nodes.iter().all(Node::is_blank);
        if self.definitions.get(&name).is_none_or(is_blank) {
            self.definitions.insert(name, nodes);
        } else if !is_blank(&nodes) {
            return Err(format!("template: multiple definition of template {}", quote(&name)));
        }
        Ok(())
    }

    /// The name of a template, and where it stands.
    fn name(&mut self, context: &str) -> Result<(String, usize), String> {
        let token = self.take_after_space();
        if token.kind != Kind::Quoted || token.text.starts_with('\'') {
            return Err(unexpected(&token, context));
        }
        let name = unquote(token.text)?;
        Ok((name.as_str().unwrap_or_default().to_owned(), token.at))
    }

    /// `{{template "name" pipe}}`
    fn call(&mut self) -> Result<Node, String> {
        self.take();
        let context = "template clause";
        let (name, at) = self.name(context)?;
        self.skip_space();
        let pipe = if self.peek().kind == Kind::Close {
            self.take();
            None
        } else {
            Some(self.pipe(context, &Kind::Close)?)
        };
        Ok(Node::Template(Call { name, pipe, at }))
    }

    /// `{{block "name" pipe}}`: a definition, and its use in its place.
    fn block(&mut self) -> Result<Node, String> {
        self.take();
        let context = "block clause";
        let (name, at) = self.name(context)?;
        let pipe = Some(self.pipe(context, &Kind::Close)?);
        self.body_of(name.clone(), context)?;
        Ok(Node::Template(Call { name, pipe, at }))
    }

    fn list(&mut self) -> Result<(Vec<Node>, ListEnd), String> {
        let mut nodes = Vec::new();
        loop {
            let token = self.take();
            match token.kind {
                Kind::Text => nodes.push(Node::Text(token.text.into())),
                Kind::Open => {
                    self.skip_space();
                    match self.peek().text {
                        "end" => {
                            self.take();
                            self.close("end")?;
                            return Ok((nodes, ListEnd::Close));
                        }
                        "else" => {
                            self.take();
                            return Ok((nodes, ListEnd::Else));
                        }
                        "define" if self.depth == 0 => self.definition()?,
                        _ => nodes.push(self.action()?),
                    }
                }
                Kind::End => return Ok((nodes, ListEnd::End)),
                _ => return Err(unexpected(&token, "input")),
            }
        }
    }

    fn close(&mut self, context: &str) -> Result<(), String> {
        let token = self.take_after_space();
        if token.kind == Kind::Close { Ok(()) } else { Err(unexpected(&token, context)) }
    }

    fn action(&mut self) -> Result<Node, String> {
        let word = match self.peek() {
            Token { kind: Kind::Word, text, .. } => *text,
            _ => "",
        };
        match word {
            "if" => self.branch("if").map(Node::If),
            "with" => self.branch("with").map(Node::With),
            "range" => {
                self.loops += 1;
                let branch = self.branch("range")?;
                self.loops -= 1;
                Ok(Node::Range(branch))
            }
            "template" => self.call(),
            "block" => self.block(),
            "break" | "continue" => {
                self.take();
                self.close(&format!("{{{{{word}}}}}"))?;
                if self.loops == 0 {
                    return Err(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                Ok(if word == "break" { Node::Break } else { Node::Continue })
            }
            _ => self.pipe("command", &Kind::Close).map(Node::Action),
        }
    }

    fn branch(&mut self, word: &'static str) -> Result<Branch, String> {
        self.take();
        self.deeper()?;
        let known = self.variables.len();
        let pipe = self.pipe(word, &Kind::Close)?;
        let (body, end) = self.list()?;
        let otherwise = match end {
            ListEnd::Close => Vec::new(),
            ListEnd::End => return Err("unexpected EOF".into()),
            ListEnd::Else => self.otherwise(word)?,
        };
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(Branch { pipe, body, otherwise })
    }

    /// What follows `{{else`.
    fn otherwise(&mut self, word: &str) -> Result<Vec<Node>, String> {
        self.skip_space();
        if word == "if" && self.peek().text == "if" {
            return Ok(vec![self.branch("if").map(Node::If)?]);
        }
        self.close("else")?;
        match self.list()? {
            (nodes, ListEnd::Close) => Ok(nodes),
            (_, ListEnd::Else) => Err("expected end; found {{else}}".into()),
            (_, ListEnd::End) => Err("unexpected EOF".into()),
        }
    }

    fn pipe(&mut self, context: &str, end: &Kind) -> Result<Pipe, String> {
        self.skip_space();
        let at = self.peek().at;
        let (variables, assigns) = self.declaration(context)?;
        let mut commands = Vec::new();
        loop {
            let token = self.take_after_space();
            match token.kind {
                ref kind if kind == end => break,
                Kind::Word if KEYWORDS.contains(&token.text) => {
                    return Err(unexpected(&token, context));
                }
                Kind::Dot
                | Kind::Field
                | Kind::Word
                | Kind::Number
                | Kind::Quoted
                | Kind::Variable
                | Kind::OpenParen => {
                    self.next -= 1;
                    commands.push(self.command()?);
                }
                _ => return Err(unexpected(&token, context)),
            }
        }
        if commands.is_empty() {
            return Err(format!("missing value for {context}"));
        }
        for (stage, Command(words)) in commands.iter().enumerate().skip(1) {
            let what = words.first().map(|word| &word.what);
            if matches!(what, Some(What::Dot | What::Nil | What::Constant(_))) {
                return Err(format!("non executable command in pipeline stage {}", stage + 1));
            }
        }
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe { variables, assigns, commands, at })
    }

    /// `$a :=`, `$a =`, and before a range's list `$a, $b :=`.
    fn declaration(&mut self, context: &str) -> Result<(Vec<String>, bool), String> {
        let begin = self.next;
        let mut variables = Vec::new();
        while self.peek().kind == Kind::Variable {
            variables.push(self.take().text.to_owned());
            let token = self.take_after_space();
            match token.kind {
                Kind::Declare => return Ok((variables, false)),
                Kind::Assign => {
                    variables.iter().try_for_each(|name| self.known(name))?;
                    return Ok((variables, true));
                }
                Kind::Other if token.text == "," => match (context, variables.len()) {
                    ("range", 1) => self.skip_space(),
                    _ => return Err(format!("too many declarations in {context}")),
                },
                _ => break,
            }
        }
        self.next = begin;
        Ok((Vec::new(), false))
    }

    fn known(&self, name: &str) -> Result<(), String> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        Err(format!("undefined variable {name:?}"))
    }

    fn command(&mut self) -> Result<Command, String> {
        let mut words = Vec::new();
        loop {
            self.skip_space();
            words.extend(self.operand()?);
            let token = self.take();
            match token.kind {
                Kind::Space => {}
                Kind::Close | Kind::CloseParen => {
                    self.next -= 1;
                    break;
                }
                Kind::Pipe => break,
                _ => return Err(unexpected(&token, "operand")),
            }
        }
        if words.is_empty() { Err("empty command".into()) } else { Ok(Command(words)) }
    }

    fn operand(&mut self) -> Result<Option<Operand>, String> {
        let Some(mut operand) = self.term()? else { return Ok(None) };
        let from = operand.at;
        if self.peek().kind == Kind::Field {
            // As in Go, a chain stands where its second link does.
            operand.at = self.peek().at;
        }
        while self.peek().kind == Kind::Field {
            let (What::Fields(names) | What::Variable(_, names) | What::Parens(_, names)) =
                &mut operand.what
            else {
                return Err(format!("unexpected . after term {:?}", operand.text));
            };
            let field = &self.tokens[self.next];
            names.push(field.text[1..].to_owned());
            operand.text = self.text[from..field.at + field.text.len()].to_owned();
            self.next += 1;
        }
        Ok(Some(operand))
    }

    fn term(&mut self) -> Result<Option<Operand>, String> {
        let token = self.take();
        let what = match token.kind {
            Kind::Dot => What::Dot,
            Kind::Field => What::Fields(vec![token.text[1..].to_owned()]),
            Kind::Variable => {
                self.known(token.text)?;
                What::Variable(token.text.to_owned(), Vec::new())
            }
            Kind::Number => What::Constant(number(token.text)),
            Kind::Quoted => What::Constant(unquote(token.text)?),
            Kind::Word => match token.text {
                "nil" => What::Nil,
                "true" => What::Constant(true.into()),
                "false" => What::Constant(false.into()),
                word if KEYWORDS.contains(&word) => {
                    self.next -= 1;
                    return Ok(None);
                }
                name => match functions::find(name) {
                    Some((name, function)) => What::Function(function, name),
                    None => return Err(format!("function {name:?} not defined")),
                },
            },
            Kind::OpenParen => {
                self.deeper()?;
                let pipe = self.pipe("parenthesized pipeline", &Kind::CloseParen)?;
                self.depth -= 1;
                What::Parens(Box::new(pipe), Vec::new())
            }
            _ => {
                self.next -= 1;
                return Ok(None);
            }
        };
        let end = self.tokens[..self.next].last().map_or(0, |last| last.at + last.text.len());
        Ok(Some(Operand { at: token.at, text: self.text[token.at..end].to_owned(), what }))
    }
}

fn unexpected(token: &Token, context: &str) -> String {
    let text = token.text;
    match &token.kind {
        Kind::Error(why) => why.clone(),
        Kind::End => format!("unexpected EOF in {context}"),
        Kind::Word if KEYWORDS.contains(&text) => format!("unexpected <{text}> in {context}"),
        _ if text.len() > 10 => {
            let begin: String = text.chars().take(10).collect();
            format!("unexpected {begin:?}... in {context}")
        }
        _ => format!("unexpected {text:?} in {context}"),
    }
}

fn number(text: &str) -> Json {
    match text.parse::<i64>() {
        Ok(number) => number.into(),
        Err(_) => text.parse::<f64>().unwrap_or_default().into(),
    }
}

/// What stands between quotes of any kind; a character is a number.
fn unquote(text: &str) -> Result<Json, String> {
    let inside = &text[1..text.len() - 1];
    if text.starts_with('`') {
        return Ok(inside.into());
    }
    let mut value = String::new();
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        let c = if c == '\\' { escaped(&mut chars) } else { Some(c) };
        value.push(c.ok_or_else(|| format!("malformed constant: {text}"))?);
    }
    match (text.starts_with('\''), value.chars().next()) {
        (false, _) => Ok(value.into()),
        (true, Some(c)) if c.len_utf8() == value.len() => Ok(u32::from(c).into()),
        _ => Err(format!("malformed character constant: {text}")),
    }
}

/// The character that a backslash and what follows it stand for.
fn escaped(chars: &mut std::str::Chars) -> Option<char> {
    let digits = match chars.next()? {
        'a' => return Some('\x07'),
        'b' => return Some('\x08'),
        'f' => return Some('\x0c'),
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'v' => return Some('\x0b'),
        c @ ('\\' | '"' | '\'') => return Some(c),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let text: String = chars.take(digits).collect();
    if text.len() < digits {
        return None;
    }
    char::from_u32(u32::from_str_radix(&text, 16).ok()?)
}

#[cfg(test)]
mod tests;
