//! An independent ACME client, instant-acme: the reference for the tests and part of the
//! benchmark's baseline.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, CertificateSigningRequest, DistinguishedName, KeyPair};

use tokio::sync::Semaphore;

use crate::{
    challtestsrv::ChallTestSrv,
    pebble::{Pebble, PebbleOptions},
    processes::{logs, scratch},
};

/// Polls begin after 5 ms: Pebble takes a few milliseconds for everything.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(5))
    .backoff(1.5)
    .timeout(Duration::from_secs(20));

/// Registers a new account.
///
/// # Errors
/// Pebble refuses it.
pub async fn register(pebble: &Pebble) -> Result<Account> {
    let contact = NewAccount {
        contact: &["mailto:baseline@my-company.test"],
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(pebble.https()));
    let (account, _credentials) = builder.create(&contact, pebble.directory(), None).await?;
    Ok(account)
}

/// A CA that uses a DNS server of its own, and an account there. It refuses no nonce, so that its
/// requests can be counted.
///
/// # Errors
/// Something does not start.
pub async fn with_dns() -> Result<(Pebble, ChallTestSrv, Account)> {
    let logs = logs()?;
    let dns = ChallTestSrv::start(&logs).await?;
    let options = PebbleOptions { nonce_reject: 0, dns: Some(dns.dns()), ..Default::default() };
    let pebble = Pebble::start(&options, &scratch()?, &logs).await?;
    let account = register(&pebble).await?;
    Ok((pebble, dns, account))
}

/// Publishes a TXT value under a name, before the CA looks for it.
pub trait Publish {
    /// Makes `value` visible at `name`, which has no dot at its end.
    fn publish(&self, name: String, value: String) -> impl Future<Output = Result<()>> + Send;
}

impl Publish for ChallTestSrv {
    async fn publish(&self, name: String, value: String) -> Result<()> {
        self.set_txt(&format!("{name}."), &value).await
    }
}

/// Publishes nothing: for a CA that does not validate, or one that must not find a record.
#[derive(Clone, Copy, Debug)]
pub struct PublishNothing;

impl Publish for PublishNothing {
    async fn publish(&self, _name: String, _value: String) -> Result<()> {
        Ok(())
    }
}

/// Orders are placed sequentially, as our engine does it: Pebble 2.10 can deadlock when they are
/// placed in parallel while others fetch their authorizations.
static PLACING: Semaphore = Semaphore::const_new(1);

/// Orders a certificate with a new P-256 key and returns its chain in PEM.
///
/// # Errors
/// The CA refuses something.
pub async fn issue(account: &Account, names: &[String], dns: &impl Publish) -> Result<String> {
    let identifiers: Vec<_> = names.iter().map(|name| Identifier::Dns(name.clone())).collect();
    let mut order = {
        let _turn = PLACING.acquire().await;
        account.new_order(&NewOrder::new(&identifiers)).await?
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut challenge =
            authorization.challenge(ChallengeType::Dns01).context("no dns-01 challenge")?;
        let name = format!("_acme-challenge.{}", plain(challenge.identifier().identifier));
        dns.publish(name, challenge.key_authorization().dns_value()).await?;
        challenge.set_ready().await?;
    }
    let status = order.poll_ready(&POLL).await?;
    ensure!(status == OrderStatus::Ready, "the order of {names:?} is {status:?}");
    let key = KeyPair::generate()?;
    order.finalize_csr(signing_request(names, &key)?.der()).await?;
    Ok(order.poll_certificate(&POLL).await?)
}

fn plain(identifier: &Identifier) -> String {
    match identifier {
        Identifier::Dns(name) => name.trim_start_matches("*.").to_owned(),
        other => format!("{other:?}"),
    }
}

/// A signing request for these names and no subject.
///
/// # Errors
/// A name is invalid.
pub fn signing_request(names: &[String], key: &KeyPair) -> Result<CertificateSigningRequest> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?)
}
