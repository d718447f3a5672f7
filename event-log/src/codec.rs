//! Fixed-width little-endian numbers, read and written in one place.
//!
//! Invariant: reading never panics on outside bytes; it returns `None` at the end.

/// Reads fields one after the other from bytes that may end too early.
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next field starts.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
}

/// The first eight bytes of a digest as a number: what the indexes sort by.
pub(crate) fn prefix_u64(bytes: &[u8; 32]) -> u64 {
    u64::from_le_bytes(
        *bytes
            .first_chunk()
            .expect("a digest has more than eight bytes"),
    )
}

/// A length that was checked against a limit below 4 GiB before.
pub(crate) fn to_u32(count: usize) -> u32 {
    u32::try_from(count).expect("lengths are checked against limits below 4 GiB")
}

/// A file offset or count as an index into memory.
pub(crate) fn to_usize(count: u64) -> usize {
    usize::try_from(count).expect("the log is built for 64-bit machines")
}

/// The next multiple of `unit` at or above `count`.
pub(crate) fn round_up(count: u64, unit: u64) -> u64 {
    count.div_ceil(unit) * unit
}

/// Writes `bytes` as lower-case hexadecimal digits.
pub(crate) fn write_hex(bytes: &[u8], into: &mut impl std::fmt::Write) -> std::fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for part in bytes.chunks(32) {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(part) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        let digits = std::str::from_utf8(&digits[..2 * part.len()]);
        into.write_str(digits.map_err(|_| std::fmt::Error)?)?;
    }
    Ok(())
}

/// The bytes of exactly `2 * N` lower-case hexadecimal digits.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// The value of one lower-case hexadecimal digit.
pub(crate) fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
