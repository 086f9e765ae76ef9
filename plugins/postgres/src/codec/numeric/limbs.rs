//! Numbers of up to 320 bits as five limbs, the lowest first.
//!
//! Room for 76 digits and for what it takes to align them with groups of four.

/// Multiplies in place and adds; what goes beyond the last limb is lost, which callers see to.
pub(super) fn multiply_add(limbs: &mut [u64; 5], factor: u64, summand: u64) {
    let mut carry = summand;
    for limb in limbs {
        let value = u128::from(*limb) * u128::from(factor) + u128::from(carry);
        *limb = value as u64;
        carry = (value >> 64) as u64;
    }
}

/// Divides in place and hands back the remainder.
pub(super) fn divide(limbs: &mut [u64; 5], divisor: u64) -> u64 {
    let mut remainder = 0_u64;
    for limb in limbs.iter_mut().rev() {
        let value = u128::from(remainder) << 64 | u128::from(*limb);
        *limb = (value / u128::from(divisor)) as u64;
        remainder = (value % u128::from(divisor)) as u64;
    }
    remainder
}
