//! What is promised of the collections if the run is interrupted.
//! Neighbour: `report::guarantees` groups them.

use maud::{Markup, html};

use super::super::FinalReport;
use super::super::figures::printable;
use super::super::guarantees::promises;
use super::sections::{named, worded};

/// One line for each kind of promise.
pub fn guarantees(report: &FinalReport) -> Markup {
    let promises = promises(&report.task.summary);
    if promises.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Guarantee" }
            ul {
                @for promise in &promises {
                    li {
                        strong { (promise.guarantee.word()) }
                        @if !promise.is_of_all { ", " (named(&promise.names(printable))) }
                        ": " (worded(promise.reason))
                    }
                }
            }
        }
    }
}
