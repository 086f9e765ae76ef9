//! JSON by value: members sorted by name, the later of two with one name, exact numbers, texts without their escapes.
//!
//! One pass over the text, without recursion, so that neither depth nor a tree of values costs anything. Strict as RFC 8259,
//! but for one thing: half a surrogate pair, which a JSON text may spell and UTF-8 may not hold, is the three octets that it
//! would have there.

use whimbrel_plugin_api::Result;

use super::{Encoded, FieldLosses, Touched, bad_value, number, put_len};

/// What remembers open arrays and objects; kept from value to value, so that it is not made anew.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    open: Vec<Open>,
    members: Vec<Member>,
    sorted: Vec<u8>,
}

/// An array or object that has begun.
#[derive(Debug)]
struct Open {
    is_object: bool,
    count: usize,
    /// Where its count stands in the octets.
    count_at: usize,
    /// Where its members begin among those of all objects.
    members_from: usize,
}

/// A member of an object, by positions in the octets.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// Of the length of its name.
    from: usize,
    /// Of its value.
    value: usize,
    /// Behind its value.
    to: usize,
}

/// Appends the form of the JSON value that `text` is.
pub(super) fn put(text: &str, losses: FieldLosses, encoded: &mut Encoded) -> Result<()> {
    encoded.nesting.open.clear();
    encoded.nesting.members.clear();
    let mut reader = Reader {
        text,
        at: 0,
        losses,
        encoded,
    };
    reader.read().ok_or_else(|| bad_value("json"))?
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    losses: FieldLosses,
    encoded: &'a mut Encoded,
}

impl<'a> Reader<'a> {
    /// `None` where the text is no JSON.
    fn read(&mut self) -> Option<Result<()>> {
        loop {
            let is_open = match self.next()? {
                b'{' => self.open(true, b'}')?,
                b'[' => self.open(false, b']')?,
                b'"' => {
                    self.encoded.octets.push(b's');
                    self.string()?;
                    false
                }
                first @ (b'-' | b'0'..=b'9') => {
                    if let Err(error) = self.number(first)? {
                        return Some(Err(error));
                    }
                    false
                }
                b't' => self.word("rue", &[b'b', 1])?,
                b'f' => self.word("alse", &[b'b', 0])?,
                b'n' => self.word("ull", b"n")?,
                _ => return None,
            };
            if !is_open && self.is_whole()? {
                return Some(Ok(()));
            }
        }
    }

    /// What comes behind a value: the ends of what it was the last of. Whether nothing is open any more.
    fn is_whole(&mut self) -> Option<bool> {
        loop {
            let Some(open) = self.encoded.nesting.open.last_mut() else {
                self.space();
                return (self.at == self.text.len()).then_some(true);
            };
            open.count += 1;
            let is_object = open.is_object;
            if is_object {
                self.encoded.nesting.members.last_mut()?.to = self.encoded.octets.len();
            }
            match self.next()? {
                b',' if is_object => {
                    self.space();
                    self.name()?;
                    return Some(false);
                }
                b',' => return Some(false),
                b'}' if is_object => self.encoded.close_object(),
                b']' if !is_object => self.encoded.close_array(),
                _ => return None,
            }
        }
    }

    /// Begins an array or object; false if it is empty, and so at its end already.
    fn open(&mut self, is_object: bool, end: u8) -> Option<bool> {
        let octets = &mut self.encoded.octets;
        octets.extend_from_slice(&[if is_object { b'{' } else { b'[' }, 0, 0, 0, 0]);
        let count_at = octets.len() - 4;
        self.space();
        if self.text.as_bytes().get(self.at) == Some(&end) {
            self.at += 1;
            return Some(false);
        }
        let nesting = &mut self.encoded.nesting;
        nesting.open.push(Open {
            is_object,
            count: 0,
            count_at,
            members_from: nesting.members.len(),
        });
        if is_object {
            self.name()?;
        }
        Some(true)
    }

    /// The name of a member, which begins here, and the colon.
    fn name(&mut self) -> Option<()> {
        let from = self.encoded.octets.len();
        (self.next()? == b'"').then_some(())?;
        self.string()?;
        (self.next()? == b':').then_some(())?;
        let value = self.encoded.octets.len();
        self.encoded.nesting.members.push(Member {
            from,
            value,
            to: value,
        });
        Some(())
    }

    fn space(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let space = rest
            .iter()
            .take_while(|octet| matches!(octet, b' ' | b'\t' | b'\n' | b'\r'));
        self.at += space.count();
    }

    /// The next octet that is no space.
    fn next(&mut self) -> Option<u8> {
        self.space();
        let octet = *self.text.as_bytes().get(self.at)?;
        self.at += 1;
        Some(octet)
    }

    fn word(&mut self, rest: &str, form: &[u8]) -> Option<bool> {
        self.text.as_bytes()[self.at..]
            .starts_with(rest.as_bytes())
            .then_some(())?;
        self.at += rest.len();
        self.encoded.octets.extend_from_slice(form);
        Some(false)
    }

    /// The number whose first octet was just read.
    fn number(&mut self, first: u8) -> Option<Result<()>> {
        let text = self.text;
        let from = self.at - 1;
        let rest = text.as_bytes();
        let digits = |at: usize| {
            rest[at..]
                .iter()
                .take_while(|octet| octet.is_ascii_digit())
                .count()
        };
        let mut at = from + usize::from(first == b'-');
        let whole = digits(at);
        // A zero has no digits behind it.
        if whole == 0 || (whole > 1 && rest[at] == b'0') {
            return None;
        }
        at += whole;
        if rest.get(at) == Some(&b'.') {
            let fraction = digits(at + 1);
            (fraction > 0).then_some(())?;
            at += 1 + fraction;
        }
        if matches!(rest.get(at), Some(b'e' | b'E')) {
            at += 1 + usize::from(matches!(rest.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(at);
            (exponent > 0).then_some(())?;
            at += exponent;
        }
        self.at = at;
        let octets = &mut self.encoded.octets;
        octets.push(b'#');
        let begun = octets.len();
        let outcome = number::put_text(&text[from..at], true, octets);
        if self.losses.negative_zero && outcome.is_ok() {
            // Only a zero has nothing but zeros behind its sign.
            let is_negative_zero = octets[begun] == 1 && octets[begun + 1..].iter().all(|octet| *octet == 0);
            if is_negative_zero {
                octets[begun] = 0;
                self.encoded.touched.add(Touched::NEGATIVE_ZERO);
            }
        }
        Some(outcome)
    }

    /// The text whose opening quote was just read: its length in four octets, and its characters.
    fn string(&mut self) -> Option<()> {
        let text = self.text.as_bytes();
        let begun = self.encoded.octets.len() + 4;
        self.encoded.octets.extend_from_slice(&[0; 4]);
        loop {
            let rest = &text[self.at..];
            let plain = rest
                .iter()
                .position(|octet| matches!(octet, b'"' | b'\\' | 0..=0x1f))?;
            self.encoded.octets.extend_from_slice(&rest[..plain]);
            self.at += plain + 1;
            match rest[plain] {
                b'"' => break,
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
        let octets = &mut self.encoded.octets;
        put_len(octets.len() - begun, &mut octets[begun - 4..begun]);
        Some(())
    }

    /// What stands behind a backslash that was just read.
    fn escape(&mut self) -> Option<()> {
        let octet = *self.text.as_bytes().get(self.at)?;
        self.at += 1;
        let plain = match octet {
            b'"' | b'\\' | b'/' => octet,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let unit = self.unit()?;
                self.character(unit)?;
                return Some(());
            }
            _ => return None,
        };
        self.encoded.octets.push(plain);
        Some(())
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        self.at += 4;
        digits
            .iter()
            .try_fold(0, |unit, digit| Some(unit << 4 | (*digit as char).to_digit(16)?))
    }

    /// Appends the character that begins with `unit`; its second half may follow.
    fn character(&mut self, unit: u32) -> Option<()> {
        let mut code = unit;
        if (0xd800..0xdc00).contains(&unit) && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            let behind = self.at;
            self.at += 2;
            let second = self.unit()?;
            if (0xdc00..0xe000).contains(&second) {
                code = 0x1_0000 + ((unit - 0xd800) << 10) + (second - 0xdc00);
            } else {
                self.at = behind;
            }
        }
        if code == 0 && self.losses.nul_removed {
            self.encoded.touched.add(Touched::NUL);
            return Some(());
        }
        let octets = &mut self.encoded.octets;
        match char::from_u32(code) {
            Some(character) => {
                octets.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            // Half a pair: never more than 16 bits.
            None => octets.extend_from_slice(&[
                0xe0 | (code >> 12) as u8,
                0x80 | (code >> 6 & 0x3f) as u8,
                0x80 | (code & 0x3f) as u8,
            ]),
        }
        Some(())
    }
}

impl Encoded {
    fn close_array(&mut self) {
        if let Some(open) = self.nesting.open.pop() {
            put_len(open.count, &mut self.octets[open.count_at..open.count_at + 4]);
        }
    }

    /// Puts the members of the innermost object in order, and leaves the last one of those with the same name.
    fn close_object(&mut self) {
        let Nesting {
            open,
            members,
            sorted,
        } = &mut self.nesting;
        let Some(Open {
            count_at,
            members_from,
            mut count,
            ..
        }) = open.pop()
        else {
            return;
        };
        let octets = &mut self.octets;
        // Behind the length of the name, which says nothing of the order.
        let name = |member: &Member| &octets[member.from + 4..member.value];
        let own = &mut members[members_from..];
        let is_sorted = own.windows(2).all(|pair| name(&pair[0]) < name(&pair[1]));
        if !is_sorted {
            own.sort_unstable_by(|a, b| name(a).cmp(name(b)).then(a.from.cmp(&b.from)));
            sorted.clear();
            count = 0;
            for (index, member) in own.iter().enumerate() {
                let is_last = own.get(index + 1).is_none_or(|next| name(next) != name(member));
                if is_last {
                    sorted.extend_from_slice(&octets[member.from..member.to]);
                    count += 1;
                }
            }
            octets.truncate(count_at + 4);
            octets.extend_from_slice(sorted);
        }
        members.truncate(members_from);
        put_len(count, &mut octets[count_at..count_at + 4]);
    }
}
