//! Public keys of SSH, as the clouds take them.

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};

/// The MD5 fingerprint, sixteen bytes with colons between them.
pub(crate) fn fingerprint(blob: &[u8]) -> String {
    let digest = Md5::digest(blob);
    digest
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

/// The decoded key of an OpenSSH line, if it is one.
pub(crate) fn key_blob(line: &str) -> Option<Vec<u8>> {
    let mut words = line.split_whitespace();
    let kind = words.next()?;
    let known = kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-");
    let blob = STANDARD.decode(words.next()?).ok()?;
    (known && blob.get(4..4 + kind.len()) == Some(kind.as_bytes())).then_some(blob)
}
