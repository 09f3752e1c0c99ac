//! Faults of the API server during issuance: each write on the way from a Certificate to its Secret
//! is lost before or after the server has processed it, or refused for a while. The Certificate
//! still becomes Ready with one order and one certificate, and no records are left.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use http::Method;
use serde_json::json;
use tests::{
    Look, eventually,
    namespace::Namespace,
    objects::{acme_issuer, apply, state},
    pebble::PebbleOptions,
    proxy::{Answer, Fault, Kind, Rule},
    run,
    test_env::{TestEnv, TestEnvOptions},
};
use tokio::{net::UdpSocket, sync::OnceCell};

const SOON: Duration = Duration::from_secs(60);

/// The namespace of stored progress.
const PROGRESS: &str = "/api/v1/namespaces/default/secrets";

/// Creates the faults for a namespace.
type Faults = fn(&str) -> Vec<Rule>;

fn secret(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets/")
}

fn certificate(namespace: &str) -> String {
    format!("/apis/cert.gardener.cloud/v1alpha1/namespaces/{namespace}/certificates/")
}

fn entries(namespace: &str) -> String {
    format!("/apis/dns.gardener.cloud/v1alpha1/namespaces/{namespace}/dnsentries")
}

fn on(method: Method, path: &str, fault: Fault) -> Rule {
    Rule::all(fault).method(method).path(path)
}

fn unavailable() -> Fault {
    Fault::Answer(Answer::text(503, "text/plain", "the server is on its way").retry_after("1"))
}

/// Each row: a DNS label as the name, and the faults.
const SCENARIOS: [(&str, Faults); 12] = [
    ("progress-stored-unheard", |_| vec![on(Method::PATCH, PROGRESS, Fault::ResetAfter).once()]),
    ("progress-not-stored", |_| vec![on(Method::PATCH, PROGRESS, unavailable()).first(3)]),
    ("progress-deleted-unheard", |_| vec![on(Method::DELETE, PROGRESS, Fault::ResetAfter).once()]),
    ("entry-made-unheard", |ns| vec![on(Method::PATCH, &entries(ns), Fault::ResetAfter).once()]),
    ("entry-not-made", |ns| vec![on(Method::PATCH, &entries(ns), Fault::ResetBefore).first(2)]),
    ("entry-stays", |ns| vec![on(Method::DELETE, &entries(ns), unavailable()).first(2)]),
    ("secret-written-unheard", |ns| vec![on(Method::PATCH, &secret(ns), Fault::ResetAfter).once()]),
    ("secret-not-written", |ns| vec![on(Method::PATCH, &secret(ns), unavailable()).first(2)]),
    ("secret-answer-is-no-json", |ns| {
        vec![on(Method::PATCH, &secret(ns), Fault::body("<html>ok</html>")).once()]
    }),
    ("status-written-unheard", |ns| {
        vec![on(Method::PATCH, &certificate(ns), Fault::ResetAfter).first(2)]
    }),
    ("status-answer-breaks-off", |ns| {
        vec![on(Method::PATCH, &certificate(ns), Fault::BreakOff).first(2)]
    }),
    ("a-tenth-of-all-is-lost", |_| vec![Rule::all(Fault::ResetBefore).percent(10)]),
];

#[test]
fn a_certificate_is_ordered_and_signed_once_despite_api_server_faults() {
    run(async {
        let exact = PebbleOptions { nonce_reject: 0, ..PebbleOptions::default() };
        let options = TestEnvOptions {
            pebble: exact,
            proxy: true,
            api_proxy: true,
            ..TestEnvOptions::default()
        };
        let env = TestEnv::with_issuer(options).await?;
        let acme = env.proxy.as_ref().context("there is no proxy before the CA")?;
        let api = env.api_proxy.as_ref().context("there is no proxy before the API server")?;
        for (name, faults) in SCENARIOS {
            let namespace = Namespace::new(&env, name).await?;
            acme.forget();
            api.forget();
            api.set_rules(faults(name));
            namespace.simple("a").await?;
            let done = namespace.until("a", "Ready", SOON).await;
            let hit = api.seen().iter().filter(|seen| seen.faulted).count();
            api.clear_rules();
            done.with_context(|| format!("{name}, after {hit} faults"))?;
            env.until_nothing_is_left(SOON).await.context(name)?;
            let orders = acme.count(Kind::NewOrder);
            let signed = env.pebble.signed_by_names().await?;
            let signed = signed.get(&vec![format!("a.{}", namespace.domain)]).copied();
            println!("{name}: {hit} faults, {orders} orders, {signed:?} certificates");
            ensure!(hit > 0, "{name}: nothing went wrong: {:#?}", lines(api));
            ensure!(
                (orders, signed) == (1, Some(1)),
                "{name}: {orders} orders, signed: {signed:?}"
            );
            ensure!(namespace.secret("a-tls").await?.is_some(), "{name}: there is no Secret");
        }
        Ok(())
    })
    .unwrap();
}

fn lines(proxy: &tests::proxy::Proxy) -> Vec<String> {
    proxy.seen().into_iter().map(|seen| seen.line).filter(|line| !line.starts_with("GET")).collect()
}

/// A name server that never has the record, with a different answer each time.
async fn flaky_query(queries: Arc<AtomicUsize>) -> anyhow::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = socket.local_addr()?;
    tokio::spawn(async move {
        let mut packet = [0; 1_500];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let number = queries.fetch_add(1, Ordering::Relaxed);
            // The question is repeated in the answer (RFC 1035 section 4.1.1): NXDOMAIN, or no
            // record.
            packet[2] |= 0x84;
            packet[3] = if number.is_multiple_of(2) { 3 } else { 0 };
            let _ = socket.send_to(&packet[..length], from).await;
        }
    });
    Ok(address)
}

/// The test environment of the tests below, whose objects are in separate namespaces.
async fn shared() -> anyhow::Result<&'static TestEnv> {
    static SHARED: OnceCell<TestEnv> = OnceCell::const_new();
    let options = || TestEnvOptions { api_proxy: true, ..TestEnvOptions::default() };
    SHARED.get_or_try_init(|| TestEnv::with_issuer(options())).await
}

#[test]
fn a_revoked_annotation_is_removed_even_if_a_removal_request_is_lost() {
    run(async {
        let env = shared().await?;
        let api = env.api_proxy.as_ref().context("there is no proxy before the API server")?;
        let own = json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Issuer",
            "metadata": { "name": "own-self" }, "spec": { "selfSigned": {} },
        });
        apply(&env.control_plane.client(), "default", &own).await?;
        let namespace = Namespace::new(env, "marked").await?;
        let spec = json!({
            "commonName": "a CA", "isCA": true, "secretName": "a-tls",
            "issuerRef": { "name": "own-self" },
        });
        namespace.certificate("a", spec).await?;
        namespace.until("a", "Ready", SOON).await?;
        let before = namespace.leaf("a-tls").await?.serial;
        // The annotation of upstream.
        let mark = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {
                "name": "a-tls", "annotations": { "cert.gardener.cloud/revoked": "true" },
            },
        });
        namespace.apply(&mark).await?;
        namespace.until("a", "Revoked", SOON).await?;
        // The first write stores the new certificate, the second removes the annotation.
        let path = format!("{}a-tls", secret("marked"));
        api.set_rules([on(Method::PATCH, &path, Fault::ResetBefore).only(2)]);
        namespace.patch("a", json!({ "spec": { "renew": true } })).await?;
        namespace.until("a", "Ready", SOON).await?;
        let hit = api.seen().iter().filter(|seen| seen.faulted).count();
        ensure!(hit == 1, "the removal of the mark was not lost");
        ensure!(namespace.leaf("a-tls").await?.serial != before, "it is the same certificate");
        eventually(SOON, "the mark is gone", || async {
            let secret = namespace.secret("a-tls").await?.context("it is gone")?;
            let marks = secret.metadata.annotations.unwrap_or_default();
            let is_marked = marks.keys().any(|name| name.contains("/revoked"));
            Ok(if is_marked { Look::NotYet(format!("{marks:?}")) } else { Look::Done(()) })
        })
        .await
    })
    .unwrap();
}

#[test]
fn a_certificate_that_waits_for_slow_dns_causes_two_status_writes() {
    run(async {
        let env = shared().await?;
        let api = env.api_proxy.as_ref().context("there is no proxy before the API server")?;
        let queries = Arc::new(AtomicUsize::new(0));
        let server = flaky_query(Arc::clone(&queries)).await?;
        let mut issuer = acme_issuer("slow", &env.pebble.directory())?;
        issuer["spec"]["acme"]["precheckNameservers"] = json!([server.to_string()]);
        let client = env.control_plane.client();
        apply(&client, "default", &issuer).await?;
        env.until_issuer("slow", "Ready", SOON).await?;

        let namespace = Namespace::new(env, "slow-dns").await?;
        let host = format!("a.{}", namespace.domain);
        let spec =
            json!({ "commonName": host, "secretName": "a", "issuerRef": { "name": "slow" } });
        namespace.certificate("a", spec).await?;
        eventually(SOON, "a dozen looks", || async {
            let looks = queries.load(Ordering::Relaxed);
            Ok(if looks >= 12 { Look::Done(()) } else { Look::NotYet(format!("{looks} looks")) })
        })
        .await?;
        let status = "namespaces/slow-dns/certificates/a/status";
        let writes = || api.seen().iter().filter(|seen| seen.line.contains(status)).count();
        let waiting = writes();
        let (_, message) = state(&namespace.read("Certificate", "a").await?);
        ensure!(message.contains("waiting for DNS01 challenge"), "{message}");

        issuer["spec"]["acme"]["precheckNameservers"] = json!([]);
        apply(&client, "default", &issuer).await?;
        namespace.until("a", "Ready", SOON).await?;
        println!("{waiting} writes of the status while it waited, {} in all", writes());
        ensure!(waiting == 2 && writes() == 3, "{waiting} and {}: {:#?}", writes(), lines(api));
        Ok(())
    })
    .unwrap();
}
