//! The charts: phases, throughput, troubles and memory over the same time axis, one below the other.
//! Drawn as inline SVG; `scale` finds the ticks.

use maud::{Markup, html};

use super::super::figures::{bytes, count, seconds};
use super::super::series::{Rate, Sample};
use super::super::{FinalReport, PhaseSpan};
use super::scale::{amount, moment, ticks, time_step};
use crate::events::PhaseOutcome;

/// The drawing's own units; the page scales them.
const WIDTH: f64 = 1000.0;
/// Left of the axis: names and numbers.
const LEFT: f64 = 118.0;
/// Right of the last moment.
const RIGHT: f64 = 96.0;
/// Height of a chart's field.
const FIELD: f64 = 130.0;
/// Above the field.
const TOP: f64 = 12.0;
/// Below the field: the moments.
const BOTTOM: f64 = 22.0;
/// Height of a phase's line.
const ROW: f64 = 24.0;
/// A shorter bar could not be seen.
const BAR_WIDTH_MIN: f64 = 2.0;
/// With fewer intervals a curve says nothing that the figures do not.
const RATES_MIN: usize = 3;

/// A curve: its name, its class, its values over seconds.
struct Curve {
    name: &'static str,
    class: &'static str,
    points: Vec<(f64, f64)>,
}

/// Everything over time.
pub fn over_time(report: &FinalReport) -> Markup {
    let timeline = &report.facts.timeline;
    if timeline.is_empty() {
        return html! {};
    }
    let last = timeline
        .iter()
        .map(|span| span.started_secs + span.seconds)
        .fold(report.facts.elapsed_secs, f64::max)
        .max(0.01);
    let axis = Axis { seconds: last };
    let rates = report.facts.series.rates();
    html! {
        section {
            h2 { "Over time" }
            (phases(timeline, &axis))
            @if rates.len() >= RATES_MIN {
                (throughput(&rates, &axis))
                (octets(&rates, &axis))
                (troubles(&rates, &axis))
                (memory(report.facts.series.samples(), &axis))
            } @else {
                p.note { "The run was too short for curves." }
            }
        }
    }
}

struct Axis {
    seconds: f64,
}

impl Axis {
    fn x(&self, at_secs: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (at_secs / self.seconds).clamp(0.0, 1.0)
    }

    /// Lines and moments from `top` to `bottom`.
    fn drawn(&self, top: f64, bottom: f64) -> Markup {
        let step = time_step(self.seconds, 7);
        let last = (self.seconds / step + 0.000_001).floor() as u32;
        html! {
            @for tick in 0..=last {
                @let x = self.x(f64::from(tick) * step);
                line.grid x1=(unit(x)) x2=(unit(x)) y1=(unit(top)) y2=(unit(bottom)) {}
                text x=(unit(x)) y=(unit(bottom + 15.0)) text-anchor="middle" { (moment(f64::from(tick) * step, step)) }
            }
        }
    }
}

/// A length with one digit behind the point.
fn unit(value: f64) -> String {
    format!("{value:.1}")
}

fn phases(timeline: &[PhaseSpan], axis: &Axis) -> Markup {
    let bottom = TOP + ROW * timeline.len() as f64;
    let view = format!("0 0 {WIDTH} {}", bottom + BOTTOM);
    html! {
        figure {
            figcaption { "Phases" }
            svg viewBox=(view) role="img" aria-label="when each phase began and ended" {
                (axis.drawn(TOP, bottom))
                @for (row, span) in timeline.iter().enumerate() {
                    @let y = TOP + ROW * row as f64;
                    @let x = axis.x(span.started_secs);
                    @let width = (axis.x(span.started_secs + span.seconds) - x).max(BAR_WIDTH_MIN);
                    text.name x=(unit(LEFT - 10.0)) y=(unit(y + 16.0)) text-anchor="end" { (span.phase.name()) }
                    @let class = match span.outcome {
                        Some(PhaseOutcome::Done) => "bar good",
                        Some(PhaseOutcome::Skipped) => "bar idle",
                        Some(PhaseOutcome::Failed) => "bar bad",
                        None => "bar mixed",
                    };
                    rect class=(class) x=(unit(x)) y=(unit(y + 4.0)) width=(unit(width)) height=(unit(ROW - 8.0)) rx="3" {}
                    text x=(unit(x + width + 7.0)) y=(unit(y + 16.0)) { (ending(span)) }
                }
            }
        }
    }
}

fn ending(span: &PhaseSpan) -> String {
    match span.outcome {
        Some(PhaseOutcome::Done) => seconds(span.seconds),
        Some(PhaseOutcome::Skipped) => "skipped".to_owned(),
        Some(PhaseOutcome::Failed) => format!("{}, failed", seconds(span.seconds)),
        None => format!("{}, not ended", seconds(span.seconds)),
    }
}

/// A rate holds for the interval before its moment, so the first one begins where the run does.
fn from_the_start(rates: &[Rate], value: fn(&Rate) -> f64) -> Vec<(f64, f64)> {
    let first = rates.first().map(|rate| (0.0, value(rate)));
    first
        .into_iter()
        .chain(rates.iter().map(|rate| (rate.at_secs, value(rate))))
        .collect()
}

fn throughput(rates: &[Rate], axis: &Axis) -> Markup {
    let curve = |name, class, value: fn(&Rate) -> f64| Curve {
        name,
        class,
        points: from_the_start(rates, value),
    };
    let mut curves = vec![
        curve("read", "one", |rate| rate.read_per_sec),
        curve("written", "two", |rate| rate.written_per_sec),
    ];
    if rates.iter().any(|rate| rate.verified_per_sec > 0.0) {
        curves.push(curve("compared", "three", |rate| rate.verified_per_sec));
    }
    chart("Records a second", &curves, axis, amount)
}

fn octets(rates: &[Rate], axis: &Axis) -> Markup {
    let points = from_the_start(rates, |rate| rate.read_bytes_per_sec / MIB);
    if points.iter().all(|(_, value)| *value == 0.0) {
        return html! {};
    }
    let curves = [Curve {
        name: "read",
        class: "one",
        points,
    }];
    chart("MiB a second", &curves, axis, amount)
}

const MIB: f64 = 1024.0 * 1024.0;

fn memory(samples: &[Sample], axis: &Axis) -> Markup {
    let points: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| sample.memory_bytes > 0)
        .map(|sample| (sample.at_secs, sample.memory_bytes as f64 / MIB))
        .collect();
    if points.len() < RATES_MIN {
        return html! {};
    }
    let peak = samples
        .iter()
        .map(|sample| sample.memory_bytes)
        .max()
        .unwrap_or(0);
    let curves = [Curve {
        name: "resident",
        class: "three",
        points,
    }];
    html! {
        (chart("Memory of the worker, MiB", &curves, axis, amount))
        p.note { "Peak " (bytes(peak)) " where it was looked at." }
    }
}

/// Stems: their class, how far beside the moment they stand, what they count.
type Stems = (&'static str, f64, fn(&Rate) -> u64);

/// Rejected records and retries are few and apart: stems, not curves.
fn troubles(rates: &[Rate], axis: &Axis) -> Markup {
    let rejected: u64 = rates.iter().map(|rate| rate.rejected_count).sum();
    let retries: u64 = rates.iter().map(|rate| rate.retry_count).sum();
    if rejected + retries == 0 {
        return html! { p.note { "No record was rejected and no transaction tried again." } };
    }
    let max = rates
        .iter()
        .map(|rate| rate.rejected_count.max(rate.retry_count))
        .max()
        .unwrap_or(1);
    // There is no half record.
    let field = if max < 4 {
        Field {
            step: 1.0,
            lines: max as u32,
        }
    } else {
        Field::new(max as f64)
    };
    let kinds: [Stems; 2] = [
        ("alert", -2.0, |rate| rate.rejected_count),
        ("three", 2.0, |rate| rate.retry_count),
    ];
    html! {
        figure {
            figcaption {
                "Troubles at each moment"
                span.key { span.alert { i {} } "rejected records (" (count(rejected)) ")" }
                span.key { span.three { i {} } "transactions tried again (" (count(retries)) ")" }
            }
            svg viewBox=(field.view()) role="img" aria-label="rejected records and retries over time" {
                (axis.drawn(TOP, TOP + FIELD))
                (field.drawn(amount))
                @for (class, beside, value) in kinds {
                    g class=(class) {
                        @for rate in rates.iter().filter(|rate| value(rate) > 0) {
                            @let x = unit(axis.x(rate.at_secs) + beside);
                            line.stem x1=(x) x2=(x) y1=(unit(TOP + FIELD)) y2=(unit(field.y(value(rate) as f64))) {}
                        }
                    }
                }
            }
        }
    }
}

/// The field of a chart from 0 to a round number.
struct Field {
    step: f64,
    lines: u32,
}

impl Field {
    fn new(max: f64) -> Self {
        let (step, lines) = ticks(max, 4);
        Self { step, lines }
    }

    fn view(&self) -> String {
        format!("0 0 {WIDTH} {}", TOP + FIELD + BOTTOM)
    }

    fn y(&self, value: f64) -> f64 {
        let top = self.step * f64::from(self.lines);
        TOP + FIELD * (1.0 - (value / top).clamp(0.0, 1.0))
    }

    fn drawn(&self, worded: fn(f64) -> String) -> Markup {
        html! {
            @for line in 0..=self.lines {
                @let value = self.step * f64::from(line);
                @let y = self.y(value);
                line.grid x1=(unit(LEFT)) x2=(unit(WIDTH - RIGHT)) y1=(unit(y)) y2=(unit(y)) {}
                text x=(unit(LEFT - 10.0)) y=(unit(y + 4.0)) text-anchor="end" { (worded(value)) }
            }
        }
    }
}

fn chart(title: &str, curves: &[Curve], axis: &Axis, worded: fn(f64) -> String) -> Markup {
    let values = curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(|(_, value)| *value));
    let field = Field::new(values.fold(0.0, f64::max));
    html! {
        figure {
            figcaption {
                (title)
                @if curves.len() > 1 {
                    @for curve in curves {
                        span.key { span class=(curve.class) { i {} } (curve.name) }
                    }
                }
            }
            svg viewBox=(field.view()) role="img" aria-label=(format!("{title} over time")) {
                (axis.drawn(TOP, TOP + FIELD))
                (field.drawn(worded))
                @for curve in curves {
                    g class=(curve.class) { polyline.curve points=(path(curve, axis, &field)) {} }
                }
            }
        }
    }
}

fn path(curve: &Curve, axis: &Axis, field: &Field) -> String {
    curve
        .points
        .iter()
        .map(|(at_secs, value)| format!("{:.1},{:.1}", axis.x(*at_secs), field.y(*value)))
        .collect::<Vec<_>>()
        .join(" ")
}
