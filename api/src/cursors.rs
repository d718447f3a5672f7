//! Cursors as clients hold them.
//!
//! A cursor names the row that a page looked at last. That may be one which whoever asks does not
//! see: a page ends after so many rows, however few of them were shown. Invariant: who does not see
//! everything is given cursors that are sealed, which tell them nothing but their length.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use stemma_domain::access::Sight;
use stemma_event_log::NoteSigner;
use stemma_views::Cursor;

/// What the key is derived for.
const CONTEXT: &str = "stemma 2026-11-29 cursors of lists";
/// Longest sealed cursor as text.
const TEXT_BYTES_MAX: usize = 4096;

/// Seals and opens cursors of one log: by ChaCha20-Poly1305 (RFC 8439), a nonce at random before
/// what is sealed, all of it in hex.
pub(crate) struct Cursors {
    key: LessSafeKey,
}

impl Cursors {
    /// With a key that is the same after a restart. Where the log has no key that can be used, with
    /// one that is made here: its cursors end with the process.
    pub(crate) fn new(signer: Option<&NoteSigner>) -> Self {
        let made = || {
            let mut key = [0; 32];
            SystemRandom::new().fill(&mut key).expect(RANDOM);
            key
        };
        Self::of(&signer.map_or_else(made, |signer| signer.derived(CONTEXT)))
    }

    fn of(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the length it takes");
        Self {
            key: LessSafeKey::new(key),
        }
    }

    /// A cursor for whoever has this sight.
    pub(crate) fn told(&self, cursor: &Cursor, sight: &Sight) -> String {
        let text = cursor.to_string();
        if *sight == Sight::Everything {
            return text;
        }
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect(RANDOM);
        let mut sealed = text.into_bytes();
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        let done = self.key.seal_in_place_append_tag(nonce_of, Aad::empty(), &mut sealed);
        done.expect("a cursor is shorter than what can be sealed");
        hex(nonce.iter().chain(&sealed))
    }

    /// The cursor of a text, sealed or not; none of one that this log never gave.
    pub(crate) fn read(&self, text: &str) -> Option<Cursor> {
        match self.opened(text) {
            Some(plain) => plain.parse().ok(),
            None => text.parse().ok(),
        }
    }

    fn opened(&self, text: &str) -> Option<String> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let mut bytes = from_hex(text)?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::empty(), sealed).ok()?;
        String::from_utf8(plain.to_vec()).ok()
    }
}

const RANDOM: &str = "the system has random numbers";

fn hex<'b>(bytes: impl Iterator<Item = &'b u8>) -> String {
    use std::fmt::Write as _;
    bytes.fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of lower-case hex.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use stemma_domain::value::PrincipalName;

    use super::*;

    #[test]
    fn a_sealed_cursor_is_read_by_its_log_alone_and_tells_nothing() {
        let (ours, others) = (Cursors::of(&[1; 32]), Cursors::of(&[2; 32]));
        let plain = "0123456789abcdef68696464656e206e616d65";
        let cursor: Cursor = plain.parse().unwrap();
        let nina = Sight::Of(PrincipalName::new("nina").unwrap());
        let sealed = ours.told(&cursor, &nina);
        assert_eq!(ours.read(&sealed), Some(cursor.clone()));
        assert!(!sealed.contains(&plain[16..]));
        // Twice the same is not seen to be the same.
        assert_ne!(ours.told(&cursor, &nina), sealed);
        // For another log it is a cursor of some other list.
        assert_ne!(others.read(&sealed), Some(cursor.clone()));
        let mut broken = sealed.clone();
        let last = if broken.ends_with('0') { "1" } else { "0" };
        broken.replace_range(broken.len() - 1.., last);
        assert_ne!(ours.read(&broken), Some(cursor.clone()));

        assert_eq!(ours.told(&cursor, &Sight::Everything), plain);
        assert_eq!(ours.read(plain), Some(cursor));
        for bad in ["", "0", "zz", "A0", &"0".repeat(5000)] {
            assert_eq!(ours.read(bad), None, "{bad}");
        }
    }
}
