//! SOCKS 5 (RFC 1928), with user and password (RFC 1929): a proxy is asked for a connection to a server.
//! Says the same as Go's `net/http`: names go to the proxy as they are. No answer is longer than 262
//! bytes, and nothing beyond an answer is read, for that is the server's.

use std::{io, net::IpAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{BoxError, Destination, TunnelError};
use crate::net::proxy::{Login, Proxy};

/// Why there is no connection by way of SOCKS.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SocksRefusal {
    /// Another protocol, or no answer.
    #[error("it does not answer as a SOCKS 5 proxy")]
    NotSocks,
    /// It serves nobody without credentials, and there are none.
    #[error("it wants credentials, put user and password into its URL")]
    NoLogin,
    /// It wants something else than user and password.
    #[error("it accepts neither user and password nor a client without credentials")]
    OtherLogin,
    /// Lengths that RFC 1929 cannot express.
    #[error("the user in its URL must have 1 to 255 bytes, and the password at most 255")]
    LoginLength,
    /// It knows nobody like that.
    #[error("it refuses the user and the password in its URL")]
    WrongLogin,
    /// A length that RFC 1928 cannot express.
    #[error("the server's name has more than 255 bytes")]
    NameLength,
    /// It did not get a connection.
    #[error("{meaning} (SOCKS reply {code})")]
    Reply {
        /// The code of RFC 1928 section 6.
        code: u8,
        /// What it stands for.
        meaning: &'static str,
    },
}

impl SocksRefusal {
    fn of_reply(code: u8) -> Self {
        let meaning = match code {
            1 => "general failure",
            2 => "its rules do not allow it",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            6 => "TTL expired",
            7 => "it does not know the command CONNECT",
            8 => "it does not know this type of address",
            _ => "failure",
        };
        Self::Reply { code, meaning }
    }
}

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
        identify(stream, login).await?;
        say(stream, &request).await?;
        hear_reply(stream).await
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

async fn identify<S>(stream: &mut S, login: Option<&Login>) -> Result<(), Failure>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    match login {
        None => say(stream, &[VERSION, 1, NOBODY]).await?,
        Some(_) => say(stream, &[VERSION, 2, NOBODY, PASSWORD]).await?,
    }
    match (hear::<2, S>(stream).await?, login) {
        ([VERSION, NOBODY], _) => Ok(()),
        ([VERSION, PASSWORD], Some(login)) => log_in(stream, login).await,
        ([VERSION, NONE_OF_THESE], None) => Err(SocksRefusal::NoLogin.into()),
        ([VERSION, NONE_OF_THESE], Some(_)) => Err(SocksRefusal::OtherLogin.into()),
        _ => Err(SocksRefusal::NotSocks.into()),
    }
}

async fn log_in<S>(stream: &mut S, login: &Login) -> Result<(), Failure>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let length = |part: &[u8]| u8::try_from(part.len()).map_err(|_| SocksRefusal::LoginLength);
    let (user, password) = (login.user(), login.password());
    if user.is_empty() {
        return Err(SocksRefusal::LoginLength.into());
    }
    let parts =
        [&[LOGIN_VERSION, length(user)?][..], user, &[length(password)?][..], password].concat();
    say(stream, &Zeroizing::new(parts)).await?;
    match hear(stream).await? {
        [LOGIN_VERSION, 0] => Ok(()),
        [LOGIN_VERSION, _] => Err(SocksRefusal::WrongLogin.into()),
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

/// The reply, with the address that the proxy connects from, which nobody needs.
async fn hear_reply<S: AsyncReadExt + Unpin>(stream: &mut S) -> Result<(), Failure> {
    let [version, reply, reserved, kind] = hear(stream).await?;
    match (version, reply, reserved, kind) {
        (VERSION, 0, 0, IPV4) => drop(hear::<6, S>(stream).await?),
        (VERSION, 0, 0, IPV6) => drop(hear::<18, S>(stream).await?),
        (VERSION, 0, 0, NAME) => {
            let [length] = hear(stream).await?;
            let mut name = [0; MAX_NAME + 2];
            let rest = name.get_mut(..usize::from(length) + 2).unwrap_or_default();
            stream.read_exact(rest).await?;
        }
        (VERSION, 1.., ..) => return Err(SocksRefusal::of_reply(reply).into()),
        _ => return Err(SocksRefusal::NotSocks.into()),
    }
    Ok(())
}

async fn say<S: AsyncWriteExt + Unpin>(stream: &mut S, words: &[u8]) -> Result<(), Failure> {
    stream.write_all(words).await?;
    Ok(stream.flush().await?)
}

async fn hear<const N: usize, S: AsyncReadExt + Unpin>(stream: &mut S) -> Result<[u8; N], Failure> {
    let mut words = [0; N];
    stream.read_exact(&mut words).await?;
    Ok(words)
}

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
/// Methods.
const NOBODY: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_OF_THESE: u8 = 0xff;
const CONNECT: u8 = 1;
/// Types of addresses.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests;
