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
