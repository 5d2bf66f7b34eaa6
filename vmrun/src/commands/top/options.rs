//! The options of `ps` that `vmrun top` takes: the usual ones. All processes of the container are
//! meant by any of them.

use anyhow::{Result, bail};

use super::columns::{self, Column};

/// `ps -ef`, Docker's default.
const FULL: &str = "user,pid,ppid,c,stime,tty,time,cmd";
/// `ps aux`
const USERS: &str = "user,pid,pcpu,pmem,vsz,rss,tty,stat,bsdstart,bsdtime,command";
/// `ps -e`
const SHORT: &str = "pid,tty,time,cmd";
/// `ps ax`
const BSD: &str = "pid,tty,stat,bsdtime,command";

/// A column under its header.
pub struct Shown {
    pub header: String,
    pub column: &'static Column,
}

/// Which columns are asked for.
pub fn parse(words: &[String]) -> Result<Vec<Shown>> {
    let mut chosen = Vec::new();
    let mut names = None;
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        // As `ps` has it: there is no user x.
        let unix = word.starts_with('-') && word != "-aux";
        let letters = word.strip_prefix('-').unwrap_or(word);
        let mut default = if unix { SHORT } else { BSD };
        for (at, letter) in letters.char_indices() {
            match letter {
                'a' | 'x' | 'w' => {}
                'e' | 'A' if unix => {}
                'f' if unix => default = FULL,
                'u' if !unix => default = USERS,
                'o' => {
                    let rest = letters.get(at + 1..).filter(|rest| !rest.is_empty());
                    let Some(list) = rest.or_else(|| words.next()) else {
                        bail!("ps: error: format specification must follow -o");
                    };
                    own(list, &mut chosen)?;
                    break;
                }
                _ => bail!(
                    "ps option '{word}' is not supported; there are: -e, -f, -ef, -o COLUMNS, aux"
                ),
            }
        }
        if names != Some(FULL) {
            names = Some(default);
        }
    }
    if chosen.is_empty() {
        let names = names.unwrap_or(FULL);
        let shown = |column: &'static Column| Shown { header: column.header.into(), column };
        chosen.extend(columns::known(names).into_iter().map(shown));
        if let (FULL, Some(user)) = (names, chosen.first_mut()) {
            user.header = "UID".into();
        }
    }
    if !chosen.iter().any(|shown| shown.header == "PID") {
        bail!("Couldn't find PID field in ps output");
    }
    Ok(chosen)
}

/// Columns by name: `pid,cmd` or `pid=NUMBER`, where the header is the rest of the word.
fn own(list: &str, chosen: &mut Vec<Shown>) -> Result<()> {
    let (names, own_header) = match list.split_once('=') {
        Some((names, header)) => (names, Some(header)),
        None => (list, None),
    };
    for name in names.split([',', ' ']).filter(|name| !name.is_empty()) {
        let Some(column) = columns::find(name) else {
            bail!("ps: error: unknown user-defined format specifier {name:?}");
        };
        chosen.push(Shown { header: column.header.into(), column });
    }
    if let (Some(header), Some(last)) = (own_header, chosen.last_mut()) {
        last.header = header.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(words: &[&str]) -> String {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        match parse(&words) {
            Ok(shown) => {
                let headers: Vec<_> = shown.into_iter().map(|shown| shown.header).collect();
                headers.join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn usual_options_give_the_usual_columns() {
        let full = "UID PID PPID C STIME TTY TIME CMD";
        let users = "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND";
        for (words, expected) in [
            (&[][..], full),
            (&["-ef"], full),
            (&["-e", "-f"], full),
            (&["-f"], full),
            (&["aux"], users),
            (&["-aux"], users),
            (&["auxww"], users),
            (&["-e"], "PID TTY TIME CMD"),
            (&["ax"], "PID TTY STAT TIME COMMAND"),
            (&["-o", "pid,comm"], "PID COMMAND"),
            (&["-eo", "pid,user,args"], "PID USER COMMAND"),
            (&["-opid,rss", "-o", "ni"], "PID RSS NI"),
            (&["o", "pid ppid=MOTHER"], "PID MOTHER"),
        ] {
            assert_eq!(headers(words), expected, "{words:?}");
        }
    }

    #[test]
    fn what_there_is_not_is_refused() {
        for (words, words_of_error) in [
            (&["--forest"][..], "ps option '--forest' is not supported"),
            (&["-efL"], "ps option '-efL' is not supported"),
            (&["-o"], "ps: error: format specification must follow -o"),
            (&["-o", "pid,colour"], "ps: error: unknown user-defined format specifier \"colour\""),
            (&["-o", "user,cmd"], "Couldn't find PID field in ps output"),
        ] {
            let error = headers(words);
            assert!(error.starts_with(words_of_error), "{words:?}: {error}");
        }
    }
}
