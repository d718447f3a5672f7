//! Cursors as clients hold them.
//!
//! A cursor names the row that a page looked at last. That may be one which whoever asks does not
//! see: a page ends after so many rows, however few of them were shown. Invariant: who does not see
//! everything is given cursors that are sealed, which tell them nothing but their length.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use stemma_domain::access::Sight;
use stemma_event_log::NoteSigner;
use stemma_views::{Cursor, from_hex, hex};

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
        Self::of(&signer.map_or_else(random, |signer| signer.derived(CONTEXT)))
    }

    fn of(key: &[u8; 32]) -> Self {
        let key =
            UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the length it takes");
        Self {
            key: LessSafeKey::new(key),
        }
    }

    /// A cursor for whoever has this sight.
    pub(crate) fn told(&self, cursor: &Cursor, sight: &Sight) -> String {
        if *sight == Sight::Everything {
            return cursor.to_string();
        }
        let nonce: [u8; NONCE_LEN] = random();
        let mut sealed = cursor.to_bytes();
        let of = Nonce::assume_unique_for_key(nonce);
        let done = self
            .key
            .seal_in_place_append_tag(of, Aad::empty(), &mut sealed);
        done.expect("a cursor is shorter than what can be sealed");
        hex(&[&nonce[..], &sealed].concat())
    }

    /// The cursor of a text, sealed or not: it says by itself whether it is of a list. None of a
    /// text that is no cursor.
    pub(crate) fn read(&self, text: &str) -> Option<Cursor> {
        self.opened(text).or_else(|| text.parse().ok())
    }

    fn opened(&self, text: &str) -> Option<Cursor> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let mut bytes = from_hex(text)?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::empty(), sealed).ok()?;
        Cursor::from_bytes(plain)
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.expect("the system has random numbers");
    bytes
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
