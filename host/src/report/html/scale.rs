//! Axes: where the ticks are, and what stands beside them.
//! Ticks are at 1, 2 or 5 times a power of ten, of times at what a clock has.

/// Ticks of an axis from 0 to at least `max`: their distance and how many.
pub fn ticks(max: f64, wanted: u32) -> (f64, u32) {
    let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
    let rough = max / f64::from(wanted.max(1));
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999_999)
        .unwrap_or(10.0 * power);
    (step, (max / step - 0.000_001).ceil().max(1.0) as u32)
}

/// Seconds between ticks of a time axis that is `seconds` long: it ends where the run ends, not at a tick.
pub fn time_step(seconds: f64, wanted: u32) -> f64 {
    const STEPS: [f64; 16] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0,
        21_600.0, 86_400.0,
    ];
    let rough = seconds / f64::from(wanted.max(1));
    if rough < 0.5 {
        return ticks(seconds, wanted).0;
    }
    STEPS
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or_else(|| (rough / 86_400.0).ceil() * 86_400.0)
}

/// A moment on a time axis whose ticks are `step` seconds apart.
pub fn moment(seconds: f64, step: f64) -> String {
    let whole = seconds.round() as u64;
    if seconds == 0.0 {
        "0".to_owned()
    } else if step < 1.0 {
        format!("{} s", short(seconds))
    } else if step < 60.0 && seconds < 60.0 {
        format!("{whole} s")
    } else if step < 60.0 {
        format!("{}:{:02}", whole / 60, whole % 60)
    } else if seconds < 3_600.0 {
        format!("{} min", whole / 60)
    } else if whole.is_multiple_of(3_600) {
        format!("{} h", whole / 3_600)
    } else {
        format!("{} h {:02}", whole / 3_600, whole % 3_600 / 60)
    }
}

/// A count beside an axis: `250`, `1.5 k`, `20 M`.
pub fn amount(value: f64) -> String {
    for (limit, unit) in [(1e9, " G"), (1e6, " M"), (1e3, " k")] {
        if value >= limit {
            return format!("{}{unit}", short(value / limit));
        }
    }
    short(value)
}

fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        for max in [0.001, 0.3, 1.0, 7.0, 99.0, 100.0, 101.0, 123_456.0, 9.9e11] {
            let (step, count) = ticks(max, 4);
            assert!(
                step * f64::from(count) >= max * 0.999_999,
                "{max}: {step} x {count}"
            );
            assert!((1..=8).contains(&count), "{max}: {count}");
            let digit = step / 10_f64.powf(step.log10().floor() + 1e-9);
            assert!(
                [1.0, 2.0, 5.0, 10.0]
                    .iter()
                    .any(|round| (digit - round).abs() < 1e-6),
                "{max}: {step}"
            );
        }
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(ticks(odd, 4).0, 0.5_f64.max(ticks(1.0, 4).0));
        }
    }

    #[test]
    fn times_have_the_steps_of_a_clock() {
        assert_eq!(time_step(0.8, 6), 0.2);
        assert_eq!(time_step(5.8, 6), 1.0);
        assert_eq!(time_step(90.0, 6), 15.0);
        assert_eq!(time_step(8_700.0, 6), 1_800.0);
        assert_eq!(time_step(1e7, 6), 20.0 * 86_400.0);
        let shown: Vec<String> = [
            (0.4, 0.2),
            (30.0, 15.0),
            (75.0, 15.0),
            (1_800.0, 1_800.0),
            (5_400.0, 1_800.0),
            (7_200.0, 1_800.0),
        ]
        .map(|(at, step)| moment(at, step))
        .to_vec();
        assert_eq!(shown, ["0.4 s", "30 s", "1:15", "30 min", "1 h 30", "2 h"]);
    }

    #[test]
    fn amounts_are_short() {
        let shown = [0.0, 0.25, 250.0, 1_500.0, 20_000_000.0, 3e9].map(amount);
        assert_eq!(shown, ["0", "0.25", "250", "1.5 k", "20 M", "3 G"]);
    }
}
