//! Hostile objects: the manager survives them and serves the other tenants.

use std::fmt::Write as _;

use anyhow::ensure;
use cert_controller_manager::access::Cluster;
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    fleet::{Fleet, options::FleetOptions},
    namespace::{Namespace, certificate},
    objects::{self, define_gateways},
    run,
};

use super::*;

/// Slightly less than an API server accepts as annotations of one object.
const LARGE: usize = 250_000;

const ANNOTATIONS: [&str; 14] = [
    "commonname",
    "dnsnames",
    "issuer",
    "follow-cname",
    "preferred-chain",
    "private-key-algorithm",
    "private-key-size",
    "private-key-encoding",
    "secret-labels",
    "renew-before",
    "dnsrecord-provider-type",
    "source-class",
    "forward-owner-refs",
    "secret-namespace",
];

fn annotated(name: &str, annotations: &[(String, String)]) -> Value {
    let mut object = ingress(name, "hostile.my-company.test", &format!("{name}-tls"));
    for (annotation, text) in annotations {
        object["metadata"]["annotations"][annotation] = json!(text);
    }
    object
}

fn ingresses() -> Vec<Value> {
    let ours = |name: &str| format!("cert.gardener.cloud/{name}");
    let mut names = String::new();
    while names.len() < LARGE {
        let _ = write!(names, "h{}.my-company.test,", names.len());
    }
    let mut all = vec![
        annotated("many-names", &[(ours("dnsnames"), names.clone())]),
        annotated("large-labels", &[(ours("secret-labels"), names.replace(',', "=x,"))]),
        annotated("large-issuer", &[(ours("issuer"), "x".repeat(LARGE))]),
        annotated("large-foreign", &[("example.org/x".to_owned(), "x".repeat(LARGE))]),
    ];
    let garbage = [
        "\u{0}\u{1}\u{202e}",
        "-1",
        "99999999999999999999h",
        "9223372036854775807ns",
        "1e309",
        "../../etc/passwd",
        "{\"a\":[",
        "a/b/c/d",
        ",,,=,=",
        "*.*.*",
        "💥.my-company.test",
        " ",
    ];
    for (number, text) in garbage.iter().enumerate() {
        let every: Vec<_> = ANNOTATIONS.iter().map(|it| (ours(it), (*text).to_owned())).collect();
        all.push(annotated(&format!("garbage-{number}"), &every));
    }
    let mut hosts = annotated("many-hosts", &[]);
    let thousand: Vec<_> = (0..1_000).map(|it| format!("h{it}.my-company.test")).collect();
    hosts["spec"]["tls"][0]["hosts"] = json!(thousand);
    all.push(hosts);
    let mut entries = annotated("many-entries", &[]);
    let tls =
        |it: u32| json!({"hosts": [format!("e{it}.my-company.test")], "secretName": "one-tls"});
    entries["spec"]["tls"] = json!((0..1_000).map(tls).collect::<Vec<_>>());
    all.push(entries);
    all
}

fn certificates() -> Vec<Value> {
    let host = "hostile.my-company.test";
    let specs = [
        json!({}),
        json!({"commonName": host, "ensureRenewedAfter": "9999-12-31T23:59:59Z"}),
        json!({"commonName": host, "ensureRenewedAfter": "0000-01-01T00:00:00Z"}),
        json!({"commonName": host, "ensureRenewedAfter": "2026-02-28T23:59:60+23:59"}),
        json!({"commonName": host, "renewBefore": "2562047h47m16.854775807s"}),
        json!({"commonName": host, "renewBefore": "-1h"}),
        json!({"commonName": host, "duration": "2562047h47m16.854775807s"}),
        json!({"commonName": host, "secretName": "../x"}),
        json!({"commonName": host, "secretName": "x".repeat(300)}),
        json!({"commonName": host, "secretRef": {"name": "a", "namespace": "../kube-system"}}),
        json!({"commonName": host, "secretLabels": {"not a label": "!", "": ""}}),
        json!({"commonName": host, "csr": "LS0tLS1CRUdJTg=="}),
        json!({"csr": ""}),
        json!({"dnsNames": (0..5_000).map(|it| format!("d{it}.my-company.test")).collect::<Vec<_>>()}),
        json!({"dnsNames": ["x".repeat(100_000)]}),
        json!({"commonName": host, "privateKey": {"algorithm": "RSA", "size": 1}}),
        json!({"commonName": host, "issuerRef": {"name": "target:a/b"}}),
    ];
    let named = |(number, spec)| certificate(&format!("spec-{number}"), spec);
    let mut all: Vec<Value> = specs.into_iter().enumerate().map(named).collect();
    for (number, owners) in ["::::", "a:b/c", &",".repeat(LARGE), "x:networking.k8s.io/Ingress//"]
        .into_iter()
        .enumerate()
    {
        let name = format!("owned-{number}");
        let mut object = certificate(&name, json!({"commonName": host, "secretName": name}));
        object["metadata"]["annotations"] = json!({
            "resources.gardener.cloud/owners": owners, "cert.gardener.cloud/not-after": "never",
        });
        all.push(object);
    }
    all
}

fn gateways() -> Vec<Value> {
    let istio = |name: &str, spec: Value| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "spec": spec,
            "metadata": {"name": name, "annotations": {"cert.gardener.cloud/purpose": "managed"}},
        })
    };
    let server = |hosts: Value, tls: Value| {
        json!({"servers": [{"port": {"number": 443, "name": "x", "protocol": "HTTPS"},
            "hosts": hosts, "tls": tls}]})
    };
    let tls = json!({"mode": "SIMPLE", "credentialName": "x-tls"});
    let odd = json!(["", "/", "*/", "./*", "*/*", "a/b/c", "*.*", "..", "~/x.my-company.test"]);
    let service = |name: &str, gateways: Value| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": name}, "spec": {"gateways": gateways, "hosts": ["*", "", "x", "*.a"]},
        })
    };
    let gateway = |name: &str, listeners: Value| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": name, "annotations": {"cert.gardener.cloud/purpose": "managed"}},
            "spec": {"gatewayClassName": "any", "listeners": listeners},
        })
    };
    let listener = |name: String, tls: Value| {
        json!({"name": name, "port": 443, "protocol": "HTTPS", "hostname": format!("{name}.my-company.test"),
            "tls": tls})
    };
    let odd_references = json!({"certificateRefs": [
        {"name": "x", "kind": "ConfigMap"}, {"name": "y", "group": "other", "kind": "Secret"},
    ]});
    let crowd: Vec<_> = (0..64).map(|it| listener(format!("l{it}"), json!({}))).collect();
    vec![
        istio("empty", json!({})),
        istio("no-server", json!({"servers": []})),
        istio("odd-hosts", server(odd, tls.clone())),
        istio("no-credential", server(json!(["a.my-company.test"]), json!({"mode": "MUTUAL"}))),
        istio(
            "many",
            server(
                json!((0..1_000).map(|it| format!("i{it}.my-company.test")).collect::<Vec<_>>()),
                tls,
            ),
        ),
        service("odd", json!(["", "/", "//", "odd-hosts", "a/b/c", "hostile/many"])),
        gateway("references", json!([listener("a".to_owned(), odd_references)])),
        gateway("crowd", json!(crowd)),
    ]
}

#[test]
fn the_manager_survives_hostile_objects_and_serves_others() {
    run(async {
        let fleet = Fleet::start(FleetOptions {
            layout: SOURCE_APART,
            definitions: true,
            idle: true,
            arguments: arguments(&["--cascade-delete"]),
            ..FleetOptions::default()
        })
        .await?;
        define_gateways(&fleet.client(Cluster::Source)).await?;
        fleet.restart(0).await?;
        fleet.issuer("issuer-acme", &fleet.pebble.directory()).await?;
        let hostile = Namespace::in_fleet(&fleet, "hostile").await?;
        let others = Namespace::in_fleet(&fleet, "others").await?;
        let all: Vec<Value> =
            ingresses().into_iter().chain(certificates()).chain(gateways()).collect();
        let mut accepted = 0;
        for object in &all {
            // Objects that the API server refuses have no effect.
            accepted += usize::from(hostile.apply(object).await.is_ok());
        }
        ensure!(accepted * 3 > all.len() * 2, "{accepted} of {}", all.len());
        others.simple("host").await?;
        others.until("host", "Ready", SOON).await?;
        let source = fleet.client(Cluster::Source);
        eventually(LATER, "everything has a state", || async {
            let found = objects::list(&source, "Certificate", "hostile").await?;
            let open: Vec<_> =
                found.iter().filter(|it| it.data["status"]["state"].is_null()).cloned().collect();
            Ok(if open.is_empty() { Look::Done(()) } else { Look::NotYet(objects::names(&open)) })
        })
        .await?;

        // Also after a restart, and when all of them are deleted.
        let usage = fleet.stop(0).await?;
        println!("{accepted} of {} accepted, {} MiB", all.len(), usage.peak_memory >> 20);
        ensure!(usage.peak_memory < 128 << 20, "{usage:?}");
        fleet.restart(0).await?;
        others.simple("second").await?;
        others.until("second", "Ready", SOON).await?;
        for object in &all {
            let [kind, name, version] =
                [&object["kind"], &object["metadata"]["name"], &object["apiVersion"]]
                    .map(|text| text.as_str().unwrap_or_default());
            let group = version.split_once('/').map_or("", |(group, _)| group);
            let _ = hostile.delete(&format!("{kind}.{group}"), name).await;
        }
        until_only(&source, "Certificate", "hostile", &[]).await?;
        fleet.check().await
    })
    .unwrap();
}
