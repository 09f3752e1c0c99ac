//! External account binding (RFC 8555 section 7.3.4): binds a new account to an existing customer
//! record at the CA, by a MAC key from the CA's operator.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use zeroize::Zeroizing;

use crate::acme::jws::{AccountKey, Flattened, Header, SignError, flatten};

/// The MAC key and its identifier. `Debug` prints the identifier only; the key is wiped when
/// dropped.
#[derive(Clone)]
pub struct Binding {
    key_id: String,
    algorithm: MacAlgorithm,
    key: Zeroizing<Vec<u8>>,
}

/// The MAC algorithm of the binding (RFC 7518 section 3.2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MacAlgorithm {
    /// The only one that all CAs accept.
    #[default]
    Hs256,
    /// With SHA-384.
    Hs384,
    /// With SHA-512.
    Hs512,
}

/// Why a binding cannot be used. Never quotes the key. The messages are upstream's where it has
/// them.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BindingError {
    /// Not base64.
    #[error("acme: could not decode hmac key: illegal base64 data at input byte {position}")]
    NotBase64 {
        /// Position of the first invalid byte.
        position: usize,
    },
    /// RFC 7518 section 3.2 requires a key that is at least as long as the hash.
    #[error(
        "acme: error signing eab content: failed to External Account Binding sign content: \
         go-jose/go-jose: invalid key size for algorithm {algorithm}: it has {bytes} bytes and needs \
         at least {needed}"
    )]
    TooShort {
        /// The algorithm of the binding.
        algorithm: MacAlgorithm,
        /// Length of the key.
        bytes: usize,
        /// Minimum length.
        needed: usize,
    },
}

impl Binding {
    /// A binding by the key named `key_id`, `encoded` in base64: in the URL-safe or the standard
    /// alphabet, with or without padding. White space around it is ignored.
    ///
    /// # Errors
    /// See [`BindingError`].
    pub fn new(
        key_id: impl Into<String>,
        algorithm: MacAlgorithm,
        encoded: impl AsRef<[u8]>,
    ) -> Result<Self, BindingError> {
        let encoded = without_padding(encoded.as_ref().trim_ascii());
        let url_safe = |byte: &u8| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        };
        let url_safe: Zeroizing<Vec<u8>> = Zeroizing::new(encoded.iter().map(url_safe).collect());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let wrong = url_safe.iter().position(|byte| !allowed(*byte));
        let position = wrong.unwrap_or(encoded.len());
        let key = BASE64URL.decode(&*url_safe).map(Zeroizing::new);
        let key = key.map_err(|_| BindingError::NotBase64 { position })?;
        let (bytes, needed) = (key.len(), algorithm.hash_length());
        if bytes < needed {
            return Err(BindingError::TooShort { algorithm, bytes, needed });
        }
        Ok(Self { key_id: key_id.into(), algorithm, key })
    }

    /// The public account key, signed with the MAC key.
    pub(super) fn bind(
        &self,
        account: &AccountKey,
        new_account: &str,
    ) -> Result<Flattened, SignError> {
        let alg = self.algorithm.name();
        let header =
            Header { alg, jwk: None, kid: Some(&self.key_id), nonce: None, url: new_account };
        let payload = serde_json::to_string(account.jwk()).map_err(|_| SignError)?;
        let key = hmac::Key::new(self.algorithm.hmac(), &self.key);
        flatten(&header, &payload, |message| Ok(hmac::sign(&key, message).as_ref().to_vec()))
    }
}

/// Base64 ends in at most two `=`.
fn without_padding(encoded: &[u8]) -> &[u8] {
    let once = encoded.strip_suffix(b"=").unwrap_or(encoded);
    once.strip_suffix(b"=").unwrap_or(once)
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl MacAlgorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Hs256 => hmac::HMAC_SHA256,
            Self::Hs384 => hmac::HMAC_SHA384,
            Self::Hs512 => hmac::HMAC_SHA512,
        }
    }

    fn hash_length(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
        }
    }
}

impl fmt::Display for MacAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const URL: &str = "https://ca/new-account";

    #[test]
    fn a_binding_is_the_account_key_signed_with_the_mac_key() {
        let account = AccountKey::generate().unwrap();
        for (algorithm, name) in [
            (MacAlgorithm::Hs256, "HS256"),
            (MacAlgorithm::Hs384, "HS384"),
            (MacAlgorithm::Hs512, "HS512"),
        ] {
            let secret = [7; 64];
            let encoded = format!("{}\n", BASE64URL.encode(secret));
            let binding = Binding::new("kid-1", algorithm, &encoded).unwrap();
            let flat = serde_json::to_value(binding.bind(&account, URL).unwrap()).unwrap();
            let part = |name: &str| flat[name].as_str().unwrap().to_owned();
            let key = hmac::Key::new(algorithm.hmac(), &secret);
            let signed = format!("{}.{}", part("protected"), part("payload"));
            let signature = BASE64URL.decode(part("signature")).unwrap();
            hmac::verify(&key, signed.as_bytes(), &signature).unwrap();
            let read = |name: &str| -> Value {
                serde_json::from_slice(&BASE64URL.decode(part(name)).unwrap()).unwrap()
            };
            assert_eq!(read("protected"), json!({"alg": name, "kid": "kid-1", "url": URL}));
            assert_eq!(read("payload"), serde_json::to_value(account.jwk()).unwrap());
            assert!(!format!("{binding:?}").contains("key:"), "{binding:?}");
        }
    }

    #[test]
    fn padding_and_the_standard_alphabet_are_read() {
        let secret = [0xfb; 32];
        let standard = base64::prelude::BASE64_STANDARD.encode(secret);
        assert!(standard.contains('+') && standard.ends_with('='));
        let plain = BASE64URL.encode(secret);
        for encoded in [&plain, &standard, &format!("{plain}="), &format!(" {standard}\r\n")] {
            let binding = Binding::new("kid-1", MacAlgorithm::Hs256, encoded).unwrap();
            assert_eq!(*binding.key, secret, "{encoded}");
        }
    }

    #[test]
    fn an_invalid_key_is_refused_with_its_reason_and_never_quoted() {
        let short = BASE64URL.encode([1; 47]);
        for (algorithm, encoded, want) in [
            (MacAlgorithm::Hs256, "ab!/", "decode hmac key: illegal base64 data at input byte 2"),
            (MacAlgorithm::Hs256, "YW=I", "decode hmac key: illegal base64 data at input byte 2"),
            (MacAlgorithm::Hs256, "Y===", "decode hmac key: illegal base64 data at input byte 1"),
            (MacAlgorithm::Hs256, "A", "decode hmac key: illegal base64 data at input byte"),
            (MacAlgorithm::Hs256, "AAAA", "algorithm HS256: it has 3 bytes and needs at least 32"),
            (MacAlgorithm::Hs384, &short, "algorithm HS384: it has 47 bytes and needs at least 48"),
            (MacAlgorithm::Hs512, &short, "algorithm HS512: it has 47 bytes and needs at least 64"),
        ] {
            let error = Binding::new("k", algorithm, encoded).unwrap_err().to_string();
            assert!(error.contains(want), "{encoded}: {error}");
        }
    }
}
