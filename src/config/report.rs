//! What is wrong with a configuration, in the user's words, and typed access to a JSON object that
//! notes it: the place (a key path), what was expected, what was found.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

/// Characters of a value that an error quotes.
const QUOTED: usize = 60;

/// One thing that is wrong, and where: `PLACE: what`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: String,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "{}", self.what),
            place => write!(f, "{place}: {}", self.what),
        }
    }
}

/// Everything found while a configuration was read.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<Problem>>,
}

impl Report {
    pub(super) fn problem(&self, place: impl Into<String>, what: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            place: place.into(),
            what: what.into(),
        });
    }

    pub(super) fn warning(&self, place: impl Into<String>, what: impl Into<String>) {
        self.warnings.borrow_mut().push(Problem {
            place: place.into(),
            what: what.into(),
        });
    }

    fn expected(&self, place: String, expected: &str, found: &Value) {
        self.problem(
            place,
            format!("expected {expected}, found {}", quote(found)),
        );
    }
}

/// A value as an error shows it: JSON, cut when long.
fn quote(value: &Value) -> String {
    let text = match value {
        Value::Array(_) => return "an array".into(),
        Value::Object(_) => return "an object".into(),
        other => other.to_string(),
    };
    match text.char_indices().nth(QUOTED) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

/// One JSON object of the configuration. Missing, `null` and `""` all mean not configured
/// (docs/architecture.md, D4). It remembers which keys it was asked for: the others are unknown.
pub(super) struct Section<'a> {
    place: String,
    values: &'a Map<String, Value>,
    pub(super) report: &'a Report,
    asked: RefCell<BTreeSet<String>>,
    /// Its values are secrets: errors do not quote them.
    secret: bool,
}

impl<'a> Section<'a> {
    pub(super) fn new(place: &str, values: &'a Map<String, Value>, report: &'a Report) -> Self {
        Section {
            place: place.to_owned(),
            values,
            report,
            asked: RefCell::default(),
            secret: false,
        }
    }

    /// The key path of `key`, for errors.
    pub(super) fn place(&self, key: &str) -> String {
        match self.place.as_str() {
            "" => key.to_owned(),
            place => format!("{place}.{key}"),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.values
            .get(key)
            .filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    /// Whether nothing in it is configured.
    pub(super) fn is_empty(&self) -> bool {
        self.values.keys().all(|key| self.get(key).is_none())
    }

    /// The object itself.
    pub(super) fn values(&self) -> &'a Map<String, Value> {
        self.values
    }

    pub(super) fn problem(&self, key: &str, what: impl Into<String>) {
        self.report.problem(self.place(key), what);
    }

    fn expected<T>(&self, key: &str, expected: &str, found: &Value) -> Option<T> {
        match self.secret {
            false => self.report.expected(self.place(key), expected, found),
            true => self.problem(key, format!("expected {expected}")),
        }
        None
    }

    /// A text of one line.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.parsed(key, "a text of one line", |text| {
            (!text.contains(char::is_control)).then_some(text)
        })
    }

    /// A text of any bytes.
    pub(super) fn any_text(&self, key: &str) -> Option<&'a str> {
        self.parsed(key, "a text", Some)
    }

    /// A text that `parse` understands.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?;
        match value.as_str().and_then(parse) {
            Some(parsed) => Some(parsed),
            None => self.expected(key, expected, value),
        }
    }

    /// A whole number >= 0, as a number or as a text.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.at_least(0, key)
    }

    /// A whole number >= 1, for what would never happen with 0.
    pub(super) fn count(&self, key: &str) -> Option<u64> {
        self.at_least(1, key)
    }

    fn at_least(&self, least: u64, key: &str) -> Option<u64> {
        let value = self.get(key)?;
        let number = value.as_u64();
        let number = number.or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        match number.filter(|number| *number >= least) {
            Some(number) => Some(number),
            None => self.expected(key, &format!("a whole number >= {least}"), value),
        }
    }

    /// A number of that range, as a number.
    pub(super) fn fraction(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<f64>,
        expected: &str,
    ) -> Option<f64> {
        let value = self.get(key)?;
        match value.as_f64().filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => self.expected(key, expected, value),
        }
    }

    /// `true` or `false`; missing is false.
    pub(super) fn flag(&self, key: &str) -> bool {
        match self.get(key) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => self.expected(key, "true or false", other).unwrap_or(false),
        }
    }

    /// Whether `key` says `on` rather than `off`; `default` where it says nothing.
    pub(super) fn choice(&self, key: &str, on: &str, off: &str, default: bool) -> bool {
        self.parsed(key, &format!("{on:?} or {off:?}"), |text| match text {
            text if text == on => Some(true),
            text if text == off => Some(false),
            _ => None,
        })
        .unwrap_or(default)
    }

    /// One text, or an array of them. Empty for what is not configured.
    pub(super) fn lines(&self, key: &str) -> Vec<String> {
        let is_line = |text: &str| !text.is_empty() && !text.contains(char::is_control);
        let lines = |value: &Value| match value {
            Value::String(text) => text
                .split('\n')
                .map(|line| is_line(line).then(|| line.to_owned()))
                .collect(),
            Value::Array(items) => items
                .iter()
                .map(|item| item.as_str().filter(|t| is_line(t)).map(str::to_owned))
                .collect(),
            _ => None,
        };
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        lines(value)
            .or_else(|| self.expected(key, "an array of texts, a line each", value))
            .unwrap_or_default()
    }

    /// The items of an array, each with its place.
    pub(super) fn items(&self, key: &str) -> Vec<(String, &'a Value)> {
        match self.get(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => (items.iter().enumerate())
                .map(|(index, item)| (format!("{}[{index}]", self.place(key)), item))
                .collect(),
            Some(other) => self.expected(key, "an array", other).unwrap_or_default(),
        }
    }

    /// The objects of an array.
    pub(super) fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let items = self.items(key).into_iter();
        items
            .filter_map(|(place, item)| Section::of(place, item, self.report))
            .collect()
    }

    /// The object at `key`.
    pub(super) fn section(&self, key: &str) -> Option<Section<'a>> {
        Section::of(self.place(key), self.get(key)?, self.report)
    }

    /// The object at `key`, whose values errors must not quote.
    pub(super) fn secret_section(&self, key: &str) -> Option<Section<'a>> {
        let value = self.get(key)?;
        let Some(values) = value.as_object() else {
            self.problem(key, "expected an object");
            return None;
        };
        Some(Section {
            secret: true,
            ..Section::new(&self.place(key), values, self.report)
        })
    }

    /// `value` as an object that stands at `place`.
    pub(super) fn of(place: String, value: &'a Value, report: &'a Report) -> Option<Section<'a>> {
        match value.as_object() {
            Some(values) => Some(Section::new(&place, values, report)),
            None => {
                report.expected(place, "an object", value);
                None
            }
        }
    }

    /// The entries of an object whose keys are the user's own, `null` values included.
    pub(super) fn entries(&self, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let values = self.section(key).map(|section| section.values);
        (values.into_iter().flatten()).map(|(name, value)| (name.as_str(), value))
    }

    /// Notes that the entry `name` of the object `key` should be something else.
    pub(super) fn expected_entry(&self, key: &str, name: &str, expected: &str, found: &Value) {
        let place = format!("{}: {name:?}", self.place(key));
        self.report.expected(place, expected, found);
    }

    /// Every key it was asked for, sorted, whether it is there or not.
    pub(super) fn asked(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }

    /// Warns about keys that it was not asked for, with the nearest that it was.
    pub(super) fn warn_unknown(&self) {
        for (key, hint) in self.unknown() {
            let what = format!("unknown key, ignored{hint}");
            self.report.warning(self.place(key), what);
        }
    }

    /// Notes a problem for keys that it was not asked for: a program wrote them, and must be told.
    pub(super) fn refuse_unknown(&self) {
        for (key, hint) in self.unknown() {
            self.problem(key, format!("unknown here{hint}"));
        }
    }

    /// Keys that it was not asked for, with the nearest that it was, if one is near.
    fn unknown(&self) -> Vec<(&'a str, String)> {
        let asked = self.asked.borrow();
        let unknown = self.values.keys().filter(|key| !asked.contains(*key));
        let with_hint = unknown.map(|key| {
            let nearest = (asked.iter().map(|name| (distance(key, name), name)))
                .min()
                .filter(|(distance, name)| *distance <= name.len().div_ceil(3));
            let hint = nearest.map(|(_, name)| format!("; did you mean {name:?}?"));
            (key.as_str(), hint.unwrap_or_default())
        });
        with_hint.collect()
    }
}

/// Levenshtein's distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_edit_distances() {
        for (a, b, edits) in [
            ("", "abc", 3),
            ("hostnme", "hostname", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits);
        }
    }
}
