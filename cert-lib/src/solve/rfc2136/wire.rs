//! The part of the DNS wire format that a signature needs: where the last record of a message
//! begins. Pure; reads hostile input.

use std::ops::Range;

use crate::model::name::DnsName;

/// A message without its TSIG record, and that record.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Split {
    /// The message as it was before it was signed, except for its id.
    pub message: Vec<u8>,
    /// The TSIG record, if there is one.
    pub tsig: Option<TsigRecord>,
}

/// The fields of a TSIG record (RFC 8945 section 4.2).
#[derive(Debug, Eq, PartialEq)]
pub(super) struct TsigRecord {
    /// Name of the key in wire format, in lower case.
    pub key: Vec<u8>,
    /// Name of the algorithm in wire format, in lower case.
    pub algorithm: Vec<u8>,
    /// Seconds since 1970, 48 bits.
    pub time: u64,
    /// Permitted deviation in seconds.
    pub fudge: u16,
    pub mac: Vec<u8>,
    pub original_id: u16,
    pub error: u16,
    pub other: Vec<u8>,
}

/// Splits a message; `None` if it is malformed. A TSIG record counts only as the last record of the
/// message, where it must be.
pub(super) fn split(message: &[u8]) -> Option<Split> {
    let mut reader = Reader { message, at: 4 };
    let (queries, answers) = (reader.u16()?, reader.u16()?);
    let (authorities, additionals) = (reader.u16()?, reader.u16()?);
    for _ in 0..queries {
        reader.name()?;
        reader.bytes(4)?;
    }
    let others = u32::from(answers) + u32::from(authorities) + u32::from(additionals);
    let unsigned = || Some(Split { message: message.to_vec(), tsig: None });
    let Some(others) = others.checked_sub(1) else { return unsigned() };
    for _ in 0..others {
        reader.record()?;
    }
    let start = reader.at;
    let (key, kind, data) = reader.record()?;
    if reader.at != message.len() {
        return None;
    }
    if kind != TSIG || additionals == 0 {
        return unsigned();
    }
    let tsig = TsigRecord::read(key, message, data)?;
    let mut before = message.get(..start)?.to_vec();
    before.get_mut(ADDITIONALS)?.copy_from_slice(&additionals.checked_sub(1)?.to_be_bytes());
    Some(Split { message: before, tsig: Some(tsig) })
}

impl TsigRecord {
    fn read(key: Vec<u8>, message: &[u8], data: Range<usize>) -> Option<Self> {
        let mut reader = Reader { message: message.get(..data.end)?, at: data.start };
        let algorithm = reader.name()?;
        let time = (u64::from(reader.u16()?) << 32) | u64::from(reader.u32()?);
        let fudge = reader.u16()?;
        let mac = reader.u16()?;
        let mac = reader.bytes(mac.into())?.to_vec();
        let (original_id, error, other) = (reader.u16()?, reader.u16()?, reader.u16()?);
        let other = reader.bytes(other.into())?.to_vec();
        let whole = reader.at == data.end;
        whole.then_some(Self { key, algorithm, time, fudge, mac, original_id, error, other })
    }
}

/// `name` in wire format, without compression.
pub(super) fn name(name: &DnsName) -> Vec<u8> {
    labels(name.as_str())
}

/// The same for a valid name as text.
pub(super) fn labels(name: &str) -> Vec<u8> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        // A label has at most 63 bytes.
        wire.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.message.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    /// Name, type and place of the data of a record.
    fn record(&mut self) -> Option<(Vec<u8>, u16, Range<usize>)> {
        let name = self.name()?;
        let kind = self.u16()?;
        self.bytes(6)?;
        let length = self.u16()?;
        let start = self.at;
        self.bytes(length.into())?;
        Some((name, kind, start..self.at))
    }

    /// A name without compression, in lower case (RFC 1035 section 4.1.4). A pointer must point
    /// before the labels that end with it, so there is no loop.
    fn name(&mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        let (mut reader, mut end) = (Reader { message: self.message, at: self.at }, None);
        let (mut segment, mut pointers) = (self.at, 0);
        loop {
            let length = *reader.bytes(1)?.first()?;
            match length {
                0 => break,
                1..=0x3f => {
                    name.push(length);
                    name.extend(reader.bytes(length.into())?.to_ascii_lowercase());
                }
                0xc0.. => {
                    let low = *reader.bytes(1)?.first()?;
                    end = end.or(Some(reader.at));
                    let target = (usize::from(length & 0x3f) << 8) | usize::from(low);
                    pointers += 1;
                    if target >= segment || pointers > MAX_POINTERS {
                        return None;
                    }
                    (segment, reader.at) = (target, target);
                }
                _ => return None,
            }
            if name.len() > MAX_NAME {
                return None;
            }
        }
        name.push(0);
        self.at = end.unwrap_or(reader.at);
        Some(name)
    }
}

/// The type of TSIG records.
pub(super) const TSIG: u16 = 250;
/// Position of the number of additional records in the header.
const ADDITIONALS: Range<usize> = 10..12;
/// RFC 1035 section 3.1, without the root label.
const MAX_NAME: usize = 254;
/// One for each label.
const MAX_POINTERS: u32 = 127;

#[cfg(test)]
mod tests;
