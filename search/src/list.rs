//! A list of segments as it stands on disk: the engine's text, and the digest of that text behind it.
//!
//! Lists are not synced when they are replaced, so that a machine that stops may leave one that is
//! empty, torn, or made of two. Invariant: what [`unsealed`] gives was written as one.

/// Hex digits of the digest, and the end of its line.
const SEAL_BYTES: usize = 65;

/// The list with its seal.
pub(crate) fn sealed(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    bytes.extend_from_slice(blake3::hash(text).to_hex().as_bytes());
    bytes.push(b'\n');
    bytes
}

/// The text of a list; none of one that is not as it was written.
pub(crate) fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (text, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL_BYTES)?)?;
    let digest = seal.strip_suffix(b"\n")?;
    let digest = blake3::Hash::from_hex(digest).ok()?;
    (digest == blake3::hash(text)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written_and_no_other_is_read() {
        let text = b"{\"segments\": []}\n";
        let whole = sealed(text);
        assert_eq!(unsealed(&whole), Some(&text[..]));
        assert_eq!(unsealed(&sealed(b"")), Some(&b""[..]));
        for cut in 0..whole.len() {
            assert_eq!(unsealed(&whole[..cut]), None);
        }
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at..].fill(0);
            assert_eq!(unsealed(&torn), None);
        }
    }
}
