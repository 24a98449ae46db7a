//! Numbers as C's `printf` writes them.

/// `value` as by `%.{digits}g`.
pub(super) fn general(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return if value.is_sign_negative() { "-nan".into() } else { "nan".into() };
    }
    if value.is_infinite() {
        return if value < 0.0 { "-inf".into() } else { "inf".into() };
    }
    let scientific = format!("{value:.*e}", digits.max(1) - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let without_zeros = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let digits = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= digits {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.unsigned_abs());
    }
    let decimals = usize::try_from(digits - 1 - exponent).unwrap_or(0);
    without_zeros(&format!("{value:.decimals$}"))
}

/// `value` as an argument of a command: an integer as one, others so that they read back the same.
pub(super) fn argument(value: f64) -> String {
    match integral(value) {
        Some(integer) => integer.to_string(),
        None => general(value, 17),
    }
}

/// A number of Lua that is whole, as one like all others.
#[expect(clippy::cast_precision_loss, reason = "a number of Lua has no more digits")]
pub(super) fn of_lua(whole: i64) -> f64 {
    whole as f64
}

/// The integer that `value` is, if it is one that a number of Lua holds exactly.
pub(super) fn integral(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "it is within the range that both hold")]
    let integer = value as i64;
    (value.trunc() == value && value.abs() <= EXACT).then_some(integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_printf_writes_them() {
        for (value, expected) in [
            (0.1, "0.1"),
            (1e20, "1e+20"),
            (123_456_789.0, "123456789"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-2.5, "-2.5"),
            (0.0, "0"),
            (1e14, "1e+14"),
            (99_999_999_999_999.0, "99999999999999"),
            (0.1 + 0.2, "0.3"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(general(value, 14), expected);
        }
        assert_eq!(argument(0.1), "0.10000000000000001");
        assert_eq!(argument(-3.0), "-3");
        assert_eq!(argument(1e20), "1e+20");
    }
}
