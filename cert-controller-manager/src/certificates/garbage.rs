//! Certificate Secrets that nobody refers to and whose certificate ended long ago are deleted: once
//! when a process begins to lead, and weekly.

use std::{collections::HashSet, convert::Infallible, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
};

use super::{reconcile::Controller, secret};
use crate::{
    api::{Certificate, ObjectKey, marks},
    runtime::errors::brief,
};

/// How long a certificate must have been over.
const GRACE: SignedDuration = SignedDuration::from_hours(14 * 24);
const PERIOD: Duration = Duration::from_secs(7 * 24 * 3_600);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(600);
/// How many Secrets, with their data, are in memory at once.
const PAGE: u32 = 100;

impl Controller {
    /// Collects for ever. Call it when all Certificates are known: a Secret whose Certificate is not
    /// known yet would be nobody's.
    pub async fn collect_garbage(&self) -> Infallible {
        loop {
            let wait = match self.collect_once().await {
                Ok(0) => PERIOD,
                Ok(deleted) => {
                    tracing::info!(
                        "deleted {deleted} Secrets that ended two weeks ago or more and that no Certificate refers to"
                    );
                    PERIOD
                }
                Err(error) => {
                    tracing::warn!("old Secrets cannot be collected now: {}", brief(&error));
                    AGAIN
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn collect_once(&self) -> kube::Result<usize> {
        let api: Api<Secret> = self.secrets.all();
        let selector = format!("{}=true", marks::CERTIFICATE);
        let mut params = ListParams::default().labels(&selector).limit(PAGE);
        let mut deleted = 0;
        loop {
            let page = api.list(&params).await?;
            // Looked at after the page: a Certificate that came meanwhile keeps its Secret.
            let wanted = self.wanted_secrets();
            for secret in &page.items {
                let key = ObjectKey::of(secret);
                if is_garbage(secret, wanted.contains(&key), self.clock.now())
                    && self.delete_version(&key, secret).await?
                {
                    deleted += 1;
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(deleted),
            }
        }
    }

    fn wanted_secrets(&self) -> HashSet<ObjectKey> {
        self.index.map(Certificate::secret_key).into_iter().collect()
    }

    /// Deletes exactly this version: if anybody has touched it, it is looked at next time.
    async fn delete_version(&self, key: &ObjectKey, secret: &Secret) -> kube::Result<bool> {
        let same = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match self.secrets.api(key).delete(&key.name, &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_garbage(secret: &Secret, wanted: bool, now: Timestamp) -> bool {
    let ended = secret::facts(secret).not_after();
    !wanted && ended.is_some_and(|ended| now.duration_since(ended) >= GRACE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;

    fn secret(pem: &str) -> Secret {
        let data = BTreeMap::from([("tls.crt".to_owned(), ByteString(pem.as_bytes().to_vec()))]);
        Secret { data: Some(data), ..Secret::default() }
    }

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 3, 1);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn a_secret_is_garbage_two_weeks_after_its_end_if_nobody_wants_it() {
        let over = secret(&certificate());
        for (wanted, now, garbage) in [
            (false, "2020-03-14T00:00:00Z", false),
            (false, "2020-03-15T00:00:00Z", true),
            (true, "2030-01-01T00:00:00Z", false),
            (false, "2020-01-15T00:00:00Z", false),
        ] {
            assert_eq!(is_garbage(&over, wanted, now.parse().unwrap()), garbage, "{now} {wanted}");
        }
        let unreadable = secret("no certificate");
        assert!(!is_garbage(&unreadable, false, "2030-01-01T00:00:00Z".parse().unwrap()));
    }
}
