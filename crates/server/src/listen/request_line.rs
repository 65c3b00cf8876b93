//! Checks a request line while its bytes arrive.
//!
//! A gateway appends the client's own path and query to a path of ours, which says what is required.
//! The client's part configures nothing, and may contain bytes that no URI may have: these are
//! replaced before the parser sees them, so that they do not cause a valid key to be rejected.

use crate::shared::flavour::Flavour;

/// How far the line was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Method,
    /// This many bytes of [`AUTHORIZE`] were found at the start of the target.
    Prefix(usize),
    /// In the first segment behind it: this many bytes of [`NGINX`] were found, and no other.
    Segment(Option<usize>),
    /// In the first segment behind [`NGINX`]: this many bytes of [`RETRY`] were found, and no other.
    AfterNginx(usize),
    /// In the part that is ignored.
    Ignored,
    /// Behind the target, or in another path.
    Done,
}

const AUTHORIZE: &[u8] = b"/v1/authorize";
const NGINX: &[u8] = b"nginx";
const RETRY: &[u8] = b"retry";

/// The request line that is being read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestLine {
    at: At,
    flavour: Option<Flavour>,
}

impl RequestLine {
    /// The flavour of a request below `/v1/authorize`; `None` for another path.
    pub(super) fn flavour(&self) -> Option<Flavour> {
        self.flavour
    }

    /// Takes the next bytes of the connection. Below `/v1/authorize`, bytes that no URI may have are
    /// replaced by `_`.
    pub(super) fn read(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.at == At::Done {
                return;
            }
            self.at = self.step(*byte);
            let is_ours = matches!(self.at, At::Method | At::Prefix(_) | At::Done);
            if !is_ours && !is_uri_byte(*byte) {
                *byte = b'_';
            }
        }
    }

    fn step(&mut self, byte: u8) -> At {
        let (ends_line, ends_segment) = (matches!(byte, b' ' | b'\r' | b'\n'), byte == b'/');
        match self.at {
            At::Method if byte == b' ' => At::Prefix(0),
            At::Method => At::Method,
            At::Prefix(found) => match AUTHORIZE.get(found) {
                Some(expected) if *expected == byte => At::Prefix(found + 1),
                Some(_) => At::Done,
                // `/v1/authorize` itself or a path below it, not a longer word.
                None if ends_line || ends_segment || byte == b'?' => {
                    self.flavour = Some(Flavour::Plain);
                    match byte {
                        b'/' => At::Segment(Some(0)),
                        b'?' => At::Ignored,
                        _ => At::Done,
                    }
                }
                None => At::Done,
            },
            At::Segment(found) if ends_line || ends_segment || byte == b'?' => {
                let is_nginx = found == Some(NGINX.len());
                if is_nginx {
                    self.flavour = Some(Flavour::Nginx);
                }
                match byte {
                    _ if ends_line => At::Done,
                    b'/' if is_nginx => At::AfterNginx(0),
                    _ => At::Ignored,
                }
            }
            At::Segment(found) => {
                let is_next = |found: &usize| NGINX.get(*found) == Some(&byte);
                At::Segment(found.filter(is_next).map(|found| found + 1))
            }
            // As many slashes as the client likes.
            At::AfterNginx(0) if ends_segment => At::AfterNginx(0),
            At::AfterNginx(found) if ends_segment && found == RETRY.len() => {
                self.flavour = Some(Flavour::NginxRetry);
                At::Ignored
            }
            At::AfterNginx(found) if RETRY.get(found) == Some(&byte) => At::AfterNginx(found + 1),
            At::AfterNginx(_) | At::Ignored if ends_line => At::Done,
            At::AfterNginx(_) | At::Ignored => At::Ignored,
            At::Done => At::Done,
        }
    }
}

/// RFC 3986, section 2: unreserved, reserved, and the percent sign.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], pieces: usize) -> (Vec<u8>, Option<Flavour>) {
        let (mut text, mut line) = (text.to_vec(), RequestLine::default());
        text.chunks_mut(pieces).for_each(|piece| line.read(piece));
        (text, line.flavour())
    }

    #[test]
    fn the_path_says_the_flavour() {
        for (target, expected) in [
            ("/v1/authorize", Some(Flavour::Plain)),
            ("/v1/authorize/", Some(Flavour::Plain)),
            ("/v1/authorize?x", Some(Flavour::Plain)),
            ("/v1/authorize/read", Some(Flavour::Plain)),
            ("/v1/authorize/nginxx", Some(Flavour::Plain)),
            ("/v1/authorize/nginx", Some(Flavour::Nginx)),
            ("/v1/authorize/nginx?x", Some(Flavour::Nginx)),
            ("/v1/authorize/nginx/read", Some(Flavour::Nginx)),
            ("/v1/authorize/nginx/retry", Some(Flavour::Nginx)),
            ("/v1/authorize/nginx/retry?/", Some(Flavour::Nginx)),
            ("/v1/authorize/nginx/retrying/read", Some(Flavour::Nginx)),
            ("/v1/authorize/nginx/read/retry/", Some(Flavour::Nginx)),
            ("/v1/authorize/nginx/retry/read", Some(Flavour::NginxRetry)),
            ("/v1/authorize/nginx//retry/", Some(Flavour::NginxRetry)),
            ("/v1/authorizer", None),
            ("/v1/validate", None),
        ] {
            for pieces in [1, 3, 1_000] {
                let line = format!("GET {target} HTTP/1.1\r\n");
                assert_eq!(read(line.as_bytes(), pieces).1, expected, "{target}");
            }
            // The router reads the flavour from the same path.
            let path = target.split('?').next().unwrap_or_default();
            if let Some(rest) = path.strip_prefix("/v1/authorize/") {
                assert_eq!(Some(Flavour::of_path(rest).0), expected, "{target}");
            }
        }
        let line = b"\r\nGET /v1/authorize/ HTTP/1.1\r\n";
        assert_eq!(read(line, 1).1, Some(Flavour::Plain));
        assert_eq!(read(b"\x16\x03\x01 /v1", 1).1, None);
    }

    #[test]
    fn invalid_bytes_are_replaced_only_in_the_part_of_the_client() {
        for (text, expected) in [
            (
                &b"GET /v1/authorize/read/a<b?q=\"a\"&r=`\xe9 HTTP/1.1\r\nX: \"<\xe9\r\n"[..],
                &b"GET /v1/authorize/read/a_b?q=_a_&r=__ HTTP/1.1\r\nX: \"<\xe9\r\n"[..],
            ),
            (
                b"GET /v1/authorize/nginx/\"/retry/\" HTTP/1.1\r\n",
                b"GET /v1/authorize/nginx/_/retry/_ HTTP/1.1\r\n",
            ),
            // An unknown requirement stays unknown.
            (b"GET /v1/authorize/r\"ead HTTP/1.1\r\n", b"GET /v1/authorize/r_ead HTTP/1.1\r\n"),
            (b"GET /v1/keys?name=\"a\" HTTP/1.1\r\n", b"GET /v1/keys?name=\"a\" HTTP/1.1\r\n"),
        ] {
            for pieces in [1, 7, 1_000] {
                assert_eq!(read(text, pieces).0, expected, "{}", text.escape_ascii());
            }
        }
    }
}
