//! Events as `vmrun events` shows them: Docker's line, JSON, or by a template of the user's.

use anyhow::Result;
use jiff::{
    Timestamp,
    tz::{Offset, TimeZone},
};
use serde_json::{Map, Value, json};

use super::{Event, Kind};
use crate::{
    error::failure,
    template::{Format, Subject, Type},
};

/// How events are shown.
pub enum EventFormat<'a> {
    Line,
    Json,
    Template(Format<'a>),
}

impl<'a> EventFormat<'a> {
    pub fn parse(format: Option<&'a str>) -> Result<Self> {
        match format {
            None | Some("") => Ok(Self::Line),
            Some("json" | "{{json .}}") => Ok(Self::Json),
            Some(template) => match Format::parse(template) {
                Ok(template) => Ok(Self::Template(template)),
                // As in Docker.
                Err(error) => Err(failure(64, format!("Error parsing format: {error}"))),
            },
        }
    }

    /// One event, with the newline.
    pub fn show(&self, event: &Event) -> Result<String> {
        let mut text = match self {
            Self::Line => line(event, &TimeZone::system()),
            Self::Json => json(event).to_string(),
            Self::Template(format) => {
                format.render(&Subject::of(&fields(event), Type::Named("*events.Message")))?
            }
        };
        text.push('\n');
        Ok(text)
    }
}

fn line(event: &Event, zone: &TimeZone) -> String {
    let time = precise(event.time, zone);
    let mut line = format!("{time} {} {} {}", event.kind.word(), event.action, event.actor);
    if !event.attributes.is_empty() {
        let attributes: Vec<_> =
            event.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        line += &format!(" ({})", attributes.join(", "));
    }
    // Names and labels may be anybody's.
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// With all nine digits, in a time zone.
fn precise(time: Timestamp, zone: &TimeZone) -> String {
    let zoned = time.to_zoned(zone.clone());
    let offset = if zoned.offset() == Offset::UTC { "Z" } else { "%:z" };
    zoned.strftime(&format!("%Y-%m-%dT%H:%M:%S.%9f{offset}")).to_string()
}

/// The names of Docker's API.
fn json(event: &Event) -> Value {
    let mut value = Map::new();
    value.insert("status".into(), event.action.as_str().into());
    value.insert("id".into(), event.actor.as_str().into());
    if let (Kind::Container, Some(image)) = (event.kind, event.attributes.get("image")) {
        value.insert("from".into(), image.as_str().into());
    }
    value.insert("Type".into(), event.kind.word().into());
    value.insert("Action".into(), event.action.as_str().into());
    value.insert("Actor".into(), json!({ "ID": event.actor, "Attributes": event.attributes }));
    value.insert("scope".into(), "local".into());
    value.insert("time".into(), event.time.as_second().into());
    value.insert("timeNano".into(), nanoseconds(event).into());
    value.into()
}

/// The names that a template has.
fn fields(event: &Event) -> Value {
    json!({
        "Status": event.action,
        "ID": event.actor,
        "From": event.attributes.get("image").map(String::as_str).unwrap_or_default(),
        "Type": event.kind.word(),
        "Action": event.action,
        "Actor": { "ID": event.actor, "Attributes": event.attributes },
        "Scope": "local",
        "Time": event.time.as_second(),
        "TimeNano": nanoseconds(event),
    })
}

fn nanoseconds(event: &Event) -> i64 {
    event.time.as_nanosecond().try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn die() -> Event {
        let event = Event::new(Kind::Container, "die", "abc123");
        let event = event.with("name", "web").with("image", "debian:12").with("exitCode", 137);
        Event { time: "2026-01-02T03:04:05.0000067Z".parse().unwrap(), ..event }
    }

    fn show(format: Option<&str>) -> String {
        EventFormat::parse(format).unwrap().show(&die()).unwrap()
    }

    #[test]
    fn line_is_docker_s() {
        assert_eq!(
            line(&die(), &TimeZone::UTC),
            "2026-01-02T03:04:05.000006700Z container die abc123 \
             (exitCode=137, image=debian:12, name=web)"
        );
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert!(line(&die(), &zone).starts_with("2026-01-02T05:04:05.000006700+02:00 container "));
        let bare = Event { attributes: Default::default(), ..die() };
        assert!(line(&bare, &TimeZone::UTC).ends_with("Z container die abc123"));
    }

    #[test]
    fn json_has_the_names_of_docker_s_api() {
        let expected = "{\"status\":\"die\",\"id\":\"abc123\",\"from\":\"debian:12\",\
            \"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"abc123\",\"Attributes\":\
            {\"exitCode\":\"137\",\"image\":\"debian:12\",\"name\":\"web\"}},\"scope\":\"local\",\
            \"time\":1767323045,\"timeNano\":1767323045000006700}\n";
        assert_eq!(show(Some("json")), expected);
        assert_eq!(show(Some("{{json .}}")), expected);
    }

    #[test]
    fn templates_name_the_fields_of_docker_s_structs() {
        let template = "{{.Type}} {{.Action}} {{.ID}} {{.Actor.Attributes.exitCode}} \
                        {{.Actor.Attributes.absent}} {{.TimeNano}}";
        let expected = "container die abc123 137 <no value> 1767323045000006700\n";
        assert_eq!(show(Some(template)), expected);
        assert!(EventFormat::parse(Some("{{")).is_err());
    }

    #[test]
    fn terminal_escapes_do_not_reach_the_terminal() {
        let event = die().with("label", "\x1b[2J");
        assert!(!line(&event, &TimeZone::UTC).contains('\x1b'));
    }
}
