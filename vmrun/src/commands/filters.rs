//! `--filter NAME=VALUE`, as lists and prunings have it. Several of one name: any of them; of
//! different names: all of them.

use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use image_store::{ImageSummary, Reference, Store};
use jiff::{Timestamp, civil};
use serde_json::Value;

use super::listing::time_zone;
use crate::cli::Filter;

/// Filters, checked to be of known names.
#[derive(Debug)]
pub struct Filters(Vec<Filter>);

impl Filters {
    pub fn parse(given: &[Filter], known: &[&str]) -> Result<Self> {
        match given.iter().find(|filter| !known.contains(&filter.name.as_str())) {
            Some(unknown) => bail!("Invalid filter '{}'", unknown.name),
            None => Ok(Self::any(given)),
        }
    }

    /// Filters of whatever names.
    pub fn any(given: &[Filter]) -> Self {
        Self(given.to_vec())
    }

    /// The values given for a filter.
    pub fn of(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |filter| filter.name == name).map(|filter| filter.value.as_str())
    }

    /// Whether a filter was not given or one of its values fits.
    pub fn fits(&self, name: &str, mut fits: impl FnMut(&str) -> bool) -> bool {
        let mut values = self.of(name).peekable();
        values.peek().is_none() || values.any(&mut fits)
    }

    /// The latest time of all given for a filter.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>> {
        let times = self.of(name).map(point_in_time).collect::<Result<Vec<_>>>()?;
        Ok(times.into_iter().max())
    }
}

/// A point in time as Docker reads it: RFC 3339 or a part of it, seconds since 1970, or how long
/// ago.
pub fn point_in_time(text: &str) -> Result<Timestamp> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let local =
        text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(Into::into));
    if let Ok(local) = local {
        return Ok(local.to_zoned(time_zone())?.timestamp());
    }
    if let Some(at) = since_1970(text) {
        return Ok(at);
    }
    let ago =
        humantime::parse_duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    let ago =
        ago.with_context(|| format!("failed to parse value as time or duration: {text:?}"))?;
    Ok(Timestamp::try_from(ago)?)
}

/// Seconds, with up to nine digits of a fraction.
fn since_1970(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanoseconds).ok()
}

/// Filters of images.
pub struct ImageFilter<'a> {
    store: &'a Store,
    filters: Filters,
    dangling: Option<bool>,
    references: Vec<glob::Pattern>,
    before: Vec<Timestamp>,
    since: Vec<Timestamp>,
    until: Option<Timestamp>,
}

impl<'a> ImageFilter<'a> {
    /// Of those names that `known` lists; `reference` is one more pattern.
    pub fn parse(
        store: &'a Store,
        given: &[Filter],
        known: &[&str],
        reference: Option<&str>,
    ) -> Result<Self> {
        let filters = Filters::parse(given, known)?;
        let dangling = match filters.of("dangling").last() {
            None => None,
            Some("true" | "1") => Some(true),
            Some("false" | "0") => Some(false),
            Some(other) => bail!("Invalid filter 'dangling={other}'"),
        };
        let pattern = |text: &str| {
            glob::Pattern::new(text).with_context(|| format!("invalid reference pattern '{text}'"))
        };
        let references =
            filters.of("reference").chain(reference).map(pattern).collect::<Result<_>>()?;
        let created = |name: &str| -> Result<Vec<Timestamp>> {
            let images = filters.of(name).map(|image| {
                Ok(store.details(image)?.summary.created.unwrap_or(Timestamp::UNIX_EPOCH))
            });
            images.collect()
        };
        let (before, since, until) =
            (created("before")?, created("since")?, filters.time("until")?);
        Ok(Self { store, dangling, references, before, since, until, filters })
    }

    /// Whether an image is wanted, its names apart.
    pub fn fits(&self, image: &ImageSummary) -> Result<bool> {
        let created = image.created.unwrap_or(Timestamp::UNIX_EPOCH);
        let is_dangling = image.names.is_empty() && image.digests.is_empty();
        let fits = self.dangling.is_none_or(|wanted| wanted == is_dangling)
            && (self.before.is_empty() || self.before.iter().any(|before| created < *before))
            && (self.since.is_empty() || self.since.iter().any(|since| created > *since))
            && self.until.is_none_or(|until| created < until);
        Ok(fits && self.fits_labels(image)?)
    }

    /// Whether a name is wanted.
    pub fn fits_name(&self, name: &Reference) -> bool {
        let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
        let texts = [name.familiar(), name.familiar_repository()];
        let fits =
            |pattern: &glob::Pattern| texts.iter().any(|text| pattern.matches_with(text, options));
        self.references.is_empty() || self.references.iter().any(fits)
    }

    /// Whether only images with certain names are wanted.
    pub fn wants_names(&self) -> bool {
        !self.references.is_empty()
    }

    /// All labels that are asked for, and none of those that are asked against.
    fn fits_labels(&self, image: &ImageSummary) -> Result<bool> {
        let wanted = |name| self.filters.of(name).next().is_some();
        if !wanted("label") && !wanted("label!") {
            return Ok(true);
        }
        let config = self.store.image_config(&image.id)?;
        let labels = &config["config"]["Labels"];
        Ok(self.filters.of("label").all(|label| has_label(labels, label))
            && !self.filters.of("label!").any(|label| has_label(labels, label)))
    }
}

fn has_label(labels: &Value, label: &str) -> bool {
    match label.split_once('=') {
        Some((name, value)) => labels.get(name).and_then(Value::as_str) == Some(value),
        None => labels.get(label).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_unknown_names_are_refused() {
        let parse = |filter: &str| -> Result<Filters> {
            Filters::parse(&[filter.parse::<Filter>()?], &["label", "name"])
        };
        assert_eq!(parse("Name = a=b").unwrap().of("name").collect::<Vec<_>>(), ["a=b"]);
        for wrong in ["name", "other=1", "=1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn any_value_of_a_name_fits() {
        let given = ["name=a", "name=b"].map(|filter| filter.parse().unwrap());
        let filters = Filters::parse(&given, &["name", "id"]).unwrap();
        assert!(filters.fits("name", |value| value == "b") && filters.fits("id", |_| false));
        assert!(!filters.fits("name", |value| value == "c"));
    }

    #[test]
    fn times_are_points_or_how_long_ago() {
        let at = |text| point_in_time(text).unwrap();
        assert_eq!(at("2026-01-02T03:04:05Z"), at("1767323045"));
        let hour = Timestamp::now().duration_since(at("1h0m")).as_secs();
        assert!((3599..=3601).contains(&hour), "{hour}");
        assert!(at("2026-01-02") < at("2026-01-03T00:00:00"));
        assert_eq!(at("2026-01-02T03:04"), at("2026-01-02T03:04:00"));
        assert_eq!(at("2026-01-02T03"), at("2026-01-02T03:00:00"));
        assert_eq!(at("1767323045.000000001").as_nanosecond() % 1_000, 1);
        assert_eq!(at("1767323045.5").subsec_millisecond(), 500);
        assert!(point_in_time("soon").is_err());
    }

    #[test]
    fn labels_are_there_or_have_a_value() {
        let labels = serde_json::json!({ "a": "1", "b": "" });
        assert!(has_label(&labels, "a") && has_label(&labels, "a=1") && has_label(&labels, "b"));
        assert!(!has_label(&labels, "a=2") && !has_label(&Value::Null, "a"));
    }
}
