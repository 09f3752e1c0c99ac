use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::runtime::metrics::Limits;

async fn start() -> (Admin, SocketAddr) {
    let admin = Admin {
        heartbeats: HeartbeatState::default(),
        readiness: Readiness::default(),
        metrics: Metrics::new(Limits::default()).unwrap(),
        authorizer: None,
    };
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(admin.clone().serve(listener));
    (admin, address)
}

async fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn health_and_readiness_are_reported_by_status_and_text() {
    let (admin, address) = start().await;
    let answer = ask(address, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let _heartbeat = admin.heartbeats.register("certificates", Duration::ZERO);
    let answer = ask(address, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.contains("not working: certificates\n"), "{answer}");
    let answer = ask(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("not ready\nstart: not finished yet\n"), "{answer}");
    admin.readiness.complete();
    let answer = ask(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ready\n"), "{answer}");
}

#[tokio::test]
async fn metrics_are_served_in_the_text_format_and_other_paths_are_not_found() {
    let (admin, address) = start().await;
    admin.metrics.set_leader(true);
    let answer = ask(address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("\ncert_management_leader 1\n"), "{answer}");
    assert!(ask(address, "/").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn the_error_for_a_port_in_use_names_the_flag() {
    let (_admin, address) = start().await;
    let error = format!("{:#}", listen(address).await.unwrap_err());
    let start = format!("--server-port-http: cannot listen on {address}");
    assert!(error.starts_with(&start) && error.contains("in use"), "{error}");
}
