//! The layout that a Certificate requests for its Secret. Pure; parsed once per pass.

use std::collections::BTreeMap;

use cert_lib::{keystore::pkcs12::Profile, model::key::Encoding};

use crate::api::certificate::{
    CertificateSpec, KeyEncoding, OutputKind, PasswordRef, Pkcs12Profile,
};

/// Default key in a password Secret.
const PASSWORD: &str = "password";

/// The requested layout. See the [module](self).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecretOptions {
    /// `secretLabels`
    pub labels: BTreeMap<String, String>,
    /// `secretAnnotations`
    pub annotations: BTreeMap<String, String>,
    /// `privateKey.encoding`
    pub encoding: Option<Encoding>,
    /// Whether `additionalOutputFormats` contains `CombinedPEM`.
    pub combined: bool,
    /// Whether `additionalOutputFormats` contains `DER`.
    pub der: bool,
    /// `keystores`
    pub stores: KeystoreOptions,
}

/// The requested keystores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeystoreOptions {
    /// Password of the JKS keystore.
    pub jks: Option<PasswordKey>,
    /// Password of the PKCS#12 keystore.
    pub pkcs12: Option<PasswordKey>,
    /// Ciphers of the PKCS#12 keystore, if specified.
    pub profile: Option<Profile>,
}

/// Reference to a password in the namespace of the certificate Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PasswordKey {
    /// Name of the Secret.
    pub secret: String,
    /// Key in the Secret.
    pub key: String,
}

impl SecretOptions {
    /// The layout that `spec` requests.
    #[must_use]
    pub fn of(spec: &CertificateSpec) -> Self {
        let outputs = spec.additional_output_formats.as_deref().unwrap_or_default();
        let encoding = spec.private_key.as_ref().and_then(|key| key.encoding);
        Self {
            labels: spec.secret_labels.clone().unwrap_or_default(),
            annotations: spec.secret_annotations.clone().unwrap_or_default(),
            encoding: encoding.map(|encoding| match encoding {
                KeyEncoding::Pkcs1 => Encoding::Pkcs1,
                KeyEncoding::Pkcs8 => Encoding::Pkcs8,
            }),
            combined: outputs.iter().any(|output| output.kind == OutputKind::CombinedPem),
            der: outputs.iter().any(|output| output.kind == OutputKind::Der),
            stores: KeystoreOptions::of(spec),
        }
    }
}

impl KeystoreOptions {
    fn of(spec: &CertificateSpec) -> Self {
        let stores = spec.keystores.clone().unwrap_or_default();
        let jks = stores.jks.filter(|store| store.create);
        let pkcs12 = stores.pkcs12.filter(|store| store.create);
        Self {
            profile: pkcs12.as_ref().and_then(|store| store.profile).map(|profile| match profile {
                Pkcs12Profile::Modern2023 => Profile::Modern2023,
                Pkcs12Profile::LegacyDes => Profile::LegacyDes,
            }),
            jks: jks.map(|store| PasswordKey::of(&store.password_secret_ref)),
            pkcs12: pkcs12.map(|store| PasswordKey::of(&store.password_secret_ref)),
        }
    }

    /// Whether no keystore is requested.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jks.is_none() && self.pkcs12.is_none()
    }

    /// Names of the Secrets with the passwords.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.jks.iter().chain(&self.pkcs12).map(|password| password.secret.as_str())
    }
}

impl PasswordKey {
    fn of(reference: &PasswordRef) -> Self {
        let key = reference.key.clone().filter(|key| !key.is_empty());
        let key = key.unwrap_or_else(|| PASSWORD.to_owned());
        Self { secret: reference.secret_name.clone(), key }
    }
}
