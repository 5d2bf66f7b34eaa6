//! Sizes as Docker's flags spell them (`512m`, `1g`) and as its tables print them (`12.3MB`).

use std::{fmt, str::FromStr};

/// A size in bytes. Parsed with binary units, as Docker does for memory: `b`, `k`, `m`, `g`, `t`,
/// each with an optional `b` or `ib` after it; bytes where no unit is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

/// A size that cannot be understood or used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error("invalid size: '{0}'")]
    Syntax(String),
    #[error("size '{text}' is out of range: from {least} to {most}")]
    Range { text: String, least: &'static str, most: &'static str },
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse(text, 1024).map(Self)
    }
}

/// Parses a size as Docker does where it counts in decimal units: `10m` are ten million bytes.
pub fn decimal(text: &str) -> Result<u64, SizeError> {
    parse(text, 1000)
}

/// Parses a size; a unit is `step` times the one before it.
fn parse(text: &str, step: u64) -> Result<u64, SizeError> {
    let syntax = || SizeError::Syntax(text.into());
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let unit = match unit.trim_start() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => step,
        "m" | "mb" | "mib" => step.pow(2),
        "g" | "gb" | "gib" => step.pow(3),
        "t" | "tb" | "tib" => step.pow(4),
        _ => return Err(syntax()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| syntax())?;
    let mut bytes = whole.checked_mul(unit).ok_or_else(syntax)?;
    if !fraction.is_empty() {
        // Nine digits are more than any unit can tell apart in practice.
        let digits = &fraction[..fraction.len().min(9)];
        let value: u64 = digits.parse().map_err(|_| syntax())?;
        let scale = 10_u128.pow(u32::try_from(digits.len()).map_err(|_| syntax())?);
        let part = u128::from(value) * u128::from(unit) / scale;
        bytes = bytes.checked_add(u64::try_from(part).map_err(|_| syntax())?).ok_or_else(syntax)?;
    }
    Ok(bytes)
}

/// Three significant digits in decimal units, as `docker images` prints sizes.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
        // In hundredths of the unit, rounded where the number is printed with fewer digits.
        let (mut unit, mut scale) = (0, 1_u128);
        let hundredths = |scale: u128, step: u128| {
            let exact = u128::from(self.0) * 100;
            (exact + scale * step / 2) / scale / step * step
        };
        let rounded = |scale| match hundredths(scale, 1) {
            ..1000 => hundredths(scale, 1),
            1000..10_000 => hundredths(scale, 10),
            _ => hundredths(scale, 100),
        };
        while rounded(scale) >= 100_000 && unit + 1 < UNITS.len() {
            scale *= 1000;
            unit += 1;
        }
        let (whole, part) = (rounded(scale) / 100, rounded(scale) % 100);
        let number = match part {
            0 => whole.to_string(),
            _ => format!("{whole}.{part:02}").trim_end_matches('0').to_owned(),
        };
        f.pad(&format!("{number}{}", UNITS[unit]))
    }
}

/// Four significant digits in binary units, as Docker prints memory.
pub fn binary(bytes: u64) -> String {
    four_digits(bytes, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// Four significant digits in decimal units, as Docker prints what things take on disk together.
pub fn on_disk(bytes: u64) -> String {
    four_digits(bytes, 1000.0, ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

fn four_digits(bytes: u64, step: f64, units: [&str; 7]) -> String {
    let (mut unit, mut value) = (0, bytes as f64);
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = match value {
        ..10.0 => 3,
        ..100.0 => 2,
        ..1000.0 => 1,
        _ => 0,
    };
    let number = format!("{value:.digits$}");
    let number =
        if digits > 0 { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_disk_has_four_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1_984_227, "1.984MB"),
            (12_345_678, "12.35MB"),
            (123_456_789_000, "123.5GB"),
            (2_000_000, "2MB"),
        ] {
            assert_eq!(on_disk(bytes), text);
        }
    }

    #[test]
    fn docker_spellings_are_understood() {
        for (text, bytes) in [
            ("512m", 512 << 20),
            ("1g", 1 << 30),
            ("1.5G", 3 << 29),
            ("64KiB", 64 << 10),
            ("10b", 10),
            ("7", 7),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn decimal_units_are_powers_of_a_thousand() {
        for (text, bytes) in
            [("10m", 10_000_000), ("1.5kB", 1_500), ("2g", 2_000_000_000), ("7", 7)]
        {
            assert_eq!(decimal(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "m", "1x", "1..2g", "-1m", "99999999999999999999", "18446744073709551615k"]
        {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_print_with_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_260_000, "4.26MB"),
            (124_400_000, "124MB"),
            (999_600, "1MB"),
            (1_082_700_000, "1.08GB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn binary_units_print_with_four_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1_192_231, "1.137MiB"),
            (8_343_000_000, "7.77GiB"),
            (512 << 20, "512MiB"),
            (52_500_000, "50.07MiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(binary(bytes), text);
        }
    }
}
