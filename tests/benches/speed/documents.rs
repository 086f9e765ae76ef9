//! Documents for the benchmarks: made deterministically, and turned into the CSV that the reference imports.
//! Neighbour: `speed.rs` measures with them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use crate::Outcome;

/// SplitMix64 (Steele, Lea, Flood 2014): the same documents on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

const WORDS: [&str; 8] = [
    "order",
    "naïve",
    "Zürich",
    "東京",
    "said \\\"hi\\\"",
    "O'Brien",
    "😀",
    "a,b",
];

/// Puts the documents at `path`: those of `WHIMBREL_BENCH_DOCS`, or `count` that are made.
pub fn provide(path: &Path, count: usize) -> Outcome<()> {
    match std::env::var_os("WHIMBREL_BENCH_DOCS") {
        Some(given) => {
            std::fs::copy(given, path)?;
            Ok(())
        }
        None => write(path, count),
    }
}

/// Writes `count` documents of about 450 octets: nested members, lists, nulls, absent members, large integers.
pub fn write(path: &Path, count: usize) -> Outcome<()> {
    let mut random = Random(20_240_601);
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    for index in 0..count {
        let word = |random: &mut Random| WORDS[random.below(WORDS.len() as u64) as usize];
        let (first, second, third) = (word(&mut random), word(&mut random), word(&mut random));
        let score = match index % 7 {
            0 => "null".to_owned(),
            _ => random.below(100).to_string(),
        };
        write!(
            out,
            "{{\"id\":\"{:020x}\",\"seq\":{index},\"createTime\":\"20{:02}-{:02}-{:02}T12:00:00.{:06}Z\",\"name\":\"{first} {second}\",\
             \"email\":\"user{}@example.org\",\"active\":{},\"balance\":{}.{:02},\"big\":{},\
             \"address\":{{\"street\":\"{third} 7\",\"geo\":{{\"lat\":{}.5,\"lng\":{}.25}},\"zip\":\"{:05}\"}},\
             \"tags\":[\"{first}\",\"{third}\"],\"items\":[{{\"sku\":\"{:08x}\",\"qty\":{},\"price\":{}.5}}],\
             \"score\":{score},\"prefs\":{{\"theme\":\"dark\",\"langs\":[\"en\",\"fr\"],\"k{}\":true}}",
            u128::from(random.next()) + index as u128,
            20 + random.below(5),
            1 + random.below(12),
            1 + random.below(28),
            random.below(1_000_000),
            random.below(10_000_000),
            random.below(10) < 7,
            random.below(1_000_000),
            1 + random.below(99),
            (1_u64 << 53) + random.below((1 << 63) - (1 << 53)),
            random.below(90),
            random.below(180),
            random.below(100_000),
            random.below(1 << 32),
            1 + random.below(9),
            1 + random.below(500),
            index % 40,
        )?;
        if index % 3 != 0 {
            write!(
                out,
                ",\"lastOrder\":{{\"total\":{}.5,\"note\":null}}",
                random.below(900)
            )?;
        }
        if index % 11 == 0 {
            write!(out, ",\"comment\":\"{first} {second} {third}\"")?;
        }
        out.write_all(b"}\n")?;
    }
    out.flush()?;
    Ok(())
}

/// The columns of a CSV.
pub struct Table {
    /// Records.
    pub records: u64,
    /// Names, sorted.
    pub columns: Vec<String>,
    kinds: BTreeMap<String, &'static str>,
}

impl Table {
    /// The type of a column in the reference table.
    pub fn sql_type(&self, column: &str) -> &'static str {
        match self.kinds.get(column) {
            Some(&"JSON") | None => "TEXT",
            Some(&"BOOLEAN") => "INTEGER",
            Some(kind) => kind,
        }
    }

    /// The same for PostgreSQL.
    pub fn postgres_type(&self, column: &str) -> &'static str {
        match self.kinds.get(column) {
            Some(&"INTEGER") => "bigint",
            Some(&"BOOLEAN") => "boolean",
            Some(&"REAL") => "double precision",
            Some(&"JSON") => "jsonb",
            _ => "text",
        }
    }
}

/// Turns NDJSON into CSV: nested members as JSON text, null and absent as nothing.
pub fn to_csv(documents: &Path, csv: &Path) -> Outcome<Table> {
    let mut kinds: BTreeMap<String, &'static str> = BTreeMap::new();
    let mut records = 0;
    for line in BufReader::new(std::fs::File::open(documents)?).lines() {
        let document: BTreeMap<String, serde_json::Value> = serde_json::from_str(&line?)?;
        for (name, value) in document {
            let kind = match value {
                serde_json::Value::Null => continue,
                serde_json::Value::Bool(_) => "BOOLEAN",
                serde_json::Value::Number(number) if number.is_i64() => "INTEGER",
                serde_json::Value::Number(_) => "REAL",
                serde_json::Value::Array(_) | serde_json::Value::Object(_) => "JSON",
                _ => "TEXT",
            };
            kinds
                .entry(name)
                .and_modify(|known| *known = if *known == kind { kind } else { "TEXT" })
                .or_insert(kind);
        }
        records += 1;
    }
    let columns: Vec<String> = kinds.keys().cloned().collect();
    let mut out = BufWriter::new(std::fs::File::create(csv)?);
    writeln!(out, "{}", columns.join(","))?;
    for line in BufReader::new(std::fs::File::open(documents)?).lines() {
        let line = line?;
        let document: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(&line)?;
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                out.write_all(b",")?;
            }
            let Some(raw) = document.get(column) else {
                continue;
            };
            let text = match raw.get() {
                "null" => continue,
                "true" => "1".to_owned(),
                "false" => "0".to_owned(),
                text if text.starts_with('"') => serde_json::from_str(text)?,
                text => text.to_owned(),
            };
            write!(out, "\"{}\"", text.replace('"', "\"\""))?;
        }
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(Table {
        records,
        columns,
        kinds,
    })
}
