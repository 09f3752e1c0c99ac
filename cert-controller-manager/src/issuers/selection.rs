//! Which issuer a Certificate means. Pure.
//!
//! The choice depends on what the Certificate asks for and on which issuers there are, never on how
//! they are doing, so that it does not flap. A reference means exactly what it names. Without one,
//! the issuer wins that covers all names and matches them best, the issuer's key deciding among
//! equals (upstream lets issuers win that cover some of the names, and fails then; equals win at
//! random).
//!
//! A Certificate that was issued stays with its issuer while that one is still eligible: creating
//! an Issuer does not issue again what others have issued. Upstream does.

use cert_lib::model::scope::{NameSelector, Outside, Ranges};

use crate::api::{
    IssuerKey, ObjectKey,
    issuer::{IssuerKind, IssuerSpec},
};

/// What holds for all Certificates.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Namespace of the Issuers in the default cluster.
    pub namespace: String,
    /// Issuer of Certificates that no other is for.
    pub default_issuer: String,
    /// What the default issuer is for, `--default-issuer-domain-ranges`.
    pub default_ranges: Ranges,
    /// Whether Issuers of the target cluster are served: `--allow-target-issuers`, and the target
    /// cluster is not the default cluster.
    pub allow_target: bool,
}

/// An issuer that there is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub key: IssuerKey,
    /// What it is.
    pub kind: Option<IssuerKind>,
    /// What it is for; `None` where it does not say.
    pub selection: Option<NameSelector>,
}

impl Candidate {
    /// What the specification of the issuer `key` candidates.
    #[must_use]
    pub fn new(key: IssuerKey, spec: &IssuerSpec) -> Self {
        let domains = spec.acme.as_ref().and_then(|acme| acme.domains.as_ref());
        let ranges = |list: &Option<Vec<String>>| Ranges::new(list.as_deref().unwrap_or_default());
        let selection = domains.map(|domains| NameSelector {
            include: ranges(&domains.include),
            exclude: ranges(&domains.exclude),
        });
        Self { key, kind: IssuerKind::of(spec), selection }
    }
}

/// What a Certificate says about its issuer.
#[derive(Clone, Debug, Default)]
pub struct IssuerQuery {
    /// Namespace of the Certificate.
    pub namespace: String,
    /// `spec.issuerRef`, name and namespace.
    pub reference: Option<(String, Option<String>)>,
    /// Common name and DNS names, or those of the signing request.
    pub names: Vec<String>,
    /// The issuer that issued for the same names, key and signing request before.
    pub current: Option<IssuerKey>,
}

/// The issuer that a Certificate means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    /// Its name, whether or not there is one.
    pub key: IssuerKey,
    /// What it is, where it is known.
    pub kind: Option<IssuerKind>,
    /// Why it may not issue this, in upstream's words.
    pub refusal: Option<String>,
}

/// Chooses. `candidates` has all issuers that are ours to serve, each once.
#[must_use]
pub fn select(rules: &Rules, candidates: &[Candidate], query: &IssuerQuery) -> Selection {
    let key = match &query.reference {
        Some((name, namespace)) => referenced(rules, name, namespace.as_deref()),
        None => Ok(best(rules, candidates, query)),
    };
    let (key, refusal) = match key {
        Ok(key) => (key, None),
        Err((key, why)) => (key, Some(why)),
    };
    let candidate = candidates.iter().find(|candidate| candidate.key == key);
    let selection = candidate.and_then(|candidate| candidate.selection.as_ref());
    let refusal = refusal.or_else(|| {
        query.names.iter().find_map(|name| outside(rules, &key, selection, name).err())
    });
    Selection { kind: candidate.and_then(|candidate| candidate.kind), key, refusal }
}

/// A namespace that is not the issuer namespace is on the target cluster; the key is told even where
/// it is refused, as the fingerprint of what was issued holds it.
fn referenced(
    rules: &Rules,
    name: &str,
    namespace: Option<&str>,
) -> Result<IssuerKey, (IssuerKey, String)> {
    match namespace.unwrap_or_default() {
        "" => Ok(IssuerKey::Default(name.to_owned())),
        namespace if namespace == rules.namespace => Ok(IssuerKey::Default(name.to_owned())),
        namespace => {
            let key = IssuerKey::Target(ObjectKey::new(namespace, name));
            if rules.allow_target {
                return Ok(key);
            }
            Err((key, "target issuers not allowed".to_owned()))
        }
    }
}

/// Where nobody covers all names, the default issuer says why it does not.
fn best(rules: &Rules, candidates: &[Candidate], query: &IssuerQuery) -> IssuerKey {
    let default = IssuerKey::Default(rules.default_issuer.clone());
    let ranked = candidates
        .iter()
        .filter_map(|candidate| Some((rank(rules, candidate, query)?, &candidate.key)));
    let ranked: Vec<_> = ranked.collect();
    if let Some(current) = &query.current
        && ranked.iter().any(|(_, key)| *key == current)
    {
        return current.clone();
    }
    let winner =
        ranked.into_iter().max_by(|(a, key_a), (b, key_b)| a.cmp(b).then_with(|| key_b.cmp(key_a)));
    winner.map_or(default, |(_, key)| key.clone())
}

/// How well an issuer is for all names; `None` where it is not eligible. One that says what it is
/// for goes before the default issuer that does not.
fn rank(rules: &Rules, candidate: &Candidate, query: &IssuerQuery) -> Option<(bool, usize)> {
    let is_default = is_default(rules, &candidate.key);
    let is_permitted = match &candidate.key {
        IssuerKey::Default(_) => true,
        // A tenant's issuer draws only the Certificates of its own namespace; upstream lets it draw
        // everybody's.
        IssuerKey::Target(key) => rules.allow_target && key.namespace == query.namespace,
    };
    if !is_permitted
        || (candidate.selection.is_none() && !is_default)
        || query.names.is_empty() && !is_default
    {
        return None;
    }
    let fits =
        |name: &String| outside(rules, &candidate.key, candidate.selection.as_ref(), name).ok();
    let fits: Option<Vec<usize>> = query.names.iter().map(fits).collect();
    Some((candidate.selection.is_some(), fits?.into_iter().sum()))
}

fn is_default(rules: &Rules, key: &IssuerKey) -> bool {
    matches!(key, IssuerKey::Default(name) if *name == rules.default_issuer)
}

/// How well `name` fits, or why it does not.
fn outside(
    rules: &Rules,
    key: &IssuerKey,
    selection: Option<&NameSelector>,
    name: &str,
) -> Result<usize, String> {
    let in_ranges = match is_default(rules, key) {
        true => rules.default_ranges.best(name).ok_or_else(|| {
            let ranges = &rules.default_ranges;
            format!("domain {name} is not in domain ranges of default issuer ({ranges})")
        })?,
        false => 0,
    };
    let Some(selection) = selection else { return Ok(in_ranges) };
    selection.best(name).map_err(|how| match how {
        Outside::Excluded => format!("domain {name} is an excluded domain of issuer {key}"),
        Outside::NotIncluded => format!("domain {name} is not an included domain of issuer {key}"),
    })
}

#[cfg(test)]
mod tests;
