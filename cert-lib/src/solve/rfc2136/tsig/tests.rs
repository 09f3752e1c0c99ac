use base64::prelude::BASE64_STANDARD;
use data_encoding::HEXLOWER;

use super::{wire::split, *};

const NOW: u64 = 1_700_000_000;
const ALGORITHM_AND_MACS: [(TsigAlgorithm, &str, &str); 5] = [
    (
        TsigAlgorithm::HmacSha1,
        "86808b14af8fd9d11f42da9b4fe0b225638a0bbf",
        "79db0eb4091b1f0296ff45ef44da4e6141d3de54",
    ),
    (
        TsigAlgorithm::HmacSha224,
        "8b817c071819bfc7ec8d111af98a9acdf62af6a6aeca392c0cb8643f",
        "f4c91bab4a8126a0375021f2e33de1a1a49e723ecc8516c864d9db5a",
    ),
    (
        TsigAlgorithm::HmacSha256,
        "cb5cab87011533543fafb131112fab336e75005171685390dffe9f507257e48a",
        "a1a3294cf02c09155356d0d321543a8347167194d508ab5eb99447f2d9c628ae",
    ),
    (
        TsigAlgorithm::HmacSha384,
        "aec51f52cfa49aed8a948bb298a39e49c39b0348f370647edce9d3d80a9dcbd28be9b523a163dee4\
         a8a2e325ba476a31",
        "fab0dcb2c0d0292e05164cf0e54112d3dbaaf4d908c8b4b5eec4e77bfaf210c5ad3f86623b345ec7\
         87e91fc55ad73f18",
    ),
    (
        TsigAlgorithm::HmacSha512,
        "ec154745c346f347c27ab558ce5ced6d26df37d7d1472b8ae71626291f9e98397883435394aa1d1e\
         b73643e22428017a2cb0b8ce36880434101aa00971ac614f",
        "5bcabdf740d4ab02fc9d51a0cafddb299ec6ce69806b0592c6bf64a44610c419f58ce11a8fca9c73\
         b7da885fe60ac9a3250bd361fe9eccb486456596c0c0442f",
    ),
];
/// SOA question for `_acme-challenge.example.org` with the id 0x1234, and its answer.
const QUESTION: &str =
    "1234000000010000000000000f5f61636d652d6368616c6c656e6765076578616d706c65036f72670000060001";
const ANSWER: &str =
    "1234840000010000000000000f5f61636d652d6368616c6c656e6765076578616d706c65036f72670000060001";

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

fn key(algorithm: TsigAlgorithm) -> TsigKey {
    let secret: Vec<u8> = (0..32).collect();
    TsigKey::new("Acme-Key.", algorithm, &BASE64_STANDARD.encode(secret)).unwrap()
}

/// The answer as a server sends it.
fn answer(algorithm: TsigAlgorithm, mac: &str, change: impl FnOnce(&mut TsigRecord)) -> Vec<u8> {
    let mut record = TsigRecord {
        key: wire::labels("acme-key"),
        algorithm: wire::labels(algorithm.wire_name()),
        time: NOW,
        fudge: 300,
        mac: hex(mac),
        original_id: 0x1234,
        error: 0,
        other: Vec::new(),
    };
    change(&mut record);
    let mut answer = hex(ANSWER);
    answer[11] = 1;
    answer.extend(record_wire(&record).unwrap());
    answer
}

fn verify(key: &TsigKey, request: &str, answer: &[u8], now: u64) -> Result<(), Option<Flaw>> {
    let split = split(answer).ok_or(None)?;
    let record = split.tsig.as_ref().ok_or(None)?;
    key.verify(&hex(request), &split.message, record, now).map_err(Some)
}

/// The signatures were made by dnspython 2.9.
#[test]
fn signatures_are_those_of_another_implementation() {
    for (algorithm, of_question, of_answer) in ALGORITHM_AND_MACS {
        let key = key(algorithm);
        let signed = key.sign(&hex(QUESTION), NOW).unwrap();
        assert_eq!(HEXLOWER.encode(&signed.mac), of_question, "{algorithm}");
        let answer = answer(algorithm, of_answer, |_| {});
        assert_eq!(verify(&key, of_question, &answer, NOW), Ok(()), "{algorithm}");
    }
}

#[test]
fn a_signed_message_is_the_message_and_a_record() {
    let signed = key(TsigAlgorithm::HmacSha256).sign(&hex(QUESTION), NOW).unwrap();
    let wanted = format!(
        "{}01{}{}{}{}{}",
        &QUESTION[..22],
        &QUESTION[24..],
        "0861636d652d6b65790000fa00ff00000000003d",
        "0b686d61632d7368613235360000006553f100012c0020",
        ALGORITHM_AND_MACS[2].1,
        "123400000000"
    );
    assert_eq!(HEXLOWER.encode(&signed.wire), wanted);
    let split = split(&signed.wire).unwrap();
    assert_eq!(split.message, hex(QUESTION));
    assert_eq!(split.tsig.unwrap().mac, signed.mac);
    assert!(key(TsigAlgorithm::HmacSha1).sign(b"short", NOW).is_none());
}

#[test]
fn every_changed_byte_of_an_answer_is_noticed() {
    let (algorithm, of_question, of_answer) = ALGORITHM_AND_MACS[2];
    let key = key(algorithm);
    let good = answer(algorithm, of_answer, |_| {});
    // The id is that of the exchange; its original is in the record. Class and lifetime of the
    // record are constants.
    let record = ANSWER.len() / 2 + 12;
    for at in (2..good.len()).filter(|at| !(record..record + 6).contains(at)) {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert!(verify(&key, of_question, &changed, NOW).is_err(), "byte {at}");
    }
}

#[test]
fn wrong_signatures_keys_and_times_are_distinguished() {
    let (algorithm, of_question, of_answer) = ALGORITHM_AND_MACS[2];
    let key = key(algorithm);
    let good = answer(algorithm, of_answer, |_| {});
    assert_eq!(verify(&key, ALGORITHM_AND_MACS[0].1, &good, NOW), Err(Some(Flaw::BadMac)));
    assert_eq!(verify(&key, of_question, &good, NOW + 300), Ok(()));
    for (now, ahead) in [(NOW + 301, -301), (NOW - 301, 301)] {
        let late = verify(&key, of_question, &good, now);
        assert_eq!(late, Err(Some(Flaw::BadTime { ahead })));
    }
    let short = answer(algorithm, &of_answer[..32], |_| {});
    assert_eq!(verify(&key, of_question, &short, NOW), Err(Some(Flaw::BadMac)));
    let empty = answer(algorithm, "", |_| {});
    assert_eq!(verify(&key, of_question, &empty, NOW), Err(Some(Flaw::BadMac)));
    let other = answer(algorithm, of_answer, |record| record.key = wire::labels("other"));
    assert_eq!(verify(&key, of_question, &other, NOW), Err(Some(Flaw::OtherKey)));
    let other = answer(TsigAlgorithm::HmacSha512, of_answer, |_| {});
    assert_eq!(verify(&key, of_question, &other, NOW), Err(Some(Flaw::OtherKey)));
    let upper = answer(algorithm, of_answer, |record| record.key.make_ascii_uppercase());
    assert_eq!(verify(&key, of_question, &upper, NOW), Ok(()));
}

#[test]
fn secrets_are_read_as_they_are_stored() {
    let algorithm = TsigAlgorithm::HmacSha256;
    let mac = |secret: &str| {
        let key = TsigKey::new("acme-key", algorithm, secret).unwrap();
        key.sign(&hex(QUESTION), NOW).unwrap().mac
    };
    let plain = mac("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    assert_eq!(HEXLOWER.encode(&plain), ALGORITHM_AND_MACS[2].1);
    for same in [
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        " AAECAwQFBgcICQoL DA0ODxAREhMU\r\nFRYXGBkaGxwdHh8= ",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    ] {
        assert_eq!(mac(same), plain, "{same:?}");
    }
    for (secret, error) in [
        ("", TsigKeyError::Empty),
        (" \n", TsigKeyError::Empty),
        ("not*base64", TsigKeyError::NotBase64),
        (&"A".repeat(5000), TsigKeyError::TooLong),
    ] {
        assert_eq!(TsigKey::new("k", algorithm, secret).unwrap_err(), error);
        assert!(!error.to_string().contains("not*base64"));
    }
    assert!(matches!(TsigKey::new("a b", algorithm, "AAAA"), Err(TsigKeyError::Name(_))));
}

#[test]
fn algorithms_have_the_names_of_cert_manager() {
    for algorithm in TsigAlgorithm::ALL {
        assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
        assert_eq!(algorithm.as_str().to_lowercase().parse(), Ok(algorithm));
    }
    let error = "HMACMD5".parse::<TsigAlgorithm>().unwrap_err().to_string();
    let wanted = "tsigAlgorithm \"HMACMD5\" is not supported: use HMACSHA1, HMACSHA224, HMACSHA256, \
                  HMACSHA384 or HMACSHA512, as configured at the name server";
    assert_eq!(error, wanted);
}

#[test]
fn a_key_prints_no_secret() {
    let key = key(TsigAlgorithm::HmacSha384);
    assert_eq!(format!("{key:?}"), "TsigKey(acme-key, HMACSHA384)");
}
