//! What reading a billed source costs, and asking a billed sink, in words: a table for a plan, a line for a run.
//! The numbers are those of `plan::cost` and `plan::sink_cost`.

use super::figures::{count, printable};
use super::plain_table::PlainTable;
use crate::events::{CostEstimate, SinkCostEstimate};

/// Below this, in US dollars, an amount has four digits behind the point, so that a small run is not free.
const CENTS_FROM_USD: f64 = 1.0;
/// The least amount that is shown as a number, in US dollars.
const SHOWN_USD_MIN: f64 = 0.000_05;

/// `12.50 USD`, `0.0074 USD`.
pub fn usd(amount: f64) -> String {
    if amount >= CENTS_FROM_USD {
        let cents = (amount * 100.0).round();
        format!("{}.{:02} USD", count((cents / 100.0) as u64), cents as u64 % 100)
    } else if amount >= SHOWN_USD_MIN {
        format!("{amount:.4} USD")
    } else if amount > 0.0 {
        "less than 0.0001 USD".to_owned()
    } else {
        "0 USD".to_owned()
    }
}

/// What a run takes and what the plan has taken, collection by collection.
pub fn cost_table(cost: &CostEstimate) -> String {
    let header = [
        "COLLECTION",
        "THIS PLAN",
        "DESCRIPTION",
        "REFERENCES",
        "COPY",
        "VERIFICATION",
        "RUN",
        "PRICE",
    ];
    let mut rows = PlainTable::new(&header);
    for one in &cost.collections {
        rows.row([
            printable(&one.collection),
            one.planned_units.map_or_else(String::new, count),
            count(one.description_units),
            count(one.search_units),
            count(one.copy_units),
            count(one.verification_units),
            count(one.run_units),
            usd(one.usd),
        ]);
    }
    let unit = printable(&cost.unit);
    let mut text = format!("{unit}, without retries:\n{}", rows.text(&[1, 2, 3, 4, 5, 6, 7]));
    if cost.other_units > 0 {
        text.push_str(&format!(
            "  {} of these for looking at collections that are not copied, each time\n",
            count(cost.other_units)
        ));
    }
    text.push_str(&format!(
        "  the run: {} {unit}, {} at {} for a million\n",
        count(cost.run_units),
        usd(cost.usd),
        usd(cost.usd_per_million)
    ));
    if let (Some(units), Some(amount)) = (cost.planned_units, cost.planned_usd) {
        text.push_str(&format!(
            "  this plan: {} {unit}, {}\n",
            count(units),
            usd(amount)
        ));
    }
    text + "\n"
}

/// What a run was estimated to take.
pub fn cost_line(cost: &CostEstimate) -> String {
    format!(
        "{} {}, {}",
        count(cost.run_units),
        printable(&cost.unit),
        usd(cost.usd)
    )
}

/// What a run takes of the sink and what the plan has taken, collection by collection.
pub fn sink_cost_table(cost: &SinkCostEstimate) -> String {
    let header = [
        "INTO",
        "THIS PLAN",
        "PREPARATION",
        "COPY",
        "VERIFICATION",
        "RUN",
        "PRICE",
    ];
    let mut rows = PlainTable::new(&header);
    for one in &cost.collections {
        rows.row([
            printable(&one.collection),
            one.planned_units.map_or_else(String::new, count),
            count(one.preparation_units),
            count(one.copy_units),
            count(one.verification_units),
            count(one.run_units),
            usd(one.usd),
        ]);
    }
    let unit = printable(&cost.unit);
    let mut text = format!(
        "{unit} of the sink, without retries:\n{}",
        rows.text(&[1, 2, 3, 4, 5, 6])
    );
    if cost.other_units > 0 {
        text.push_str(&format!(
            "  {} more for the run as a whole\n",
            count(cost.other_units)
        ));
    }
    text.push_str(&format!(
        "  the run: {} at {} for a million\n",
        sink_cost_line(cost),
        usd(cost.usd_per_million)
    ));
    if cost.is_at_least {
        text.push_str("  more, if the sink holds records that are not among those copied\n");
    }
    if let (Some(units), Some(amount)) = (cost.planned_units, cost.planned_usd) {
        text.push_str(&format!(
            "  this plan: {} {unit}, {}\n",
            count(units),
            usd(amount)
        ));
    }
    text + "\n"
}

/// What a run was estimated to take of the sink.
pub fn sink_cost_line(cost: &SinkCostEstimate) -> String {
    let least = if cost.is_at_least { "at least " } else { "" };
    format!(
        "{least}{} {}, {}",
        count(cost.run_units),
        printable(&cost.unit),
        usd(cost.usd)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{CollectionCost, SinkCollectionCost};
    use expect_test::expect;

    #[test]
    fn amounts_are_neither_free_nor_endless() {
        let texts = [0.0, 0.000_01, 0.000_06, 0.074, 0.999, 1.0, 12.345, 1_234_567.891].map(usd);
        assert_eq!(
            texts,
            [
                "0 USD",
                "less than 0.0001 USD",
                "0.0001 USD",
                "0.0740 USD",
                "0.9990 USD",
                "1.00 USD",
                "12.35 USD",
                "1,234,567.89 USD"
            ]
        );
    }

    #[test]
    fn a_plan_says_what_each_collection_takes_and_what_all_do() {
        let cost = CostEstimate {
            unit: "document reads".to_owned(),
            usd_per_million: 0.6,
            units_max: None,
            planned_units: Some(52_100),
            planned_usd: Some(0.031_26),
            run_units: 150_100,
            usd: 0.090_06,
            other_units: 100,
            collections: vec![CollectionCost {
                collection: "users".to_owned(),
                planned_units: Some(52_000),
                description_units: 50_000,
                search_units: 0,
                copy_units: 50_000,
                verification_units: 50_000,
                run_units: 150_000,
                usd: 0.09,
            }],
        };
        expect![[r#"
            document reads, without retries:
             COLLECTION  THIS PLAN  DESCRIPTION  REFERENCES    COPY  VERIFICATION      RUN       PRICE
             users          52,000       50,000           0  50,000        50,000  150,000  0.0900 USD
              100 of these for looking at collections that are not copied, each time
              the run: 150,100 document reads, 0.0901 USD at 0.6000 USD for a million
              this plan: 52,100 document reads, 0.0313 USD

        "#]]
        .assert_eq(&cost_table(&cost));
        assert_eq!(cost_line(&cost), "150,100 document reads, 0.0901 USD");
    }

    #[test]
    fn a_plan_says_what_is_asked_of_the_sink_and_that_it_may_be_more() {
        let mut cost = SinkCostEstimate {
            unit: "document reads".to_owned(),
            usd_per_million: 0.6,
            units_max: None,
            planned_units: Some(3),
            planned_usd: Some(0.000_001_8),
            run_units: 101_247,
            usd: 0.060_748,
            is_at_least: false,
            other_units: 2,
            collections: vec![SinkCollectionCost {
                collection: "people".to_owned(),
                planned_units: Some(3),
                preparation_units: 5,
                copy_units: 50_000,
                verification_units: 51_240,
                run_units: 101_245,
                usd: 0.060_747,
                is_at_least: false,
            }],
        };
        expect![[r#"
            document reads of the sink, without retries:
             INTO    THIS PLAN  PREPARATION    COPY  VERIFICATION      RUN       PRICE
             people          3            5  50,000        51,240  101,245  0.0607 USD
              2 more for the run as a whole
              the run: 101,247 document reads, 0.0607 USD at 0.6000 USD for a million
              this plan: 3 document reads, less than 0.0001 USD

        "#]]
        .assert_eq(&sink_cost_table(&cost));
        cost.is_at_least = true;
        assert_eq!(
            sink_cost_line(&cost),
            "at least 101,247 document reads, 0.0607 USD"
        );
        let text = sink_cost_table(&cost);
        assert!(text.contains("more, if the sink holds records"), "{text}");
    }
}
