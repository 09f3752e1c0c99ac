//! Propagation checks against real DNS servers: split horizon, a secondary that lags behind, and DNS
//! over HTTPS.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use cert_lib::{
    clock::System,
    model::name::DnsName,
    net::{
        Answer, RecordKind, ResolveError, Resolver,
        dns::Udp,
        doh::Doh,
        http::{HttpsClient, Roots},
        reach::AddressPolicy,
    },
    solve::{
        dns_records::DnsRecords as _,
        dns01::{Check, Propagation, PropagationOptions, Visibility},
        rfc2136::{Rfc2136, Rfc2136Config},
    },
};
use jiff::SignedDuration;
use tests::{
    Look,
    bind::{Bind, Zone},
    eventually,
    name_server::Updates,
    processes::logs,
    run,
};

const ZONE: &str = "intranet.test";
const FQDN: &str = "_acme-challenge.app.intranet.test";
const VALUE: &str = "a-value";
/// A second authoritative server beside that of each zone.
const SECOND: &str = "@ NS ns2\nns2 A 127.0.0.2\n";

/// Finds servers of zones, which are at port 53, at the ports of this test.
struct Ports {
    inner: Arc<dyn Resolver>,
    ports: HashMap<SocketAddr, u16>,
}

impl Ports {
    fn new(ports: &[(&str, u16)]) -> Result<Self> {
        let inner = Arc::new(Udp::with_servers(vec![]));
        let ports = ports.iter().map(|(host, port)| Ok((format!("{host}:53").parse()?, *port)));
        Ok(Self { inner, ports: ports.collect::<Result<_>>()? })
    }
}

#[async_trait]
impl Resolver for Ports {
    async fn query(
        &self,
        server: SocketAddr,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        let port = self.ports.get(&server);
        let real = port.map_or(server, |port| SocketAddr::from(([127, 0, 0, 1], *port)));
        self.inner.query(real, name, kind).await
    }

    async fn query_https(
        &self,
        url: &Arc<str>,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        self.inner.query_https(url, name, kind).await
    }

    fn system_servers(&self) -> Vec<SocketAddr> {
        vec![]
    }

    async fn addresses(&self, name: &DnsName, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        self.inner.addresses(name, port).await
    }
}

/// A check that permits the addresses of this machine.
fn propagation(check: Check, nameserver: &str) -> Result<Propagation> {
    let nameservers = vec![nameserver.parse()?];
    let options = PropagationOptions { check, nameservers, ..PropagationOptions::default() };
    let policy = AddressPolicy::new(vec!["127.0.0.0/8".parse()?]);
    Ok(Propagation::with_options(options, Arc::new(System)).within(Arc::new(policy)))
}

async fn check(propagation: &Propagation, resolver: &dyn Resolver, age: i64) -> Result<Visibility> {
    let (fqdn, values) = (FQDN.parse()?, [VALUE.to_owned()]);
    let age = SignedDuration::from_secs(age);
    Ok(propagation.check_after(resolver, &fqdn, &values, age).await)
}

fn why(visibility: Visibility) -> String {
    match visibility {
        Visibility::NotSeen { why } | Visibility::Waiting { why, .. } => why,
        Visibility::Seen { authoritative } => format!("seen, authoritative: {authoritative}"),
    }
}

fn at(bind: &Bind) -> String {
    format!("127.0.0.1:{}", bind.port())
}

#[test]
fn with_a_split_horizon_the_configured_servers_decide() {
    run(async {
        let record = format!("_acme-challenge.app TXT {VALUE}");
        let logs = logs()?;
        let public = Bind::start(&[(ZONE, Zone::Primary(""))], &logs).await?;
        let internal = Bind::start(&[(ZONE, Zone::Primary(&record))], &logs).await?;
        let zones = [("resolver.test", Zone::Primary("")), (ZONE, Zone::Forward(internal.port()))];
        let resolver = Bind::start(&zones, &logs).await?;
        // The servers of the zone are the public ones.
        let ports = Ports::new(&[("127.0.0.1", public.port())])?;
        let denies = "127.0.0.1:53 answers NXDOMAIN";
        for (mode, server, want) in [
            (Check::Nameservers, &internal, "seen, authoritative: true"),
            (Check::Nameservers, &resolver, "seen, authoritative: false"),
            (Check::Nameservers, &public, "answers NXDOMAIN"),
            (Check::Authoritative, &resolver, denies),
            (Check::Resolvers, &resolver, denies),
        ] {
            let found = why(check(&propagation(mode, &at(server))?, &ports, 0).await?);
            ensure!(found.contains(want), "{mode:?} at {}: {found}", server.port());
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn with_filtered_egress_the_resolvers_decide_after_a_wait() {
    run(async {
        let record = format!("_acme-challenge.app TXT {VALUE}");
        let logs = logs()?;
        let internal = Bind::start(&[(ZONE, Zone::Primary(&record))], &logs).await?;
        let zones = [("resolver.test", Zone::Primary("")), (ZONE, Zone::Forward(internal.port()))];
        let resolver = Bind::start(&zones, &logs).await?;
        // No process listens there.
        let ports = Ports::new(&[("127.0.0.1", 1)])?;
        let propagation = propagation(Check::Resolvers, &at(&resolver))?;
        let waiting = why(check(&propagation, &ports, 0).await?);
        let unreachable = "name server 127.0.0.1:1 does not answer";
        let asked_later = "; the resolvers are asked in 60 s";
        ensure!(waiting.contains(unreachable) && waiting.ends_with(asked_later), "{waiting}");
        let later = check(&propagation, &ports, 60).await?;
        ensure!(later == Visibility::Seen { authoritative: false }, "{later:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn fault_38_a_secondary_that_lags_behind_is_waited_for_and_named() {
    run(async {
        let logs = logs()?;
        let primary =
            Bind::start(&[(ZONE, Zone::Dynamic(SECOND, Updates::Unsigned))], &logs).await?;
        let secondary = Bind::start(&[(ZONE, Zone::Secondary(primary.port()))], &logs).await?;
        let zones = [("resolver.test", Zone::Primary("")), (ZONE, Zone::Forward(primary.port()))];
        let resolver = Bind::start(&zones, &logs).await?;
        let ports = Ports::new(&[("127.0.0.1", primary.port()), ("127.0.0.2", secondary.port())])?;
        let propagation = propagation(Check::Resolvers, &at(&resolver))?;
        let absent = why(check(&propagation, &ports, 0).await?);
        ensure!(absent.contains("127.0.0.1:53 answers NXDOMAIN"), "{absent}");

        let config = Rfc2136Config::new(SocketAddr::from(([127, 0, 0, 1], primary.port())).into());
        let updates = Rfc2136::new(config, Arc::new(System));
        updates.add(&FQDN.parse()?, &[VALUE.to_owned()]).await?;
        for _ in 0..3 {
            let lags = why(check(&propagation, &ports, 0).await?);
            ensure!(lags == format!("{FQDN}: name server 127.0.0.2:53 answers NXDOMAIN"), "{lags}");
        }
        secondary.notify(ZONE).await?;
        eventually(Duration::from_secs(20), "the secondary shows the value", || async {
            Ok(match check(&propagation, &ports, 0).await? {
                Visibility::Seen { authoritative: true } => Look::Done(()),
                other => Look::NotYet(why(other)),
            })
        })
        .await
    })
    .unwrap();
}

#[test]
fn all_look_ups_may_go_over_https() {
    run(async {
        let record = format!("_acme-challenge.app TXT {VALUE}");
        let bind = Bind::start_with_https(&[(ZONE, Zone::Primary(&record))], &logs()?).await?;
        let (url, authority) = bind.https()?;
        let trusting = HttpsClient::new(&Roots::only_pem(authority.as_bytes())?)?;
        let ports = Ports::new(&[("127.0.0.1", bind.port())])?;
        let inner = Arc::new(Doh::new(ports.inner, Arc::new(trusting)));
        let ports = Ports { inner, ports: ports.ports };
        for mode in [Check::Authoritative, Check::Resolvers, Check::Nameservers] {
            let seen = check(&propagation(mode, &url)?, &ports, 0).await?;
            ensure!(seen == Visibility::Seen { authoritative: true }, "{mode:?}: {seen:?}");
        }
        let elsewhere = url.replace("dns-query", "elsewhere");
        let wrong = why(check(&propagation(Check::Resolvers, &elsewhere)?, &ports, 0).await?);
        ensure!(
            wrong.contains(&format!("{elsewhere} does not answer: HTTP status 404")),
            "{wrong}"
        );

        let udp = Arc::new(Udp::with_servers(vec![]));
        let strict = Doh::new(udp, Arc::new(HttpsClient::new(&Roots::system())?));
        let untrusted = why(check(&propagation(Check::Nameservers, &url)?, &strict, 0).await?);
        ensure!(untrusted.contains("is not trusted"), "{untrusted}");
        Ok(())
    })
    .unwrap();
}
