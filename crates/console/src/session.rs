//! Sessions: a sealed text that the browser stores and every node can open.
//!
//! Answers for: only a holder of the cluster's secret can create or change a session, and a session
//! ends by age, by inactivity, and with the credential it was opened with. The server stores
//! nothing, so any node can answer. The server looks up at every request what the session may do.

use std::fmt::Write as _;

use fluxgate_types::{Digest, KeyId, caps};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Separates signing keys derived from the cluster's secret: this one is for the console alone.
const PURPOSE: &[u8] = b"fluxgate console, version 1";
const SESSION: &[u8] = b"session";
const FORM: &[u8] = b"form";
const BOUND: &[u8] = b"bound";

/// Prefix of a sealed session; a later format gets another number.
const VERSION: &str = "1";
const OPERATOR: u8 = 1;
const KEY: u8 = 2;
const ID_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const PAYLOAD_BYTES: usize = 1 + ID_BYTES + TAG_BYTES + 8 + 8 + NONCE_BYTES;

/// Length of the nonce that makes every session unique, bytes.
pub const NONCE_BYTES: usize = 16;
/// Length of a signing key, bytes.
pub const SIGNING_KEY_BYTES: usize = 32;

/// A digest of a credential under the signing key. It shows whether the credential is still the
/// same, and reveals nothing to a reader of the cookie.
pub type Tag = [u8; TAG_BYTES];

/// The owner of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionPrincipal {
    /// The holder of the operator token.
    Operator,
    /// The holder of this admin key.
    Key(KeyId),
}

/// A session. Times are seconds of cluster time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Who signed in.
    pub holder: SessionPrincipal,
    /// Tag of the credential used to sign in.
    pub bound: Tag,
    /// When it began, seconds of cluster time.
    pub begun_s: u64,
    /// When it was last renewed, seconds of cluster time.
    pub used_s: u64,
    /// Makes it unique.
    pub nonce: [u8; NONCE_BYTES],
}

impl Session {
    /// Whether it has ended by age or by inactivity.
    #[must_use]
    pub const fn is_over(&self, now_s: u64) -> bool {
        now_s.saturating_sub(self.begun_s) >= caps::CONSOLE_SESSION_S_MAX
            || now_s.saturating_sub(self.used_s) >= caps::CONSOLE_REST_S_MAX
    }

    /// Whether it must be renewed to record that it is in use.
    #[must_use]
    pub const fn is_stale(&self, now_s: u64) -> bool {
        now_s.saturating_sub(self.used_s) >= caps::CONSOLE_RENEW_S
    }

    /// How long the browser should keep the cookie, seconds.
    #[must_use]
    pub const fn left_s(&self, now_s: u64) -> u64 {
        let age = now_s.saturating_sub(self.begun_s);
        let left = caps::CONSOLE_SESSION_S_MAX.saturating_sub(age);
        if left < caps::CONSOLE_REST_S_MAX { left } else { caps::CONSOLE_REST_S_MAX }
    }
}

/// Seals and opens sessions.
#[derive(Clone)]
pub struct Signer([u8; SIGNING_KEY_BYTES]);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    /// Derives the signing key from a secret that all nodes share.
    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Self {
        Self(mac(secret, &[PURPOSE]))
    }

    /// Uses a random signing key if there is no secret: its sessions are valid on this node alone.
    #[must_use]
    pub const fn of_random(random: [u8; SIGNING_KEY_BYTES]) -> Self {
        Self(random)
    }

    /// The tag of a presented credential.
    #[must_use]
    pub fn tag(&self, presented: &Digest) -> Tag {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&mac(&self.0, &[BOUND, presented.as_bytes()])[..TAG_BYTES]);
        tag
    }

    /// Seals a session into the text that the browser stores.
    #[must_use]
    pub fn seal(&self, session: &Session) -> String {
        let payload = payload(session);
        format!("{VERSION}.{}.{}", hex(&payload), hex(&mac(&self.0, &[SESSION, &payload])))
    }

    /// Opens a sealed session, unless it is forged, damaged or over.
    #[must_use]
    pub fn open(&self, text: &str, now_s: u64) -> Option<Session> {
        let (payload, seal) = text.strip_prefix(VERSION)?.strip_prefix('.')?.split_once('.')?;
        let payload: [u8; PAYLOAD_BYTES] = unhex(payload)?;
        let seal: [u8; 32] = unhex(seal)?;
        is_mac(&self.0, &[SESSION, &payload], &seal).then_some(())?;
        let session = parse(&payload)?;
        (!session.is_over(now_s)).then_some(session)
    }

    /// The token that every form of a session contains, so that no other site can submit one.
    #[must_use]
    pub fn form_token(&self, session: &Session) -> String {
        hex(&mac(&self.0, &[FORM, &session.nonce]))
    }

    /// Whether a submitted form came from a page of this session.
    #[must_use]
    pub fn is_form_token(&self, session: &Session, presented: &str) -> bool {
        let token: Option<[u8; 32]> = unhex(presented);
        token.is_some_and(|token| is_mac(&self.0, &[FORM, &session.nonce], &token))
    }
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    // A key of any length is valid (RFC 2104).
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    for part in parts {
        // Prefixed with lengths, so that two different lists of parts never yield the same bytes.
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    keyed(key, parts).finalize().into_bytes().into()
}

/// Compares in constant time.
fn is_mac(key: &[u8], parts: &[&[u8]], presented: &[u8; 32]) -> bool {
    keyed(key, parts).verify_slice(presented).is_ok()
}

fn payload(session: &Session) -> [u8; PAYLOAD_BYTES] {
    let (kind, id) = match session.holder {
        SessionPrincipal::Operator => (OPERATOR, [0; ID_BYTES]),
        SessionPrincipal::Key(id) => (KEY, *id.as_bytes()),
    };
    let mut bytes = [0; PAYLOAD_BYTES];
    let parts: [&[u8]; 6] = [
        &[kind],
        &id,
        &session.bound,
        &session.begun_s.to_be_bytes(),
        &session.used_s.to_be_bytes(),
        &session.nonce,
    ];
    let mut rest = &mut bytes[..];
    for part in parts {
        let (here, after) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = after;
    }
    bytes
}

fn parse(payload: &[u8; PAYLOAD_BYTES]) -> Option<Session> {
    let (kind, rest) = payload.split_first()?;
    let (id, rest) = rest.split_first_chunk::<ID_BYTES>()?;
    let (bound, rest) = rest.split_first_chunk::<TAG_BYTES>()?;
    let (begun, rest) = rest.split_first_chunk::<8>()?;
    let (used, rest) = rest.split_first_chunk::<8>()?;
    let nonce = rest.first_chunk::<NONCE_BYTES>()?;
    let holder = match *kind {
        OPERATOR => SessionPrincipal::Operator,
        KEY => SessionPrincipal::Key(KeyId::new(*id).ok()?),
        _ => return None,
    };
    let (begun_s, used_s) = (u64::from_be_bytes(*begun), u64::from_be_bytes(*used));
    Some(Session { holder, bound: *bound, begun_s, used_s, nonce: *nonce })
}

/// Bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").ok();
    }
    text
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    let digit = |at: usize| match text[at] {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != N * 2 {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(at * 2)? << 4 | digit(at * 2 + 1)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(holder: SessionPrincipal) -> Session {
        Session { holder, bound: [7; 16], begun_s: 1_000, used_s: 1_000, nonce: [9; 16] }
    }

    #[test]
    fn sealed_sessions_open_on_every_node_with_the_secret() {
        let (here, there) = (Signer::of_secret(b"cluster"), Signer::of_secret(b"cluster"));
        let id = "key_Qm2xK9dA3f01".parse().unwrap();
        for holder in [SessionPrincipal::Operator, SessionPrincipal::Key(id)] {
            let sealed = here.seal(&session(holder));
            assert_eq!(there.open(&sealed, 1_001), Some(session(holder)));
            assert_eq!(Signer::of_secret(b"another").open(&sealed, 1_001), None);
        }
    }

    #[test]
    fn a_changed_session_does_not_open() {
        let signer = Signer::of_random([1; 32]);
        let sealed = signer.seal(&session(SessionPrincipal::Operator));
        for at in 0..sealed.len() {
            let mut other = sealed.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(signer.open(&other, 1_001), None, "{other}");
        }
        for text in ["", ".", "1..", "1.00.00", &sealed[1..], &format!("{sealed}0")] {
            assert_eq!(signer.open(text, 1_001), None, "{text}");
        }
    }

    #[test]
    fn sessions_end_by_inactivity_and_by_age() {
        let signer = Signer::of_random([1; 32]);
        let rested = signer.seal(&session(SessionPrincipal::Operator));
        assert!(signer.open(&rested, 1_000 + caps::CONSOLE_REST_S_MAX - 1).is_some());
        assert!(signer.open(&rested, 1_000 + caps::CONSOLE_REST_S_MAX).is_none());
        let end = 1_000 + caps::CONSOLE_SESSION_S_MAX;
        let busy = Session { used_s: end - 5, ..session(SessionPrincipal::Operator) };
        assert!(signer.open(&signer.seal(&busy), end - 1).is_some());
        assert!(signer.open(&signer.seal(&busy), end).is_none());
        assert_eq!(busy.left_s(end - 7), 7);
    }

    #[test]
    fn a_form_belongs_to_one_session() {
        let signer = Signer::of_random([1; 32]);
        let mine = session(SessionPrincipal::Operator);
        let other = Session { nonce: [8; 16], ..mine };
        assert!(signer.is_form_token(&mine, &signer.form_token(&mine)));
        assert!(!signer.is_form_token(&mine, &signer.form_token(&other)));
        assert!(!signer.is_form_token(&mine, ""));
        assert_ne!(signer.tag(&Digest::of(b"a")), signer.tag(&Digest::of(b"b")));
    }
}
