//! Issues one certificate without Kubernetes, and prints it.
//!
//! ```sh
//! export ACME_DIRECTORY=https://localhost:14000/dir ACME_ROOTS=pebble.minica.pem
//! export DNS_SERVER=127.0.0.1:8053 DNS_API=http://127.0.0.1:8055
//! cargo run -p cert-lib --example issue -- example.org '*.example.org'
//! ```

#![expect(clippy::print_stdout, reason = "the certificate is what this program is for")]

use std::{env, error::Error, sync::Arc};

use async_trait::async_trait;
use cert_lib::{
    acme::{account::register, client::Client, jws::AccountKey},
    clock::{Clock, System},
    issue::{
        InlineKeyGenerator,
        acme::{AcmeIssuer, AcmeOptions},
        driver::{MemoryOrderStore, Outcome, drive},
    },
    model::request::{Fingerprint, KeyChoice, Request, RequestInputs, Subject, names},
    net::{Http, dns::Udp, http::HttpsClient, http::Roots},
    solve::dns01::{Propagation, Visibility},
    solve::{Owner, Proof, Readiness, SolveError, Solver},
};
use jiff::SignedDuration;

/// Publishes TXT records through the HTTP API of pebble-challtestsrv. Put your DNS provider here.
struct ChallTestSrv {
    http: HttpsClient,
    api: String,
    propagation: Propagation,
    resolver: Udp,
}

impl ChallTestSrv {
    async fn post(&self, path: &str, body: String) -> Result<(), SolveError> {
        let request = http::Request::post(format!("{}/{path}", self.api)).body(body.into());
        let request = request.map_err(|error| SolveError::Misconfigured(error.to_string()))?;
        let sent = self.http.send(request).await;
        sent.map(drop).map_err(|error| SolveError::Unavailable(error.to_string()))
    }
}

#[async_trait]
impl Solver for ChallTestSrv {
    async fn present(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        self.cleanup(owner, proofs).await?;
        for proof in proofs {
            let (fqdn, values) = proof.require_txt()?;
            for value in values {
                let body = format!(r#"{{"host": "{fqdn}.", "value": "{value}"}}"#);
                self.post("set-txt", body).await?;
            }
        }
        Ok(())
    }

    async fn ready(&self, _: &Owner, proofs: &[Proof]) -> Result<Readiness, SolveError> {
        for proof in proofs {
            let (fqdn, values) = proof.require_txt()?;
            if let Visibility::NotSeen { why } =
                self.propagation.check(&self.resolver, fqdn, values).await
            {
                return Ok(Readiness::NotYet { why, look_again: SignedDuration::from_secs(1) });
            }
        }
        Ok(Readiness::Ready)
    }

    async fn cleanup(&self, _: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        for (fqdn, _) in proofs.iter().filter_map(Proof::txt) {
            self.post("clear-txt", format!(r#"{{"host": "{fqdn}."}}"#)).await?;
        }
        Ok(())
    }
}

/// What to issue.
fn request(wanted: &[String]) -> Result<Request, Box<dyn Error>> {
    let dns_names = names(None, wanted)?;
    let subject = Subject::Names { common_name: None, dns_names, key: KeyChoice::default() };
    let inputs = RequestInputs { dns_names: wanted, ..RequestInputs::default() };
    Ok(Request::new(Owner("example".to_owned()), Fingerprint::of(&inputs), subject))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock: Arc<dyn Clock> = Arc::new(System);
    let http = HttpsClient::new(&Roots::only_pem(&std::fs::read(env::var("ACME_ROOTS")?)?)?)?;

    // An account. Keep its key safe: with it, anyone can issue for the names that it has proved.
    let ca = Client::new(Arc::new(http.clone()), clock.clone(), env::var("ACME_DIRECTORY")?);
    let key = AccountKey::generate()?;
    let account = register(&Arc::new(ca), &key, Some("me@example.org"), None).await?.account;

    // A solver that publishes proofs, and an issuer that uses both.
    let solver = ChallTestSrv {
        http,
        api: env::var("DNS_API")?,
        propagation: Propagation::new(vec![env::var("DNS_SERVER")?.parse()?], clock.clone()),
        resolver: Udp::of_this_machine(),
    };
    let issuer = AcmeIssuer::new(
        account,
        Arc::new(solver),
        clock.clone(),
        Arc::new(InlineKeyGenerator),
        AcmeOptions::default(),
    );

    let request = request(&env::args().skip(1).collect::<Vec<_>>())?;

    // The driver never waits: it returns when to call it again. Implement `OrderStore` with a file or
    // a database where a crash must not lose an order; this one is in memory.
    let mut orders = MemoryOrderStore::default();
    loop {
        let until = match drive(&issuer, &request, &mut orders, None, clock.as_ref()).await? {
            Outcome::Issued(bundle) => {
                print!("{}", bundle.certificate_pem());
                return Ok(());
            }
            Outcome::Waiting { until, .. } => until,
            Outcome::Retry { backoff, .. } => backoff.until,
            Outcome::Failed { error, .. } => return Err(error.into()),
        };
        let wait = until.duration_since(clock.now());
        #[expect(clippy::disallowed_methods, reason = "the caller owns the time")]
        tokio::time::sleep(wait.try_into().unwrap_or_default()).await;
    }
}
