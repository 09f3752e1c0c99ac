//! Servers that can only be reached through a proxy.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::{
    connect::ConnectProxy,
    namespace::Namespace,
    proxy::socks::SocksProxy,
    run,
    test_env::{ISSUER, TestEnv, TestEnvOptions},
    tls::PROXIED,
};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn an_acme_server_is_reached_through_the_proxy_of_the_environment_with_its_credentials() {
    run(async {
        let proxy = ConnectProxy::start().await?;
        let address = proxy.address();
        let variable = |name: &str, value: String| (name.to_owned(), value);
        let env = TestEnv::start(TestEnvOptions {
            environment: vec![
                variable("HTTPS_PROXY", format!("http://user:hidden@{address}")),
                variable("NO_PROXY", "10.0.0.0/8,.cluster.local".to_owned()),
            ],
            ..TestEnvOptions::default()
        })
        .await?;
        let server = env.pebble.directory().replacen("127.0.0.1", PROXIED, 1);
        env.issuer(ISSUER, &server).await?;
        let namespace = Namespace::new(&env, "proxied").await?;
        namespace.simple("web").await?;
        namespace.until("web", "Ready", SOON).await?;

        let seen = proxy.seen();
        ensure!(!seen.is_empty(), "the proxy was not used");
        for (target, credentials) in &seen {
            ensure!(target.starts_with(PROXIED), "{target}");
            ensure!(credentials.as_deref() == Some("Basic dXNlcjpoaWRkZW4="), "{credentials:?}");
        }
        let log = env.manager_log()?;
        let shown = format!("proxies: https through http://{address}, not for 10.0.0.0/8");
        ensure!(log.matches(&shown).count() == 1, "{log}");
        ensure!(!log.contains("hidden"), "the log shows the password");
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_api_server_and_the_acme_server_are_reached_through_a_socks_proxy_that_resolves_their_names()
{
    run(async {
        let proxy = SocksProxy::start("user", "hidden").await?;
        let address = proxy.address();
        let variable = |name: &str, value: String| (name.to_owned(), value);
        let env = TestEnv::start(TestEnvOptions {
            environment: vec![
                variable("HTTPS_PROXY", format!("socks5://user:hidden@{address}")),
                variable("HTTP_PROXY", "http://user:hidden%@p".to_owned()),
            ],
            api_host: Some(PROXIED),
            ..TestEnvOptions::default()
        })
        .await?;
        let server = env.pebble.directory().replacen("127.0.0.1", PROXIED, 1);
        env.issuer(ISSUER, &server).await?;
        let namespace = Namespace::new(&env, "socks").await?;
        namespace.simple("web").await?;
        namespace.until("web", "Ready", SOON).await?;

        let seen = proxy.seen();
        for url in [env.control_plane.url(), env.pebble.directory()] {
            let port = url.split(['/', ':']).nth(4).context("no port")?;
            let server = format!("{PROXIED}:{port}");
            ensure!(seen.contains(&server), "{server} was not asked for: {seen:?}");
        }
        let log = env.manager_log()?;
        let shown = format!("proxies: https through socks5://{address}");
        ensure!(log.matches(&shown).count() == 1, "{log}");
        let ignored =
            "the environment variable HTTP_PROXY is not the URL of a proxy and is ignored";
        ensure!(log.matches(ignored).count() == 1, "{log}");
        ensure!(!log.contains("hidden"), "the log shows the password");
        Ok(())
    })
    .unwrap();
}
