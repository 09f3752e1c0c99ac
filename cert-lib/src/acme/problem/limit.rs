//! Finds out which limit a problem is about. RFC 8555 section 6.6 only has `rateLimited`; the
//! details are in the text, here in that of Let's Encrypt's Boulder. An unknown text limits the
//! whole account, because fewer requests do no harm.

use jiff::Timestamp;

use super::{Problem, ProblemScope, Subproblem, word_of};
use crate::model::{limit_scope::LimitScope, name::DnsName};

impl Problem {
    /// The scope of a refusal of a new order; `None` where it concerns this order only.
    #[must_use]
    pub fn limit(&self, scope: ProblemScope) -> Option<LimitScope> {
        let busy = self.status == Some(503) && self.retry_after.is_some();
        if scope != ProblemScope::NewOrder || self.is_pause() || !(self.is_limit() || busy) {
            return None;
        }
        let named = scope_in(&self.detail);
        let per_name = || self.subproblems.iter().find_map(scope_of_subproblem);
        Some(named.or_else(per_name).unwrap_or(LimitScope::Account))
    }

    /// Whether the text explicitly names a published limit of Let's Encrypt of an account or a domain.
    /// Then the CA has no order left for it until the limit ends.
    #[must_use]
    pub(crate) fn is_published_limit(&self, scope: ProblemScope) -> bool {
        let has = |words: &str| self.detail.contains(words);
        match self.limit(scope) {
            Some(LimitScope::Account) => has("new orders"),
            Some(LimitScope::Domain(_)) => has("already issued for"),
            Some(LimitScope::Set | LimitScope::Name(_)) | None => false,
        }
    }

    /// Whether the CA has paused a name for this account until a user follows the link in the text.
    /// Let's Encrypt does so after months of failures.
    #[must_use]
    pub fn is_pause(&self) -> bool {
        let named = [PAUSED, UNPAUSE].iter().any(|text| self.detail.contains(text));
        self.is_limit() && named
    }

    /// When to retry: from the header, or else from the text.
    pub(super) fn again(&self) -> Option<Timestamp> {
        self.retry_after.or_else(|| time_in(&self.detail))
    }

    fn is_limit(&self) -> bool {
        self.word() == "rateLimited" || self.status == Some(429)
    }
}

fn scope_of_subproblem(sub: &Subproblem) -> Option<LimitScope> {
    if word_of(&sub.kind) != "rateLimited" {
        return None;
    }
    let name = || sub.identifier.as_ref()?.value.parse().ok().map(LimitScope::Name);
    scope_in(&sub.detail).or_else(name)
}

fn scope_in(text: &str) -> Option<LimitScope> {
    let has = |words: &str| text.contains(words);
    if has("exact set") {
        return Some(LimitScope::Set);
    }
    if has("from this account") || has("new orders") {
        return Some(LimitScope::Account);
    }
    let quoted = text.split('"').nth(1).filter(|it| !it.is_empty());
    // The text before names were quoted: `already issued for: example.com: see https://…`.
    let bare =
        || text.split_once("issued for")?.1.trim_start_matches([':', ' ']).split([':', ' ']).next();
    let name = quoted.or_else(bare).filter(|it| it.contains('.'));
    match name.map(str::parse::<DnsName>) {
        Some(Ok(name)) if has("failed authorization") => Some(LimitScope::Name(name.base())),
        Some(Ok(name)) => Some(LimitScope::Domain(name.base())),
        // An IP address or an unknown text: only the names of this order are certainly concerned.
        Some(Err(_)) => Some(LimitScope::Set),
        None => has("failed authorization").then_some(LimitScope::Set),
    }
}

/// `… retry after 2026-11-22 10:00:00 UTC: see …`
fn time_in(text: &str) -> Option<Timestamp> {
    let time = text.split_once("retry after ")?.1.get(..19)?;
    format!("{}Z", time.replace(' ', "T")).parse().ok()
}

const PAUSED: &str = "temporarily prevented from requesting certificates";
const UNPAUSE: &str = "/unpause";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        acme::identifier::Identifier,
        model::disposition::{Disposition, RetrySchedule},
    };

    fn limited(detail: &str) -> Problem {
        let kind = "urn:ietf:params:acme:error:rateLimited".to_owned();
        Problem { kind, detail: detail.to_owned(), status: Some(429), ..Problem::default() }
    }

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[test]
    fn the_text_of_a_rate_limit_determines_its_scope() {
        for (detail, scope_in) in [
            (
                "too many certificates (50) already issued for \"example.com\" in the last 168h0m0s, retry after 2026-11-22 10:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/",
                LimitScope::Domain(name("example.com")),
            ),
            (
                "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after 2026-11-22 10:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/",
                LimitScope::Set,
            ),
            (
                "Error creating new order :: too many certificates already issued for exact set of domains: a.example.com: see https://letsencrypt.org/docs/rate-limits/",
                LimitScope::Set,
            ),
            (
                "too many failed authorizations (5) for \"www.example.com\" in the last 1h0m0s, retry after 2026-11-22 10:00:00 UTC",
                LimitScope::Name(name("www.example.com")),
            ),
            (
                "too many failed authorizations recently: see https://letsencrypt.org/docs/",
                LimitScope::Set,
            ),
            (
                "too many new orders (300) from this account in the last 3h0m0s, retry after 2026-11-22 10:00:00 UTC",
                LimitScope::Account,
            ),
            (
                "too many certificates already issued for: example.com: see https://x",
                LimitScope::Domain(name("example.com")),
            ),
            (
                "too many certificates (50) already issued for \"192.0.2.7\" in the last",
                LimitScope::Set,
            ),
            ("Service busy; retry later.", LimitScope::Account),
            ("", LimitScope::Account),
        ] {
            assert_eq!(limited(detail).limit(ProblemScope::NewOrder), Some(scope_in), "{detail}");
            assert_eq!(limited(detail).limit(ProblemScope::Order), None, "an order that stands");
        }
    }

    #[test]
    fn a_published_limit_of_an_account_or_a_domain_is_recognized() {
        for (detail, is_published) in [
            ("too many new orders (300) from this account in the last 3h0m0s", true),
            ("too many certificates (50) already issued for \"example.com\" in the last", true),
            ("too many certificates (5) already issued for this exact set of identifiers", false),
            ("too many failed authorizations (5) for \"www.example.com\" in the last", false),
            ("Service busy; retry later.", false),
            ("", false),
        ] {
            let found = limited(detail).is_published_limit(ProblemScope::NewOrder);
            assert_eq!(found, is_published, "{detail}");
        }
        let elsewhere = Problem { status: Some(403), kind: "unauthorized".into(), ..limited("") };
        let elsewhere = Problem { detail: "too many new orders".into(), ..elsewhere };
        assert!(!elsewhere.is_published_limit(ProblemScope::NewOrder), "no limit");
    }

    #[test]
    fn a_rate_limit_in_a_subproblem_limits_its_name() {
        let sub = |detail: &str| Subproblem {
            kind: limited("").kind,
            detail: detail.to_owned(),
            identifier: Some(Identifier { kind: "dns".into(), value: "a.example.com".into() }),
        };
        let with = |detail| Problem { subproblems: vec![sub(detail)], ..limited("see below") };
        assert_eq!(
            with("too many").limit(ProblemScope::NewOrder),
            Some(LimitScope::Name(name("a.example.com")))
        );
        let domain = "too many certificates (50) already issued for \"example.com\"";
        assert_eq!(
            with(domain).limit(ProblemScope::NewOrder),
            Some(LimitScope::Domain(name("example.com")))
        );
    }

    /// faults.md 6
    #[test]
    fn only_a_busy_ca_with_retry_after_limits_the_account() {
        let time = Some("2026-11-22T10:00:00Z".parse().unwrap());
        let busy = Problem { retry_after: time, ..Problem::not_acme(503) };
        assert_eq!(busy.limit(ProblemScope::NewOrder), Some(LimitScope::Account));
        assert_eq!(Problem::not_acme(503).limit(ProblemScope::NewOrder), None);
        assert_eq!(Problem::not_acme(500).limit(ProblemScope::NewOrder), None);
    }

    /// faults.md 5
    #[test]
    fn a_rate_limit_without_retry_after_uses_the_time_in_its_text_or_the_retry_schedule() {
        let named = limited(
            "too many new orders (300) from this account in the last 3h0m0s, retry after 2026-11-22 10:00:00 UTC: see",
        );
        let time = "2026-11-22T10:00:00Z".parse().unwrap();
        assert_eq!(named.disposition(ProblemScope::NewOrder), Disposition::Until(time));
        for detail in ["too many", "retry after a while", "retry after 2026-99-99 10:00:00 UTC"] {
            let disposition = limited(detail).disposition(ProblemScope::NewOrder);
            assert_eq!(disposition, Disposition::Retry(RetrySchedule::Validation), "{detail}");
        }
    }

    /// faults.md 33
    #[test]
    fn a_paused_name_is_retried_daily_and_its_link_is_shown_in_full() {
        let link = format!("https://portal.letsencrypt.org/sfe/v1/unpause?jwt={}", "x".repeat(900));
        let detail = format!(
            "Your account is temporarily prevented from requesting certificates for www.example.com and possibly others. Please visit: {link}"
        );
        let paused = limited(&detail);
        assert_eq!(
            paused.disposition(ProblemScope::NewOrder),
            Disposition::Retry(RetrySchedule::Daily)
        );
        assert_eq!(paused.limit(ProblemScope::NewOrder), None, "other names are not paused");
        assert!(paused.to_string().contains(&format!("{link} (HTTP 429)")), "{paused}");
    }
}
