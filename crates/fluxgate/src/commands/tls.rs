//! `fluxgate tls`: creates certificates for trying out TLS.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};

use crate::exit::{Exit, Misuse};
use crate::output;

/// Validity of the CA, days.
const CA_DAYS: i64 = 3_650;
/// Most nodes that one command creates certificates for.
const NODES_MAX: u64 = 9;

/// Longest DNS name and longest label of one (RFC 1035, section 2.3.4).
const NAME_CHARS_MAX: usize = 253;
const LABEL_CHARS_MAX: usize = 63;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate tls dev --dir certs")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a CA and certificates for nodes, for testing only; use your own CA in production
    Dev(Dev),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Creates ca.pem and ca.key, or uses existing ones, and node1.pem, node1.key and so on.\n\
        Existing files are not replaced without --force; ca.pem and ca.key are never replaced.\n\n\
        Example:\n  fluxgate tls dev --dir certs --nodes 3 --host localhost --host node{id}"
)]
struct Dev {
    /// Directory of the files; created if it does not exist
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    /// Number of nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=NODES_MAX))]
    nodes: u64,
    /// Host name or address of the nodes, with {id} for the node's number; repeatable.
    /// localhost and the loopback addresses are always included
    #[arg(long, value_name = "HOST", value_parser = host)]
    host: Vec<String>,
    /// Validity of the node certificates
    #[arg(long, value_name = "DAYS", default_value_t = 90, allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-3_650..=CA_DAYS))]
    days: i64,
    /// Regenerate the node certificates
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Dev(args) => dev(args),
    }
}

/// Sets the validity: from an hour ago, for clocks that lag, or, for an expired certificate, from a
/// day before its end.
fn set_validity(params: &mut CertificateParams, days: i64) {
    let now = time::OffsetDateTime::now_utc();
    params.not_after = now + time::Duration::days(days);
    params.not_before =
        (now - time::Duration::hours(1)).min(params.not_after - time::Duration::days(1));
}

fn dev(args: &Dev) -> anyhow::Result<Exit> {
    let dir = &args.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
    let issuer = authority(dir)?;
    for id in 1..=args.nodes {
        let (cert, key) = (dir.join(format!("node{id}.pem")), dir.join(format!("node{id}.key")));
        if !args.force && (cert.exists() || key.exists()) {
            output::notice(&format!("{} already exists: kept", cert.display()));
            continue;
        }
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        names.extend(args.host.iter().map(|host| host.replace("{id}", &id.to_string())));
        names.dedup();
        let mut params =
            CertificateParams::new(names).context("cannot create a certificate for these names")?;
        params.distinguished_name.push(DnType::CommonName, format!("Fluxgate node {id}"));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node is both a server and a client of other nodes.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        set_validity(&mut params, args.days);
        let pair = KeyPair::generate().context("cannot create a key")?;
        let signed = params.signed_by(&pair, &issuer).context("cannot sign a certificate")?;
        // The key first: a node that reloads in between finds a mismatched pair, and waits.
        write_secret(&key, &pair.serialize_pem())?;
        write(&cert, &signed.pem())?;
        output::data(&format!("{}", cert.display()))?;
    }
    Ok(Exit::Done)
}

/// Parses `--host`. Node numbers have one digit.
fn host(text: &str) -> Result<String, String> {
    let is_one = is_host(&text.replace("{id}", "1"));
    is_one.then(|| text.to_owned()).ok_or_else(|| "not a host name or address".to_owned())
}

/// Whether clients can connect to it: an address without brackets and port, or a DNS name (RFC
/// 1123, section 2.1; also with underscores, which container networks use) whose first label may be
/// `*`.
fn is_host(name: &str) -> bool {
    let named = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    let is_label = |label: &str| {
        (1..=LABEL_CHARS_MAX).contains(&label.len())
            && label.bytes().all(named)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = name.strip_prefix("*.").unwrap_or(name);
    name.parse::<std::net::IpAddr>().is_ok()
        || name.len() <= NAME_CHARS_MAX && labels.split('.').all(is_label)
}

/// Whether a certificate belongs to a key. An unreadable certificate is reported by the caller.
fn is_pair(cert: &str, pair: &KeyPair) -> bool {
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(cert.as_bytes()) else { return true };
    let Ok(cert) = pem.parse_x509() else { return true };
    cert.public_key().raw == pair.subject_public_key_info()
}

/// The CA of a directory: the existing one, or a new one.
fn authority(dir: &Path) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let (cert, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    if cert.exists() && key.exists() {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("cannot read `{}`", path.display()))
        };
        let pair = KeyPair::from_pem(&read(&key)?)
            .map_err(|_| Misuse(format!("`{}` is not a private key in PEM", key.display())))?;
        let ca = read(&cert)?;
        if !is_pair(&ca, &pair) {
            let (cert, key) = (cert.display(), key.display());
            return Err(Misuse(format!("`{key}` is not the key of `{cert}`")).into());
        }
        return Issuer::from_ca_cert_pem(&ca, pair).map_err(|_| {
            Misuse(format!("`{}` is not a CA certificate in PEM", cert.display())).into()
        });
    }
    if cert.exists() || key.exists() {
        let why = format!("`{}` has only one of ca.pem and ca.key", dir.display());
        return Err(Misuse(why).into());
    }
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Fluxgate development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, CA_DAYS);
    let pair = KeyPair::generate().context("cannot create a key")?;
    let (pem_of_key, signed) = (
        pair.serialize_pem(),
        CertifiedIssuer::self_signed(params, pair).context("cannot sign a certificate")?,
    );
    write_secret(&key, &pem_of_key)?;
    write(&cert, &signed.pem())?;
    output::data(&format!("{}", cert.display()))?;
    authority(dir)
}

/// Replaces a file atomically.
fn replace(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let shown = path.display();
    let beside = path.with_extension("new");
    std::fs::remove_file(&beside).ok();
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&beside)
        .with_context(|| format!("cannot write `{shown}`"))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write `{shown}`"))?;
    std::fs::rename(&beside, path).with_context(|| format!("cannot write `{shown}`"))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    replace(path, text, 0o644)
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    replace(path, text, 0o600)
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn hosts_are_names_or_addresses() {
        let long = "a".repeat(64);
        for name in ["node1", "a.b-c.example", "*.example", "peer_1", "10.0.0.1", "::1", "A9"] {
            assert!(is_host(name), "{name}");
        }
        for name in
            ["", "a b", "http://x", "x:80", "[::1]", "a..b", ".a", "a.", "-a", "a*", "é", &long]
        {
            assert!(!is_host(name), "{name}");
        }
    }
}
