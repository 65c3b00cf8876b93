//! Converts the fields of a form to requests of the JSON contract.
//!
//! Answers for: everything that the contract checks is checked there, so that an error reads the
//! same everywhere; only spellings specific to forms are parsed here. An error names its field.

use fluxgate_api::keys::{CreateKey, KeyRecord, LimitEntry, LimitSpec, UpdateKey};
use fluxgate_api::{Period, Text, Time};
use fluxgate_types::{ClusterMs, Scope, caps};

pub(crate) const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// An error to show next to its field; `field` is empty if it concerns no single field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldError {
    /// Name of the field.
    pub field: String,
    /// What is wrong, for the reader.
    pub message: String,
}

impl FieldError {
    fn new(field: &str, message: &str) -> Self {
        Self { field: field.to_owned(), message: message.to_owned() }
    }

    /// Extracts the field from an error of the contract, such as `name: must be …`.
    #[must_use]
    pub fn of_message(message: &str) -> Self {
        let known = ["name", "scope", "owner", "limits", "expires_at", "grace"];
        match message.split_once(": ") {
            Some((field, why)) if known.contains(&field) => Self::new(field, why),
            Some(_) | None => Self::new("", message),
        }
    }
}

/// The fields of a form or a query, in order.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Parses `application/x-www-form-urlencoded`; `None` when there are too many fields.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        for (name, value) in form_urlencoded::parse(text) {
            if fields.len() == caps::FORM_FIELDS_MAX {
                return None;
            }
            fields.push((name.into_owned(), value.trim().to_owned()));
        }
        Some(Self(fields))
    }

    /// The first value of a field, trimmed; empty if the field is missing.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The first value of a field, if it is not empty.
    #[must_use]
    pub fn given(&self, name: &str) -> Option<String> {
        Some(self.get(name)).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// One row of limits, as entered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitRow {
    /// The limit's name.
    pub name: String,
    /// Tokens per window.
    pub tokens: String,
    /// Length of a window.
    pub period: String,
}

/// The form of a key, as entered; shown again if it is rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyForm {
    /// Name of the key.
    pub name: String,
    /// What the key may do; empty if nothing is chosen.
    pub scope: String,
    /// Owner of the key.
    pub owner: String,
    /// Limits of the key; rows without tokens are ignored.
    pub limits: Vec<LimitRow>,
    /// `never`, a number of days such as `30d`, `at`, or `keep`.
    pub expiry: String,
    /// For `at`: the time in UTC, as the script writes it.
    pub expires_at: String,
    /// For `at`: the time as entered; read as UTC if the script wrote nothing.
    pub expires_local: String,
    /// The revision of the record that the form was filled from. A form that is shown again keeps
    /// it; otherwise it would silently undo changes that another administrator made meanwhile.
    pub revision: String,
}

/// None: those of the plan.
fn entries(limits: Vec<LimitSpec>) -> Option<Vec<LimitEntry>> {
    (!limits.is_empty()).then(|| limits.into_iter().map(LimitEntry::from).collect())
}

impl KeyForm {
    /// Reads the fields of a submitted form.
    #[must_use]
    pub fn read(fields: &Fields) -> Self {
        let names = fields.all("limit_name");
        let tokens = fields.all("limit_tokens");
        let periods = fields.all("limit_period");
        let rows = names.zip(tokens).zip(periods).map(|((name, tokens), period)| LimitRow {
            name: name.to_owned(),
            tokens: tokens.to_owned(),
            period: period.to_owned(),
        });
        let text = |name| fields.get(name).to_owned();
        Self {
            name: text("name"),
            scope: text("scope"),
            owner: text("owner"),
            limits: rows.take(caps::LIMITS_PER_KEY_MAX + 1).collect(),
            expiry: text("expiry"),
            expires_at: text("expires_at"),
            expires_local: text("expires_local"),
            revision: text("revision"),
        }
    }

    /// The form of a new key.
    #[must_use]
    pub fn empty() -> Self {
        let mut form = Self { expiry: "never".to_owned(), ..Self::default() };
        form.add_row("requests");
        form
    }

    /// The form of an existing key.
    #[must_use]
    pub fn of(record: &KeyRecord) -> Self {
        let row = |limit: &LimitSpec| LimitRow {
            name: limit.name.clone(),
            tokens: limit.tokens.to_string(),
            period: limit.period.to_string(),
        };
        let mut form = Self {
            name: record.name.clone(),
            scope: record.scope.as_str().to_owned(),
            owner: record.owner.clone().unwrap_or_default(),
            limits: record.limits.iter().map(row).collect(),
            expiry: "keep".to_owned(),
            revision: record.revision.to_string(),
            ..Self::default()
        };
        if form.limits.len() < caps::LIMITS_PER_KEY_MAX {
            form.add_row("");
        }
        form
    }

    fn add_row(&mut self, name: &str) {
        let period = "60s".to_owned();
        self.limits.push(LimitRow { name: name.to_owned(), tokens: String::new(), period });
    }

    fn scope(&self) -> Result<Scope, FieldError> {
        let scope = Scope::ALL.into_iter().find(|scope| scope.as_str() == self.scope);
        scope.ok_or_else(|| FieldError::new("scope", "choose what the key may do"))
    }

    fn limits(&self) -> Result<Vec<LimitSpec>, FieldError> {
        let filled = self.limits.iter().filter(|row| !row.tokens.is_empty());
        let spec = |row: &LimitRow| {
            let tokens = number(&row.tokens).ok_or_else(|| {
                FieldError::new("limits", "the number of requests must be a whole number")
            })?;
            let period: Period = row.period.parse().map_err(|_| {
                FieldError::new("limits", "the period must be a duration such as 60s")
            })?;
            let name = if row.name.is_empty() { "requests" } else { &row.name };
            Ok(LimitSpec::new(name, tokens, period))
        };
        filled.map(spec).collect()
    }

    /// `None`: unchanged; `Some(None)`: never.
    fn expires_at(&self, now: ClusterMs) -> Result<Option<Option<Time>>, FieldError> {
        let wrong = |why| FieldError::new("expires_at", why);
        let is_offered = |text: &str| crate::page::EXPIRIES.iter().any(|(value, _)| *value == text);
        let days = |text: &str| text.strip_suffix('d')?.parse::<u64>().ok();
        match self.expiry.as_str() {
            "keep" => Ok(None),
            "never" | "" => Ok(Some(None)),
            "at" => {
                let typed = format!("{}:00Z", self.expires_local);
                let text = if self.expires_at.is_empty() { &typed } else { &self.expires_at };
                let at: Time = text.parse().map_err(|_| wrong("choose a date and a time"))?;
                Ok(Some(Some(at)))
            }
            other => {
                let days = Some(other).filter(|text| is_offered(text)).and_then(days);
                let days = days.ok_or_else(|| wrong("choose when the key expires"))?;
                Ok(Some(Some(Text(now + days.saturating_mul(DAY_MS)))))
            }
        }
    }

    /// The request to create the key.
    ///
    /// # Errors
    /// The first field that cannot be parsed.
    pub fn create(&self, now: ClusterMs) -> Result<CreateKey, FieldError> {
        let limits = self.limits()?;
        Ok(CreateKey {
            name: self.name.clone(),
            scope: self.scope()?,
            owner: Some(self.owner.clone()).filter(|owner| !owner.is_empty()),
            limits: entries(limits),
            plan: None,
            pools: None,
            expires_at: self.expires_at(now)?.flatten(),
            metadata: None,
        })
    }

    /// The request to change an existing key: only the fields that differ from the record.
    ///
    /// # Errors
    /// The first field that cannot be parsed.
    pub fn update(&self, now: ClusterMs, is: &KeyRecord) -> Result<UpdateKey, FieldError> {
        let (scope, mut limits) = (self.scope()?, self.limits()?);
        // The form has no fields for the scopes and the mode of a limit.
        for limit in &mut limits {
            if let Some(known) = is.limits.iter().find(|known| known.name == limit.name) {
                (limit.scopes, limit.mode) = (known.scopes.clone(), known.mode);
            }
        }
        let owner = Some(self.owner.clone()).filter(|owner| !owner.is_empty());
        Ok(UpdateKey {
            // A form trims its fields; surrounding white space alone is not a change.
            name: Some(self.name.clone()).filter(|name| *name != is.name.trim()),
            scope: Some(scope).filter(|scope| *scope != is.scope),
            owner: Some(owner)
                .filter(|owner| owner.as_deref() != is.owner.as_deref().map(str::trim)),
            limits: (limits != is.limits).then(|| entries(limits)),
            plan: None,
            pools: None,
            enabled: None,
            expires_at: self.expires_at(now)?.filter(|at| *at != is.expires_at),
            metadata: None,
        })
    }
}

/// A whole number, with or without thousands separators: "1000", "1 000", "1,000".
fn number(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split(['_', ' ', ',', '\u{a0}', '\u{202f}']).collect();
    let is_digits = |part: &&str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    let (first, rest) = parts.split_first()?;
    let is_grouped = rest.is_empty() || first.len() <= 3 && rest.iter().all(|p| p.len() == 3);
    (is_grouped && parts.iter().all(is_digits)).then(|| parts.concat().parse().ok())?
}

/// Whether two texts look the same on a page, which collapses white space.
#[must_use]
pub fn reads_alike(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> KeyForm {
        KeyForm::read(&Fields::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_form_becomes_a_request_of_the_contract() {
        let asked = form(
            "name=+Caf%C3%A9+1+&scope=write&owner=user_42&limit_name=requests&limit_tokens=1%20000\
             &limit_period=60s&expiry=30d",
        );
        let key = asked.create(ClusterMs(1_000)).unwrap();
        assert_eq!((key.name.as_str(), key.scope), ("Café 1", Scope::Write));
        assert_eq!(key.owner.as_deref(), Some("user_42"));
        assert_eq!(key.limits.unwrap()[0].tokens, Some(1_000));
        assert_eq!(key.expires_at, Some(Text(ClusterMs(1_000 + 30 * DAY_MS))));
    }

    #[test]
    fn empty_fields_mean_the_default() {
        let key = form("name=a&scope=read&limit_name=requests&limit_tokens=&limit_period=60s");
        let key = key.create(ClusterMs(0)).unwrap();
        assert_eq!((key.owner, key.limits, key.expires_at), (None, None, None));
    }

    #[test]
    fn an_error_names_its_field() {
        for (text, field) in [
            ("name=a", "scope"),
            ("name=a&scope=root", "scope"),
            ("name=a&scope=read&limit_name=&limit_tokens=x&limit_period=60s", "limits"),
            ("name=a&scope=read&limit_name=&limit_tokens=1&limit_period=soon", "limits"),
            ("name=a&scope=read&expiry=at", "expires_at"),
            ("name=a&scope=read&expiry=soon", "expires_at"),
            ("name=a&scope=read&expiry=3650000d", "expires_at"),
            ("name=a&scope=read&limit_name=&limit_tokens=1,5&limit_period=60s", "limits"),
        ] {
            let rejected = form(text).create(ClusterMs(0)).unwrap_err();
            assert_eq!(rejected.field, field, "{text}");
        }
        let parsed = FieldError::of_message("name: must be 1 to 100 printable characters");
        assert_eq!((parsed.field.as_str(), parsed.message.starts_with("must be")), ("name", true));
        assert_eq!(FieldError::of_message("no: such field").field, "");
    }

    #[test]
    fn numbers_may_have_thousands_separators_but_no_decimals() {
        for (text, value) in
            [("7", 7), ("1000", 1_000), ("1 000", 1_000), ("12,345,678", 12_345_678)]
        {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for text in ["", ",", "1,5", "1.5", "1,0000", "1000,000", "-1", "+1", "1e3", ",100"] {
            assert_eq!(number(text), None, "{text}");
        }
        assert!(reads_alike("a  b", " a b") && !reads_alike("ab", "a b"));
    }

    #[test]
    fn a_time_is_read_as_entered_or_as_the_script_wrote_it() {
        let at = |text: &str| {
            form(&format!("name=a&scope=read&expiry=at&{text}"))
                .create(ClusterMs(0))
                .unwrap()
                .expires_at
                .unwrap()
                .to_string()
        };
        assert!(at("expires_local=2030-01-02T03%3A04").starts_with("2030-01-02T03:04:00"));
        let both = "expires_local=2030-01-02T03%3A04&expires_at=2030-01-02T02:04:00Z";
        assert!(at(both).starts_with("2030-01-02T02:04:00"));
    }

    #[test]
    fn a_form_with_too_many_fields_is_rejected() {
        assert!(Fields::parse("a=1&".repeat(caps::FORM_FIELDS_MAX).as_bytes()).is_some());
        assert!(Fields::parse("a=1&".repeat(caps::FORM_FIELDS_MAX + 1).as_bytes()).is_none());
    }
}
