//! A forward proxy: HTTP with CONNECT (RFC 9110 section 9.3.6) and basic authentication. Every
//! tunnel leads to one port of this machine, so that names need not resolve.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A running proxy. It ends when dropped.
pub struct ConnectProxy {
    port: u16,
    tunnels: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl ConnectProxy {
    /// Starts one whose tunnels lead to `to`, for clients with the password.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(to: u16, user: &str, password: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let wanted = format!("\r\nproxy-authorization: basic {pair}\r\n").to_lowercase();
        let tunnels = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tunnels);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (wanted, count) = (wanted.clone(), Arc::clone(&count));
                // Disconnecting clients are no error.
                tokio::spawn(async move { drop(serve(stream, to, &wanted, &count).await) });
            }
        });
        Ok(Self { port, tunnels, task })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Number of tunnels that it has opened.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, to: u16, wanted: &str, count: &AtomicUsize) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let method = head.split(' ').next().context("no method")?;
    let answer = if !head.to_lowercase().contains(wanted) {
        "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"test\""
    } else if method != "CONNECT" {
        "405 Method Not Allowed"
    } else {
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
        count.fetch_add(1, Ordering::Relaxed);
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        copy_bidirectional(&mut stream, &mut server).await?;
        return Ok(());
    };
    stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
    Ok(())
}
