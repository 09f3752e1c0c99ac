//! What a flag is. The command line, the configuration file, the help, the reference and the tests
//! all come from [`table`], and from nothing else.

mod kind;
mod table;

pub use kind::{Kind, boolean, items, log_filter};
pub use table::{ANSWER, MANAGER};

/// One option: a flag, and its forms with the name of a controller or cluster before it.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name without dashes and prefix.
    pub name: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// What values it takes.
    pub kind: Kind,
    /// Its value where nobody gives one; empty is none.
    pub default: &'static str,
    /// What holds where there is no such value.
    pub unset: &'static str,
    /// Where help and reference list it.
    pub heading: Heading,
    /// What it does, in one sentence.
    pub help: &'static str,
    /// What may stand before it: `--issuer.renewal-window` is `--renewal-window` for that
    /// controller.
    pub prefixes: &'static [&'static str],
    /// Whether it exists without a prefix.
    pub bare: bool,
    /// Whether the short help shows it.
    pub common: bool,
    /// The variable that has its default.
    pub variable: Option<&'static str>,
    /// Why it is accepted and has no effect.
    pub idle: Option<&'static str>,
    /// How it stands to upstream's flag of the same name.
    pub upstream: Upstream,
}

/// How a flag stands to upstream's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Upstream {
    /// The same.
    Same,
    /// Another default, on purpose.
    Differs {
        /// Upstream's.
        default: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// Upstream has no such flag.
    Absent,
}

/// Where help and reference list a flag.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Heading {
    /// What to run, and how to be told.
    General,
    /// Where everything is.
    Clusters,
    /// Custom resource definitions.
    Definitions,
    /// Who of several replicas works.
    Lease,
    /// Health and metrics.
    Server,
    /// Whom to ask for certificates.
    Issuers,
    /// What certificates are made of.
    Certificates,
    /// How control of names is proved.
    Challenges,
    /// Ingresses, Services and Gateways.
    Sources,
    /// The DNS server in the process.
    Responder,
    /// What upstream's command lines have and this program does not need.
    Idle,
}

impl Heading {
    /// All of them, in the order of the help.
    pub const ALL: [Self; 11] = [
        Self::General,
        Self::Clusters,
        Self::Issuers,
        Self::Certificates,
        Self::Challenges,
        Self::Sources,
        Self::Responder,
        Self::Server,
        Self::Lease,
        Self::Definitions,
        Self::Idle,
    ];

    /// As people read it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::General => "General",
            Self::Clusters => "Clusters",
            Self::Definitions => "Custom resource definitions",
            Self::Lease => "Leader election",
            Self::Server => "Health, metrics, profile",
            Self::Issuers => "Issuers",
            Self::Certificates => "Certificates",
            Self::Challenges => "DNS challenges",
            Self::Sources => "Ingresses, Services, Gateways",
            Self::Responder => "Embedded DNS",
            Self::Idle => "Accepted without effect",
        }
    }
}

/// A flag of upstream, with no default and no prefix.
pub(crate) const fn flag(
    name: &'static str,
    kind: Kind,
    heading: Heading,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        short: None,
        kind,
        default: "",
        unset: "",
        heading,
        help,
        prefixes: &[],
        bare: true,
        common: false,
        variable: None,
        idle: None,
        upstream: Upstream::Same,
    }
}

impl Flag {
    const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn default(mut self, value: &'static str) -> Self {
        self.default = value;
        self
    }

    const fn unset(mut self, what: &'static str) -> Self {
        self.unset = what;
        self
    }

    /// May carry one of these names, or none.
    const fn of(mut self, prefixes: &'static [&'static str]) -> Self {
        self.prefixes = prefixes;
        self
    }

    /// Always carries one of these names.
    const fn each(mut self, prefixes: &'static [&'static str]) -> Self {
        self.prefixes = prefixes;
        self.bare = false;
        self
    }

    /// One of those that most people need.
    const fn common(mut self) -> Self {
        self.common = true;
        self
    }

    const fn variable(mut self, name: &'static str) -> Self {
        self.variable = Some(name);
        self
    }

    const fn idle(mut self, why: &'static str) -> Self {
        self.idle = Some(why);
        self
    }

    const fn differs(mut self, default: &'static str, why: &'static str) -> Self {
        self.upstream = Upstream::Differs { default, why };
        self
    }

    const fn ours(mut self) -> Self {
        self.upstream = Upstream::Absent;
        self
    }

    /// Every name under which it is accepted, without dashes; the one that help shows first.
    pub fn spellings(&self) -> impl Iterator<Item = String> + '_ {
        let bare = self.bare.then(|| self.name.to_owned());
        bare.into_iter().chain(self.prefixes.iter().map(|prefix| format!("{prefix}.{}", self.name)))
    }

    /// Whether it sizes or times a pool of workers. There are none here, but many such flags.
    #[must_use]
    pub fn is_pool(&self) -> bool {
        self.name.ends_with("pool.size") || self.name.ends_with("pool.resync-period")
    }
}

/// The flag of this spelling.
#[must_use]
pub fn find(flags: &'static [Flag], spelling: &str) -> Option<&'static Flag> {
    flags.iter().find(|flag| flag.spellings().any(|it| it == spelling))
}

/// The spelling that somebody probably meant.
#[must_use]
pub fn nearest(flags: &'static [Flag], word: &str) -> Option<String> {
    let distances = flags.iter().flat_map(Flag::spellings).map(|it| (distance(&it, word), it));
    let (far, spelling) = distances.min()?;
    (far <= (word.len() / 3).max(2)).then_some(spelling)
}

/// How many letters must change (Levenshtein).
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
    fn no_spelling_and_no_letter_is_there_twice() {
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
    fn every_default_is_a_value_of_its_kind() {
        for flag in MANAGER.iter().chain(ANSWER).filter(|flag| !flag.default.is_empty()) {
            flag.kind.check(flag.default).expect(flag.name);
        }
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
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
