//! `vmrun events`

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use super::{Host, filters::point_in_time, print};
use crate::{
    cli::EventsArgs,
    events::{self, EventFilter, EventFormat},
    journal::Watch,
};

/// How long to wait at most for what is told of anyway.
const LOOK: Duration = Duration::from_secs(60);

pub fn events(args: &EventsArgs) -> Result<()> {
    let since = args.since.as_deref().map(point_in_time).transpose()?;
    let until = args.until.as_deref().map(point_in_time).transpose()?;
    let filter = EventFilter::new(&args.filter);
    let format = EventFormat::parse(args.output.format())?;
    let paths = Host::open()?.paths;
    let mut watch = Watch::new([paths.data().to_owned(), events::folder(&paths)]);
    let mut reader = if since.is_some() { events::past(&paths) } else { events::coming(&paths)? };
    loop {
        let now = Timestamp::now();
        while let Some(event) = reader.next()? {
            let in_time = since.is_none_or(|since| event.time >= since)
                && until.is_none_or(|until| event.time <= until);
            if in_time && filter.fits(&event) {
                print(&format.show(&event)?)?;
            }
        }
        let left = match until {
            Some(until) if until <= now => return Ok(()),
            Some(until) => until.duration_since(now).try_into().unwrap_or(LOOK),
            None => LOOK,
        };
        watch.wait(LOOK.min(left))?;
    }
}
