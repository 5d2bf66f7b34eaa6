//! `vmrun diff`: what a container has changed in its files, running or not. The guest says it, and may
//! say anything: lines go out as they come, and are fit for a terminal.

use std::io::{self, BufReader, BufWriter, Read, Write};

use agent_protocol::{Change, ChangeKind, Task, read_frame};
use anyhow::{Context, Result};
use tar_stream::tree::show;

use super::Host;
use crate::{cli::DiffArgs, client::Session};

pub fn diff(args: &DiffArgs) -> Result<()> {
    let host = Host::open()?;
    let container = host.containers.find(&args.container)?;
    let session = Session::with_files(&host.paths, &host.containers, &container)?;
    let changes = session.read(Task::Changes)?;
    list(changes, &mut BufWriter::new(io::stdout().lock()))
}

fn list(changes: impl Read, out: &mut dyn Write) -> Result<()> {
    let mut changes = BufReader::new(changes);
    let understood = "the guest's answer cannot be understood";
    while let Some(change) = read_frame::<Change>(&mut changes).context(understood)? {
        let kind = match change.kind {
            ChangeKind::Changed => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        match writeln!(out, "{kind} {}", show(&change.path)) {
            // The reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use agent_protocol::encode;

    use super::*;

    fn listed(changes: &[(ChangeKind, &[u8])]) -> String {
        let frame = |(kind, path): &(ChangeKind, &[u8])| {
            encode(&Change { kind: *kind, path: path.to_vec() }).unwrap()
        };
        let wire: Vec<u8> = changes.iter().flat_map(frame).collect();
        let mut out = Vec::new();
        list(&wire[..], &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn changes_are_lines_of_kind_and_path() {
        let changes: [(_, &[u8]); 3] = [
            (ChangeKind::Changed, b"/etc"),
            (ChangeKind::Added, "/etc/ä b".as_bytes()),
            (ChangeKind::Deleted, b"/x"),
        ];
        assert_eq!(listed(&changes), "C /etc\nA /etc/ä b\nD /x\n");
    }

    #[test]
    fn row30_names_do_not_move_the_cursor() {
        assert_eq!(
            listed(&[(ChangeKind::Added, b"/\x1b[2J\n/y\xff")]),
            "A /\\u{1b}[2J\\n/y\u{fffd}\n"
        );
    }

    #[test]
    fn row28_an_answer_that_is_cut_off_is_an_error() {
        let whole = encode(&Change { kind: ChangeKind::Added, path: b"/x".to_vec() }).unwrap();
        assert!(list(&whole[..whole.len() - 1], &mut Vec::new()).is_err());
        assert!(list(&[0xff; 8][..], &mut Vec::new()).is_err());
    }
}
