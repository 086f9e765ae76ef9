//! One page for those who decide: the verdict first, then figures, what was lost or refused, the proof, what to do.
//!
//! Markdown in which nothing from outside can become mark-up. Lists are short; the final report has them whole.

use super::cost::{cost_line, sink_cost_line};
use super::executive_proof::proof;
use super::figures::{bytes, count, counted, rate, seconds, sentence};
use super::guarantees::promises;
use super::markdown::{LINES_MAX, code, message, plain, shortened};
use super::orphans::{missing_keys, with_orphans};
use super::snapshots::copied;
use super::{FinalReport, Tone, tone};
use crate::events::Phase;

/// The page.
pub fn executive_summary(report: &FinalReport) -> String {
    let mut sections = vec![opening(report), figures(report), not_carried_over(report)];
    sections.push(snapshots(report));
    sections.push(orphans(report));
    sections.push(guarantees(report));
    sections.push(proof(report));
    sections.push(failures(report));
    sections.push(steps(report));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

fn opening(report: &FinalReport) -> String {
    let sign = match tone(&report.task) {
        Tone::Good => "✅",
        Tone::Mixed => "⚠️",
        Tone::Bad => "❌",
    };
    let facts = &report.facts;
    let plugins: Vec<String> = report
        .task
        .plugins
        .iter()
        .map(|plugin| format!("{} {}", code(&plugin.name), plain(&plugin.version)))
        .collect();
    format!(
        "# Migration {job}\n\n{sign} **{verdict}**\n\nRun {run} of {file}, {from} to {to} ({took}), started by {by}, {plugins}.\n",
        job = plain(&report.task.job),
        verdict = plain(&report.verdict),
        run = code(&facts.run_id),
        file = code(&facts.job_file),
        from = facts.started_at.format("%Y-%m-%d %H:%M:%S"),
        to = facts.ended_at.format("%Y-%m-%d %H:%M:%S UTC"),
        took = seconds(facts.elapsed_secs),
        by = code(&facts.started_by),
        plugins = plugins.join(" to "),
    )
}

fn figures(report: &FinalReport) -> String {
    let summary = &report.task.summary;
    if summary.collections.is_empty() {
        return String::new();
    }
    let sum = |number: fn(&crate::events::CollectionResult) -> u64| -> u64 {
        summary.collections.iter().map(number).sum()
    };
    let read = sum(|collection| collection.read_count);
    let written = sum(|collection| collection.written_count);
    let complete = summary
        .collections
        .iter()
        .filter(|collection| collection.complete)
        .count();
    let import = summary.phases.iter().find(|phase| phase.phase == Phase::Import);
    let mut rows = vec![(
        "collections",
        if report.task.is_run() {
            format!(
                "{} of {} complete",
                count(complete as u64),
                count(summary.collections.len() as u64)
            )
        } else {
            count(summary.collections.len() as u64)
        },
    )];
    if report.task.is_run() {
        rows.push(("records read", count(read)));
        rows.push(("records written", count(written)));
        rows.push(("data read", bytes(sum(|collection| collection.read_bytes))));
        if let Some(import) = import.filter(|import| import.seconds > 0.0) {
            rows.push(("records written a second", rate(written as f64 / import.seconds)));
        }
        rows.push(("records rejected", count(summary.rejected_count)));
        rows.push(("transactions tried again", count(report.facts.retry_count)));
        if let Some(cost) = &summary.cost {
            rows.push(("billed for reading, as estimated before", plain(&cost_line(cost))));
        }
        if let Some(cost) = &summary.sink_cost {
            let line = plain(&sink_cost_line(cost));
            rows.push(("billed by the sink, as estimated before", line));
        }
    }
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("| {name} | {value} |\n"))
        .collect();
    format!("## Figures\n\n| | |\n|---|---:|\n{rows}")
}

fn not_carried_over(report: &FinalReport) -> String {
    let summary = &report.task.summary;
    let mut lines = Vec::new();
    if summary.rejected_count > 0 {
        lines.push(format!(
            "- {} rejected; they are kept with their reasons.",
            counted(summary.rejected_count, "record")
        ));
    }
    let filtered: u64 = summary
        .collections
        .iter()
        .map(|collection| collection.filtered_count)
        .sum();
    if filtered > 0 {
        lines.push(format!(
            "- {} left out by transforms, as the job asks.",
            counted(filtered, "record")
        ));
    }
    for collection in summary.collections.iter().filter(|_| report.task.is_run()) {
        if !collection.complete {
            lines.push(format!(
                "- {} is not complete: {} written{}.",
                code(&collection.source),
                counted(collection.written_count, "record"),
                collection
                    .estimate
                    .map_or_else(String::new, |total| format!(" of {}", count(total)))
            ));
        }
    }
    for collection in &summary.collections {
        if !collection.losses.is_empty() {
            let mut kinds: Vec<&str> = collection.losses.iter().map(|loss| loss.loss.name()).collect();
            kinds.sort_unstable();
            kinds.dedup();
            let kinds: Vec<String> = kinds.into_iter().map(code).collect();
            lines.push(format!(
                "- {}: {} with a declared loss ({}).",
                code(&collection.source),
                counted(collection.losses.len() as u64, "field"),
                kinds.join(", ")
            ));
        }
    }
    if lines.is_empty() {
        return if report.task.outcome == "done" && report.task.copies() {
            "## Not carried over\n\nNothing: no record was rejected and no field declares a loss.\n"
                .to_owned()
        } else {
            String::new()
        };
    }
    format!("## Not carried over\n\n{}", shortened(lines))
}

/// Collections that are of no single moment of the source.
fn snapshots(report: &FinalReport) -> String {
    let copied = copied(&report.task.summary);
    if copied.is_empty() {
        return String::new();
    }
    let lines = copied
        .iter()
        .map(|(name, read)| format!("- {}: {}.", code(name), message(read)));
    format!(
        "## Read at several snapshots\n\nWhat was changed between them is in one part of the copy and not in another.\n\n{}",
        shortened(lines.collect())
    )
}

fn orphans(report: &FinalReport) -> String {
    let lines: Vec<String> = with_orphans(&report.task.summary)
        .into_iter()
        .map(|reference| {
            format!(
                "- {} ({}) to {}: {} of {}; missing keys: {}.",
                code(&reference.collection),
                code(&reference.fields.join(", ")),
                code(&reference.parent),
                count(reference.orphan_count),
                counted(reference.record_count, "record"),
                missing_keys(reference)
            )
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let file = report.task.summary.orphans_file.as_ref();
    let file = file.map_or_else(String::new, |file| {
        format!("\nAll of them are in {} in this folder.\n", code(file))
    });
    format!(
        "## Orphans\n\nThese records point to others that the source does not have:\n\n{}{file}",
        shortened(lines)
    )
}

/// What is promised if the run is interrupted.
fn guarantees(report: &FinalReport) -> String {
    let lines: Vec<String> = promises(&report.task.summary)
        .into_iter()
        .map(|promise| {
            let names = match promise.is_of_all {
                true => String::new(),
                false => format!(", {}", promise.names(code)),
            };
            format!(
                "- **{}**{names}: {}.",
                promise.guarantee.word(),
                message(promise.reason)
            )
        })
        .collect();
    match lines.is_empty() {
        true => String::new(),
        false => format!("## Guarantee\n\n{}", shortened(lines)),
    }
}

fn failures(report: &FinalReport) -> String {
    if report.failed_phases.is_empty() {
        return String::new();
    }
    let mut text = "## What failed\n".to_owned();
    if !report.task.errors.is_empty() {
        text.push('\n');
    }
    for failure in report.task.errors.iter().take(LINES_MAX) {
        let who = match (&failure.plugin, failure.role) {
            (Some(plugin), Some(role)) => format!(" ({role} {})", code(plugin)),
            _ => String::new(),
        };
        text.push_str(&format!(
            "- {}{who}, {}\n",
            message(&failure.error.message),
            code(&failure.error.code)
        ));
    }
    text.push_str("\n| phase | what to do | then |\n|---|---|---|\n");
    for failed in report.failed_phases.iter().take(LINES_MAX) {
        text.push_str(&format!(
            "| {} | {} | {} |\n",
            failed.phase.name(),
            failed.remedy,
            failed.then
        ));
    }
    text
}

fn steps(report: &FinalReport) -> String {
    if report.next_steps.is_empty() {
        return String::new();
    }
    let lines: String = report
        .next_steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let command = step
                .command
                .as_ref()
                .map_or_else(String::new, |command| format!(": {}", code(command)));
            format!("{}. {}{command}\n", index + 1, sentence(&step.text))
        })
        .collect();
    format!(
        "## Next steps\n\n{lines}\nMore: `report.html` and `final-migration-report.json` in this folder.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{TaskReport, fixtures};
    use expect_test::expect;

    fn page(report: &TaskReport) -> String {
        executive_summary(&FinalReport::new(fixtures::facts(report, 5.8), report))
    }

    #[test]
    fn a_success_in_words() {
        expect![[r#"
            # Migration shop

            ✅ **shop: done and verified**

            Run `20261121T080000Z-k3` of `jobs/shop.yaml`, 2026-11-21 08:00:00 to 2026-11-21 08:00:05 UTC (5.80 s), started by `ada@ferry`, `heron` 1.2.0 to `curlew` 0.9.1.

            ## Figures

            | | |
            |---|---:|
            | collections | 2 of 2 complete |
            | records read | 12,340 |
            | records written | 12,340 |
            | data read | 7.1 MiB |
            | records written a second | 3,085/s |
            | records rejected | 0 |
            | transactions tried again | 4 |

            ## Not carried over

            - `Orders`: 1 field with a declared loss (`float_from_decimal`).

            ## Guarantee

            - **exactly once**, `Orders`: the sink keeps how far the copy is.
            - **at least once**, `users`: `append` knows no keys.

            ## Verification

            2 of 2 collections are equal; 12,340 records compared (every record, every field). Level: standard.

            ## Next steps

            1. Read the declared losses and agree that the application can live with them
            2. Keep this report with the papers of the change
            3. Verify once more before the switch, if the source was written to since: `whimbrel verify jobs/shop.yaml`
            4. Point the application to the new system and watch it
            5. Keep the old data, read only, for the time that your rules ask for; then remove it

            More: `report.html` and `final-migration-report.json` in this folder.
        "#]].assert_eq(&page(&fixtures::done()));
    }

    #[test]
    fn a_failure_in_words() {
        expect![[r#"
            # Migration shop

            ❌ **shop: failed; what was committed stays**

            Run `20261121T080000Z-k3` of `jobs/shop.yaml`, 2026-11-21 08:00:00 to 2026-11-21 08:00:05 UTC (5.80 s), started by `ada@ferry`, `heron` 1.2.0 to `curlew` 0.9.1.

            ## Figures

            | | |
            |---|---:|
            | collections | 1 of 2 complete |
            | records read | 5,040 |
            | records written | 4,038 |
            | data read | 6.9 MiB |
            | records written a second | 2,019/s |
            | records rejected | 2 |
            | transactions tried again | 4 |

            ## Not carried over

            - 2 records rejected; they are kept with their reasons.
            - `Orders` is not complete: 4,000 records written of 12,000.
            - `Orders`: 1 field with a declared loss (`float_from_decimal`).

            ## Guarantee

            - **exactly once**, `Orders`: the sink keeps how far the copy is.
            - **at least once**, `users`: `append` knows no keys.

            ## Verification

            Both sides were **not compared**.

            ## What failed

            - the connection to `db.example.org:5432` was lost (sink `curlew`), `curlew.connection_lost`

            | phase | what to do | then |
            |---|---|---|
            | import | look whether the system is up, can be reached from here, and has room on its disk | what was committed stays in the sink, whole transactions only; resume the run after the repair |

            ## Next steps

            1. Once the cause is removed, go on with the run where the sink has it: `whimbrel resume 20261121T080000Z-k3 --job jobs/shop.yaml`
            2. Look at the rejected records, which are kept with their reasons: `whimbrel rejected list 20261121T080000Z-k3`
            3. Import: look whether the system is up, can be reached from here, and has room on its disk; then go on with the run: `whimbrel resume 20261121T080000Z-k3 --job jobs/shop.yaml`

            More: `report.html` and `final-migration-report.json` in this folder.
        "#]].assert_eq(&page(&fixtures::failed()));
    }

    #[test]
    fn differences_in_words() {
        expect![[r#"
            # Migration shop

            ❌ **shop: the sides differ**

            Run `20261121T080000Z-k3` of `jobs/shop.yaml`, 2026-11-21 08:00:00 to 2026-11-21 08:00:05 UTC (5.80 s), started by `ada@ferry`, `heron` 1.2.0 to `curlew` 0.9.1.

            ## Figures

            | | |
            |---|---:|
            | collections | 2 of 2 complete |
            | records read | 12,340 |
            | records written | 12,340 |
            | data read | 7.1 MiB |
            | records written a second | 3,085/s |
            | records rejected | 0 |
            | transactions tried again | 4 |

            ## Not carried over

            - `Orders`: 1 field with a declared loss (`float_from_decimal`).

            ## Guarantee

            - **exactly once**, `Orders`: the sink keeps how far the copy is.
            - **at least once**, `users`: `append` knows no keys.

            ## Verification

            1 of 2 collections are equal; 12,340 records compared (every record, every field). Level: standard.

            - `users`: 340 in the source, 339 in the sink, 2 differences (1 missing, 1 different).

            The first of them:

            - `users`, missing: `u-12`
            - `users`, different: `u-40`, fields `email`, `name`

            ## What failed

            | phase | what to do | then |
            |---|---|---|
            | verification | look at the differences listed: an application that still writes, a record changed by hand, or a lossy type | the records are in the sink; compare again, nothing need be copied |

            ## Next steps

            1. See the values of the fields that differ, if you may: `whimbrel verify jobs/shop.yaml --verification-level comprehensive --show-values`
            2. Copy again what differs, and compare once more: `whimbrel verify jobs/shop.yaml --repair`
            3. Verification: look at the differences listed: an application that still writes, a record changed by hand, or a lossy type; then compare again: `whimbrel verify jobs/shop.yaml`

            More: `report.html` and `final-migration-report.json` in this folder.
        "#]].assert_eq(&page(&fixtures::differences()));
    }

    #[test]
    fn a_proof_in_words() {
        let page = page(&fixtures::proven());
        expect![[r#"
            ## Verification

            2 of 2 collections are equal; 12,340 records compared (every record, every field). Level: comprehensive.

            - Certificate: `migration-certificate.json`, signed.
            - `Orders`: 1,200 records equal after a declared loss (`price`: float_from_decimal 1,200).
            - Read by key, `users`: half in 0.41 ms, 95 % in 1.2 ms, 99 % in 2 ms (200 records).

            Rules: 1 of 1 held.

            These records of the sink point to others that it does not have:

            - `orders` (`user`) to `users`: 1 of 12,000 records, as in the source.

            Repaired:

            - `users`: 3 copied again, 1 removed.

            | digest | extracted | transformed | read back |
            |---|---|---|---|
            | `Orders` | `89abcdef89abcdef` | `0123456701234567` | `0123456701234567` |
            | `users` | `89abcdef89abcdef` | `fedcba98fedcba98` | `fedcba98fedcba98` |

            ## Next steps

            1. Read the declared losses and agree that the application can live with them
            2. Keep this report with the papers of the change
            3. Verify once more before the switch, if the source was written to since: `whimbrel verify jobs/shop.yaml`
            4. Point the application to the new system and watch it
            5. Keep the old data, read only, for the time that your rules ask for; then remove it

            More: `report.html` and `final-migration-report.json` in this folder.
        "#]].assert_eq(&page[page.find("## Verification").unwrap()..]);
    }

    #[test]
    fn what_differs_in_words_but_without_values() {
        let page = page(&fixtures::disproven());
        assert!(!page.contains("a@b.example"), "{page}");
        expect![[r#"
            ## Verification

            1 of 2 collections are equal; 12,340 records compared (every record, every field). Level: comprehensive.

            - `users`: 340 in the source, 339 in the sink, 70 differences, 1 changed since (of the first 2: 1 missing, 1 different). All of them: `verification-results/users.ndjson`.

            The first of them:

            - `users`, missing: `u-12`
            - `users`, different: `u-40`, fields `email`, `name`
            - `users`, changed since: `u-77`

            - Certificate: none (the sides differ).
            - `Orders`: 1,200 records equal after a declared loss (`price`: float_from_decimal 1,200).
            - `users`: 1 record changed in the source while both sides were compared, neither equal nor different.
            - Read by key, `users`: half in 0.41 ms, 95 % in 1.2 ms, 99 % in 2 ms (200 records).

            Rules: 1 of 3 held.

            - `has an email` (after, sink, `users`): **broken**, 2 of 340 records.
            - `sums` (after): **not checked**, the sink takes no `query`.

            These records of the sink point to others that it does not have:

            - `orders` (`user`) to `users`: 3 of 12,000 records, none of them in the source.

            Repaired:

            - `users`: 3 copied again, 1 removed, 1 left as they are.

            | digest | extracted | transformed | read back |
            |---|---|---|---|
            | `Orders` | `89abcdef89abcdef` | `0123456701234567` | `0123456701234567` |
            | `users` | `89abcdef89abcdef` | `fedcba98fedcba98` | `fedcba98fedcba98` |

            ## What failed

            | phase | what to do | then |
            |---|---|---|
            | verification | look at the differences listed: an application that still writes, a record changed by hand, or a lossy type | the records are in the sink; compare again, nothing need be copied |

            ## Next steps

            1. Read the list of all differences: `verification-results/users.ndjson`
            2. Look which records the sink has refused or lost: others point to them
            3. Correct the records that break the rules, or the rules
            4. Copy again what differs, and compare once more: `whimbrel verify jobs/shop.yaml --repair`
            5. Verification: look at the differences listed: an application that still writes, a record changed by hand, or a lossy type; then compare again: `whimbrel verify jobs/shop.yaml`

            More: `report.html` and `final-migration-report.json` in this folder.
        "#]].assert_eq(&page[page.find("## Verification").unwrap()..]);
    }

    #[test]
    fn every_end_has_a_page_with_a_verdict_and_steps() {
        for report in fixtures::every_end() {
            let page = page(&report);
            assert!(page.contains("**"), "{page}");
            assert!(page.contains("## Next steps"), "{page}");
            // With all that can be found at once; an ordinary end has half of it.
            assert!(page.lines().count() < 90, "one page: {page}");
        }
    }

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let page = page(&fixtures::hostile());
        // Outside code spans no tag, no link; inside them no end of the span or of a table's cell.
        let mut outside = String::new();
        let mut rest = page.as_str();
        while let Some(start) = rest.find('`') {
            outside.push_str(&rest[..start]);
            let fence_length = rest[start..].chars().take_while(|char| *char == '`').count();
            if rest[..start].ends_with('\\') {
                rest = &rest[start + fence_length..];
                continue;
            }
            let after = &rest[start + fence_length..];
            let fence = "`".repeat(fence_length);
            let end = after
                .match_indices(&fence)
                .find(|(at, _)| !after[at + fence_length..].starts_with('`') && !after[..*at].ends_with('`'))
                .map(|(at, _)| at)
                .unwrap_or_else(|| panic!("an open code span: {after}"));
            rest = &after[end + fence_length..];
        }
        outside.push_str(rest);
        assert!(!outside.contains("<script"), "{outside}");
        assert!(!outside.contains("](javascript"), "{outside}");
        assert!(!page.contains('\u{202e}') && !page.contains('\u{7}'));
    }

    #[test]
    fn a_long_list_is_cut() {
        let mut report = fixtures::hostile();
        let one = report.summary.collections[0].clone();
        report.summary.collections = vec![one; 10_000];
        assert!(page(&report).len() < 20_000);
    }
}
