//! Reads the `tls` setting of a listener.

use std::path::PathBuf;

use toml::Value;

use super::TlsFiles;
use super::material::Material;
use super::reader::{Reader, nearest};

/// Reads a section's `tls` and the files that it names, so that files that do not fit together are
/// found before the node starts. `ca` is the name of the section's CA setting.
pub(super) fn read(reader: &mut Reader<'_>, section: &str, ca: &str) -> Option<TlsFiles> {
    let value = reader.raw(section, "tls")?;
    let Some(table) = value.as_table() else {
        reader.wrong(section, "tls", "must be { cert_file = \"…\", key_file = \"…\" }");
        return None;
    };
    let names = ["cert_file", "key_file", ca, "accept_plain"];
    let mut sound = true;
    let mut wrong = |name: &str, why: &str| {
        reader.wrong(section, &format!("tls.{name}"), why);
        sound = false;
    };
    for name in table.keys().filter(|name| !names.contains(&name.as_str())) {
        wrong(name, &format!("unknown setting{}", nearest(name, &names)));
    }
    let mut file = |name: &str, needed: bool| match table.get(name) {
        Some(Value::String(path)) if !path.is_empty() => Some(PathBuf::from(path)),
        None if !needed => None,
        Some(_) | None => {
            wrong(name, "must name a file");
            None
        }
    };
    let (cert, key) = (file("cert_file", true), file("key_file", true));
    // Between nodes both sides must authenticate.
    let ca_file = file(ca, ca == "ca_file");
    let accept_plain = match table.get("accept_plain").map(Value::as_bool) {
        Some(Some(accept)) => accept,
        None => false,
        Some(None) => {
            wrong("accept_plain", "must be true or false");
            false
        }
    };
    if !sound {
        return None;
    }
    let files = TlsFiles { cert_file: cert?, key_file: key?, ca_file, accept_plain };
    let checked = Material::read(&files).and_then(|material| {
        material.server(section)?;
        if section == "peer" { material.client().map(drop) } else { Ok(()) }
    });
    match checked {
        Ok(()) => Some(files),
        Err(error) => {
            reader.wrong(section, "tls", &error.to_string());
            None
        }
    }
}
