//! Certificates from files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct TlsFileError {
    path: PathBuf,
    cause: String,
}

/// Reads a certificate chain and its key, both PEM.
///
/// # Errors
///
/// When a file cannot be read, or holds something else, or the two do not belong together.
pub fn load(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsFileError> {
    let error = |path: &Path, cause: String| TlsFileError { path: path.to_owned(), cause };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect)
        .map_err(|cause| error(certificates, format!("no PEM certificate: {cause}")))?;
    if chain.is_empty() {
        return Err(error(certificates, "holds no certificate".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|cause| error(key, format!("no PEM private key: {cause}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|cause| error(certificates, format!("cannot be used with {key:?}: {cause}")))?;
    Ok(Arc::new(config))
}
