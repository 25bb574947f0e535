//! The certificates of a cluster: certificate authorities and what they sign.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// A certificate with its private key, PEM.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key` into `folder`; returns their paths.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = folder.join(format!("{name}.crt"));
        let key = folder.join(format!("{name}.key"));
        std::fs::write(&certificate, &self.certificate).expect("write a certificate");
        std::fs::write(&key, &self.key).expect("write a key");
        (certificate, key)
    }
}

/// A certificate authority of its own.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// Makes a new one with this common name.
    pub(crate) fn new(name: &str) -> Self {
        let mut parameters = parameters(name, None, &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("generate a key");
        let certificate = parameters.self_signed(&key).expect("sign a CA certificate").pem();
        Self { issuer: Issuer::new(parameters, key), certificate }
    }

    /// Its own certificate, PEM: what peers have to trust.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A server's certificate for these DNS names and IP addresses.
    pub(crate) fn server(&self, names: &[&str]) -> Pair {
        let name = names.first().copied().unwrap_or("server");
        self.sign(parameters(name, None, names), vec![ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// A certificate for both ends of connections between processes with these names and addresses.
    pub(crate) fn peer(&self, names: &[&str]) -> Pair {
        let name = names.first().copied().unwrap_or("peer");
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(parameters(name, None, names), usages)
    }

    /// A client's certificate: `name` is the user, `group` its group.
    pub(crate) fn client(&self, name: &str, group: Option<&str>) -> Pair {
        self.sign(parameters(name, group, &[]), vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn sign(
        &self,
        mut parameters: CertificateParams,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> Pair {
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = usages;
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("generate a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("sign a certificate");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

fn parameters(name: &str, group: Option<&str>, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut parameters = CertificateParams::new(names).expect("DNS names and addresses are valid");
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2100, 1, 1);
    parameters.distinguished_name.remove(DnType::CommonName);
    parameters.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        parameters.distinguished_name.push(DnType::OrganizationName, group);
    }
    parameters
}

/// A key for signing service-account tokens: private and public half, PEM.
pub(crate) fn token_key() -> (String, String) {
    let key = KeyPair::generate().expect("generate a key");
    (key.serialize_pem(), key.public_key_pem())
}
