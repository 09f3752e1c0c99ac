//! Serves HTTP/1 to unauthenticated clients within limits.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

/// Limits for clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Maximum number of connections. A new connection closes the oldest one, so that slow clients
    /// cannot block probes, which take milliseconds.
    pub(super) connections: usize,
    /// Deadline for the head of the request.
    pub(super) head: Duration,
    /// Deadline for the whole connection.
    pub(super) whole: Duration,
    /// Maximum size of the head in bytes; longer ones are refused with 431.
    pub(super) head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head: Duration::from_secs(5),
            whole: Duration::from_secs(20),
            head_bytes: 16 * 1024,
        }
    }
}

/// Delay after a failed `accept`, which most likely lacks a file descriptor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

pub(super) async fn serve(listener: TcpListener, router: Router, limits: Limits) -> Infallible {
    let mut running = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    while running.len() >= limits.connections
                        && let Some(oldest) = by_age.pop_front()
                    {
                        oldest.abort();
                        running.join_next().await;
                    }
                    let answered = timeout(limits.whole, answer(stream, router.clone(), limits));
                    by_age.push_back(running.spawn(async move { drop(answered.await) }));
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection on the administration port: {error}");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
            Some(_) = running.join_next() => by_age.retain(|task| !task.is_finished()),
        }
    }
}

/// Serves one request.
async fn answer(stream: TcpStream, router: Router, limits: Limits) {
    let answered = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = answered {
        tracing::debug!("cannot serve a request on the administration port: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LIMITS: Limits = Limits {
        connections: 4,
        head: Duration::from_millis(400),
        whole: Duration::from_millis(1_200),
        head_bytes: 16 * 1024,
    };

    async fn start(limits: Limits) -> SocketAddr {
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/slow", get(async || std::future::pending::<String>().await));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router, limits));
        address
    }

    /// Sends `request` and reads until the server closes.
    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may close the connection before it reads the whole request.
        let _ = stream.write_all(request).await;
        read(&mut stream).await
    }

    async fn read(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let _ = timeout(Duration::from_secs(20), reading).await.expect("the server closes");
        String::from_utf8_lossy(&answer).into_owned()
    }

    const PROBE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn one_request_is_answered_and_the_connection_closed() {
        let address = start(LIMITS).await;
        let answer = ask(address, &[PROBE, PROBE].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    }

    #[tokio::test]
    async fn slow_clients_do_not_block_others() {
        let patient = Duration::from_secs(3_600);
        let address = start(Limits { head: patient, whole: patient, ..LIMITS }).await;
        let mut slow = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").await.unwrap();
            slow.push(stream);
            assert!(ask(address, PROBE).await.ends_with("here"));
        }
        assert_eq!(read(&mut slow[0]).await, "", "the oldest was closed");
    }

    #[tokio::test]
    async fn a_head_that_takes_too_long_ends_the_connection() {
        let address = start(LIMITS).await;
        let answer = ask(address, b"GET / HTTP/1.1\r\n").await;
        assert!(!answer.contains("200"), "{answer}");
    }

    #[tokio::test]
    async fn an_answer_that_takes_too_long_ends_the_connection() {
        let address = start(LIMITS).await;
        assert_eq!(ask(address, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await, "");
    }

    #[tokio::test]
    async fn a_head_of_ten_megabytes_is_refused() {
        let address = start(LIMITS).await;
        let filling = "x".repeat(10 * 1024 * 1024);
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Big: {filling}\r\n\r\n");
        let answer = ask(address, request.as_bytes()).await;
        assert!(!answer.contains("200 OK"), "{answer}");
        assert!(ask(address, PROBE).await.ends_with("here"));
    }
}
