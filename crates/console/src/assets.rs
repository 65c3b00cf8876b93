//! The console's files, in the binary: style, script and icon.
//!
//! Answers for: a file's name holds a digest of its content, so a browser may keep it for ever and
//! never shows an old one.

use std::sync::LazyLock;

use rust_embed::RustEmbed;

use crate::session::hex;

/// Bytes of the digest in a name.
const NAME_BYTES: usize = 6;

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Files;

/// One file.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Its name in the sources.
    pub source: String,
    /// Its name on the wire.
    pub name: String,
    /// What it is.
    pub media_type: &'static str,
    /// What it holds.
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

/// Where a page finds a file of the sources.
#[must_use]
pub fn url(source: &str) -> String {
    let asset = ASSETS.iter().find(|asset| asset.source == source);
    asset.map(|asset| format!("/console/assets/{}", asset.name)).unwrap_or_default()
}

/// The file of this name on the wire.
#[must_use]
pub fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_found_under_a_name_of_its_own_and_all_are_small() {
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
    fn no_file_names_another_host() {
        for asset in ASSETS.iter() {
            let text = String::from_utf8(asset.bytes.clone()).unwrap();
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("://"), "{}", asset.source);
        }
    }
}
