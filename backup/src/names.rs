//! How the files of a target are called, as `docs/format/backup.md` says.

use stemma_content_store::Digest;
use stemma_domain::value::TenantName;

/// What a target's file ends in while it is being written.
pub(crate) const UNFINISHED: &str = ".new";

/// Where a data directory is made before it is in its place.
pub(crate) const RESTORING: &str = ".restoring";

/// The directories that hold all files of a backup but its manifest.
pub(crate) const DIRS: [&str; 2] = ["access", "tenants"];

/// The name of the part of a segment that begins at an offset.
pub(crate) fn part_name(dir: &str, first: &str, offset: u64) -> String {
    format!("{dir}/{first}-{offset:020}.part")
}

/// The name of an archive's files but for their endings; archives are numbered from 1 on.
pub(crate) fn archive_stem(dir: &str, number: u64) -> String {
    format!("{dir}/{number:010}")
}

/// The name of a signing key's file.
pub(crate) fn key_name(dir: &str, digest: &Digest) -> String {
    format!("{dir}/signing-key-{}", &digest.to_hex()[..16])
}

/// The digits in the name of a segment's file.
pub(crate) fn segment_digits(name: &str) -> Option<&str> {
    let digits = name.strip_suffix(".segment")?;
    is_digits(digits, 20).then_some(digits)
}

/// Whether a log is identified so.
pub(crate) fn is_log_id(text: &str) -> bool {
    is_hex(text, 32)
}

/// Whether a backup's file below its [directories](DIRS), whole or being written, may be called so.
/// Whatever else stands there is not of a backup.
pub(crate) fn is_of_backup(name: &str) -> bool {
    let name = name.strip_suffix(UNFINISHED).unwrap_or(name);
    let parts: Vec<&str> = name.split('/').collect();
    let (log_id, file) = match parts[..] {
        ["access", log_id, file] => (log_id, file),
        ["tenants", tenant, log_id, file] if TenantName::new(tenant).is_ok() => (log_id, file),
        _ => return false,
    };
    is_log_id(log_id) && is_file(file)
}

/// Whether a name may stand at the top of a directory that is to become a target: a file system has
/// `lost+found`, and what begins with a dot is put there by desktops, snapshots and whatever keeps
/// directories in step. A restore that is under way is neither.
pub(crate) fn is_of_system(name: &str) -> bool {
    name == "lost+found" || (name.starts_with('.') && name != RESTORING)
}

fn is_file(name: &str) -> bool {
    if let Some(part) = name.strip_suffix(".part") {
        let split = part.split_once('-');
        return split.is_some_and(|(first, offset)| is_digits(first, 20) && is_digits(offset, 20));
    }
    if let Some(key) = name.strip_prefix("signing-key-") {
        return is_hex(key, 16);
    }
    let stem = [".blobs", ".index"].map(|end| name.strip_suffix(end));
    stem.into_iter().flatten().any(|stem| is_digits(stem, 10))
}

fn is_digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_hex(text: &str, count: usize) -> bool {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == count && text.bytes().all(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff";
    const FIRST: &str = "00000000000000000000";

    #[test]
    fn what_a_backup_writes_is_told_from_what_others_have() {
        for dir in [format!("access/{ID}"), format!("tenants/default/{ID}")] {
            let stem = archive_stem(&dir, 7);
            for name in [
                part_name(&dir, FIRST, 4200),
                format!("{stem}.blobs"),
                format!("{stem}.index"),
                key_name(&dir, &Digest::of(b"key")),
            ] {
                assert!(is_of_backup(&name), "{name}");
                assert!(is_of_backup(&format!("{name}{UNFINISHED}")), "{name}");
                assert!(!is_of_backup(&format!("{name}.old")), "{name}");
                assert!(!is_of_backup(&format!("more/{name}")), "{name}");
                assert!(!is_of_backup(&name.replace(ID, "log")), "{name}");
            }
        }
        for of_others in [
            "tenants/default/log/00000000000000000000.segment",
            "tenants/default/content/packs/0000000001.pack",
            "access/log/head",
            "access/report.pdf",
            "tenants",
            "",
        ] {
            assert!(!is_of_backup(of_others), "{of_others}");
        }
        assert!(!is_of_backup(&format!("tenants/../{ID}/0000000001.blobs")));
        assert!(!is_of_backup(&format!("tenants/default/{ID}/1.blobs")));
    }

    #[test]
    fn what_puts_itself_into_a_directory_is_told_from_what_people_put_there() {
        for name in ["lost+found", ".DS_Store", ".Trash-1000", ".snapshot"] {
            assert!(is_of_system(name), "{name}");
        }
        for name in [RESTORING, "photos", "lost+found.txt", "stemma.toml", ""] {
            assert!(!is_of_system(name), "{name}");
        }
    }
}
