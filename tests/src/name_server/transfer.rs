//! Reads all records of a zone by a transfer (AXFR, RFC 5936), to compare them.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The records of `zone` at the server on `port` of 127.0.0.1, one line each: name, lifetime, type
/// and data. The data of TXT records is text, others are hexadecimal; the SOA record has no serial
/// number, so that only other changes show.
///
/// # Errors
/// The server refuses.
pub async fn records(port: u16, zone: &str) -> Result<BTreeSet<String>> {
    let mut query = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in zone.split('.').chain([""]) {
        query.push(u8::try_from(label.len())?);
        query.extend(label.as_bytes());
    }
    query.extend([0, 252, 0, 1]);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(&[&u16::try_from(query.len())?.to_be_bytes()[..], &query].concat()).await?;
    let (mut lines, mut ends) = (BTreeSet::new(), 0);
    // The SOA record is the first one and the last one.
    while ends < 2 {
        let mut message = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut message).await?;
        let code = message.get(3).context("a short message")? & 15;
        ensure!(code == 0, "no transfer of {zone}: code {code}");
        let mut reader = Reader { message: &message, at: 4 };
        let (questions, answers) = (reader.u16()?, reader.u16()?);
        reader.at = 12;
        for _ in 0..questions {
            reader.name()?;
            reader.bytes(4)?;
        }
        for _ in 0..answers {
            let (line, kind) = reader.record()?;
            ends += u8::from(kind == SOA);
            lines.insert(line);
        }
    }
    Ok(lines)
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let bytes = self.message.get(self.at..self.at + length).context("a short message")?;
        self.at += length;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.bytes(2)?.try_into()?))
    }

    fn name(&mut self) -> Result<String> {
        let (mut name, mut end) = (String::new(), None);
        for _ in 0..128 {
            match self.bytes(1)?[0] {
                0 => break,
                length @ 1..64 => {
                    name += &String::from_utf8_lossy(self.bytes(length.into())?);
                    name.push('.');
                }
                high => {
                    let low = self.bytes(1)?[0];
                    end = end.or(Some(self.at));
                    self.at = usize::from(high & 63) << 8 | usize::from(low);
                }
            }
        }
        self.at = end.unwrap_or(self.at);
        Ok(name.to_lowercase())
    }

    fn record(&mut self) -> Result<(String, u16)> {
        let name = self.name()?;
        let (kind, _class) = (self.u16()?, self.u16()?);
        let ttl = u32::from_be_bytes(self.bytes(4)?.try_into()?);
        let length = self.u16()?;
        let end = self.at + usize::from(length);
        let data = match kind {
            TXT => {
                let mut text = String::new();
                while self.at < end {
                    let length = self.bytes(1)?[0];
                    text += &String::from_utf8_lossy(self.bytes(length.into())?);
                }
                text
            }
            NS | CNAME => self.name()?,
            SOA => format!("{} {}", self.name()?, self.name()?),
            _ => format!("{:02x?}", self.bytes(length.into())?),
        };
        self.at = end;
        Ok((format!("{name} {ttl} {kind} {data}"), kind))
    }
}

const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const TXT: u16 = 16;
