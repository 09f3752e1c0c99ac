use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use hickory_proto::{
    op::{Message, MessageType, Query},
    rr::{Name, RecordType},
};
use tokio::net::TcpSocket;

use super::*;
use crate::{
    answer::{
        options::ZoneOptions,
        records::{Origin, RecordKey, Source as Entry},
        shared::Shared,
        zone::Table,
    },
    api::ObjectKey,
    runtime::metrics::{Limits as MetricLimits, Metrics},
};

const LIMITS: Limits = Limits {
    connections: 8,
    per_source: 4,
    timeout: Duration::from_millis(500),
    life: Duration::from_secs(20),
};

async fn start(limits: Limits) -> SocketAddr {
    start_with(limits, Metrics::new(MetricLimits::default()).unwrap()).await
}

async fn start_with(limits: Limits, metrics: Metrics) -> SocketAddr {
    let zones = ZoneOptions::of(vec!["acme.test".parse().unwrap()]);
    let mut table = Table::new(&zones, &[], 1);
    let object = ObjectKey { namespace: "ns".into(), name: "a".into() };
    let name = "_c.acme.test".parse().unwrap();
    let entry = Entry { name, values: vec!["v".to_owned()], ttl: 10 };
    table.put(&RecordKey { origin: Origin::Entries, object }, vec![entry]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Handler::new(Arc::new(Shared::new(table)), metrics), limits));
    address
}

/// A connection from the address 127.0.0.`last`.
async fn connect(server: SocketAddr, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::from(Ipv4Addr::new(127, 0, 0, last)), 0).into()).unwrap();
    socket.connect(server).await.unwrap()
}

/// The resolver of a CA sends hundreds of queries at once for hundreds of orders, and Pebble uses only TCP.
#[tokio::test]
async fn hundreds_of_concurrent_queries_of_one_resolver_are_answered() {
    let limits = Limits::with(4_096, 1);
    assert!(limits.per_source >= 384, "{limits:?}");
    let server = start(limits).await;
    let mut all = Vec::new();
    for _ in 0..limits.per_source {
        all.push(connect(server, 1).await);
    }
    for stream in &mut all {
        assert_eq!(ask(stream).await.unwrap(), 1);
    }
}

/// Sends a query. Returns the number of values, or an error if the server closes the connection.
async fn ask(stream: &mut TcpStream) -> io::Result<usize> {
    let mut message = Message::query();
    let name = Name::from_ascii("_c.acme.test.").unwrap();
    message.add_query(Query::query(name, RecordType::TXT));
    let wire = message.to_vec().unwrap();
    stream.write_u16(u16::try_from(wire.len()).unwrap()).await?;
    stream.write_all(&wire).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    Ok(Message::from_vec(&buffer).unwrap().answers.len())
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = timeout(Duration::from_secs(5), stream.read(&mut [0; 16])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn a_connection_serves_several_queries() {
    let server = start(LIMITS).await;
    let mut stream = connect(server, 1).await;
    for _ in 0..3 {
        assert_eq!(ask(&mut stream).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn connections_are_limited_for_each_source() {
    let server = start(Limits { timeout: Duration::from_secs(20), ..LIMITS }).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(connect(server, 1).await);
        assert_eq!(ask(held.last_mut().unwrap()).await.unwrap(), 1);
    }
    assert_eq!(ask(&mut connect(server, 2).await).await.unwrap(), 1);
    assert_eq!(ask(&mut held[0]).await.unwrap(), 1, "there is room for another source");
    assert_eq!(ask(&mut connect(server, 1).await).await.unwrap(), 1);
    assert!(is_closed(&mut held[0]).await, "the oldest of the source makes room");
    assert_eq!(ask(&mut held[3]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_new_connection_closes_the_oldest_at_the_limit() {
    let metrics = Metrics::new(MetricLimits::default()).unwrap();
    let limits = Limits { timeout: Duration::from_secs(20), ..LIMITS };
    let server = start_with(limits, metrics.clone()).await;
    let mut held = Vec::new();
    for last in 1..=8 {
        held.push(connect(server, last).await);
        assert_eq!(ask(held.last_mut().unwrap()).await.unwrap(), 1);
    }
    assert_eq!(ask(&mut connect(server, 9).await).await.unwrap(), 1);
    assert!(is_closed(&mut held[0]).await);
    assert_eq!(ask(&mut held[7]).await.unwrap(), 1);
    let page = metrics.page().unwrap();
    for line in [
        r#"answer_tcp_connections_total{result="accepted"} 9"#,
        r#"answer_tcp_connections_total{result="replaced"} 1"#,
        r#"answer_queries_total{code="NOERROR",transport="tcp"} 10"#,
    ] {
        assert!(page.contains(line), "no {line} in {page}");
    }
}

#[tokio::test]
async fn slow_large_and_invalid_queries_close_the_connection() {
    let server = start(LIMITS).await;
    let response = {
        let mut message = Message::query();
        message.metadata.message_type = MessageType::Response;
        message.to_vec().unwrap()
    };
    let framed = [&u16::try_from(response.len()).unwrap().to_be_bytes()[..], &response].concat();
    for sent in [&[][..], &[0], &[255, 255], &[0, 40, 1, 2], &[0, 3, 1, 2, 3], &framed] {
        let mut stream = connect(server, 1).await;
        stream.write_all(sent).await.unwrap();
        assert!(is_closed(&mut stream).await, "{sent:?}");
    }
}

#[test]
fn most_file_descriptors_are_reserved() {
    for (descriptors, listeners, connections, per_source) in [
        (1_048_576, 1, 512, 384),
        (1_024, 1, 256, 192),
        (1_024, 2, 128, 96),
        (256, 1, 64, 48),
        (32, 1, 8, 6),
        (2, 3, 1, 1),
    ] {
        let limits = Limits::with(descriptors, listeners);
        assert_eq!((limits.connections, limits.per_source), (connections, per_source));
    }
}

#[test]
fn addresses_of_one_ipv6_network_are_one_source() {
    for (one, other, same) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("2001:db8::1", "2001:db8::2:3:4:5", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
    ] {
        let (a, b) = (Source::of(one.parse().unwrap()), Source::of(other.parse().unwrap()));
        assert_eq!(a == b, same, "{one} {other}");
    }
}
