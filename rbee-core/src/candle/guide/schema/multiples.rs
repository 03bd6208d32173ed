//! The limits of `multipleOf`.

use serde_json::Value;

use super::{
    super::{error::Error, limits},
    pointer::Pointer,
};

/// The numbers in all `multipleOf` so far, without their decimal points.
#[derive(Debug, Default)]
pub(super) struct Multiples {
    /// Digits and decimal places of each different number.
    different: Vec<(f64, i32)>,
    sum: f64,
}

impl Multiples {
    /// Counts one more.
    pub(super) fn add(&mut self, value: &Value, at: &Pointer) -> Result<(), Error> {
        let (digits, places) = value.as_f64().and_then(split).ok_or_else(|| {
            let (most, places) = (limits::MAX_MULTIPLE, limits::MAX_DECIMALS);
            Error::too_complex(format!(
                "multipleOf at {at} is {value}; without the decimal point it may be at most {most}, with at most {places} \
                 decimal places"
            ))
        })?;
        self.sum += digits;
        if !self.different.contains(&(digits, places)) {
            self.different.push((digits, places));
        }
        let most = limits::MAX_MULTIPLES;
        if self.sum > most || self.common() > most {
            return Err(Error::too_complex(format!(
                "the numbers of all multipleOf up to {at} are too large together: their sum and their \
                 common multiple may be at most {most}; use fewer"
            )));
        }
        Ok(())
    }

    /// The least common multiple, with as many decimal places as the number that has most.
    fn common(&self) -> f64 {
        let places = self.different.iter().map(|(_, places)| *places).max().unwrap_or(0);
        let scaled = self.different.iter().map(|(digits, own)| digits * 10_f64.powi(places - own));
        scaled.fold(1.0, |common, next| common / divisor(common, next) * next)
    }
}

/// The digits of a number as an integer, and how many of them are decimal places; `None` beyond the limits.
fn split(number: f64) -> Option<(f64, i32)> {
    (0..=limits::MAX_DECIMALS).find_map(|places| {
        let scaled = number * 10_f64.powi(places);
        let digits = scaled.round();
        let is_whole = (scaled - digits).abs() < 1e-6 * scaled;
        (is_whole && digits <= limits::MAX_MULTIPLE).then_some((digits, places))
    })
}

/// The greatest common divisor of two integers.
fn divisor(mut a: f64, mut b: f64) -> f64 {
    while b > 0.0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn all(values: &[f64]) -> bool {
        let mut multiples = Multiples::default();
        values.iter().all(|value| multiples.add(&json!(value), &Pointer::default()).is_ok())
    }

    #[test]
    fn numbers_are_limited_alone_and_together() {
        assert!(
            all(&[1_000.0])
                && all(&[0.001])
                && all(&[99.9, 0.1])
                && all(&[0.01; 500])
                && all(&[0.01, 1.0, 5.0])
        );
        assert!(!all(&[1_001.0]) && !all(&[0.12345]) && !all(&[1e-10]));
        assert!(!all(&[101.0, 103.0]) && all(&[1_000.0, 500.0, 250.0]));
        assert!(!all(&[0.0001, 3.0]), "common multiple");
        assert!(!all(&[1_000.0; 11]), "sum");
    }
}
