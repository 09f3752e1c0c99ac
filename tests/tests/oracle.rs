//! Compares our engine with an independent ACME client: the same orders at the same CA, the same
//! results. Our engine runs as the program of `examples/issue.rs`, so that the documented example
//! is tested, too.

use anyhow::{Context, Result, ensure};
use tests::{acme, challtestsrv::ChallTestSrv, locate, pebble::Pebble, run, x509::Leaf};
use tokio::process::Command;

/// The certificate of our engine for `names`: the chain in PEM.
async fn ours(pebble: &Pebble, dns: &ChallTestSrv, names: &[String]) -> Result<String> {
    let program = locate::profile()?.join("examples/issue");
    let done = Command::new(&program)
        .args(names)
        .env("ACME_DIRECTORY", pebble.directory())
        .env("ACME_ROOTS", pebble.trust())
        .env("DNS_API", dns.api())
        .env("DNS_SERVER", format!("127.0.0.1:{}", dns.dns()))
        .output()
        .await
        .with_context(|| {
            format!("{}: build it with `cargo build -p cert-lib --examples`", program.display())
        })?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8(done.stdout)?)
}

#[test]
fn both_acme_clients_get_the_same_certificate_for_the_same_order() {
    run(async {
        let (pebble, dns, account) = acme::with_dns().await?;
        for names in [
            vec!["single.my-company.test"],
            vec!["apex.my-company.test", "*.apex.my-company.test"],
            vec!["a.my-company.test", "b.my-company.test", "c.d.my-company.test"],
        ] {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let theirs = acme::issue(&account, &names, &dns).await?;
            let ours = ours(&pebble, &dns, &names).await?;
            let (theirs, ours) = (Leaf::parse(theirs.as_bytes())?, Leaf::parse(ours.as_bytes())?);
            let mut wanted = names.clone();
            wanted.sort();
            let sorted = |leaf: &Leaf| {
                let mut names = leaf.names.clone();
                names.sort();
                names
            };
            assert_eq!(sorted(&ours), wanted);
            assert_eq!(sorted(&ours), sorted(&theirs));
            assert_eq!(
                (&ours.issuer, ours.chain, &ours.key),
                (&theirs.issuer, theirs.chain, &theirs.key)
            );
            assert_ne!(ours.serial, theirs.serial);
        }
        Ok(())
    })
    .unwrap();
}
