//! Where a JSON value ends, for texts that were written without white space.
//!
//! A quick look that says yes or does not know: what it passes over, serde_json can parse into a
//! value; what it does not know (white space, `\u`, exponents, great depth) is for serde_json to
//! judge. Invariant: nothing is passed over that is not JSON, or that serde_json would refuse.

/// How deep values may stand in each other; serde_json takes 127.
const DEPTH_MAX: usize = 100;
/// Bytes of a string that are looked at together.
const PIECE_BYTES: usize = 32;
/// Digits of an integer that surely fit 64 bits.
const DIGITS_MAX: usize = 18;
/// Digits before and behind a point that surely make a finite double.
const DECIMALS_MAX: usize = 100;

/// The end of the value that begins at `from`; none where this look cannot tell.
pub(crate) fn end_of_value(text: &[u8], from: usize) -> Option<usize> {
    value(text, from, DEPTH_MAX)
}

fn value(text: &[u8], at: usize, depth_left: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => end_of_string(text, at + 1),
        b'{' => object(text, at + 1, depth_left.checked_sub(1)?),
        b'[' => array(text, at + 1, depth_left.checked_sub(1)?),
        b't' => literal(text, at, b"true"),
        b'f' => literal(text, at, b"false"),
        b'n' => literal(text, at, b"null"),
        _ => number(text, at),
    }
}

fn object(text: &[u8], mut at: usize, depth_left: usize) -> Option<usize> {
    if text.get(at)? == &b'}' {
        return Some(at + 1);
    }
    loop {
        at = literal(text, at, b"\"")?;
        at = end_of_string(text, at)?;
        at = literal(text, at, b":")?;
        at = value(text, at, depth_left)?;
        match text.get(at)? {
            b',' => at += 1,
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

fn array(text: &[u8], mut at: usize, depth_left: usize) -> Option<usize> {
    if text.get(at)? == &b']' {
        return Some(at + 1);
    }
    loop {
        at = value(text, at, depth_left)?;
        match text.get(at)? {
            b',' => at += 1,
            b']' => return Some(at + 1),
            _ => return None,
        }
    }
}

fn literal(text: &[u8], at: usize, wanted: &[u8]) -> Option<usize> {
    text.get(at..)?
        .starts_with(wanted)
        .then_some(at + wanted.len())
}

fn number(text: &[u8], at: usize) -> Option<usize> {
    let start = literal(text, at, b"-").unwrap_or(at);
    let whole = digits(text, start);
    if whole == 0 || (whole > 1 && text[start] == b'0') {
        return None;
    }
    let end = start + whole;
    match text.get(end) {
        Some(b'.') => {
            let behind = digits(text, end + 1);
            let end = end + 1 + behind;
            let is_plain = (1..=DECIMALS_MAX).contains(&behind) && whole <= DECIMALS_MAX;
            (is_plain && !matches!(text.get(end), Some(b'e' | b'E'))).then_some(end)
        }
        Some(b'e' | b'E') => None,
        _ => (whole <= DIGITS_MAX).then_some(end),
    }
}

fn digits(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.iter().take_while(|b| b.is_ascii_digit()).count()
}

/// The place behind the quote that ends the string which goes on here.
fn end_of_string(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += plain_bytes(text.get(at..)?);
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if b"\"\\/bfnrt".contains(text.get(at + 1)?) => at += 2,
            _ => return None,
        }
    }
}

/// How many bytes stand before the first that JSON strings cannot hold as it is: a quote, a
/// backslash, a control character.
pub(crate) fn plain_bytes(text: &[u8]) -> usize {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // Written so that the processor looks at all bytes of a piece at once.
    let is_plain = |piece: &&[u8; PIECE_BYTES]| {
        let specials = piece.iter().map(|byte| u8::from(is_special(*byte)));
        specials.fold(0, |any, one| any | one) == 0
    };
    let (pieces, _) = text.as_chunks::<PIECE_BYTES>();
    let mut at = PIECE_BYTES * pieces.iter().take_while(is_plain).count();
    let (words, rest) = text[at..].as_chunks::<8>();
    for word in words {
        let found = special_bits(u64::from_le_bytes(*word));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let found = rest.iter().position(|byte| is_special(*byte));
    at + found.unwrap_or(rest.len())
}

/// The highest bit of the first of eight bytes that is special, if one is; of the bytes behind it
/// the bits may be wrong.
fn special_bits(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let quotes = word ^ (ONES * u64::from(b'"'));
    let backslashes = word ^ (ONES * u64::from(b'\\'));
    let specials = quotes.wrapping_sub(ONES) & !quotes
        | backslashes.wrapping_sub(ONES) & !backslashes
        | word.wrapping_sub(ONES * u64::from(b' ')) & !word;
    specials & (ONES << 7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn passed(text: &str) -> bool {
        end_of_value(text.as_bytes(), 0) == Some(text.len())
    }

    #[test]
    fn plain_json_is_passed_over_and_all_else_is_left_to_the_parser() {
        for plain in [
            r#"{"a":[1,-2,0.5,-0.25,true,false,null,"ä\n\"\\ 😀"],"b":{},"c":[]}"#,
            r#""""#,
            "0",
            "123456789012345678",
        ] {
            assert!(passed(plain), "{plain}");
            assert!(serde_json::from_str::<Value>(plain).is_ok(), "{plain}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for other in [
            "",
            " 1",
            "1 ",
            "01",
            "-",
            "1.",
            "1e9",
            "1.5e9",
            "1e999",
            "tru",
            "[1,]",
            "{\"a\"}",
            "{\"a\":1,}",
            "[1 ,2]",
            "\"\u{1}\"",
            "\"\\u0041\"",
            "\"\\x\"",
            "\"open",
            "{a:1}",
            "12345678901234567890",
            deep.as_str(),
        ] {
            assert!(!passed(other), "{other}");
        }
    }

    #[test]
    fn the_first_byte_that_is_not_plain_is_found_wherever_it_stands() {
        for special in [b'"', b'\\', 0, 0x1f] {
            for length in 0..100_usize {
                for at in 0..length {
                    let mut text = vec![b'~'; length];
                    text[at] = special;
                    assert_eq!(plain_bytes(&text), at, "{special} of {length}");
                }
                assert_eq!(plain_bytes(&vec![0xc3; length]), length);
                assert_eq!(plain_bytes(&vec![b' '; length]), length);
                assert_eq!(plain_bytes(&vec![0x7f; length]), length);
            }
        }
    }

    proptest! {
        /// Bytes of JSON thrown together: what is passed over can be parsed, and ends there.
        #[test]
        fn what_is_passed_over_can_be_parsed(parts in prop::collection::vec(
            prop::sample::select(vec!["{", "}", "[", "]", ",", ":", "\"", "\"a\"", "1", "-", "0", ".",
                "e5", "true", "null", "\\", "n", "u00e4", "\u{1}", "ä", " ", "9999999999"]), 0..24)) {
            let text = parts.concat();
            if let Some(end) = end_of_value(text.as_bytes(), 0) {
                prop_assert!(serde_json::from_str::<Value>(&text[..end]).is_ok(), "{}", &text[..end]);
            }
        }
    }
}
