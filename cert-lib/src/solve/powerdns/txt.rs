//! The content of a TXT record in the API of PowerDNS: character strings in quotes, as in a zone
//! file (RFC 1035 section 5.1). Pure.

/// The content for `value`, in strings of at most 255 bytes.
pub(super) fn quote(value: &str) -> String {
    let mut content = String::with_capacity(value.len() + 2);
    for string in strings(value.as_bytes()) {
        if !content.is_empty() {
            content.push(' ');
        }
        content.push('"');
        for byte in string {
            match byte {
                b'"' | b'\\' => content.extend(['\\', char::from(*byte)]),
                b' '..=b'~' => content.push(char::from(*byte)),
                _ => content.push_str(&format!("\\{byte:03}")),
            }
        }
        content.push('"');
    }
    content
}

/// An empty value is one empty string.
fn strings(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let empty = value.is_empty().then_some(value);
    empty.into_iter().chain(value.chunks(MAX_STRING))
}

/// The value of `content`, its strings joined. Tolerates strings without quotes, which a database
/// may contain.
pub(super) fn unquote(content: &str) -> Vec<u8> {
    let mut value = Vec::with_capacity(content.len());
    let mut is_quoted = false;
    let mut rest = content.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\\' => value.extend(escaped(&mut rest)),
            b' ' | b'\t' if !is_quoted => {}
            other => value.push(other),
        }
    }
    value
}

/// The byte after a backslash: three digits, or itself.
fn escaped(rest: &mut std::str::Bytes<'_>) -> Option<u8> {
    let mut ahead = rest.clone();
    let byte = number(&mut ahead);
    if byte.is_some() {
        *rest = ahead;
        return byte;
    }
    rest.next()
}

/// The byte with the next three decimal digits.
fn number(digits: &mut std::str::Bytes<'_>) -> Option<u8> {
    let mut number = 0_u8;
    for _ in 0..3 {
        let digit = char::from(digits.next()?).to_digit(10)?;
        number = number.checked_mul(10)?.checked_add(u8::try_from(digit).ok()?)?;
    }
    Some(number)
}

/// RFC 1035 section 3.3: a length is one byte.
const MAX_STRING: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_is_quoted_and_split() {
        let long = "x".repeat(300);
        let (first, second) = long.split_at(255);
        for (value, content) in [
            ("abc-_9", r#""abc-_9""#.to_owned()),
            ("", r#""""#.to_owned()),
            (r#"a "b" \c;"#, r#""a \"b\" \\c;""#.to_owned()),
            ("ü\n", r#""\195\188\010""#.to_owned()),
            (&long, format!(r#""{first}" "{second}""#)),
        ] {
            assert_eq!(quote(value), content);
            assert_eq!(unquote(&content), value.as_bytes());
        }
    }

    #[test]
    fn the_content_of_others_is_read() {
        for (content, value) in [
            ("plain", &b"plain"[..]),
            (r#""a"  "b"c"#, b"abc"),
            (r#""a b" "c""#, b"a bc"),
            (r#""\a\;\\""#, b"a;\\"),
            (r#""\1""#, b"1"),
            (r#""\999""#, b"999"),
            (r#""\255\000""#, b"\xff\0"),
            ("\"ü\"", "ü".as_bytes()),
            ("\"open", b"open"),
            ("\\", b""),
            ("", b""),
        ] {
            assert_eq!(unquote(content), value, "{content}");
        }
    }

    proptest! {
        #[test]
        fn unquote_inverts_quote(value in any::<String>(), copies in 1_usize..300) {
            let value = value.repeat(copies.min(1 + 2000 / value.len().max(1)));
            let content = quote(&value);
            prop_assert!(content.is_ascii());
            prop_assert_eq!(unquote(&content), value.into_bytes());
        }

        #[test]
        fn unquote_takes_any_text(content in any::<String>()) {
            prop_assert!(unquote(&content).len() <= content.len());
        }
    }
}
