//! Compares our client with kubectl: the same kubeconfigs for both, against a real API server.

#![expect(clippy::unwrap_used, reason = "the helpers below are part of the tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::{StreamExt, stream};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use serde_json::{Value, json};
use tests::{
    controlplane::{ControlPlane, ControlPlaneOptions},
    locate,
    processes::scratch,
    proxy::{connect::ConnectProxy, socks::SocksProxy},
    run,
    tls::Clients,
};
use tokio::process::Command;

/// The files for the kubeconfigs.
struct World {
    plane: ControlPlane,
    directory: PathBuf,
    clients: Clients,
    /// A self-signed server certificate, for `own.example.test`.
    own: String,
    /// Another one, for `only-clients.example.test`, which is only for client authentication.
    not_for_servers: String,
    proxy: ConnectProxy,
    socks: SocksProxy,
}

/// A kubeconfig and its environment.
#[derive(Clone)]
struct Variant {
    name: &'static str,
    content: String,
    /// `KUBECONFIG`; `None` passes the file with a flag.
    list: Option<String>,
    environment: Vec<(&'static str, String)>,
}

impl World {
    async fn create() -> Result<Self> {
        let directory = scratch()?;
        let clients = Clients::create(&directory)?;
        let mut arguments = vec![format!("--client-ca-file={}", clients.authority().display())];
        let mut own = |name: &str, usages: &[ExtendedKeyUsagePurpose]| -> Result<String> {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(vec![format!("{name}.example.test")])?;
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.extended_key_usages = usages.to_vec();
            let own = params.self_signed(&key)?.pem();
            let file = |ending| directory.join(format!("{name}.{ending}"));
            let (certificate, private) = (file("crt"), file("key"));
            fs::write(&certificate, &own)?;
            fs::write(&private, key.serialize_pem())?;
            let pair = format!("{},{}", certificate.display(), private.display());
            arguments.push(format!("--tls-sni-cert-key={pair}"));
            Ok(own)
        };
        let not_for_servers = own("only-clients", &[ExtendedKeyUsagePurpose::ClientAuth])?;
        let own = own("own", &[])?;
        let options = ControlPlaneOptions { arguments, ..ControlPlaneOptions::default() };
        let plane = ControlPlane::start_with(options).await?;
        let port = plane.url().rsplit(':').next().unwrap_or_default().parse()?;
        let proxy = ConnectProxy::start(port, "user", "pass word").await?;
        let socks = SocksProxy::start("user", "pass word").await?;
        Ok(Self { plane, directory, clients, own, not_for_servers, proxy, socks })
    }

    fn authority(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.plane.serving().authority)?)
    }

    /// A valid cluster.
    fn cluster(&self) -> Result<Value> {
        let authority = BASE64_STANDARD.encode(self.authority()?);
        Ok(json!({"server": self.plane.url(), "certificate-authority-data": authority}))
    }

    fn write(&self, name: &str, content: &str) -> Result<String> {
        let path = self.directory.join(name);
        fs::write(&path, content)?;
        Ok(path.display().to_string())
    }

    /// Whether kubectl and our client succeed, with their output.
    async fn verdicts(&self, variant: &Variant) -> Result<[(bool, String); 2]> {
        let file =
            self.write(&format!("{}.yaml", variant.name.replace(' ', "-")), &variant.content)?;
        let kubectl = locate::tool("kubectl")?;
        let mut verdicts = Vec::new();
        for (program, flag) in
            [(kubectl.as_path(), "--kubeconfig"), (Path::new(env!("CARGO_BIN_EXE_kubeclient")), "")]
        {
            let mut command = Command::new(program);
            let kubectl = !flag.is_empty();
            if kubectl {
                command.args(["get", "--raw", "/api/v1/namespaces/default/configmaps"]);
            }
            match &variant.list {
                Some(list) => {
                    command.env("KUBECONFIG", list.replace("THIS", &file));
                }
                None => {
                    command.args(kubectl.then_some(flag)).arg(&file).env_remove("KUBECONFIG");
                }
            }
            command
                .envs(variant.environment.clone())
                .env("HOME", &self.directory)
                .current_dir(&self.directory)
                .stdin(Stdio::null());
            let output = command.output().await?;
            let message =
                String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect();
            verdicts.push((output.status.success(), message));
        }
        Ok(verdicts.try_into().unwrap())
    }
}

fn config(cluster: &Value, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    })
}

#[expect(clippy::needless_pass_by_value, reason = "texts of all kinds read best as they are")]
fn variant(name: &'static str, content: impl ToString) -> Variant {
    Variant { name, content: content.to_string(), list: None, environment: Vec::new() }
}

/// A plugin that prints a credential; `status` may use shell variables.
fn script(version: &str, status: &str) -> String {
    format!(
        "#!/bin/sh\nprintf '%s' '{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/{version}\",\"status\":{status}}}'\n"
    )
}

/// Variants of the cluster.
fn clusters(world: &World) -> Result<Vec<Variant>> {
    let good = world.cluster()?;
    let admin = json!({"token": "admin-token"});
    let authority = world.authority()?;
    let encoded = BASE64_STANDARD.encode(&authority);
    let lines = encoded.as_bytes().chunks(64).map(|it| str::from_utf8(it).unwrap());
    let lines: Vec<&str> = lines.collect();
    world.write("relative-ca.crt", &authority)?;
    world.write("empty.crt", "")?;
    world.write("junk.crt", "no certificate")?;
    let (port, server) = (world.proxy.port(), world.plane.url());
    let through = |url: String| json!(url);
    let edits: Vec<(&'static str, Vec<(&'static str, Value)>)> = vec![
        ("plain", vec![]),
        (
            "blank fields of a cluster",
            vec![
                ("certificate-authority", json!("")),
                ("proxy-url", json!("")),
                ("tls-server-name", json!("")),
                ("insecure-skip-tls-verify", json!(false)),
            ],
        ),
        (
            "null fields of a cluster",
            vec![
                ("certificate-authority", Value::Null),
                ("proxy-url", Value::Null),
                ("insecure-skip-tls-verify", Value::Null),
                ("extensions", Value::Null),
            ],
        ),
        ("unknown fields", vec![("colour", json!({"deep": [1]})), ("Server", json!("https://x"))]),
        (
            "relative authority",
            vec![
                ("certificate-authority", json!("relative-ca.crt")),
                ("certificate-authority-data", Value::Null),
            ],
        ),
        ("authority in both fields", vec![("certificate-authority", json!("relative-ca.crt"))]),
        (
            "missing authority file",
            vec![
                ("certificate-authority", json!("gone.crt")),
                ("certificate-authority-data", json!("")),
            ],
        ),
        (
            "junk as authority",
            vec![
                ("certificate-authority", json!("junk.crt")),
                ("certificate-authority-data", json!("")),
            ],
        ),
        (
            "empty authority file",
            vec![
                ("certificate-authority", json!("empty.crt")),
                ("certificate-authority-data", json!("")),
            ],
        ),
        ("no authority", vec![("certificate-authority-data", json!(""))]),
        ("base64 with line ends", vec![("certificate-authority-data", json!(lines.join("\r\n")))]),
        ("base64 with blanks", vec![("certificate-authority-data", json!(lines.join(" ")))]),
        ("base64 without padding", vec![("certificate-authority-data", json!("YQ"))]),
        (
            "junk before the authority",
            vec![(
                "certificate-authority-data",
                json!(BASE64_STANDARD.encode(format!("subject: CN=x\n{authority}"))),
            )],
        ),
        (
            "another authority",
            vec![("certificate-authority-data", json!(BASE64_STANDARD.encode(&world.own)))],
        ),
        (
            "own certificate as authority",
            vec![
                ("certificate-authority-data", json!(BASE64_STANDARD.encode(&world.own))),
                ("tls-server-name", json!("own.example.test")),
            ],
        ),
        (
            "own certificate that is not for servers",
            vec![
                (
                    "certificate-authority-data",
                    json!(BASE64_STANDARD.encode(&world.not_for_servers)),
                ),
                ("tls-server-name", json!("only-clients.example.test")),
            ],
        ),
        (
            "own certificate for another name",
            vec![
                ("certificate-authority-data", json!(BASE64_STANDARD.encode(&world.own))),
                ("tls-server-name", json!("localhost")),
            ],
        ),
        (
            "insecure",
            vec![
                ("insecure-skip-tls-verify", json!(true)),
                ("certificate-authority-data", json!("")),
            ],
        ),
        ("insecure with an authority", vec![("insecure-skip-tls-verify", json!(true))]),
        ("server name", vec![("tls-server-name", json!("localhost"))]),
        ("wrong server name", vec![("tls-server-name", json!("elsewhere.test"))]),
        ("server with a slash", vec![("server", json!(format!("{server}/")))]),
        ("server with a wrong path", vec![("server", json!(format!("{server}/k8s")))]),
        ("server without scheme", vec![("server", json!(server.replace("https://", "")))]),
        ("server with another scheme", vec![("server", json!(server.replace("https", "ftp")))]),
        ("server with a user", vec![("server", json!(server.replace("://", "://u:p%40ss@")))]),
        ("no server", vec![("server", json!(""))]),
        ("number as server", vec![("server", json!(6443))]),
        (
            "proxy",
            vec![("proxy-url", through(format!("http://user:pass%20word@127.0.0.1:{port}")))],
        ),
        (
            "proxy without credentials",
            vec![("proxy-url", through(format!("http://127.0.0.1:{port}")))],
        ),
        ("proxy without scheme", vec![("proxy-url", through(format!("127.0.0.1:{port}")))]),
        ("proxy with another scheme", vec![("proxy-url", json!("ftp://127.0.0.1:1"))]),
        ("proxy that is away", vec![("proxy-url", json!("http://127.0.0.1:1"))]),
    ];
    Ok(edits
        .into_iter()
        .map(|(name, edits)| {
            let mut cluster = good.clone();
            edits.into_iter().for_each(|(field, value)| cluster[field] = value);
            variant(name, config(&cluster, &admin))
        })
        .collect())
}

/// Variants of the user.
fn users(world: &World) -> Result<Vec<Variant>> {
    let good = world.cluster()?;
    let admin = world.clients.issue("admin", "system:masters", 3_600)?;
    let version_1 = world.clients.issue_version_1("admin", "system:masters")?;
    let other = world.clients.issue("other", "others", 3_600)?;
    let data = |pem: &str| json!(BASE64_STANDARD.encode(pem));
    world.write("client.crt", &admin.certificate)?;
    world.write("client.key", &admin.key)?;
    world.write("token", "admin-token\n")?;
    world.write("token-crlf", " admin-token\r\n\r\n")?;
    world.write("token-blank", "\n")?;
    world.write("token-unprivileged", "unprivileged-token")?;
    let plugins = [
        ("plugin-v1", script("v1", r#"{"token":"admin-token"}"#)),
        ("plugin-v1beta1", script("v1beta1", r#"{"token":"admin-token"}"#)),
        ("plugin-both", script("v1", r#"{"token":"","clientCertificateData":"x"}"#)),
        ("plugin-none", script("v1", "{}")),
        ("plugin-env", "#!/bin/sh\nexec \"$(dirname \"$0\")/$WHICH\" \"$@\"\n".to_owned()),
        (
            "plugin-cert",
            script(
                "v1",
                &json!({
                    "clientCertificateData": version_1.certificate, "clientKeyData": version_1.key,
                    "expirationTimestamp": null,
                })
                .to_string(),
            ),
        ),
        (
            "plugin-info",
            format!(
                "#!/bin/sh\ncase \"$KUBERNETES_EXEC_INFO\" in *'\"server\":\"{}\"'*) exec \"$(dirname \"$0\")/plugin-v1\";; esac\nexit 1\n",
                world.plane.url()
            ),
        ),
    ];
    for (name, content) in &plugins {
        use std::os::unix::fs::PermissionsExt as _;
        let path = world.write(name, content)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let exec = |command: &str, version: &str, edit: Value| {
        let mut exec = json!({
            "command": command, "interactiveMode": "Never",
            "apiVersion": format!("client.authentication.k8s.io/{version}"),
        });
        for (field, value) in edit.as_object().into_iter().flatten() {
            exec[field] = value.clone();
        }
        json!({ "exec": exec })
    };
    let broken = "-----BEGIN CERTIFICATE-----\nAA?A\n-----END CERTIFICATE-----\n";
    let users = vec![
        (
            "blank fields of a user",
            json!({
                "token": "admin-token", "tokenFile": "", "client-certificate": "", "client-key": "",
                "client-certificate-data": "", "client-key-data": "", "username": "", "password": "",
                "as": "", "as-groups": [], "exec": null, "auth-provider": null,
            }),
        ),
        ("no credentials", json!({})),
        ("null as user", Value::Null),
        ("wrong token", json!({"token": "wrong"})),
        ("unprivileged", json!({"token": "unprivileged-token"})),
        ("number as token", json!({"token": 123_456})),
        ("token with a line end", json!({"token": "admin-token\n"})),
        ("token file", json!({"tokenFile": "token"})),
        ("token file with carriage returns", json!({"tokenFile": "token-crlf"})),
        ("blank token file", json!({"tokenFile": "token-blank"})),
        ("missing token file", json!({"tokenFile": "token-gone"})),
        ("token and token file", json!({"token": "unprivileged-token", "tokenFile": "token"})),
        (
            "token and a worse token file",
            json!({"token": "admin-token", "tokenFile": "token-unprivileged"}),
        ),
        (
            "token and a missing token file",
            json!({"token": "admin-token", "tokenFile": "token-gone"}),
        ),
        ("token and a password", json!({"token": "admin-token", "username": "n", "password": "p"})),
        (
            "client certificate",
            json!({
                "client-certificate-data": data(&admin.certificate), "client-key-data": data(&admin.key),
            }),
        ),
        (
            "client key with another label",
            json!({
                "client-certificate-data": data(&admin.certificate),
                "client-key-data": data(&admin.key.replace(" PRIVATE KEY", " RSA PRIVATE KEY")),
            }),
        ),
        (
            "client certificate with a broken one after it",
            json!({
                "client-certificate-data": data(&format!("{}{broken}", admin.certificate)),
                "client-key-data": data(&admin.key),
            }),
        ),
        (
            "client certificate with a broken one before it",
            json!({
                "client-certificate-data": data(&format!("{broken}{}", admin.certificate)),
                "client-key-data": data(&admin.key),
            }),
        ),
        (
            "client certificate in files",
            json!({
                "client-certificate": "client.crt", "client-key": "client.key",
            }),
        ),
        (
            "client certificate of version 1",
            json!({
                "client-certificate-data": data(&version_1.certificate),
                "client-key-data": data(&version_1.key),
            }),
        ),
        (
            "client certificate without rights",
            json!({
                "client-certificate-data": data(&other.certificate), "client-key-data": data(&other.key),
            }),
        ),
        ("client certificate without a key", json!({"client-certificate": "client.crt"})),
        (
            "key without a client certificate",
            json!({"client-key": "client.key", "token": "admin-token"}),
        ),
        (
            "client certificate with another key",
            json!({
                "client-certificate": "client.crt", "client-key-data": data(&other.key),
            }),
        ),
        (
            "client certificate in both fields",
            json!({
                "client-certificate": "client.crt", "client-key": "client.key",
                "client-certificate-data": data(&admin.certificate),
            }),
        ),
        (
            "junk as client certificate",
            json!({
                "client-certificate-data": data("junk"), "client-key-data": data(&admin.key),
            }),
        ),
        (
            "impersonation",
            json!({"token": "admin-token", "as": "manager", "as-groups": ["system:masters"]}),
        ),
        (
            "impersonation of an unprivileged user",
            json!({"token": "admin-token", "as": "unprivileged"}),
        ),
        (
            "impersonation without a user",
            json!({"token": "admin-token", "as-groups": ["system:masters"]}),
        ),
        ("plugin", exec("./plugin-v1", "v1", json!({}))),
        ("plugin v1beta1", exec("./plugin-v1beta1", "v1beta1", json!({"interactiveMode": null}))),
        ("plugin v1alpha1", exec("./plugin-v1", "v1alpha1", json!({}))),
        ("plugin of another version", exec("./plugin-v1beta1", "v1", json!({}))),
        (
            "plugin without interactive mode",
            exec("./plugin-v1", "v1", json!({"interactiveMode": ""})),
        ),
        (
            "plugin that needs a terminal",
            exec("./plugin-v1", "v1", json!({"interactiveMode": "Always"})),
        ),
        (
            "plugin with environment",
            exec(
                "./plugin-env",
                "v1",
                json!({
                    "env": [{"name": "WHICH", "value": "plugin-v1"}], "args": null,
                }),
            ),
        ),
        (
            "plugin with arguments",
            exec(
                "sh",
                "v1",
                json!({"args": ["-c", format!("exec {}/plugin-v1", world.directory.display())]}),
            ),
        ),
        (
            "plugin with a nameless variable",
            exec("./plugin-v1", "v1", json!({"env": [{"name": "", "value": "x"}]})),
        ),
        (
            "plugin that requires the cluster",
            exec("./plugin-info", "v1", json!({"provideClusterInfo": true})),
        ),
        ("plugin without the cluster", exec("./plugin-info", "v1", json!({}))),
        ("plugin with a client certificate", exec("./plugin-cert", "v1", json!({}))),
        ("plugin with half a client certificate", exec("./plugin-both", "v1", json!({}))),
        ("plugin with nothing", exec("./plugin-none", "v1", json!({}))),
        ("plugin that is missing", exec("./plugin-gone", "v1", json!({}))),
        ("plugin that is not in PATH", exec("plugin-v1", "v1", json!({}))),
        ("plugin without a command", exec("", "v1", json!({}))),
        ("unknown provider", json!({"auth-provider": {"name": "gcp"}})),
    ];
    Ok(users.into_iter().map(|(name, user)| variant(name, config(&good, &user))).collect())
}

/// Variants of the file, of the list of files, and of the environment.
fn files(world: &World) -> Result<Vec<Variant>> {
    let (good, admin) = (world.cluster()?, json!({"token": "admin-token"}));
    let whole = config(&good, &admin);
    let edit = |name, edit: &dyn Fn(&mut Value)| {
        let mut content = whole.clone();
        edit(&mut content);
        variant(name, content)
    };
    let tabs = serde_json::to_string_pretty(&whole)?.replace("  ", "\t");
    let yaml = format!(
        "clusters:\n- name: c\n  cluster: &c\n    server: '{}'\n    insecure-skip-tls-verify: yes\n\
         users: [{{name: u, user: {{token: admin-token}}}}]\ncontexts:\n- {{name: x, context: {{cluster: c, user: u}}}}\n\
         current-context: x\n",
        world.plane.url()
    );
    let second = world.write(
        "second.yaml",
        &config(&json!({"server": "https://127.0.0.1:1"}), &json!({})).to_string(),
    )?;
    let users = world.write(
        "users.yaml",
        &json!({"users": whole["users"], "current-context": "x"}).to_string(),
    )?;
    let broken = world.write("broken.yaml", "clusters: 5")?;
    world.write("blank.yaml", "")?;
    let listed =
        |name, list: &str| Variant { list: Some(list.to_owned()), ..variant(name, &whole) };
    let remote = {
        let mut cluster = good.clone();
        cluster["server"] = json!("https://api.example.test:6443");
        cluster["tls-server-name"] = json!("localhost");
        config(&cluster, &admin)
    };
    let proxy = format!("http://user:pass%20word@127.0.0.1:{}", world.proxy.port());
    let surrounded = |name, variables: &[(&'static str, &str)]| Variant {
        environment: variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        ..variant(name, &remote)
    };
    let mut without_users = whole.clone();
    without_users["users"] = Value::Null;
    Ok(vec![
        variant("tabs", tabs),
        variant("yaml", &yaml),
        variant("two documents", format!("{yaml}---\nclusters: []\n")),
        variant("broken second document", format!("{yaml}---\nclusters: [\n")),
        variant("byte order mark", format!("\u{feff}{yaml}")),
        variant("comments only", "# nothing\n"),
        variant("empty file", ""),
        variant("not yaml", "a: [b"),
        variant("a list", "[]"),
        edit("another kind", &|it| it["kind"] = json!("Secret")),
        edit("another version", &|it| it["apiVersion"] = json!("v2")),
        edit("no kind and no version", &|it| {
            it["kind"] = Value::Null;
            it["apiVersion"] = Value::Null;
        }),
        edit("missing context", &|it| it["current-context"] = json!("gone")),
        edit("no current context", &|it| it["current-context"] = json!("")),
        edit("nameless context", &|it| {
            it["current-context"] = json!("");
            it["contexts"][0]["name"] = json!("");
        }),
        edit("missing cluster", &|it| it["contexts"][0]["context"]["cluster"] = json!("gone")),
        edit("missing user", &|it| it["contexts"][0]["context"]["user"] = json!("gone")),
        edit("duplicate names", &|it| {
            let first = it["clusters"][0].clone();
            it["clusters"] = json!([first, first]);
        }),
        edit("a broken user that is not used", &|it| {
            let first = it["users"][0].clone();
            it["users"] =
                json!([first, {"name": "other", "user": {"client-certificate": "gone.crt"}}]);
        }),
        edit("a text for a flag", &|it| {
            it["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = json!("maybe");
        }),
        listed("a list of one", "THIS"),
        listed("a list with empty parts", "::THIS:"),
        listed("a list with a missing file", "/nowhere/kubeconfig:THIS"),
        listed("a list where the first counts", &format!("THIS:{second}")),
        listed("a list where another one is first", &format!("{second}:THIS")),
        listed("a list with a broken file", &format!("THIS:{broken}")),
        listed("a list with a blank file", "blank.yaml:THIS"),
        listed("a list of missing files", "/nowhere/a:/nowhere/b"),
        listed("a list of nothing", "::"),
        Variant {
            list: Some(format!("{users}:THIS")),
            ..variant("parts in two files", &without_users)
        },
        surrounded("no proxy on the way", &[]),
        surrounded("HTTPS_PROXY", &[("HTTPS_PROXY", &proxy)]),
        surrounded("https_proxy", &[("https_proxy", &proxy)]),
        surrounded("HTTP_PROXY is not for https", &[("HTTP_PROXY", &proxy)]),
        surrounded("NO_PROXY", &[("HTTPS_PROXY", &proxy), ("NO_PROXY", ".example.test")]),
        surrounded(
            "NO_PROXY for others",
            &[("HTTPS_PROXY", &proxy), ("NO_PROXY", "other.test,10.0.0.0/8")],
        ),
    ])
}

/// Proxies as Go programs use them: SOCKS, and invalid variables. Only the proxy resolves the
/// server's name, except for `0.0.0.0`, which leads to this machine and is not a loopback address.
fn proxies(world: &World) -> Result<Vec<Variant>> {
    let port = world.plane.url().rsplit(':').next().unwrap_or_default().to_owned();
    let socks = world.socks.address();
    let mut cluster = world.cluster()?;
    cluster["tls-server-name"] = json!("localhost");
    let admin = json!({"token": "admin-token"});
    let leading = |name, host: &str, proxy: Option<&str>| {
        let mut cluster = cluster.clone();
        cluster["server"] = json!(format!("https://{host}:{port}"));
        cluster["proxy-url"] = json!(proxy);
        variant(name, config(&cluster, &admin))
    };
    let by_url = |name, proxy: &str| leading(name, "api.example.test", Some(proxy));
    let surrounded = |name, host: &str, value: &str| Variant {
        environment: vec![("HTTPS_PROXY", value.to_owned())],
        ..leading(name, host, None)
    };
    let known = format!("socks5://user:pass%20word@{socks}");
    Ok(vec![
        by_url("socks5 proxy", &known),
        by_url("socks5 proxy without credentials", &format!("socks5://{socks}")),
        by_url("socks5 proxy with a wrong password", &format!("socks5://user:p@{socks}")),
        by_url("socks5 proxy that is away", "socks5://127.0.0.1:1"),
        by_url("proxy with a blank behind it", &format!("{known} ")),
        by_url("proxy with a blank before it", &format!(" {known}")),
        by_url("proxy with a line end", &format!("{known}\n")),
        by_url("proxy with a wrong escape", &format!("socks5://user:pass%2word@{socks}")),
        by_url("proxy with a wrong port", "socks5://127.0.0.1:70000"),
        surrounded("HTTPS_PROXY with socks5", "api.example.test", &known),
        surrounded(
            "HTTPS_PROXY with socks5h",
            "api.example.test",
            &known.replace("socks5:", "socks5h:"),
        ),
        surrounded(
            "HTTPS_PROXY with an unknown scheme is HTTP",
            "api.example.test",
            &format!("ftp://user:pass%20word@127.0.0.1:{}", world.proxy.port()),
        ),
        surrounded("HTTPS_PROXY with a wrong escape is ignored", "0.0.0.0", "http://u:p%zz@p"),
        surrounded("HTTPS_PROXY with a line end is ignored", "0.0.0.0", "http://p:3128\n"),
        surrounded("HTTPS_PROXY with a blank before it is ignored", "0.0.0.0", " http://p:3128"),
        surrounded("HTTPS_PROXY with a wrong port leads nowhere", "0.0.0.0", "http://p:70000"),
        surrounded("HTTPS_PROXY with a blank behind it leads nowhere", "0.0.0.0", "http://p:3 "),
    ])
}

#[test]
fn kubectl_and_our_client_accept_and_refuse_the_same_kubeconfigs() {
    run(async {
        let world = World::create().await?;
        let variants: Vec<Variant> =
            [clusters(&world)?, users(&world)?, files(&world)?, proxies(&world)?].concat();
        ensure!(variants.len() >= 40, "only {} variants", variants.len());
        let verdicts: Vec<_> = stream::iter(&variants)
            .map(|variant| async { (variant.name, world.verdicts(variant).await) })
            .buffered(4)
            .collect()
            .await;
        let mut differ = Vec::new();
        for (name, verdict) in verdicts {
            let [(theirs, they_said), (ours, we_said)] = verdict?;
            let word = if theirs { "works" } else { "refused" };
            println!("{name}: {word}; kubectl: {they_said:?}; ours: {we_said:?}");
            if theirs != ours {
                differ.push(format!(
                    "{name}: kubectl {theirs} ({they_said}), ours {ours} ({we_said})"
                ));
            }
        }
        println!(
            "{} variants, {} tunnels through the proxy, {} through SOCKS",
            variants.len(),
            world.proxy.tunnels(),
            world.socks.seen().len()
        );
        ensure!(differ.is_empty(), "{}", differ.join("\n"));
        Ok(())
    })
    .unwrap();
}
