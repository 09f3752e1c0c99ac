//! Our engine beside an independent ACME client: the same orders, the same answers.

use anyhow::Result;
use tests::{
    acme::{self, Publish},
    challtestsrv::ChallTestSrv,
    pebble::{Pebble, PebbleOptions},
    processes::{logs, scratch},
    run,
    x509::Leaf,
};

/// The DNS side of the independent client.
struct Txt<'a>(&'a ChallTestSrv);

impl Publish for Txt<'_> {
    async fn publish(&self, name: String, value: String) -> Result<()> {
        self.0.set_txt(&format!("{name}."), &value).await
    }
}

#[test]
fn instant_acme_gets_what_it_orders() {
    run(async {
        let logs = logs()?;
        let dns = ChallTestSrv::start(&logs).await?;
        let options = PebbleOptions { dns: Some(dns.dns()), ..Default::default() };
        let pebble = Pebble::start(&options, &scratch()?, &logs).await?;
        let account = acme::register(&pebble).await?;
        let name = "oracle.my-company.test".to_owned();
        let pem = acme::issue(&account, std::slice::from_ref(&name), &Txt(&dns)).await?;
        assert_eq!(Leaf::parse(pem.as_bytes())?.names, [name]);
        Ok(())
    })
    .unwrap();
}
