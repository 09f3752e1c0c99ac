//! A CA with one order, as small as it can be: no signatures are checked and no proofs looked at.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use bytes::Bytes;
use http::Response;
use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::net::{
    HttpError,
    scripted::{Seen, reply},
};

/// How the CA behaves. By default it wants every name proved once, and signs by the next poll.
#[derive(Clone, Copy, Default)]
pub(super) struct CaBehavior {
    /// All names are proved already.
    pub(super) reused: bool,
    /// Finalizing answers `valid`.
    pub(super) quick: bool,
    /// Proofs are found wanting.
    pub(super) refuses: bool,
    /// Polls of the order that find it still pending.
    pub(super) validation_polls: u32,
    /// Comes with every success.
    pub(super) retry_after: Option<&'static str>,
    /// This path answers with this status and problem, to be tried again in an hour.
    pub(super) fails: Option<(&'static str, u16, &'static str)>,
    /// The answer to this request, counted from 1, is lost after the request was served.
    pub(super) lose_answer: Option<u32>,
}

/// Year, month, day.
type Date = (i32, u8, u8);

pub(super) struct Ca {
    manner: CaBehavior,
    pub(super) signatures: u32,
    served: u32,
    names: Vec<String>,
    answered: Vec<bool>,
    pub(super) status: &'static str,
    pub(super) certificate: String,
    /// What it signs lasts from the one to the other.
    pub(super) lifetime: (Date, Date),
    /// Goes on handing out what it signed before.
    pub(super) frozen: bool,
    /// Authorizations that were given up.
    pub(super) deactivated: Vec<usize>,
}

impl Ca {
    pub(super) fn new(manner: CaBehavior) -> Self {
        Self {
            manner,
            signatures: 0,
            served: 0,
            names: Vec::new(),
            answered: Vec::new(),
            status: "pending",
            certificate: String::new(),
            lifetime: ((2026, 11, 22), (2027, 2, 20)),
            frozen: false,
            deactivated: Vec::new(),
        }
    }

    pub(super) fn serve(&mut self, seen: &Seen) -> Result<Response<Bytes>, HttpError> {
        let answer = self.answer(seen);
        // Keeping the directory out of the count.
        self.served += u32::from(seen.method == "POST");
        if seen.method == "POST" && self.manner.lose_answer == Some(self.served) {
            let reason = "connection reset".to_owned();
            return Err(HttpError::Broken { host: "ca".to_owned(), reason });
        }
        Ok(answer)
    }

    /// How many challenges were answered.
    pub(super) fn answered(&self) -> usize {
        self.answered.iter().filter(|answered| **answered).count()
    }

    fn answer(&mut self, seen: &Seen) -> Response<Bytes> {
        if let Some((_, status, word)) = self.manner.fails.filter(|(path, ..)| *path == seen.path())
        {
            let failing = reply(status).nonce("n").header("retry-after", "3600");
            return match word {
                "" => failing.html("<h1>no</h1>"),
                word => failing.json(&problem(word)),
            };
        }
        let (kind, number) = seen.path()[1..].split_once('/').unwrap_or((&seen.path()[1..], "0"));
        let number: usize = number.parse().unwrap();
        let body = match kind {
            "dir" => json!({"newNonce": "https://ca/nonce", "newAccount": "https://ca/new-account",
                "newOrder": "https://ca/new-order",
                "renewalInfo": "https://ca/renewal-info", "PvOIGsUGtvQ": "https://example.org/junk",
                "meta": {"profiles": {"classic": "as ever", "shortlived": "a week"}}}),
            "nonce" => Value::Null,
            "new-order" => return self.place(&seen.payload),
            "authz" if seen.payload["status"] == "deactivated" => {
                self.deactivated.push(number);
                self.authorization(number)
            }
            "authz" => self.authorization(number),
            "challenge" => {
                assert_eq!(seen.payload, json!({}));
                self.answered[number] = true;
                json!({})
            }
            "order" => self.poll(),
            "finalize" if self.status != "ready" => {
                return reply(403).nonce("n").json(&problem("orderNotReady"));
            }
            "finalize" => self.finalize(&seen.payload),
            "cert" => return reply(200).nonce("n").html(&self.certificate),
            other => panic!("no such path: {other}"),
        };
        let answer = reply(200).nonce("n");
        match self.manner.retry_after {
            Some(text) => answer.header("retry-after", text).json(&body),
            None => answer.json(&body),
        }
    }

    fn place(&mut self, payload: &Value) -> Response<Bytes> {
        let names = payload["identifiers"].as_array().unwrap().iter();
        self.names = names.map(|one| one["value"].as_str().unwrap().to_owned()).collect();
        self.answered = vec![self.manner.reused; self.names.len()];
        self.status = if self.manner.reused { "ready" } else { "pending" };
        reply(201).nonce("n").header("location", "https://ca/order/1").json(&self.order())
    }

    fn authorization(&self, number: usize) -> Value {
        let name = &self.names[number];
        let status = match (self.manner.refuses, self.answered[number]) {
            (true, true) => "invalid",
            (false, true) => "valid",
            (_, false) => "pending",
        };
        let looking = self.answered[number] && self.manner.validation_polls > 0;
        let (status, challenge) =
            if looking { ("pending", "processing") } else { (status, status) };
        let error = (status == "invalid").then(|| {
            json!({"type": "urn:ietf:params:acme:error:unauthorized", "status": 403,
                "detail": "Incorrect TXT record"})
        });
        let kind = if name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
        json!({
            "identifier": {"type": kind, "value": name.trim_start_matches("*.")},
            "wildcard": name.starts_with("*."), "status": status,
            "challenges": [
                {"type": if kind == "ip" { "tls-alpn-01" } else { "http-01" },
                    "url": "https://ca/never", "status": "pending", "token": "h"},
                {"type": if kind == "ip" { "http-01" } else { "dns-01" }, "url": format!("https://ca/challenge/{number}"),
                    "status": challenge, "token": format!("token{number}"), "error": error},
            ],
        })
    }

    fn poll(&mut self) -> Value {
        if self.status == "pending" && self.answered.iter().all(|answered| *answered) {
            match self.manner.validation_polls.checked_sub(1) {
                Some(left) => self.manner.validation_polls = left,
                None => self.status = if self.manner.refuses { "invalid" } else { "ready" },
            }
        } else if self.status == "processing" {
            self.status = "valid";
        }
        self.order()
    }

    fn finalize(&mut self, payload: &Value) -> Value {
        let der = BASE64URL.decode(payload["csr"].as_str().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(CertificateParams::new(vec!["ca".to_owned()]).unwrap(), key);
        let mut csr = CertificateSigningRequestParams::from_der(&der.into()).unwrap();
        let (from, to) = self.lifetime;
        csr.params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        csr.params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
        if !self.frozen {
            self.certificate = csr.signed_by(&issuer).unwrap().pem();
        }
        self.signatures += 1;
        self.status = if self.manner.quick { "valid" } else { "processing" };
        self.order()
    }

    pub(super) fn order(&self) -> Value {
        let authorizations = 0..self.names.len();
        json!({
            "status": self.status, "expires": "2026-11-29T10:00:00Z",
            "authorizations": authorizations.map(|n| format!("https://ca/authz/{n}")).collect::<Vec<_>>(),
            "finalize": "https://ca/finalize/1",
            "certificate": (self.status == "valid").then_some("https://ca/cert/1"),
        })
    }
}

pub(super) fn problem(word: &str) -> Value {
    json!({"type": format!("urn:ietf:params:acme:error:{word}"), "detail": "no"})
}
