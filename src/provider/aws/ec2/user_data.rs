//! User data as EC2 takes it: base64, and compressed where it would not fit otherwise.

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, GzBuilder};
use secrecy::{ExposeSecret as _, SecretString};

use crate::provider::ProviderError;

/// The most bytes of user data, before base64. Source: EC2 user guide, "Run commands when you launch an EC2 instance".
pub(super) const LIMIT: usize = 16 * 1024;

/// The most bytes of a rendered text that is worth a try: what compresses to a quarter of itself fits, and the text of a
/// cloud-init document does so at least.
pub(super) const RENDERED_LIMIT: usize = 4 * LIMIT;

/// The code of a refusal for its size.
const TOO_LARGE: &str = "user_data_too_large";

/// What to send. A text that fits goes as it is, so that what does not know gzip (Windows) can read it too, and a person can;
/// one that does not is compressed, which cloud-init undoes by itself.
///
/// # Errors
/// [`ProviderError::Rejected`] with `user_data_too_large` when it does not fit even so.
pub(super) fn encode(text: &SecretString) -> Result<String, ProviderError> {
    let plain = text.expose_secret().as_bytes();
    if plain.len() <= LIMIT {
        return Ok(STANDARD.encode(plain));
    }
    // Without a time, so that the same text is the same request: the client token is good for one alone.
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    let packed = gzip.write_all(plain).and_then(|()| gzip.finish());
    let packed = packed.map_err(|error| too_large(format!("it could not be compressed: {error}")))?;
    if packed.len() > LIMIT {
        return Err(too_large(format!(
            "{} bytes, {} when compressed, and EC2 takes {LIMIT}",
            plain.len(),
            packed.len()
        )));
    }
    Ok(STANDARD.encode(packed))
}

fn too_large(why: String) -> ProviderError {
    ProviderError::Rejected {
        code: TOO_LARGE.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    /// Text that does not compress much: a fixed sequence of hex digits.
    fn noise(bytes: usize) -> String {
        let mut state = 1_u64;
        let digits = (0..bytes).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from_digit(u32::try_from(state >> 60).unwrap(), 16).unwrap()
        });
        digits.collect()
    }

    #[test]
    fn what_fits_goes_as_it_is_and_what_does_not_is_compressed() {
        let small = "#cloud-config\n".to_owned() + &"#".repeat(LIMIT - 14);
        let sent = encode(&SecretString::from(small.clone())).unwrap();
        assert_eq!(STANDARD.decode(sent).unwrap(), small.as_bytes());

        let large = small + "#";
        let sent = encode(&SecretString::from(large.clone())).unwrap();
        assert_eq!(
            encode(&SecretString::from(large.clone())).unwrap(),
            sent,
            "the same each time"
        );
        let packed = STANDARD.decode(sent).unwrap();
        assert!(packed.len() <= LIMIT);
        let mut text = String::new();
        GzDecoder::new(packed.as_slice())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, large);
    }

    #[test]
    fn what_does_not_fit_even_compressed_is_refused_and_not_quoted() {
        let text = noise(3 * LIMIT);
        let error = encode(&SecretString::from(text.clone())).unwrap_err();
        assert!(
            matches!(&error, ProviderError::Rejected { code, .. } if code == TOO_LARGE),
            "{error}"
        );
        assert!(!format!("{error:?}").contains(&text[..32]));
    }
}
