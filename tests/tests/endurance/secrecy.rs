//! Keys and proofs are never published.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use tests::{
    namespace::Namespace,
    objects::list,
    run,
    test_env::{TestEnv, TestEnvOptions},
};

#[test]
fn no_key_is_in_a_log_an_event_or_a_status_even_with_trace_logging() {
    run(async {
        let arguments = vec!["-D".to_owned(), "trace".to_owned()];
        let env = TestEnv::with_issuer(TestEnvOptions { arguments, ..Default::default() }).await?;
        let namespace = Namespace::new(&env, "secrecy").await?;
        namespace.simple("hidden").await?;
        namespace.until("hidden", "Ready", Duration::from_secs(20)).await?;
        let client = env.control_plane.client();
        let secret = namespace.secret("hidden-tls").await?.context("no Secret")?;
        let data = secret.data.context("no data")?;
        let key = String::from_utf8(data.get("tls.key").context("no key")?.0.clone())?;
        let account = list(&client, "Secret", "default").await?;
        let account = account
            .iter()
            .find_map(|one| one.data["data"]["privateKey"].as_str())
            .context("no account key")?;
        // The second line of the PEM text, where the key begins; the account key is base64-encoded
        // once more.
        let line = key.lines().nth(1).context("no second line")?;
        let mut published = fs::read_to_string(env.control_plane.logs().join("manager.log"))?;
        ensure!(published.contains("hidden"), "the log is not the manager's");
        for kind in ["Event", "Certificate"] {
            published += &serde_json::to_string(&list(&client, kind, &namespace.name).await?)?;
        }
        published += &serde_json::to_string(&list(&client, "Issuer", "default").await?)?;
        for (what, needle) in [
            ("a PEM key", "PRIVATE KEY"),
            ("the certificate's key", line),
            ("the account's key", &account[60..120]),
        ] {
            ensure!(!published.contains(needle), "{what} is published");
        }
        Ok(())
    })
    .unwrap();
}
