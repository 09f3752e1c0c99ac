//! Gateways and routes of any content → names of certificates.

use std::{collections::BTreeSet, time::Duration};

use cert_controller_manager::{
    api::{Classes, gateway, istio, source::Foreign},
    sources::{
        domains::Attachment,
        extract::{Extracted, extract},
        object::Source,
        routes::{Attached, Route},
    },
};
use cert_lib::model::name::DnsName;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof},
    prop_assert, prop_assert_eq,
    test_runner::TestCaseError,
};
use serde_json::{Value, json};

use super::{Cost, annotations::COST, check, check_some, kept};

/// For a debug build on a busy machine.
const ALLOWED: Cost = Cost { time: Duration::from_secs(2), memory: 8 << 20 };

/// Names of users and attackers.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-bA-B]{1,2}(\\.[a-bA-B]{1,2}){0,3}\\.?",
        3 => "(\\*|\\./\\*|\\*/|b/|[A-Z]/)?\\.?[a-b]{1,2}(\\.[a-bA-B]{1,2}){0,2}",
        1 => Just("*".to_owned()),
        1 => Just("10.0.0.9".to_owned()),
        1 => Just("::1".to_owned()),
        1 => Just("a..b".to_owned()),
        1 => Just("b\u{fc}cher.test".to_owned()),
        1 => Just("a.".repeat(200)),
        1 => Just("x".repeat(100_000)),
        2 => any::<String>(),
    ]
}

/// A value, or sometimes one of another type.
fn usually(usual: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    let other = prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Value::from),
    ];
    prop_oneof![9 => usual.boxed(), 1 => other.boxed()]
}

fn names() -> impl Strategy<Value = Value> {
    usually(vec(usually(name().prop_map(Value::from)), 0..6).prop_map(Value::from))
}

fn listeners() -> impl Strategy<Value = Value> {
    let from = usually(
        prop_oneof![Just("All"), Just("Same"), Just("Selector"), Just("None")]
            .prop_map(Value::from),
    );
    let selector = usually(prop_oneof![
        Just(json!({})),
        Just(json!({"matchLabels": {"team": "web"}})),
        Just(json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["web"]}]})),
        Just(json!({"matchExpressions": [{"key": "", "operator": "?", "values": ["web"]}]})),
    ]);
    let listener = (usually(name().prop_map(Value::from)), from, selector).prop_map(
        |(hostname, from, selector)| {
            json!({
                "name": "l", "protocol": "HTTPS", "hostname": hostname, "port": 443,
                "tls": {"certificateRefs": [{"name": "s"}]},
                "allowedRoutes": {"namespaces": {"from": from, "selector": selector}},
            })
        },
    );
    usually(vec(usually(listener), 0..4).prop_map(|listeners| json!({ "listeners": listeners })))
}

fn servers() -> impl Strategy<Value = Value> {
    let server = names().prop_map(|hosts| json!({"hosts": hosts, "tls": {"credentialName": "s"}}));
    usually(vec(usually(server), 0..4).prop_map(|servers| json!({ "servers": servers })))
}

#[expect(clippy::needless_pass_by_value, reason = "literals of JSON read better so")]
fn object<S>(namespace: &str, spec: Value) -> Result<Foreign<S>, TestCaseError>
where
    Foreign<S>: serde::de::DeserializeOwned,
{
    let metadata = json!({
        "namespace": namespace, "name": "web", "uid": "u",
        "annotations": {"cert.gardener.cloud/purpose": "managed"},
    });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec }))
        .map_err(|error| TestCaseError::fail(error.to_string()))
}

/// The attachments of routes with these specifications, each in a namespace of its own.
fn attached<R: Attached>(specs: &[Value]) -> Result<Vec<Attachment>, TestCaseError> {
    let mut all = Vec::new();
    for (number, spec) in specs.iter().enumerate() {
        let route = Route::of::<R>(&object(&format!("team-{number}"), spec.clone())?, "v1");
        for (_, attachment) in route.attachments {
            for name in attachment.hostnames.iter() {
                let parsed = name.parse::<DnsName>();
                prop_assert_eq!(parsed.map(|it| it.to_string()).ok(), Some(name.clone()));
            }
            all.push(attachment);
        }
    }
    Ok(all)
}

fn certificates<S: Source>(gateway: &Foreign<S>, routes: &[Attachment]) -> Extracted {
    let (key, object) = kept(gateway.clone());
    extract(&key, &object, None, routes, &Classes::default())
}

/// Properties of every Gateway with these routes, of which the last one is invalid.
fn holds<S: Source>(
    gateway: &Foreign<S>,
    routes: &[Attachment],
    bad: &[Attachment],
) -> Result<(), TestCaseError> {
    let found = certificates(gateway, routes);
    prop_assert_eq!(&found, &certificates(gateway, routes), "the order is stable");
    for certificate in &found.certificates {
        let domains = certificate.domains.as_slice();
        prop_assert!(!domains.is_empty() && domains.len() <= 200);
        let plain = |name: &String| name.trim_end_matches('.').to_ascii_lowercase();
        let once: BTreeSet<String> = domains.iter().map(plain).collect();
        prop_assert_eq!(once.len(), domains.len(), "a name is there once: {:?}", domains);
    }
    let with_bad: Vec<Attachment> = routes.iter().chain(bad).cloned().collect();
    prop_assert_eq!(certificates(gateway, &with_bad), found, "what is no name changes nothing");
    Ok(())
}

const BAD: [&str; 5] = ["10.0.0.9", "a..b", "b\u{fc}cher.test", "", "-a.test"];

#[test]
fn gateways_of_istio_and_their_services_are_bounded() {
    let spec = |hosts| json!({"gateways": ["gateway-of/web", "web", "a/b/c"], "hosts": hosts});
    let services = vec(usually(names().prop_map(spec)), 0..5);
    check("Istio gateways", &(servers(), services), ALLOWED, |(servers, services)| {
        let gateway = object::<istio::GatewaySpec>("ns", servers)?;
        let routes = attached::<istio::VirtualServiceSpec>(&services)?;
        let bad = attached::<istio::VirtualServiceSpec>(&[spec(json!(BAD))])?;
        holds(&gateway, &routes, &bad)
    });
}

#[test]
fn gateways_of_the_gateway_api_and_their_routes_are_bounded() {
    let spec =
        |hosts| json!({"parentRefs": [{"name": "web", "namespace": "ns"}], "hostnames": hosts});
    let routes = vec(usually(names().prop_map(spec)), 0..5);
    check("Gateway API", &(listeners(), routes), ALLOWED, |(listeners, routes)| {
        let gateway = object::<gateway::GatewaySpec>("ns", listeners)?;
        let routes = attached::<gateway::HttpRoute>(&routes)?;
        let bad = attached::<gateway::HttpRoute>(&[spec(json!(BAD))])?;
        holds(&gateway, &routes, &bad)
    });
}

/// The cost of the largest Gateway with the largest routes of its namespace, also on repetition.
#[test]
fn the_largest_gateways_need_little_time_and_memory() {
    let server = |number: usize| json!({"hosts": ["*.x.test"], "tls": {"credentialName": format!("s{number}")}});
    let servers: Vec<Value> = (0..1_000).map(server).collect();
    let service = |number: usize, gateways: Value, names: usize| {
        let hosts: Vec<_> = (0..names).map(|it| format!("h{it}.n{number}.x.test")).collect();
        json!({ "gateways": gateways, "hosts": hosts })
    };
    let many_names: Vec<Value> = (0..4).map(|it| service(it, json!(["web"]), 250)).collect();
    let same = json!(vec!["web"; 1_001]);
    let many_times: Vec<Value> = (0..200).map(|it| service(it, same.clone(), 5)).collect();
    let inputs = prop_oneof![Just(many_names), Just(many_times)];
    check_some("largest Gateways", 10, &inputs, COST, |services| {
        let gateway = object::<istio::GatewaySpec>("ns", json!({ "servers": servers }))?;
        let mut routes = Vec::new();
        for spec in services {
            let service = object::<istio::VirtualServiceSpec>("ns", spec)?;
            routes.extend(Route::of(&service, "v1").attachments.into_iter().map(|(_, it)| it));
        }
        prop_assert!(routes.len() <= 200, "{} attachments", routes.len());
        let found = certificates(&gateway, &routes);
        prop_assert_eq!(found.certificates.len(), 1_000);
        prop_assert!(found.problems.iter().any(|it| it.contains("may be left out")));
        Ok(())
    });
}
