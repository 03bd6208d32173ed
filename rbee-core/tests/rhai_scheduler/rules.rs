//! Rules in YAML: what they become, and what is said of wrong ones.

use rbee_core::{RhaiScheduler, Scheduler, rules_schema, rules_to_rhai};
use serde_json::Value;

fn refused(yaml: &str) -> String {
    rules_to_rhai(yaml).expect_err("it must be refused").message().to_owned()
}

#[test]
fn a_mistake_is_named_with_its_line_and_key() {
    for (yaml, said) in [
        (
            "rules:\n  - when: {modle: x}\n    then: {wait: true}\n",
            "line 2: rules[0].when.modle: there is no such key; did you mean model?",
        ),
        ("rules:\n  - when: {model: x}\n", "line 2: rules[0]: then is missing"),
        (
            "rules:\n  - then:\n      choose: fastest\n",
            "line 3: rules[0].then.choose: \"fastest\" is not allowed; allowed are least_loaded",
        ),
        (
            "rules:\n  - then: {wait: true, reject: no}\n",
            "line 2: rules[0].then: reject, wait, and what says",
        ),
        (
            "rules:\n  - when: {between: [\"25:00\", \"6:00\"]}\n    then: {wait: true}\n",
            "rules[0].when.between: expected two times",
        ),
        ("rules:\n  - when: {weekdays: [monday]}\n    then: {wait: true}\n", "allowed are mon"),
        ("rules:\n  - then: {rank: high}\n", "rules[0].then.rank: expected a whole number"),
        ("rules: 5\n", "line 1: rules: expected a list"),
        ("rule: []\n", "did you mean rules?"),
        ("", "line 1: there are no rules"),
        ("rules: [\n", "this is not YAML"),
        (
            "otherwise:\n  require: {labels: {x: []}}\n",
            "line 2: otherwise.require.labels.x: expected a text",
        ),
    ] {
        let message = refused(yaml);
        assert!(message.contains(said), "{yaml}: {message}");
    }
}

#[test]
fn every_condition_and_action_makes_a_script_that_works() {
    let conditions = [
        "model: [\"*70b*\", x]",
        "tenant: guest-*",
        "priority: batch",
        "task: embed",
        "size_above_gib: 1.5",
        "size_below_gib: 7",
        "prompt_above_bytes: 100",
        "queue_above: 3",
        "between: [\"22:00\", \"06:00\"]",
        "weekdays: [sat, sun]",
        "over_quota: true",
        "over_quota: false",
    ];
    let actions = [
        "reject: \"a \\\"quoted\\\" ${reason} `x` \\\\ \\n\"",
        "wait: true",
        "choose: prefix_affinity",
        "choose: most_vram_free",
        "require: {region: eu, gpu: true, labels: {power: awake}}",
        "prefer: {hive: attic}, spawn: false",
        "require: {hive: attic}, prefer: {gpu: true}, choose: round_robin, rank: -5",
        "rank: 7",
    ];
    for (n, condition) in conditions.iter().enumerate() {
        let action = actions[n % actions.len()];
        let yaml = format!(
            "rules:\n  - name: \"one\\ntwo\"\n    when: {{{condition}}}\n    then: {{{action}}}\n"
        );
        let always = format!("otherwise: {{{action}}}\n");
        for yaml in [yaml, always] {
            let policy =
                RhaiScheduler::from_rules(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
            assert_eq!(&*policy.source().unwrap().text, yaml.as_str());
            let script = rules_to_rhai(&yaml).unwrap();
            RhaiScheduler::new(script).unwrap();
        }
    }
}

/// As much of the schema's language as it uses.
fn check(schema: &Value, value: &Value, path: &str) {
    if let Some(kinds) = schema["anyOf"].as_array() {
        let fits = |schema: &&Value| match schema["type"].as_str() {
            Some("array") => value.is_array(),
            _ => !value.is_array(),
        };
        return check(kinds.iter().find(fits).unwrap(), value, path);
    }
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{path}: {value}");
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let property = &schema["properties"][key];
                let schema =
                    if property.is_null() { &schema["additionalProperties"] } else { property };
                assert!(schema.is_object(), "{path}.{key} is not in the schema");
                check(schema, value, &format!("{path}.{key}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check(&schema["items"], item, path)),
        _ => {
            let kind = match value {
                Value::String(_) => "string",
                Value::Bool(_) => "boolean",
                _ => "number",
            };
            let declared = &schema["type"];
            let fits = declared.is_null()
                || declared == kind
                || (declared == "integer" && kind == "number")
                || declared.as_array().is_some_and(|kinds| kinds.contains(&kind.into()));
            assert!(fits, "{path}: {value} is no {declared}");
        }
    }
}

#[test]
fn the_rules_that_ship_follow_the_schema() {
    // As a reader of YAML gives them to an editor.
    let office = serde_json::json!({
        "description": "x",
        "rules": [
            {"name": "a", "when": {"size_above_gib": 60, "between": ["07:00", "19:00"]}, "then": {"reject": "x"}},
            {"when": {"tenant": "guest-*"}, "then": {"require": {"region": "eu"}, "choose": "least_loaded"}},
            {"when": {"priority": "batch", "task": ["embed"], "over_quota": true, "weekdays": ["sat"]}, "then": {"rank": 100}}
        ],
        "otherwise": {"prefer": {"labels": {"power": "awake"}}, "choose": "prefix_affinity", "spawn": true}
    });
    check(&rules_schema(), &office, "");
    // JSON is YAML: what the schema allows is what is read.
    rules_to_rhai(&office.to_string()).unwrap();
}
