use std::sync::Mutex;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::*;
use crate::{
    acme::account::binding::MacAlgorithm,
    clock::Manual,
    model::disposition::RetrySchedule,
    net::{
        HttpError,
        scripted::{Answer, Scripted, Seen, reply},
    },
};

const HMAC: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub(super) fn client(http: Arc<Scripted>) -> Arc<Client> {
    let clock = Arc::new(Manual::at("2026-11-22T10:00:00Z".parse().unwrap()));
    Arc::new(Client::new(http, clock, "https://ca/dir"))
}

pub(super) fn answer(status: u16) -> Answer {
    reply(status).nonce("n")
}

pub(super) fn problem(word: &str) -> Value {
    json!({"type": format!("urn:ietf:params:acme:error:{word}"), "detail": "no"})
}

fn directory(meta: &Value) -> Response<Bytes> {
    answer(200).json(&json!({"newNonce": "https://ca/n", "newAccount": "https://ca/new-account",
        "newOrder": "https://ca/o", "keyChange": "https://ca/key-change", "meta": meta}))
}

/// A CA with the same answer to every request.
fn ca(status: u16, body: &Value) -> (Arc<Client>, Arc<Scripted>) {
    let body = body.clone();
    let http = Arc::new(Scripted::new(move |seen| match seen.path() {
        "/dir" => directory(&json!({})),
        _ => answer(status).header("location", "https://ca/account/7").json(&body),
    }));
    (client(http.clone()), http)
}

/// A CA that stores accounts by key. It can require bindings, and accepts each once.
#[derive(Default)]
pub(super) struct FakeCa {
    pub(super) accounts: Vec<(String, String)>,
    pub(super) binding_required: bool,
    used: bool,
}

pub(super) fn url_of(number: usize) -> String {
    format!("https://ca/account/{number}")
}

/// The coordinate of the public key, which identifies it.
pub(super) fn public_coordinate(jwk: &Value) -> String {
    jwk["x"].as_str().unwrap_or_default().to_owned()
}

pub(super) fn coordinate_of(key: &AccountKey) -> String {
    public_coordinate(&serde_json::to_value(key.jwk()).unwrap())
}

impl FakeCa {
    pub(super) fn serve(&mut self, seen: &Seen) -> Response<Bytes> {
        match seen.path() {
            "/dir" => directory(&json!({"externalAccountRequired": self.binding_required})),
            "/new-account" => self.new_account(seen),
            "/key-change" => self.change_key(seen),
            path if path.starts_with("/account/") => {
                answer(200).json(&json!({"status": "valid", "contact": seen.payload["contact"]}))
            }
            _ => answer(200).empty(),
        }
    }

    fn new_account(&mut self, seen: &Seen) -> Response<Bytes> {
        let asked = public_coordinate(&seen.header["jwk"]);
        if let Some((_, url)) = self.accounts.iter().find(|(key, _)| *key == asked) {
            return answer(200).header("location", url).json(&json!({"status": "valid"}));
        }
        if seen.payload["onlyReturnExisting"] == true {
            return answer(400).json(&problem("accountDoesNotExist"));
        }
        let binding = &seen.payload["externalAccountBinding"];
        if self.binding_required && (binding.is_null() || std::mem::replace(&mut self.used, true)) {
            return answer(401).json(&problem("unauthorized"));
        }
        let url = url_of(self.accounts.len() + 1);
        self.accounts.push((asked, url.clone()));
        let contact = &seen.payload["contact"];
        answer(201).header("location", &url).json(&json!({"status": "valid", "contact": contact}))
    }

    /// RFC 8555 section 7.3.5, without the verification of signatures.
    fn change_key(&mut self, seen: &Seen) -> Response<Bytes> {
        let part = |name: &str| -> Value {
            let bytes = BASE64URL.decode(seen.payload[name].as_str().unwrap()).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        let (inner, change) = (part("protected"), part("payload"));
        assert_eq!(inner["url"], "https://ca/key-change");
        assert!(inner["nonce"].is_null() && inner["kid"].is_null());
        assert_eq!(seen.header["kid"], change["account"]);
        let new = public_coordinate(&inner["jwk"]);
        if let Some((_, url)) = self.accounts.iter().find(|(key, _)| *key == new) {
            return answer(409).header("location", url).json(&problem("conflict"));
        }
        let old = public_coordinate(&change["oldKey"]);
        let of = |one: &&mut (String, String)| one.0 == old && json!(one.1) == change["account"];
        match self.accounts.iter_mut().find(of) {
            Some(one) => one.0 = new,
            None => return answer(401).json(&problem("unauthorized")),
        }
        answer(200).json(&json!({"status": "valid"}))
    }
}

/// A CA that answers from `book`. `intercept` can answer in its place, before or after the CA acts.
pub(super) fn client_of(
    book: &Arc<Mutex<FakeCa>>,
    mut intercept: impl FnMut(&Seen, &mut FakeCa) -> Option<Result<Response<Bytes>, HttpError>>
    + Send
    + 'static,
) -> (Arc<Client>, Arc<Scripted>) {
    let book = Arc::clone(book);
    let http = Arc::new(Scripted::fallible(move |seen| {
        let mut book = book.lock().unwrap();
        intercept(seen, &mut book).unwrap_or_else(|| Ok(book.serve(seen)))
    }));
    (client(http.clone()), http)
}

#[tokio::test]
async fn registering_signs_with_the_key_and_agrees_to_the_terms() {
    let (client, http) = ca(201, &json!({"status": "valid", "orders": "https://ca/orders"}));
    let key = AccountKey::generate().unwrap();
    let enrolled = register(&client, &key, Some("me@example.org"), None).await.unwrap();
    assert_eq!(enrolled.account.url(), "https://ca/account/7");
    assert_eq!((enrolled.registration.status, enrolled.is_new), (AccountStatus::Valid, true));
    let sent = http.seen().pop().unwrap();
    assert_eq!(
        sent.payload,
        json!({"termsOfServiceAgreed": true, "contact": ["mailto:me@example.org"]})
    );
    assert!(sent.header["jwk"].is_object() && sent.header["kid"].is_null());
    assert!(!format!("{:?}", enrolled.account).contains("key"));
}

#[tokio::test]
async fn each_error_has_its_message_and_disposition() {
    for (status, body, want, disposition) in [
        (
            400,
            problem("accountDoesNotExist"),
            "the CA has no account for this key",
            Disposition::FixIssuer,
        ),
        (
            403,
            problem("externalAccountRequired"),
            "the CA has no account for this key",
            Disposition::FixIssuer,
        ),
        (
            403,
            problem("unauthorized"),
            "unauthorized: no (HTTP 403); if the account was deactivated, use another account key",
            Disposition::FixIssuer,
        ),
        (
            500,
            problem("serverInternal"),
            "serverInternal: no (HTTP 500)",
            Disposition::Retry(RetrySchedule::Transport),
        ),
        (
            200,
            json!({"status": "deactivated"}),
            "the account https://ca/account/7 is Deactivated: use another account key",
            Disposition::FixIssuer,
        ),
    ] {
        let (client, http) = ca(status, &body);
        let key = AccountKey::generate().unwrap();
        let error = find(&client, &key).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.disposition()), (want, disposition));
        let sent = http.seen().pop().unwrap().payload;
        assert_eq!(sent, json!({"termsOfServiceAgreed": true, "onlyReturnExisting": true}));
    }
}

#[tokio::test]
async fn a_binding_is_not_sent_for_an_existing_account() {
    let book = Arc::new(Mutex::new(FakeCa { binding_required: true, ..FakeCa::default() }));
    let (client, http) = client_of(&book, |_, _| None);
    let key = AccountKey::generate().unwrap();
    let binding = Binding::new("kid-1", MacAlgorithm::default(), HMAC).unwrap();
    for is_new in [true, false, false] {
        let enrolled = register(&client, &key, None, Some(&binding)).await.unwrap();
        assert_eq!((enrolled.account.url(), enrolled.is_new), (url_of(1).as_str(), is_new));
    }
    let sent = http.seen();
    let binding_required = |seen: &&Seen| !seen.payload["externalAccountBinding"].is_null();
    assert_eq!(sent.iter().filter(binding_required).count(), 1);
    // An existing account is found without the binding.
    assert!(register(&client, &key, None, None).await.is_ok());

    // A used binding is refused for another key.
    let other = AccountKey::generate().unwrap();
    let error = register(&client, &other, None, Some(&binding)).await.unwrap_err();
    assert!(error.to_string().starts_with("unauthorized: no"), "{error}");
    assert_eq!(error.disposition(), Disposition::FixIssuer);
}

#[tokio::test]
async fn without_a_required_binding_only_an_existing_account_is_found() {
    let book = Arc::new(Mutex::new(FakeCa { binding_required: true, ..FakeCa::default() }));
    let (client, http) = client_of(&book, |_, _| None);
    let key = AccountKey::generate().unwrap();
    let error = register(&client, &key, None, None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the CA requires an external account binding, and none is configured"
    );
    assert_eq!(http.log(), ["GET /dir", "POST /new-account"]);
    assert_eq!(http.seen().pop().unwrap().payload["onlyReturnExisting"], true);
}

#[tokio::test]
async fn a_contact_change_is_signed_by_the_account() {
    let book = Arc::default();
    let (client, http) = client_of(&book, |_, _| None);
    let key = AccountKey::generate().unwrap();
    let account = register(&client, &key, Some("old@example.org"), None).await.unwrap().account;
    let registration = account.set_contact("new@example.org").await.unwrap();
    assert_eq!(registration.contact, ["mailto:new@example.org"]);
    let sent = http.seen().pop().unwrap();
    assert_eq!((sent.url, &sent.header["kid"]), (url_of(1), &json!(url_of(1))));
    assert_eq!(sent.payload, json!({"contact": ["mailto:new@example.org"]}));
}

#[tokio::test]
async fn a_deactivation_is_signed_by_the_account() {
    let book = Arc::default();
    let (client, http) = client_of(&book, |_, _| None);
    let key = AccountKey::generate().unwrap();
    let account = register(&client, &key, None, None).await.unwrap().account;
    account.deactivate().await.unwrap();
    let sent = http.seen().pop().unwrap();
    assert_eq!((sent.url, sent.payload), (url_of(1), json!({"status": "deactivated"})));
}
