//! The DNS server over UDP and TCP.
//!
//! [`super::udp`] and [`super::tcp`] handle the transports, [`super::handler`] a message, and
//! [`Table::answer`](super::zone::Table::answer) determines the answers. Everything but a plain query is
//! refused.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};
use tracing::info;

use super::{
    error::AnswerError,
    handler::Handler,
    options::ServerOptions,
    rate_limit::RateLimiter,
    shared::Shared,
    tcp::{self, Limits},
    udp,
};
use crate::runtime::metrics::Metrics;

/// A DNS server with bound sockets, which serves them until it is dropped.
pub struct Server {
    tasks: JoinSet<Infallible>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Binds all addresses for UDP and TCP, and answers from `table`. Port 0 selects a free port for both.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn bind(
        options: &ServerOptions,
        table: Arc<Shared>,
        metrics: Metrics,
    ) -> Result<Self, AnswerError> {
        let handler = Handler::new(table, metrics);
        let limiter = Arc::new(RateLimiter::new(options.rate_limit));
        let limits = Limits::of_this_process(options.listen.len());
        let (mut tasks, mut addresses) = (JoinSet::new(), Vec::new());
        for &address in &options.listen {
            let bound = bind_both(address).await;
            let (udp, tcp) = bound.map_err(|source| AnswerError::Bind { address, source })?;
            addresses.push(udp.local_addr().unwrap_or(address));
            tasks.spawn(udp::serve(udp, handler.clone(), limiter.clone()));
            tasks.spawn(tcp::serve(tcp, handler.clone(), limits));
        }
        info!(?addresses, "answering DNS queries on {addresses:?}");
        Ok(Self { tasks, addresses })
    }

    /// The bound addresses.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Runs until the server fails.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn run(&mut self) -> Result<(), AnswerError> {
        match self.tasks.join_next().await {
            Some(Ok(never)) => match never {},
            Some(Err(error)) => Err(AnswerError::Server(error.to_string())),
            None => Err(AnswerError::Server("it has no address to answer on".to_owned())),
        }
    }

    /// Stops listening.
    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// Binds UDP and TCP to the same port. With port 0, this is retried, because a free TCP port may be in use
/// for UDP.
async fn bind_both(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if address.port() == 0 { 8 } else { 1 };
    loop {
        tries -= 1;
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use cert_lib::net::{Record, RecordKind, Resolver, dns::Udp};
    use hickory_proto::{
        op::{Edns, Message, OpCode, Query, ResponseCode},
        rr::{DNSClass, Name, RecordType},
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{
        answer::{
            options::ZoneOptions,
            records::{Origin, RecordKey, Source},
            zone::Table,
        },
        api::ObjectKey,
        runtime::metrics::Limits as MetricLimits,
    };

    /// A running server with `values` at one name, and its address.
    async fn serve(values: &[String]) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let zones = ZoneOptions::of(vec!["acme.test".parse().unwrap()]);
        let mut table = Table::new(&zones, &[], 1);
        let object = ObjectKey { namespace: "ns".into(), name: "a".into() };
        let name = "_c.acme.test".parse().unwrap();
        let source = Source { name, values: values.to_vec(), ttl: 10 };
        table.put(&RecordKey { origin: Origin::Entries, object }, vec![source]);
        let listen = vec!["127.0.0.1:0".parse().unwrap()];
        let options = ServerOptions { listen, zones, rate_limit: 1 };
        let metrics = Metrics::new(MetricLimits::default()).unwrap();
        let table = Arc::new(Shared::new(table));
        let mut server = Server::bind(&options, table, metrics).await.unwrap();
        let address = server.addresses()[0];
        (address, tokio::spawn(async move { server.run().await.unwrap() }))
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    async fn over_udp(server: SocketAddr, wire: &[u8]) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(wire, server).await.unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).await.unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    async fn over_tcp(server: SocketAddr, wire: &[u8]) -> Message {
        let mut stream = tokio::net::TcpStream::connect(server).await.unwrap();
        stream.write_u16(u16::try_from(wire.len()).unwrap()).await.unwrap();
        stream.write_all(wire).await.unwrap();
        let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut buffer).await.unwrap();
        Message::from_vec(&buffer).unwrap()
    }

    #[tokio::test]
    async fn both_transports_answer_in_the_case_of_the_query() {
        let (server, task) = serve(&["v1".into(), "v2".into()]).await;
        let wire = question("_C.aCmE.test.", RecordType::TXT).to_vec().unwrap();
        for response in [over_udp(server, &wire).await, over_tcp(server, &wire).await] {
            assert!(response.metadata.authoritative && !response.metadata.truncation);
            assert_eq!(response.queries[0].name().to_string(), "_C.aCmE.test.");
            let names: Vec<_> = response.answers.iter().map(|r| r.name.to_string()).collect();
            assert_eq!(names, ["_C.aCmE.test."; 2]);
        }
        task.abort();
    }

    #[tokio::test]
    async fn our_resolver_falls_back_to_tcp_for_many_values() {
        let values: Vec<String> = (0..100).map(|n| format!("{n:0>43}")).collect();
        let (server, task) = serve(&values).await;
        let wire = question("_c.acme.test.", RecordType::TXT).to_vec().unwrap();
        let cut = over_udp(server, &wire).await;
        assert!(cut.metadata.truncation);

        let resolver = Udp::with_servers(vec![]);
        let name = "_c.acme.test".parse().unwrap();
        let answer = resolver.query(server, &name, RecordKind::Txt).await.unwrap();
        assert!(answer.authoritative);
        assert_eq!(answer.records, values.into_iter().map(Record::Text).collect::<Vec<_>>());
        let absent = "d.acme.test".parse().unwrap();
        let answer = resolver.query(server, &absent, RecordKind::Txt).await.unwrap();
        assert!(answer.no_such_name && answer.zone == Some("acme.test".parse().unwrap()));
        task.abort();
    }

    #[tokio::test]
    async fn other_messages_than_queries_are_refused() {
        let (server, task) = serve(&["v".into()]).await;
        let mut update = question("acme.test.", RecordType::SOA);
        update.metadata.op_code = OpCode::Update;
        let mut chaos = question("version.bind.", RecordType::TXT);
        chaos.queries[0].set_query_class(DNSClass::CH);
        let mut newer = question("_c.acme.test.", RecordType::TXT);
        newer.set_edns(Edns::new()).edns.as_mut().unwrap().set_version(1);
        let mut none = question("acme.test.", RecordType::SOA);
        none.queries.clear();
        for (message, want) in [
            (update, ResponseCode::NotImp),
            (chaos, ResponseCode::Refused),
            (question("acme.test.", RecordType::AXFR), ResponseCode::Refused),
            (question("elsewhere.test.", RecordType::TXT), ResponseCode::Refused),
            (newer, ResponseCode::BADVERS),
            (none, ResponseCode::FormErr),
        ] {
            let response = over_udp(server, &message.to_vec().unwrap()).await;
            // Compared as numbers, because BADVERS and BADSIG have the same code.
            assert_eq!(u16::from(response.metadata.response_code), u16::from(want));
            assert!(response.answers.is_empty() && !response.metadata.authoritative);
        }
        let garbage = [0xff; 40];
        UdpSocket::bind("127.0.0.1:0").await.unwrap().send_to(&garbage, server).await.unwrap();
        let wire = question("_c.acme.test.", RecordType::TXT).to_vec().unwrap();
        assert_eq!(over_udp(server, &wire).await.answers.len(), 1);
        task.abort();
    }
}
