//! Checks a request line while its bytes arrive.
//!
//! A gateway hands the client's own path and query on, behind a path of ours that says what is
//! required. That part configures nothing, and a client may write into it what no URI may have: such
//! bytes are replaced before the parser sees them, so that they turn no good key away.

/// How far the line was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Method,
    /// So many bytes of [`AUTHORIZE`] were found at the beginning of the target.
    Prefix(usize),
    /// Behind it: so many bytes of [`NGINX`] were found, where nothing else was.
    Segment(Option<usize>),
    /// In the part that is ignored.
    Ignored,
    /// In what follows, or another path.
    Done,
}

const AUTHORIZE: &[u8] = b"/v1/authorize";
const NGINX: &[u8] = b"nginx";

/// The request line that is being read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestLine {
    at: At,
    authorizes: Option<bool>,
}

impl RequestLine {
    /// Whether the request is one below `/v1/authorize`, and if so whether in the nginx flavour.
    pub(super) fn authorizes(&self) -> Option<bool> {
        self.authorizes
    }

    /// Takes the next bytes of the connection. Below `/v1/authorize` what no URI may have is replaced
    /// by `_`.
    pub(super) fn read(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.at == At::Done {
                return;
            }
            self.at = self.step(*byte);
            let is_ignored = matches!(self.at, At::Segment(_) | At::Ignored);
            if is_ignored && !may_stand_in_uri(*byte) {
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
                // `/v1/authorize` itself, or with something behind it, not a longer word.
                None if ends_line || ends_segment || byte == b'?' => {
                    self.authorizes = Some(false);
                    match byte {
                        b'/' => At::Segment(Some(0)),
                        b'?' => At::Ignored,
                        _ => At::Done,
                    }
                }
                None => At::Done,
            },
            At::Segment(found) if ends_line || ends_segment || byte == b'?' => {
                self.authorizes = Some(found == Some(NGINX.len()));
                if ends_line { At::Done } else { At::Ignored }
            }
            At::Segment(found) => {
                let is_next = |found: &usize| NGINX.get(*found) == Some(&byte);
                At::Segment(found.filter(is_next).map(|found| found + 1))
            }
            At::Ignored if ends_line => At::Done,
            At::Ignored => At::Ignored,
            At::Done => At::Done,
        }
    }
}

/// RFC 3986, section 2: unreserved, reserved, and the percent sign.
fn may_stand_in_uri(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], pieces: usize) -> (Vec<u8>, Option<bool>) {
        let (mut text, mut line) = (text.to_vec(), RequestLine::default());
        text.chunks_mut(pieces).for_each(|piece| line.read(piece));
        (text, line.authorizes())
    }

    #[test]
    fn the_path_tells_who_asks_in_which_flavour() {
        for (text, expected) in [
            (&b"GET /v1/authorize HTTP/1.1\r\n"[..], Some(false)),
            (b"\r\nGET /v1/authorize/ HTTP/1.1\r\n", Some(false)),
            (b"GET /v1/authorize?x HTTP/1.1\r\n", Some(false)),
            (b"GET /v1/authorize/read HTTP/1.1\r\n", Some(false)),
            (b"GET /v1/authorize/nginx HTTP/1.1\r\n", Some(true)),
            (b"GET /v1/authorize/nginx/read HTTP/1.1\r\n", Some(true)),
            (b"GET /v1/authorize/nginxx HTTP/1.1\r\n", Some(false)),
            (b"GET /v1/authorizer HTTP/1.1\r\n", None),
            (b"POST /v1/validate HTTP/1.1\r\n", None),
            (b"\x16\x03\x01 /v1", None),
        ] {
            for pieces in [1, 3, 1_000] {
                assert_eq!(read(text, pieces).1, expected, "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_ignored_is_made_valid_and_nothing_else_is_touched() {
        for (text, expected) in [
            (
                &b"GET /v1/authorize/read/a<b?q=\"a\"&r=`\xe9 HTTP/1.1\r\nX: \"<\xe9\r\n"[..],
                &b"GET /v1/authorize/read/a_b?q=_a_&r=__ HTTP/1.1\r\nX: \"<\xe9\r\n"[..],
            ),
            // A requirement that none knows stays one that none knows.
            (b"GET /v1/authorize/r\"ead HTTP/1.1\r\n", b"GET /v1/authorize/r_ead HTTP/1.1\r\n"),
            (b"GET /v1/keys?name=\"a\" HTTP/1.1\r\n", b"GET /v1/keys?name=\"a\" HTTP/1.1\r\n"),
        ] {
            for pieces in [1, 7, 1_000] {
                assert_eq!(read(text, pieces).0, expected, "{}", text.escape_ascii());
            }
        }
    }
}
