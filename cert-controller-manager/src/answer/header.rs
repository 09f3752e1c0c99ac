//! The header of a request, decoded before the rest of the message.

use hickory_proto::op::ResponseCode;

/// The header of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RequestHeader {
    id: [u8; 2],
    flags: u8,
    /// Questions, answers, authority records, additional records.
    counts: [u16; 4],
}

impl RequestHeader {
    /// The header of `message`; `None` if it is incomplete, or if the message is a response.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let header: &[u8; 12] = message.first_chunk()?;
        let [id0, id1, flags, _, q0, q1, n0, n1, u0, u1, d0, d1] = *header;
        let counts = [[q0, q1], [n0, n1], [u0, u1], [d0, d1]].map(u16::from_be_bytes);
        (flags & RESPONSE == 0).then_some(Self { id: [id0, id1], flags, counts })
    }

    /// Whether this is a standard query.
    pub(super) const fn is_query(&self) -> bool {
        self.flags & OPCODE == 0
    }

    /// Whether the message has one question, and no more records than queries have: one for IXFR, OPT, and
    /// a signature.
    pub(super) const fn has_plain_counts(&self) -> bool {
        matches!(self.counts, [1, 0, 0..=1, 0..=2])
    }

    /// A response without question and records.
    pub(super) fn refusal(&self, code: ResponseCode) -> [u8; 12] {
        let [id0, id1] = self.id;
        let flags = RESPONSE | (self.flags & (OPCODE | RECURSION_DESIRED));
        [id0, id1, flags, code.low(), 0, 0, 0, 0, 0, 0, 0, 0]
    }
}

/// The bits of the third byte (RFC 1035 section 4.1.1).
const RESPONSE: u8 = 0b1000_0000;
const OPCODE: u8 = 0b0111_1000;
const RECURSION_DESIRED: u8 = 0b0000_0001;
