//! Name servers for the propagation checks of an issuer. Pure.

use std::sync::Arc;

use cert_lib::{
    clock::Clock,
    net::reach::AddressPolicy,
    solve::dns01::{Nameserver, NameserverError, Propagation},
};

use super::error::IssuerError;
use crate::api::{IssuerKey, issuer::AcmeSpec};

/// What the operator configured for the propagation checks of all issuers.
pub struct Precheck {
    /// The name servers.
    pub nameservers: Vec<Nameserver>,
    /// Permitted addresses of name servers that a zone names.
    pub policy: Arc<AddressPolicy>,
}

impl Precheck {
    /// The check of an issuer with these name servers; `None` if it has none, to use that of the
    /// manager.
    pub(super) fn propagation(
        &self,
        nameservers: &[Nameserver],
        clock: Arc<dyn Clock>,
    ) -> Option<Arc<Propagation>> {
        let propagation = || Propagation::new(nameservers.to_vec(), clock);
        (!nameservers.is_empty()).then(|| Arc::new(propagation().within(self.policy.clone())))
    }
}

/// The name servers of the issuer; empty if it uses those of the manager. Issuers in tenant
/// namespaces may only use `allowed` servers, so that they cannot make the manager connect to other
/// hosts.
pub(super) fn of(
    key: &IssuerKey,
    spec: &AcmeSpec,
    allowed: &[Nameserver],
) -> Result<Vec<Nameserver>, IssuerError> {
    let named = spec.precheck_nameservers.as_deref().unwrap_or_default();
    if named.len() > MAX_SERVERS {
        let count = named.len();
        return Err(IssuerError::InvalidConfig(format!(
            "precheckNameservers has {count} servers, and each check asks all of them: use at most \
             {MAX_SERVERS}"
        )));
    }
    parse(key, named, allowed)
        .map_err(|why| IssuerError::InvalidConfig(format!("precheckNameservers: {why}")))
}

/// The name servers in `texts`, which are `allowed` for this issuer.
pub(super) fn parse(
    key: &IssuerKey,
    texts: &[String],
    allowed: &[Nameserver],
) -> Result<Vec<Nameserver>, String> {
    let parse = |text: &String| {
        let server: Nameserver =
            text.parse().map_err(|error: NameserverError| error.to_string())?;
        match key {
            IssuerKey::Target(_) if !allowed.contains(&server) => Err(format!(
                "{text} is not one of the manager's --precheck-nameservers, and issuers of the \
                 target cluster must use these: remove it"
            )),
            IssuerKey::Target(_) | IssuerKey::Default(_) => Ok(server),
        }
    };
    texts.iter().map(parse).collect()
}

/// Bounds the cost of each check.
const MAX_SERVERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectKey;

    fn parsed(key: &IssuerKey, servers: &[&str]) -> String {
        let servers: Vec<String> = servers.iter().map(|&server| server.to_owned()).collect();
        let precheck_nameservers = Some(servers).filter(|servers| servers != &["unset"]);
        let spec = AcmeSpec { precheck_nameservers, ..AcmeSpec::default() };
        match of(key, &spec, &["10.0.0.1:53".parse().unwrap()]) {
            Ok(servers) => format!("{servers:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn name_servers_have_an_optional_port_and_a_target_issuer_may_use_only_the_managers() {
        let default = IssuerKey::Default("ca".to_owned());
        let target = IssuerKey::Target(ObjectKey::new("tenant", "ca"));
        for (key, servers, want) in [
            (&default, &["unset"][..], "[]"),
            (&default, &[], "[]"),
            (&default, &["10.0.0.2"], "[Address(10.0.0.2:53)]"),
            (&default, &["ns.test", "ns.test:54"], "[Host { name: ns.test, port: 53 }, Host"),
            (
                &default,
                &["10.0.0.2:dns"],
                "precheckNameservers: \"10.0.0.2:dns\" is no name server",
            ),
            (&default, &["10.0.0.2"; 17], "has 17 servers"),
            (&target, &["unset"], "[]"),
            (&target, &["10.0.0.1"], "[Address(10.0.0.1:53)]"),
            (&target, &["10.0.0.1:53", "169.254.169.254"], "169.254.169.254 is not one of the man"),
            (&target, &["ns.test"], "ns.test is not one of the manager's"),
            (&default, &["https://ns.test/q"], "[Https(\"https://ns.test/q\")]"),
            (&target, &["https://ns.test/q"], "https://ns.test/q is not one of the manager's"),
            (&target, &["https://10.0.0.1/q"], "https://10.0.0.1/q is not one of the manager's"),
            (&default, &["https://a:secret@ns.test/q"], "\"ns.test/q\" is no name server; write"),
        ] {
            let text = parsed(key, servers);
            assert!(text.starts_with(want) || text.contains(want), "{key} {servers:?}: {text}");
        }
    }
}
