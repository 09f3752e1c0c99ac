//! Renewal information (RFC 9773 section 4).

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::{
    acme::{account::Account, client::RequestError, problem::ProblemScope},
    issue::{Disposition, RenewalInfo, RenewalInfoError},
    model::cert_id::CertId,
};

/// Asks the CA when it wants the certificate to be renewed; `None` where its directory has no URL for
/// that. An answer without a window is an error: no instant can be drawn from it.
pub(super) async fn ask(
    account: &Account,
    certificate: &CertId,
    now: Timestamp,
) -> Result<Option<RenewalInfo>, RenewalInfoError> {
    let client = account.client();
    let directory = client.directory().await.map_err(|error| failed(&error))?;
    let Some(base) = &directory.renewal_info else { return Ok(None) };
    let url = format!("{}/{certificate}", base.trim_end_matches('/'));
    let reply = client.get(&url).await.map_err(|error| {
        // A CA that does not know the certificate answers with a problem document.
        if error.problem().is_some_and(|problem| problem.is_gone() && problem.kind.is_empty()) {
            client.forget_directory();
        }
        failed(&error)
    })?;
    let Answer { suggested_window: Window { start, end }, explanation_url } =
        reply.json().map_err(|error| failed(&error))?;
    if start >= end {
        return Err(RenewalInfoError::NoWindow { start, end });
    }
    let explanation_url = explanation_url.filter(|url| is_shown(url));
    Ok(Some(RenewalInfo { start, end, explanation_url, ask_again: again(reply.retry_after, now) }))
}

fn failed(error: &RequestError) -> RenewalInfoError {
    let retry_at = match error.disposition(ProblemScope::Order) {
        Disposition::Until(time) => Some(time),
        Disposition::Retry(_) | Disposition::FixIssuer | Disposition::FixRequest => None,
    };
    let message = format!("asking for renewal information failed: {error}");
    RenewalInfoError::Failed { message, retry_at }
}

/// RFC 9773 section 4.3.2 asks to limit what a CA may say.
fn again(retry_after: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let after = |wait| now.saturating_add(wait).unwrap_or(Timestamp::MAX);
    retry_after.unwrap_or_else(|| after(USUAL)).clamp(after(SHORTEST), after(LONGEST))
}

/// It is shown in a status and in an event: a link of a reasonable length, and nothing else.
fn is_shown(url: &str) -> bool {
    let is_link = url.starts_with("https://") || url.starts_with("http://");
    is_link && url.len() <= MAX_URL && url.chars().all(|it| it.is_ascii_graphic())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    suggested_window: Window,
    #[serde(default, rename = "explanationURL")]
    explanation_url: Option<String>,
}

#[derive(Deserialize)]
struct Window {
    start: Timestamp,
    end: Timestamp,
}

const SHORTEST: SignedDuration = SignedDuration::from_mins(1);
const USUAL: SignedDuration = SignedDuration::from_hours(6);
const LONGEST: SignedDuration = SignedDuration::from_hours(24);
const MAX_URL: usize = 500;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Response;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        acme::{client::Client, jws::AccountKey},
        clock::{Clock, Manual},
        issue::RetrySchedule,
        net::scripted::{Answer, Scripted, reply},
    };

    const ID: &str = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyA";

    fn window(start: &str, end: &str) -> Value {
        json!({ "suggestedWindow": { "start": start, "end": end } })
    }

    fn good() -> Value {
        window("2026-12-01T00:00:00Z", "2026-12-03T00:00:00Z")
    }

    /// What comes of an answer, and what was asked for it.
    async fn asked(
        answer: impl Fn(Answer) -> Response<bytes::Bytes> + Send + 'static,
        status: u16,
    ) -> (Result<Option<RenewalInfo>, RenewalInfoError>, Vec<String>) {
        let http = Arc::new(Scripted::new(move |seen| {
            match seen.path() {
            "/dir" => reply(200).json(&json!({
                "newNonce": "https://ca/n", "newAccount": "https://ca/a", "newOrder": "https://ca/o",
                "renewalInfo": "https://ca/info",
            })),
            _ => answer(reply(status)),
        }
        }));
        let clock = Arc::new(Manual::at("2026-11-22T10:00:00Z".parse().unwrap()));
        let client = Arc::new(Client::new(http.clone(), clock.clone(), "https://ca/dir"));
        let key = AccountKey::generate().unwrap();
        let account = Account::known(client, key, "https://ca/a/1");
        let id = serde_json::from_value(json!(ID)).unwrap();
        (ask(&account, &id, clock.now()).await, http.log())
    }

    #[tokio::test]
    async fn a_window_is_read_without_a_signature_and_without_a_nonce() {
        let (info, log) = asked(
            |reply| {
                let mut body = good();
                body["explanationURL"] = json!("https://ca/why");
                body["more"] = json!({});
                reply.header("retry-after", "21600").json(&body)
            },
            200,
        )
        .await;
        let time = |text: &str| text.parse().unwrap();
        let wanted = RenewalInfo {
            start: time("2026-12-01T00:00:00Z"),
            end: time("2026-12-03T00:00:00Z"),
            explanation_url: Some("https://ca/why".to_owned()),
            ask_again: time("2026-11-22T16:00:00Z"),
        };
        assert_eq!(info.unwrap(), Some(wanted));
        assert_eq!(log, ["GET /dir".to_owned(), format!("GET /info/{ID}")]);
    }

    #[tokio::test]
    async fn the_next_question_comes_after_a_minute_at_the_earliest_and_within_a_day() {
        for (header, wanted) in [
            (None, "2026-11-22T16:00:00Z"),
            (Some("0"), "2026-11-22T10:01:00Z"),
            (Some("-1"), "2026-11-22T16:00:00Z"),
            (Some("soon"), "2026-11-22T16:00:00Z"),
            (Some("3600"), "2026-11-22T11:00:00Z"),
            (Some("Sun, 22 Nov 2026 12:00:00 GMT"), "2026-11-22T12:00:00Z"),
            (Some("Sun, 22 Nov 2020 12:00:00 GMT"), "2026-11-22T10:01:00Z"),
            (Some("99999999999"), "2026-11-23T10:00:00Z"),
        ] {
            let answer = move |reply: Answer| match header {
                Some(text) => reply.header("retry-after", text).json(&good()),
                None => reply.json(&good()),
            };
            let info = asked(answer, 200).await.0.unwrap().unwrap();
            assert_eq!(info.ask_again, wanted.parse().unwrap(), "{header:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_a_window_is_an_error_that_passes() {
        let day = "2026-12-01T00:00:00Z";
        for body in [
            json!({}),
            json!([]),
            json!("soon"),
            json!({ "suggestedWindow": null }),
            json!({ "suggestedWindow": { "start": day } }),
            window(day, day),
            window("2026-12-03T00:00:00Z", day),
            window(day, "9999-12-31T23:59:59Z"),
            window(day, "10000-01-01T00:00:00Z"),
            window("0000-00-00T00:00:00Z", day),
            window("soon", "later"),
        ] {
            let shown = body.to_string();
            let error = asked(move |reply| reply.json(&body), 200).await.0.unwrap_err();
            assert_eq!(
                error.disposition(),
                Disposition::Retry(RetrySchedule::Transport),
                "{shown}"
            );
        }
        for status in [404, 500, 503] {
            let (outcome, _) = asked(|reply| reply.html("<h1>no</h1>"), status).await;
            outcome.unwrap_err();
        }
    }

    #[tokio::test]
    async fn an_explanation_that_is_no_link_is_left_out() {
        for url in ["javascript:alert(1)", "https://ca/a b", "https://ca/\nx", ""] {
            let mut body = good();
            body["explanationURL"] = json!(url);
            let info = asked(move |reply| reply.json(&body), 200).await.0.unwrap().unwrap();
            assert_eq!(info.explanation_url, None, "{url:?}");
        }
    }

    #[tokio::test]
    async fn a_ca_that_has_no_renewal_information_is_not_asked() {
        let http = Arc::new(Scripted::new(|_| {
            reply(200).json(&json!({
                "newNonce": "https://ca/n", "newAccount": "https://ca/a", "newOrder": "https://ca/o",
            }))
        }));
        let clock = Arc::new(Manual::at(Timestamp::UNIX_EPOCH));
        let client = Arc::new(Client::new(http.clone(), clock, "https://ca/dir"));
        let account = Account::known(client, AccountKey::generate().unwrap(), "https://ca/a/1");
        let id = serde_json::from_value(json!(ID)).unwrap();
        assert_eq!(ask(&account, &id, Timestamp::UNIX_EPOCH).await.unwrap(), None);
        assert_eq!(http.log(), ["GET /dir"]);
    }
}
