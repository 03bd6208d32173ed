//! The rules as a JSON schema, for editors.

use serde_json::{Value, json};

use super::read::{CHOICES, DAYS, MOST_RULES, PRIORITIES, TASKS};
use crate::scheduler::capability::Capability;

/// A JSON schema (draft 2020-12) of rules in YAML: an editor that is given it completes keys and marks mistakes.
///
/// ```
/// let schema = rbee_core::rules_schema();
/// assert_eq!(schema["properties"]["rules"]["items"]["required"][0], "then");
/// ```
pub fn rules_schema() -> Value {
    let text = json!({"type": "string", "minLength": 1, "maxLength": 500});
    let one_or_more = |item: Value| json!({"anyOf": [item, {"type": "array", "items": item, "minItems": 1, "maxItems": 32}]});
    let place = |about: &str| {
        json!({
            "description": about,
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "region": {"description": "The hive's label region.", "type": "string"},
                "hive": {"description": "The hive's name.", "type": "string"},
                "gpu": {"description": "On a GPU.", "type": "boolean"},
                "labels": {"description": "Labels of the hive.", "type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
            }
        })
    };
    let action = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "reject": {"description": "The job is refused with this reason.", "type": "string"},
            "wait": {"description": "The job waits.", "type": "boolean"},
            "choose": {"description": "Which of several free workers.", "enum": CHOICES},
            "require": place("Only there."),
            "prefer": place("Rather there."),
            "spawn": {"description": "May a worker be started? true by default.", "type": "boolean"},
            "rank": {"description": "The place in the queue: lower goes first; 0 by default.", "type": "integer"}
        }
    });
    let mut when = json!({
        "model": {"description": "Its reference; * and ? stand for anything."},
        "tenant": {"description": "Its tenant; * and ? stand for anything."},
        "priority": {"description": "How urgent it is."},
        "task": {"description": "What is to be done."},
        "size_above_gib": {"description": "The size of the model's files, where a hive has them.", "type": "number", "minimum": 0},
        "size_below_gib": {"description": "The size of the model's files, where a hive has them.", "type": "number", "minimum": 0},
        "prompt_above_bytes": {"description": "The size of the prompt.", "type": "integer", "minimum": 0},
        "queue_above": {"description": "Jobs that wait for the model.", "type": "integer", "minimum": 0},
        "between": {"description": "Times of the day, UTC.", "type": "array", "items": {"type": "string", "pattern": "^[0-2]?[0-9]:[0-5]?[0-9]$"}, "minItems": 2, "maxItems": 2},
        "weekdays": {"description": "Days of the week, UTC."},
        "over_quota": {"description": "Are the tenant's tokens of today used up, or has it more jobs at once than it may?", "type": "boolean"},
        "region": {"description": "A worker that could take the job now is in this region, or in one of these."},
        "capability": {"description": "A worker that could take the job now has this, or all of these."}
    });
    let lists = [
        ("model", text.clone()),
        ("tenant", text.clone()),
        ("priority", json!({"enum": PRIORITIES})),
        ("task", json!({"enum": TASKS})),
        ("weekdays", json!({"enum": DAYS})),
        ("region", text.clone()),
        ("capability", json!({"enum": Capability::NAMES})),
    ];
    for (key, item) in lists {
        when[key]["anyOf"] = one_or_more(item)["anyOf"].clone();
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rbee rules",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "description": text,
            "rules": {
                "description": "The first rule whose conditions all hold decides.",
                "type": "array",
                "maxItems": MOST_RULES,
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["then"],
                    "properties": {
                        "name": text,
                        "when": {"type": "object", "additionalProperties": false, "properties": when},
                        "then": action
                    }
                }
            },
            "otherwise": action
        }
    })
}
