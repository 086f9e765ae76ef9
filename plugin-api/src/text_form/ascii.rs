//! Short runs of ASCII on the stack, and reading them back octet by octet.
//!
//! Every value of fixed width (a date, a decimal, an identifier) is written into an [`Ascii`] and handed to a
//! [`Sink`] once, so encoding allocates nothing per value. [`Reader`] is the other direction: it accepts what
//! its caller asks for and nothing else. Neighbours: `civil`, `clock`, `interval`, `number`, `octets` use
//! both.

/// Where canonical text goes: a `String`, or the octets of a JSON line.
pub(crate) trait Sink {
    /// Appends text.
    fn text(&mut self, text: &str);
    /// Appends octets that are ASCII.
    fn ascii(&mut self, octets: &[u8]);
}

impl Sink for String {
    fn text(&mut self, text: &str) {
        self.push_str(text);
    }

    fn ascii(&mut self, octets: &[u8]) {
        self.push_str(std::str::from_utf8(octets).expect("the writers of this module produce ASCII only"));
    }
}

impl Sink for Vec<u8> {
    fn text(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }

    fn ascii(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

/// Octets of the longest value written in one piece: a 256-bit decimal has a sign, 78 digits and a point;
/// with scale 76 it has `0.` in front. The next round number.
const ASCII_OCTETS_MAX: usize = 96;

/// At most [`ASCII_OCTETS_MAX`] octets of ASCII.
pub(crate) struct Ascii {
    octets: [u8; ASCII_OCTETS_MAX],
    len: usize,
}

impl Ascii {
    pub(crate) const fn new() -> Self {
        Self {
            octets: [0; ASCII_OCTETS_MAX],
            len: 0,
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    pub(crate) fn push(&mut self, octet: u8) {
        self.octets[self.len] = octet;
        self.len += 1;
    }

    pub(crate) fn extend(&mut self, octets: &[u8]) {
        self.octets[self.len..self.len + octets.len()].copy_from_slice(octets);
        self.len += octets.len();
    }

    /// Appends `count` zeros.
    pub(crate) fn zeros(&mut self, count: usize) {
        self.octets[self.len..self.len + count].fill(b'0');
        self.len += count;
    }

    /// Appends `value` in decimal with at least `width` digits.
    pub(crate) fn padded(&mut self, mut value: u64, width: usize) {
        // 20 digits are the longest `u64`; no caller pads further.
        let mut digits = [b'0'; 20];
        let mut first = digits.len();
        while value > 0 || digits.len() - first < width {
            first -= 1;
            digits[first] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        self.extend(&digits[first..]);
    }

    /// Appends `value` in decimal, with `-` if it is negative.
    pub(crate) fn signed(&mut self, value: i64) {
        if value < 0 {
            self.push(b'-');
        }
        self.padded(value.unsigned_abs(), 1);
    }
}

/// What is left of a text that is being read.
pub(crate) struct Reader<'t> {
    rest: &'t [u8],
}

impl<'t> Reader<'t> {
    pub(crate) const fn new(text: &'t [u8]) -> Self {
        Self { rest: text }
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes `octet` if it is next, and says whether it was.
    pub(crate) fn eat(&mut self, octet: u8) -> bool {
        let is_next = self.peek() == Some(octet);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    /// Takes `octet`, or gives up.
    pub(crate) fn expect(&mut self, octet: u8) -> Option<()> {
        self.eat(octet).then_some(())
    }

    /// Takes a sign if one is next; whether it was a minus, or `None` if there was none.
    pub(crate) fn sign(&mut self) -> Option<bool> {
        if self.eat(b'-') {
            Some(true)
        } else {
            self.eat(b'+').then_some(false)
        }
    }

    /// Takes all digits that are next, perhaps none.
    pub(crate) fn digits(&mut self) -> &'t [u8] {
        let count = self
            .rest
            .iter()
            .take_while(|octet| octet.is_ascii_digit())
            .count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        digits
    }

    /// Takes exactly two digits, as the parts of a time have them.
    pub(crate) fn two_digits(&mut self) -> Option<i64> {
        match self.rest {
            [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] => {
                self.rest = rest;
                Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
            }
            _ => None,
        }
    }

    /// Takes a number of at least `least` digits and hands back its value; `None` past 18 digits, which fit
    /// `i64`.
    pub(crate) fn number(&mut self, least: usize) -> Option<i64> {
        let digits = self.digits();
        (least..=18).contains(&digits.len()).then(|| value_of(digits))
    }

    /// Takes a point and a fraction of a second if a point is next; microseconds. Digits after the sixth must
    /// be zeros, since nothing is rounded.
    pub(crate) fn fraction_micros(&mut self) -> Option<i64> {
        if !self.eat(b'.') {
            return Some(0);
        }
        let digits = self.digits();
        let (kept, beyond) = digits.split_at(digits.len().min(6));
        if kept.is_empty() || beyond.iter().any(|digit| *digit != b'0') {
            return None;
        }
        Some((kept.len()..6).fold(value_of(kept), |value, _| value * 10))
    }
}

/// The value of at most 18 digits.
fn value_of(digits: &[u8]) -> i64 {
    digits
        .iter()
        .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded_and_never_cut() {
        for (value, width, text) in [
            (0, 0, ""),
            (0, 1, "0"),
            (7, 2, "07"),
            (123, 2, "123"),
            (u64::MAX, 1, "18446744073709551615"),
        ] {
            let mut ascii = Ascii::new();
            ascii.padded(value, width);
            assert_eq!(ascii.as_slice(), text.as_bytes());
        }
        let mut ascii = Ascii::new();
        ascii.signed(i64::MIN);
        assert_eq!(ascii.as_slice(), b"-9223372036854775808");
    }

    #[test]
    fn a_fraction_beyond_microseconds_is_refused_unless_it_is_zero() {
        let read = |text: &str| Reader::new(text.as_bytes()).fraction_micros();
        assert_eq!(read(""), Some(0));
        assert_eq!(read(".5"), Some(500_000));
        assert_eq!(read(".000001"), Some(1));
        assert_eq!(read(".123456000"), Some(123_456));
        assert_eq!(read(".1234567"), None);
        assert_eq!(read("."), None);
    }
}
