//! Who is granted a lane, and what is said of it: the rules of the contract against those of the database, many lanes at
//! once, odd names, and rights that are missing.

use std::collections::BTreeMap;
use std::sync::Barrier;

use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneId, LaneState, PrepareRequest};
use whimbrel_plugin_api::{Cursor, ErrorKind, FindingLevel, Sink as _};

use crate::lanes_place::{Place, checkpoint, claim, each, held, lane, open, take_over, transact};
use crate::postgres::servers;

/// Steps of the comparison with the rules; each is some messages to the server.
const STEPS: u64 = 200;

/// Numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        let Self(state) = self;
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % limit
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

#[test]
fn lanes_follow_the_rules_whatever_is_claimed_and_committed() {
    let seed = std::env::var("WHIMBREL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("WHIMBREL_SEED={seed}");
    each(|place| {
        let mut dice = Dice(seed);
        let lanes: Vec<LaneId> = ["", "a", "b", "\0\\'", "\u{1F426}"].map(lane).into();
        let runs = ["", "", "run 1", "run 2", "\0\\u{0}\u{ef}"];
        // Sessions that have lanes, so that a lane which nobody has claimed is not theirs.
        let mut sinks = ["first", "second"].map(|name| {
            let mut sink = place.sink();
            take_over(&mut sink, &claim(&lane(name))).unwrap();
            sink
        });
        let mut model: BTreeMap<usize, LaneState> = BTreeMap::new();
        for step in 0..STEPS {
            let index = usize::try_from(dice.below(lanes.len() as u64)).unwrap();
            let sink = &mut sinks[usize::try_from(dice.below(2)).unwrap()];
            let stored = model.get(&index).cloned();
            let epoch = stored.as_ref().map_or(0, |stored| stored.epoch);
            if dice.below(2) == 0 {
                let claim = LaneClaim {
                    begun_by: (*dice.one(&runs)).to_owned(),
                    held: *dice.one(&[None, None, Some(epoch), Some(epoch + 1), Some(0)]),
                    ..claim(&lanes[index])
                };
                let wanted = LaneState::taken_over(stored.as_ref(), &claim);
                let answer = take_over(sink, &claim);
                assert_eq!(answer, wanted, "step {step}: {claim:?} of {stored:?}");
                model.extend(wanted.ok().map(|state| (index, state)));
            } else {
                let known = stored.is_some();
                let stored = stored.unwrap_or_else(|| LaneState::unknown(lanes[index].clone()));
                let next = Checkpoint {
                    epoch: *dice.one(&[epoch, epoch, epoch + 1, epoch.saturating_sub(1)]),
                    seq: *dice.one(&[
                        stored.seq,
                        stored.seq,
                        stored.seq + 1,
                        stored.seq.saturating_sub(1),
                    ]),
                    done: dice.below(2) == 0,
                    extensions: BTreeMap::from([(format!("\0'\\ {step}"), "\u{ef}".repeat(step as usize))]),
                    ..checkpoint(&stored, &format!("\0'\\ {step}"), dice.below(100))
                };
                let wanted = stored.committed(&next).filter(|_| known);
                let outcome = transact(sink, &[], &next);
                match wanted {
                    Some(state) => {
                        assert_eq!(outcome, Committed::Committed { seq: state.seq }, "step {step}");
                        drop(model.insert(index, state));
                    }
                    None => assert_eq!(outcome, Committed::Fenced, "step {step}: {next:?} of {stored:?}"),
                }
            }
        }
        let claims: Vec<LaneClaim> = model.values().map(held).collect();
        let wanted: Vec<LaneState> = model
            .values()
            .map(|state| LaneState::taken_over(Some(state), &held(state)).unwrap())
            .collect();
        assert_eq!(sinks[0].take_over(&claims).unwrap(), wanted);
    });
}

#[test]
fn hundreds_of_lanes_are_granted_at_once_to_two_who_claim_them() {
    each(|place| {
        let claims: Vec<LaneClaim> = (0..500)
            .map(|number| claim(&lane(&format!("lane {number}"))))
            .collect();
        let backwards: Vec<LaneClaim> = claims.iter().rev().cloned().collect();
        let first = Barrier::new(2);
        let config = &place.config;
        let rounds = 5;
        std::thread::scope(|scope| {
            for claims in [&claims, &backwards] {
                let first = &first;
                scope.spawn(move || {
                    let mut sink = open(config);
                    for _ in 0..rounds {
                        first.wait();
                        let states = sink.take_over(claims).unwrap();
                        let named: Vec<&LaneId> = states.iter().map(|state| &state.lane).collect();
                        let wanted: Vec<&LaneId> = claims.iter().map(|claim| &claim.lane).collect();
                        assert_eq!(named, wanted);
                        // Whoever was first was so everywhere.
                        assert!(states.iter().all(|state| state.epoch == states[0].epoch));
                    }
                });
            }
        });
        assert_eq!(
            place.lines("SELECT count(*), min(epoch), max(epoch) FROM whimbrel.lane"),
            ["500|10|10"]
        );
    });
}

#[test]
fn the_table_is_made_by_the_first_to_take_over_and_by_nothing_before() {
    each(|place| {
        let there = "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
                     WHERE nspname = 'whimbrel' AND relkind = 'r'";
        let mut sink = place.sink();
        assert_eq!(sink.check().unwrap(), []);
        for dry in [true, false] {
            let request = PrepareRequest {
                dry,
                ..PrepareRequest::default()
            };
            assert_eq!(sink.prepare(&request).unwrap().findings, []);
        }
        assert_eq!(sink.take_over(&[]).unwrap(), []);
        assert_eq!(place.lines(there), Vec::<String>::new());
        let (config, first) = (&place.config, &Barrier::new(6));
        std::thread::scope(|scope| {
            for number in 0..6 {
                scope.spawn(move || {
                    let mut sink = open(config);
                    first.wait();
                    let state = take_over(&mut sink, &claim(&lane(&number.to_string()))).unwrap();
                    assert_eq!((state.epoch, state.seq), (1, 0));
                });
            }
        });
        assert_eq!(place.lines(there), ["lane"]);
        assert_eq!(place.lines("SELECT count(*) FROM whimbrel.lane"), ["6"]);
        // Nobody else has a right there.
        assert_eq!(
            place.lines(
                "SELECT acl.grantee FROM pg_class c, aclexplode(c.relacl) acl WHERE c.oid = 'whimbrel.lane'::regclass \
                 AND acl.grantee <> c.relowner UNION ALL SELECT acl.grantee FROM pg_namespace n, aclexplode(n.nspacl) acl \
                 WHERE n.nspname = 'whimbrel' AND acl.grantee <> n.nspowner"
            ),
            Vec::<String>::new()
        );
    });
}

#[test]
fn all_lanes_of_a_call_are_granted_or_none() {
    each(|place| {
        let mut sink = place.sink();
        let lanes = ["a", "b", "c"].map(lane);
        let states = sink.take_over(&[claim(&lanes[0]), claim(&lanes[1])]).unwrap();
        for wrong in [0, 2, u64::MAX] {
            let claims = [
                claim(&lanes[2]),
                held(&states[0]),
                LaneClaim {
                    held: Some(wrong),
                    ..claim(&lanes[1])
                },
            ];
            let error = sink.take_over(&claims).unwrap_err();
            assert_eq!(
                (error.kind, error.code.as_str()),
                (ErrorKind::Integrity, "run.fenced")
            );
        }
        assert_eq!(
            place.lines("SELECT collection, epoch FROM whimbrel.lane ORDER BY 1"),
            ["a|1", "b|1"]
        );
        assert!(sink.take_over(&[claim(&lanes[0]), claim(&lanes[0])]).is_err());
        let granted = sink
            .take_over(&[claim(&lanes[2]), held(&states[1]), held(&states[0])])
            .unwrap();
        assert_eq!([1, 2, 2], [granted[0].epoch, granted[1].epoch, granted[2].epoch]);
    });
}

/// Lanes whose names are hard to keep, and hard to tell apart.
fn odd_lanes() -> Vec<LaneId> {
    let long = |last: char| format!("{}{last}", "x".repeat(2_999));
    let names = [
        String::new(),
        "'; DROP TABLE whimbrel.lane; --".to_owned(),
        "$$ \" \\ {{}} %s".to_owned(),
        "a\0b".to_owned(),
        "a\\u{0}b".to_owned(),
        "\r\n\t".to_owned(),
        "\u{1F426}\u{FEFF}\u{ffff}".to_owned(),
        "e\u{301}".to_owned(),
        "\u{e9}".to_owned(),
        long('y'),
        long('z'),
    ];
    let mut lanes: Vec<LaneId> = names.iter().map(|name| lane(name)).collect();
    let of = |job: &str, source: &str, partition: &[u8]| LaneId {
        job: job.to_owned(),
        source: source.to_owned(),
        partition: Cursor(partition.to_vec()),
        ..lane("")
    };
    // The same letters, cut elsewhere.
    lanes.extend([
        of("ab", "c", b""),
        of("a", "bc", b""),
        of("", "abc", b""),
        of("", "", b"abc"),
    ]);
    lanes.extend([
        of("a", "", &[0; 5_000]),
        of("a", "", &[0; 5_001]),
        of("a", "", b"\\x00"),
    ]);
    lanes
}

#[test]
fn names_may_be_long_and_odd_in_every_encoding() {
    for server in servers() {
        let place = Place::new(&server);
        let latin = format!("latin_{}", place.database.name());
        place.execute(&format!(
            "CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
        ));
        let url = format!("{}?sslmode=disable", server.endpoint().url(&latin));
        for config in [
            place.config.clone(),
            json!({ "url": url, "state_schema": "odd \"one\"" }),
        ] {
            let mut sink = open(&config);
            let lanes = odd_lanes();
            let by = |lane: &LaneId| LaneClaim {
                begun_by: lane.collection.clone(),
                ..claim(lane)
            };
            let claims: Vec<LaneClaim> = lanes.iter().map(by).collect();
            let states = sink.take_over(&claims).unwrap();
            for (number, (state, lane)) in states.iter().zip(&lanes).enumerate() {
                assert_eq!((&state.lane, state.epoch, state.seq), (lane, 1, 0));
                let next = Checkpoint {
                    extensions: BTreeMap::from([(lane.collection.clone(), lane.collection.clone())]),
                    ..checkpoint(state, &lane.collection, number as u64)
                };
                assert_eq!(transact(&mut sink, &[], &next), Committed::Committed { seq: 1 });
            }
            let again = open(&config).take_over(&claims).unwrap();
            for (number, (state, lane)) in again.iter().zip(&lanes).enumerate() {
                let name = &lane.collection;
                let wanted = LaneState {
                    lane: lane.clone(),
                    begun_by: name.clone(),
                    epoch: 2,
                    seq: 1,
                    cursor: Cursor(name.as_bytes().to_vec()),
                    done: false,
                    record_count: number as u64,
                    extensions: BTreeMap::from([(name.clone(), name.clone())]),
                };
                assert_eq!(*state, wanted);
            }
        }
        // What people see of a name.
        assert_eq!(
            place.lines("SELECT job, source, collection, partition FROM whimbrel.lane WHERE collection LIKE 'a%b' ORDER BY 3"),
            ["job|source|a\\\\u{0}b|\\x0001ff", "job|source|a\\u{0}b|\\x0001ff"]
        );
        place.execute(&format!("DROP DATABASE {latin} WITH (FORCE)"));
    }
}

#[test]
fn a_missing_right_is_found_with_the_statement_that_gives_it() {
    each(|place| {
        let guest = format!("keeper_{}", place.database.name());
        place.execute(&format!(
            "CREATE ROLE {guest} LOGIN; CREATE SCHEMA whimbrel; CREATE TABLE pairs(id bigint PRIMARY KEY, a text); \
             GRANT ALL ON pairs TO {guest}"
        ));
        let (port, name) = (place.database.endpoint().port(), place.database.name());
        let as_guest = place
            .with(json!({ "url": format!("postgres://{guest}@127.0.0.1:{port}/{name}?sslmode=disable") }));
        let mut statements = Vec::new();
        loop {
            let findings = as_guest.sink().check().unwrap();
            let Some(finding) = findings
                .iter()
                .find(|finding| finding.level == FindingLevel::Blocker)
            else {
                break;
            };
            assert_eq!(
                (finding.code.as_str(), finding.place.as_deref()),
                ("postgres.no_permission", Some("config.state_schema"))
            );
            let error = take_over(&mut as_guest.sink(), &claim(&lane("a"))).unwrap_err();
            assert_eq!(
                (error.kind, error.code.as_str()),
                (ErrorKind::Permission, "postgres.no_permission")
            );
            let statement = finding
                .help
                .as_ref()
                .unwrap()
                .split('`')
                .nth(1)
                .unwrap()
                .to_owned();
            place.execute(&statement);
            statements.push(statement.replace(&guest, "GUEST"));
            if statements.len() == 1 {
                // Another user's run has made the table meanwhile.
                assert_eq!(take_over(&mut place.sink(), &claim(&lane("a"))).unwrap().epoch, 1);
            }
        }
        assert_eq!(
            statements,
            [
                "GRANT USAGE ON SCHEMA \"whimbrel\" TO \"GUEST\"",
                "GRANT SELECT, INSERT, UPDATE ON \"whimbrel\".\"lane\" TO \"GUEST\""
            ]
        );
        assert_eq!(
            take_over(&mut as_guest.sink(), &claim(&lane("a"))).unwrap().epoch,
            2
        );
        place.execute(&format!("DROP OWNED BY {guest} CASCADE; DROP ROLE {guest}"));
    });
}
