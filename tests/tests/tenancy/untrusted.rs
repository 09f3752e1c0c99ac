//! Restrictions for users of the source cluster, one test for each row of the table in
//! `docs/operations/install-and-rights.md`. For the quota of other tenants see
//! [`quotas`](super::quotas).

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use cert_controller_manager::access::Cluster;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    fleet::{Fleet, options::FleetOptions},
    namespace::Namespace,
    objects::{self, acme_issuer, api, apply, define_gateways, define_ours, state},
    processes::free_port,
    run,
};
use tokio::{net::TcpListener, net::UdpSocket, sync::OnceCell, time::timeout};

use super::*;

const SECRET_GRANT: &str = "cert.gardener.cloud/allow-secrets-from";

/// The operator's cluster and the tenants'. Both define Gateways, and also Issuers, although the
/// tenants' cluster does not need them.
pub(super) async fn fleet() -> Result<&'static Fleet> {
    static FLEET: OnceCell<Fleet> = OnceCell::const_new();
    let start = || async {
        let fleet = Fleet::start(FleetOptions {
            definitions: true,
            idle: true,
            ..FleetOptions::least_rights(SOURCE_APART)
        })
        .await?;
        define_ours(&fleet.client(Cluster::Source)).await?;
        define_gateways(&fleet.client(Cluster::Source)).await?;
        fleet.restart(0).await?;
        fleet.issuer("issuer-acme", &fleet.pebble.directory()).await?;
        anyhow::Ok(fleet)
    };
    FLEET.get_or_try_init(start).await
}

fn spec(namespace: &Namespace, name: &str, more: &Value) -> Value {
    let mut spec = json!({"commonName": format!("{name}.{}", namespace.domain)});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

/// Waits until a Certificate of the namespace is in Error with this text in its message.
async fn until_message(fleet: &Fleet, namespace: &Namespace, text: &str) -> Result<()> {
    eventually(SOON, &format!("a Certificate says {text:?}"), || async {
        let source = fleet.client(Cluster::Source);
        let found = objects::list(&source, "Certificate", &namespace.name).await?;
        let said: Vec<_> = found.iter().map(state).collect();
        let is_said = said.iter().any(|(state, it)| state == "Error" && it.contains(text));
        Ok(if is_said { Look::Done(()) } else { Look::NotYet(format!("{said:?}")) })
    })
    .await
}

#[test]
fn a_source_cannot_choose_an_account() {
    run(async {
        let fleet = fleet().await?;
        let tenant = Namespace::in_fleet(fleet, "accounts").await?;
        Namespace::in_fleet(fleet, "accounts-of-others").await?;
        let theirs =
            json!({"issuerRef": {"name": "issuer-acme", "namespace": "accounts-of-others"}});
        let why = refused(&tenant, "foreign", spec(&tenant, "foreign", &theirs)).await?;
        ensure!(why == "target issuers not allowed", "{why}");
        tenant.delete("Certificate", "foreign").await?;

        // The same with an annotation.
        let mut object = ingress("annotated", &format!("a.{}", tenant.domain), "a-tls");
        let reference = json!("accounts-of-others/issuer-acme");
        object["metadata"]["annotations"]["cert.gardener.cloud/issuer"] = reference;
        tenant.apply(&object).await?;
        until_message(fleet, &tenant, "target issuers not allowed").await?;

        // An Issuer of the tenant is not served in any namespace, and its account key is not read.
        let mut own = acme_issuer("own", &fleet.pebble.directory())?;
        let account = json!({"name": "issuer-acme-account", "namespace": "default"});
        own["spec"]["acme"]["privateKeySecretRef"] = account;
        for namespace in ["accounts", "default"] {
            own["metadata"]["namespace"] = json!(namespace);
            apply(&fleet.client(Cluster::Source), namespace, &own).await?;
        }
        own["metadata"]["namespace"] = json!("accounts");
        apply(&fleet.client(Cluster::Target), "accounts", &own).await?;
        for (name, namespace) in [("by-name", None), ("by-both", Some("default"))] {
            let reference = json!({"issuerRef": {"name": "own", "namespace": namespace}});
            let why = refused(&tenant, name, spec(&tenant, name, &reference)).await?;
            ensure!(why.contains("default/own does not exist"), "{why}");
        }
        for cluster in [Cluster::Source, Cluster::Target] {
            for issuer in objects::list(&fleet.client(cluster), "Issuer", "").await? {
                let served = issuer.data["status"]["state"].is_string();
                ensure!(served == (issuer.name_any() == "issuer-acme"), "{issuer:?}");
            }
        }
        nothing_forbidden(fleet)
    })
    .unwrap();
}

/// The spec of a challenge's DNSEntry, except for name and value of the record.
async fn entry_of(namespace: &Namespace, host: &str) -> Result<Value> {
    let entry = eventually(SOON, &format!("the DNSEntry of {host}"), || async {
        let found = namespace.dns_entries().await?;
        let name = json!(format!("_acme-challenge.{host}"));
        let found = found.into_iter().find(|it| it.data["spec"]["dnsName"] == name);
        Ok(found.map_or_else(|| Look::NotYet("it is not there".to_owned()), Look::Done))
    })
    .await?;
    let mut spec = entry.data["spec"].clone();
    spec["dnsName"].take();
    spec["text"].take();
    let names: Vec<_> = entry.annotations().keys().collect();
    Ok(json!({"spec": spec, "annotations": names, "labels": entry.labels()}))
}

#[test]
fn a_source_cannot_choose_how_challenges_are_solved() {
    run(async {
        let fleet = fleet().await?;
        let tenant = Namespace::in_fleet(fleet, "solving").await?;
        // No server answers for this zone, so the records stay.
        tenant.apply(&ingress("plain", "plain.elsewhere.test", "plain-tls")).await?;
        let mut hostile = ingress("hostile", "hostile.elsewhere.test", "hostile-tls");
        for (name, value) in [
            ("cert.gardener.cloud/dnsrecord-provider-type", "aws-route53"),
            ("cert.gardener.cloud/dnsrecord-secret-ref", "default/issuer-acme-account"),
            ("cert.gardener.cloud/dnsrecord-class", "theirs"),
            ("dns.gardener.cloud/class", "theirs"),
            ("dns.gardener.cloud/owner-id", "theirs"),
            ("dns.gardener.cloud/ttl", "86400"),
        ] {
            hostile["metadata"]["annotations"][name] = json!(value);
        }
        tenant.apply(&hostile).await?;
        let plain = entry_of(&tenant, "plain.elsewhere.test").await?;
        ensure!(entry_of(&tenant, "hostile.elsewhere.test").await? == plain, "{plain}");
        for name in ["plain", "hostile"] {
            tenant.delete("Ingress", name).await?;
        }
        Ok(())
    })
    .unwrap();
}

/// A Gateway of each kind with its Secret in another namespace.
fn gateways(victim: &str, tenant: &Namespace) -> [Value; 2] {
    let annotations = json!({
        "cert.gardener.cloud/purpose": "managed",
        "cert.gardener.cloud/secret-namespace": victim,
    });
    let host = |name: &str| format!("{name}.{}", tenant.domain);
    [
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "gateway", "annotations": {"cert.gardener.cloud/purpose": "managed"}},
            "spec": {"gatewayClassName": "any", "listeners": [{
                "name": "https", "port": 443, "protocol": "HTTPS", "hostname": host("gateway"),
                "tls": {"certificateRefs": [{"name": "gateway-tls", "namespace": victim}]},
            }]},
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "istio", "annotations": annotations},
            "spec": {"servers": [{
                "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                "tls": {"mode": "SIMPLE", "credentialName": "istio-tls"},
                "hosts": [host("istio")],
            }]},
        }),
    ]
}

#[test]
fn a_source_cannot_write_a_secret_into_a_namespace_without_a_grant() {
    run(async {
        let fleet = fleet().await?;
        let tenant = Namespace::in_fleet(fleet, "intruder").await?;
        let victim = Namespace::in_fleet(fleet, "victim").await?;
        let grant = |cluster, text: Option<&'static str>| async move {
            let patch = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": "victim", "annotations": text.map(|text| json!({SECRET_GRANT: text})),
            }});
            apply(&fleet.client(cluster), "", &patch).await
        };
        // The source cluster cannot grant, and a prefix of a name is not a match.
        grant(Cluster::Source, Some("*")).await?;
        grant(Cluster::Target, Some("intrude,intruder-2, ,")).await?;
        let elsewhere = json!({"secretRef": {"name": "mine", "namespace": "victim"}});
        let why = refused(&tenant, "direct", spec(&tenant, "direct", &elsewhere)).await?;
        ensure!(why.contains("cert.gardener.cloud/allow-secrets-from=intruder"), "{why}");
        ensure!(
            why.contains("Namespace victim") && why.contains("--allow-cross-namespace-secrets")
        );
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "service", "annotations": {
                "cert.gardener.cloud/secretname": "service-tls",
                "cert.gardener.cloud/secret-namespace": "victim",
            }},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 443}]},
        });
        let host = json!(format!("service.{}", tenant.domain));
        service["metadata"]["annotations"]["dns.gardener.cloud/dnsnames"] = host;
        tenant.apply(&service).await?;
        for gateway in gateways("victim", &tenant) {
            tenant.apply(&gateway).await?;
        }
        for secret in ["service-tls", "gateway-tls", "istio-tls"] {
            until_message(fleet, &tenant, &format!("victim/{secret} is in another")).await?;
        }
        let there = objects::list(&fleet.client(Cluster::Target), "Secret", "victim").await?;
        ensure!(there.is_empty(), "{}", objects::names(&there));

        // The grant lets all of them write. Without it, no Secret is written any more and none is
        // lost.
        grant(Cluster::Target, Some("other, intruder")).await?;
        tenant.until_all_ready(4, SOON).await?;
        let serial = victim.leaf("mine").await?.serial;
        grant(Cluster::Target, None).await?;
        tenant.until("direct", "Error", SOON).await?;
        ensure!(victim.leaf("mine").await?.serial == serial);

        // The namespace has the same name in another cluster; Secrets without a certificate stay.
        let account = json!({"secretName": "issuer-acme-account"});
        for (name, at, spec) in [
            ("account", "default", spec(&tenant, "account", &account)),
            ("opaque", "intruder", spec(&tenant, "opaque", &json!({"secretName": "opaque"}))),
        ] {
            let (source, target) = (fleet.client(Cluster::Source), fleet.client(Cluster::Target));
            let opaque = json!({"apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "opaque"}, "data": {"password": "c2VjcmV0"}});
            apply(&target, "intruder", &opaque).await?;
            let secret = spec["secretName"].as_str().context("no name")?.to_owned();
            let before = api(&target, "Secret", at)?.get(&secret).await?.data;
            apply(&source, at, &tests::namespace::certificate(name, spec)).await?;
            eventually(SOON, "it is refused", || async {
                let (state, why) = state(&api(&source, "Certificate", at)?.get(name).await?);
                let is = state == "Error" && why.contains("not a certificate Secret");
                Ok(if is { Look::Done(()) } else { Look::NotYet(format!("{state} {why}")) })
            })
            .await?;
            ensure!(api(&target, "Secret", at)?.get(&secret).await?.data == before);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_source_cannot_get_a_key_that_was_issued_for_another_namespace() {
    run(async {
        let fleet = fleet().await?;
        let owner = Namespace::in_fleet(fleet, "owner").await?;
        let thief = Namespace::in_fleet(fleet, "thief").await?;
        let same =
            json!({"commonName": format!("same.{}", owner.domain), "secretName": "same-tls"});
        owner.certificate("same", same.clone()).await?;
        owner.until("same", "Ready", SOON).await?;
        thief.certificate("same", same).await?;
        thief.until("same", "Ready", SOON).await?;
        let (theirs, own) = (owner.leaf("same-tls").await?, thief.leaf("same-tls").await?);
        ensure!(theirs.names == own.names && theirs.public_key != own.public_key, "a copy");

        // Naming the Secret itself does not help, with or without a grant: it belongs to another
        // owner, and a changed name does not transfer it.
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "owner", "annotations": {SECRET_GRANT: "thief"}}});
        next_second().await;
        for consent in [false, true] {
            if consent {
                apply(&fleet.client(Cluster::Target), "", &namespace).await?;
            }
            let name = format!("reader-{consent}");
            let reference = json!({
                "commonName": format!("same.{}", owner.domain),
                "secretRef": {"name": "same-tls", "namespace": "owner"},
            });
            refused(&thief, &name, reference).await?;
            let own = json!({"spec": {"secretRef": {"name": name, "namespace": "thief"}}});
            thief.patch(&name, own).await?;
            thief.until(&name, "Ready", SOON).await?;
            ensure!(thief.leaf(&name).await?.public_key != theirs.public_key, "a copy");
        }
        ensure!(owner.leaf("same-tls").await?.serial == theirs.serial, "it was overwritten");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_source_cannot_make_the_manager_connect_to_an_address() {
    run(async {
        let fleet = fleet().await?;
        let tenant = Namespace::in_fleet(fleet, "addresses").await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port()?)).await?;
        let address = listener.local_addr()?;
        let datagrams = UdpSocket::bind(address).await?;
        let url = format!("https://{address}/directory");
        let texts = [url.as_str(), &address.to_string(), "127.0.0.1", "localhost"];
        let mut objects = Vec::new();
        for (number, text) in texts.into_iter().enumerate() {
            for (field, value) in [
                ("commonName", json!(text)),
                ("dnsNames", json!([text])),
                ("uris", json!([text])),
                ("emailAddresses", json!([format!("a@{text}")])),
                ("ipAddresses", json!(["127.0.0.1"])),
                ("issuerRef", json!({"name": text})),
                ("issuerRef", json!({"name": "issuer-acme", "namespace": text})),
                ("preferredChain", json!(text)),
                ("secretLabels", json!({"a": text})),
                ("csr", json!("bm90IGEgcmVxdWVzdA==")),
            ] {
                let name = format!("c{}", objects.len());
                let spec = spec(&tenant, &name, &json!({field: value}));
                objects.push(tests::namespace::certificate(&name, spec));
            }
            let mut object = ingress(&format!("i{number}"), "a.elsewhere.test", "i-tls");
            for name in [
                "cert.gardener.cloud/issuer",
                "cert.gardener.cloud/commonname",
                "cert.gardener.cloud/dnsnames",
                "cert.gardener.cloud/preferred-chain",
                "cert.gardener.cloud/dnsrecord-provider-type",
                "cert.gardener.cloud/dnsrecord-secret-ref",
                "cert.gardener.cloud/renew-before",
            ] {
                object["metadata"]["annotations"][name] = json!(text);
            }
            objects.push(object);
        }
        let mut issuer = acme_issuer("theirs", &url)?;
        issuer["metadata"]["namespace"] = json!("addresses");
        for cluster in [Cluster::Source, Cluster::Target] {
            apply(&fleet.client(cluster), "addresses", &issuer).await?;
        }
        let mut accepted = 0;
        for object in &objects {
            // The API server refuses some of them.
            accepted += usize::from(tenant.apply(object).await.is_ok());
        }
        ensure!(accepted > 20, "{accepted}");
        eventually(LATER, "everything was looked at", || async {
            let all =
                objects::list(&fleet.client(Cluster::Source), "Certificate", "addresses").await?;
            let open = all.iter().filter(|it| state(it).0.is_empty()).count();
            Ok(if open == 0 { Look::Done(()) } else { Look::NotYet(format!("{open} open")) })
        })
        .await?;
        tenant.simple("last").await?;
        tenant.until("last", "Ready", SOON).await?;
        let moment = Duration::from_millis(100);
        ensure!(timeout(moment, listener.accept()).await.is_err(), "it connected");
        ensure!(timeout(moment, datagrams.recv(&mut [0; 9])).await.is_err(), "it sent a datagram");
        fleet.check().await
    })
    .unwrap();
}
