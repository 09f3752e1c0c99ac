//! The flags of the program. Command line, configuration file, help, reference and tests are generated from
//! [`table`].

mod flag;
mod kind;
mod table;

pub use flag::{Flag, Heading, Upstream};
pub use kind::{Kind, boolean, items, log_filter};
pub use table::{ANSWER, MANAGER};

/// The flag with this spelling.
#[must_use]
pub fn find(flags: &'static [Flag], spelling: &str) -> Option<&'static Flag> {
    flags.iter().find(|flag| flag.spellings().any(|it| it == spelling))
}

/// The most similar spelling.
#[must_use]
pub fn nearest(flags: &'static [Flag], word: &str) -> Option<String> {
    let distances = flags.iter().flat_map(Flag::spellings).map(|it| (distance(&it, word), it));
    let (far, spelling) = distances.min()?;
    (far <= (word.len() / 3).max(2)).then_some(spelling)
}

/// The Levenshtein distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, with) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *with);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn spellings_and_short_forms_are_unique() {
        for flags in [MANAGER, ANSWER] {
            let mut seen = HashSet::new();
            for spelling in flags.iter().flat_map(Flag::spellings) {
                assert!(seen.insert(spelling.clone()), "{spelling}");
            }
            let letters: Vec<char> = flags.iter().filter_map(|flag| flag.short).collect();
            assert_eq!(letters.iter().collect::<HashSet<_>>().len(), letters.len());
        }
    }

    #[test]
    fn every_default_is_valid() {
        for flag in MANAGER.iter().chain(ANSWER).filter(|flag| !flag.default.is_empty()) {
            flag.kind.check(flag.default).expect(flag.name);
        }
    }

    #[test]
    fn a_similar_name_is_suggested() {
        for (word, near) in [
            ("renewl-window", Some("renewal-window")),
            ("issuer.renewal-windw", Some("issuer.renewal-window")),
            ("cert-clas", Some("cert-class")),
            ("something-completely-else", None),
        ] {
            assert_eq!(nearest(MANAGER, word).as_deref(), near, "{word}");
        }
    }
}
