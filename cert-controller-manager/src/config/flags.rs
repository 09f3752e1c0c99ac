//! The definition of a flag. Command line, configuration file, help, reference and tests are generated from
//! [`table`].

mod kind;
mod table;

pub use kind::{Kind, boolean, items, log_filter};
pub use table::{ANSWER, MANAGER};

/// A flag, with its forms that have the name of a controller or cluster as prefix.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name without dashes and prefix.
    pub name: &'static str,
    /// Short form.
    pub short: Option<char>,
    /// Type of the value.
    pub kind: Kind,
    /// Default value; empty for none.
    pub default: &'static str,
    /// Description of the behavior without a value.
    pub unset: &'static str,
    /// Section in help and reference.
    pub heading: Heading,
    /// Description, one sentence.
    pub help: &'static str,
    /// Allowed prefixes: `--issuer.renewal-window` is `--renewal-window` for that controller.
    pub prefixes: &'static [&'static str],
    /// Whether it is allowed without a prefix.
    pub bare: bool,
    /// Whether the short help shows it.
    pub common: bool,
    /// Environment variable with its default.
    pub variable: Option<&'static str>,
    /// Why it has no effect, for flags that are accepted for compatibility.
    pub idle: Option<&'static str>,
    /// Relation to the flag of upstream.
    pub upstream: Upstream,
}

/// The relation of a flag to upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Upstream {
    /// Same flag and default.
    Same,
    /// Same flag with another default.
    Differs {
        /// The default of upstream.
        default: &'static str,
        /// Reason.
        why: &'static str,
    },
    /// Not in upstream.
    Absent,
}

/// A section in help and reference.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Heading {
    /// Controllers and logging.
    General,
    /// Clusters.
    Clusters,
    /// CustomResourceDefinitions.
    Definitions,
    /// Leader election.
    Lease,
    /// Health and metrics.
    Server,
    /// Issuers.
    Issuers,
    /// Certificates.
    Certificates,
    /// DNS challenges.
    Challenges,
    /// Source objects.
    Sources,
    /// The embedded responder.
    Responder,
    /// Flags without effect.
    Idle,
}

impl Heading {
    /// All sections, in the order of the help.
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

    /// The title of the section.
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

/// A flag of upstream without default and prefix.
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

    /// Allows these prefixes.
    const fn of(mut self, prefixes: &'static [&'static str]) -> Self {
        self.prefixes = prefixes;
        self
    }

    /// Requires one of these prefixes.
    const fn each(mut self, prefixes: &'static [&'static str]) -> Self {
        self.prefixes = prefixes;
        self.bare = false;
        self
    }

    /// Shows the flag in the short help.
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

    /// All accepted names, without dashes. The help shows the first one.
    pub fn spellings(&self) -> impl Iterator<Item = String> + '_ {
        let bare = self.bare.then(|| self.name.to_owned());
        bare.into_iter().chain(self.prefixes.iter().map(|prefix| format!("{prefix}.{}", self.name)))
    }

    /// Whether it configures a worker pool. These flags have no effect.
    #[must_use]
    pub fn is_pool(&self) -> bool {
        self.name.ends_with("pool.size") || self.name.ends_with("pool.resync-period")
    }
}

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
