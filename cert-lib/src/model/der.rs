//! As much of DER (X.690) as certificates, keys and keystores need.
//!
//! Written by hand because names must go from one certificate into the next byte by byte: verifiers
//! compare them so, and a builder that reads a name into a map and writes it again loses repeated
//! parts (`DC=example, DC=com`).

/// OBJECT IDENTIFIER, encoded: `2.5.29.x`, the extensions of RFC 5280 section 4.2.1.
pub(crate) const fn extension(last: u8) -> [u8; 5] {
    [0x06, 3, 0x55, 0x1d, last]
}

/// Tag, length and the parts one after the other.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let skip = bytes.iter().take_while(|byte| **byte == 0).count();
            let significant = bytes.get(skip..).unwrap_or_default();
            // At most eight bytes.
            out.push(0x80 | significant.len() as u8);
            out.extend_from_slice(significant);
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// SEQUENCE
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

/// OCTET STRING
pub(crate) fn octets(content: &[u8]) -> Vec<u8> {
    tlv(0x04, &[content])
}

/// BIT STRING of whole bytes.
pub(crate) fn bits(content: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], content])
}

/// BIT STRING of up to eight named bits, the first one highest, without trailing zeros.
pub(crate) fn named_bits(bits: u8) -> Vec<u8> {
    let unused = bits.trailing_zeros().min(7) as u8;
    tlv(0x03, &[&[unused, bits]])
}

/// The content of the first element, if it has this tag, and what follows it.
pub(crate) fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    if found == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_short_as_they_can_be() {
        for (length, head) in [
            (0, &[0x04, 0][..]),
            (127, &[0x04, 127]),
            (128, &[0x04, 0x81, 128]),
            (255, &[0x04, 0x81, 255]),
            (256, &[0x04, 0x82, 1, 0]),
        ] {
            let encoded = octets(&vec![7; length]);
            assert!(encoded.starts_with(head), "{length}");
            assert_eq!(encoded.len(), head.len() + length);
            assert_eq!(element(&encoded, 4), Some((&vec![7; length][..], &[][..])));
            assert_eq!(element(&encoded, 5), None);
            assert_eq!(element(&encoded[..encoded.len() - 1], 4), None);
        }
    }

    #[test]
    fn named_bits_say_how_many_are_unused() {
        assert_eq!(named_bits(0b1010_0000), [0x03, 2, 5, 0b1010_0000]);
        assert_eq!(named_bits(0b1000_0000), [0x03, 2, 7, 0b1000_0000]);
    }
}
