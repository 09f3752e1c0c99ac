use std::sync::Mutex;

use super::*;
use crate::{
    acme::account::{
        register,
        tests::{Book, answer, booked, mark_of, problem, url_of},
    },
    net::HttpError,
};

fn lost() -> HttpError {
    HttpError::Broken { host: "ca".to_owned(), reason: "reset".to_owned() }
}

/// When a change is interrupted.
#[derive(Clone, Copy, Debug)]
enum Interruption {
    /// Nothing reaches the CA.
    BeforeTheRequest,
    /// The CA has acted, and nobody hears of it.
    AfterTheRequest,
    /// The CA has acted, and a proxy says no.
    AfterTheRequestWithRefusal,
    /// The CA cannot now.
    Overloaded,
}

async fn registered(book: &Arc<Mutex<Book>>) -> AccountKey {
    let key = AccountKey::generate().unwrap();
    let (client, _) = booked(book, |_, _| None);
    register(&client, &key, None, None).await.unwrap();
    key
}

/// faults.md 36
#[tokio::test]
async fn a_change_that_was_interrupted_anywhere_ends_with_the_new_key_and_the_same_account() {
    for interruption in [
        Interruption::BeforeTheRequest,
        Interruption::AfterTheRequest,
        Interruption::AfterTheRequestWithRefusal,
        Interruption::Overloaded,
    ] {
        let book = Arc::default();
        let current = registered(&book).await;
        let next = AccountKey::generate().unwrap();
        let (client, _) = booked(&book, move |seen, book| {
            (seen.path() == "/key-change").then(|| match interruption {
                Interruption::BeforeTheRequest => Err(lost()),
                Interruption::AfterTheRequest => {
                    book.serve(seen);
                    Err(lost())
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

        // The next process has the same two keys, and so has each after it.
        let (client, http) = booked(&book, |_, _| None);
        for _ in 0..2 {
            let outcome = roll_over(&client, &current, &next, Some(&url_of(1))).await.unwrap();
            let Rollover::Changed(account) = outcome else { panic!("{interruption:?}") };
            assert_eq!(account.url(), url_of(1));
            assert_eq!(account.key().thumbprint(), next.thumbprint());
        }
        let changes = http.log().iter().filter(|line| line.ends_with("/key-change")).count();
        assert!(changes <= 1, "{interruption:?}: {:?}", http.log());
        assert_eq!(book.lock().unwrap().accounts, [(mark_of(&next), url_of(1))]);
    }
}

#[tokio::test]
async fn a_ca_that_refuses_leaves_the_old_key_and_says_why() {
    let book = Arc::default();
    let current = registered(&book).await;
    let next = AccountKey::generate().unwrap();
    for (status, word) in [(400, "badPublicKey"), (409, "conflict")] {
        let (client, _) = booked(&book, move |seen, _| {
            (seen.path() == "/key-change").then(|| Ok(answer(status).json(&problem(word))))
        });
        let outcome = roll_over(&client, &current, &next, None).await.unwrap();
        let Rollover::Refused(why) = outcome else { panic!("{word}") };
        assert!(why.to_string().starts_with(word), "{why}");
    }
    assert_eq!(book.lock().unwrap().accounts, [(mark_of(&current), url_of(1))]);
}

#[tokio::test]
async fn a_ca_that_says_later_is_asked_again() {
    let book = Arc::default();
    let current = registered(&book).await;
    let next = AccountKey::generate().unwrap();
    for status in [429, 408, 403] {
        let (client, _) = booked(&book, move |seen, _| {
            (seen.path() == "/key-change").then(|| Ok(answer(status).html("<h1>later</h1>")))
        });
        assert!(roll_over(&client, &current, &next, None).await.is_err(), "{status}");
    }
}

#[tokio::test]
async fn the_key_of_another_account_is_not_taken() {
    let book = Arc::default();
    let (current, next) = (registered(&book).await, registered(&book).await);
    let (client, _) = booked(&book, |_, _| None);
    let outcome = roll_over(&client, &current, &next, Some(&url_of(1))).await.unwrap();
    let Rollover::Refused(why) = outcome else { panic!("it was taken") };
    assert_eq!(why.to_string(), "the new key belongs to another account, https://ca/account/2");
}

#[tokio::test]
async fn a_ca_that_knows_neither_key_wants_the_current_one_registered_first() {
    let book = Arc::default();
    let (current, next) = (AccountKey::generate().unwrap(), AccountKey::generate().unwrap());
    let (client, _) = booked(&book, |_, _| None);
    let error = roll_over(&client, &current, &next, None).await.unwrap_err();
    assert!(matches!(error, AccountError::NotRegistered));
    register(&client, &current, None, None).await.unwrap();
    let outcome = roll_over(&client, &current, &next, None).await.unwrap();
    assert!(matches!(outcome, Rollover::Changed(_)));
}
