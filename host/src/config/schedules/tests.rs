//! Tests of the schedules of a settings file: what is taken, what is refused with its place, and when a pattern comes.
//! Who runs the jobs is tested with the scheduler.

use super::*;

const JOB: &str = "name: demo\nsource: { plugin: p }\nsink: { plugin: p }\n";

fn loaded(settings: &str) -> Result<Schedules, Vec<Error>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("job.yaml"), JOB).unwrap();
    let file = folder.path().join("whimbrel.yaml");
    std::fs::write(&file, settings).unwrap();
    load_schedules(&file, &Variables::none())
}

fn codes(settings: &str) -> Vec<String> {
    let faults = loaded(settings).unwrap_err();
    assert!(faults.iter().all(|fault| fault.place.is_some()), "{faults:?}");
    faults.into_iter().map(|fault| fault.code).collect()
}

#[test]
fn a_schedule_has_its_job_beside_the_settings_and_its_times_in_its_zone() {
    let schedules = loaded(
        "schedules:\n- { name: nightly, job: job.yaml, cron: '30 2 * * *', time_zone: Europe/Berlin }\n\
         - { name: hourly, job: job.yaml, cron: '0 * * * *' }\n",
    )
    .unwrap();
    let [nightly, hourly] = &schedules.list[..] else {
        panic!("{schedules:?}")
    };
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let noon = at("2026-11-21T12:00:00Z");
    assert_eq!(nightly.after(noon), Some(at("2026-11-22T01:30:00Z")));
    assert_eq!(hourly.after(noon), Some(at("2026-11-21T13:00:00Z")));
    assert_eq!(nightly.job, schedules.settings.with_file_name("job.yaml"));
}

#[test]
fn the_folder_is_where_a_reference_points_to_as_for_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("whimbrel.yaml");
    let variables = Variables::none().with("HERON_STATE", "/srv/heron");
    for (written, wanted) in [
        ("working_dir: '${env:HERON_STATE}/a'", "/srv/heron/a".into()),
        ("working_dir: 'w/$${x}'", folder.path().join("w/${x}")),
        ("log_days: 7", folder.path().join(".whimbrel")),
    ] {
        std::fs::write(&file, written).unwrap();
        let loaded = load_schedules(&file, &variables).unwrap();
        assert_eq!(loaded.working_dir, wanted, "{written}");
        assert_eq!(daemon_folder(&file, &variables).unwrap(), wanted, "{written}");
        let days = if written.starts_with("log_days") { 7 } else { 90 };
        assert_eq!(loaded.log_days, days);
    }
    std::fs::write(&file, "working_dir: '${env:HERON_STATE}'").unwrap();
    for faults in [
        load_schedules(&file, &Variables::none()).unwrap_err(),
        daemon_folder(&file, &Variables::none()).unwrap_err(),
    ] {
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].message.contains("HERON_STATE"), "{faults:?}");
        assert!(faults[0].place.is_some(), "{faults:?}");
    }
}

#[test]
fn a_settings_file_that_is_missing_is_not_taken_for_a_job() {
    let folder = tempfile::tempdir().unwrap();
    let faults = load_schedules(&folder.path().join("none.yaml"), &Variables::none()).unwrap_err();
    let help = faults[0].help.as_deref().unwrap_or_default();
    assert!(help.contains("such as `whimbrel.yaml`"), "{help}");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    assert_eq!(
        codes("schedules: [{ name: a, job: no.yaml, cron: '* * * * *' }]"),
        ["config.file_missing"]
    );
    assert_eq!(
        codes("schedules: [{ name: a, job: job.yaml, cron: 'soon' }]"),
        ["schedule.bad_cron"]
    );
    let zone = "schedules: [{ name: a, job: job.yaml, cron: '* * * * *', time_zone: Europe/Berln }]";
    assert_eq!(codes(zone), ["schedule.bad_time_zone"]);
    assert_eq!(
        codes("schedules: [{ name: a, cron: '* * * * *' }]"),
        ["config.missing_key"]
    );
    let twice = "schedules: [{ name: a, job: job.yaml, cron: '* * * * *' }, { name: a, job: job.yaml, cron: '* * * * *' }]";
    assert_eq!(codes(twice), ["config.duplicate"]);
    assert_eq!(codes("schedule: []"), ["config.unknown_key"]);
}

#[test]
fn a_pattern_that_never_comes_is_refused_and_one_of_a_year_that_is_over_is_not() {
    let one = |cron: &str| format!("schedules: [{{ name: a, job: job.yaml, cron: '{cron}' }}]");
    for never in ["30 2 30 2 *", "0 0 31 4,6,9,11 *"] {
        assert_eq!(codes(&one(never)), ["schedule.never"], "{never}");
    }
    for rare in ["0 0 29 2 *", "0 0 L 2 *", "0 0 0 1 1 * 2020"] {
        assert_eq!(loaded(&one(rare)).unwrap().list.len(), 1, "{rare}");
    }
}

#[test]
fn a_pattern_has_five_fields_or_six_with_seconds_or_seven_with_years() {
    let all = loaded(
        "schedules:\n- { name: five, job: job.yaml, cron: '30 2 * * *' }\n\
         - { name: six, job: job.yaml, cron: '15 30 2 * * *' }\n\
         - { name: seven, job: job.yaml, cron: '15 30 2 * * * 2030' }\n",
    );
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let noon = at("2026-11-21T12:00:00Z");
    let next: Vec<_> = all
        .unwrap()
        .list
        .iter()
        .map(|one| one.after(noon).unwrap())
        .collect();
    let wanted = [
        "2026-11-22T02:30:00Z",
        "2026-11-22T02:30:15Z",
        "2030-01-01T02:30:15Z",
    ];
    assert_eq!(next, wanted.map(at));
}

/// The times of `cron` in Berlin between two times, as they are shown there.
fn in_berlin(cron: &str, from: &str, to: &str) -> Vec<String> {
    let settings =
        format!("schedules: [{{ name: a, job: job.yaml, cron: '{cron}', time_zone: Europe/Berlin }}]");
    let schedule = loaded(&settings).unwrap().list.remove(0);
    let [from, to] = [from, to].map(|text| text.parse::<DateTime<Utc>>().unwrap());
    let times = std::iter::successors(schedule.after(from), |time| schedule.after(*time));
    times
        .take_while(|time| *time < to)
        .map(|time| {
            time.with_timezone(&schedule.zone)
                .format("%dT%H:%M %Z")
                .to_string()
        })
        .collect()
}

#[test]
fn when_summer_time_begins_a_single_time_moves_behind_the_hour_that_is_left_out_and_repeated_ones_pass_over_it()
 {
    // On 28 March 2027 the clock goes from 02:00 to 03:00.
    let around = |cron: &str| in_berlin(cron, "2027-03-27T12:00:00Z", "2027-03-28T12:00:00Z");
    assert_eq!(around("30 2 * * *"), ["28T03:00 CEST"]);
    assert_eq!(around("30 1,2,3 * * *"), ["28T01:30 CET", "28T03:30 CEST"]);
    assert_eq!(
        around("*/30 1-3 * * *"),
        ["28T01:00 CET", "28T01:30 CET", "28T03:00 CEST", "28T03:30 CEST"]
    );
}

#[test]
fn when_summer_time_ends_a_single_time_comes_once_and_repeated_ones_in_both_hours() {
    // On 31 October 2027 the clock goes from 03:00 back to 02:00.
    let around = |cron: &str| in_berlin(cron, "2027-10-30T12:00:00Z", "2027-10-31T12:00:00Z");
    assert_eq!(around("30 2 * * *"), ["31T02:30 CEST"]);
    assert_eq!(
        around("30 1-3 * * *"),
        ["31T01:30 CEST", "31T02:30 CEST", "31T02:30 CET", "31T03:30 CET"]
    );
}

#[test]
fn the_folder_of_the_daemon_is_read_whatever_else_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("whimbrel.yaml");
    let of = |text: &str| {
        std::fs::write(&file, text).unwrap();
        daemon_folder(&file, &Variables::none()).map_err(|faults| faults[0].code.clone())
    };
    assert_eq!(of(""), Ok(folder.path().join(".whimbrel")));
    assert_eq!(of("working_dir: w\nschedule: 1\n"), Ok(folder.path().join("w")));
    assert_eq!(
        of("working_dir: w\nschedules: ["),
        Err("config.bad_yaml".to_owned())
    );
    std::fs::remove_file(&file).unwrap();
    let missing = daemon_folder(&file, &Variables::none()).unwrap_err();
    assert_eq!(missing[0].code, "config.file_missing");
}

#[test]
fn a_file_without_schedules_has_none() {
    assert!(loaded("defaults: {}\n").unwrap().list.is_empty());
    assert!(loaded("").unwrap().list.is_empty());
}
