//! Computes the conditions of an Issuer, for example for `kubectl wait`. Pure.

use cert_lib::model::reason::Reason;
use jiff::Timestamp;
use serde_json::Value;

use super::{account, outcome::Outcome};
use crate::{
    api::time::seconds,
    api::{Issuer, certificate::Condition},
};

/// The conditions after `outcome`. `account` is the registration of an ACME issuer.
pub(super) fn of(
    issuer: &Issuer,
    outcome: &Outcome,
    account: Option<&Value>,
    now: Timestamp,
) -> Vec<Condition> {
    let ready = match outcome {
        Outcome::Ready(_) => (true, Reason::Ready, "certificates can be issued".to_owned()),
        Outcome::Error { message, server_wait: Some(_) } => {
            (false, Reason::RateLimited, message.clone())
        }
        Outcome::Error { message, server_wait: None } => {
            (false, Reason::IssuerNotReady, message.clone())
        }
    };
    // After an error, the stored account may be for the server of an older specification.
    let server = issuer.spec.acme.as_ref().map(|acme| acme.server.as_str());
    let url = account.zip(server).and_then(|(account, server)| account::url_at(account, server));
    let registered = match url {
        Some(url) => (true, Reason::Ready, format!("the account is {url}")),
        None => (false, ready.1, ready.2.clone()),
    };
    let all =
        [("Ready", Some(ready)), ("AccountRegistered", server.is_some().then_some(registered))];
    let conditions = all.into_iter().filter_map(|(type_, content)| {
        let (holds, reason, message) = content?;
        let status = if holds { "True" } else { "False" };
        let before = issuer.status.as_ref().and_then(|status| status.conditions.as_ref());
        let before = before.into_iter().flatten().find(|it| it.type_ == type_);
        let since = before.filter(|before| before.status == status);
        Some(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.word().to_owned(),
            message,
            observed_generation: issuer.metadata.generation,
            last_transition_time: since
                .map_or_else(|| seconds(now), |it| it.last_transition_time.clone()),
        })
    });
    conditions.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::issuer::{IssuerStatus, ServerWait},
        issuers::outcome::Facts,
    };

    /// Type, status, reason and year of the last transition of each condition.
    fn summary(
        spec: &Value,
        before: Value,
        outcome: &Outcome,
        account: Option<&Value>,
    ) -> Vec<String> {
        let mut issuer: Issuer = serde_json::from_value(json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Issuer",
            "metadata": {"name": "ca", "generation": 3}, "spec": spec,
        }))
        .unwrap();
        let conditions = serde_json::from_value(before).unwrap();
        issuer.status = Some(IssuerStatus { conditions, ..IssuerStatus::default() });
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let lines = of(&issuer, outcome, account, now).into_iter().map(|it| {
            assert_eq!(it.observed_generation, Some(3));
            format!("{} {} {} {}", it.type_, it.status, it.reason, &it.last_transition_time[..4])
        });
        lines.collect()
    }

    #[test]
    fn conditions_have_a_status_a_reason_and_the_time_of_the_last_transition() {
        let acme = json!({"acme": {"server": "https://ca/dir", "email": "a@b.example"}});
        let account = json!({"accountURL": "https://ca/1"});
        let elsewhere = json!({"accountURL": "https://ca/1", "server": "https://old/dir"});
        let before = |ready: &str| {
            let condition = |type_: &str, status: &str| {
                json!({
                    "type": type_, "status": status, "reason": "x", "message": "",
                    "lastTransitionTime": "2020-01-01T00:00:00Z",
                })
            };
            json!([condition("AccountRegistered", "True"), condition("Ready", ready)])
        };
        let ready = Outcome::Ready(Facts::Acme(account.clone()));
        let error = |server_wait| Outcome::Error { message: "away".to_owned(), server_wait };
        let cases = [
            (
                &acme,
                json!(null),
                &ready,
                Some(&account),
                vec!["Ready True Ready 2026", "AccountRegistered True Ready 2026"],
            ),
            (
                &acme,
                before("True"),
                &ready,
                Some(&account),
                vec!["Ready True Ready 2020", "AccountRegistered True Ready 2020"],
            ),
            (
                &acme,
                before("True"),
                &error(None),
                Some(&account),
                vec!["Ready False IssuerNotReady 2026", "AccountRegistered True Ready 2020"],
            ),
            (
                &acme,
                before("False"),
                &error(Some(ServerWait::default())),
                None,
                vec!["Ready False RateLimited 2020", "AccountRegistered False RateLimited 2026"],
            ),
            (
                &acme,
                before("True"),
                &error(None),
                Some(&elsewhere),
                vec![
                    "Ready False IssuerNotReady 2026",
                    "AccountRegistered False IssuerNotReady 2026",
                ],
            ),
            (
                &json!({"selfSigned": {}}),
                before("True"),
                &Outcome::Ready(Facts::NoDetails),
                None,
                vec!["Ready True Ready 2020"],
            ),
        ];
        for (spec, before, outcome, account, wanted) in cases {
            assert_eq!(summary(spec, before, outcome, account), wanted);
        }
    }
}
