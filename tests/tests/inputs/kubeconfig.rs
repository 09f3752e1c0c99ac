//! Kubeconfigs → clients.

use std::{path::Path, time::Duration};

use cert_controller_manager::runtime::clusters::check_kubeconfig;
use proptest::{
    prelude::{Just, Strategy, any, prop_oneof},
    sample::select,
};
use serde_json::{Value, json};

use crate::{Cost, check};

const ALLOWED: Cost = Cost { time: Duration::from_secs(2), memory: 20 << 20 };

/// Possible values of a field.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => select(vec![
            "", " ", "https://127.0.0.1:6443", "HTTPS://[::1]/a?b#c", "127.0.0.1:1", "http://", "x", "c", "u",
            "http://p:3128", "socks5://p", "/dev/null", "/dev/zero", ".", "YWJj", "YW\nJj", "=", "Never", "Always",
            "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1", "true", "\u{0}", "a\r\nb",
        ])
        .prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!([])),
        1 => Just(json!(["", null, 1])),
        1 => Just(json!({"name": "", "value": null, "id-token": "t"})),
    ]
}

/// A mapping with some of these fields.
fn mapping(fields: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let field = (select(fields), value());
    proptest::collection::vec(field, 0..6).prop_map(|fields| {
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    })
}

fn document() -> impl Strategy<Value = Value> {
    let exec =
        mapping(&["command", "args", "env", "apiVersion", "interactiveMode", "provideClusterInfo"]);
    let cluster = mapping(&[
        "server",
        "server",
        "server",
        "certificate-authority",
        "certificate-authority-data",
        "proxy-url",
        "tls-server-name",
        "insecure-skip-tls-verify",
        "extensions",
    ]);
    let user = mapping(&[
        "token",
        "tokenFile",
        "client-certificate",
        "client-certificate-data",
        "client-key",
        "client-key-data",
        "username",
        "password",
        "as",
        "as-groups",
        "as-user-extra",
        "auth-provider",
        "exec",
    ]);
    (cluster, user, exec, any::<bool>(), value()).prop_map(
        |(cluster, mut user, exec, runs, odd)| {
            if runs {
                user["exec"] = exec;
            }
            json!({
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": user}, {"name": odd}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            })
        },
    )
}

/// Documents as JSON, damaged ones, and other texts.
fn text() -> impl Strategy<Value = String> {
    let damaged =
        (document(), any::<proptest::sample::Index>(), any::<char>()).prop_map(|(it, at, by)| {
            let mut text: Vec<char> = it.to_string().chars().collect();
            let at = at.index(text.len());
            text[at] = by;
            text.into_iter().collect()
        });
    let yaml = "[a-c:{}\\[\\]&*!|>%@\"' \n-]{0,200}";
    prop_oneof![6 => document().prop_map(|it| it.to_string()), 2 => damaged, 1 => yaml, 1 => any::<String>()]
}

#[test]
fn a_kubeconfig_yields_a_client_or_is_refused() {
    check("kubeconfig to client", &text(), ALLOWED, |text| {
        // Both results are valid; the test checks the cost, and that there is a result.
        let _ = check_kubeconfig(&text, Path::new("/nonexistent"));
        Ok(())
    });
}
