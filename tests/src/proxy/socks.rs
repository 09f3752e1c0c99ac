//! A SOCKS 5 proxy (RFC 1928) with user and password (RFC 1929). All names resolve to this machine,
//! so that tests need no DNS; addresses are used as they are.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A running proxy. It ends when dropped.
pub struct SocksProxy {
    address: SocketAddr,
    seen: Seen,
    task: JoinHandle<()>,
}

/// The requested servers: host and port.
type Seen = Arc<Mutex<Vec<String>>>;

impl SocksProxy {
    /// Starts one for clients with the password.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(user: &str, password: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let login = Arc::new((user.to_owned(), password.to_owned()));
        let seen = Seen::default();
        let asked = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (login, asked) = (Arc::clone(&login), Arc::clone(&asked));
                // Disconnecting clients are no error.
                tokio::spawn(async move { drop(serve(stream, &login, &asked).await) });
            }
        });
        Ok(Self { address, seen, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The servers that authenticated clients requested.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for SocksProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, login: &(String, String), seen: &Seen) -> Result<()> {
    ensure!(client.read_u8().await? == 5, "not SOCKS 5");
    let methods = text(&mut client).await?;
    if !methods.contains('\u{2}') {
        client.write_all(&[5, 0xff]).await?;
        bail!("no credentials");
    }
    client.write_all(&[5, 2]).await?;
    ensure!(client.read_u8().await? == 1, "not RFC 1929");
    let (user, password) = (text(&mut client).await?, text(&mut client).await?);
    let is_known = (&user, &password) == (&login.0, &login.1);
    client.write_all(&[1, u8::from(!is_known)]).await?;
    ensure!(is_known, "wrong credentials");

    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    let host = match head {
        [5, 1, 0, 1] => Ipv4Addr::from(client.read_u32().await?).to_string(),
        [5, 1, 0, 3] => text(&mut client).await?,
        _ => bail!("not CONNECT to a name or an IPv4 address: {head:?}"),
    };
    let port = client.read_u16().await?;
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{host}:{port}"));
    let to = host.parse().unwrap_or(Ipv4Addr::LOCALHOST);
    let Ok(mut server) = TcpStream::connect((to, port)).await else {
        client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        return Ok(());
    };
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// A text with its length before it.
async fn text(client: &mut TcpStream) -> Result<String> {
    let mut bytes = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes)?)
}
