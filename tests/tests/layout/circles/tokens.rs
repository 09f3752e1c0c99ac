//! Splits Rust code into words and signs, without comments, texts and tests.

use std::{iter::Peekable, str::Chars};

/// The words and signs of `text`; `::` is one sign. Code that is built for tests only is left out.
pub fn tokens(text: &str) -> Vec<String> {
    let mut letters = text.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(letter) = letters.next() {
        match letter {
            '/' if letters.peek() == Some(&'/') => {
                while letters.next_if(|it| *it != '\n').is_some() {}
            }
            '/' if letters.peek() == Some(&'*') => skip_comment(&mut letters),
            '"' => skip_text(&mut letters, is_raw(&tokens)),
            '\'' => skip_letter(&mut letters),
            ':' if letters.next_if_eq(&':').is_some() => tokens.push("::".to_owned()),
            _ if is_word(letter) => {
                let mut word = letter.to_string();
                while let Some(next) = letters.next_if(|it| is_word(*it)) {
                    word.push(next);
                }
                tokens.push(word);
            }
            _ if letter.is_whitespace() => {}
            _ => tokens.push(letter.to_string()),
        }
    }
    without_tests(&tokens)
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn skip_comment(letters: &mut Peekable<Chars<'_>>) {
    let mut depth = 0;
    let mut last = '/';
    for letter in letters {
        match (last, letter) {
            ('/', '*') => (depth, last) = (depth + 1, ' '),
            ('*', '/') if depth == 1 => return,
            ('*', '/') => (depth, last) = (depth - 1, ' '),
            _ => last = letter,
        }
    }
}

/// The number of `#` before a raw text; `None` for another text.
fn is_raw(tokens: &[String]) -> Option<usize> {
    let signs = tokens.iter().rev().take_while(|token| *token == "#").count();
    let word = tokens.iter().rev().nth(signs)?;
    matches!(word.as_str(), "r" | "br" | "cr").then_some(signs)
}

fn skip_text(letters: &mut Peekable<Chars<'_>>, raw: Option<usize>) {
    while let Some(letter) = letters.next() {
        let is_end = match (letter, raw) {
            ('\\', None) => {
                letters.next();
                false
            }
            ('"', signs) => {
                (0..signs.unwrap_or_default()).all(|_| letters.next_if_eq(&'#').is_some())
            }
            _ => false,
        };
        if is_end {
            return;
        }
    }
}

/// Skips `'x'`, `'\n'` and lifetimes.
fn skip_letter(letters: &mut Peekable<Chars<'_>>) {
    match letters.next() {
        Some('\\') => {
            letters.next();
            while letters.next().is_some_and(|letter| letter != '\'') {}
        }
        Some(letter) if letters.next_if_eq(&'\'').is_none() && is_word(letter) => {
            while letters.next_if(|it| is_word(*it)).is_some() {}
        }
        _ => {}
    }
}

/// Removes each item behind `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = tokens;
    while let Some(first) = rest.first() {
        if rest.iter().take(CFG_TEST.len()).eq(CFG_TEST) {
            rest = after_item(&rest[CFG_TEST.len()..]);
        } else {
            kept.push(first.clone());
            rest = &rest[1..];
        }
    }
    kept
}

/// The tokens after the first item: it ends with `;`, or with its braces.
fn after_item(tokens: &[String]) -> &[String] {
    let is_use = tokens.iter().take(5).any(|token| token == "use");
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        let ends = token == ";" || (token == "}" && !is_use);
        if depth == 0 && ends {
            return &tokens[at + 1..];
        }
    }
    &[]
}

const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
