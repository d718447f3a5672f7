//! What a fuzzer, and the test that replays its corpus, may ask of every decoder of this crate.
//!
//! Checksums are put right first: a fuzzer does not find them, and behind them lies what is to be
//! tried. Each function panics when a decoder does, or when what it read does not come back.

use crate::Digest;
use crate::large::try_large;
use crate::mark::{Mark, Marking};
use crate::pack::{EntryHeader, PackHeader, Run, Seal, entry_checksum};

/// Bytes of the headers of packs, entries and marks.
const HEAD_BYTES: usize = 64;
/// Where the fuzzed entries stand.
const PLACE: (u32, u64) = (3, 4096);

/// Pack headers, entries, seals, index runs, the mark, large blobs: the first byte says which.
pub fn content(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 7 {
        0 => pack_header(bytes),
        1 => entry_header(bytes),
        2 => seal(bytes),
        3 => index_run(bytes),
        4 => mark(bytes),
        5 => try_large(bytes),
        _ => digest(bytes),
    }
}

/// At least a header's bytes, with this checksum put where it stands.
fn with_checksum(bytes: &[u8], at: usize, checksum: impl Fn(&[u8]) -> u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < HEAD_BYTES {
        bytes.resize(HEAD_BYTES, 0);
    }
    let checksum = checksum(&bytes);
    bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn pack_header(bytes: &[u8]) {
    let _ = PackHeader::decode(bytes);
    if let Ok(header) = PackHeader::decode(&with_checksum(bytes, 12, PackHeader::checksum)) {
        assert_eq!(PackHeader::decode(&header.encode()), Ok(header));
    }
}

fn entry(bytes: &[u8]) -> Vec<u8> {
    with_checksum(bytes, 4, |bytes| entry_checksum(bytes, PLACE.0, PLACE.1))
}

fn entry_header(bytes: &[u8]) {
    let _ = EntryHeader::decode(bytes, PLACE.0, PLACE.1);
    if let Ok(header) = EntryHeader::decode(&entry(bytes), PLACE.0, PLACE.1) {
        let again = EntryHeader::decode(&header.encode(PLACE.0, PLACE.1), PLACE.0, PLACE.1);
        let again = again.map(|again| (again.kind, again.group, again.len, again.digest));
        assert_eq!(
            again,
            Ok((header.kind, header.group, header.len, header.digest))
        );
        assert!(header.entry_bytes() >= u64::from(header.len));
    }
}

fn seal(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if bytes.len() > HEAD_BYTES {
        let end = bytes.len().min(HEAD_BYTES + 40);
        let payload = *Digest::of(&bytes[HEAD_BYTES..end]).as_bytes();
        bytes[24..56].copy_from_slice(&payload);
    }
    if let Some(seal) = Seal::decode(&entry(&bytes), PLACE.0, PLACE.1) {
        let again = seal.encode(PLACE.0, PLACE.1);
        assert_eq!(Seal::decode(&again, PLACE.0, PLACE.1), Some(seal));
    }
}

fn index_run(bytes: &[u8]) {
    let _ = Run::decode(bytes);
    let bytes = with_checksum(bytes, 12, |bytes| crc32c::crc32c(&bytes[16..]));
    if let Some(mut run) = Run::decode(&bytes) {
        let again = run.encode();
        assert!(Run::decode(&again).is_some_and(|mut run| run.encode() == again));
    }
}

fn mark(bytes: &[u8]) {
    let _ = Mark::decode(bytes);
    let mut bytes = with_checksum(bytes, 12, |bytes| crc32c::crc32c(&bytes[16..HEAD_BYTES]));
    bytes.truncate(HEAD_BYTES);
    if let Marking::Present(mark) = Mark::decode(&bytes) {
        assert_eq!(Mark::decode(&mark.encode()), Marking::Present(mark));
    }
}

fn digest(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
}
