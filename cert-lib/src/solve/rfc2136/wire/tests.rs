use proptest::prelude::*;

use super::*;

/// A message with one additional record that consists of `record`.
fn message(record: &[u8]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    message.extend(record);
    message
}

#[test]
fn a_message_without_a_signature_is_kept() {
    let a_record = [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1];
    for message in [message(&a_record), message(&[])[..11].iter().copied().chain([0]).collect()] {
        assert_eq!(split(&message), Some(Split { message: message.clone(), tsig: None }));
    }
}

#[test]
fn names_are_expanded_to_lower_case() {
    let message = b"\x03ORG\x00\x01a\xc0\x00\x01b\xc0\x05";
    let mut reader = Reader { message, at: 9 };
    assert_eq!(reader.name().unwrap(), b"\x01b\x01a\x03org\0");
    assert_eq!(reader.at, message.len());
    assert_eq!(labels("b.a.org"), b"\x01b\x01a\x03org\0");
}

#[test]
fn malformed_messages_are_refused() {
    let looping = [0xc0, 12, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0];
    let forward = [0xc0, 14, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0];
    let repeated = [1, b'a', 0xc0, 12, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0];
    let long_label = [0x40, 0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0];
    let empty_tsig = [0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0];
    let trailing = [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 9];
    for record in
        [&looping[..], &forward, &repeated, &long_label, &empty_tsig, &trailing, &trailing[..8]]
    {
        assert_eq!(split(&message(record)), None, "{record:?}");
    }
    assert_eq!(split(b""), None);
}

#[test]
fn a_signature_outside_of_the_additional_records_is_none() {
    let mut message = message(&[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]);
    (message[7], message[11]) = (1, 0);
    assert_eq!(split(&message).unwrap().tsig, None);
}

proptest! {
    #[test]
    fn no_bytes_panic(
        counts in prop::array::uniform4(0_u8..3),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let [a, b, c, d] = counts;
        let mut message = vec![0, 0, 0, 0, 0, a, 0, b, 0, c, 0, d];
        message.extend(rest);
        let _ = split(&message);
    }
}
