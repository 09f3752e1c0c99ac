use hickory_proto::op::OpCode;

use super::{super::tsig::TsigAlgorithm, *};

const SERVER: &str = "10.0.0.1:53";

/// The error for an update of `_acme-challenge.a.test` in zone `a.test`, or for a question.
fn error(code: u16, trust: Trust, with_key: bool, update: bool) -> Result<(), SolveError> {
    let key = TsigKey::new("acme", TsigAlgorithm::HmacSha256, "c2VjcmV0").unwrap();
    let (fqdn, zone) = ("_acme-challenge.a.test".parse().unwrap(), "a.test".parse().unwrap());
    let key = with_key.then_some(&key);
    let zone = update.then_some(&zone);
    let op_code = if update { OpCode::Update } else { OpCode::Query };
    let message =
        Message::error_msg(1, op_code, ResponseCode::from_low(u8::try_from(code).unwrap()));
    Attempt { server: SERVER, key, fqdn: &fqdn, zone }.check(&message, trust)
}

/// The text of an error, after `U: ` if a retry may help and after `M: ` if not, and
/// after `C: ` if the key is refused.
fn text(result: Result<(), SolveError>) -> String {
    match result {
        Ok(()) => "OK".to_owned(),
        Err(SolveError::Unavailable(text)) => format!("U: {text}"),
        Err(SolveError::Misconfigured(text)) => format!("M: {text}"),
        Err(SolveError::CredentialRefused(text)) => format!("C: {text}"),
    }
}

#[test]
fn every_code_of_an_update_says_what_to_do() {
    let (signed, unsigned) = ((Trust::Full, true), (Trust::Full, false));
    for (code, (trust, with_key), wanted) in [
        (0, signed, "OK"),
        (0, unsigned, "OK"),
        (
            0,
            (Trust::Unsigned, true),
            "M: name server 10.0.0.1:53 confirms the update of _acme-challenge.a.test without the \
             TSIG signature that the update had: set nameserver to a server that supports TSIG",
        ),
        (
            1,
            signed,
            "M: name server 10.0.0.1:53 does not understand the update of _acme-challenge.a.test \
             (FORMERR): set nameserver to a server that supports RFC 2136",
        ),
        (
            2,
            (Trust::Unsigned, true),
            "U: name server 10.0.0.1:53 failed to update zone a.test (SERVFAIL): its log has the \
             reason, for example a zone that is not loaded or a file that it cannot write",
        ),
        (
            3,
            signed,
            "M: name server 10.0.0.1:53 does not update _acme-challenge.a.test in zone a.test \
             (NXDOMAIN): its log has the reason",
        ),
        (
            4,
            signed,
            "M: name server 10.0.0.1:53 does not support dynamic updates (NOTIMP): enable them \
             there, or set nameserver to a server that supports RFC 2136",
        ),
        (
            5,
            signed,
            "M: name server 10.0.0.1:53 does not permit the TSIG key \"acme\" to update \
             _acme-challenge.a.test in zone a.test (REFUSED): permit it there, in BIND by \
             update-policy or allow-update",
        ),
        (
            5,
            unsigned,
            "M: name server 10.0.0.1:53 does not permit unsigned updates of \
             _acme-challenge.a.test in zone a.test (REFUSED): set tsigKeyName, tsigAlgorithm and \
             tsigSecretSecretRef",
        ),
        (
            7,
            signed,
            "M: _acme-challenge.a.test has a CNAME in zone a.test, beside which no record can be \
             published (YXRRSET): set cnameStrategy: Follow, or remove the CNAME",
        ),
        (
            9,
            signed,
            "M: name server 10.0.0.1:53 is not the primary of zone a.test (NOTAUTH): correct \
             zone, or set nameserver to the primary",
        ),
        (
            9,
            unsigned,
            "M: name server 10.0.0.1:53 is not the primary of zone a.test, or does not permit \
             unsigned updates (NOTAUTH): correct zone, set nameserver to the primary, or set \
             tsigKeyName, tsigAlgorithm and tsigSecretSecretRef",
        ),
        (
            9,
            (Trust::Unsigned, true),
            "C: name server 10.0.0.1:53 is not authoritative for zone a.test, or does not accept \
             the TSIG key \"acme\" (NOTAUTH): set nameserver to the primary of the zone, compare \
             tsigKeyName, tsigAlgorithm and the secret with its configuration, and the clocks",
        ),
        (
            10,
            signed,
            "M: name server 10.0.0.1:53 answers that _acme-challenge.a.test is outside of zone \
             a.test (NOTZONE): correct zone, or remove it to have the zone found",
        ),
        (
            11,
            signed,
            "M: name server 10.0.0.1:53 does not update _acme-challenge.a.test in zone a.test \
             (code 11): its log has the reason",
        ),
    ] {
        assert_eq!(text(error(code, trust, with_key, true)), wanted, "code {code}");
    }
}

#[test]
fn every_refused_signature_says_what_to_compare() {
    for (refusal, wanted) in [
        (
            Refusal::BadKey,
            "C: name server 10.0.0.1:53 does not know the TSIG key \"acme\" (BADKEY), or does not \
             permit it to update _acme-challenge.a.test: compare tsigKeyName and tsigAlgorithm with \
             its configuration, and in Knot the acl of the zone",
        ),
        (
            Refusal::BadSignature,
            "C: name server 10.0.0.1:53 has another secret for the TSIG key \"acme\" (BADSIG): \
             compare tsigSecretSecretRef and tsigAlgorithm with its configuration",
        ),
        (
            Refusal::BadTime { ahead: Some(-900) },
            "U: the clock of name server 10.0.0.1:53 is 900 s behind the clock of this manager \
             (BADTIME): synchronize both",
        ),
        (
            Refusal::BadTime { ahead: Some(900) },
            "U: the clock of name server 10.0.0.1:53 is 900 s ahead of the clock of this manager \
             (BADTIME): synchronize both",
        ),
        (
            Refusal::BadTime { ahead: None },
            "U: the clock of name server 10.0.0.1:53 differs by more than the permitted time from \
             the clock of this manager (BADTIME): synchronize both",
        ),
        (
            Refusal::BadTruncation,
            "C: name server 10.0.0.1:53 requires longer signatures than those of the TSIG key \
             \"acme\" (BADTRUNC): use another tsigAlgorithm",
        ),
        (
            Refusal::Other(99),
            "C: name server 10.0.0.1:53 does not accept the TSIG key \"acme\" (code 99): compare \
             tsigKeyName, tsigAlgorithm and tsigSecretSecretRef with its configuration",
        ),
    ] {
        for update in [true, false] {
            assert_eq!(text(error(9, Trust::Refused(refusal), true, update)), wanted);
        }
    }
}

#[test]
fn an_answer_with_a_wrong_signature_is_tried_again() {
    for (flaw, wanted) in [
        (
            Flaw::OtherKey,
            "U: name server 10.0.0.1:53 signs its answer with another key than \"acme\": check \
             for a DNS proxy between it and this manager",
        ),
        (
            Flaw::BadMac,
            "U: the answer of name server 10.0.0.1:53 has a wrong signature of the TSIG key \
             \"acme\": check for a DNS proxy between it and this manager",
        ),
        (
            Flaw::BadTime { ahead: 400 },
            "U: the clock of name server 10.0.0.1:53 is 400 s ahead of the clock of this manager \
             (BADTIME): synchronize both",
        ),
    ] {
        assert_eq!(text(error(0, Trust::Flawed(flaw), true, true)), wanted);
    }
}

#[test]
fn codes_of_a_question_are_explained() {
    for (code, trust, wanted) in [
        (0, Trust::Unsigned, "OK"),
        (3, Trust::Full, "OK"),
        (
            2,
            Trust::Full,
            "U: name server 10.0.0.1:53 answers SERVFAIL to a question for the zone of \
             _acme-challenge.a.test",
        ),
        (
            5,
            Trust::Full,
            "M: name server 10.0.0.1:53 answers REFUSED to a question for the zone of \
             _acme-challenge.a.test",
        ),
        (
            9,
            Trust::Unsigned,
            "C: name server 10.0.0.1:53 does not accept the TSIG key \"acme\" (NOTAUTH): compare \
             tsigKeyName, tsigAlgorithm and tsigSecretSecretRef with its configuration, and the \
             clocks",
        ),
    ] {
        assert_eq!(text(error(code, trust, true, false)), wanted);
    }
}

#[test]
fn refusals_are_read_from_signatures() {
    let record = |error: u16, other: &[u8]| TsigRecord {
        key: Vec::new(),
        algorithm: Vec::new(),
        time: 0,
        fudge: 300,
        mac: Vec::new(),
        original_id: 1,
        error,
        other: other.to_vec(),
    };
    for (error, other, wanted) in [
        (0, &[][..], None),
        (16, &[], Some(Refusal::BadSignature)),
        (17, &[], Some(Refusal::BadKey)),
        (18, &[], Some(Refusal::BadTime { ahead: None })),
        (18, &[0, 0, 0, 0, 3, 232], Some(Refusal::BadTime { ahead: Some(-1000) })),
        (22, &[], Some(Refusal::BadTruncation)),
        (23, &[], Some(Refusal::Other(23))),
    ] {
        assert_eq!(Refusal::of(&record(error, other), 2000), wanted);
    }
}
