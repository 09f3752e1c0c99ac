use serde_json::json;

use super::*;

/// A kubeconfig with one cluster and one user.
fn config(cluster: &Value, user: &Value) -> Value {
    json!({
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    })
}

fn read(config: &Value) -> Result<Connection, String> {
    let file = File::parse(&config.to_string(), Path::new("/nowhere"));
    let connection = file.and_then(|file| select(&file, &mut Reader::new()));
    connection.map_err(|error| format!("{error:#}"))
}

#[test]
fn empty_fields_are_unset() {
    let cluster = json!({
        "server": "https://api.example.com", "certificate-authority": "",
        "certificate-authority-data": "", "proxy-url": "", "tls-server-name": "",
        "insecure-skip-tls-verify": null, "extensions": null,
    });
    let user = json!({
        "token": "secret", "tokenFile": "", "client-certificate": "", "client-certificate-data": "",
        "client-key": "", "client-key-data": "", "username": "", "password": "", "as": "",
        "as-uid": "", "as-groups": [], "as-user-extra": {}, "exec": null, "auth-provider": null,
    });
    let connection = read(&config(&cluster, &user)).unwrap();
    assert!(matches!(connection.trust, Trust::System));
    assert!(connection.server_name.is_none() && connection.proxy.is_none());
    assert!(connection.identity.certificate.is_none() && connection.impersonation.is_empty());
    let Credential::Fixed(token) = connection.identity.credential else { panic!("no token") };
    assert_eq!(token, "Bearer secret");
    assert!(token.is_sensitive());
    assert_eq!(connection.namespace, "default");
}

#[test]
fn plain_http_sends_no_credentials() {
    for (server, url, has_token) in [
        ("https://a.example", "https://a.example/", true),
        ("HTTPS://a.example:6443/k8s/c1?x=y", "https://a.example:6443/k8s/c1", true),
        ("http://a.example", "http://a.example/", false),
        ("a.example:8080", "http://a.example:8080/", false),
    ] {
        let connection = read(&config(&json!({"server": server}), &json!({"token": "t"}))).unwrap();
        assert_eq!(connection.server.to_string(), url);
        let found = matches!(connection.identity.credential, Credential::Fixed(_));
        assert_eq!(found, has_token, "{server}");
    }
}

#[test]
fn user_and_password_of_a_server_url_are_sent_as_header() {
    for (server, url, pair) in [
        ("https://user:hidden@a.example", "https://a.example/", "user:hidden"),
        ("https://us%40er:p%3Ass@a.example:1/k?x=@", "https://a.example:1/k", "us@er:p:ss"),
        ("http://user@a.example/@", "http://a.example/@", "user:"),
        ("user:hidden@a.example:8080", "http://a.example:8080/", "user:hidden"),
    ] {
        for user in [json!({}), json!({"token": "t"})] {
            let connection = read(&config(&json!({"server": server}), &user)).unwrap();
            assert_eq!(connection.server.to_string(), url);
            let Credential::Fixed(value) = connection.identity.credential else {
                panic!("no credential for {server}")
            };
            assert_eq!(value, format!("Basic {}", BASE64_STANDARD.encode(pair)));
            assert!(value.is_sensitive());
        }
    }
}

#[test]
fn invalid_fields_are_refused_by_name() {
    let server = json!({"server": "https://a.example"});
    let with = |name: &str, value: Value| {
        let mut cluster = server.clone();
        cluster[name] = value;
        config(&cluster, &json!({}))
    };
    let user = |user: Value| config(&server, &user);
    let plugin = |field: &str, value: &str| {
        let mut exec = json!({
            "command": "p", "apiVersion": "client.authentication.k8s.io/v1",
            "interactiveMode": "Never",
        });
        exec[field] = json!(value);
        user(json!({"exec": exec}))
    };
    let mut missing_context = config(&server, &json!({}));
    missing_context["current-context"] = json!("other");
    let mut duplicate = config(&server, &json!({}));
    duplicate["users"] = json!([{"name": "u"}, {"name": "u"}]);
    for (config, expected) in [
        (json!({}), "server is not set"),
        (missing_context, "current-context is \"other\""),
        (duplicate, "users has the name \"u\" twice"),
        (config(&json!({}), &json!({})), "cluster \"c\": server is not set"),
        (with("server", json!("ftp://a")), "server: the scheme \"ftp\""),
        (with("server", json!(5)), "clusters[0].cluster.server is not a text"),
        (with("proxy-url", json!("proxy:3128")), "proxy-url: it has no scheme"),
        (with("proxy-url", json!("ftp://proxy")), "proxy-url: its scheme"),
        (with("certificate-authority-data", json!("%")), "authority-data is not base64"),
        (with("certificate-authority", json!("gone.crt")), "cannot read /nowhere/gone.crt"),
        (user(json!({"token": 12_345})), "users[0].user.token is not a text"),
        (user(json!({"token": "a\nb"})), "user \"u\": token: it has characters"),
        (user(json!({"token": "t", "username": "n"})), "token and username or password"),
        (user(json!({"tokenFile": "f", "password": "p"})), "tokenFile and username or password"),
        (user(json!({"tokenFile": "f"})), "tokenFile: cannot read /nowhere/f"),
        (user(json!({"client-certificate-data": "YQ=="})), "without client-key"),
        (
            user(json!({"client-certificate-data": "YQ==", "client-key-data": "YQ=="})),
            "client certificate and key: there is no certificate in PEM",
        ),
        (user(json!({"as-groups": ["g"]})), "without as"),
        (user(json!({"auth-provider": {"name": "gcp"}})), "\"gcp\" is not supported"),
        (plugin("command", ""), "exec: command is not set"),
        (plugin("apiVersion", "client.authentication.k8s.io/v1alpha1"), "exec: apiVersion is"),
        (plugin("interactiveMode", ""), "exec: interactiveMode is not set"),
        (plugin("interactiveMode", "Always"), "has no terminal"),
    ] {
        let error = read(&config).err().unwrap_or_default();
        assert!(error.contains(expected), "{config}\n{error:?} is not about {expected:?}");
    }
}

#[test]
fn no_error_message_contains_a_secret() {
    for text in [
        "users: [{name: u, user: {token: 'hidden-secret' : : }}]",
        "hidden-secret: [",
        r#"{"users": [{"name": "u", "user": {"token": "hidden-secret"}}"#,
        "users: [{name: u, user: {client-key-data: hidden-secret!}}]",
        "users: [{name: u, user: {password: [hidden-secret]}}]",
        "users: [{name: u, user: {token: 12e45678, password: hidden-secret}}]",
    ] {
        let error = File::parse(text, Path::new("/")).err().map(|error| format!("{error:#}"));
        let error = error.unwrap_or_else(|| panic!("{text} is no error"));
        assert!(!error.contains("hidden-secret"), "{error}");
    }
}

#[test]
fn the_first_of_two_merged_files_wins() {
    let file = |server: &str, current: &str| {
        let mut config = config(&json!({"server": server}), &json!({}));
        config["current-context"] = json!(current);
        File::parse(&config.to_string(), Path::new("/")).unwrap()
    };
    let merged = File::default().merge(file("https://one", "")).merge(file("https://two", "x"));
    assert_eq!(merged.current_context, "x");
    assert_eq!(merged.clusters["c"].server, "https://one");
}

#[test]
fn base64_with_line_breaks_and_json_with_tabs_are_read() {
    let text = "{\n\t\"clusters\": [{\"name\": \"c\", \"cluster\": {\"certificate-authority-data\": \"YWJj\\r\\nZGVm\\n\"}}]\n}";
    let file = File::parse(text, Path::new("/")).unwrap();
    assert_eq!(file.clusters["c"].authority, b"abcdef");
    let text = "clusters:\n- name: c\n  cluster:\n    insecure-skip-tls-verify: yes\n    certificate-authority-data: |\n      YWJj\n      ZGVm\n    unknown: [1]\n---\nnot: [read\n";
    let file = File::parse(text, Path::new("/")).unwrap();
    assert_eq!(file.clusters["c"].authority, b"abcdef");
    assert!(file.clusters["c"].insecure);
}
