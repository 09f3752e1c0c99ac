//! Computes the status of an Issuer from the outcome of a pass. Pure.

use cert_lib::{issue::ca::Description, plan::limits::Key};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    account, conditions,
    outcome::{Facts, Outcome},
    server_url::authority as server_authority,
};
use crate::{
    api::{
        Issuer,
        issuer::{IssuerKind, IssuerStatus, Limit},
    },
    runtime::metrics::{Account, IssuerFacts},
};

/// Upstream's value for issuers without a quota.
const UNLIMITED: i64 = i32::MAX as i64;

/// The status of `issuer` after `outcome`. After an error, account and CA are kept.
#[must_use]
pub fn of(issuer: &Issuer, outcome: &Outcome, default_quota: i64, now: Timestamp) -> IssuerStatus {
    let before = issuer.status.clone().unwrap_or_default();
    let kind = IssuerKind::of(&issuer.spec);
    let limits_orders = kind.is_some_and(|kind| kind.capabilities().limits_orders);
    let (state, message, rest) = match outcome {
        Outcome::Ready(facts) => ("Ready", facts.warning().map(str::to_owned), None),
        Outcome::Error { message, server_wait } => {
            ("Error", Some(message.clone()), server_wait.clone())
        }
    };
    let (acme, ca) = match (kind, outcome) {
        (_, Outcome::Ready(Facts::Acme(account))) => (Some(account.clone()), None),
        (_, Outcome::Ready(Facts::Ca { ca, .. })) => (None, Some(ca.clone())),
        (_, Outcome::Ready(Facts::NoDetails)) => (None, None),
        // A status of the other kind is from an older specification.
        (kind, Outcome::Error { .. }) => (
            before.acme.clone().filter(|_| kind != Some(IssuerKind::Ca)),
            before.ca.clone().filter(|_| kind != Some(IssuerKind::Acme)),
        ),
    };
    let limits = match acme.as_ref().and_then(account::url) {
        Some(account) => Some(limits(&before, account)).filter(|limits| !limits.is_empty()),
        None => before.limits,
    };
    IssuerStatus {
        observed_generation: issuer.metadata.generation,
        state: state.to_owned(),
        message,
        conditions: Some(conditions::of(issuer, outcome, acme.as_ref(), now)),
        rest,
        kind: kind.map(|kind| kind.word().to_owned()),
        acme,
        ca,
        requests_per_day_quota: kind.map(|_| match limits_orders {
            true => quota(issuer, default_quota),
            false => UNLIMITED,
        }),
        requests: before.requests.filter(|_| limits_orders),
        limits: limits.filter(|_| limits_orders),
    }
}

/// The stored limits of a CA that apply to `account`: limits of another account do not.
#[must_use]
pub fn limits(status: &IssuerStatus, account: &str) -> Vec<Limit> {
    let known = status.acme.as_ref().and_then(account::url);
    let is_the_same = known.is_none_or(|known| known == account);
    let all = status.limits.iter().flatten();
    let holds_for_all = |limit: &&Limit| {
        matches!(Key::decode(&limit.of, account), Some(Key::Domain(_) | Key::Set(_)))
    };
    all.filter(|limit| is_the_same || holds_for_all(limit)).cloned().collect()
}

/// The issuer's data for the metrics; `None` if its specification has no valid kind.
#[must_use]
pub fn for_metrics(issuer: &Issuer, outcome: &Outcome) -> Option<IssuerFacts> {
    let acme = issuer.spec.acme.as_ref();
    let account = match outcome {
        Outcome::Ready(Facts::Acme(registration)) => account::url(registration),
        Outcome::Ready(Facts::Ca { .. } | Facts::NoDetails) | Outcome::Error { .. } => None,
    };
    Some(IssuerFacts {
        kind: IssuerKind::of(&issuer.spec)?,
        server: acme.and_then(|acme| server_authority(&acme.server)),
        account: acme
            .zip(account)
            .map(|(acme, uri)| Account { uri: uri.to_owned(), email: acme.email.clone() }),
    })
}

/// The daily quota of an issuer.
#[must_use]
pub fn quota(issuer: &Issuer, default: i64) -> i64 {
    let own = issuer.spec.requests_per_day_quota.filter(|quota| *quota > 0);
    own.unwrap_or(default).clamp(1, UNLIMITED)
}

/// `status.ca` in upstream's format, with null for missing parts.
#[must_use]
pub fn authority(ca: &Description) -> Value {
    let parts = |parts: &[String]| (!parts.is_empty()).then(|| parts.to_vec());
    json!({
        "NotBefore": ca.not_before.to_string(),
        "NotAfter": ca.not_after.to_string(),
        "Subject": {
            "Country": parts(&ca.country),
            "Organization": parts(&ca.organization),
            "OrganizationalUnit": parts(&ca.units),
            "Locality": parts(&ca.locality),
            "Province": parts(&ca.province),
            "StreetAddress": parts(&ca.street),
            "PostalCode": parts(&ca.postal_code),
            // Serial number of the certificate in Go's format.
            "SerialNumber": ca.serial,
            "CommonName": ca.common_name,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_ready_issuer_has_the_warning_about_its_ca() {
        let issuer: Issuer = serde_json::from_value(json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Issuer",
            "metadata": { "name": "ca" }, "spec": { "ca": {} },
        }))
        .unwrap();
        for warning in [None, Some("its key usage lacks keyCertSign")] {
            let ready = Outcome::Ready(Facts::Ca { ca: json!({}), warning });
            let status = of(&issuer, &ready, 1, Timestamp::UNIX_EPOCH);
            assert_eq!((status.state.as_str(), status.message.as_deref()), ("Ready", warning));
        }
    }

    #[test]
    fn limits_of_another_account_are_dropped_and_limits_for_all_accounts_are_kept() {
        let account = |url: &str| json!({ "accountURL": url });
        let limit = |of: &str| Limit { of: of.to_owned(), ..Limit::default() };
        let all = ["account", "name a.example", "domain example", "set 0"].map(limit);
        let issuer: Issuer = serde_json::from_value(json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Issuer",
            "metadata": { "name": "ca" },
            "spec": { "acme": { "server": "https://ca/dir", "email": "a@b.example" } },
            "status": { "state": "Ready", "acme": account("https://ca/1"), "limits": all },
        }))
        .unwrap();
        for (url, kept) in [("https://ca/1", 4), ("https://ca/2", 2)] {
            let ready = Outcome::Ready(Facts::Acme(account(url)));
            let limits = of(&issuer, &ready, 1, Timestamp::UNIX_EPOCH).limits.unwrap_or_default();
            assert_eq!(limits, all[4 - kept..], "{url}");
        }
        let failed = Outcome::Error { message: "away".to_owned(), server_wait: None };
        assert_eq!(of(&issuer, &failed, 1, Timestamp::UNIX_EPOCH).limits.unwrap_or_default(), all);
    }
}
