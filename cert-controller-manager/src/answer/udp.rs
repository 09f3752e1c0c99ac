//! DNS over UDP: one task for each socket. It answers each datagram before it reads the next one, so the
//! memory is constant. Datagrams that arrive faster are dropped by the kernel.

use std::{convert::Infallible, io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::UdpSocket,
    task::yield_now,
    time::{Instant, sleep},
};
use tracing::warn;

use super::{
    handler::{Delivery, Handler, MAX_DATAGRAM, MAX_QUERY},
    rate_limit::{Allowance, RateLimiter},
};
use crate::runtime::metrics::LimitedAnswer;

/// Serves a socket. Never returns.
pub(super) async fn serve(
    socket: UdpSocket,
    handler: Handler,
    limiter: Arc<RateLimiter>,
) -> Infallible {
    // The kernel cuts longer datagrams.
    let mut query = vec![0; MAX_QUERY];
    let mut answer = Vec::with_capacity(usize::from(MAX_DATAGRAM));
    loop {
        let readable = socket.readable().await;
        let result = readable.and_then(|()| {
            for _ in 0..BATCH {
                let (length, client) = socket.try_recv_from(&mut query)?;
                let Some(query) = query.get(..length) else { continue };
                if respond(&handler, &limiter, query, client, &mut answer) {
                    // A client without an answer repeats its query, so a full buffer needs no retry.
                    let _ = socket.try_send_to(&answer, client);
                }
            }
            Ok(())
        });
        match result {
            // Other tasks of the process must run during a flood.
            Ok(()) => yield_now().await,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                warn!("the DNS responder cannot read from UDP: {error}");
                sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// Writes the answer into `answer`. Returns whether there is one.
fn respond(
    handler: &Handler,
    limiter: &RateLimiter,
    query: &[u8],
    client: SocketAddr,
    answer: &mut Vec<u8>,
) -> bool {
    // No client uses port 0, and nothing can be sent to it.
    if client.port() == 0 {
        return false;
    }
    match limiter.check(client.ip(), Instant::now()) {
        Allowance::Answer => handler.answer(query, Delivery::Udp, answer),
        Allowance::Truncate => {
            handler.metrics.answer_limited(LimitedAnswer::Truncated);
            handler.answer(query, Delivery::UdpTruncated, answer)
        }
        Allowance::Drop => {
            handler.metrics.answer_limited(LimitedAnswer::Dropped);
            false
        }
    }
}

/// Datagrams before other tasks run.
const BATCH: usize = 32;
/// Delay after a failed read.
const RETRY_DELAY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{Message, Query},
        rr::{Name, RecordType},
    };

    use super::*;
    use crate::{
        answer::{options::ZoneOptions, shared::Shared, zone::Table},
        runtime::metrics::{Limits, Metrics},
    };

    #[test]
    fn answers_above_the_limit_of_a_network_are_truncated_or_dropped_and_counted() {
        let zones = ZoneOptions::of(vec!["acme.test".parse().unwrap()]);
        let table = Arc::new(Shared::new(Table::new(&zones, &[], 1)));
        let metrics = Metrics::new(Limits::default()).unwrap();
        let handler = Handler::new(table, metrics.clone());
        let limiter = RateLimiter::new(1);
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii("acme.test.").unwrap(), RecordType::SOA));
        let query = query.to_vec().unwrap();
        let mut answer = Vec::new();
        let mut ask = |client: &str| {
            let client = client.parse().unwrap();
            respond(&handler, &limiter, &query, client, &mut answer)
                .then(|| Message::from_vec(&answer).unwrap().answers.len())
        };
        let asked: Vec<_> =
            (1..=9).map(|host| ask(&format!("192.0.2.{host}:{}", 50 + host))).collect();
        let one = Some(1);
        assert_eq!(asked, [one, one, one, one, one, None, Some(0), None, Some(0)]);
        assert_eq!(ask("198.51.100.1:53"), one, "another network");
        assert_eq!(ask("[::1]:53"), one, "loopback");
        assert_eq!(ask("198.51.100.1:0"), None);
        let page = metrics.page().unwrap();
        for line in [
            r#"answer_limited_total{action="dropped"} 2"#,
            r#"answer_limited_total{action="truncated"} 2"#,
            r#"answer_queries_total{code="NOERROR",transport="udp"} 9"#,
        ] {
            assert!(page.contains(line), "no {line} in {page}");
        }
    }
}
