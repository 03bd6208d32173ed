//! Rules in YAML: the scripts they become, and the errors of invalid ones.

use rbee_core::{
    ClusterView, Placement, RhaiScheduler, Scheduler, TenantId,
    cluster::{LaneKey, LaneView},
    scheduler::{Admission, rules_schema, rules_to_rhai},
    time::Time,
};
use serde_json::Value;

use super::fleet::{ask, chosen, cluster, hive, id, model, on_devices, with_job, worker};

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
            "line 2: rules[0].then: reject, wait, and the keys that say",
        ),
        (
            "rules:\n  - when: {between: [\"25:00\", \"6:00\"]}\n    then: {wait: true}\n",
            "rules[0].when.between: expected two times",
        ),
        ("rules:\n  - when: {weekdays: [monday]}\n    then: {wait: true}\n", "allowed are mon"),
        ("rules:\n  - then: {rank: high}\n", "rules[0].then.rank: expected a whole number"),
        (
            "rules:\n  - then: {choose: [least_loaded, round_robin]}\n",
            "rules[0].then.choose: expected a text of 1 to 500 bytes, not a list",
        ),
        (
            "rules:\n  - when: {capability: logprobs}\n    then: {wait: true}\n",
            "capability: \"logprobs\" is not allowed; allowed are generate, embed, rerank, resume, gpu",
        ),
        (
            "rules:\n  - when: {region: eu}\n    then: {rank: 1}\n",
            "line 2: rules[0].then.rank: a rank is given when the job comes",
        ),
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
        "region: [eu, us]",
        "capability: [gpu, embed]",
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
        // A rank is set before workers are known.
        let of_workers = ["region", "capability"].iter().any(|key| condition.starts_with(key));
        let action = actions[if of_workers { n % 6 } else { n % actions.len() }];
        let yaml = format!(
            "rules:\n  - name: \"one\\ntwo\"\n    when: {{{condition}}}\n    then: {{{action}}}\n"
        );
        let always = format!("otherwise: {{{action}}}\n");
        for yaml in [yaml, always] {
            let policy =
                RhaiScheduler::from_rules(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
            assert_eq!(&*policy.info().source.unwrap().text, yaml.as_str());
            let script = rules_to_rhai(&yaml).unwrap();
            RhaiScheduler::new(script).unwrap();
        }
    }
}

fn policy(yaml: &str) -> RhaiScheduler {
    RhaiScheduler::from_rules(yaml).unwrap()
}

#[test]
fn what_people_see_of_rules_is_their_description_or_their_first_comment() {
    let told =
        |head: &str| policy(&format!("{head}otherwise: {{wait: true}}\n")).info().description;
    let modeline = "# yaml-language-server: $schema=rules.schema.json\n";
    assert_eq!(told("# A lab.\n"), "A lab.");
    assert_eq!(told(&format!("{modeline}\n# A lab.\n")), "A lab.");
    assert_eq!(told(&format!("{modeline}description: Ours\n")), "Ours");
    assert_eq!(told(modeline), "Made of rules.");
}

#[test]
fn a_size_that_nobody_knows_is_neither_above_nor_below() {
    let rules = "rules:\n  - when: {size_below_gib: 7}\n    then: {reject: small}\n  \
                 - when: {size_above_gib: 7}\n    then: {reject: large}\n";
    let cluster = cluster([hive("a", &[24], &[("small", 5), ("large", 9)], &[])], []);
    let said = |name: &str| match policy(rules).place(&ask(name), &cluster) {
        Ok(Placement::Reject(error)) => error.message().to_owned(),
        Ok(_) => "no".to_owned(),
        Err(error) => panic!("{error}"),
    };
    assert_eq!([said("small"), said("large"), said("unknown")], ["small", "large", "no"]);
}

#[test]
fn region_and_capability_look_at_the_workers_that_could_take_the_job_now() {
    let fleet = |busy_in_eu| {
        let hives = [("a", "eu"), ("b", "us")]
            .map(|(name, region)| hive(name, &[24], &[], &[("region", region)]));
        let on_cpu = on_devices(worker(2, "b", "m", 0), &[]);
        cluster(hives, [worker(1, "a", "m", busy_in_eu), on_cpu])
    };
    let holds = |condition: &str, cluster: &ClusterView| {
        let yaml = format!("rules:\n  - when: {{{condition}}}\n    then: {{reject: it holds}}\n");
        let policy = policy(&yaml);
        let rejected = matches!(policy.place(&ask("m"), cluster), Ok(Placement::Reject(_)));
        let admitted = policy.admit(&ask("m"), cluster);
        assert_eq!(admitted, Ok(Admission::Accept { rank: 0 }), "workers are no reason to refuse");
        rejected
    };
    for (condition, while_free, while_busy) in [
        ("region: eu", true, false),
        ("region: [eu, us]", true, true),
        ("region: mars", false, false),
        ("capability: gpu", true, false),
        ("capability: generate", true, true),
        ("capability: [gpu, generate]", true, false),
        ("capability: [generate, embed]", false, false),
        ("capability: gpu, region: us", true, false),
    ] {
        assert_eq!(holds(condition, &fleet(0)), while_free, "{condition}");
        assert_eq!(holds(condition, &fleet(4)), while_busy, "{condition}, but it is busy");
    }
}

#[test]
fn a_job_is_refused_when_it_comes_by_the_first_rule_that_holds() {
    let rules = "
rules:
  - when: {tenant: boss}
    then: {prefer: {region: eu}}
  - when: {region: eu, tenant: friend}
    then: {wait: true}
  - when: {queue_above: 3}
    then: {reject: too many}
  - when: {priority: batch}
    then: {rank: 5}
  - when: {tenant: guest}
    then: {reject: no guests}
";
    let policy = policy(rules);
    let mut crowded = cluster([hive("a", &[24], &[], &[])], [worker(1, "a", "m", 0)]);
    let lane = LaneKey { model: model("m"), tenant: None };
    crowded.put_lane(&lane, Some(LaneView { depth: 4, oldest: Time::default() }));
    let empty = cluster([hive("a", &[24], &[], &[])], [worker(1, "a", "m", 0)]);
    let of = |name: &str| with_job(ask("m"), |job| job.tenant = Some(TenantId::new(name).unwrap()));
    let refused = |name: &str, cluster: &ClusterView| match policy.admit(&of(name), cluster) {
        Ok(Admission::Refuse(error)) => error.message().to_owned(),
        Ok(Admission::Accept { .. }) => String::new(),
        Err(error) => panic!("{error}"),
    };
    let told = |cluster| ["boss", "friend", "guest", "other"].map(|name| refused(name, cluster));
    assert_eq!(told(&crowded), ["", "", "too many", "too many"]);
    assert_eq!(told(&empty), ["", "", "no guests", ""]);
    assert_eq!(chosen(&policy, &of("other"), &crowded), Ok(id(1)), "it waits there already");
}

/// The part of JSON Schema that the schema uses.
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
    // As a YAML reader passes them to an editor.
    let office = serde_json::json!({
        "description": "x",
        "rules": [
            {"name": "a", "when": {"size_above_gib": 60, "between": ["07:00", "19:00"]}, "then": {"reject": "x"}},
            {"when": {"tenant": "guest-*", "region": ["eu", "us"], "capability": "gpu"}, "then": {"require": {"region": "eu"}, "choose": "least_loaded"}},
            {"when": {"priority": "batch", "task": ["embed"], "over_quota": true, "weekdays": ["sat"]}, "then": {"rank": 100}}
        ],
        "otherwise": {"prefer": {"labels": {"power": "awake"}}, "choose": "prefix_affinity", "spawn": true}
    });
    check(&rules_schema(), &office, "");
    // JSON is YAML: the reader accepts what the schema allows.
    rules_to_rhai(&office.to_string()).unwrap();
}

#[test]
fn a_place_is_tried_once() {
    for action in ["{require: {region: eu}}", "{prefer: {region: eu}}"] {
        let script = rules_to_rhai(&format!("otherwise: {action}\n")).unwrap();
        let mut ways: Vec<_> = script.lines().filter(|line| line.contains("spawn_on(")).collect();
        let all = ways.len();
        ways.sort_unstable();
        ways.dedup();
        assert_eq!(ways.len(), all, "{script}");
    }
}
