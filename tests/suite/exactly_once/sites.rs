//! A kill at each named place, then `whimbrel resume`, for each sink. Fails if a place is never come to.
//!
//! With the worker its supervisor goes, too, as in a loss of power. Neighbour: `host/src/crash_site.rs` has the list.

use super::targets::{LibsqlFile, LibsqlServer, Postgres, Target, ThroughLayer};
use super::{assert_whole, resume, stage_for, was_killed};
use crate::program::repository;

/// Which times that a place is come to are tried.
const OCCURRENCES: [u32; 2] = [1, 4];

/// The names in the list of the program's source.
fn sites() -> Vec<String> {
    let source = std::fs::read_to_string(repository().join("host/src/crash_site.rs")).unwrap();
    let (_, list) = source.split_once("pub const SITES").unwrap();
    let (_, list) = list.split_once("= [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    let names = list.split(',').map(|name| name.trim().trim_matches('"'));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn killed_at_every_site(target: &mut dyn Target) {
    let mut hit = 0;
    for site in sites() {
        for occurrence in OCCURRENCES {
            target.reset();
            let stage = stage_for(target);
            let at = format!("{site}:{occurrence}");
            let variables = [("WHIMBREL_CRASH_AT", at.as_str()), ("WHIMBREL_CRASH_ALL", "1")];
            let answer = stage.run_with(&["run", "job.yaml", "--json"], &variables);
            if !was_killed(&answer) {
                assert!(
                    occurrence > 1,
                    "`{site}` was never come to: {}{}",
                    answer.out,
                    answer.err
                );
                assert_eq!(answer.code, 0, "{at}: {}", answer.out);
                break;
            }
            hit += 1;
            let report = resume(&stage);
            assert_whole(target, &report, &at);
        }
    }
    println!("{hit} kills");
}

#[test]
fn k1_k2_killed_at_every_site_postgres_is_whole_after_resume() {
    if let Some(mut target) = Postgres::new() {
        killed_at_every_site(&mut target);
    }
}

#[test]
fn k1_k2_killed_at_every_site_a_libsql_file_is_whole_after_resume() {
    killed_at_every_site(&mut LibsqlFile::new());
}

#[test]
fn k1_k2_killed_at_every_site_a_libsql_server_is_whole_after_resume() {
    if let Some(mut target) = LibsqlServer::new() {
        killed_at_every_site(&mut target);
    }
}

#[test]
fn k1_k2_killed_at_every_site_firestore_is_whole_after_resume() {
    if let Some(mut target) = ThroughLayer::new() {
        killed_at_every_site(&mut target);
    }
}
