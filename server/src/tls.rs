//! Certificates from files, which are read again when the files change: see [`crate::files`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::files::{self, FileError, FromFiles};

/// The TLS of one or more doors.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What connections are made with. It stays, whatever the files say later.
    pub config: Arc<ServerConfig>,
    certificate: Arc<Certificate>,
}

/// A certificate and the files that it came from.
#[derive(Debug)]
struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().expect("no holder of this lock panics").clone())
    }
}

impl Tls {
    /// Reads a certificate chain and its key, both PEM. Warns when the key can be read by every user of the machine.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or holds something else, or the two do not belong together.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, FileError> {
        files::warn_if_open(key, "TLS key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certified = certified(chain, key, &provider)?;
        let certificate = Arc::new(Certificate {
            chain: chain.to_owned(),
            key: key.to_owned(),
            provider: provider.clone(),
            current: RwLock::new(Arc::new(certified)),
        });
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| FileError { path: chain.to_owned(), cause: error.to_string() })?
            .with_no_client_auth()
            .with_cert_resolver(certificate.clone());
        Ok(Self { config: Arc::new(config), certificate })
    }

    /// The certificate, to be watched: until its files are good again, and for connections that are open, it stays.
    #[must_use]
    pub fn watched(&self) -> Arc<dyn FromFiles> {
        self.certificate.clone()
    }
}

impl FromFiles for Certificate {
    fn files(&self) -> Vec<&Path> {
        vec![&self.chain, &self.key]
    }

    fn read_again(&self) -> Result<(), FileError> {
        let certified = Arc::new(certified(&self.chain, &self.key, &self.provider)?);
        *self.current.write().expect("no holder of this lock panics") = certified;
        files::warn_if_open(&self.key, "TLS key");
        Ok(())
    }
}

fn certified(
    chain: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, FileError> {
    let error = |path: &Path, cause: String| FileError { path: path.to_owned(), cause };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|cause| error(chain, format!("no PEM certificate: {cause}")))?;
    if certificates.is_empty() {
        return Err(error(chain, "holds no certificate".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|cause| error(key, format!("no PEM private key: {cause}")))?;
    CertifiedKey::from_der(certificates, private, provider)
        .map_err(|cause| error(chain, format!("cannot be used with {}: {cause}", key.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// A chain and its key, both PEM.
    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        let pem = |label: &str, der: &[u8]| {
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
        };
        let key = pem("PRIVATE KEY", &made.signing_key.serialize_der());
        (pem("CERTIFICATE", made.cert.der()), key)
    }

    fn served(tls: &Tls) -> Vec<u8> {
        let current = tls.certificate.current.read().expect("not poisoned").clone();
        current.cert[0].to_vec()
    }

    #[test]
    fn a_renewed_certificate_is_served_once_both_files_are_there() {
        let name = format!("bigpeer-tls-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).expect("temporary");
        let (chain, key) = (dir.join("chain.pem"), dir.join("key.pem"));
        let (old, new) = (pair(), pair());
        fs::write(&chain, &old.0).expect("temporary");
        fs::write(&key, &old.1).expect("temporary");
        let tls = Tls::load(&chain, &key).expect("they belong together");
        let (before, certificate) = (served(&tls), tls.watched());

        // Renamed into place, as those who renew certificates do.
        let replace = |path: &Path, text: &str| {
            let next = path.with_extension("next");
            fs::write(&next, text).expect("temporary");
            fs::rename(&next, path).expect("temporary");
        };
        replace(&chain, &new.0);
        let refused = certificate.read_again().expect_err("the key is of the old one").to_string();
        assert!(refused.contains("chain.pem") && refused.contains("key.pem"), "{refused}");
        assert_eq!(served(&tls), before);
        replace(&key, &new.1);
        certificate.read_again().expect("they belong together");
        assert_ne!(served(&tls), before);
        fs::remove_dir_all(&dir).expect("ours");
    }
}
