//! Lists of things: as Docker's table, as JSON, or by a Go template of the user's.
//!
//! Each thing is a JSON object whose fields are those that a template may name; all of them are
//! strings, as in Docker.

use std::{collections::BTreeMap, env, fs, sync::OnceLock};

use anyhow::{Result, anyhow};
use jiff::tz::TimeZone;
use serde_json::Value;

use super::table;
use crate::template::{Format, Subject, TemplateError, Type};

/// Stands before a template whose cells are to be lined up under headers.
const TABLE: &str = "table";

/// Seconds from 1970 to the first of January of the year 1.
const GO_ZERO: i64 = -62_135_596_800;

/// What a list shows.
pub struct Listing {
    /// Header and field of each column, where no template says otherwise.
    pub columns: Vec<(&'static str, &'static str)>,
    /// Header and field of those that only a template names.
    pub hidden: &'static [(&'static str, &'static str)],
    pub rows: Vec<Value>,
    /// Go's name of what a row is, as messages have it.
    pub of: &'static str,
    /// The labels of each row, for `.Label "name"`; of things without any, none at all.
    pub labels: Vec<BTreeMap<String, String>>,
}

impl Listing {
    /// Lays the list out by `--format`.
    pub fn show(&self, format: Option<&str>) -> Result<String> {
        match format.unwrap_or(TABLE) {
            TABLE => {
                let mut lines = vec![self.headers()];
                lines.extend(self.rows.iter().map(|row| self.cells(row)));
                Ok(table::layout(&lines))
            }
            "json" => Ok(self.rows.iter().map(|row| format!("{row}\n")).collect()),
            template => match template.strip_prefix(TABLE) {
                Some(template) => self.columns_by(template),
                None => self.lines_by(template),
            },
        }
    }

    fn headers(&self) -> Vec<String> {
        self.columns.iter().map(|(header, _)| (*header).to_owned()).collect()
    }

    fn cells(&self, row: &Value) -> Vec<String> {
        let cell = |field: &str| row.get(field).and_then(Value::as_str).unwrap_or_default();
        self.columns.iter().map(|(_, field)| cell(field).to_owned()).collect()
    }

    fn lines_by(&self, template: &str) -> Result<String> {
        let template = unescape(template);
        let format = Format::parse(&template).map_err(wrong)?;
        let lines = (0..self.rows.len()).map(|at| Ok(self.line(&format, at)? + "\n"));
        lines.collect()
    }

    fn line(&self, format: &Format, at: usize) -> Result<String> {
        let labels = self.labels.get(at);
        let label =
            |name: &str| labels.and_then(|labels| labels.get(name)).cloned().unwrap_or_default();
        let subject = Subject {
            label: labels.map(|_| &label as &dyn Fn(&str) -> String),
            ..Subject::of(&self.rows[at], Type::Named(self.of))
        };
        format.render(&subject).map_err(wrong)
    }

    /// A table whose cells are what tabs part; its headers come of the same template.
    fn columns_by(&self, template: &str) -> Result<String> {
        let template = unescape(template);
        let format = Format::parse(template.trim_start()).map_err(wrong)?;
        let known = self.columns.iter().chain(self.hidden);
        let headers =
            known.map(|(header, field)| ((*field).to_owned(), (*header).into())).collect();
        let headers = Value::Object(headers);
        let subject = Subject {
            label: (!self.labels.is_empty()).then_some(&label_header),
            headers: true,
            ..Subject::of(&headers, Type::Named(self.of))
        };
        let mut lines = Vec::new();
        let rows = (0..self.rows.len()).map(|at| self.line(&format, at));
        for text in std::iter::once(format.render(&subject).map_err(wrong)).chain(rows) {
            let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
            lines.extend(text?.split('\n').map(cells));
        }
        Ok(table::layout(&lines))
    }
}

fn wrong(error: TemplateError) -> anyhow::Error {
    anyhow!("template parsing error: {error}")
}

/// The header over a label: the last part of its name.
fn label_header(name: &str) -> String {
    name.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ")
}

/// Shells do not turn `\t` into a tab between quotes.
fn unescape(template: &str) -> String {
    template.replace("\\t", "\t").replace("\\n", "\n")
}

/// Go's zero time stands for none.
pub fn told(at: Option<jiff::Timestamp>) -> Option<jiff::Timestamp> {
    at.filter(|at| at.as_second() > GO_ZERO)
}

/// How long ago, as in the CREATED column.
pub fn since(at: Option<jiff::Timestamp>) -> String {
    told(at).map_or_else(|| "N/A".to_owned(), |at| format!("{} ago", crate::container::ago(at)))
}

/// A point in time as Go prints one, in this host's time zone.
pub fn go_time(at: jiff::Timestamp) -> String {
    at.to_zoned(time_zone()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// This host's time zone. To find out its name too, which nobody asks for, would take longer than all
/// else that a list does: for that the folder of all time zones is read.
pub fn time_zone() -> TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    let unnamed = || {
        let file = env::var_os("TZ").is_none().then(|| fs::read("/etc/localtime"))?;
        TimeZone::tzif("", &file.ok()?).ok()
    };
    ZONE.get_or_init(|| unnamed().unwrap_or_else(TimeZone::system)).clone()
}

/// Cuts a text that is longer, ending it with an ellipsis.
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listing() -> Listing {
        Listing {
            columns: vec![("IMAGE ID", "ID"), ("TAG", "Tag")],
            hidden: &[("SIZE", "Size")],
            rows: vec![json!({ "ID": "1", "Tag": "a", "Size": "5B" })],
            of: "*formatter.imageContext",
            labels: vec![BTreeMap::from([("org.my-tier".to_owned(), "front".to_owned())])],
        }
    }

    #[test]
    fn a_list_is_a_table_json_or_what_a_template_says() {
        for (format, expected) in [
            (None, "IMAGE ID   TAG\n1          a\n"),
            (Some("table"), "IMAGE ID   TAG\n1          a\n"),
            (Some("json"), "{\"ID\":\"1\",\"Tag\":\"a\",\"Size\":\"5B\"}\n"),
            (Some("{{.Tag}}"), "a\n"),
            (Some("table {{.ID}}\\t{{.Size}}"), "IMAGE ID   SIZE\n1          5B\n"),
            (Some("table{{.Tag}}"), "TAG\na\n"),
            (Some("{{.ID}}\\n{{.Tag}}"), "1\na\n"),
            (Some("{{.Label \"org.my-tier\"}}{{.Label \"absent\"}}"), "front\n"),
            (
                Some("table {{upper .Tag}}\\t{{.Label \"org.my-tier\"}}"),
                "TAG       my tier\nA         front\n",
            ),
        ] {
            assert_eq!(listing().show(format).unwrap(), expected, "{format:?}");
        }
        assert_eq!(
            listing().show(Some("{{.Absent}}")).unwrap_err().to_string(),
            "template parsing error: template: :1:2: executing \"\" at <.Absent>: \
             can't evaluate field Absent in type *formatter.imageContext"
        );
    }

    #[test]
    fn times_are_those_of_the_host() {
        let at = jiff::Timestamp::from_second(1_700_000_000).unwrap();
        let system = at.to_zoned(TimeZone::system());
        assert_eq!(go_time(at), system.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string());
    }

    #[test]
    fn long_texts_end_with_an_ellipsis() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdefg", 6), "abcde…");
    }
}
