//! `make demo`: issues the examples on a real API server, with a real CA and real DNS.
//!
//! With `KEEP=1` everything keeps running until Ctrl-C.

use std::{
    env,
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use kube::api::DynamicObject;
use serde_json::Value;
use tests::{
    eventually, janitor,
    objects::{self, apply, example, has_state, list},
    run,
    table::{Table, Width, align},
    test_env::{TestEnv, TestEnvOptions},
    x509::Leaf,
};

const EXAMPLES: &[&str] = &["30-cert-simple.yaml", "30-cert-csr.yaml", "30-cert-wildcard.yaml"];
const DEADLINE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let ended = run(run_demo()).map_err(anyhow::Error::from);
    let cleaned = janitor::finish();
    match ended.and_then(|value| cleaned.map(|()| value)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_demo() -> Result<()> {
    section("starting etcd, kube-apiserver, Pebble and the manager with its DNS responder")?;
    let began = Instant::now();
    let env = TestEnv::start(TestEnvOptions::default()).await?;
    section(&format!("ready after {:.1} s", began.elapsed().as_secs_f32()))?;
    let shown = show(&env).await;
    if shown.is_err() {
        section(&format!("the logs are in {}", env.control_plane.logs().display()))?;
    }
    shown?;
    if env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0") {
        keep(&env).await?;
    }
    Ok(())
}

async fn show(env: &TestEnv) -> Result<()> {
    let client = env.control_plane.client();
    section("applying examples/20-issuer.yaml, with Pebble as its server, and the certificates")?;
    let mut issuer = example("20-issuer.yaml")?;
    issuer["spec"]["acme"]["server"] = Value::String(env.pebble.directory());
    apply(&client, "default", &issuer).await?;
    let mut times = Vec::new();
    let began = Instant::now();
    for file in EXAMPLES {
        apply(&client, "default", &example(file)?).await?;
    }
    for file in EXAMPLES {
        let certificate = until_ready(env, &example(file)?).await?;
        times.push((file, certificate, began.elapsed()));
    }
    heading("kubectl get issuer")?;
    line(&Table::read(&client, "issuers", "default").await?.print(Width::Narrow))?;
    heading("kubectl get cert -o wide")?;
    line(&Table::read(&client, "certificates", "default").await?.print(Width::Wide))?;
    heading("events")?;
    line(&events(env).await?)?;
    heading("the leaf of cert-simple-tls")?;
    line(&leaf(env, "cert-simple-tls").await?.to_string())?;
    heading("from apply to Ready")?;
    for (file, _, took) in times {
        line(&format!("{file:24} {:.2} s", took.as_secs_f32()))?;
    }
    Ok(())
}

async fn until_ready(env: &TestEnv, example: &Value) -> Result<DynamicObject> {
    let name = example["metadata"]["name"].as_str().context("the example has no name")?;
    let certificates = objects::api(&env.control_plane.client(), "Certificate", "default")?;
    eventually(DEADLINE, &format!("Certificate {name} is Ready"), || async {
        env.check_manager().await?;
        Ok(has_state(certificates.get(name).await?, "Ready"))
    })
    .await
}

async fn events(env: &TestEnv) -> Result<String> {
    let events = list(&env.control_plane.client(), "Event", "default").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![["TYPE", "REASON", "OBJECT", "MESSAGE"].map(str::to_owned).to_vec()];
    let ours = events.iter().filter(|event| {
        let kind = &event.data["regarding"]["kind"];
        kind == "Certificate" || kind == "Issuer"
    });
    lines.extend(ours.map(|event| {
        let object = &event.data["regarding"];
        let object = format!("{}/{}", text(&object["kind"]), text(&object["name"]));
        let of = |field: &str| text(&event.data[field]);
        vec![of("type"), of("reason"), object, of("note")]
    }));
    Ok(align(&lines))
}

async fn leaf(env: &TestEnv, name: &str) -> Result<Leaf> {
    let secret = objects::api(&env.control_plane.client(), "Secret", "default")?.get(name).await?;
    let secret: k8s_openapi::api::core::v1::Secret =
        serde_json::from_value(serde_json::to_value(secret)?)?;
    let data = secret.data.unwrap_or_default();
    Leaf::parse(&data.get("tls.crt").context("the Secret has no tls.crt")?.0)
}

async fn keep(env: &TestEnv) -> Result<()> {
    heading("it keeps running until Ctrl-C; in another terminal:")?;
    line(&format!("export KUBECONFIG={}", env.control_plane.kubeconfig("admin")?.display()))?;
    line("kubectl get cert -o wide")?;
    line(&format!("# logs: {}", env.control_plane.logs().display()))?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}

fn section(text: &str) -> Result<()> {
    line(&format!("==> {text}"))
}

fn heading(text: &str) -> Result<()> {
    line(&format!("\n── {text}"))
}

fn line(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
