use hickory_proto::{
    op::{OpCode, Query},
    rr::Name,
};

use super::*;
use crate::{
    answer::{
        options::ZoneOptions,
        records::{Origin, RecordKey, Source},
        zone::Table,
    },
    api::ObjectKey,
    runtime::metrics::Limits,
};

/// A handler with `counts` values of 43 characters at the names `_c0.acme.test`, `_c1.acme.test`, …
fn handler(counts: &[usize]) -> Handler {
    let addresses = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let zones = vec!["acme.test".parse().unwrap()];
    let mut table = Table::new(&ZoneOptions { addresses, ..ZoneOptions::of(zones) }, &[], 1);
    for (index, count) in counts.iter().enumerate() {
        let object = ObjectKey { namespace: "ns".into(), name: index.to_string() };
        let values = (0..*count).map(|value| format!("{value:0>43}")).collect();
        let source =
            Source { name: format!("_c{index}.acme.test").parse().unwrap(), values, ttl: 9 };
        table.put(&RecordKey { origin: Origin::Entries, object }, vec![source]);
    }
    Handler::new(Arc::new(Shared::new(table)), Metrics::new(Limits::default()).unwrap())
}

fn query(name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn answer(handler: &Handler, message: &[u8], delivery: Delivery) -> Option<Vec<u8>> {
    let mut buffer = vec![1, 2, 3];
    handler.answer(message, delivery, &mut buffer).then_some(buffer)
}

#[test]
fn responses_fit_into_the_datagram_of_the_client() {
    let handler = handler(&[100]);
    for (payload, delivery, answers) in [
        (None, Delivery::Udp, 0),
        (Some(4096), Delivery::Udp, 0),
        (Some(0), Delivery::Udp, 0),
        (None, Delivery::Tcp, 100),
    ] {
        let message = query("_c0.acme.test.", RecordType::TXT, payload);
        let response = answer(&handler, &message, delivery).unwrap();
        let decoded = Message::from_vec(&response).unwrap();
        assert_eq!((decoded.answers.len(), decoded.metadata.truncation), (answers, answers == 0));
        assert_eq!(decoded.edns.map(|it| it.max_payload()), payload.map(|_| MAX_DATAGRAM));
        assert_eq!(decoded.queries.len(), 1);
    }
}

#[test]
fn a_truncated_delivery_has_no_records_and_keeps_short_answers() {
    let handler = handler(&[1]);
    for (name, truncated, code) in [
        ("_c0.acme.test.", true, ResponseCode::NoError),
        ("absent.acme.test.", true, ResponseCode::NXDomain),
        ("elsewhere.test.", false, ResponseCode::Refused),
    ] {
        let message = query(name, RecordType::TXT, None);
        let response = answer(&handler, &message, Delivery::UdpTruncated).unwrap();
        assert_eq!(response.len(), message.len(), "no amplification");
        let decoded = Message::from_vec(&response).unwrap();
        let metadata = decoded.metadata;
        assert_eq!((metadata.truncation, metadata.response_code), (truncated, code), "{name}");
        assert!(decoded.answers.is_empty() && decoded.authorities.is_empty());
    }
}

#[test]
fn messages_that_are_no_plain_queries_get_a_header_or_no_answer() {
    let handler = handler(&[1]);
    let plain = query("_c0.acme.test.", RecordType::TXT, None);
    let with = |place: usize, byte: u8| {
        let mut message = plain.clone();
        message[place] = byte;
        Some(message)
    };
    let status = u8::from(OpCode::Status) << 3 | 1;
    for (message, code) in [
        (with(2, 0x80), None),
        (Some(plain[..11].to_vec()), None),
        (Some(vec![]), None),
        (with(2, status), Some(4)),
        (with(5, 0), Some(1)),
        (with(5, 2), Some(1)),
        (with(7, 1), Some(1)),
        (with(10, 1), Some(1)),
        // A label that is longer than the message, and one that points to itself.
        (with(12, 60), Some(1)),
        (with(12, 0xc0), Some(1)),
        (Some(plain[..20].to_vec()), Some(1)),
    ] {
        let message = message.unwrap();
        let response = answer(&handler, &message, Delivery::Udp);
        let shape = response.as_ref().map(|it| (it.len(), it[..2] == message[..2], it[2], it[3]));
        let flags = |code| (12, true, 0x80 | (message[2] & 0x79), code);
        assert_eq!(shape, code.map(flags), "{message:?}");
    }
}

/// The largest response to any query type, in relation to the query. Names are as short as possible.
#[test]
fn the_amplification_of_datagrams_is_bounded() {
    let counts: Vec<usize> = (1..=30).collect();
    let handler = handler(&counts);
    let names = (0..counts.len()).map(|index| format!("_c{index}.acme.test."));
    let others = ["absent.acme.test.", "ns.acme.test.", "acme.test.", "test.", "."];
    let (mut one_value, mut largest, mut any) = (0.0_f64, 0.0_f64, 0.0_f64);
    for name in names.chain(others.map(str::to_owned)) {
        for kind in (1..=260).map(RecordType::from) {
            for payload in [None, Some(512), Some(65_535)] {
                let message = query(&name, kind, payload);
                let response = answer(&handler, &message, Delivery::Udp).unwrap();
                let limit = if payload.is_none_or(|it| it <= 512) { 512 } else { 1232 };
                assert!(response.len() <= limit, "{name} {kind}: {}", response.len());
                let factor = response.len() as f64 / message.len() as f64;
                largest = largest.max(factor);
                if !name.starts_with("_c") || name.starts_with("_c0.") {
                    one_value = one_value.max(factor);
                }
                if kind == RecordType::ANY {
                    any = any.max(factor);
                }
            }
        }
    }
    println!("amplification: one value {one_value:.2}, largest {largest:.2}, ANY {any:.2}");
    assert!(one_value <= 3.5 && largest <= 10.0 && any <= 3.0, "{one_value} {largest} {any}");
}

/// A small generator of numbers (xorshift): a failure is reproducible.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (bound as u64)).unwrap()
    }
}

/// Changes a few bytes, and often the length.
fn mutate(numbers: &mut Numbers, message: &mut Vec<u8>) {
    for _ in 0..=numbers.below(4) {
        let place = numbers.below(message.len() + 1);
        let byte = u8::try_from(numbers.below(256)).unwrap();
        match numbers.below(8) {
            0 => message.truncate(place),
            1 => message.insert(place, byte),
            // A compression pointer.
            2 => drop(message.splice(place.., [0xc0, byte])),
            3 => message.extend(std::iter::repeat_n(byte, numbers.below(MAX_QUERY))),
            _ => {
                if let Some(changed) = message.get_mut(place) {
                    *changed = byte;
                }
            }
        }
    }
    message.truncate(MAX_QUERY);
}

/// `make bench RESPONDER=1` sends a million over a socket to the release build.
#[test]
fn mutated_messages_get_small_answers_from_our_zones_or_none() {
    let handler = handler(&[1, 10, 100]);
    let mut seeds = Vec::new();
    for name in ["_c0.acme.test.", "_c1.acme.test.", "_c2.acme.test.", "acme.test.", "x.test."] {
        for kind in [RecordType::TXT, RecordType::SOA, RecordType::ANY, RecordType::IXFR] {
            seeds.push(query(name, kind, None));
            seeds.push(query(name, kind, Some(4096)));
        }
    }
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut buffer = Vec::new();
    let zone = Name::from_ascii("acme.test.").unwrap();
    let count = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    for round in 0..count {
        let mut message = seeds[round % seeds.len()].clone();
        mutate(&mut numbers, &mut message);
        if !handler.answer(&message, Delivery::Udp, &mut buffer) {
            continue;
        }
        assert!(buffer.len() <= usize::from(MAX_DATAGRAM) && buffer.len() >= 12, "{message:?}");
        assert!(buffer[..2] == message[..2] && buffer[2] & 0x80 != 0, "{message:?}");
        let response = Message::from_vec(&buffer).expect("the response is valid");
        let records = response.answers.iter().chain(&response.authorities);
        assert!(records.clone().all(|record| zone.zone_of(&record.name)), "{message:?}");
    }
    assert!(buffer.capacity() <= 4096, "{}", buffer.capacity());
}
