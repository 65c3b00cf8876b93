//! The audit trail as a file: JSON lines for programs, CSV for spreadsheets.
//!
//! Answers for: no cell is a formula to a spreadsheet, whatever a key's name contains.

use fluxgate_api::usage::AuditEntry;

/// The formats of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    JsonLines,
    /// Comma-separated values (RFC 4180) with a header line.
    Csv,
}

impl Format {
    /// The format with this name in a URL.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "jsonl" => Some(Self::JsonLines),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// The media type for `Content-Type`.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    /// The name of the downloaded file.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::JsonLines => "fluxgate-audit.jsonl",
            Self::Csv => "fluxgate-audit.csv",
        }
    }

    /// The text before the first entry.
    #[must_use]
    pub const fn head(self) -> &'static str {
        match self {
            Self::JsonLines => "",
            Self::Csv => "seq,at,action,key_id,actor,from,details\r\n",
        }
    }

    /// One entry as a line.
    #[must_use]
    pub fn line(self, entry: &AuditEntry) -> String {
        match self {
            Self::JsonLines => {
                let mut line = serde_json::to_string(entry).unwrap_or_default();
                line.push('\n');
                line
            }
            Self::Csv => {
                let details: Vec<&str> = entry.details.values().map(String::as_str).collect();
                let cells = [
                    entry.seq.to_string(),
                    entry.at.to_string(),
                    entry.action.clone(),
                    entry.key_id.map(|id| id.to_string()).unwrap_or_default(),
                    entry.actor.clone(),
                    entry.from.clone().unwrap_or_default(),
                    details.join("; "),
                ];
                let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
                cells.join(",") + "\r\n"
            }
        }
    }
}

/// A quoted cell. A cell that a spreadsheet would evaluate gets a leading apostrophe, so that it is
/// shown as text.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let guard = if is_formula { "'" } else { "" };
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use fluxgate_api::Text;
    use fluxgate_types::ClusterMs;

    use super::*;

    #[test]
    fn cells_are_never_formulas_and_quotes_are_escaped() {
        for (cell, text) in [
            ("plain", r#""plain""#),
            ("=1+1", r#""'=1+1""#),
            ("+1", r#""'+1""#),
            ("-1", r#""'-1""#),
            ("@SUM(A1)", r#""'@SUM(A1)""#),
            ("a,\"b\"", r#""a,""b""""#),
        ] {
            assert_eq!(quoted(cell), text);
        }
    }

    #[test]
    fn a_line_has_a_cell_for_each_column() {
        let entry = AuditEntry {
            seq: 3,
            at: Text(ClusterMs(1_705_749_600_000)),
            action: "key.create".to_owned(),
            key_id: None,
            actor: "operator".to_owned(),
            from: None,
            details: [("summary".to_owned(), "name \"x\"".to_owned())].into(),
        };
        let line = Format::Csv.line(&entry);
        let plain = line.matches("\",\"").count() + 1;
        assert_eq!(plain, Format::Csv.head().split(',').count(), "{line}");
        assert!(Format::JsonLines.line(&entry).ends_with("}\n"));
    }
}
