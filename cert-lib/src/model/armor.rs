//! A tolerant reader of PEM (RFC 7468 and older forms). It accepts other text in any encoding
//! around the blocks, as `openssl pkcs12` writes it; all line ends, missing ones included; and
//! skips blocks of other types and broken ones.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

/// One PEM block.
pub(crate) struct Block<'a> {
    /// Its label.
    pub(crate) label: &'a str,
    /// Whether its content is encrypted (RFC 1421 section 4.6.1.1), as old versions of openssl
    /// write keys.
    pub(crate) is_encrypted: bool,
    /// Its content; `None` where it is not base64.
    pub(crate) der: Option<Zeroizing<Vec<u8>>>,
}

/// The blocks of a text, in their order. A block without an end line of its own type is skipped.
/// Takes linear time for every input.
pub(crate) fn blocks(text: &[u8]) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = split(rest, BEGIN)?;
            let (label, body) = split(after, DASHES)?;
            let (content, tail) = split(body, DASHES)?;
            let label = std::str::from_utf8(label).ok().filter(|label| is_label(label));
            let end = tail.strip_prefix(END).and_then(|tail| split(tail, DASHES));
            match (label, end) {
                (Some(label), Some((ends, after))) if ends == label.as_bytes() => {
                    rest = after;
                    return Some(Block::of(label, content));
                }
                // The dashes may belong to the next begin line.
                _ => rest = body.get(content.len()..)?,
            }
        }
    })
}

impl<'a> Block<'a> {
    fn of(label: &'a str, content: &[u8]) -> Self {
        let lines = || content.split(|byte| matches!(byte, b'\n' | b'\r'));
        // Base64 has no colon: such a line is a header.
        let is_encrypted = lines().any(|line| {
            line.starts_with(b"Proc-Type:") && line.trim_ascii_end().ends_with(b"ENCRYPTED")
        });
        let data = lines().filter(|line| !line.contains(&b':')).flatten();
        let data = data.copied().filter(|byte| !byte.is_ascii_whitespace());
        let data: Zeroizing<Vec<u8>> = Zeroizing::new(data.collect());
        let der = BASE64.decode(data.as_slice()).ok().map(Zeroizing::new);
        Self { label, is_encrypted, der }
    }
}

/// Whether a text is like the labels in use. Messages quote it, so it must not contain key
/// material.
fn is_label(text: &str) -> bool {
    let is_usual = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || " #.".contains(c);
    text.len() <= MAX_LABEL && text.chars().all(is_usual)
}

/// The text before and after the first `marker`.
fn split<'a>(text: &'a [u8], marker: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(marker.len()).position(|window| window == marker)?;
    Some((text.get(..at)?, text.get(at + marker.len()..)?))
}

const DASHES: &[u8] = b"-----";
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"END ";
/// Longer than any label in use.
const MAX_LABEL: usize = 64;
/// Missing padding does not make a block unreadable.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
        blocks(text).map(|it| (it.label.to_owned(), it.der.map(|der| der.to_vec()))).collect()
    }

    #[test]
    fn blocks_are_found_whatever_is_around_them() {
        let a = "-----BEGIN A-----\nYWJj\nZGVm\n-----END A-----\n";
        let whole = ("A".to_owned(), Some(b"abcdef".to_vec()));
        let with = |text: &str| [text.as_bytes(), a.as_bytes()].concat();
        for text in [
            a.as_bytes().to_vec(),
            a.trim_end().as_bytes().to_vec(),
            a.replace('\n', "\r\n").into_bytes(),
            a.replace('\n', "\r").into_bytes(),
            a.replace('\n', " ").into_bytes(),
            a.replace('\n', "").into_bytes(),
            a.replace('\n', "  \n\n  ").into_bytes(),
            [b"Bag Attributes\n    friendlyName: M\xfcller\n".as_slice(), a.as_bytes()].concat(),
            [b"\xef\xbb\xbf".as_slice(), a.as_bytes()].concat(),
            [a.as_bytes(), b"\0\xff trailing"].concat(),
            with("-"),
            with("-----BEGIN A-----\nYWJj\n"),
            with("-----END A-----\n"),
            with("-----BEGIN A-----\nYWJj\n-----END B-----\n"),
            with("-----BEGIN \n-----BEGIN -----"),
        ] {
            assert_eq!(
                found(&text),
                std::slice::from_ref(&whole),
                "{}",
                String::from_utf8_lossy(&text)
            );
        }
        let twice = found(&with(&a.replace('A', "OTHER THING")));
        assert_eq!(twice, [("OTHER THING".to_owned(), whole.1.clone()), whole]);
    }

    #[test]
    fn broken_and_encrypted_blocks_are_marked() {
        let broken = b"-----BEGIN A-----\nYW?j\n-----END A-----\n";
        assert_eq!(found(broken), [("A".to_owned(), None)]);
        let text =
            b"-----BEGIN A-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-128-CBC,00\r\n\r\n\
            YWJj\r\n-----END A-----";
        let block = blocks(text).next().unwrap();
        assert!(block.is_encrypted);
        assert_eq!(block.der.unwrap().as_slice(), b"abc");
    }
}
