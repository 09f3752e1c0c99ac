use std::sync::Mutex;

use super::*;
use crate::{
    acme::account::{
        register,
        tests::{FakeCa, answer, client_of, coordinate_of, problem, url_of},
    },
    net::HttpError,
};

fn connection_reset() -> HttpError {
    HttpError::Broken { host: "ca".to_owned(), reason: "reset".to_owned() }
}

/// The point at which a change is interrupted.
#[derive(Clone, Copy, Debug)]
enum Interruption {
    /// The request does not reach the CA.
    BeforeTheRequest,
    /// The CA has acted, but its answer is lost.
    AfterTheRequest,
    /// The CA has acted, and a proxy answers with a refusal.
    AfterTheRequestWithRefusal,
    /// The CA is overloaded.
    Overloaded,
}

async fn registered(book: &Arc<Mutex<FakeCa>>) -> AccountKey {
    let key = AccountKey::generate().unwrap();
    let (client, _) = client_of(book, |_, _| None);
    register(&client, &key, None, None).await.unwrap();
    key
}

/// faults.md 36
#[tokio::test]
async fn an_interrupted_change_ends_with_the_new_key_and_the_same_account() {
    for interruption in [
        Interruption::BeforeTheRequest,
        Interruption::AfterTheRequest,
        Interruption::AfterTheRequestWithRefusal,
        Interruption::Overloaded,
    ] {
        let book = Arc::default();
        let current = registered(&book).await;
        let next = AccountKey::generate().unwrap();
        let (client, _) = client_of(&book, move |seen, book| {
            (seen.path() == "/key-change").then(|| match interruption {
                Interruption::BeforeTheRequest => Err(connection_reset()),
                Interruption::AfterTheRequest => {
                    book.serve(seen);
                    Err(connection_reset())
                }
                Interruption::AfterTheRequestWithRefusal => {
                    book.serve(seen);
                    Ok(answer(403).html("<h1>blocked</h1>"))
                }
                Interruption::Overloaded => Ok(answer(503).html("<h1>later</h1>")),
            })
        });
        let first = roll_over(&client, &current, &next, Some(&url_of(1))).await;
        match interruption {
            Interruption::AfterTheRequestWithRefusal => {
                assert!(matches!(first, Ok(Rollover::Changed(_))), "{first:?}");
            }
            _ => assert!(first.is_err(), "{interruption:?}: {first:?}"),
        }

        // Each later process has the same two keys.
        let (client, http) = client_of(&book, |_, _| None);
        for _ in 0..2 {
            let outcome = roll_over(&client, &current, &next, Some(&url_of(1))).await.unwrap();
            let Rollover::Changed(account) = outcome else { panic!("{interruption:?}") };
            assert_eq!(account.url(), url_of(1));
            assert_eq!(account.key().thumbprint(), next.thumbprint());
        }
        let changes = http.log().iter().filter(|line| line.ends_with("/key-change")).count();
        assert!(changes <= 1, "{interruption:?}: {:?}", http.log());
        assert_eq!(book.lock().unwrap().accounts, [(coordinate_of(&next), url_of(1))]);
    }
}

#[tokio::test]
async fn a_refused_change_keeps_the_old_key_and_returns_the_reason() {
    let book = Arc::default();
    let current = registered(&book).await;
    let next = AccountKey::generate().unwrap();
    for (status, word) in [(400, "badPublicKey"), (409, "conflict")] {
        let (client, _) = client_of(&book, move |seen, _| {
            (seen.path() == "/key-change").then(|| Ok(answer(status).json(&problem(word))))
        });
        let outcome = roll_over(&client, &current, &next, None).await.unwrap();
        let Rollover::Refused(why) = outcome else { panic!("{word}") };
        assert!(why.to_string().starts_with(word), "{why}");
    }
    assert_eq!(book.lock().unwrap().accounts, [(coordinate_of(&current), url_of(1))]);
}

#[tokio::test]
async fn a_temporary_refusal_is_retried() {
    let book = Arc::default();
    let current = registered(&book).await;
    let next = AccountKey::generate().unwrap();
    for status in [429, 408, 403] {
        let (client, _) = client_of(&book, move |seen, _| {
            (seen.path() == "/key-change").then(|| Ok(answer(status).html("<h1>later</h1>")))
        });
        assert!(roll_over(&client, &current, &next, None).await.is_err(), "{status}");
    }
}

#[tokio::test]
async fn the_key_of_another_account_is_refused() {
    let book = Arc::default();
    let (current, next) = (registered(&book).await, registered(&book).await);
    let (client, _) = client_of(&book, |_, _| None);
    let outcome = roll_over(&client, &current, &next, Some(&url_of(1))).await.unwrap();
    let Rollover::Refused(why) = outcome else { panic!("it was taken") };
    assert_eq!(why.to_string(), "the new key belongs to another account, https://ca/account/2");
}

#[tokio::test]
async fn an_unknown_current_key_must_be_registered_first() {
    let book = Arc::default();
    let (current, next) = (AccountKey::generate().unwrap(), AccountKey::generate().unwrap());
    let (client, _) = client_of(&book, |_, _| None);
    let error = roll_over(&client, &current, &next, None).await.unwrap_err();
    assert!(matches!(error, AccountError::NotRegistered));
    register(&client, &current, None, None).await.unwrap();
    let outcome = roll_over(&client, &current, &next, None).await.unwrap();
    assert!(matches!(outcome, Rollover::Changed(_)));
}
