//! The definition of a flag.

use super::kind::Kind;

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
pub(super) const fn flag(
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
    pub(super) const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    pub(super) const fn default(mut self, value: &'static str) -> Self {
        self.default = value;
        self
    }

    pub(super) const fn unset(mut self, what: &'static str) -> Self {
        self.unset = what;
        self
    }

    /// Allows these prefixes.
    pub(super) const fn of(mut self, prefixes: &'static [&'static str]) -> Self {
        self.prefixes = prefixes;
        self
    }

    /// Requires one of these prefixes.
    pub(super) const fn each(mut self, prefixes: &'static [&'static str]) -> Self {
        self.prefixes = prefixes;
        self.bare = false;
        self
    }

    /// Shows the flag in the short help.
    pub(super) const fn common(mut self) -> Self {
        self.common = true;
        self
    }

    pub(super) const fn variable(mut self, name: &'static str) -> Self {
        self.variable = Some(name);
        self
    }

    pub(super) const fn idle(mut self, why: &'static str) -> Self {
        self.idle = Some(why);
        self
    }

    pub(super) const fn differs(mut self, default: &'static str, why: &'static str) -> Self {
        self.upstream = Upstream::Differs { default, why };
        self
    }

    pub(super) const fn ours(mut self) -> Self {
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
