//! Turns an error of serde into a message for the caller.
//!
//! Answers for: the message names the field as the request does, and describes types in the terms of
//! JSON, not of Rust. Must never repeat any part of a value: it may be a secret in a wrong field.

/// The message for an error of a reader of JSON or of a query. `field` is the path of the field, as
/// far as it is known.
pub(crate) fn in_words(field: &str, error: &str) -> String {
    let error = error.split(" at line ").next().unwrap_or_default();
    if error.contains("surrogate") {
        let what = "holds half of a character (`\\ud800` and the like)";
        return if field.is_empty() || field == "." {
            format!("a text {what}")
        } else {
            format!("{field}: {what}")
        };
    }
    let quoted = |text: &str| {
        let name = text.split('`').nth(1).unwrap_or_default();
        name.chars().take(64).collect::<String>()
    };
    let within = |name: &str| match field {
        "" | "." => name.to_owned(),
        field => format!("{field}.{name}"),
    };
    let at = |what: &str| match field {
        "" | "." => what.to_owned(),
        field => format!("{field}: {what}"),
    };
    if error.starts_with("missing field") {
        return format!("{}: is required", within(&quoted(error)));
    }
    if error.starts_with("duplicate field") {
        return format!("{}: given more than once", within(&quoted(error)));
    }
    if error.starts_with("unknown field") {
        let name = quoted(error);
        // Some readers include the unknown name in the path.
        let place = if field == name || field.ends_with(&format!(".{name}")) {
            field.to_owned()
        } else {
            within(&name)
        };
        let known = error.split_once(", expected ").map_or("", |(_, known)| known);
        let known = known.strip_prefix("one of ").unwrap_or(known);
        return format!("{place}: no such field; there are {known}");
    }
    if let Some((_, known)) = error.split_once(", expected one of ") {
        return at(&format!("must be one of {known}"));
    }
    if let Some((_, what)) = error.rsplit_once("` is not ") {
        return at(&format!("must be {what}"));
    }
    let expected = error.rsplit_once("expected ").map(|(_, expected)| expected);
    at(&format!("must be {}", wanted(expected.unwrap_or(error))))
}

/// What a Rust type accepts, in the terms of JSON.
fn wanted(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255, without a point",
        "u16" => "a whole number from 0 to 65535, without a point",
        "u32" => "a whole number from 0 to 4294967295, without a point",
        "u64" | "usize" => "a whole number, without a point or a sign",
        "i64"
        | "invalid digit found in string"
        | "cannot parse integer from empty string"
        | "number too large to fit in target type" => "a whole number",
        "a boolean" | "provided string was not `true` or `false`" => "true or false",
        "a string" | "a borrowed string" | "a character" => "text in quotes",
        "a sequence" => "a list in square brackets",
        "a map" => "an object in curly brackets",
        known if known.starts_with("struct ") => "an object in curly brackets",
        known if known.starts_with('`') || known.starts_with("64 ") => known,
        // This could contain a value.
        _ => "another kind of value",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_field_and_contains_no_type_and_no_value() {
        for (field, error, words) in [
            (
                "cost",
                "invalid type: floating point `1.0`, expected u64 at line 1 column 9",
                "cost: must be a whole number, without a point or a sign",
            ),
            ("", "missing field `name` at line 1 column 2", "name: is required"),
            ("limits[0]", "missing field `name`", "limits[0].name: is required"),
            (".", "duplicate field `name`", "name: given more than once"),
            (
                "nme",
                "unknown field `nme`, expected one of `name`, `scope`",
                "nme: no such field; there are `name`, `scope`",
            ),
            (
                "limits[0].x",
                "unknown field `x`, expected `name` or `tokens`",
                "limits[0].x: no such field; there are `name` or `tokens`",
            ),
            (
                "scope",
                "unknown variant `s3cret`, expected one of `read`, `write`",
                "scope: must be one of `read`, `write`",
            ),
            (
                "a",
                "invalid type: string \"s3cret\", expected a boolean",
                "a: must be true or false",
            ),
            (
                "period",
                "`s3cret` is not a duration: a whole number and one of ms, s",
                "period: must be a duration: a whole number and one of ms, s",
            ),
            ("limit", "invalid digit found in string", "limit: must be a whole number"),
            (
                "key_id",
                "not a key id: expected `key_` and 12 letters or digits",
                "key_id: must be `key_` and 12 letters or digits",
            ),
            (
                "m",
                "invalid type: sequence, expected a map",
                "m: must be an object in curly brackets",
            ),
            ("x", "s3cret", "x: must be another kind of value"),
            ("x", "invalid value: s3cret, expected s3cret", "x: must be another kind of value"),
        ] {
            assert_eq!(in_words(field, error), words);
            assert!(!in_words(field, error).contains("s3cret"));
        }
    }
}
