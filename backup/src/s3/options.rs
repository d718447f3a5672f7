//! Where a store of objects is, and what opens it.
//!
//! Invariant: no `Debug`, message or log shows the secret.

use std::time::Duration;

/// Longest prefix of names, in bytes; S3 takes 1,024 of a whole name.
const PREFIX_BYTES_MAX: usize = 512;

/// How a bucket stands in URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlStyle {
    /// In the path, which every store understands.
    Path,
    /// Before the host's name.
    Host,
}

/// A bucket and how to get at it.
#[derive(Clone)]
pub struct S3Options {
    /// The store, such as `https://s3.eu-central-1.amazonaws.com`; `http` where nobody listens.
    pub endpoint: String,
    /// Its region, which goes into signatures.
    pub region: String,
    /// The bucket, which must be there.
    pub bucket: String,
    /// What names of files are put behind, with no `/` at either end; empty for none.
    pub prefix: String,
    /// How the bucket stands in URLs.
    pub url_style: UrlStyle,
    /// Who asks.
    pub access_key: String,
    /// What requests are signed with.
    pub secret_key: String,
    /// Goes with keys that hold for a while; none for others.
    pub session_token: Option<String>,
    /// Names this process, in the lock, as no other is named.
    pub holder: String,
    /// After so long without a word of it another takes a lock over; 120 s.
    pub lease: Duration,
}

impl std::fmt::Debug for S3Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Why options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum S3OptionsError {
    /// The store's address is none.
    #[error("the store's address is no URL of http or https without user, query or fragment")]
    Endpoint,
    /// The bucket's name is none.
    #[error("the bucket has no name that a bucket can have")]
    Bucket,
    /// The prefix cannot stand before names.
    #[error(
        "the part behind the bucket is at most {PREFIX_BYTES_MAX} bytes of letters, digits and - _ . ="
    )]
    Prefix,
    /// There is no key, or no secret.
    #[error("there is no key to sign requests with")]
    NoKey,
    /// The lease is too short to be kept.
    #[error("the lease is shorter than a second")]
    Lease,
}

impl S3Options {
    /// Checks what can be checked without asking the store.
    pub(crate) fn check(&self) -> Result<(), S3OptionsError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if !(1..=255).contains(&self.bucket.len()) || !self.bucket.bytes().all(plain) {
            return Err(S3OptionsError::Bucket);
        }
        let is_part = |part: &str| {
            let is_plain = part.bytes().all(|b| plain(b) || b == b'=');
            !part.is_empty() && part != "." && part != ".." && is_plain
        };
        let is_prefix = self.prefix.is_empty() || self.prefix.split('/').all(is_part);
        if !is_prefix || self.prefix.len() > PREFIX_BYTES_MAX {
            return Err(S3OptionsError::Prefix);
        }
        if self.access_key.is_empty() || self.secret_key.is_empty() {
            return Err(S3OptionsError::NoKey);
        }
        if self.lease < Duration::from_secs(1) {
            return Err(S3OptionsError::Lease);
        }
        Ok(())
    }
}
