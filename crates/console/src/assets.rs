//! The console's static files, embedded in the binary: style, scripts and icon.
//!
//! Answers for: a file's name contains a digest of its content, so a browser may cache it without a
//! time limit and never shows an outdated version.

use std::sync::LazyLock;

use rust_embed::RustEmbed;

use crate::session::hex;

/// Length of the digest in a name, bytes.
const NAME_BYTES: usize = 6;

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Files;

/// One static file.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Name of the file in `assets/`.
    pub source: String,
    /// Name in the URL, with the digest.
    pub name: String,
    /// Media type for `Content-Type`.
    pub media_type: &'static str,
    /// Content of the file.
    pub bytes: Vec<u8>,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let read = |source: std::borrow::Cow<'static, str>| {
        let file = Files::get(&source)?;
        let (stem, kind) = source.rsplit_once('.')?;
        let media_type = match kind {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => "application/octet-stream",
        };
        let digest = hex(&file.metadata.sha256_hash()[..NAME_BYTES]);
        let name = format!("{stem}.{digest}.{kind}");
        Some(Asset { source: source.into(), name, media_type, bytes: file.data.into() })
    };
    Files::iter().filter_map(read).collect()
});

/// The URL of a file, given its name in `assets/`.
#[must_use]
pub fn url(source: &str) -> String {
    let asset = ASSETS.iter().find(|asset| asset.source == source);
    asset.map(|asset| format!("/console/assets/{}", asset.name)).unwrap_or_default()
}

/// Finds a file by its name in the URL.
#[must_use]
pub fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_url_and_all_are_small() {
        let mut total = 0;
        for source in ["console.css", "console.js", "theme.js", "icon.svg"] {
            let url = url(source);
            let asset = find(url.strip_prefix("/console/assets/").unwrap()).unwrap();
            assert_eq!(asset.source, source);
            total += asset.bytes.len();
        }
        assert!(total < 60_000, "{total} bytes");
        assert!(find("console.css").is_none());
    }

    #[test]
    fn no_file_refers_to_another_host() {
        for asset in ASSETS.iter() {
            let text = String::from_utf8(asset.bytes.clone()).unwrap();
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("://"), "{}", asset.source);
        }
    }
}
