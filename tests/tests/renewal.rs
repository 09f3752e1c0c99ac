//! Certificates are renewed when the CA requests it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use serde_json::json;
use tests::{
    Look, eventually,
    namespace::Namespace,
    run,
    test_env::{TestEnv, TestEnvOptions},
};

const SOON: Duration = Duration::from_secs(60);

/// The leaf in a Secret, in PEM.
async fn leaf(namespace: &Namespace, secret: &str) -> Result<String> {
    let secret = namespace.secret(secret).await?.context("there is no Secret")?;
    let data = secret.data.unwrap_or_default();
    Ok(String::from_utf8(data.get("tls.crt").context("no tls.crt")?.0.clone())?)
}

fn window(start: Timestamp, end: Timestamp) -> String {
    json!({
        "suggestedWindow": { "start": start.to_string(), "end": end.to_string() },
        "explanationURL": "https://ca.example/incident",
    })
    .to_string()
}

/// The status about the current certificate.
async fn suggested(namespace: &Namespace, name: &str) -> Result<DynamicObject> {
    namespace
        .until_some("Certificate", name, "shows what its CA says", SOON, |object| {
            object.data["status"]["renewalInfo"]["certificate"].is_string()
        })
        .await
}

fn time(object: &DynamicObject, field: &str) -> Result<Timestamp> {
    let text = object.data["status"].pointer(field).and_then(|value| value.as_str());
    Ok(text.with_context(|| format!("no {field}"))?.parse()?)
}

/// A window in the past (fault scenarios 31 and 32), an invalid one, and the CA's default.
#[test]
fn a_past_window_renews_now_an_invalid_one_is_ignored_and_the_status_shows_the_default() {
    run(async {
        let env = TestEnv::with_issuer(TestEnvOptions::default()).await?;
        let namespace = Namespace::new(&env, "renewal").await?;
        for name in ["past", "malformed", "usual"] {
            namespace.simple(name).await?;
        }
        namespace.until_all_ready(3, SOON).await?;
        ensure!(env.pebble.renewal_info_requests()? == 0, "a new certificate needs no question");
        let hour = SignedDuration::from_hours(1);
        let now = Timestamp::now();
        let past = leaf(&namespace, "past-tls").await?;
        env.pebble.set_renewal_info(&past, &window(now - hour, now - hour / 2)).await?;
        let malformed = leaf(&namespace, "malformed-tls").await?;
        let turned = window(now - hour / 2, now - hour);
        env.pebble.set_renewal_info(&malformed, &turned).await?;

        // After a start, the manager fetches the information for all certificates.
        env.replace_manager().await?;
        eventually(SOON, "the certificate whose window is past is renewed", || async {
            env.check_manager().await?;
            Ok(match leaf(&namespace, "past-tls").await? {
                same if same == past => Look::NotYet(
                    namespace.read("Certificate", "past").await?.data["status"].to_string(),
                ),
                _ => Look::Done(()),
            })
        })
        .await?;
        let renewed = namespace.until("past", "Ready", SOON).await?;
        // There is no information about the new certificate yet.
        ensure!(renewed.data["status"]["renewalInfo"].is_null(), "{}", renewed.data["status"]);
        let is = |it: &str| it.contains("RenewalDue") && it.contains("https://ca.example/incident");
        namespace.until_event("past", SOON, is).await?;

        let usual = suggested(&namespace, "usual").await?;
        let (start, end) =
            (time(&usual, "/renewalInfo/windowStart")?, time(&usual, "/renewalInfo/windowEnd")?);
        let selected = time(&usual, "/renewalInfo/selected")?;
        ensure!(
            start < end && start - hour < selected && selected <= end,
            "{start} {selected} {end}"
        );
        ensure!(time(&usual, "/renewalDate")? == selected, "{}", usual.data["status"]);

        eventually(SOON, "the CA was asked about all", || async {
            let asked = env.pebble.renewal_info_requests()?;
            Ok(if asked >= 3 { Look::Done(()) } else { Look::NotYet(asked.to_string()) })
        })
        .await?;
        let untouched = namespace.read("Certificate", "malformed").await?;
        ensure!(untouched.data["status"]["state"] == "Ready", "{}", untouched.data["status"]);
        ensure!(untouched.data["status"]["renewalInfo"].is_null(), "{}", untouched.data["status"]);
        ensure!(leaf(&namespace, "malformed-tls").await? == malformed, "it was renewed");
        ensure!(env.pebble.signed_count()? == 4, "one certificate and no other was renewed");
        env.check_manager().await
    })
    .unwrap();
}
