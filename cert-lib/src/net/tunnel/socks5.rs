//! SOCKS 5 (RFC 1928), with user and password (RFC 1929): asks a proxy for a connection to a
//! server. The requests equal those of Go's `net/http`: names are sent unresolved. No reply is
//! longer than 262 bytes. Nothing after a reply is read, because it belongs to the server.

use std::{io, net::IpAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{
    destination::Destination,
    error::{BoxError, SocksRefusal, TunnelError},
};
use crate::net::proxy::{Login, Proxy};

/// Asks `proxy`, at the other end of `stream`, for a connection to `server`.
pub(super) async fn ask<S>(
    stream: &mut S,
    proxy: &Proxy,
    login: Option<&Login>,
    server: &Destination,
) -> Result<(), BoxError>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let refused =
        |why| TunnelError::Socks { proxy: proxy.to_string(), server: server.to_string(), why };
    let request = request(server).map_err(refused)?;
    let outcome = async {
        authenticate(stream, login).await?;
        write(stream, &request).await?;
        read_reply(stream).await
    };
    outcome.await.map_err(|failure| match failure {
        Failure::Refused(why) => refused(why).into(),
        Failure::Io(error) => error.into(),
    })
}

enum Failure {
    Refused(SocksRefusal),
    Io(io::Error),
}

impl From<SocksRefusal> for Failure {
    fn from(why: SocksRefusal) -> Self {
        Self::Refused(why)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Refused(SocksRefusal::NotSocks),
            _ => Self::Io(error),
        }
    }
}

async fn authenticate<S>(stream: &mut S, login: Option<&Login>) -> Result<(), Failure>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    match login {
        None => write(stream, &[VERSION, 1, NO_AUTHENTICATION]).await?,
        Some(_) => write(stream, &[VERSION, 2, NO_AUTHENTICATION, PASSWORD]).await?,
    }
    match (read::<2, S>(stream).await?, login) {
        ([VERSION, NO_AUTHENTICATION], _) => Ok(()),
        ([VERSION, PASSWORD], Some(login)) => authenticate_by_password(stream, login).await,
        ([VERSION, NO_ACCEPTABLE_METHOD], None) => Err(SocksRefusal::NoLogin.into()),
        ([VERSION, NO_ACCEPTABLE_METHOD], Some(_)) => Err(SocksRefusal::OtherLogin.into()),
        _ => Err(SocksRefusal::NotSocks.into()),
    }
}

async fn authenticate_by_password<S>(stream: &mut S, login: &Login) -> Result<(), Failure>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let length = |part: &[u8]| u8::try_from(part.len()).map_err(|_| SocksRefusal::LoginLength);
    let (user, password) = (login.user(), login.password());
    if user.is_empty() {
        return Err(SocksRefusal::LoginLength.into());
    }
    let parts =
        [&[PASSWORD_VERSION, length(user)?][..], user, &[length(password)?][..], password].concat();
    write(stream, &Zeroizing::new(parts)).await?;
    match read(stream).await? {
        [PASSWORD_VERSION, 0] => Ok(()),
        [PASSWORD_VERSION, _] => Err(SocksRefusal::WrongLogin.into()),
        _ => Err(SocksRefusal::NotSocks.into()),
    }
}

fn request(server: &Destination) -> Result<Vec<u8>, SocksRefusal> {
    let mut request = vec![VERSION, CONNECT, 0];
    let port = match server {
        Destination::Address(address) => {
            match address.ip().to_canonical() {
                IpAddr::V4(address) => {
                    request.push(IPV4);
                    request.extend(address.octets());
                }
                IpAddr::V6(address) => {
                    request.push(IPV6);
                    request.extend(address.octets());
                }
            }
            address.port()
        }
        Destination::Name(name, port) => {
            let length = u8::try_from(name.len()).map_err(|_| SocksRefusal::NameLength)?;
            request.extend([NAME, length]);
            request.extend(name.bytes());
            *port
        }
    };
    request.extend(port.to_be_bytes());
    Ok(request)
}

/// Reads the reply. The address in it, from which the proxy connects, is not used.
async fn read_reply<S: AsyncReadExt + Unpin>(stream: &mut S) -> Result<(), Failure> {
    let [version, reply, reserved, kind] = read(stream).await?;
    match (version, reply, reserved, kind) {
        (VERSION, 0, 0, IPV4) => drop(read::<6, S>(stream).await?),
        (VERSION, 0, 0, IPV6) => drop(read::<18, S>(stream).await?),
        (VERSION, 0, 0, NAME) => {
            let [length] = read(stream).await?;
            let mut name = [0; MAX_NAME + 2];
            let rest = name.get_mut(..usize::from(length) + 2).unwrap_or_default();
            stream.read_exact(rest).await?;
        }
        (VERSION, 1.., ..) => return Err(SocksRefusal::of_reply(reply).into()),
        _ => return Err(SocksRefusal::NotSocks.into()),
    }
    Ok(())
}

async fn write<S: AsyncWriteExt + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), Failure> {
    stream.write_all(bytes).await?;
    Ok(stream.flush().await?)
}

async fn read<const N: usize, S: AsyncReadExt + Unpin>(stream: &mut S) -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

const VERSION: u8 = 5;
const PASSWORD_VERSION: u8 = 1;
/// Authentication methods.
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
/// Address types.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests;
