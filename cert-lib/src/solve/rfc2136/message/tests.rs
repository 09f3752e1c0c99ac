use data_encoding::HEXLOWER;

use super::*;

/// The bytes of a message with the id 0.
fn hex(message: Result<Message, SolveError>) -> String {
    let mut message = message.unwrap();
    message.metadata.id = 0;
    HEXLOWER.encode(&message.to_vec().unwrap())
}

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

#[test]
fn an_addition_is_one_update_with_one_record_for_each_value() {
    let values = ["x".to_owned(), "yz".to_owned()];
    let message = addition(&name("b.c"), &name("a.b.c"), &values, 60);
    let wanted = [
        // Update, 1 zone, 1 prerequisite, 2 updates.
        "0000 2800 0001 0001 0002 0000",
        // b.c SOA IN
        "0162 0163 00 0006 0001",
        // a.b.c has no CNAME: class NONE, no data.
        "0161 c00c 0005 00fe 00000000 0000",
        // a.b.c 60 IN TXT "x" and "yz"
        "c015 0010 0001 0000003c 0002 0178",
        "c015 0010 0001 0000003c 0003 02797a",
    ];
    assert_eq!(hex(message), wanted.concat().replace(' ', ""));
}

#[test]
fn a_removal_names_the_records_and_requires_nothing() {
    let values = ["x".to_owned(), String::new()];
    let message = removal(&name("b.c"), &name("b.c"), &values);
    let wanted = [
        "0000 2800 0001 0000 0002 0000",
        "0162 0163 00 0006 0001",
        // Class NONE, lifetime 0.
        "c00c 0010 00fe 00000000 0002 0178",
        "c00c 0010 00fe 00000000 0001 00",
    ];
    assert_eq!(hex(message), wanted.concat().replace(' ', ""));
}

#[test]
fn a_question_asks_for_no_recursion() {
    let message = question(&name("b.c"), RecordType::SOA);
    assert_eq!(hex(message), "00000000000100000000000001620163000006 0001".replace(' ', ""));
}

#[test]
fn long_values_have_several_strings_and_too_many_are_refused() {
    let long = "v".repeat(300);
    let message = addition(&name("c"), &name("a.c"), &[long], 60).unwrap();
    let RData::TXT(text) = &message.authorities[0].data else { panic!() };
    let lengths: Vec<_> = text.txt_data.iter().map(|part| part.len()).collect();
    assert_eq!(lengths, [255, 45]);
    let most = vec!["v".repeat(81); 400];
    let wire = addition(&name("c"), &name("a.c"), &most, 60).unwrap().to_vec().unwrap();
    assert!(wire.len() < 60_000, "{}", wire.len());
    assert!(!Message::from_vec(&wire).unwrap().metadata.truncation);
    for many in [vec![String::new(); 401], vec!["v".repeat(40_000)]] {
        assert!(removal(&name("c"), &name("a.c"), &many).is_err());
    }
}
