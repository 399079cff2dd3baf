//! Real numbers in integers: a kernel does not use floating point.

/// One: 32 binary places.
pub const ONE: u64 = 1 << 32;

/// The binary places that a power is computed from.
const PLACES: usize = 32;

/// 2 to the power of -1/2, -1/4, -1/8 and so on.
const ROOTS: [u64; PLACES] = {
    let mut roots = [0; PLACES];
    let mut square = ONE / 2;
    let mut i = 0;
    while i < PLACES {
        square = (square << 32).isqrt();
        roots[i] = square;
        i += 1;
    }
    roots
};

/// The product of two numbers, one of which is at most [`ONE`].
pub const fn product(a: u64, b: u64) -> u64 {
    ((a as u128 * b as u128) >> 32) as u64
}

/// 2 to the power of `-exponent`.
pub fn power_of_half(exponent: u64) -> u64 {
    let (whole, fraction) = (exponent / ONE, exponent % ONE);
    let mut power = ONE;
    for (i, root) in ROOTS.iter().enumerate() {
        if fraction >> (31 - i) & 1 == 1 {
            power = product(power, *root);
        }
    }
    power.checked_shr(u32::try_from(whole).unwrap_or(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_as_in_floating_point() {
        for x in [0.0, 0.001, 0.25, 0.5, 0.649_21, 1.0, 1.5, 7.643_856, 31.9] {
            let (exact, fixed) = (f64::exp2(-x), power_of_half((x * ONE as f64) as u64) as f64 / ONE as f64);
            assert!((exact - fixed).abs() < 1e-8, "2^-{x} is {exact}, not {fixed}");
        }
        assert_eq!([ONE, 40 * ONE, 1000 * ONE, u64::MAX].map(power_of_half), [ONE / 2, 0, 0, 0]);
    }
}
