//! Seeded chance: the same seed, stream and turn give the same number, in whatever order they are asked.

/// A number in 0.0 .. 1.0 for the `turn`-th throw of `stream`.
pub(crate) fn unit(seed: u64, stream: u64, turn: u64) -> f64 {
    (bits(seed, stream, turn) >> 11) as f64 / (1_u64 << 53) as f64
}

/// 64 mixed bits (splitmix64's finaliser over the three inputs).
pub(crate) fn bits(seed: u64, stream: u64, turn: u64) -> u64 {
    mix(mix(mix(seed) ^ stream.rotate_left(32)) ^ turn)
}

/// `length` letters and digits, as in an access token.
pub(crate) fn text(seed: u64, stream: u64, length: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..length as u64)
        .map(|turn| char::from(LETTERS[(bits(seed, stream, turn) % 62) as usize]))
        .collect()
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_throw_falls_the_same_way() {
        assert_eq!(bits(7, 1, 0), bits(7, 1, 0));
        assert_ne!(bits(7, 1, 0), bits(7, 1, 1));
        assert_ne!(bits(7, 1, 0), bits(8, 1, 0));
        assert_eq!(text(7, 1, 20).len(), 20);
    }

    #[test]
    fn throws_are_spread_evenly() {
        let mean = (0..10_000).map(|turn| unit(1, 2, turn)).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
