//! The solvers of an ACME issuer: reads their credentials and builds the routes.

use std::sync::Arc;

use cert_lib::{
    model::name::DnsName,
    solve::dns01::{Check, Propagation, PropagationOptions},
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use zeroize::Zeroizing;

use super::{
    controller::Controller,
    error::{IssuerError, TRANSPORT},
    nameservers,
};
use crate::{
    api::{
        Issuer, IssuerKey, ObjectKey,
        issuer::{AcmeSpec, SolverKind},
        solvers::{
            CnameStrategy, Dns01Spec, PropagationCheck, PropagationSpec, SecretKeyRef,
            SolverSelector, SolverSpec,
        },
    },
    config::duration,
    runtime::errors::brief,
    solvers::{
        dns_server::Credential,
        routes::{Route, RouteSolver, Selector, SolverRoutes},
    },
};

/// The Secrets with credentials of solvers. They are in the namespace of the Issuer.
pub(super) fn secrets(issuer: &Issuer, spec: &AcmeSpec) -> Vec<ObjectKey> {
    let namespace = issuer.namespace().unwrap_or_default();
    let solvers = spec.solvers.iter().flatten().take(MAX_SOLVERS);
    let references = solvers.filter_map(|solver| solver.dns01.as_ref()?.credential());
    references
        .map(|reference| ObjectKey { namespace: namespace.clone(), name: reference.name.clone() })
        .collect()
}

/// The solvers of an issuer, and a digest of what they were built from.
pub(super) struct BuiltSolvers {
    pub(super) routes: SolverRoutes,
    pub(super) digest: String,
}

impl Controller {
    /// The solvers of an issuer. A missing credential makes one solver unavailable; its Secret is
    /// watched.
    ///
    /// # Errors
    /// When the specification is invalid, or the cluster does not answer.
    pub(super) async fn build_solvers(
        &self,
        key: &IssuerKey,
        issuer: &Issuer,
        spec: &AcmeSpec,
    ) -> Result<BuiltSolvers, IssuerError> {
        let common = nameservers::of(key, spec, &self.precheck.nameservers)?;
        let common = self.precheck.propagation(&common, self.clock.clone());
        let kind = SolverKind::of(spec);
        let solvers = spec.solvers.as_deref().unwrap_or_default();
        if solvers.is_empty() || kind == SolverKind::Skip {
            let routes = SolverRoutes::all(kind, common);
            return Ok(BuiltSolvers { routes, digest: kind.word().to_owned() });
        }
        if solvers.len() > MAX_SOLVERS {
            let count = solvers.len();
            return Err(invalid(&format!("there are {count}: use at most {MAX_SOLVERS}")));
        }
        let mut routes = Vec::new();
        let mut digest = Zeroizing::new(serde_json::to_string(solvers).unwrap_or_default());
        for (at, solver) in solvers.iter().enumerate() {
            let dns01 = solver.dns01.as_ref().ok_or_else(|| {
                invalid(&format!("entry {at} has no dns01: set one solver in it"))
            })?;
            let credential = self.credential(key, issuer, dns01).await?;
            match &credential {
                Some(Ok(credential)) => digest.extend(["\n+", &credential.value]),
                Some(Err(why)) => digest.extend(["\n-", why]),
                None => {}
            }
            let route = self.route(key, solver, dns01, credential, common.as_ref());
            routes.push(route.map_err(|why| invalid(&format!("entry {at}: {why}")))?);
        }
        let digest = cert_lib::model::request::digest(digest.as_bytes());
        Ok(BuiltSolvers { routes: SolverRoutes(routes), digest })
    }

    fn route(
        &self,
        key: &IssuerKey,
        solver: &SolverSpec,
        dns01: &Dns01Spec,
        credential: Option<Result<Credential, String>>,
        common: Option<&Arc<Propagation>>,
    ) -> Result<Route, String> {
        let of_tenant = matches!(key, IssuerKey::Target(_));
        let own = self.dns_servers.solver(dns01, credential, of_tenant)?;
        if !dns01.is_one_kind() {
            return Err("set exactly one of powerDNS, rfc2136 and dnsEntry".to_owned());
        }
        Ok(Route {
            selector: selector(solver.selector.as_ref())?,
            solver: match own {
                Some(own) => RouteSolver::Own(Arc::new(own)),
                None => RouteSolver::Shared(SolverKind::DnsEntry),
            },
            propagation: match &dns01.propagation {
                Some(spec) => Some(self.propagation(key, spec)?),
                None => common.cloned(),
            },
            follows_cnames: dns01.cname_strategy == Some(CnameStrategy::Follow),
        })
    }

    /// The check of a solver. Tenants may only use the manager's name servers.
    fn propagation(
        &self,
        key: &IssuerKey,
        spec: &PropagationSpec,
    ) -> Result<Arc<Propagation>, String> {
        let named = spec.nameservers.as_deref().unwrap_or_default();
        let nameservers = nameservers::parse(key, named, &self.precheck.nameservers);
        let options = PropagationOptions {
            check: match spec.check {
                None | Some(PropagationCheck::Authoritative) => Check::Authoritative,
                Some(PropagationCheck::Resolvers) => Check::Resolvers,
                Some(PropagationCheck::Wait) => Check::Wait,
                Some(PropagationCheck::None) => Check::None,
            },
            nameservers: nameservers.map_err(|why| format!("nameservers: {why}"))?,
            wait: time("wait", spec.wait.as_deref())?,
            timeout: time("timeout", spec.timeout.as_deref())?,
        };
        options.validate().map_err(|error| format!("propagation: {error}"))?;
        let propagation = Propagation::with_options(options, self.clock.clone());
        Ok(Arc::new(propagation.within(self.precheck.policy.clone())))
    }

    /// The credential of a solver: `None` if it needs none, the reason if it cannot be read.
    async fn credential(
        &self,
        key: &IssuerKey,
        issuer: &Issuer,
        dns01: &Dns01Spec,
    ) -> Result<Option<Result<Credential, String>>, IssuerError> {
        let Some(reference) = dns01.credential() else { return Ok(None) };
        if reference.name.is_empty() || reference.key.is_empty() {
            return Err(invalid("a reference to a Secret needs name and key"));
        }
        let namespace = issuer.namespace().unwrap_or_default();
        let api: Api<Secret> = Api::namespaced(self.client(key).clone(), &namespace);
        let found = api.get_opt(&reference.name).await.map_err(|error| IssuerError::Failed {
            message: format!(
                "reading Secret {namespace}/{} of a solver failed: {}",
                reference.name,
                brief(&error)
            ),
            disposition: TRANSPORT,
        })?;
        Ok(Some(read(&namespace, reference, found.as_ref())))
    }
}

fn read(
    namespace: &str,
    reference: &SecretKeyRef,
    secret: Option<&Secret>,
) -> Result<Credential, String> {
    let SecretKeyRef { name, key } = reference;
    let Some(secret) = secret else {
        return Err(format!("Secret {namespace}/{name} does not exist: create it with key {key}"));
    };
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    let value =
        value.ok_or_else(|| format!("Secret {namespace}/{name} has no key {key}: add it"))?;
    let text = std::str::from_utf8(&value.0).map(str::trim).unwrap_or_default();
    if text.is_empty() || text.len() > MAX_CREDENTIAL {
        return Err(format!("Secret {namespace}/{name} has no usable text under key {key}"));
    }
    let origin = format!("Secret {namespace}/{name} key {key}");
    Ok(Credential { value: Zeroizing::new(text.to_owned()), origin })
}

fn selector(spec: Option<&SolverSelector>) -> Result<Selector, String> {
    let Some(spec) = spec else { return Ok(Selector::default()) };
    let names = |what: &str, texts: Option<&Vec<String>>| -> Result<Vec<DnsName>, String> {
        let texts = texts.map(Vec::as_slice).unwrap_or_default();
        if texts.len() > MAX_NAMES {
            return Err(format!("{what} has {} entries: use at most {MAX_NAMES}", texts.len()));
        }
        let parse = |text: &String| {
            let text = text.trim().trim_end_matches('.');
            text.parse().map_err(|error| format!("{what}: {text:?} is no name: {error}"))
        };
        texts.iter().map(parse).collect()
    };
    let zones = names("dnsZones", spec.dns_zones.as_ref())?;
    if let Some(wildcard) = zones.iter().find(|zone| zone.is_wildcard()) {
        return Err(format!(
            "dnsZones: {wildcard} is a wildcard: write the domain, it includes all names below"
        ));
    }
    Ok(Selector {
        names: names("dnsNames", spec.dns_names.as_ref())?,
        zones,
        labels: spec.match_labels.clone().unwrap_or_default(),
    })
}

fn time(what: &str, text: Option<&str>) -> Result<Option<SignedDuration>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let time = duration(text).map_err(|error| format!("{what}: {error}"))?;
    if time > MAX_TIME {
        return Err(format!("{what}: {text} is longer than {} h", MAX_TIME.as_hours()));
    }
    Ok(Some(time))
}

fn invalid(why: &str) -> IssuerError {
    IssuerError::InvalidConfig(format!("spec.acme.solvers: {why}"))
}

/// Bounds the work for each name.
const MAX_SOLVERS: usize = 64;
/// Names or zones of one selector.
const MAX_NAMES: usize = 1_000;
/// Longest text of a credential.
const MAX_CREDENTIAL: usize = 16 * 1024;
/// Longest wait or timeout of a propagation check.
const MAX_TIME: SignedDuration = SignedDuration::from_hours(24);

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn a_credential_that_cannot_be_read_says_what_to_do() {
        let reference = SecretKeyRef { name: "pdns".to_owned(), key: "apikey".to_owned() };
        let secret = |key: &str, value: &[u8]| Secret {
            data: Some([(key.to_owned(), ByteString(value.to_vec()))].into()),
            ..Secret::default()
        };
        let of = |secret: Option<Secret>| match read("dns", &reference, secret.as_ref()) {
            Ok(credential) => format!("{} from {}", *credential.value, credential.origin),
            Err(why) => why,
        };
        let missing = "Secret dns/pdns does not exist: create it with key apikey";
        assert_eq!(of(None), missing);
        assert_eq!(of(Some(secret("a", b"x"))), "Secret dns/pdns has no key apikey: add it");
        let unusable = "Secret dns/pdns has no usable text under key apikey";
        assert_eq!(of(Some(secret("apikey", b" \n"))), unusable);
        assert_eq!(of(Some(secret("apikey", &[0xff]))), unusable);
        assert_eq!(of(Some(secret("apikey", b"k\n"))), "k from Secret dns/pdns key apikey");
    }

    #[test]
    fn selectors_and_times_are_checked() {
        let select = |names: &[&str], zones: &[&str]| {
            let owned = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
            let spec = SolverSelector {
                dns_names: owned(names),
                dns_zones: owned(zones),
                match_labels: None,
            };
            selector(Some(&spec)).map(|selector| selector.to_string()).unwrap_or_else(|why| why)
        };
        assert_eq!(select(&["*.A.test"], &["b.test."]), "dnsNames *.a.test and dnsZones b.test");
        assert_eq!(select(&[], &[]), "all names");
        assert!(select(&["a b"], &[]).starts_with("dnsNames: \"a b\" is no name"));
        assert!(select(&[], &["*.a.test"]).starts_with("dnsZones: *.a.test is a wildcard"));
        assert!(select(&vec!["a.test"; 1_001], &[]).starts_with("dnsNames has 1001 entries"));
        assert_eq!(time("wait", Some("90s")), Ok(Some(SignedDuration::from_secs(90))));
        assert_eq!(time("wait", None), Ok(None));
        assert!(time("wait", Some("x")).is_err_and(|why| why.starts_with("wait: ")));
        assert!(time("wait", Some("25h")).is_err_and(|why| why.contains("longer than 24 h")));
    }
}
