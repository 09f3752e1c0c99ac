//! Revocation (RFC 8555 section 7.6).
//!
//! In the name of an account only: with the certificate's own key a CA may take it for a compromised
//! one and refuse that key from then on.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use crate::{
    acme::{
        account::Account,
        client::RequestError,
        problem::{Problem, ProblemScope},
    },
    issue::{Disposition, RetrySchedule, RevocationReason, RevokeError},
};

/// Revokes a certificate in the name of the account that it was issued to. *Idempotent*: a
/// certificate that is revoked already is what was asked for.
pub(super) async fn revoke(
    account: &Account,
    certificate: &CertificateDer<'_>,
    why: RevocationReason,
) -> Result<(), RevokeError> {
    let client = account.client();
    let directory = client.directory().await;
    let directory = directory.map_err(|error| failed(&error))?;
    let Some(url) = &directory.revoke_cert else {
        let message = format!("{DOING} failed: the CA's directory has no revokeCert");
        return Err(RevokeError::InvalidIssuer(message));
    };
    let request = Revocation { certificate: BASE64URL.encode(certificate), reason: why.code() };
    match account.post(url, &request).await {
        Ok(_) => Ok(()),
        Err(error) if error.problem().is_some_and(is_done) => Ok(()),
        Err(error) => {
            if error.problem().is_some_and(|problem| problem.is_gone() && !is_refused(problem)) {
                client.forget_directory();
            }
            Err(failed(&error))
        }
    }
}

/// An earlier process, or another client, has revoked it.
fn is_done(problem: &Problem) -> bool {
    problem.word() == "alreadyRevoked"
}

/// The CA will refuse it again: the certificate belongs to another account, or the CA does not know it.
fn is_refused(problem: &Problem) -> bool {
    matches!(problem.word(), "unauthorized" | "malformed" | "badRevocationReason")
}

fn failed(error: &RequestError) -> RevokeError {
    let disposition = match error.problem() {
        Some(problem) if is_refused(problem) => Disposition::FixRequest,
        Some(problem) if problem.is_gone() => Disposition::Retry(RetrySchedule::Transport),
        Some(_) | None => error.disposition(ProblemScope::Account),
    };
    RevokeError::new(format!("{DOING} failed: {error}"), disposition)
}

const DOING: &str = "revoking the certificate";

#[derive(Serialize)]
struct Revocation {
    certificate: String,
    reason: u8,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::Response;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        acme::{client::Client, jws::AccountKey},
        clock::Manual,
        net::scripted::{Answer, Scripted, reply},
    };

    /// The CA's answer to a revocation, and whether it offers one.
    struct Ca(u16, &'static str, bool);

    impl Ca {
        fn serve(&self, path: &str) -> Response<Bytes> {
            match path {
                "/dir" => reply(200).json(&self.directory()),
                "/nonce" => reply(200).nonce("n").empty(),
                _ => self.revoke(reply(self.0).nonce("n").header("retry-after", "3600")),
            }
        }

        fn revoke(&self, reply: Answer) -> Response<Bytes> {
            match self.1 {
                "" => reply.empty(),
                "html" => reply.html("<h1>no</h1>"),
                word => reply.json(&json!({
                    "type": format!("urn:ietf:params:acme:error:{word}"), "detail": "no",
                })),
            }
        }

        fn directory(&self) -> Value {
            let mut directory = json!({
                "newNonce": "https://ca/nonce", "newAccount": "https://ca/account",
                "newOrder": "https://ca/order",
            });
            if self.2 {
                directory["revokeCert"] = json!("https://ca/revoke");
            }
            directory
        }
    }

    async fn ask(ca: Ca) -> (Result<(), RevokeError>, Arc<Scripted>) {
        let http = Arc::new(Scripted::new(move |seen| ca.serve(seen.path())));
        let clock = Arc::new(Manual::at("2026-11-22T10:00:00Z".parse().unwrap()));
        let client = Arc::new(Client::new(http.clone(), clock, "https://ca/dir"));
        let account = Account::known(client, AccountKey::generate().unwrap(), "https://ca/acct/1");
        let certificate = CertificateDer::from(vec![0xfb, 0xff]);
        (revoke(&account, &certificate, RevocationReason::Superseded).await, http)
    }

    #[tokio::test]
    async fn the_account_sends_the_certificate_and_the_reason() {
        let (outcome, http) = ask(Ca(200, "", true)).await;
        outcome.unwrap();
        let seen = http.seen().pop().unwrap();
        assert_eq!(seen.payload, json!({ "certificate": "-_8", "reason": 4 }));
        assert_eq!(seen.header["kid"], "https://ca/acct/1");
        assert_eq!(http.log(), ["GET /dir", "HEAD /nonce", "POST /revoke"]);
    }

    #[tokio::test]
    async fn a_certificate_that_is_revoked_already_is_fine() {
        ask(Ca(400, "alreadyRevoked", true)).await.0.unwrap();
    }

    #[tokio::test]
    async fn a_ca_without_revocation_is_an_invalid_issuer() {
        let (outcome, http) = ask(Ca(200, "", false)).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.disposition(), Disposition::FixIssuer);
        assert!(error.to_string().ends_with("the CA's directory has no revokeCert"), "{error}");
        assert_eq!(http.log(), ["GET /dir"]);
    }

    #[tokio::test]
    async fn the_problem_of_the_ca_decides_whether_another_attempt_can_help() {
        let until = Disposition::Until("2026-11-22T11:00:00Z".parse().unwrap());
        for (status, word, disposition) in [
            (403, "unauthorized", Disposition::FixRequest),
            (404, "malformed", Disposition::FixRequest),
            (400, "badRevocationReason", Disposition::FixRequest),
            (400, "accountDoesNotExist", Disposition::FixIssuer),
            (429, "rateLimited", until),
            (500, "serverInternal", until),
            (404, "html", Disposition::Retry(RetrySchedule::Transport)),
            (502, "html", until),
        ] {
            let error = ask(Ca(status, word, true)).await.0.unwrap_err();
            assert_eq!(error.disposition(), disposition, "{status} {word}: {error}");
            assert!(error.to_string().starts_with("revoking the certificate failed: "));
        }
    }
}
