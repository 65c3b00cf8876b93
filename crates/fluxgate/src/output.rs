//! All output: data to standard output, everything else to standard error.
//!
//! Answers for: a closed pipe is an error value and never a panic, and colours and progress bars
//! appear on a terminal only, and not if `NO_COLOR` is set.

use std::io::{self, IsTerminal as _, Write as _};

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use serde::Serialize;

/// The format of printed records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    // For people. Not doc comments: these would double the length of every help text.
    #[default]
    Text,
    // For programs.
    Json,
}

/// The output option of every command that prints records.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Output format
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: Format,
}

impl OutputArgs {
    /// Prints a record as JSON, or as the text that `text` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        record: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self.output {
            Format::Json => json(record),
            Format::Text => data(&text(record)),
        }
    }
}

/// Writes data to standard output, ending with a newline.
pub(crate) fn data(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// Writes a record to standard output as indented JSON.
pub(crate) fn json<T: Serialize>(record: &T) -> anyhow::Result<()> {
    data(&serde_json::to_string_pretty(record)?)
}

/// Writes a line to standard error. If that is closed, there is no way to report it.
pub(crate) fn notice(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether standard output may be coloured.
pub(crate) fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether progress may be drawn on standard error.
pub(crate) fn progress() -> bool {
    io::stderr().is_terminal()
}

/// A progress bar on standard error, drawn on a terminal only. `what` is the unit of `total`.
pub(crate) fn bar(total: u64, what: &str) -> indicatif::ProgressBar {
    bar_like(total, &format!("{{elapsed}} {{wide_bar}} {{human_pos}}/{{human_len}} {what} {{eta}}"))
}

/// The same with a custom template.
pub(crate) fn bar_like(total: u64, template: &str) -> indicatif::ProgressBar {
    if !progress() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(total);
    if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// A table in the style that all commands share.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // Off a terminal, columns keep their width, so that `grep` sees whole rows.
    if !colour() {
        table.force_no_tty();
    }
    table.set_header(header.iter().copied());
    table
}

/// A table as text, without trailing spaces.
pub(crate) fn table_text(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_start_matches(' ').trim_end());
        text.push('\n');
    }
    text
}

/// `name  value` lines with the values aligned in one column.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().fold(String::new(), |text, (name, value)| {
        text + format!("{name:width$}  {value}").trim_end() + "\n"
    })
}
