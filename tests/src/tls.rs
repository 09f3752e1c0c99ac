//! Certificate authorities and serving certificates for the processes of a test environment.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::{locate::tool, processes::output};

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

/// A name in serving certificates that only a proxy resolves.
pub const PROXIED: &str = "behind-the-proxy.test";

/// A defect of a serving certificate.
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
    /// Creates a CA and a certificate, as files in `directory` that begin with `name`.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn create(name: &str, directory: &Path) -> Result<Self> {
        Self::flawed(name, directory, Flaw::None)
    }

    /// A self-signed certificate, as `openssl req -x509` creates it.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn own(name: &str, directory: &Path) -> Result<Self> {
        let certificate = directory.join(format!("{name}.pem"));
        let key = KeyPair::generate()?;
        let mut params = leaf(Flaw::None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages.clear();
        let files = Self {
            authority: certificate.clone(),
            certificate,
            key: directory.join(format!("{name}-key.pem")),
        };
        fs::write(&files.certificate, params.self_signed(&key)?.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }

    /// The same with a defect in the certificate.
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

/// A CA of client certificates.
pub struct Clients {
    authority: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
    directory: PathBuf,
}

/// A client certificate with its key, both in PEM.
#[derive(Clone, Debug)]
pub struct ClientPair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Clients {
    /// Creates a CA with its files in `directory`.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn create(directory: &Path) -> Result<Self> {
        let authority = authority("clients")?;
        let file = directory.join("clients-ca.pem");
        fs::write(&file, authority.pem())?;
        fs::write(directory.join("clients-ca-key.pem"), authority.key().serialize_pem())?;
        Ok(Self { authority, file, directory: directory.to_owned() })
    }

    /// The CA's certificate, for `--client-ca-file`.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.file
    }

    /// A certificate for a user and a group, valid for this number of seconds from now.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn issue(&self, user: &str, group: &str, seconds: i64) -> Result<ClientPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let now = SystemTime::now();
        // The clock of the other side may be slightly behind.
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + Duration::from_secs(seconds.unsigned_abs())).into();
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;
        Ok(ClientPair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A certificate of X.509 version 1, which openssl creates without extensions.
    ///
    /// # Errors
    /// openssl fails.
    pub fn issue_version_1(&self, user: &str, group: &str) -> Result<ClientPair> {
        let key = KeyPair::generate()?.serialize_pem();
        fs::write(self.directory.join("version-1.key"), &key)?;
        let subject = format!("/CN={user}/O={group}");
        let openssl = |arguments: &[&str]| -> Result<()> {
            let mut command = Command::new(tool("openssl")?);
            let done = output(command.args(arguments).current_dir(&self.directory))?;
            ensure!(done.status.success(), "openssl {arguments:?} fails");
            Ok(())
        };
        openssl(&[
            "req",
            "-new",
            "-key",
            "version-1.key",
            "-subj",
            &subject,
            "-out",
            "version-1.csr",
        ])?;
        openssl(&[
            "x509",
            "-req",
            "-in",
            "version-1.csr",
            "-CA",
            "clients-ca.pem",
            "-CAkey",
            "clients-ca-key.pem",
            "-set_serial",
            "1",
            "-days",
            "1",
            "-out",
            "version-1.crt",
        ])?;
        let certificate = fs::read_to_string(self.directory.join("version-1.crt"))?;
        Ok(ClientPair { certificate, key })
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("{name} of the tests"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn leaf(flaw: Flaw) -> Result<CertificateParams> {
    let names = match flaw {
        Flaw::None | Flaw::Expired => {
            // Only a proxy resolves the last one.
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
