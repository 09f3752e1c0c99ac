//! Which name servers must show an issuer's challenge records. Pure.

use cert_lib::solve::dns01::Nameserver;

use super::account::IssuerError;
use crate::api::{IssuerKey, issuer::AcmeSpec};

/// The servers that the issuer names; none where the manager's are to be asked. A tenant's issuer
/// must not make us connect to wherever it likes, so it has the choice among `ours` only.
pub(super) fn of(
    key: &IssuerKey,
    spec: &AcmeSpec,
    ours: &[Nameserver],
) -> Result<Vec<Nameserver>, IssuerError> {
    let named = spec.precheck_nameservers.as_deref().unwrap_or_default();
    if named.len() > MAX_SERVERS {
        let count = named.len();
        return Err(IssuerError::InvalidConfig(format!(
            "precheckNameservers names {count} servers, and all are asked each time: name at most \
             {MAX_SERVERS}"
        )));
    }
    let parse = |text: &String| {
        let server: Nameserver = text
            .parse()
            .map_err(|error| IssuerError::InvalidConfig(format!("precheckNameservers: {error}")))?;
        match key {
            IssuerKey::Target(_) if !ours.contains(&server) => {
                Err(IssuerError::InvalidConfig(format!(
                    "precheckNameservers: {text} is none of the manager's --precheck-nameservers, and \
                 issuers of the target cluster may name no others: take it out"
                )))
            }
            IssuerKey::Target(_) | IssuerKey::Default(_) => Ok(server),
        }
    };
    named.iter().map(parse).collect()
}

/// More than anybody needs to be sure.
const MAX_SERVERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectKey;

    fn said(key: &IssuerKey, servers: &[&str]) -> String {
        let servers: Vec<String> = servers.iter().map(|&server| server.to_owned()).collect();
        let precheck_nameservers = Some(servers).filter(|servers| servers != &["unset"]);
        let spec = AcmeSpec { precheck_nameservers, ..AcmeSpec::default() };
        match of(key, &spec, &["10.0.0.1:53".parse().unwrap()]) {
            Ok(servers) => format!("{servers:?}"),
            Err(trouble) => trouble.to_string(),
        }
    }

    #[test]
    fn servers_are_read_as_people_write_them_and_a_tenant_chooses_among_ours() {
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
            (&default, &["10.0.0.2"; 17], "names 17 servers"),
            (&target, &["unset"], "[]"),
            (&target, &["10.0.0.1"], "[Address(10.0.0.1:53)]"),
            (&target, &["10.0.0.1:53", "169.254.169.254"], "169.254.169.254 is none of the manag"),
            (&target, &["ns.test"], "ns.test is none of the manager's"),
        ] {
            let said = said(key, servers);
            assert!(said.starts_with(want) || said.contains(want), "{key} {servers:?}: {said}");
        }
    }
}
