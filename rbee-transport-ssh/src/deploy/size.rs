//! Sizes as people read them: [`Size`].

use std::fmt;

/// A number of bytes, shown as `412 bytes`, `1.5 MiB` or `38 GiB`.
#[derive(Clone, Copy)]
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let Some((shift, unit)) = UNITS.into_iter().find(|(shift, _)| self.0 >> shift > 0) else {
            return write!(formatter, "{} bytes", self.0);
        };
        let whole = self.0 >> shift;
        let tenths = (((self.0 >> (shift - 10)) & 0x3ff) * 10) >> 10;
        match (whole, tenths) {
            (0..=9, 1..) => write!(formatter, "{whole}.{tenths} {unit}"),
            _ => write!(formatter, "{whole} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn a_size_is_shown_with_its_unit_and_never_rounded_up() {
        let shown = [0, 1023, 1024, 1536, 10 << 20, (10 << 20) - 1, 45 << 20, 3 << 40, u64::MAX]
            .map(|bytes| Size(bytes).to_string());
        let expected = [
            "0 bytes",
            "1023 bytes",
            "1 KiB",
            "1.5 KiB",
            "10 MiB",
            "9.9 MiB",
            "45 MiB",
            "3 TiB",
            "16777215 TiB",
        ];
        assert_eq!(shown, expected);
    }
}
