//! The JSON schema of rules, for editors.

use serde_json::{Value, json};

use super::read::{CHOICES, DAYS, MOST_RULES, PRIORITIES, TASKS};
use crate::scheduler::capability::Capability;

/// The JSON schema (draft 2020-12) of rules in YAML: with it, an editor completes keys and marks mistakes.
///
/// ```
/// let schema = rbee_core::scheduler::rules_schema();
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
            "choose": {"description": "How one of several free workers is chosen.", "enum": CHOICES},
            "require": place("The job runs only there."),
            "prefer": place("The job runs there if possible."),
            "spawn": {"description": "Whether a worker may be started; true by default.", "type": "boolean"},
            "rank": {"description": "The rank in the queue: lower goes first; 0 by default.", "type": "integer"}
        }
    });
    let mut when = json!({
        "model": {"description": "The model's reference; * stands for any text, ? for one character."},
        "tenant": {"description": "The job's tenant; * stands for any text, ? for one character."},
        "priority": {"description": "The job's priority."},
        "task": {"description": "The job's task."},
        "size_above_gib": {"description": "The size of the model's files; it does not hold if no hive has them.", "type": "number", "minimum": 0},
        "size_below_gib": {"description": "The size of the model's files; it does not hold if no hive has them.", "type": "number", "minimum": 0},
        "prompt_above_bytes": {"description": "The size of the prompt.", "type": "integer", "minimum": 0},
        "queue_above": {"description": "Jobs that wait for the model.", "type": "integer", "minimum": 0},
        "between": {"description": "Times of the day, UTC.", "type": "array", "items": {"type": "string", "pattern": "^[0-2]?[0-9]:[0-5]?[0-9]$"}, "minItems": 2, "maxItems": 2},
        "weekdays": {"description": "Days of the week, UTC."},
        "over_quota": {"description": "Whether the tenant's tokens of today are used up, or it has more jobs than it may have.", "type": "boolean"},
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
