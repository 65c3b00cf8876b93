//! Plain technical English: words that make a reader stop, and what to write instead.
//!
//! Checks comments, strings and test names of code, and the text of documents, scripts and
//! configuration files. Text in backticks is code and is not checked.

use crate::repository::{files, none, read};
use crate::text::{Token, tokens};

/// Words and phrases, each with what to write instead. A word that ends in `*` is a prefix; a full
/// stop is also the beginning of a text.
const BANNED: &[(&str, &str)] = &[
    ("all the same", "nevertheless"),
    ("an ask", "a transfer request"),
    ("the ask", "the transfer request"),
    ("anew", "again"),
    ("asker", "requester"),
    ("but for", "except for"),
    (", else", "otherwise"),
    ("; else", "otherwise"),
    (": else", "otherwise"),
    (". else", "otherwise"),
    ("for ever", "permanently"),
    ("forgets", "loses, or removes from memory"),
    ("forgot", "lost, or removed from memory"),
    ("gift", "handoff"),
    ("gifts", "handoffs"),
    ("go on", "continue"),
    ("goes on", "continues"),
    ("heard of", "name the message"),
    ("holdings", "balances"),
    ("in good order", "in an orderly way"),
    ("in vain", "without a result"),
    ("kin", "name the relation"),
    ("let go", "released"),
    ("lies", "is"),
    ("life", "incarnation"),
    ("lives", "incarnations"),
    ("mend*", "repair"),
    ("news", "changes"),
    ("nobody", "name the agent: no node, no caller"),
    ("of before", "earlier"),
    ("office", "leadership"),
    ("reckon*", "count, assume or expect"),
    ("so long as", "while"),
    ("somebody", "name the agent: a node, a caller"),
    ("stands", "is"),
    ("told", "name the message, or informed"),
    ("went on", "continued"),
    ("whoever", "name the agent"),
    (". whom", "name the agent"),
    ("wish", "request"),
    ("wishes", "requests"),
];

/// Allowed uses of these words: a file, the word, and the reason.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("crates/server/src/console/edit.rs", "somebody", "a text of the console"),
    ("crates/store/src/data_dir.rs", "holdings", "the name of a file in data directories"),
    ("crates/store/tests/suite/data_dir.rs", "holdings", "the name of a file in data directories"),
    ("proof/fuzz/targets/src/records.rs", "holdings", "the name of a file in data directories"),
    ("tests/console/edges.rs", "somebody", "a text of the console"),
    ("tests/refusals.rs", "holdings", "the name of a file in data directories"),
    ("tests/tidy/language.rs", "*", "the table of these words"),
];

/// The banned phrases that begin at a token.
fn findings(path: &str, text: &str) -> Vec<(usize, &'static str, &'static str)> {
    let tokens = tokens(path, text);
    let is_allowed = |phrase: &str| {
        let allowed = |(file, word, _): &(&str, &str, &str)| {
            *file == path && (*word == phrase || *word == "*")
        };
        ALLOWED.iter().any(allowed)
    };
    let banned: Vec<_> = BANNED.iter().filter(|(phrase, _)| !is_allowed(phrase)).collect();
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        for (phrase, instead) in &banned {
            if let Some(line) = matches(phrase, &tokens[at..]) {
                found.push((line, *phrase, *instead));
            }
        }
    }
    found
}

/// The line of the last word of a phrase, if the tokens begin with it.
fn matches(phrase: &str, tokens: &[Token]) -> Option<usize> {
    let mut line = None;
    let mut tokens = tokens.iter();
    for word in phrase.split(' ') {
        let token = tokens.next()?;
        let is_same = match word.strip_suffix('*') {
            Some(prefix) => token.text.starts_with(prefix),
            None => token.text == word,
        };
        if !is_same {
            return None;
        }
        line = Some(token.line);
    }
    line
}

#[test]
fn sentences_are_plain() {
    let ends = [".rs", ".md", ".sh", ".yml", ".toml", ".html"];
    let texts = files().into_iter().filter(|path| ends.iter().any(|end| path.ends_with(end)));
    let found = texts.flat_map(|path| {
        findings(&path, &read(&path))
            .into_iter()
            .map(|(line, phrase, instead)| format!("{path}:{line}: `{phrase}`: {instead}"))
            .collect::<Vec<_>>()
    });
    none(&found.collect::<Vec<_>>());
}

#[test]
fn allowed_words_still_occur() {
    let unneeded = ALLOWED.iter().filter(|(path, word, _)| {
        let found = BANNED.iter().filter(|(phrase, _)| *word == "*" || *word == *phrase);
        let tokens = tokens(path, &read(path));
        let mut phrases = found.map(|(phrase, _)| phrase);
        !phrases.any(|phrase| (0..tokens.len()).any(|at| matches(phrase, &tokens[at..]).is_some()))
    });
    let findings = unneeded.map(|(path, word, _)| format!("{path}: `{word}` does not occur there"));
    none(&findings.collect::<Vec<_>>());
}

#[test]
fn a_banned_phrase_is_found_across_lines_and_not_in_code() {
    let found = |text: &str| findings("a.rs", text);
    assert_eq!(found("// It stays for\n// ever.\n"), [(2, "for ever", "permanently")]);
    assert_eq!(found("let a = \"it was Told\";"), [(1, "told", "name the message, or informed")]);
    assert_eq!(found("#[test]\nfn keys_live_for_ever() {}\n").len(), 1);
    assert!(found("let told = 1; // see `told` and no_second_life\n").is_empty());
}
