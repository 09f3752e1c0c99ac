use std::net::SocketAddr;

use hickory_proto::{
    op::OpCode,
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::SOA, rdata::TXT},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

use super::{wire::split, *};
use crate::clock::Manual;

const NOW: i64 = 1_700_000_000;
const SECRET: &str = "c2VjcmV0LW9mLXRoZS10ZXN0";

/// What arrived: the transport, and the message without its signature.
#[derive(Debug)]
struct Seen {
    tcp: bool,
    message: Message,
    /// The signature of the request.
    mac: Option<Vec<u8>>,
}

impl Seen {
    fn read(tcp: bool, wire: &[u8]) -> Self {
        let split = split(wire).unwrap();
        let message = Message::from_vec(&split.message).unwrap();
        Self { tcp, message, mac: split.tsig.map(|record| record.mac) }
    }

    fn is_update(&self) -> bool {
        self.message.metadata.op_code == OpCode::Update
    }

    fn question(&self) -> String {
        self.message.queries[0].name().to_ascii()
    }

    /// An answer with this code, and for a question with the SOA record of `zone.test`.
    fn reply(&self, code: ResponseCode) -> Message {
        let mut reply = Message::response(self.message.metadata.id, self.message.metadata.op_code);
        reply.add_queries(self.message.queries.iter().cloned());
        reply.metadata.response_code = code;
        reply.metadata.authoritative = true;
        if !self.is_update() {
            let name = |text: &str| Name::from_ascii(text).unwrap();
            let soa = SOA::new(name("ns.test."), name("hostmaster.test."), 1, 60, 60, 60, 1);
            reply.add_authority(Record::from_rdata(name("zone.test."), 60, RData::SOA(soa)));
        }
        reply
    }

    /// The same as bytes, signed if the request is.
    fn signed(&self, reply: &Message) -> Vec<u8> {
        let wire = reply.to_vec().unwrap();
        match &self.mac {
            Some(mac) => key().sign_answer(mac, &wire, u64::try_from(NOW).unwrap()),
            None => wire,
        }
    }

    fn ok(&self) -> Option<Vec<u8>> {
        Some(self.signed(&self.reply(ResponseCode::NoError)))
    }
}

fn key() -> TsigKey {
    TsigKey::new("acme", TsigAlgorithm::HmacSha256, SECRET).unwrap()
}

/// Calls `client` with the configuration of a server that answers by its `script`, `None` being
/// silence.
async fn with_server<T>(
    mut script: impl FnMut(&Seen) -> Option<Vec<u8>>,
    client: impl AsyncFnOnce(Rfc2136Config, Arc<Manual>) -> T,
) -> T {
    let (tcp, udp, address) = sockets().await;
    let serve = async {
        let mut buffer = [0; 2048];
        loop {
            tokio::select! {
                received = udp.recv_from(&mut buffer) => {
                    let (length, from) = received.unwrap();
                    if let Some(answer) = script(&Seen::read(false, &buffer[..length])) {
                        udp.send_to(&answer, from).await.unwrap();
                    }
                }
                accepted = tcp.accept() => {
                    let (mut stream, _) = accepted.unwrap();
                    let mut wire = vec![0; usize::from(stream.read_u16().await.unwrap())];
                    stream.read_exact(&mut wire).await.unwrap();
                    if let Some(answer) = script(&Seen::read(true, &wire)) {
                        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
                        stream.write_all(&answer).await.unwrap();
                    }
                }
            }
        }
    };
    let config = Rfc2136Config { key: Some(key()), ..Rfc2136Config::new(address.into()) };
    let clock = Arc::new(Manual::at(Timestamp::from_second(NOW).unwrap()));
    tokio::select! {
        () = serve => unreachable!(),
        done = client(config, clock) => done,
    }
}

async fn sockets() -> (TcpListener, UdpSocket, SocketAddr) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        if let Ok(udp) = UdpSocket::bind(address).await {
            return (tcp, udp, address);
        }
    }
}

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn values(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("value-{number}")).collect()
}

#[tokio::test]
async fn the_zone_is_asked_for_once_and_again_after_some_minutes_or_a_refusal() {
    let mut log = Vec::new();
    let mut code = ResponseCode::NoError;
    let script = |seen: &Seen| {
        log.push(seen.question());
        let code = if seen.is_update() { code } else { ResponseCode::NXDomain };
        Some(seen.signed(&seen.reply(code)))
    };
    let fqdn = name("_acme-challenge.a.zone.test");
    with_server(script, async |config, clock| {
        let server = Rfc2136::new(config, clock.clone());
        server.remove(&fqdn, &values(1)).await.unwrap();
        server.remove(&fqdn, &values(1)).await.unwrap();
        clock.step(SignedDuration::from_mins(4));
        server.remove(&fqdn, &values(1)).await.unwrap();
    })
    .await;
    let question = "_acme-challenge.a.zone.test.";
    assert_eq!(log, [question, "zone.test.", "zone.test.", "zone.test."]);

    log = Vec::new();
    code = ResponseCode::NotZone;
    let script = |seen: &Seen| {
        log.push(seen.question());
        let code = if seen.is_update() { code } else { ResponseCode::NXDomain };
        Some(seen.signed(&seen.reply(code)))
    };
    with_server(script, async |config, clock| {
        let server = Rfc2136::new(config, clock);
        server.remove(&fqdn, &values(1)).await.unwrap_err();
        server.remove(&fqdn, &values(1)).await.unwrap_err();
    })
    .await;
    assert_eq!(log, [question, "zone.test.", question, "zone.test."]);
}

#[tokio::test]
async fn a_configured_zone_is_not_asked_for_and_limits_the_names() {
    let mut log = Vec::new();
    let script = |seen: &Seen| {
        log.push(seen.question());
        seen.ok()
    };
    let outside = with_server(script, async |config, clock| {
        let config = Rfc2136Config { zone: Some(name("zone.test")), ..config };
        let server = Rfc2136::new(config, clock);
        server.remove(&name("a.zone.test"), &values(1)).await.unwrap();
        server.remove(&name("a.zone.test"), &[]).await.unwrap();
        server.add(&name("a.zone.test"), &[]).await.unwrap();
        server.add(&name("a.otherzone.test"), &values(1)).await.unwrap_err()
    })
    .await;
    assert_eq!(log, ["zone.test."]);
    let wanted = "a.otherzone.test is not in zone zone.test: correct zone, remove it to have the \
                  zone found, or restrict the selector of the solver";
    assert!(matches!(outside, SolveError::Misconfigured(text) if text == wanted));
}

#[tokio::test]
async fn names_that_the_server_refuses_are_walked_up_until_nothing_is_left() {
    let mut log = Vec::new();
    let script = |seen: &Seen| {
        log.push(seen.question());
        Some(seen.signed(&seen.reply(ResponseCode::Refused)))
    };
    let error = with_server(script, async |config, clock| {
        let error = Rfc2136::new(config, clock).add(&name("a.b.test"), &values(1)).await;
        error.unwrap_err()
    })
    .await;
    assert_eq!(log, ["a.b.test.", "b.test.", "test."]);
    let SolveError::Misconfigured(text) = error else { panic!("{error}") };
    assert!(text.contains("is authoritative for no zone of a.b.test: set nameserver"), "{text}");
}

#[tokio::test]
async fn records_get_the_lifetime_of_those_that_others_have_there() {
    for (present, wanted) in [(None, 60), (Some(3600), 3600)] {
        let mut added = None;
        let script = |seen: &Seen| {
            let mut reply = seen.reply(ResponseCode::NoError);
            let is_text = seen.message.queries[0].query_type() == RecordType::TXT;
            if let Some(ttl) = present.filter(|_| is_text) {
                let text = RData::TXT(TXT::new(vec!["of another".to_owned()]));
                let owner = seen.message.queries[0].name().clone();
                reply.add_answer(Record::from_rdata(owner, ttl, text));
            }
            if seen.is_update() {
                let record = &seen.message.authorities[0];
                added = Some((record.ttl, record.dns_class));
            }
            Some(seen.signed(&reply))
        };
        with_server(script, async |config, clock| {
            Rfc2136::new(config, clock).add(&name("a.zone.test"), &values(1)).await.unwrap();
        })
        .await;
        assert_eq!(added, Some((wanted, DNSClass::IN)));
    }
}

/// The transports of the messages of one removal.
async fn transports(
    protocol: Protocol,
    count: usize,
    mut over_udp: impl FnMut(&Seen) -> Option<Vec<u8>>,
) -> (Vec<bool>, Result<(), SolveError>) {
    let mut log = Vec::new();
    let script = |seen: &Seen| {
        log.push(seen.tcp);
        if seen.tcp { seen.ok() } else { over_udp(seen) }
    };
    let result = with_server(script, async |config, clock| {
        let zone = Some(name("zone.test"));
        let config = Rfc2136Config { protocol, zone, ..config };
        Rfc2136::new(config, clock).remove(&name("a.zone.test"), &values(count)).await
    })
    .await;
    (log, result)
}

#[tokio::test]
async fn tcp_is_used_where_it_is_configured_or_udp_does_not_suffice() {
    let truncated = |seen: &Seen| {
        let mut reply = seen.reply(ResponseCode::NoError);
        reply.metadata.truncation = true;
        Some(seen.signed(&reply))
    };
    let unsigned = |seen: &Seen| seen.reply(ResponseCode::NoError).to_vec().ok();
    let changed = |seen: &Seen| {
        let mut reply = seen.ok()?;
        let last = reply.len() - 10;
        reply[last] ^= 1;
        Some(reply)
    };
    let (udp, udp_tcp, tcp) = (vec![false], vec![false, true], vec![true]);
    assert_eq!(transports(Protocol::Udp, 2, Seen::ok).await.0, udp);
    assert_eq!(transports(Protocol::Udp, 2, truncated).await.0, udp_tcp);
    assert_eq!(transports(Protocol::Udp, 2, unsigned).await.0, udp_tcp);
    assert_eq!(transports(Protocol::Udp, 2, changed).await.0, udp_tcp);
    assert_eq!(transports(Protocol::Udp, 100, Seen::ok).await.0, tcp);
    assert_eq!(transports(Protocol::Tcp, 2, Seen::ok).await.0, tcp);
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        assert!(transports(protocol, 2, changed).await.1.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_datagram_is_sent_again_over_tcp() {
    let (log, result) = transports(Protocol::Udp, 1, |_| None).await;
    assert_eq!(log, [false, true]);
    result.unwrap();
}

#[tokio::test]
async fn an_update_that_is_confirmed_without_signature_fails() {
    let script = |seen: &Seen| seen.reply(ResponseCode::NoError).to_vec().ok();
    let add = async |config, clock: Arc<Manual>| {
        Rfc2136::new(config, clock).add(&name("a.zone.test"), &values(1)).await
    };
    let error = with_server(script, add).await.unwrap_err();
    assert!(matches!(&error, SolveError::Misconfigured(_)), "{error}");
    assert!(error.to_string().contains("without the TSIG signature"), "{error}");

    // Without a key there is nothing to confirm.
    let script = |seen: &Seen| {
        assert_eq!(seen.mac, None);
        seen.ok()
    };
    with_server(script, async |config, clock| {
        let config = Rfc2136Config { key: None, ..config };
        add(config, clock).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_down_or_not_permitted_is_reported_without_secrets() {
    let clock = || Arc::new(Manual::at(Timestamp::from_second(NOW).unwrap()));
    let (tcp, udp, address) = sockets().await;
    drop((tcp, udp));
    let config = Rfc2136Config { key: Some(key()), ..Rfc2136Config::new(address.into()) };
    let down = Rfc2136::new(config.clone(), clock()).add(&name("a.test"), &values(1)).await;
    let Err(SolveError::Unavailable(text)) = down else { panic!("{down:?}") };
    assert!(text.starts_with(&format!("name server {address} does not answer: UDP: ")), "{text}");
    assert!(text.contains("; TCP: "), "{text}");

    let config = Rfc2136Config { policy: Some(Arc::default()), ..config };
    let server = Rfc2136::new(config.clone(), clock());
    let refused = server.add(&name("a.test"), &values(1)).await;
    let Err(SolveError::Misconfigured(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("cannot be used: it has no public address"), "{text}");
    assert!(!format!("{server:?} {config:?}").contains("secret"));

    let nameserver = "localhost:53".parse().unwrap();
    let server = Rfc2136::new(Rfc2136Config { nameserver, ..config }, clock());
    let refused = server.add(&name("a.test"), &values(1)).await;
    let Err(SolveError::Unavailable(text)) = refused else { panic!("{refused:?}") };
    assert!(
        text.starts_with("name server localhost:53 cannot be used: it has no public"),
        "{text}"
    );
}
