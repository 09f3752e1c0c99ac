//! Solvers that write TXT records to a DNS server of the operator: [`DnsServerSolver`].

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cert_lib::{
    clock::Clock,
    model::name::DnsName,
    net::{
        Http, Resolver,
        http::{HttpsClient, Roots, Route as NetworkRoute},
        proxy::ProxySettings,
        reach::AddressPolicy,
    },
    solve::{
        Owner, Proof, Readiness, SolveError, Solver,
        dns_records::{DnsRecords, DnsRecordsSolver},
        dns01::{Nameserver, Propagation},
        powerdns::{self, ApiKey, NameLocks, PowerDns, PowerDnsConfig},
        rfc2136::{self, Protocol, Rfc2136, Rfc2136Config, TsigAlgorithm, TsigKey},
    },
};
use jiff::SignedDuration;
use zeroize::Zeroizing;

use super::entry::SolverEntry;
use crate::{
    api::solvers::{Dns01Spec, PowerDnsSpec, Rfc2136Spec, UpdateProtocol},
    runtime::fence::{Fence, outbound::FencedHttp},
};

/// What solvers of DNS servers share.
pub struct DnsServers {
    /// Sends requests to APIs without a caBundle. All Issuers share it: its trusted roots are large.
    pub http: Arc<dyn Http>,
    /// The same for tenants' Issuers, for permitted addresses only.
    pub tenants_http: Arc<dyn Http>,
    /// Proxies for APIs with a caBundle.
    pub proxies: Arc<ProxySettings>,
    /// Permitted addresses of servers of tenants' Issuers.
    pub policy: Arc<AddressPolicy>,
    /// Asks name servers in propagation checks.
    pub resolver: Arc<dyn Resolver>,
    /// The manager's propagation check.
    pub propagation: Arc<Propagation>,
    /// The manager's wait after the values are visible.
    pub additional_wait: Option<SignedDuration>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Only the leader writes.
    pub fence: Fence,
    /// Serializes changes of one name of a PowerDNS server.
    pub locks: Arc<NameLocks>,
}

/// The credential of a solver.
pub struct Credential {
    /// The content of the Secret.
    pub value: Zeroizing<String>,
    /// Where it is from, such as `Secret default/powerdns key apikey`.
    pub origin: String,
}

impl DnsServers {
    /// The solver of `spec`; `None` if it is of another kind. A `credential` that cannot be read is
    /// the reason why the solver is unavailable. Servers `of_tenant`s must have public addresses.
    ///
    /// # Errors
    /// When the specification is invalid.
    pub fn solver(
        &self,
        spec: &Dns01Spec,
        credential: Option<Result<Credential, String>>,
        of_tenant: bool,
    ) -> Result<Option<DnsServerSolver>, String> {
        let policy = of_tenant.then(|| self.policy.clone());
        let credential = credential.transpose();
        let name = match (&spec.power_dns, &spec.rfc2136) {
            (Some(spec), _) => format!("powerDNS {}", host(&spec.url)?),
            (None, Some(spec)) => format!("rfc2136 {}", nameserver(&spec.nameserver)?),
            (None, None) => return Ok(None),
        };
        let credential = match credential {
            Ok(credential) => credential,
            Err(why) => return Ok(Some(DnsServerSolver { name, of_tenant, solver: Err(why) })),
        };
        let records = match (&spec.power_dns, &spec.rfc2136) {
            (Some(spec), _) => self.power_dns(spec, credential, policy)?,
            (None, Some(spec)) => self.rfc2136(spec, credential.as_ref(), policy)?,
            (None, None) => return Ok(None),
        };
        let propagation = self.propagation.clone();
        let solver =
            DnsRecordsSolver::new(records, propagation, self.resolver.clone(), self.clock.clone());
        let solver = solver.with_additional_wait(self.additional_wait);
        Ok(Some(DnsServerSolver { name, of_tenant, solver: Ok(solver) }))
    }

    fn power_dns(
        &self,
        spec: &PowerDnsSpec,
        credential: Option<Credential>,
        policy: Option<Arc<AddressPolicy>>,
    ) -> Result<Arc<dyn DnsRecords>, String> {
        let credential = credential.ok_or("powerDNS needs apiKeySecretRef")?;
        let http = self.http(spec.ca_bundle.as_deref(), policy)?;
        let server_id = spec.server_id.clone().filter(|id| !id.is_empty());
        let config = PowerDnsConfig {
            url: spec.url.clone(),
            server_id: server_id.unwrap_or_else(|| powerdns::DEFAULT_SERVER_ID.to_owned()),
            zone: zone(spec.zone.as_deref())?,
            api_key: ApiKey::new(&credential.value),
            credential: credential.origin,
            ttl: spec.ttl.unwrap_or(rfc2136::DEFAULT_TTL),
            http,
            clock: self.clock.clone(),
            locks: self.locks.clone(),
        };
        let server = PowerDns::new(config).map_err(|error| error.to_string())?;
        Ok(Arc::new(server))
    }

    /// The client of a server, which the operator or a tenant chose.
    fn http(
        &self,
        ca_bundle: Option<&str>,
        policy: Option<Arc<AddressPolicy>>,
    ) -> Result<Arc<dyn Http>, String> {
        let Some(text) = ca_bundle.filter(|text| !text.trim().is_empty()) else {
            return Ok(if policy.is_some() { &self.tenants_http } else { &self.http }.clone());
        };
        let pem = bundle(text)?;
        let roots = Roots::only_pem(&pem).map_err(|error| format!("caBundle: {error}"))?;
        let route = NetworkRoute { proxies: self.proxies.clone(), policy };
        let http = HttpsClient::with_route(&route, &roots).map_err(|error| error.to_string())?;
        Ok(Arc::new(FencedHttp::new(Arc::new(http.permit_plain_http()), self.fence.clone())))
    }

    fn rfc2136(
        &self,
        spec: &Rfc2136Spec,
        credential: Option<&Credential>,
        policy: Option<Arc<AddressPolicy>>,
    ) -> Result<Arc<dyn DnsRecords>, String> {
        let nameserver = nameserver(&spec.nameserver)?;
        let config = Rfc2136Config {
            key: key(spec, credential)?,
            protocol: match spec.protocol {
                Some(UpdateProtocol::Tcp) => Protocol::Tcp,
                Some(UpdateProtocol::Udp) | None => Protocol::Udp,
            },
            zone: zone(spec.zone.as_deref())?,
            ttl: spec.ttl.unwrap_or(rfc2136::DEFAULT_TTL),
            policy,
            ..Rfc2136Config::new(nameserver)
        };
        Ok(Arc::new(Rfc2136::new(config, self.clock.clone())))
    }
}

fn key(spec: &Rfc2136Spec, credential: Option<&Credential>) -> Result<Option<TsigKey>, String> {
    let name = spec.tsig_key_name.as_deref().filter(|name| !name.is_empty());
    let (name, secret) = match (name, credential) {
        (None, None) => return Ok(None),
        (Some(name), Some(credential)) => (name, credential),
        (Some(_), None) => return Err("tsigKeyName needs tsigSecretSecretRef".to_owned()),
        (None, Some(_)) => return Err("tsigSecretSecretRef needs tsigKeyName".to_owned()),
    };
    let algorithm = match spec.tsig_algorithm.as_deref().filter(|text| !text.is_empty()) {
        None => TsigAlgorithm::HmacSha256,
        Some(text) => text.parse().map_err(|error| format!("tsigAlgorithm: {error}"))?,
    };
    let key = TsigKey::new(name, algorithm, &secret.value);
    key.map(Some).map_err(|error| format!("TSIG key {name} of {}: {error}", secret.origin))
}

/// The host and port in a URL. The rest is not for messages: it may contain credentials.
fn host(url: &str) -> Result<String, String> {
    let uri: Option<http::Uri> = url.trim().parse().ok();
    let uri = uri.filter(|_| url.len() <= MAX_URL);
    let uri = uri.ok_or("url is no URL: use one such as http://powerdns.dns.svc:8081")?;
    let host = uri.host().ok_or("url has no host: use one such as http://powerdns.dns.svc:8081")?;
    Ok(uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn nameserver(text: &str) -> Result<Nameserver, String> {
    match text.parse() {
        Ok(Nameserver::Https(_)) => {
            Err("nameserver takes no URL: write host, host:port or an address".to_owned())
        }
        Ok(nameserver) => Ok(nameserver),
        Err(error) => Err(format!("nameserver: {error}")),
    }
}

fn zone(text: Option<&str>) -> Result<Option<DnsName>, String> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    let text = text.map(|text| text.strip_suffix('.').unwrap_or(text));
    text.map(|text| text.parse().map_err(|error| format!("zone {text:?}: {error}"))).transpose()
}

/// A bundle in base64 as in cert-manager, or as PEM.
fn bundle(text: &str) -> Result<Vec<u8>, String> {
    if text.contains("-----BEGIN") {
        return Ok(text.as_bytes().to_vec());
    }
    let dense: String = text.split_whitespace().collect();
    BASE64_STANDARD
        .decode(dense)
        .map_err(|_| "caBundle is no base64: write the PEM certificates in base64".to_owned())
}

/// A solver that writes to a DNS server.
pub struct DnsServerSolver {
    /// For users: the kind and the server.
    pub name: String,
    /// Whether the issuer, and so the server, belongs to a tenant.
    pub of_tenant: bool,
    /// The solver, or why there is none yet.
    pub(super) solver: Result<DnsRecordsSolver, String>,
}

#[async_trait]
impl SolverEntry for DnsServerSolver {
    fn unavailable(&self) -> Option<String> {
        self.solver.as_ref().err().map(|why| format!("solver {}: {why}", self.name))
    }

    fn solver(&self, propagation: Option<&Arc<Propagation>>) -> Arc<dyn Solver> {
        match (&self.solver, propagation) {
            (Ok(solver), Some(propagation)) => {
                Arc::new(solver.with_propagation(propagation.clone()))
            }
            (Ok(solver), None) => Arc::new(solver.clone()),
            (Err(why), _) => Arc::new(UnavailableSolver(format!("solver {}: {why}", self.name))),
        }
    }

    /// The records are removed with the order that stores them.
    async fn sweep(&self, owner: &Owner) -> Result<(), SolveError> {
        if let Ok(solver) = &self.solver {
            solver.forget(owner);
        }
        Ok(())
    }
}

/// Stands for a solver whose credential is missing: an order waits for it.
struct UnavailableSolver(String);

impl UnavailableSolver {
    fn error<T>(&self) -> Result<T, SolveError> {
        Err(SolveError::Unavailable(self.0.clone()))
    }
}

#[async_trait]
impl Solver for UnavailableSolver {
    async fn present(&self, _: &Owner, _: &[Proof]) -> Result<(), SolveError> {
        self.error()
    }

    async fn ready(&self, _: &Owner, _: &[Proof]) -> Result<Readiness, SolveError> {
        self.error()
    }

    async fn cleanup(&self, _: &Owner, _: &[Proof]) -> Result<(), SolveError> {
        self.error()
    }

    fn stores_proofs(&self) -> bool {
        true
    }
}

/// Longest URL of an API.
const MAX_URL: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_server_without_credentials() {
        assert_eq!(host("http://user:secret@pdns:8081/api?key=secret"), Ok("pdns:8081".to_owned()));
        assert_eq!(host(" https://pdns.test "), Ok("pdns.test".to_owned()));
        for url in ["", "a b", "/api", &format!("http://{}", "a".repeat(3_000))] {
            assert!(host(url).is_err_and(|why| why.starts_with("url ")), "{url}");
        }
        assert!(nameserver("https://dns.test/q").is_err_and(|why| why.contains("takes no URL")));
        assert!(nameserver("10.0.0.1:0").is_err_and(|why| why.starts_with("nameserver: ")));
    }

    #[test]
    fn a_key_needs_its_name_and_its_secret() {
        let credential = |text: &str| Credential {
            value: Zeroizing::new(text.to_owned()),
            origin: "Secret ns/tsig key secret".to_owned(),
        };
        let of = |name: Option<&str>, algorithm: Option<&str>, secret: Option<&str>| {
            let spec = Rfc2136Spec {
                tsig_key_name: name.map(str::to_owned),
                tsig_algorithm: algorithm.map(str::to_owned),
                ..Rfc2136Spec::default()
            };
            match key(&spec, secret.map(credential).as_ref()) {
                Ok(Some(key)) => format!("{} {}", key.name(), key.algorithm()),
                Ok(None) => "none".to_owned(),
                Err(why) => why,
            }
        };
        assert_eq!(of(None, None, None), "none");
        assert_eq!(of(Some("acme"), None, Some("c2VjcmV0")), "acme HMACSHA256");
        assert_eq!(of(Some("acme"), None, None), "tsigKeyName needs tsigSecretSecretRef");
        assert_eq!(of(None, None, Some("c2VjcmV0")), "tsigSecretSecretRef needs tsigKeyName");
        assert!(of(Some("acme"), Some("HMACMD5"), Some("c2VjcmV0")).starts_with("tsigAlgorithm: "));
        let invalid = of(Some("acme"), None, Some("no base64!"));
        assert!(invalid.starts_with("TSIG key acme of Secret ns/tsig key secret: "), "{invalid}");
        assert!(!invalid.contains("no base64!"), "{invalid}");
    }
}
