//! Segments taken apart, changed by whoever can write the files, and put together again with every
//! checksum right. Written from `docs/format/event-log.md`, not from the code.

use sha2::{Digest, Sha256};
use stemma_event_log::{MemoryStorage, Storage};

const HEADER: usize = 4096;
const STATE: usize = 2128;
const SEAL: usize = 120;

/// A segment in parts.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) name: String,
    header: Vec<u8>,
    pub(crate) groups: Vec<Group>,
    seal: Option<Vec<u8>>,
    bytes: usize,
}

/// A group in parts: each record with its length, checksum and digest.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) first: u64,
    pub(crate) records: Vec<Vec<u8>>,
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes[at..at + part.len()].copy_from_slice(part);
}

/// Puts the checksum over all but the last four bytes there.
fn checksum(part: &mut [u8]) {
    let (covered, last) = part.split_at_mut(part.len() - 4);
    last.copy_from_slice(&crc32c::crc32c(covered).to_le_bytes());
}

/// The names of all segments, in order.
pub(crate) fn names(storage: &MemoryStorage) -> Vec<String> {
    let files = storage.list().unwrap().into_iter().map(|file| file.name);
    let is_segment = |name: &String| name.starts_with("000") && name.ends_with(".segment");
    let mut names: Vec<String> = files.filter(is_segment).collect();
    names.sort();
    names
}

/// Takes all segments of a log apart.
pub(crate) fn segments(storage: &MemoryStorage) -> Vec<Segment> {
    let apart = |name: String| Segment::of(&storage.bytes_of(&name).unwrap(), name);
    names(storage).into_iter().map(apart).collect()
}

impl Segment {
    fn of(bytes: &[u8], name: String) -> Self {
        let (mut at, mut groups) = (HEADER, Vec::new());
        while bytes.get(at..at + 4) == Some(b"SGRP") {
            let (end, first) = (at + u32_at(bytes, at + 4) as usize, u64_at(bytes, at + 16));
            let (mut record, mut records) = (at + 40, Vec::new());
            while record < end {
                let behind = record + 8 + u32_at(bytes, record) as usize + 32;
                records.push(bytes[record..behind].to_vec());
                record = behind;
            }
            groups.push(Group { first, records });
            at = end.next_multiple_of(8);
        }
        let is_sealed = bytes.get(at..at + 4) == Some(b"SEAL");
        Self {
            name,
            header: bytes[..HEADER].to_vec(),
            groups,
            seal: is_sealed.then(|| bytes[at..at + SEAL].to_vec()),
            bytes: bytes.len(),
        }
    }

    /// The file, with every group at its place and every checksum right; and where the last group
    /// or the seal ends.
    pub(crate) fn whole(&self) -> (Vec<u8>, usize) {
        let mut out = self.header.clone();
        let tag = self.header[16..20].to_vec();
        checksum(&mut out);
        for group in &self.groups {
            let (at, records) = (out.len(), group.records.concat());
            let mut header = b"SGRP".to_vec();
            header.extend_from_slice(&(40 + records.len() as u32).to_le_bytes());
            header.extend_from_slice(&(group.records.len() as u32).to_le_bytes());
            header.extend_from_slice(&tag);
            header.extend_from_slice(&group.first.to_le_bytes());
            header.extend_from_slice(&(at as u64).to_le_bytes());
            header.extend_from_slice(&[0; 8]);
            checksum(&mut header);
            out.extend_from_slice(&header);
            out.extend_from_slice(&records);
            out.resize(out.len().next_multiple_of(8), 0);
        }
        if let Some(seal) = &self.seal {
            let (at, mut seal) = (out.len() as u64, seal.clone());
            put(&mut seal, 24, &at.to_le_bytes());
            checksum(&mut seal);
            out.extend_from_slice(&seal);
        }
        let end = out.len();
        if self.seal.is_none() {
            out.resize(out.len().max(self.bytes), 0);
        }
        // The planned size, where more stands in it now.
        let planned = u64_at(&out, 32).max(end as u64);
        put(&mut out, 32, &planned.to_le_bytes());
        checksum(&mut out[..HEADER]);
        (out, end)
    }

    /// Where a record of a group stands in the file.
    pub(crate) fn place(&self, group: usize, record: usize) -> u64 {
        let before = self.groups[..group].iter().map(|group| {
            let records: usize = group.records.iter().map(Vec::len).sum();
            (40 + records).next_multiple_of(8)
        });
        let within = self.groups[group].records[..record].iter().map(Vec::len);
        (HEADER + before.sum::<usize>() + 40 + within.sum::<usize>()) as u64
    }

    /// Where a group stands in the file.
    pub(crate) fn place_of_group(&self, group: usize) -> u64 {
        self.place(group, 0) - 40
    }
}

/// Gives a record the digest and the checksum that fit its body.
pub(crate) fn close(record: &mut [u8]) {
    let body = record.len() - 32;
    let digest = *blake3::hash(&record[8..body]).as_bytes();
    put(record, body, &digest);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[8..]);
    put(record, 4, &checksum.to_le_bytes());
}

pub(crate) fn set_position(record: &mut [u8], position: u64) {
    put(record, 8 + 4, &position.to_le_bytes());
    close(record);
}

/// Another payload of the same length.
pub(crate) fn rewrite(record: &mut [u8]) {
    let last = record.len() - 32 - 1;
    record[last] ^= 1;
    close(record);
}

/// The name of the record's stream, which is no UUID.
fn stream_of(record: &[u8]) -> Vec<u8> {
    let (flags, revision) = (record[9], u64_at(record, 8 + 12));
    let mut at = 8 + 64 + if revision > 0 { 32 } else { 0 };
    for (flag, bytes) in [(1, 64), (2, 41), (4, 8)] {
        at += if flags & flag > 0 { bytes } else { 0 };
    }
    record[at + 1..at + 1 + usize::from(record[at])].to_vec()
}

/// What a log says of all that came before a place.
#[derive(Debug, Clone)]
struct State {
    end: u64,
    time: [u8; 8],
    digest: [u8; 32],
    peaks: Vec<(u32, [u8; 32])>,
}

fn parent(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new_with_prefix([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

impl State {
    fn push(&mut self, record: &[u8]) {
        self.digest.copy_from_slice(&record[record.len() - 32..]);
        self.time.copy_from_slice(&record[28..36]);
        self.end += 1;
        let leaf = Sha256::new_with_prefix([0]).chain_update(self.digest);
        let mut top = (0, leaf.finalize().into());
        while let Some((level, left)) = self.peaks.last().copied()
            && level == top.0
        {
            self.peaks.pop();
            top = (level + 1, parent(&left, &top.1));
        }
        self.peaks.push(top);
    }

    fn root(&self) -> [u8; 32] {
        let peaks = self.peaks.iter().rev().map(|(_, peak)| *peak);
        peaks
            .reduce(|right, left| parent(&left, &right))
            .unwrap_or_else(|| Sha256::digest(b"").into())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = self.end.to_le_bytes().to_vec();
        out.extend_from_slice(&self.time);
        out.extend_from_slice(&self.digest);
        out.extend_from_slice(&self.root());
        out.extend(self.peaks.iter().flat_map(|(_, peak)| peak));
        out.resize(STATE, 0);
        out
    }
}

/// Writes the whole log anew so that everything in it fits: positions, links, digests, states,
/// roots, seals, names, and the head mark where there is one. Indexes are taken away.
pub(crate) fn rechain(storage: &MemoryStorage, mut segments: Vec<Segment>) {
    for file in storage.list().unwrap() {
        if file.name.ends_with(".segment") || file.name.starts_with("index/") {
            storage.remove(&file.name).unwrap();
        }
    }
    let mut state = State {
        end: 0,
        time: i64::MIN.to_le_bytes(),
        digest: [0; 32],
        peaks: Vec::new(),
    };
    let mut streams = std::collections::HashMap::<Vec<u8>, (u64, [u8; 32])>::new();
    let mut stands = (0, 0);
    for segment in &mut segments {
        let first = state.end;
        put(&mut segment.header, 40, &state.encode());
        for group in &mut segment.groups {
            group.first = state.end;
            for record in &mut group.records {
                put(record, 12, &state.end.to_le_bytes());
                put(record, 40, &state.digest);
                let stream = streams.entry(stream_of(record)).or_default();
                put(record, 20, &stream.0.to_le_bytes());
                if stream.0 > 0 {
                    put(record, 72, &stream.1);
                }
                close(record);
                state.push(record);
                *stream = (stream.0 + 1, state.digest);
            }
        }
        if let Some(seal) = &mut segment.seal {
            put(seal, 8, &first.to_le_bytes());
            put(seal, 16, &state.end.to_le_bytes());
            put(seal, 32, &state.time);
            put(seal, 40, &state.digest);
            put(seal, 72, &state.root());
        }
        let (bytes, end) = segment.whole();
        storage.put_file(&format!("{first:020}.segment"), bytes);
        stands = (first, end as u64);
    }
    if let Some(mut mark) = storage.bytes_of("head") {
        put(&mut mark, 32, &stands.0.to_le_bytes());
        put(&mut mark, 40, &stands.1.to_le_bytes());
        put(&mut mark, 48, &state.encode());
        checksum(&mut mark);
        storage.put_file("head", mark);
    }
}
