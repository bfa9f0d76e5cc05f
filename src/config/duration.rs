//! Durations as people write them: `30s`, `6h`, `1h30m`, `250ms`.

/// Milliseconds; negative with a `-` in front. `None` for anything else, or beyond 64 bits.
pub fn parse(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let mut total: i64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            "d" => 24 * 3600 * 1000,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, ms) in [
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("-6h", Some(-21_600_000)),
            ("2d", Some(172_800_000)),
            ("", None),
            ("-", None),
            ("30", None),
            ("s", None),
            ("1.5h", None),
            ("1 h", None),
            ("é", None),
            ("9223372036854775807d", None),
        ] {
            assert_eq!(parse(text), ms, "{text:?}");
        }
    }
}
