//! Values of flags. The command line overrides the configuration file, which overrides the environment, which
//! overrides the default. The flag of a controller overrides the shared flag.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::PathBuf,
    str::FromStr,
};

use anyhow::anyhow;
use jiff::SignedDuration;

use super::{
    duration::duration,
    flags::{self, Flag, Kind, boolean, items},
};

/// The environment of the process.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Environment variables.
    pub variables: HashMap<String, String>,
    /// Namespace of the pod, if the process runs in one.
    pub pod_namespace: Option<String>,
    /// Whether a server can listen on all IPv4 and IPv6 addresses with one socket.
    pub dual_stack: bool,
}

impl Environment {
    /// Reads the environment of this process.
    #[must_use]
    pub fn detect() -> Self {
        const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
        let namespace = std::fs::read_to_string(NAMESPACE).unwrap_or_default();
        Self {
            variables: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            pod_namespace: Some(namespace.trim().to_owned()).filter(|it| !it.is_empty()),
            dual_stack: std::net::UdpSocket::bind("[::]:0").is_ok(),
        }
    }
}

/// The origin of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The command line.
    CommandLine,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(&'static str),
}

impl Origin {
    /// An error about the value of a flag.
    fn error(&self, spelling: &str, why: impl fmt::Display) -> anyhow::Error {
        match self {
            Self::CommandLine => anyhow!("--{spelling}: {why}"),
            Self::File(path) => anyhow!("{}: {spelling}: {why}", path.display()),
            Self::Variable(name) => anyhow!("{name} (--{spelling}): {why}"),
        }
    }
}

#[derive(Clone, Debug)]
struct Given {
    texts: Vec<String>,
    origin: Origin,
}

/// The values of all flags of a command.
#[derive(Clone, Debug)]
pub struct Values {
    flags: &'static [Flag],
    given: BTreeMap<String, Given>,
}

impl Values {
    /// The values of the environment.
    ///
    /// # Errors
    /// When one of them is invalid.
    pub fn new(flags: &'static [Flag], environment: &Environment) -> anyhow::Result<Self> {
        let mut values = Self { flags, given: BTreeMap::new() };
        for flag in flags {
            let Some(variable) = flag.variable else { continue };
            let found = environment.variables.get(variable).filter(|value| !value.is_empty());
            if let Some(value) = found.filter(|_| flag.kind != Kind::Kubeconfig) {
                values.set(flag.name, vec![value.clone()], Origin::Variable(variable))?;
            }
        }
        Ok(values)
    }

    /// Sets a flag. A later call overrides an earlier one.
    ///
    /// # Errors
    /// For invalid values; the message names the flag, the value and what is allowed.
    pub fn set(
        &mut self,
        spelling: &str,
        texts: Vec<String>,
        origin: Origin,
    ) -> anyhow::Result<()> {
        let Some(flag) = flags::find(self.flags, spelling) else {
            let near = flags::nearest(self.flags, spelling);
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(origin.error(spelling, format!("there is no such flag{near}")));
        };
        let given = Given { texts, origin };
        for text in &given.texts {
            flag.kind.check(text).map_err(|why| given.wrong(spelling, why))?;
        }
        self.given.insert(spelling.to_owned(), given);
        Ok(())
    }

    /// Given flags that have no effect.
    #[must_use]
    pub fn without_effect(&self) -> Vec<String> {
        let idle = |name: &str| flags::find(self.flags, name).is_some_and(|it| it.idle.is_some());
        self.given.keys().filter(|name| idle(name)).map(|name| format!("--{name}")).collect()
    }

    /// Whether the flag, or the shared flag, has a value.
    #[must_use]
    pub fn is_given(&self, path: &str) -> bool {
        self.find(path).is_some_and(|(_, given)| given.texts.iter().any(|text| !text.is_empty()))
    }

    /// The value of a flag; `None` if it is empty. `issuer.cert-class` falls back to the shared flag
    /// `cert-class`.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let given = self.find(path).and_then(|(_, given)| given.texts.last().cloned());
        given.filter(|text| !text.is_empty()).or_else(|| {
            let default = flags::find(self.flags, path)?.default;
            (!default.is_empty()).then(|| default.to_owned())
        })
    }

    /// See [`Self::text`].
    #[must_use]
    pub fn path(&self, path: &str) -> Option<PathBuf> {
        self.text(path).map(PathBuf::from)
    }

    /// Whether a boolean flag is true.
    ///
    /// # Errors
    /// When the value is invalid.
    pub fn is_on(&self, path: &str) -> anyhow::Result<bool> {
        self.parsed(path, boolean).map(|value| value == Some(true))
    }

    /// A duration.
    ///
    /// # Errors
    /// When the value is invalid.
    pub fn duration(&self, path: &str) -> anyhow::Result<Option<SignedDuration>> {
        self.parsed(path, duration)
    }

    /// A number.
    ///
    /// # Errors
    /// When the value is invalid.
    pub fn number(&self, path: &str) -> anyhow::Result<u32> {
        let number = self.parsed(path, |text| text.parse::<u32>().map_err(|it| it.to_string()))?;
        Ok(number.unwrap_or_default())
    }

    /// All values of a flag with several values.
    #[must_use]
    pub fn list(&self, path: &str) -> Vec<String> {
        let Some(flag) = flags::find(self.flags, path) else { return Vec::new() };
        let texts = match self.find(path) {
            Some((_, given)) if flag.kind.repeats() => given.texts.clone(),
            _ => self.text(path).into_iter().collect(),
        };
        match flag.kind.separator() {
            None => texts,
            Some(separator) => {
                texts.iter().flat_map(|text| items(text, separator)).map(str::to_owned).collect()
            }
        }
    }

    /// All values of a flag, parsed.
    ///
    /// # Errors
    /// When a value is invalid.
    pub fn parsed_list<T: FromStr<Err: fmt::Display>>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let parse = |text: &String| {
            text.parse().map_err(|why: T::Err| self.wrong(path, format!("{text:?}: {why}")))
        };
        self.list(path).iter().map(parse).collect()
    }

    /// An error about the value of a flag.
    #[must_use]
    pub fn wrong(&self, path: &str, why: impl fmt::Display) -> anyhow::Error {
        match self.find(path) {
            Some((spelling, given)) => given.wrong(spelling, why),
            None => anyhow!("--{path}: {why}"),
        }
    }

    fn parsed<T>(
        &self,
        path: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> anyhow::Result<Option<T>> {
        let parsed = self.text(path).map(|text| parse(&text)).transpose();
        parsed.map_err(|why| self.wrong(path, why))
    }

    fn find<'a>(&'a self, path: &'a str) -> Option<(&'a str, &'a Given)> {
        let shared = path.split_once('.').map(|(_, name)| name);
        [Some(path), shared]
            .into_iter()
            .flatten()
            .find_map(|spelling| Some((spelling, self.given.get(spelling)?)))
    }
}

impl Given {
    fn wrong(&self, spelling: &str, why: impl fmt::Display) -> anyhow::Error {
        self.origin.error(spelling, why)
    }
}
