//! Whom to trust on https: the certificate authorities that the system trusts.

use std::path::PathBuf;
use std::sync::Arc;

use bigpeer_connection::ClientTls;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::cli::error::CliError;

/// Where Linux distributions keep the authorities, as one PEM file.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a connection needs to speak TLS with `host`. `SSL_CERT_FILE` names other authorities than the system's.
///
/// # Errors
///
/// If no authorities are found, or the host's name cannot stand in a certificate.
pub(crate) fn client_tls(host: &str) -> Result<ClientTls, CliError> {
    let server_name = ServerName::try_from(host.to_owned())
        .map_err(|_| CliError::Usage(format!("no certificate can be made out to {host:?}")))?;
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions")
            .with_root_certificates(roots()?)
            .with_no_client_auth();
    Ok(ClientTls { config: Arc::new(config), server_name })
}

fn roots() -> Result<RootCertStore, CliError> {
    let bundle = std::env::var_os("SSL_CERT_FILE")
        .map(PathBuf::from)
        .or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
    let bundle = bundle.ok_or_else(|| {
        let advice = "install the package ca-certificates, or name a PEM file in SSL_CERT_FILE";
        CliError::Failed(format!("no certificate authorities are found here: {advice}"))
    })?;
    let wrong = |cause: String| {
        CliError::Failed(format!(
            "no certificate authority is read from {}: {cause}",
            bundle.display()
        ))
    };
    let certificates =
        CertificateDer::pem_file_iter(&bundle).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    // A system's bundle may hold certificates that rustls does not take; the others serve.
    let (taken, _) = roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if taken == 0 {
        return Err(wrong("it holds none".to_owned()));
    }
    Ok(roots)
}
