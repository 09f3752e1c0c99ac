//! Account keys and their signatures: JSON Web Signatures (RFC 7515, RFC 8555 section 6.2),
//! thumbprints (RFC 7638) and key authorizations (RFC 8555 section 8.1).
//!
//! No input or output here. Nothing prints a key.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest,
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_SHA256,
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde::Serialize;
use x509_parser::{prelude::FromDer, public_key::RSAPublicKey};
use zeroize::Zeroizing;

use crate::{
    acme::wire::Token,
    model::armor::{Block, blocks},
};

/// The key of an ACME account: ECDSA on P-256 or P-384, or RSA with 2048 to 4096 bits. Cheap to
/// clone. Prints only its kind in `Debug`.
#[derive(Clone)]
pub struct AccountKey {
    pair: Arc<Pair>,
    jwk: Jwk,
    thumbprint: String,
}

enum Pair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// Why there is no account key. Never quotes the key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AccountKeyError {
    /// The random source failed.
    #[error("cannot generate an account key")]
    Generate,
    /// No PEM block of a private key.
    #[error("decoding pem block for private key failed")]
    NotPem,
    /// A key that is encrypted with a password.
    #[error(
        "the account key is encrypted: store it without a password (openssl pkey -in KEY -out NEW)"
    )]
    Encrypted,
    /// A key of a kind that CAs do not accept.
    #[error(
        "the account key is not usable: it must be P-256, P-384, or RSA with 2048 to 4096 bits"
    )]
    Unsupported,
    /// The library failed to write it.
    #[error("the account key cannot be written")]
    Unwritable,
}

/// The library failed to sign. Does not happen in practice.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("cannot sign with the account key")]
pub struct SignError;

impl AccountKey {
    /// A new key on P-256.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn generate() -> Result<Self, AccountKeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| AccountKeyError::Generate)?;
        Self::new(Pair::P256(pair)).ok_or(AccountKeyError::Generate)
    }

    /// Reads a PEM key: PKCS#8, SEC1 or PKCS#1. Other blocks, such as `EC PARAMETERS`, are skipped.
    ///
    /// # Errors
    /// When it is none of them, or of a kind that CAs do not accept.
    pub fn from_pem(text: &(impl AsRef<[u8]> + ?Sized)) -> Result<Self, AccountKeyError> {
        let mut blocks = blocks(text.as_ref());
        let block = blocks.find(|block| block.label.ends_with(PKCS8));
        let Block { label, is_encrypted, der } = block.ok_or(AccountKeyError::NotPem)?;
        if is_encrypted || label.starts_with("ENCRYPTED") {
            return Err(AccountKeyError::Encrypted);
        }
        let der = der.ok_or(AccountKeyError::NotPem)?;
        let pair = match label {
            PKCS8 => ecdsa(|curve| EcdsaKeyPair::from_pkcs8(curve, &der).ok())
                .or_else(|| RsaKeyPair::from_pkcs8(&der).ok().map(Pair::Rsa)),
            SEC1 => ecdsa(|curve| EcdsaKeyPair::from_private_key_der(curve, &der).ok()),
            PKCS1 => RsaKeyPair::from_der(&der).ok().map(Pair::Rsa),
            _ => None,
        };
        pair.filter(Pair::is_accepted).and_then(Self::new).ok_or(AccountKeyError::Unsupported)
    }

    /// The key in PEM: SEC1 (`EC PRIVATE KEY`) for ECDSA, as upstream stores it, and PKCS#8
    /// (`PRIVATE KEY`) for RSA.
    ///
    /// # Errors
    /// Never in practice; the library returns a `Result`.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, AccountKeyError> {
        let (tag, der) = match &*self.pair {
            Pair::P256(pair) | Pair::P384(pair) => {
                (SEC1, pair.private_key().as_der().map(|der| Zeroizing::new(der.as_ref().to_vec())))
            }
            Pair::Rsa(pair) => {
                (PKCS8, pair.as_der().map(|der| Zeroizing::new(der.as_ref().to_vec())))
            }
        };
        let der = der.map_err(|_| AccountKeyError::Unwritable)?;
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        Ok(Zeroizing::new(pem::encode_config(&pem::Pem::new(tag, der.as_slice()), config)))
    }

    /// Identifies the key (RFC 7638): base64url of the SHA-256 of its canonical JWK. Not secret.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The value of the TXT record that proves control with `token` (RFC 8555 section 8.4).
    #[must_use]
    pub fn dns_value(&self, token: &Token) -> String {
        let authorization = self.key_authorization(token);
        BASE64URL.encode(digest::digest(&digest::SHA256, authorization.as_bytes()))
    }

    /// Token and thumbprint (RFC 8555 section 8.1), which HTTP-01 publishes as they are.
    #[must_use]
    pub fn key_authorization(&self, token: &Token) -> Zeroizing<String> {
        Zeroizing::new(format!("{}.{}", token.as_str(), self.thumbprint))
    }

    /// The public key as JSON.
    pub(super) fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    fn new(pair: Pair) -> Option<Self> {
        let jwk = pair.jwk()?;
        let thumbprint = jwk.thumbprint()?;
        Some(Self { pair: Arc::new(pair), jwk, thumbprint })
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountKey({}, …)", self.pair.algorithm())
    }
}

/// How the CA identifies the signer (RFC 8555 section 6.2).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signer<'a> {
    /// By the key itself: to register, or to revoke with a certificate's key.
    Key,
    /// By the URL of the account.
    Account(&'a str),
}

/// A signed request in flattened form (RFC 7515 section 7.2.2), as JSON. `payload` is the text to
/// sign; an empty one makes a POST-as-GET.
pub(crate) fn sign(
    key: &AccountKey,
    signer: Signer<'_>,
    nonce: &str,
    url: &str,
    payload: &str,
) -> Result<Vec<u8>, SignError> {
    let (jwk, kid) = match signer {
        Signer::Key => (Some(&key.jwk), None),
        Signer::Account(url) => (None, Some(url)),
    };
    let header = Header { alg: key.pair.algorithm(), jwk, kid, nonce: Some(nonce), url };
    let flat = flatten(&header, payload, |message| key.pair.sign(message))?;
    serde_json::to_vec(&flat).map_err(|_| SignError)
}

/// The inner signature of a key change, by the new key (RFC 8555 section 7.3.5). The nonce is in
/// the outer one.
pub(crate) fn sign_inner(
    key: &AccountKey,
    url: &str,
    payload: &str,
) -> Result<Flattened, SignError> {
    let header =
        Header { alg: key.pair.algorithm(), jwk: Some(&key.jwk), kid: None, nonce: None, url };
    flatten(&header, payload, |message| key.pair.sign(message))
}

/// Encodes header and payload and signs them with `sign`.
pub(super) fn flatten(
    header: &Header<'_>,
    payload: &str,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, SignError>,
) -> Result<Flattened, SignError> {
    let protected = BASE64URL.encode(serde_json::to_vec(header).map_err(|_| SignError)?);
    let payload = BASE64URL.encode(payload);
    let signature = BASE64URL.encode(sign(format!("{protected}.{payload}").as_bytes())?);
    Ok(Flattened { protected, payload, signature })
}

/// A protected header.
#[derive(Serialize)]
pub(super) struct Header<'a> {
    pub(super) alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwk: Option<&'a Jwk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nonce: Option<&'a str>,
    pub(super) url: &'a str,
}

/// A JWS with one signature (RFC 7515 section 7.2.2).
#[derive(Serialize)]
pub(crate) struct Flattened {
    protected: String,
    payload: String,
    signature: String,
}

/// A public key as JSON (RFC 7518 section 6). The members are in the order in which RFC 7638
/// section 3.2 hashes them: by name.
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Jwk {
    Ec { crv: &'static str, kty: &'static str, x: String, y: String },
    Rsa { e: String, kty: &'static str, n: String },
}

impl Jwk {
    /// From an uncompressed point (SEC1 section 2.3.3).
    fn ec(crv: &'static str, point: &[u8]) -> Option<Self> {
        let (4, coordinates) = point.split_first()? else { return None };
        let (x, y) = coordinates.split_at(coordinates.len() / 2);
        Some(Self::Ec { crv, kty: "EC", x: BASE64URL.encode(x), y: BASE64URL.encode(y) })
    }

    /// From an `RSAPublicKey` (RFC 8017 appendix A.1.1). DER prefixes a zero byte to a number with
    /// a high first bit; JWK does not.
    fn rsa(der: &[u8]) -> Option<Self> {
        let (_, key) = RSAPublicKey::from_der(der).ok()?;
        let encode = |number: &[u8]| {
            let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
            BASE64URL.encode(&number[start..])
        };
        Some(Self::Rsa { e: encode(key.exponent), kty: "RSA", n: encode(key.modulus) })
    }

    fn thumbprint(&self) -> Option<String> {
        let canonical = serde_json::to_vec(self).ok()?;
        Some(BASE64URL.encode(digest::digest(&digest::SHA256, &canonical)))
    }
}

impl Pair {
    /// RFC 7518 section 3.1.
    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Rsa(_) => "RS256",
        }
    }

    fn is_accepted(&self) -> bool {
        match self {
            Self::P256(_) | Self::P384(_) => true,
            Self::Rsa(pair) => (2048..=4096).contains(&(pair.public_modulus_len() * 8)),
        }
    }

    fn jwk(&self) -> Option<Jwk> {
        match self {
            Self::P256(pair) => Jwk::ec("P-256", pair.public_key().as_ref()),
            Self::P384(pair) => Jwk::ec("P-384", pair.public_key().as_ref()),
            Self::Rsa(pair) => Jwk::rsa(pair.public_key().as_ref()),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) | Self::P384(pair) => {
                let signature = pair.sign(&random, message).map_err(|_| SignError)?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| SignError)?;
                Ok(signature)
            }
        }
    }
}

/// Tries the curves that CAs accept.
fn ecdsa(read: impl Fn(&'static EcdsaSigningAlgorithm) -> Option<EcdsaKeyPair>) -> Option<Pair> {
    let p256 = || read(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::P256);
    let p384 = || read(&ECDSA_P384_SHA384_FIXED_SIGNING).map(Pair::P384);
    p256().or_else(p384)
}

const PKCS8: &str = "PRIVATE KEY";
const SEC1: &str = "EC PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaKeyPair, RSA_PKCS1_2048_8192_SHA256,
        UnparsedPublicKey, VerificationAlgorithm,
    };
    use serde_json::Value;

    use super::*;
    use crate::model::key::{KeyType, PrivateKey};

    /// Verifies as RFC 7515 section 5.2 says, and returns header and payload.
    fn verify(
        jws: &[u8],
        algorithm: &'static dyn VerificationAlgorithm,
        public: &[u8],
    ) -> (Value, String) {
        let flat: Value = serde_json::from_slice(jws).unwrap();
        let part = |name: &str| flat[name].as_str().unwrap().to_owned();
        let signed = format!("{}.{}", part("protected"), part("payload"));
        let signature = BASE64URL.decode(part("signature")).unwrap();
        UnparsedPublicKey::new(algorithm, public).verify(signed.as_bytes(), &signature).unwrap();
        let header = BASE64URL.decode(part("protected")).unwrap();
        let payload = BASE64URL.decode(part("payload")).unwrap();
        (serde_json::from_slice(&header).unwrap(), String::from_utf8(payload).unwrap())
    }

    fn public(key: &AccountKey) -> Vec<u8> {
        match &*key.pair {
            Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    fn account_key(kind: KeyType) -> AccountKey {
        AccountKey::from_pem(&PrivateKey::generate(kind).unwrap().pem()).unwrap()
    }

    #[test]
    fn signatures_of_all_kinds_of_keys_verify() {
        let algorithms: [(KeyType, &str, &'static dyn VerificationAlgorithm); 3] = [
            (KeyType::P256, "ES256", &ECDSA_P256_SHA256_FIXED),
            (KeyType::P384, "ES384", &ECDSA_P384_SHA384_FIXED),
            (KeyType::Rsa2048, "RS256", &RSA_PKCS1_2048_8192_SHA256),
        ];
        for (kind, name, algorithm) in algorithms {
            let key = account_key(kind);
            let jws = sign(&key, Signer::Account("https://ca/a/1"), "N", "https://ca/o", "{}");
            let (header, payload) = verify(&jws.unwrap(), algorithm, &public(&key));
            let want = serde_json::json!({
                "alg": name, "kid": "https://ca/a/1", "nonce": "N", "url": "https://ca/o",
            });
            assert_eq!((header, payload.as_str()), (want, "{}"));
        }
    }

    #[test]
    fn a_post_as_get_has_an_empty_payload_and_a_registration_carries_the_key() {
        let key = AccountKey::generate().unwrap();
        let jws = sign(&key, Signer::Key, "N", "u", "").unwrap();
        let (header, payload) = verify(&jws, &ECDSA_P256_SHA256_FIXED, &public(&key));
        assert_eq!(payload, "");
        assert_eq!(header["kid"], Value::Null);
        assert_eq!(header["jwk"]["crv"], "P-256");
        assert_eq!(BASE64URL.decode(header["jwk"]["x"].as_str().unwrap()).unwrap().len(), 32);
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638_section_3_1() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = Jwk::Rsa { e: "AQAB".to_owned(), kty: "RSA", n: n.to_owned() };
        assert_eq!(jwk.thumbprint().unwrap(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn an_rsa_key_is_written_without_leading_zeros() {
        let Jwk::Rsa { e, n, .. } = account_key(KeyType::Rsa2048).jwk else { panic!("not RSA") };
        assert_eq!((e.as_str(), BASE64URL.decode(n).unwrap().len()), ("AQAB", 256));
    }

    /// The key of RFC 7515 appendix A.3 as SEC1.
    const RFC_7515_A3: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEII6bEJ5xkJi/mASH3x9dd+nLKWBuvtImO19XwhPfhPSyoAoGCCqGSM49
AwEHoUQDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72b
focs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==
-----END EC PRIVATE KEY-----
";

    #[test]
    fn the_key_of_rfc_7515_appendix_a_3_is_read_and_written() {
        let key = AccountKey::from_pem(RFC_7515_A3).unwrap();
        let Jwk::Ec { x, y, .. } = &key.jwk else { panic!("not EC") };
        assert_eq!(x, "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
        assert_eq!(y, "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        assert_eq!(key.to_pem().unwrap().as_str(), RFC_7515_A3);
    }

    #[test]
    fn a_signature_of_rfc_7515_appendix_a_3_has_the_fixed_form() {
        let key = AccountKey::from_pem(RFC_7515_A3).unwrap();
        let known = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let input = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public(&key));
        verifier.verify(input.as_bytes(), &BASE64URL.decode(known).unwrap()).unwrap();
        let ours = key.pair.sign(input.as_bytes()).unwrap();
        assert_eq!(ours.len(), 64);
        verifier.verify(input.as_bytes(), &ours).unwrap();
    }

    #[test]
    fn keys_round_trip_through_pem_and_are_not_printed() {
        for (kind, tag) in [(KeyType::P256, SEC1), (KeyType::P384, SEC1), (KeyType::Rsa2048, PKCS8)]
        {
            let key = account_key(kind);
            let text = key.to_pem().unwrap();
            assert!(text.starts_with(&format!("-----BEGIN {tag}-----\n")), "{kind:?}");
            assert_eq!(AccountKey::from_pem(&text).unwrap().thumbprint(), key.thumbprint());
            let shown = format!("{key:?}");
            assert!(shown.len() < 30 && shown.starts_with("AccountKey("), "{shown}");
        }
    }

    #[test]
    fn an_invalid_account_key_is_refused() {
        let junk = |tag: &str| pem::encode(&pem::Pem::new(tag, vec![48, 3, 2, 1, 0]));
        for (text, want) in [
            (String::new(), AccountKeyError::NotPem),
            ("garbage".to_owned(), AccountKeyError::NotPem),
            (junk("CERTIFICATE"), AccountKeyError::NotPem),
            (junk("ENCRYPTED PRIVATE KEY"), AccountKeyError::Encrypted),
            (junk("OPENSSH PRIVATE KEY"), AccountKeyError::Unsupported),
            (junk(PKCS8), AccountKeyError::Unsupported),
            (junk(SEC1), AccountKeyError::Unsupported),
            (junk(PKCS1), AccountKeyError::Unsupported),
        ] {
            assert_eq!(AccountKey::from_pem(&text).unwrap_err(), want, "{text}");
        }
    }

    #[test]
    fn the_dns_value_is_the_hash_of_token_and_thumbprint() {
        let key = AccountKey::from_pem(RFC_7515_A3).unwrap();
        let token = Token::from("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA");
        let text = key.key_authorization(&token);
        assert_eq!(text.as_str(), format!("{}.{}", token.as_str(), key.thumbprint()));
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        assert_eq!(key.dns_value(&token), BASE64URL.encode(hash));
    }

    #[test]
    fn a_pkcs1_key_is_read() {
        // rcgen and cert-manager write accounts in different forms; the DER inside is the same.
        let key = PrivateKey::generate(KeyType::Rsa2048).unwrap();
        let pkcs8 = pem::parse(key.pem().as_bytes()).unwrap();
        // PKCS#8 of a 2048-bit key has 26 bytes before the PKCS#1 structure.
        let pkcs1 = pem::encode(&pem::Pem::new(PKCS1, &pkcs8.contents()[26..]));
        let account = AccountKey::from_pem(&pkcs1).unwrap();
        assert_eq!(account.thumbprint(), AccountKey::from_pem(&key.pem()).unwrap().thumbprint());
    }

    #[test]
    fn other_curves_are_refused() {
        let pair = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P521_SHA512_FIXED_SIGNING);
        let der = pair.unwrap().to_pkcs8v1().unwrap();
        let text = pem::encode(&pem::Pem::new(PKCS8, der.as_ref()));
        assert_eq!(AccountKey::from_pem(&text).unwrap_err(), AccountKeyError::Unsupported);
    }
}
