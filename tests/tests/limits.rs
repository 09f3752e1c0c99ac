//! Rate limits, fairness and loops in the real manager.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use kube::api::DynamicObject;
use serde_json::json;
use tests::{
    Look, eventually,
    namespace::Namespace,
    objects::{self, condition},
    run,
    test_env::{TestEnv, TestEnvOptions},
};
use tokio::sync::OnceCell;

const SOON: Duration = Duration::from_secs(30);
const ORDERS_AT_ONCE: usize = 4;
const FAILING_NAMES: usize = 60;

async fn env() -> Result<&'static TestEnv> {
    static ENV: OnceCell<TestEnv> = OnceCell::const_new();
    ENV.get_or_try_init(own_env).await
}

async fn own_env() -> Result<TestEnv> {
    let arguments = vec![format!("--orders-at-once={ORDERS_AT_ONCE}")];
    TestEnv::with_issuer(TestEnvOptions { arguments, ..TestEnvOptions::default() }).await
}

fn reason(object: &DynamicObject) -> String {
    let ready = condition(object, "Ready");
    ready.and_then(|it| it["reason"].as_str().map(str::to_owned)).unwrap_or_default()
}

fn suspects(object: &DynamicObject) -> bool {
    reason(object) == "LoopSuspected"
}

/// Waits until a loop of the Certificate `web` is suspected.
async fn until_suspected(namespace: &Namespace) -> Result<DynamicObject> {
    namespace.until_some("Certificate", "web", "suspects a loop", SOON, suspects).await
}

/// Requests a retry of `web`.
async fn request_retry(namespace: &Namespace) -> Result<()> {
    let mark = json!({"metadata": {"annotations": {"gardener.cloud/operation": "reconcile"}}});
    namespace.patch("web", mark).await.map(drop)
}

/// Checks how often `web` was signed.
async fn was_signed(env: &TestEnv, namespace: &Namespace, times: usize) -> Result<()> {
    let signed = env.pebble.signed_by_names().await?;
    let host = format!("web.{}", namespace.domain);
    ensure!(signed.get(&vec![host]) == Some(&times), "{signed:?}");
    Ok(())
}

/// faults.md 55
#[test]
fn a_repeatedly_deleted_secret_is_issued_four_times_until_a_user_requests_a_retry() {
    run(async {
        // This test kills the manager, which would be a failure for tests that share it.
        let env = own_env().await?;
        let namespace = Namespace::new(&env, "undone").await?;
        namespace.simple("web").await?;
        for _ in 0..4 {
            eventually(SOON, "the Secret is there", || async {
                let secret = namespace.secret("web-tls").await?;
                Ok(secret.map_or_else(|| Look::NotYet("no Secret".to_owned()), |_| Look::Done(())))
            })
            .await?;
            namespace.until("web", "Ready", SOON).await?;
            namespace.delete("Secret", "web-tls").await?;
        }
        let stopped = until_suspected(&namespace).await?;
        let (state, message) = objects::state(&stopped);
        ensure!(state == "Error" && message.contains("Secret undone/web-tls"), "{message}");
        ensure!(message.contains("deletes or overwrites the Secret"), "{message}");
        ensure!(stopped.data["status"]["reissued"].as_array().is_some_and(|it| it.len() == 3));

        env.replace_manager().await?;
        namespace.simple("bystander").await?;
        namespace.until("bystander", "Ready", SOON).await?;
        let after = namespace.read("Certificate", "web").await?;
        ensure!(suspects(&after), "a restart forgets: {}", after.data["status"]);
        ensure!(namespace.secret("web-tls").await?.is_none());

        request_retry(&namespace).await?;
        namespace.until("web", "Ready", SOON).await?;
        was_signed(&env, &namespace, 5).await
    })
    .unwrap();
}

/// A tool that syncs objects from a repository sets `renew` at each sync.
#[test]
fn a_renewal_requested_at_each_sync_happens_three_times_and_the_secret_stays_valid() {
    run(async {
        let env = env().await?;
        let namespace = Namespace::new(env, "synced").await?;
        namespace.simple("web").await?;
        let renew = json!({"spec": {"renew": true}});
        let until_renewed = |times: usize| {
            let renewed = move |object: &DynamicObject| {
                let status = &object.data["status"];
                let reissued = status["reissued"].as_array().map_or(0, Vec::len);
                status["state"] == "Ready" && reissued == times
            };
            namespace.until_some("Certificate", "web", "is renewed", SOON, renewed)
        };
        for times in 0..4 {
            until_renewed(times).await?;
            namespace.patch("web", renew.clone()).await?;
        }
        let stopped = until_suspected(&namespace).await?;
        let (_, message) = objects::state(&stopped);
        ensure!(message.contains("repeatedly sets renew"), "{message}");
        let conditions = &stopped.data["status"]["conditions"];
        ensure!(conditions[0]["status"] == "True", "the Secret serves: {conditions}");
        ensure!(stopped.data["spec"]["renew"] == true, "it is not fulfilled: {}", stopped.data);

        request_retry(&namespace).await?;
        // The request of a user removes one of the three issuances from the list, and adds a new
        // one.
        until_renewed(3).await?;
        was_signed(env, &namespace, 5).await
    })
    .unwrap();
}

/// faults.md 60
#[test]
fn a_namespace_full_of_failing_names_does_not_delay_another() {
    run(async {
        let env = env().await?;
        let failing = Namespace::new(env, "failing").await?;
        let modest = Namespace::new(env, "modest").await?;
        // No server answers for this zone, so no proof becomes visible.
        try_join_all((0..FAILING_NAMES).map(|number| {
            let host = format!("n{number}.not-delegated.test");
            let name = format!("bad-{number}");
            let failing = &failing;
            async move { failing.certificate(&name, json!({"commonName": host})).await }
        }))
        .await?;
        let client = env.control_plane.client();
        eventually(SOON, "failing orders run and others wait for a slot", || async {
            let all = objects::list(&client, "Certificate", &failing.name).await?;
            let count = |word: &str| all.iter().filter(|it| reason(it) == word).count();
            let (running, queued) = (count("Issuing"), count("Queued"));
            let text = format!("{running} run, {queued} wait");
            let as_wanted = running == ORDERS_AT_ONCE - 1 && queued == FAILING_NAMES - running;
            Ok(if as_wanted { Look::Done(()) } else { Look::NotYet(text) })
        })
        .await?;
        let began = Instant::now();
        for number in 0..5 {
            modest.simple(&format!("good-{number}")).await?;
        }
        modest.until_all_ready(5, Duration::from_secs(20)).await?;
        println!("5 Certificates beside {FAILING_NAMES} failing ones: {:?}", began.elapsed());
        Ok(())
    })
    .unwrap();
}
