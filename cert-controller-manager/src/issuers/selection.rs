//! Selects the issuer for a Certificate. Pure.
//!
//! The selection depends on the specification of Certificate and Issuers only, not on their
//! readiness, so that it is stable. A reference selects exactly the named issuer. Without one, the
//! best match among issuers for all names wins; the name breaks ties. Upstream also considers
//! issuers for some of the names and then fails, and it breaks ties randomly.
//!
//! An issued Certificate keeps its issuer while that is eligible, so that a new Issuer causes no
//! reissuance. Upstream reissues.

use cert_lib::issue::Capabilities;
use cert_lib::model::scope::{NameSelector, Outside, Ranges};

use crate::api::{
    IssuerKey, ObjectKey,
    issuer::{IssuerKind, IssuerSpec},
};

/// Rules for all Certificates.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Namespace of Issuers in the default cluster.
    pub namespace: String,
    /// Issuer of Certificates without another eligible issuer.
    pub default_issuer: String,
    /// Domains of the default issuer: `--default-issuer-domain-ranges`.
    pub default_ranges: Ranges,
    /// Whether Issuers of the target cluster are served: `--allow-target-issuers` is set, and the
    /// target cluster is not the default cluster.
    pub allow_target: bool,
}

/// An existing issuer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Its key.
    pub key: IssuerKey,
    /// Its kind, if valid.
    pub kind: Option<IssuerKind>,
    /// Its domains; `None` if not specified.
    pub selection: Option<NameSelector>,
}

impl Candidate {
    /// The candidate for an Issuer with this specification.
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

/// The fields of a Certificate that determine its issuer.
#[derive(Clone, Debug, Default)]
pub struct IssuerQuery {
    /// Namespace of the Certificate.
    pub namespace: String,
    /// Name and namespace in `spec.issuerRef`.
    pub reference: Option<(String, Option<String>)>,
    /// Common name and DNS names, or those of the signing request.
    pub names: Vec<String>,
    /// The issuer of the current certificate, if the request is still the same.
    pub current: Option<IssuerKey>,
}

/// The selected issuer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    /// Its key; the issuer may not exist.
    pub key: IssuerKey,
    /// Its kind, if known.
    pub kind: Option<IssuerKind>,
    /// Why it must not issue this certificate; the messages are upstream's.
    pub refusal: Option<String>,
}

impl Selection {
    /// The capabilities of the issuer; none if its kind is not known.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.kind.map(IssuerKind::capabilities).unwrap_or_default()
    }
}

/// Selects the issuer. `candidates` contains each served issuer once.
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

/// The referenced issuer. A namespace other than the issuer namespace is in the target cluster. A
/// refused reference has a key, too: the fingerprint of an existing certificate contains it.
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

/// The best issuer; the default issuer if none is eligible, for its refusal.
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

/// How well an issuer matches all names; `None` if it is not eligible. Issuers with domains precede
/// the default issuer without.
fn rank(rules: &Rules, candidate: &Candidate, query: &IssuerQuery) -> Option<(bool, usize)> {
    let is_default = is_default(rules, &candidate.key);
    let is_permitted = match &candidate.key {
        IssuerKey::Default(_) => true,
        // A tenant's issuer must not attract Certificates of other namespaces. In upstream it does.
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

/// How well `name` matches, or why it is refused.
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
