use std::sync::Arc;

use kube::Resource;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        gateway::{GatewaySpec, XListenerSet},
        istio,
        source::{Foreign, IngressSpec, ServiceSpec},
    },
    sources::{handlers::fixtures, object::Source},
};

const PURPOSE: &str = "cert.gardener.cloud/purpose";

/// An object of kind `S`, as a watch delivers it.
#[expect(clippy::needless_pass_by_value, reason = "literals of JSON read better so")]
fn kept<S: Source>(annotations: Value, spec: Value) -> (SourceKey, Object) {
    let object = json!({
        "metadata": {"namespace": "ns", "name": "o", "uid": "u", "annotations": annotations},
        "spec": spec,
    });
    let object: Foreign<S> = serde_json::from_value(object).unwrap();
    assert!(object.meta().uid.is_some());
    fixtures::kept(object, "v1")
}

fn route(namespace: &str, hostnames: &[&str]) -> Attachment {
    Attachment {
        namespace: namespace.into(),
        hostnames: hostnames.iter().map(|name| (*name).to_owned()).collect(),
        ..Attachment::default()
    }
}

/// Each Secret with its names, and the problems.
fn summary(desired: &Extracted) -> (Vec<String>, String) {
    let line =
        |one: &DesiredCertificate| format!("{}: {}", one.secret, one.domains.as_slice().join(" "));
    (desired.certificates.iter().map(line).collect(), desired.problems.join("; "))
}

fn of<S: Source>(annotations: Value, spec: Value, routes: &[Attachment]) -> (Vec<String>, String) {
    let (key, object) = kept::<S>(annotations, spec);
    summary(&extract(&key, &object, None, routes, &Classes::default()))
}

/// Description, annotations, specification, routes; expected Secrets with names, expected problems.
type Row<'a> = (&'a str, Value, Value, &'a [Attachment], &'a [&'a str], &'a str);

fn check<S: Source>(rows: &[Row<'_>]) {
    for (what, annotations, spec, routes, certificates, problem) in rows {
        let (found, problems) = of::<S>(annotations.clone(), spec.clone(), routes);
        assert_eq!(found, *certificates, "{what}");
        assert_eq!(problems, *problem, "{what}");
    }
}

fn managed() -> Value {
    json!({ PURPOSE: "managed" })
}

fn managed_with(name: &str, value: &str) -> Value {
    let mut annotations = managed();
    annotations[format!("cert.gardener.cloud/{name}")] = json!(value);
    annotations
}

#[test]
fn an_ingress_requests_a_certificate_for_each_tls_entry() {
    let spec = json!({"tls": [
        {"hosts": ["a", "b"], "secretName": "s"}, {"hosts": ["c", "d"]}, {"hosts": ["e"], "secretName": "t"},
    ]});
    let problem = "tls entry for hosts c,d has no secretName";
    let one = json!({"tls": [{"hosts": ["a"], "secretName": "s"}]});
    let empty = json!({"tls": [{"secretName": "s"}]});
    check::<IngressSpec>(&[
        ("unmanaged", json!({}), spec.clone(), &[], &[], ""),
        ("another purpose", json!({ PURPOSE: "mine" }), spec.clone(), &[], &[], ""),
        ("managed", managed(), spec.clone(), &[], &["ns/s: a b", "ns/t: e"], problem),
        (
            "common name",
            managed_with("commonname", "b"),
            spec.clone(),
            &[],
            &["ns/s: b a", "ns/t: b e"],
            problem,
        ),
        (
            "annotated names are those of all",
            managed_with("dnsnames", "x,y"),
            spec,
            &[],
            &["ns/s: x y", "ns/t: x y"],
            problem,
        ),
        (
            "no secret in another namespace",
            managed_with("secret-namespace", "other"),
            one.clone(),
            &[],
            &["ns/s: a"],
            "",
        ),
        (
            "the DNS manager's names do not count",
            json!({ PURPOSE: "managed", "dns.gardener.cloud/dnsnames": "x" }),
            one,
            &[],
            &["ns/s: a"],
            "",
        ),
        (
            "no host",
            managed(),
            empty,
            &[],
            &[],
            "there is no domain name for the certificate of Secret ns/s",
        ),
        ("no tls", managed(), json!({}), &[], &[], ""),
    ]);
}

#[test]
fn a_load_balancer_service_with_a_secret_name_requests_one_certificate() {
    let balancer = json!({"type": "LoadBalancer"});
    let annotated = |more: Value| {
        let mut annotations = json!({"cert.gardener.cloud/secretname": "s"});
        for (name, value) in more.as_object().unwrap() {
            annotations[name] = value.clone();
        }
        annotations
    };
    let names = json!({"cert.gardener.cloud/dnsnames": "a,b"});
    let nameless = "there is no domain name for the certificate of Secret ns/s";
    check::<ServiceSpec>(&[
        ("no secret", names.clone(), balancer.clone(), &[], &[], ""),
        ("purpose is not enough", managed_with("dnsnames", "a"), balancer.clone(), &[], &[], ""),
        ("names", annotated(names.clone()), balancer.clone(), &[], &["ns/s: a b"], ""),
        ("another type", annotated(names), json!({"type": "ClusterIP"}), &[], &[], ""),
        (
            "only a common name",
            annotated(json!({"cert.gardener.cloud/commonname": "a"})),
            balancer.clone(),
            &[],
            &["ns/s: a"],
            "",
        ),
        (
            "the DNS manager's names",
            annotated(json!({"dns.gardener.cloud/dnsnames": "a"})),
            balancer.clone(),
            &[],
            &["ns/s: a"],
            "",
        ),
        (
            "all names are none",
            annotated(json!({"dns.gardener.cloud/dnsnames": "*"})),
            balancer.clone(),
            &[],
            &[],
            nameless,
        ),
        (
            "another namespace",
            annotated(json!({
                "cert.gardener.cloud/commonname": "a", "cert.gardener.cloud/secret-namespace": "other",
            })),
            balancer,
            &[],
            &["other/s: a"],
            "",
        ),
    ]);
}

#[test]
fn an_istio_gateway_requests_a_certificate_for_each_credential() {
    let server = |hosts: &[&str], secret: &str| json!({"hosts": hosts, "tls": {"mode": "SIMPLE", "credentialName": secret}});
    let one = |hosts: &[&str]| json!({"servers": [server(hosts, "s")]});
    let services = [route("apps", &["foo.x", "bar.x"]), route("more", &["foo.x"])];
    let two = json!({"servers": [server(&["*.x"], "s"), server(&["*.y"], "t")]});
    let shared = json!({"servers": [server(&["a.x"], "s"), server(&["a.y", "a.x"], "s")]});
    let passed = json!({"servers": [{"hosts": ["a.x"], "tls": {"mode": "PASSTHROUGH"}}]});
    let of_dns = json!({ PURPOSE: "managed", "dns.gardener.cloud/dnsnames": "b.x" });
    check::<istio::GatewaySpec>(&[
        ("unmanaged", json!({}), one(&["a.x"]), &[], &[], ""),
        ("without TLS", managed(), json!({"servers": [{"hosts": ["a.x"]}]}), &[], &[], ""),
        ("passthrough", managed(), passed, &[], &[], ""),
        ("simple", managed(), one(&["a.x"]), &[], &["ns/s: a.x"], ""),
        (
            "another namespace",
            managed_with("secret-namespace", "istio"),
            one(&["a.x"]),
            &[],
            &["istio/s: a.x"],
            "",
        ),
        (
            "namespaces of hosts",
            managed(),
            one(&["n/b.x", "*/c.x", "./d.x"]),
            &[],
            &["ns/s: b.x c.x d.x"],
            "",
        ),
        ("no star", managed(), one(&["*", "n/c.x"]), &[], &["ns/s: c.x"], ""),
        ("hosts of services", managed(), one(&["*"]), &services, &["ns/s: foo.x bar.x"], ""),
        ("covered by a wildcard", managed(), one(&["*.x"]), &services, &["ns/s: *.x"], ""),
        ("not served", managed(), one(&["a.x"]), &services, &["ns/s: a.x"], ""),
        ("only from one namespace", managed(), one(&["more/*"]), &services, &["ns/s: foo.x"], ""),
        (
            "no pollution",
            managed(),
            two,
            &[route("apps", &["a.b.x", "a.b.y", "a.z"])],
            &["ns/s: *.x a.b.x", "ns/t: *.y a.b.y"],
            "",
        ),
        ("one Secret of two servers", managed(), shared, &[], &["ns/s: a.x a.y"], ""),
        ("the DNS manager's names", of_dns, one(&["a.x"]), &[], &["ns/s: a.x"], ""),
        (
            "selected",
            managed_with("dnsnames", "a.x,c.x"),
            one(&["a.x", "d.x"]),
            &[],
            &["ns/s: a.x c.x"],
            "",
        ),
        (
            "first name",
            managed_with("commonname", "c.x"),
            one(&["a.x"]),
            &[],
            &["ns/s: c.x a.x"],
            "",
        ),
    ]);
}

#[test]
fn a_gateway_requests_a_certificate_for_each_listener_that_terminates_tls() {
    let listener = |protocol: &str, hostname: Value, tls: Value| {
        json!({"name": "l", "protocol": protocol, "hostname": hostname, "tls": tls,
               "allowedRoutes": {"namespaces": {"from": "All"}}})
    };
    let s = json!({"certificateRefs": [{"name": "s"}]});
    let one = |protocol: &str, hostname: Value, tls: &Value| json!({"listeners": [listener(protocol, hostname, tls.clone())]});
    let routes = [route("apps", &["a.x", "b.y"])];
    let own_only = json!({"listeners": [
        {"name": "l", "protocol": "HTTPS", "tls": s},
    ]});
    let two = json!({"listeners": [
        listener("HTTPS", json!("*.x"), s.clone()),
        listener("TLS", json!("*.y"), json!({"mode": "Terminate", "certificateRefs": [{"name": "t", "namespace": "other", "kind": "Secret", "group": ""}]})),
    ]});
    let several = json!({"certificateRefs": [{"name": "s"}, {"name": "t"}]});
    let foreign = json!({"certificateRefs": [{"name": "s", "kind": "ConfigMap"}]});
    let passed = json!({"mode": "Passthrough", "certificateRefs": [{"name": "s"}]});
    let mut polluted = two.clone();
    polluted["listeners"][1]["hostname"] = json!(null);
    check::<GatewaySpec>(&[
        ("unmanaged", json!({}), one("HTTPS", json!("a.x"), &s), &[], &[], ""),
        ("no listeners", managed(), json!({}), &[], &[], ""),
        ("no TLS", managed(), one("HTTPS", json!("a.x"), &json!(null)), &[], &[], ""),
        ("HTTP", managed(), one("HTTP", json!("a.x"), &s), &[], &[], ""),
        ("passthrough", managed(), one("TLS", json!("a.x"), &passed), &[], &[], ""),
        (
            "several references",
            managed(),
            one("HTTPS", json!("a.x"), &several),
            &[],
            &[],
            "listener l has 2 certificateRefs: exactly one is required",
        ),
        (
            "foreign kind",
            managed(),
            one("HTTPS", json!("a.x"), &foreign),
            &[],
            &[],
            "certificateRef of listener l names no Secret",
        ),
        ("HTTPS", managed(), one("HTTPS", json!("a.x"), &s), &routes, &["ns/s: a.x"], ""),
        ("TLS", managed(), one("TLS", json!("a.x"), &s), &[], &["ns/s: a.x"], ""),
        ("wildcard", managed(), one("HTTPS", json!("*.x"), &s), &routes, &["ns/s: *.x"], ""),
        (
            "without hostname",
            managed(),
            one("HTTPS", json!(null), &s),
            &routes,
            &["ns/s: a.x b.y"],
            "",
        ),
        ("several, no pollution", managed(), two, &routes, &["ns/s: *.x", "other/t: *.y"], ""),
        (
            "no hostname takes all",
            managed(),
            polluted,
            &routes,
            &["ns/s: *.x", "other/t: a.x b.y"],
            "",
        ),
        (
            "routes of other namespaces are not taken unless allowed",
            managed(),
            own_only,
            &[route("apps", &["a.x"]), route("ns", &["b.y"])],
            &["ns/s: b.y"],
            "",
        ),
        (
            "annotated names",
            managed_with("dnsnames", "x,y"),
            one("HTTPS", json!("a.x"), &s),
            &routes,
            &["ns/s: x y"],
            "",
        ),
    ]);
}

#[test]
fn a_selector_admits_routes_and_listener_sets_of_matching_namespaces() {
    let labels = |team: &str| Some(Arc::new([("team".to_owned(), team.to_owned())].into()));
    let in_team = |team, host| Attachment { labels: labels(team), ..route(team, &[host]) };
    let unknown = route("apps", &["unknown.x"]);
    let own = Attachment { labels: None, ..route("ns", &["own.x"]) };
    let routes = [in_team("web", "deep.web.x"), in_team("db", "db.x"), unknown, own];
    let web = json!({"matchLabels": {"team": "web"}});
    let not_web =
        json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["web"]}]});
    let wrong = json!({"matchExpressions": [{"key": "team", "operator": "Maybe"}]});
    let huge = json!({"matchLabels": {"team": "x".repeat(20_000)}});
    for (selector, names) in [
        (web.clone(), "*.x deep.web.x own.x"),
        (not_web, "*.x own.x"),
        (json!({}), "*.x deep.web.x own.x"),
        (wrong, "*.x"),
        (huge, "*.x"),
        (json!(null), "*.x"),
    ] {
        let allowed = json!({"namespaces": {"from": "Selector", "selector": selector}});
        let listener = |hostname: Value| {
            json!({
                "name": "l", "protocol": "HTTPS", "hostname": hostname, "allowedRoutes": allowed,
                "tls": {"certificateRefs": [{"name": "s"}]},
            })
        };
        let (found, _) =
            of::<GatewaySpec>(managed(), json!({"listeners": [listener(json!("*.x"))]}), &routes);
        // The wildcard covers this name, so it is not listed.
        let names: Vec<_> = names.split(' ').filter(|name| *name != "own.x").collect();
        assert_eq!(found, [format!("ns/s: {}", names.join(" "))], "{selector}");
    }
    let open = json!({"listeners": [{
        "name": "l", "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "s"}]},
        "allowedRoutes": {"namespaces": {"from": "Selector", "selector": web}},
    }], "allowedListeners": {"namespaces": {"from": "Selector", "selector": web}}});
    assert_eq!(of::<GatewaySpec>(managed(), open.clone(), &routes).0, ["ns/s: deep.web.x own.x"]);

    let gateway = kept::<GatewaySpec>(managed(), open).1;
    assert!(gateway.selects());
    let set = json!({
        "parentRef": {"name": "gateway", "namespace": "infra"},
        "listeners": [{"name": "l", "protocol": "HTTPS", "hostname": "a.x", "tls": {"certificateRefs": [{"name": "s"}]}}],
    });
    let (key, set) = kept::<XListenerSet>(json!({}), set);
    for (team, taken) in [("web", true), ("db", false)] {
        let labels = labels(team);
        let found =
            extract(&key, &set, Some((&gateway, labels.as_deref())), &[], &Classes::default());
        assert_eq!(!found.certificates.is_empty(), taken, "{team}");
    }
}

#[test]
fn a_listener_set_inherits_from_a_gateway_that_allows_its_listeners() {
    let set = json!({
        "parentRef": {"name": "gateway", "namespace": "infra"},
        "listeners": [{"name": "l", "protocol": "HTTPS", "hostname": "a.x", "tls": {"certificateRefs": [{"name": "s"}]}}],
    });
    let gateway = |annotations: Value, from: &str| {
        kept::<GatewaySpec>(
            annotations,
            json!({"allowedListeners": {"namespaces": {"from": from}}}),
        )
        .1
    };
    let of = |annotations: Value, gateway: &Object| {
        let (key, object) = kept::<XListenerSet>(annotations, set.clone());
        summary(&extract(&key, &object, Some((gateway, None)), &[], &Classes::default())).0
    };
    let open = gateway(managed_with("commonname", "gateway.x"), "All");
    assert_eq!(of(json!({}), &open), ["ns/s: a.x"]);
    assert_eq!(of(json!({ PURPOSE: "none" }), &open), [""; 0]);
    assert_eq!(of(managed(), &gateway(json!({}), "None")), ["ns/s: a.x"]);
    for from in ["Same", "None", ""] {
        assert_eq!(of(json!({}), &gateway(managed(), from)), [""; 0], "{from}");
    }
}

#[test]
fn only_objects_of_our_classes_are_served() {
    let spec = json!({"tls": [{"hosts": ["a"], "secretName": "s"}]});
    for (class, classes, ours) in [
        (None, &["gardencert"][..], true),
        (Some(""), &["gardencert"], true),
        (Some("gardencert"), &["gardencert"], true),
        (Some("other"), &["gardencert"], false),
        (None, &["other"], false),
        (Some("other"), &["mine", "other"], true),
    ] {
        let mut annotations = managed();
        if let Some(class) = class {
            annotations["cert.gardener.cloud/class"] = json!(class);
        }
        let (key, object) = kept::<IngressSpec>(annotations, spec.clone());
        let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
        let classes = Classes::new(&classes);
        let desired = extract(&key, &object, None, &[], &classes);
        assert_eq!(
            (desired.responsible, desired.certificates.len() == 1),
            (ours, ours),
            "{class:?}"
        );
    }
}

#[test]
fn the_deprecated_label_requests_certificates_and_a_deleting_object_does_not() {
    let spec = json!({"tls": [{"hosts": ["a"], "secretName": "s"}]});
    let (key, mut object) = kept::<IngressSpec>(managed(), spec);
    object.annotations.clear();
    object.labelled = true;
    let count =
        |object: &Object| extract(&key, object, None, &[], &Classes::default()).certificates.len();
    assert_eq!(count(&object), 1);
    object.deleting = true;
    assert_eq!(count(&object), 0);
}

#[test]
fn an_object_above_the_memory_limit_is_held_and_so_are_its_listener_sets() {
    let classes = Classes::default();
    let of = |key: &SourceKey, object: &Object, gateway: Option<&Object>| {
        let desired = extract(key, object, gateway.map(|it| (it, None)), &[], &classes);
        (desired.held, desired.problems.join("; "))
    };
    let tls = json!({"tls": [{"hosts": ["a"], "secretName": "s"}]});
    let (key, object) = kept::<IngressSpec>(managed(), tls.clone());
    let (held, problem) = of(&key, &object.without_entries(), None);
    assert!(held && problem.contains("takes more than 32 MiB"), "{problem}");
    let (_, unmanaged) = kept::<IngressSpec>(json!({}), tls);
    assert_eq!(of(&key, &unmanaged.without_entries(), None), (false, String::new()));

    let set = json!({
        "parentRef": {"name": "gateway", "namespace": "infra"},
        "listeners": [{"name": "l", "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "s"}]}}],
    });
    let (_, gateway) = kept::<GatewaySpec>(managed(), json!({}));
    let gateway = gateway.without_entries();
    let (key, set) = kept::<XListenerSet>(json!({}), set);
    let (held, problem) = of(&key, &set, Some(&gateway));
    assert!(held && problem.starts_with("its Gateway is not read"), "{problem}");
}
