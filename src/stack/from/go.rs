//! Values as programs written in Go read them.

use jiff::SignedDuration;

/// As `time.ParseDuration`: `1h30m`, `1.5h`, `300ms`, `-1s`; a bare `0` too.
pub(super) fn duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut total = SignedDuration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = SignedDuration::try_from_secs_f64(number * unit).ok()?;
        total = total.checked_add(part)?;
        rest = &rest[letters..];
    }
    if negative {
        total.checked_neg()
    } else {
        Some(total)
    }
}

/// As `strconv.ParseBool`.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A length of time as a stack file has it, in the largest unit that it is a whole number of; a part of a second counts
/// as one.
pub(super) fn written(duration: SignedDuration) -> String {
    let seconds = duration
        .as_secs()
        .saturating_add(i64::from(duration.subsec_nanos() > 0));
    match seconds {
        0 => "0s".to_owned(),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, seconds) in [
            ("10m", 600),
            ("1h30m", 5400),
            ("1.5h", 5400),
            ("90s", 90),
            ("0", 0),
            ("-0", 0),
            ("-1s", -1),
            ("+2m", 120),
        ] {
            assert_eq!(duration(text), Some(SignedDuration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("300ms"), Some(SignedDuration::from_millis(300)));
        for text in [
            "",
            "10",
            "m",
            "1d",
            "1h m",
            "-",
            "+",
            "--1s",
            "1s-",
            "99999999999999999999h",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn switches_are_read_as_go_reads_them() {
        assert_eq!(["true", "T", "1"].map(boolean), [Some(true); 3]);
        assert_eq!(["FALSE", "f", "0"].map(boolean), [Some(false); 3]);
        assert_eq!(["yes", "on", "", "tRUE"].map(boolean), [None; 4]);
    }

    #[test]
    fn a_length_of_time_is_written_in_whole_units() {
        let told = |milliseconds| written(SignedDuration::from_millis(milliseconds));
        assert_eq!(
            [0, 300, 90_000, 120_000, 5_400_000, 7_200_000].map(told),
            ["0s", "1s", "90s", "2m", "90m", "2h"]
        );
    }
}
