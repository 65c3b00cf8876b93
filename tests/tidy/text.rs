//! The sentences of a file: comments, strings and test names of code, and the whole text of
//! documents.

/// A word or a punctuation mark, with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    /// In lower case. Names with an underscore are one word.
    pub(crate) text: String,
}

/// The tokens of a file's sentences. Each piece of text begins with a full stop, so that a rule can
/// name the beginning of a sentence.
pub(crate) fn tokens(path: &str, text: &str) -> Vec<Token> {
    let pieces = match path.rsplit('.').next() {
        Some("rs") => rust(text),
        Some("md" | "html") => vec![(1, text.replace("```", ""))],
        _ => script(text),
    };
    pieces.iter().flat_map(|(line, piece)| words(*line, piece)).collect()
}

/// The words of a piece of text. Text in backticks and in braces is code.
fn words(mut line: usize, piece: &str) -> Vec<Token> {
    let mut found = vec![Token { line, text: ".".to_owned() }];
    let mut word = String::new();
    let (mut in_code, mut braces) = (false, 0_usize);
    for c in piece.chars().chain([' ']) {
        let is_part = c.is_alphanumeric() || matches!(c, '_' | '\'' | '’');
        if is_part && !in_code && braces == 0 {
            word.extend(c.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            found.push(Token { line, text: std::mem::take(&mut word) });
        }
        match c {
            '\n' => line += 1,
            '`' => in_code = !in_code,
            '{' => braces += 1,
            '}' => braces = braces.saturating_sub(1),
            '.' | ',' | ';' | ':' | '?' | '!' if !in_code => {
                found.push(Token { line, text: c.to_string() });
            }
            _ => {}
        }
    }
    found
}

/// Comments and quoted texts of scripts and of configuration files.
fn script(text: &str) -> Vec<(usize, String)> {
    let mut pieces = Pieces::default();
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let comment = match trimmed.strip_prefix('#') {
            Some(comment) => Some(comment),
            None => line.split_once(" # ").map(|(_, comment)| comment),
        };
        if let Some(comment) = comment {
            pieces.comment(at + 1, comment);
            continue;
        }
        for quote in ['"', '\''] {
            for quoted in line.split(quote).skip(1).step_by(2) {
                pieces.all.push((at + 1, quoted.to_owned()));
            }
        }
    }
    pieces.all
}

/// Comments, strings and names of tests of a Rust file.
fn rust(text: &str) -> Vec<(usize, String)> {
    let mut pieces = Pieces::default();
    let mut is_test = false;
    let mut quoted: Option<(usize, Quote, String)> = None;
    for (at, line) in text.lines().enumerate() {
        let line_number = at + 1;
        // Names in a frozen format.
        if quoted.is_none() && line.trim_start().starts_with("#[serde(") {
            continue;
        }
        let mut rest = line;
        if let Some((_, _, so_far)) = &mut quoted {
            so_far.push('\n');
        } else {
            let trimmed = line.trim_start();
            let name = trimmed.trim_start_matches("async ").strip_prefix("fn ");
            if let Some(name) = name.filter(|_| is_test) {
                let name = name.split(['(', '<']).next().unwrap_or_default();
                pieces.all.push((line_number, name.replace('_', " ")));
            }
            is_test = (is_test && trimmed.starts_with('#'))
                || (trimmed.starts_with("#[")
                    && trimmed.contains("test")
                    && !trimmed.contains("cfg"));
        }
        loop {
            if let Some((start, quote, so_far)) = &mut quoted {
                match quote.end(rest) {
                    Some((content, after)) => {
                        so_far.push_str(content);
                        pieces.all.push((*start, std::mem::take(so_far).replace("\\n", " ")));
                        rest = after;
                        quoted = None;
                    }
                    None => {
                        so_far.push_str(rest.trim_end_matches('\\'));
                        break;
                    }
                }
                continue;
            }
            match next(rest) {
                Next::Comment(comment) => {
                    pieces.comment(line_number, comment.trim_start_matches(['/', '!']));
                    break;
                }
                Next::Quote(quote, after) => {
                    quoted = Some((line_number, quote, String::new()));
                    rest = after;
                }
                Next::End => break,
            }
        }
    }
    pieces.all
}

#[derive(Default)]
struct Pieces {
    all: Vec<(usize, String)>,
    /// The line of the last comment, which the next line may continue.
    comment: Option<usize>,
}

impl Pieces {
    fn comment(&mut self, line: usize, text: &str) {
        let continues = self.comment == line.checked_sub(1) && self.comment.is_some();
        let last = self.all.iter_mut().rev().find(|_| continues);
        match last {
            Some((_, piece)) => {
                piece.push('\n');
                piece.push_str(text);
            }
            None => self.all.push((line, text.to_owned())),
        }
        self.comment = Some(line);
    }
}

enum Next<'a> {
    Comment(&'a str),
    Quote(Quote, &'a str),
    End,
}

/// How a string ends: a quote, which a backslash may escape, or a raw one with this many `#`.
enum Quote {
    Plain,
    Raw(usize),
}

impl Quote {
    /// The content up to the end of the string, and the rest of the line; `None` if the string
    /// continues on the next line.
    fn end<'a>(&self, line: &'a str) -> Option<(&'a str, &'a str)> {
        match self {
            Self::Raw(marks) => line.split_once(&format!("\"{}", "#".repeat(*marks))),
            Self::Plain => {
                let mut escaped = false;
                let end = line.char_indices().find(|(_, c)| {
                    let is_end = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    is_end
                });
                end.map(|(at, _)| (&line[..at], &line[at + 1..]))
            }
        }
    }
}

/// The next comment or string of a line.
fn next(line: &str) -> Next<'_> {
    let mut before = ' ';
    let mut at = 0;
    while let Some(c) = line[at..].chars().next() {
        let rest = &line[at..];
        if let Some(comment) = rest.strip_prefix("//") {
            return Next::Comment(comment);
        }
        if let Some(after) = rest.strip_prefix('"') {
            return Next::Quote(Quote::Plain, after);
        }
        if c == 'r' && !before.is_alphanumeric() && before != '_' {
            let marks = rest[1..].chars().take_while(|c| *c == '#').count();
            if let Some(after) = rest[1 + marks..].strip_prefix('"') {
                return Next::Quote(Quote::Raw(marks), after);
            }
        }
        // A character, such as '"' or '\'': not a string. A lifetime has no second quote.
        let character = ["'\"'", "'\\\"'", "'\\''", "'/'"].iter().find(|c| rest.starts_with(**c));
        at += character.map_or(c.len_utf8(), |character| character.len());
        before = c;
    }
    Next::End
}

#[test]
fn sentences_of_code_are_comments_strings_and_test_names() {
    let code = "//! One\n//! two.\nlet a = '\"'; // three\nlet b = r#\"four \"five\"\"#; \"si\\\"x\";\n\
                #[test]\nfn seven_eight() {\n    \"nine \\\n     ten {hidden}\";\n}\n";
    let all: Vec<(usize, String)> =
        tokens("a.rs", code).into_iter().map(|token| (token.line, token.text)).collect();
    let words: Vec<&str> = all.iter().map(|(_, text)| text.as_str()).collect();
    let expected = [
        ".", "one", "two", ".", "three", ".", "four", "five", ".", "si", "x", ".", "seven",
        "eight", ".", "nine", "ten",
    ];
    assert_eq!(words, expected);
    assert!(
        all.contains(&(2, "two".to_owned())) && all.contains(&(7, "nine".to_owned())),
        "{all:?}"
    );
}
