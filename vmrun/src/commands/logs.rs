//! `vmrun logs`

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::AsFd,
};

use agent_protocol::Stream;
use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use super::{Host, filters::point_in_time};
use crate::{
    cli::LogsArgs,
    logs::{LogDriver, LogLine, LogReader, Selection, follow},
};

pub fn logs(args: &LogsArgs) -> Result<()> {
    let host = Host::open()?;
    let container = host.containers.find(&args.container)?;
    let config = container.record.log;
    if config.driver == LogDriver::None {
        bail!("configured logging driver does not support reading");
    }
    let selection = Selection {
        tail: args.tail.0,
        since: time(args.since.as_deref(), "since")?,
        until: time(args.until.as_deref(), "until")?,
    };
    let folder = container.folder();
    let reader = LogReader::open(folder, &config, selection)?;
    let mut shown = Shown::new(args)?;
    let show = |line: Option<LogLine<'_>>| match line {
        Some(line) => Ok(shown.line(line)?),
        None => Ok(shown.flush()?),
    };
    let goes_on =
        || -> Result<bool> { Ok(args.follow && host.containers.is_attended(&container)?) };
    match follow(folder, reader, goes_on, show) {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        shown => shown,
    }
}

fn time(given: Option<&str>, name: &str) -> Result<Option<Timestamp>> {
    let parse = |text| point_in_time(text).with_context(|| format!("invalid value for {name:?}"));
    given.map(parse).transpose()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The user's two streams, and what stands before each line.
struct Shown {
    stdout: BufWriter<File>,
    stderr: BufWriter<File>,
    timestamps: bool,
    details: bool,
}

impl Shown {
    fn new(args: &LogsArgs) -> io::Result<Self> {
        let writer = |fd: &dyn AsFd| {
            let file = File::from(fd.as_fd().try_clone_to_owned()?);
            io::Result::Ok(BufWriter::with_capacity(64 << 10, file))
        };
        Ok(Self {
            stdout: writer(&io::stdout())?,
            stderr: writer(&io::stderr())?,
            timestamps: args.timestamps,
            details: args.details,
        })
    }

    fn line(&mut self, line: LogLine<'_>) -> io::Result<()> {
        // In the order in which the container wrote, where both are the same terminal.
        let to = if line.stream == Stream::Stderr {
            self.stdout.flush()?;
            &mut self.stderr
        } else {
            self.stderr.flush()?;
            &mut self.stdout
        };
        if self.timestamps {
            write!(to, "{:.9} ", line.time)?;
        }
        if self.details {
            to.write_all(b" ")?;
        }
        to.write_all(line.bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()?;
        self.stderr.flush()
    }
}
