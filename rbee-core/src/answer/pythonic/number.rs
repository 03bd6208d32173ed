//! Numbers of Python as JSON.

/// Converts a number: `1_000`, `.5`, `1.`, `1e5`, `+1`, and the integers `0x1f`, `0o17` and `0b1` up to 128 bits.
/// Returns `None` if it is not a number of Python, or is complex.
pub(super) fn to_json(text: &str) -> Option<String> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let underscores_separate = text.split('_').skip(1).all(starts_alphanumeric)
        && text.split('_').rev().skip(1).all(ends_alphanumeric);
    if !underscores_separate {
        return None;
    }
    let text = text.replace('_', "");
    let number = match text.get(..2) {
        Some("0x" | "0X") => integer(&text[2..], 16)?,
        Some("0o" | "0O") => integer(&text[2..], 8)?,
        Some("0b" | "0B") => integer(&text[2..], 2)?,
        _ => decimal(&text)?,
    };
    // Python has no negative zero among integers.
    let sign = if number == "0" { "" } else { sign };
    Some(format!("{sign}{number}"))
}

fn starts_alphanumeric(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn ends_alphanumeric(part: &str) -> bool {
    part.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn integer(digits: &str, radix: u32) -> Option<String> {
    // `from_str_radix` would take a sign, too.
    let signless = starts_alphanumeric(digits);
    signless.then(|| u128::from_str_radix(digits, radix).ok()).flatten().map(|n| n.to_string())
}

fn decimal(text: &str) -> Option<String> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || whole.len() + fraction.map_or(0, str::len) == 0 {
        return None;
    }
    let significant = whole.trim_start_matches('0');
    let is_float = fraction.is_some() || exponent.is_some();
    if !is_float && significant.len() < whole.len() && !significant.is_empty() {
        // Python refuses `007`.
        return None;
    }
    let mut json = if significant.is_empty() { "0" } else { significant }.to_owned();
    if let Some(fraction) = fraction {
        if !digits(fraction) {
            return None;
        }
        json.push('.');
        json.push_str(if fraction.is_empty() { "0" } else { fraction });
    }
    if let Some(exponent) = exponent {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if unsigned.is_empty() || !digits(unsigned) {
            return None;
        }
        json.push('e');
        json.push_str(exponent);
    }
    Some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_python_become_numbers_of_json() {
        for (python, json) in [
            ("0", "0"),
            ("00", "0"),
            ("-0", "0"),
            ("-0.0", "-0.0"),
            ("-12", "-12"),
            ("+3", "3"),
            ("1_000", "1000"),
            ("1_0.5_0", "10.50"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("1.", "1.0"),
            ("007.5", "7.5"),
            ("1e5", "1e5"),
            ("1.5E-3", "1.5e-3"),
            ("2e+2", "2e+2"),
            ("0x1F", "31"),
            ("0xFF_FF", "65535"),
            ("0x_ff", "255"),
            ("-0o17", "-15"),
            ("0b101", "5"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ] {
            assert_eq!(to_json(python).as_deref(), Some(json), "{python}");
            assert!(serde_json::from_str::<f64>(json).is_ok(), "{json}");
        }
    }

    #[test]
    fn other_text_is_not_a_number() {
        for text in [
            "",
            "-",
            "+",
            ".",
            "1__0",
            "_1",
            "1_",
            "1._5",
            "007",
            "1e",
            "1e+",
            "1.2.3",
            "1j",
            "0x",
            "0xg",
            "0x-1",
            "0b2",
            "1-2",
            "--1",
            "e5",
            "0x1ffffffffffffffffffffffffffffffff",
        ] {
            assert_eq!(to_json(text), None, "{text}");
        }
    }
}
