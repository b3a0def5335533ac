//! Amounts of processors and memory, as Kubernetes writes them (its documentation, "Quantity").

use rust_decimal::{Decimal, prelude::ToPrimitive as _};

/// Suffixes of memory, and what each is worth in bytes.
const BYTES: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

/// Thousandths of a processor, rounded up: of `500m`, `2`, `1.5`. None of what is no such amount, or nothing.
pub fn cpu_millis(text: &str) -> Option<u64> {
    match text.strip_suffix('m') {
        Some(millis) => millis.parse().ok().filter(|millis| *millis > 0),
        None => times(text, 1000),
    }
}

/// Bytes, rounded up: of `512Mi`, `4Gi`, `2G`, `1073741824`. None of what is no such amount, or nothing.
pub fn memory_bytes(text: &str) -> Option<u64> {
    let suffix = BYTES
        .iter()
        .find_map(|(suffix, bytes)| Some((text.strip_suffix(suffix)?, *bytes)));
    let (number, bytes) = suffix.unwrap_or((text, 1));
    times(number, bytes)
}

fn times(number: &str, unit: u64) -> Option<u64> {
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let whole = number.parse::<Decimal>().ok()?.checked_mul(Decimal::from(unit))?;
    whole.ceil().to_u64().filter(|amount| *amount > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        let cpu = ["500m", "2", "1.5", ".5", "0", "", "2c", "-1", "1.5m", "1.2.3"].map(cpu_millis);
        let wished = [
            Some(500),
            Some(2000),
            Some(1500),
            Some(500),
            None,
            None,
            None,
            None,
            None,
            None,
        ];
        assert_eq!(cpu, wished);
        let memory = [
            "512Mi",
            "4Gi",
            "2G",
            "1.5Gi",
            "1073741824",
            "512m",
            "4GB",
            "Gi",
            "99999999999999999999Ti",
        ];
        let wished = [
            Some(512 << 20),
            Some(4 << 30),
            Some(2_000_000_000),
            Some(3 << 29),
            Some(1 << 30),
            None,
            None,
            None,
            None,
        ];
        assert_eq!(memory.map(memory_bytes), wished);
    }
}
