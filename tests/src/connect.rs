//! A small HTTP proxy that only supports CONNECT. It alone resolves the name [`PROXIED`], so that a
//! server by this name can only be reached through it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::tls::PROXIED;

/// A running proxy. It ends when dropped, its tunnels with the runtime.
pub struct ConnectProxy {
    address: SocketAddr,
    seen: Seen,
    task: JoinHandle<()>,
}

/// The target and the `Proxy-Authorization` of each request.
type Seen = Arc<Mutex<Vec<(String, Option<String>)>>>;

impl ConnectProxy {
    /// Starts it. It connects to any target, and to this machine for [`PROXIED`].
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Seen::default();
        let asked = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Clients report broken connections.
                tokio::spawn(tunnel(stream, Arc::clone(&asked)));
            }
        });
        Ok(Self { address, seen, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The received requests, with their credentials.
    #[must_use]
    pub fn seen(&self) -> Vec<(String, Option<String>)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tunnel(client: TcpStream, seen: Seen) -> Result<()> {
    let mut client = BufReader::new(client);
    let (mut target, mut credentials) = (None, None);
    loop {
        let mut line = String::new();
        client.read_line(&mut line).await?;
        match line.trim_end().split_once(' ') {
            Some(("CONNECT", rest)) => target = rest.split(' ').next().map(str::to_owned),
            Some((name, value)) if name.eq_ignore_ascii_case("proxy-authorization:") => {
                credentials = Some(value.to_owned());
            }
            Some(_) => {}
            None => break,
        }
    }
    let target = target.context("no CONNECT")?;
    seen.lock().unwrap_or_else(PoisonError::into_inner).push((target.clone(), credentials));
    let server = TcpStream::connect(target.replacen(PROXIED, "127.0.0.1", 1)).await;
    let Ok(mut server) = server else {
        client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await?;
        return Ok(());
    };
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
