//! Making pack files before they are needed, and their runs once they are full.
//!
//! Invariant: a pack file that gets its name has its planned length and is synced, so that no sync
//! of an append has to change its length.

use std::io;
use std::sync::Arc;

use crate::index::Slot;
use crate::pack::{PackHeader, Run};
use crate::storage::{Directory, Storage, StorageFile, remove_if_there};
use crate::vault::{Vault, lock};

const ZEROS_BYTES: usize = 1024 * 1024;
/// Bytes written ahead that are synced at a time: a sync of the blob that is being stored meanwhile
/// waits for those that the disk has before it.
const AHEAD_BYTES: u64 = 4 * 1024 * 1024;

/// The pack that is appended to.
pub(crate) struct Active {
    pub(crate) number: u32,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) end: u64,
    pub(crate) planned_bytes: u64,
    /// Over the digests of all its blob entries.
    pub(crate) chain: blake3::Hasher,
    pub(crate) count: u64,
    /// Its blobs with their lengths, for its run.
    pub(crate) entries: Vec<(Slot, u32)>,
}

/// A pack file that is ready to get its name.
pub(crate) struct Prepared {
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) temporary: String,
    pub(crate) number: u32,
    pub(crate) planned_bytes: u64,
}

/// Writes the run of a pack that was sealed.
pub(crate) fn save_run(vault: &Vault, pack: u32, chain: &[u8; 32], entries: &[(Slot, u32)]) {
    let _runs = lock(&vault.run_files);
    let Some(state) = vault.packs.state(pack) else {
        return;
    };
    let live: Vec<_> = entries
        .iter()
        .filter(|(slot, _)| vault.index.contains(slot))
        .collect();
    let mut seal = [0; 16];
    seal.copy_from_slice(&chain[..16]);
    let live_bytes = live.iter().map(|(_, len)| u64::from(*len)).sum();
    let slots = live.iter().map(|(slot, _)| *slot).collect();
    let mut run = Run {
        pack,
        live_bytes,
        dead_bytes: state.dead_bytes,
        seal,
        slots,
    };
    if let Err(error) = run.save(&*vault.storage, &Vault::temporary()) {
        tracing::warn!(pack, %error, "run could not be written");
    }
}

/// Writes a pack file of its planned length, all zeros behind the header, and syncs it.
pub(crate) fn prepare(vault: &Vault, number: u32, planned_bytes: u64) -> io::Result<Prepared> {
    let temporary = Vault::temporary();
    let file = vault.storage.create(&temporary)?;
    let write = || {
        let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(planned_bytes).unwrap_or(ZEROS_BYTES))];
        let mut at = 0;
        while at < planned_bytes {
            let n = size(&zeros).min(planned_bytes - at);
            file.write_at(&zeros[..usize::try_from(n).expect("at most a MiB")], at)?;
            at += n;
            if at.is_multiple_of(AHEAD_BYTES) {
                file.sync()?;
            }
        }
        file.write_at(
            &PackHeader {
                number,
                planned_bytes,
            }
            .encode(),
            0,
        )?;
        file.sync()
    };
    if let Err(error) = write() {
        let _ = vault.storage.remove(&temporary);
        return Err(error);
    }
    Ok(Prepared {
        file,
        temporary,
        number,
        planned_bytes,
    })
}

/// Takes from a pack the name that a rename gave it which failed and may have been carried out.
pub(crate) fn take_back(
    storage: &dyn Storage,
    packs: &dyn Directory,
    name: &str,
) -> io::Result<()> {
    remove_if_there(storage, name)?;
    packs.sync()
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory fits 64 bits")
}
