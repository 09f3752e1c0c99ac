//! Certificate authorities and serving certificates for the processes of a rig.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// The files of a serving certificate for `localhost` and 127.0.0.1, and of the CA that signed it.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The CA's certificate, PEM.
    pub authority: PathBuf,
    /// The serving certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// A name in serving certificates that no DNS has, for a proxy to lead to.
pub const PROXIED: &str = "behind-the-proxy.test";

/// What is wrong with a serving certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// It has expired.
    Expired,
    /// It is for another name.
    OtherName,
}

impl Serving {
    /// Makes a new CA and a certificate, as files in `directory` that begin with `name`.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn create(name: &str, directory: &Path) -> Result<Self> {
        Self::flawed(name, directory, Flaw::None)
    }

    /// The same with something wrong in the certificate.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn flawed(name: &str, directory: &Path, flaw: Flaw) -> Result<Self> {
        let files = Self {
            authority: directory.join(format!("{name}-ca.pem")),
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}-key.pem")),
        };
        let authority = authority(name)?;
        let key = KeyPair::generate()?;
        let leaf = leaf(flaw)?.signed_by(&key, &authority)?;
        fs::write(&files.authority, authority.pem())?;
        fs::write(&files.certificate, leaf.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("{name} of the test rig"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn leaf(flaw: Flaw) -> Result<CertificateParams> {
    let names = match flaw {
        Flaw::None | Flaw::Expired => {
            // The last one only a proxy can find.
            ["localhost", "127.0.0.1", PROXIED].map(str::to_owned).to_vec()
        }
        Flaw::OtherName => vec!["elsewhere.test".to_owned()],
    };
    let mut params = CertificateParams::new(names)?;
    if flaw == Flaw::Expired {
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2025, 1, 1);
    }
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
