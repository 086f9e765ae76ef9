//! Which schedules are due. Knows the time only by what it is told.
//!
//! A time that passed while nobody looked is due once, however many there were; a clock that is set back makes nothing due twice, unless
//! by so much that it was wrong before.

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Schedule;

/// A clock that is set back by more was wrong before, and what was due by it says nothing: waiting until it has caught up would
/// keep every schedule silent, for years if need be. Less than that is a correction.
const SET_BACK_MAX: TimeDelta = TimeDelta::days(1);

/// Schedules with their next times.
pub(super) struct Clock {
    entries: Vec<(Schedule, Option<DateTime<Utc>>)>,
    /// The latest time that was looked at.
    latest: DateTime<Utc>,
}

impl Clock {
    /// Schedules that are looked at from `now` on. One that `before` had as well, with the same times, keeps its next one.
    pub(super) fn new(schedules: &[Schedule], now: DateTime<Utc>, before: Option<&Self>) -> Self {
        let kept = |schedule: &Schedule| {
            let entries = before.iter().flat_map(|clock| &clock.entries);
            entries
                .into_iter()
                .find(|(known, _)| {
                    known.name == schedule.name
                        && known.pattern == schedule.pattern
                        && known.zone == schedule.zone
                })
                .map(|(_, next)| *next)
        };
        let entries = schedules.iter().map(|schedule| {
            let next = kept(schedule).unwrap_or_else(|| schedule.after(now));
            (schedule.clone(), next)
        });
        Self {
            entries: entries.collect(),
            latest: before.map_or(now, |clock| clock.latest.max(now)),
        }
    }

    /// The schedules that are due at `now`, with the times that they were due at; each has a later time afterwards.
    pub(super) fn due(&mut self, now: DateTime<Utc>) -> Vec<(Schedule, DateTime<Utc>)> {
        self.latest = self.latest.max(now);
        let mut due = Vec::new();
        for (schedule, next) in &mut self.entries {
            if let Some(time) = next.filter(|time| *time <= now) {
                due.push((schedule.clone(), time));
                *next = schedule.after(now);
            }
        }
        due
    }

    /// Counts anew from `now` if the clock was wrong until now; whether it was.
    pub(super) fn set_right(&mut self, now: DateTime<Utc>) -> bool {
        let was_wrong = self.latest - now > SET_BACK_MAX;
        if was_wrong {
            for (schedule, next) in &mut self.entries {
                *next = schedule.after(now);
            }
            self.latest = now;
        }
        was_wrong
    }

    /// Each schedule with its next time, in their order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Schedule, Option<DateTime<Utc>>)> {
        self.entries.iter().map(|(schedule, next)| (schedule, *next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Variables, load_schedules};

    fn schedules(patterns: &[&str]) -> Vec<Schedule> {
        let folder = tempfile::tempdir().unwrap();
        let job = "name: demo\nsource: { plugin: p }\nsink: { plugin: p }\n";
        std::fs::write(folder.path().join("job.yaml"), job).unwrap();
        let lines = patterns.iter().enumerate();
        let lines =
            lines.map(|(number, cron)| format!("- {{ name: s{number}, job: job.yaml, cron: '{cron}' }}\n"));
        let file = folder.path().join("whimbrel.yaml");
        std::fs::write(&file, format!("schedules:\n{}", lines.collect::<String>())).unwrap();
        load_schedules(&file, &Variables::none()).unwrap().list
    }

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-21T{text}Z").parse().unwrap()
    }

    fn names(clock: &mut Clock, time: &str) -> Vec<String> {
        let due = clock.due(at(time));
        due.into_iter().map(|(schedule, _)| schedule.name).collect()
    }

    #[test]
    fn each_time_is_due_once() {
        let mut clock = Clock::new(&schedules(&["* * * * *", "*/5 * * * *"]), at("10:00:30"), None);
        assert_eq!(names(&mut clock, "10:00:59"), [] as [&str; 0]);
        assert_eq!(names(&mut clock, "10:01:00"), ["s0"]);
        assert_eq!(names(&mut clock, "10:01:01"), [] as [&str; 0]);
        assert_eq!(names(&mut clock, "10:05:00"), ["s0", "s1"]);
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_due_twice_and_what_was_missed_due_once() {
        let mut clock = Clock::new(&schedules(&["* * * * *"]), at("10:00:30"), None);
        assert_eq!(names(&mut clock, "11:00:30"), ["s0"], "an hour forward");
        assert!(!clock.set_right(at("10:01:30")), "an hour is a correction");
        assert_eq!(names(&mut clock, "10:01:30"), [] as [&str; 0], "back again");
        assert_eq!(names(&mut clock, "11:00:59"), [] as [&str; 0]);
        assert_eq!(names(&mut clock, "11:01:00"), ["s0"]);
    }

    #[test]
    fn a_clock_that_was_wrong_by_years_and_is_set_right_keeps_no_schedule_silent() {
        let hourly = schedules(&["0 * * * *"]);
        let mut clock = Clock::new(&hourly, at("10:00:30"), None);
        let wrong: DateTime<Utc> = "2031-01-01T00:30:00Z".parse().unwrap();
        assert_eq!(clock.due(wrong).len(), 1, "nobody can tell that it is wrong");
        let mut reloaded = Clock::new(&hourly, at("10:10:00"), Some(&clock));
        for clock in [&mut clock, &mut reloaded] {
            assert!(clock.set_right(at("10:10:30")));
            assert!(!clock.set_right(at("10:10:30")));
            assert_eq!(names(clock, "10:10:30"), [] as [&str; 0], "set right");
            assert_eq!(names(clock, "11:00:00"), ["s0"]);
            assert_eq!(names(clock, "11:00:01"), [] as [&str; 0]);
        }
    }

    #[test]
    fn a_reload_forgets_no_time_of_a_schedule_that_stays() {
        let both = schedules(&["0 * * * *", "30 * * * *"]);
        let before = Clock::new(&both[..1], at("10:00:30"), None);
        let mut clock = Clock::new(&both, at("11:00:30"), Some(&before));
        assert_eq!(names(&mut clock, "11:00:31"), ["s0"]);
        assert_eq!(names(&mut clock, "11:30:00"), ["s1"]);
    }
}
