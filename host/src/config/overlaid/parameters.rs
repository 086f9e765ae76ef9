//! What is put in for parameters, and what is no reference to one.
//! Neighbour: `overlaid`, which has the folder with a job file.

use serde_json::json;

use super::super::{KeyFlag, Said};
use super::{JOB, Stage};

#[test]
fn parameters_become_what_the_schema_wants() {
    let job = format!(
        "{JOB}parameters:\n  n: {{ pattern: \"[0-9]+\" }}\n  on: {{ default: true }}\n  part: {{ default: 0.5 }}\n\
         import: {{ batch_size: \"${{param:n}}\", continue_on_error: \"${{param:on}}\" }}\n\
         limits: {{ quota_safety: \"${{param:part}}\" }}\n\
         include: [\"${{param:n}}\", \"users_${{param:n}}_$${{param:n}}_$1\"]\n"
    );
    let stage = Stage::new(&job).set("n=42");
    assert_eq!(stage.value("/import/batch_size"), 42);
    assert_eq!(stage.value("/import/continue_on_error"), true);
    assert_eq!(stage.value("/limits/quota_safety"), 0.5);
    assert_eq!(stage.value("/include"), json!(["42", "users_42_${param:n}_$1"]));
    let stage = Stage::new(&job).set("n=4x").set("m=1").set("part").set("p art=1");
    expect_test::expect![[r#"
        `import.batch_size` must be a whole number, not text
          --> job.yaml:8:23
          help: write digits, without quotes, units and separators
          code: config.wrong_type

        flag `--set` must be `NAME=VALUE`
          --> flag --set
          help: such as `--set user_id=42`
          code: config.bad_flag

        parameter `n` must match `[0-9]+`
          --> flag --set
          code: config.bad_parameter

        flag `--set` names an unknown parameter (known: n, on, part)
          --> flag --set
          help: did you mean `part`?
          code: config.unknown_parameter

        flag `--set` names an unknown parameter `m` (known: n, on, part)
          --> flag --set
          help: declare it under `parameters` of the job
          code: config.unknown_parameter
    "#]]
    .assert_eq(&stage.faults());
}

#[test]
fn what_a_flag_says_is_no_reference() {
    let stage = Stage::new(&format!(
        "{JOB}parameters: {{ a: {{}} }}\ninclude: [\"${{param:a}}\"]\n"
    ))
    .set("a=${env:HOME}");
    assert_eq!(stage.value("/include"), json!(["${env:HOME}"]));
    let mut stage = Stage::new(JOB);
    stage.overrides.keys.push(KeyFlag {
        flag: "--include",
        pointer: "/include",
        says: Said::Value(json!(["${env:HOME}", "$${x"])),
    });
    assert_eq!(stage.value("/include"), json!(["${env:HOME}", "$${x"]));
}
