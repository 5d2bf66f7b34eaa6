//! Where the options of `run` and `create` end. As in Docker, everything behind the image is the
//! command's, also what looks like an option: `vmrun run python -m http.server`.

use std::ffi::OsString;

use clap::{Arg, Args, Command};

use super::RunArgs;

/// Says so on the line, with `--` behind the image.
pub fn end_options(arguments: &mut Vec<OsString>) {
    let word = |at: usize| arguments.get(at).and_then(|word| word.to_str());
    let start = if word(1) == Some("container") { 2 } else { 1 };
    if !matches!(word(start), Some("run" | "create")) {
        return;
    }
    let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
    let mut pairs = arguments.windows(2).skip(start + 1);
    // Most lines need not be looked at any closer: behind their image comes no such word.
    if !pairs.any(|pair| !is_option(&pair[0]) && is_option(&pair[1])) {
        return;
    }
    if let Some(image) = first_word(arguments, start + 1) {
        arguments.insert(image + 1, "--".into());
    }
}

/// The first word from `at` on that is no option and no option's value. `None` where there is none, or
/// the options end before it anyway, or are not known.
fn first_word(arguments: &[OsString], mut at: usize) -> Option<usize> {
    let options = RunArgs::augment_args(Command::new("run"));
    loop {
        // A name that is not UTF-8 is no option's.
        let Some(word) = arguments.get(at)?.to_str() else { return Some(at) };
        let has_value_behind = match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(""), _) => return None,
            (Some(long), _) if long.contains('=') => false,
            (Some(long), _) => takes_value(options.get_arguments().find(|it| is_long(it, long))?),
            (None, Some(letters)) if !letters.is_empty() => ends_in_value(&options, letters)?,
            _ => return Some(at),
        };
        at += if has_value_behind { 2 } else { 1 };
    }
}

/// Whether the last of these letters has its value in the next word; what is behind a letter that takes
/// one is it.
fn ends_in_value(options: &Command, letters: &str) -> Option<bool> {
    for (at, letter) in letters.char_indices() {
        if letter == '=' {
            return Some(false);
        }
        let option = options.get_arguments().find(|option| option.get_short() == Some(letter))?;
        if takes_value(option) {
            return Some(at + letter.len_utf8() == letters.len());
        }
    }
    Some(false)
}

fn is_long(option: &Arg, name: &str) -> bool {
    let aliases = option.get_all_aliases().unwrap_or_default();
    option.get_long() == Some(name) || aliases.contains(&name)
}

fn takes_value(option: &Arg) -> bool {
    let may_have_none = option.get_num_args().is_some_and(|range| range.min_values() == 0);
    option.get_action().takes_values() && !may_have_none
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Action, Cli};

    fn ended(line: &str) -> String {
        let mut words: Vec<OsString> = line.split(' ').map(Into::into).collect();
        end_options(&mut words);
        words.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn options_end_behind_the_image() {
        for (line, expected) in [
            ("vmrun run python -m http.server", "vmrun run python -- -m http.server"),
            ("vmrun run -it --name a img -i", "vmrun run -it --name a img -- -i"),
            ("vmrun create -m 1g --rm=true i -e x", "vmrun create -m 1g --rm=true i -- -e x"),
            ("vmrun container run -dm1g img --rm", "vmrun container run -dm1g img -- --rm"),
            ("vmrun run --net none -vx:y img -v", "vmrun run --net none -vx:y img -- -v"),
            ("vmrun run --help", "vmrun run --help"),
            ("vmrun run -it=false img -x", "vmrun run -it=false img -- -x"),
            ("vmrun run --name -it img", "vmrun run --name -it img"),
            ("vmrun run --name x -it img ls", "vmrun run --name x -it img -- ls"),
            ("vmrun run img -- x", "vmrun run img -- -- x"),
            ("vmrun run -- img -x", "vmrun run -- img -x"),
            ("vmrun run --nosuch img -x", "vmrun run --nosuch img -x"),
            ("vmrun run --name", "vmrun run --name"),
            ("vmrun ps -a", "vmrun ps -a"),
        ] {
            assert_eq!(ended(line), expected);
        }
    }

    #[test]
    fn what_is_behind_the_image_is_the_command() {
        let line = ended("vmrun run --rm python -m http.server -e --name");
        let Action::Run(args) = Cli::try_parse_from(line.split(' ')).unwrap().action else {
            unreachable!()
        };
        let container = args.into_inner().container;
        assert_eq!(container.image, "python");
        assert_eq!(container.command, ["-m", "http.server", "-e", "--name"]);
        assert_eq!((container.memory, container.name), (None, None));
    }
}
