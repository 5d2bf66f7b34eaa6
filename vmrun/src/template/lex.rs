//! A template's text cut into tokens, as Go's `text/template` cuts it.

/// One token, and where in the text it begins, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub at: usize,
    pub text: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Between actions; what trim markers take away is not in it.
    Text,
    /// `{{` or `{{- `
    Open,
    /// `}}` or ` -}}`
    Close,
    Space,
    /// A name, a keyword, `true`, `false` or `nil`.
    Word,
    /// `.Name`
    Field,
    /// `$name`, or `$` alone
    Variable,
    Dot,
    Number,
    /// Quoted, its quotes included; `'c'` as well.
    Quoted,
    Pipe,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    OpenParen,
    CloseParen,
    /// Any other character: a comma between two variables.
    Other,
    End,
    /// Nothing follows it.
    Error(String),
}

/// All tokens; the last one is [`Kind::End`] or [`Kind::Error`].
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { text, at: 0, parens: 0, tokens: Vec::new() };
    let end = match lexer.run() {
        Ok(()) => Kind::End,
        Err(why) => Kind::Error(why),
    };
    lexer.push(end, lexer.at);
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    parens: usize,
    tokens: Vec<Token<'a>>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn push(&mut self, kind: Kind, from: usize) {
        self.tokens.push(Token { kind, at: from, text: &self.text[from..self.at] });
    }

    /// Takes what fits.
    fn take_while(&mut self, fits: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !fits(c)).unwrap_or(rest.len());
    }

    fn run(&mut self) -> Result<(), String> {
        let mut trim = false;
        loop {
            if trim {
                self.take_while(is_space);
            }
            let from = self.at;
            let Some(length) = self.rest().find("{{") else {
                self.at = self.text.len();
                if from < self.at {
                    self.push(Kind::Text, from);
                }
                return Ok(());
            };
            let marked = self.text[from + length + 2..]
                .strip_prefix('-')
                .is_some_and(|rest| rest.starts_with(is_space));
            let kept = &self.text[from..from + length];
            let kept = if marked { kept.trim_end_matches(is_space) } else { kept };
            self.at = from + kept.len();
            if !kept.is_empty() {
                self.push(Kind::Text, from);
            }
            let open = from + length;
            self.at = open + 2 + usize::from(marked);
            let inside = self.rest().trim_start_matches(is_space);
            trim = if inside.starts_with("/*") && (marked || self.rest().starts_with("/*")) {
                self.comment()?
            } else {
                self.push(Kind::Open, open);
                self.action()?
            };
        }
    }

    /// Skips a comment; whether a trim marker closes it.
    fn comment(&mut self) -> Result<bool, String> {
        let end = self.rest().find("*/").ok_or("unclosed comment")?;
        self.at += end + 2;
        let (length, trim) = self.closing().ok_or("comment ends before closing delimiter")?;
        self.at += length;
        Ok(trim)
    }

    /// The length of what closes an action here, and whether it is a trim marker.
    fn closing(&self) -> Option<(usize, bool)> {
        let rest = self.rest();
        if rest.starts_with("}}") {
            return Some((2, false));
        }
        let spaces = rest.len() - rest.trim_start_matches(is_space).len();
        (spaces > 0 && rest[spaces..].starts_with("-}}")).then_some((spaces + 3, true))
    }

    /// An action up to its end; whether a trim marker closes it.
    fn action(&mut self) -> Result<bool, String> {
        self.parens = 0;
        loop {
            if let Some((length, trim)) = self.closing() {
                if self.parens > 0 {
                    return Err("unclosed left paren".into());
                }
                let from = self.at;
                self.at += length;
                self.push(Kind::Close, from);
                return Ok(trim);
            }
            self.token()?;
        }
    }

    fn token(&mut self) -> Result<(), String> {
        let from = self.at;
        let mut chars = self.rest().chars();
        let Some(first) = chars.next() else { return Err("unclosed action".into()) };
        let second = chars.next();
        self.at += first.len_utf8();
        let kind = match first {
            c if is_space(c) => {
                // A closing trim marker wants the last of them.
                while self.closing().is_none() && self.rest().starts_with(is_space) {
                    self.at += 1;
                }
                if self.rest().starts_with("-}}") && self.at > from {
                    self.at -= 1;
                }
                Kind::Space
            }
            '=' => Kind::Assign,
            ':' if second == Some('=') => {
                self.at += 1;
                Kind::Declare
            }
            ':' => return Err("expected :=".into()),
            '|' => Kind::Pipe,
            '"' => self.quoted('"', "unterminated quoted string")?,
            '\'' => self.quoted('\'', "unterminated character constant")?,
            '`' => {
                let length = self.rest().find('`').ok_or("unterminated raw quoted string")?;
                self.at += length + 1;
                Kind::Quoted
            }
            '$' => {
                self.take_while(is_alphanumeric);
                self.at_terminator()?;
                Kind::Variable
            }
            '.' if !second.is_some_and(|c| c.is_ascii_digit()) => {
                self.take_while(is_alphanumeric);
                self.at_terminator()?;
                if self.at == from + 1 { Kind::Dot } else { Kind::Field }
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.take_while(|c| is_alphanumeric(c) || c == '.');
                let digits = &self.text[from..self.at];
                if digits.parse::<i64>().is_err() && digits.parse::<f64>().is_err() {
                    return Err(format!("bad number syntax: {digits:?}"));
                }
                Kind::Number
            }
            c if is_alphanumeric(c) => {
                self.take_while(is_alphanumeric);
                self.at_terminator()?;
                Kind::Word
            }
            '(' => {
                self.parens += 1;
                Kind::OpenParen
            }
            ')' if self.parens == 0 => return Err("unexpected right paren".into()),
            ')' => {
                self.parens -= 1;
                Kind::CloseParen
            }
            ' '..='~' => Kind::Other,
            other => {
                return Err(format!("unrecognized character in action: {}", unicode(other)));
            }
        };
        self.push(kind, from);
        Ok(())
    }

    fn quoted(&mut self, quote: char, unterminated: &str) -> Result<Kind, String> {
        let mut escaped = false;
        for (at, c) in self.rest().char_indices() {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(Kind::Quoted);
                }
                _ => {}
            }
        }
        Err(unterminated.into())
    }

    /// A name ends with a space or with punctuation that may follow one.
    fn at_terminator(&self) -> Result<(), String> {
        match self.rest().chars().next() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => Ok(()),
            Some(c) if is_space(c) || self.rest().starts_with("}}") => Ok(()),
            Some(c) => Err(format!("bad character {}", unicode(c))),
        }
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn unicode(c: char) -> String {
    format!("U+{:04X} '{c}'", u32::from(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn trim_markers_take_the_space_around_them() {
        let texts: Vec<_> = tokens("a  {{- .B -}}\n c {{/* no */}}d{{- /* no */ -}} e");
        let texts: Vec<_> =
            texts.iter().filter(|token| token.kind == Kind::Text).map(|token| token.text).collect();
        assert_eq!(texts, ["a", "c ", "d", "e"]);
    }

    #[test]
    fn space_parts_arguments_from_chains() {
        use Kind::{Close, End, Field, Open, Space};
        assert_eq!(kinds("{{.A.B}}"), [Open, Field, Field, Close, End]);
        assert_eq!(kinds("{{.A .B }}"), [Open, Field, Space, Field, Space, Close, End]);
    }

    #[test]
    fn what_does_not_end_is_told_in_go_s_words() {
        for (text, why) in [
            ("{{.A", "unclosed action"),
            ("{{\"a}}", "unterminated quoted string"),
            ("{{(.A}}", "unclosed left paren"),
            ("{{.A!}}", "bad character U+0021 '!'"),
            ("{{/* a", "unclosed comment"),
            ("{{1x}}", "bad number syntax: \"1x\""),
        ] {
            assert_eq!(kinds(text).pop().unwrap(), Kind::Error(why.into()), "{text}");
        }
    }
}
