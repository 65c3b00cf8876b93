//! Reads the TLS files of one listener and checks that they fit together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fluxgate_peer::PeerTls;
use fluxgate_types::Digest;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::config::{Config, TlsFiles};

/// Largest file that is read: a chain of certificates is some kilobytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Nodes only call each other, so no older version of TLS is needed between them.
const PEER_VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Why a listener's TLS files were rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read `{}`: {why}", path.display())]
    Read { path: PathBuf, why: String },
    #[error("`{}` {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error("{0}")]
    Together(String),
    #[error("the certificate in `{}` has expired: the one in use lasts longer", path.display())]
    Expired { path: PathBuf },
}

/// The content of one listener's TLS files.
#[derive(Debug)]
pub struct Material {
    /// Of all files: shows whether one of them changed.
    pub digest: Digest,
    /// When the certificate ends, Unix seconds.
    pub ends_s: i64,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Option<Arc<RootCertStore>>,
}

fn contents(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |why: String| TlsError::Read { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(failed(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::File { path: path.to_owned(), why };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| wrong(format!("is not PEM: {error}")))?;
    if read.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    Ok(read)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn together(error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Together(format!("the files do not fit together: {error}"))
}

impl Material {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the missing or invalid file, and never shows its content.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let (cert, key) = (contents(&files.cert_file)?, contents(&files.key_file)?);
        let ca = files.ca_file.as_deref().map(contents).transpose()?;
        let all = [cert.as_slice(), &key, ca.as_deref().unwrap_or_default()];
        // A digest of digests: it also changes if bytes move from one file to the next.
        let digests = all.map(|bytes| *Digest::of(bytes).as_bytes());
        let chain = certificates(&files.cert_file, &cert)?;
        let wrong =
            |path: &Path, why: &str| TlsError::File { path: path.to_owned(), why: why.to_owned() };
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| wrong(&files.key_file, "holds no private key of a known format"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0])
            .map_err(|_| wrong(&files.cert_file, "holds a certificate that cannot be parsed"))?;
        let ends_s = parsed.validity().not_after.timestamp();
        let roots = match files.ca_file.as_deref().zip(ca.as_deref()) {
            None => None,
            Some((path, pem)) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(path, pem)? {
                    roots.add(root).map_err(|_| wrong(path, "holds no certificate of a CA"))?;
                }
                Some(Arc::new(roots))
            }
        };
        Ok(Self { digest: Digest::of(&digests.concat()), ends_s, chain, key, roots })
    }

    /// The TLS configuration of a listener. With a CA, callers must present a certificate of it.
    ///
    /// # Errors
    /// If the key does not belong to the certificate.
    pub fn server(&self, listener: &str) -> Result<ServerConfig, TlsError> {
        let versions = if listener == "peer" { PEER_VERSIONS } else { rustls::ALL_VERSIONS };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(|error| together(&error))?;
        let builder = match &self.roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let roots = Arc::clone(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                // Health probes have no certificate: the router decides after the handshake what a
                // caller without one may request.
                let verifier = if matches!(listener, "gateway" | "admin") {
                    verifier.allow_unauthenticated()
                } else {
                    verifier
                };
                let verifier = verifier.build().map_err(|error| together(&error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| together(&error))?;
        let spoken: &[&[u8]] = match listener {
            "grpc" => &[b"h2"],
            "gateway" => &[b"h2", b"http/1.1"],
            _ => &[b"http/1.1"],
        };
        config.alpn_protocols = spoken.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// The TLS configuration for calls to the other nodes.
    ///
    /// # Errors
    /// If the key does not belong to the certificate.
    pub fn client(&self) -> Result<ClientConfig, TlsError> {
        let roots = self.roots.clone().unwrap_or_else(|| Arc::new(RootCertStore::empty()));
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(PEER_VERSIONS)
            .map_err(|error| together(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| together(&error))
    }
}

/// The TLS configuration for calls to the other nodes; `None` if they are called in plaintext.
pub fn peer_calls(config: &Config) -> Result<Option<PeerTls>, TlsError> {
    let Some(files) = &config.peer_tls else { return Ok(None) };
    let client = Material::read(files)?.client()?;
    Ok(Some(PeerTls { config: client, accept_plain: files.accept_plain }))
}
