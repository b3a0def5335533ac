//! User data as a cloud holds it: bytes, gzipped or not (RFC 1952).

use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// The most that user data may unpack to.
const UNPACKED_MAX: usize = 1024 * 1024;

/// The text of user data, unpacked as cloud-init does.
pub(crate) fn unpack(bytes: &[u8]) -> Result<String, String> {
    let text = if bytes.starts_with(&[0x1f, 0x8b]) {
        let body = body(bytes).ok_or("its gzip header is damaged")?;
        decompress_to_vec_with_limit(body, UNPACKED_MAX).map_err(|error| format!("gzip: {error}"))?
    } else {
        bytes.to_vec()
    };
    String::from_utf8(text).map_err(|_| "it is no text".to_owned())
}

/// What follows the header, up to the checksum and the length.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (header, mut rest) = bytes.split_at_checked(10)?;
    let (method, flags) = (header[2], header[3]);
    if method != 8 {
        return None;
    }
    // FEXTRA, FNAME, FCOMMENT, FHCRC.
    if flags & 4 != 0 {
        let (length, tail) = rest.split_first_chunk()?;
        rest = tail.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for _ in 0..(flags >> 3 & 1) + (flags >> 4 & 1) {
        let end = rest.iter().position(|byte| *byte == 0)?;
        rest = &rest[end + 1..];
    }
    if flags & 2 != 0 {
        rest = rest.get(2..)?;
    }
    rest.get(..rest.len().checked_sub(8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf 'hello\n' | gzip -9 -n`.
    const PLAIN: &str = "1f8b08000000000002ffcb48cdc9c9e7020020303a3606000000";
    /// The same with the name of a file, `a`.
    const NAMED: &str = "1f8b08080000000002ff6100cb48cdc9c9e7020020303a3606000000";

    fn bytes(hexadecimal: &str) -> Vec<u8> {
        hex::decode(hexadecimal).unwrap()
    }

    #[test]
    fn gzip_and_plain_text_are_read_and_nothing_else() {
        for packed in [bytes(PLAIN), bytes(NAMED), b"hello\n".to_vec()] {
            assert_eq!(unpack(&packed).unwrap(), "hello\n");
        }
        for damaged in [&bytes(PLAIN)[..12], &[0x1f, 0x8b, 8], &[0xff, 0xfe]] {
            assert!(unpack(damaged).is_err(), "{damaged:?}");
        }
    }
}
