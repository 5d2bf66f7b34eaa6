//! Which events are wanted: `--filter`, by Docker's rules.

use super::{Event, Kind};
use crate::{cli::Filter, commands::Filters};

/// Actions that say more after a colon, which a filter need not.
const WITH_DETAIL: &[&str] = &["exec_create", "exec_start", "health_status"];

/// Filters of events.
#[derive(Debug)]
pub struct EventFilter(Filters);

impl EventFilter {
    /// Those that nothing is known of are passed over, as in Docker.
    pub fn new(given: &[Filter]) -> Self {
        Self(Filters::any(given))
    }

    /// Whether an event is wanted.
    pub fn fits(&self, event: &Event) -> bool {
        let Self(filters) = self;
        let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
        let name = attribute("name").unwrap_or_default();
        let image = match event.kind {
            Kind::Image => name,
            Kind::Container => attribute("image").unwrap_or_default(),
        };
        let is_image = |wanted: &str| {
            [event.actor.as_str(), image].iter().any(|is| *is == wanted || untagged(is) == wanted)
        };
        let has_label = |label: &str| match label.split_once('=') {
            Some((name, value)) => attribute(name) == Some(value),
            None => attribute(label).is_some(),
        };
        filters.fits("type", |kind| kind == event.kind.word())
            && filters.fits("event", |wanted| is_action(&event.action, wanted))
            && filters.fits("container", |wanted| {
                event.actor.starts_with(wanted) || name.starts_with(wanted)
            })
            && filters.fits("image", is_image)
            && filters.of("label").all(has_label)
    }
}

fn is_action(action: &str, wanted: &str) -> bool {
    let detailed = || action.split_once(':').is_some_and(|(action, _)| action == wanted);
    action == wanted || (WITH_DETAIL.contains(&wanted) && detailed())
}

/// An image's name without its tag.
fn untagged(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(action: &str) -> Event {
        Event::new(Kind::Container, action, "abc123")
            .with("image", "localhost:5000/debian:12")
            .with("name", "web")
            .with("tier", "front")
    }

    fn fits(filters: &[&str], event: &Event) -> bool {
        let filters: Vec<_> = filters.iter().map(|filter| filter.parse().unwrap()).collect();
        EventFilter::new(&filters).fits(event)
    }

    #[test]
    fn events_fit_as_in_docker() {
        let start = container("start");
        for (filters, expected) in [
            (&[][..], true),
            (&["event=start"], true),
            (&["event=stop", "event=start"], true),
            (&["event=stop"], false),
            (&["event=start", "type=image"], false),
            (&["type=container", "type=image"], true),
            (&["container=abc"], true),
            (&["container=web"], true),
            (&["container=eb"], false),
            (&["image=localhost:5000/debian:12"], true),
            (&["image=localhost:5000/debian"], true),
            (&["image=localhost"], false),
            (&["label=tier"], true),
            (&["label=tier=front", "label=image"], true),
            (&["label=tier=front", "label=absent"], false),
        ] {
            assert_eq!(fits(filters, &start), expected, "{filters:?}");
        }
    }

    #[test]
    fn what_follows_a_colon_need_not_be_said() {
        let exec = container("exec_create: sh -c true");
        assert!(fits(&["event=exec_create"], &exec));
        assert!(fits(&["event=exec_create: sh -c true"], &exec));
        assert!(!fits(&["event=exec_die"], &exec) && !fits(&["event=exec"], &exec));
    }

    #[test]
    fn images_go_by_id_and_by_name() {
        let pull = Event::of_image("sha256:1", "debian:12", "pull");
        for wanted in ["image=sha256:1", "image=debian:12", "image=debian"] {
            assert!(fits(&[wanted], &pull), "{wanted}");
        }
        assert!(!fits(&["image=busybox"], &pull));
    }

    #[test]
    fn unknown_filters_are_passed_over() {
        assert!(fits(&["colour=red"], &container("start")));
        assert!(!fits(&["colour=red", "event=stop"], &container("start")));
    }
}
