//! Numbers as people read them: thousands apart, octets and times in fitting units.
//! One place, so that the terminal, the pages and the bars say the same.

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 record`, `2 records`.
pub fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// Octets in powers of 1024.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = number as f64;
    if value < 1024.0 {
        return format!("{number} B");
    }
    let mut unit = "B";
    for next in UNITS {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 9.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A length of time: `0.24 s`, `12.3 s`, `4 min 05 s`, `3 h 12 min`.
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    if seconds < 9.995 {
        format!("{seconds:.2} s")
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else if whole < 3_600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60)
    }
}

/// Something each second.
pub fn rate(per_sec: f64) -> String {
    if per_sec < 9.95 {
        format!("{per_sec:.1}/s")
    } else {
        format!("{}/s", count(per_sec.round() as u64))
    }
}

/// With a capital letter, as a line of a page begins.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Names come from outside and may hold characters that steer a terminal, or turn the direction of what follows.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if steers(char) { '\u{fffd}' } else { char })
        .collect()
}

/// Letters of the name of a record among others: enough to know it by, and a line stays one.
const RECORD_CHARS_MAX: usize = 80;

/// What a record is called, in a line or table of many: as [`printable`], and cut where it is long. Keys may have thousands of letters.
pub fn record_label(text: &str) -> String {
    match text.char_indices().nth(RECORD_CHARS_MAX) {
        None => printable(text),
        Some((end, _)) => format!("{}...", printable(&text[..end])),
    }
}

fn steers(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_record_is_cut_where_it_is_long() {
        let name = "\u{fc}".repeat(RECORD_CHARS_MAX);
        assert_eq!(record_label(&name), name);
        assert_eq!(record_label(&format!("{name}x")), format!("{name}..."));
        assert_eq!(record_label("a\u{1b}b"), "a\u{fffd}b");
    }

    #[test]
    fn thousands_are_apart() {
        let texts: Vec<String> = [0, 7, 999, 1_000, 12_345, 999_999, 1_234_567].map(count).to_vec();
        assert_eq!(
            texts,
            ["0", "7", "999", "1,000", "12,345", "999,999", "1,234,567"]
        );
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(2_000, "record"), "2,000 records");
    }

    #[test]
    fn octets_and_times_have_fitting_units() {
        let sizes = [
            0,
            1_023,
            1_024,
            10_239,
            10_240,
            1_048_575,
            5_368_709_120,
            u64::MAX,
        ]
        .map(bytes);
        assert_eq!(
            sizes,
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "10 KiB",
                "10 KiB",
                "1.0 MiB",
                "5.0 GiB",
                "16384 PiB"
            ]
        );
        let times = [0.0, 0.236, 9.996, 59.94, 59.96, 245.0, 3_599.6, 11_540.0].map(seconds);
        assert_eq!(
            times,
            [
                "0.00 s",
                "0.24 s",
                "10.0 s",
                "59.9 s",
                "1 min 00 s",
                "4 min 05 s",
                "1 h 00 min",
                "3 h 12 min"
            ]
        );
        assert_eq!(rate(0.25), "0.2/s");
        assert_eq!(rate(12_345.6), "12,346/s");
    }

    #[test]
    fn what_steers_a_terminal_is_replaced() {
        assert_eq!(
            printable("a\u{1b}[2J\n\u{9b}\u{202e}b\u{2066}é🦆"),
            "a\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}b\u{fffd}é🦆"
        );
    }
}
