//! The metrics that a PromQL query names, and those that a node exposes.
//!
//! Not a parser: it skips strings, label matchers, ranges, numbers and lists of labels; of the
//! remaining words those that are neither functions nor operators are metrics.

use std::collections::BTreeSet;

/// Words before a list of labels.
const BEFORE_LABELS: &[&str] = &["by", "group_left", "group_right", "ignoring", "on", "without"];
/// Words that are neither metrics nor functions.
const OPERATORS: &[&str] = &["and", "atan2", "bool", "inf", "nan", "offset", "or", "unless"];

/// The metrics that a query names.
pub(super) fn metric_names(query: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '"' | '\'' | '`' => after_string(rest, first),
            '{' => after_group(rest, '}'),
            '[' => after_group(rest, ']'),
            '0'..='9' => after_word(rest).1,
            c if is_word(c) => {
                let (word, after) = after_word(rest);
                let next = after.trim_start();
                if BEFORE_LABELS.contains(&word) {
                    if next.starts_with('(') { after_group(next, ')') } else { after }
                } else {
                    let aggregates = ["by", "without"].contains(&after_word(next).0);
                    if !next.starts_with('(') && !aggregates && !OPERATORS.contains(&word) {
                        names.insert(word.to_owned());
                    }
                    after
                }
            }
            other => &rest[other.len_utf8()..],
        };
    }
    names
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.'
}

fn after_word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_word(c)).unwrap_or(text.len()))
}

/// The text after a string that begins here.
fn after_string(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return &text[at + 1..];
        }
        escaped = c == '\\' && !escaped && quote != '`';
    }
    ""
}

/// The text after a bracket that opens here, with strings in between.
fn after_group(text: &str, close: char) -> &str {
    let mut rest = &text[1..];
    while let Some(c) = rest.chars().next() {
        rest = match c {
            '"' | '\'' | '`' => after_string(rest, c),
            c if c == close => return &rest[1..],
            c => &rest[c.len_utf8()..],
        };
    }
    rest
}

/// The names of all series in the exposition text.
pub(super) fn names_in_exposition(text: &str) -> BTreeSet<String> {
    let series = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    series.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

#[test]
fn only_metrics_are_found_in_a_query() {
    let named = |query: &str| metric_names(query).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(
        named(r#"sum by (job, le) (rate(a_total{b="c} or d", e=~".*"}[5m])) / 2e9"#),
        "a_total"
    );
    assert_eq!(
        named("sum(a) without (b) > bool 5 and on (job) group_left () c:d:rate5m"),
        "a c:d:rate5m"
    );
    assert_eq!(named("max by (job) (a) - on (job) group_right () a offset 1d"), "a");
    assert_eq!(named(r#"count_values("x", up) or vector(0)"#), "up");
    assert_eq!(named("predict_linear(free[$__rate_interval], 86400) < time()"), "free");
    let text = "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_sum 3\n";
    let names: Vec<_> = names_in_exposition(text).into_iter().collect();
    assert_eq!(names, ["a_bucket", "a_sum"]);
}
