//! Grammars made to take much time, memory or stack.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{CompiledGrammar, Error, Grammar, LARGE, Mask, Matcher, Random, schema};

/// Without optimization and on a busy machine. Optimized, the slowest takes about a second.
const MOST: Duration = Duration::from_secs(20);

fn named(count: usize, prefix: &str, value: &Value) -> Map<String, Value> {
    (0..count).map(|at| (format!("{prefix}{at}"), value.clone())).collect()
}

/// A chain of definitions, each so many levels deep.
fn chain(count: usize, levels: usize, wrap: fn(Value) -> Value) -> Value {
    let mut definitions = named(1, "last", &json!({"type": "null"}));
    for at in 0..count {
        let next = if at + 1 == count { "last0".into() } else { format!("a{}", at + 1) };
        let inner = json!({"$ref": format!("#/$defs/{next}")});
        definitions.insert(format!("a{at}"), (0..levels).fold(inner, |inner, _| wrap(inner)));
    }
    json!({"$ref": "#/$defs/a0", "$defs": definitions})
}

fn cases() -> Vec<(&'static str, Grammar)> {
    let text = json!({"type": "string"});
    let optional = json!({"type": "object", "properties": named(250, "p", &text)});
    let cross = |width: usize, depth: usize| {
        let options = |level: usize| -> Value {
            (0..width)
                .map(|at| {
                    json!({"type": "object", "properties": {format!("a{level}_{at}"): text},
                                       "required": [format!("a{level}_{at}")]})
                })
                .collect()
        };
        json!({"allOf": (0..depth).map(|level| json!({"anyOf": options(level)})).collect::<Vec<_>>()})
    };
    let multiples = |numbers: &[u32]| {
        let options = numbers.iter().map(|number| json!({"type": "integer", "multipleOf": number}));
        schema(&json!({"anyOf": options.collect::<Vec<_>>()}))
    };
    let patterns = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|at| json!({"type": "string", "pattern": format!("a{at}.{{{}}}b", 30 + at)}))
            .collect()
    };
    let enumeration: Vec<String> =
        (0..1_000).map(|at| format!("value {at} of many {}", at * 7_919 % 1_000)).collect();
    vec![
        ("optional properties", schema(&optional)),
        (
            "optional properties of several objects",
            schema(&json!({"prefixItems": vec![optional.clone(); 4]})),
        ),
        ("values", schema(&json!({"enum": enumeration}))),
        ("combinations", schema(&cross(8, 5))),
        ("pairs", schema(&cross(2, 14))),
        ("name patterns", schema(&json!({"patternProperties": named(100, "^n", &text)}))),
        ("references", schema(&chain(190, 1, |inner| json!({"items": inner, "type": "array"})))),
        (
            "deep references",
            schema(&chain(31, 30, |inner| json!({"items": inner, "type": "array"}))),
        ),
        ("deep conjunctions", schema(&chain(31, 30, |inner| json!({"allOf": [inner]})))),
        ("a remainder", schema(&json!({"type": "integer", "multipleOf": 997}))),
        ("joined patterns", schema(&json!({"allOf": patterns(40)}))),
        (
            "joined terminals",
            Grammar::Lark(format!("start: A\nA: {}\n", vec!["/.*a.{30}b.*/"; 40].join(" & "))),
        ),
        (
            "combined remainders",
            schema(&json!({"allOf": [{"type": "integer", "multipleOf": 97}, {"multipleOf": 101}]})),
        ),
        ("alternative remainders", multiples(&[7, 9, 11, 13])),
        ("unequal remainders", multiples(&[1_000, 500, 300, 40])),
        (
            "exact lengths",
            schema(&json!({"type": "string", "minLength": 10_000, "maxLength": 10_000})),
        ),
        (
            "exact counts",
            schema(
                &json!({"type": "array", "minItems": 10_000, "items": {"type": "array", "maxItems": 9_999}}),
            ),
        ),
        ("a pattern with many states", schema(&json!({"type": "string", "pattern": ".*a.{30}b"}))),
        (
            "nested repetitions",
            schema(&json!({"type": "string", "pattern": "((a{1,1000}){1,1000}){1,1000}"})),
        ),
        ("a nullable repetition", Grammar::Regex("(a?){20000}".into())),
        ("nested groups", Grammar::Regex(format!("{}a{}", "(".repeat(240), ")*".repeat(240)))),
        (
            "too nested groups",
            Grammar::Regex(format!("{}a{}", "(".repeat(20_000), ")".repeat(20_000))),
        ),
        ("many stars", Grammar::Regex("(a|b|c)*".repeat(3_000))),
        ("classes", Grammar::Regex("\\w{1,9000}\\d{1,9000}".into())),
        ("a long text", Grammar::Regex("a".repeat(60_000))),
        (
            "chained rules",
            Grammar::Lark(
                (0..1_700).fold("start: a0\n".into(), |text: String, at| {
                    text + format!("a{at}: a{} \"x\"\n", at + 1).as_str()
                }) + "a1700: \"y\"\n",
            ),
        ),
        (
            "chained terminals",
            Grammar::Lark(
                (0..1_700).fold("start: A0\n".into(), |text: String, at| {
                    text + format!("A{at}: A{} \"x\"\n", at + 1).as_str()
                }) + "A1700: \"y\"\n",
            ),
        ),
        ("ambiguous rules", Grammar::Lark("start: s\ns: s s | \"a\" | \n".into())),
        ("many optional parts", Grammar::Lark(format!("start: {}\n", "\"a\"? ".repeat(5_000)))),
        (
            "intersections",
            Grammar::Lark("start: A\nA: (/.*a.{20}/ & /.*b.{21}/ & ~/.*c.{22}/)\n".into()),
        ),
    ]
}

/// Walks with the small stack of a thread of a server.
fn walk_on_small_stack(compiled: &CompiledGrammar) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let walk = || {
            let mut matcher = Matcher::new(compiled);
            let mut mask = Mask::new(LARGE.size);
            let mut random = Random(5);
            for _ in 0..30 {
                matcher.mask(&mut mask)?;
                let allowed: Vec<u32> = mask.iter().filter(|token| *token != LARGE.end).collect();
                if allowed.is_empty() {
                    break;
                }
                matcher.accept(allowed[random.next(allowed.len())])?;
            }
            Ok(())
        };
        std::thread::Builder::new()
            .stack_size(1024 * 1024)
            .spawn_scoped(scope, walk)
            .unwrap()
            .join()
            .unwrap()
    })
}

#[test]
fn hostile_grammars_are_refused_or_work_in_bounded_time_and_stack() {
    for (name, grammar) in cases() {
        let start = Instant::now();
        let result =
            LARGE.factory.compile(&grammar).and_then(|compiled| walk_on_small_stack(&compiled));
        match &result {
            Ok(()) | Err(Error::TooComplex { .. } | Error::InvalidGrammar { .. }) => {}
            Err(other) => panic!("{name}: {other:?}"),
        }
        assert!(start.elapsed() < MOST, "{name} took {:?}", start.elapsed());
        if let Err(error) = result {
            let message = error.to_string();
            assert!(message.len() < 700 && !message.contains('\n'), "{name}: {message}");
        }
    }
}

#[test]
fn text_that_nests_too_deep_for_the_parser_is_refused() {
    let deep = format!("{}{}", r#"{"items":"#.repeat(5_000), "}".repeat(5_000));
    assert!(super::invalid(&Grammar::JsonSchema(deep)).contains("recursion limit exceeded"));
    let value = format!("{{\"const\": {}1{}}}", "[".repeat(120), "]".repeat(120));
    let result = LARGE.factory.compile(&Grammar::JsonSchema(value));
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn too_much_work_in_the_middle_of_an_answer_is_an_error_that_stays() {
    let choices: Vec<String> = (0..2_500).map(|at| format!("\"w{at}\"")).collect();
    let compiled = LARGE.compile(&Grammar::Lark(format!("start: \"x\" ({})\n", choices.join("|"))));
    let mut matcher = Matcher::new(&compiled);
    let mut mask = Mask::new(LARGE.size);
    let first = LARGE.encode("x").into_iter().find_map(|token| matcher.accept(token).err());
    let error = first.or_else(|| matcher.mask(&mut mask).err()).unwrap();
    assert!(matches!(error, Error::TooComplex { .. }), "{error:?}");
    assert!(matches!(matcher.mask(&mut mask), Err(Error::TooComplex { .. })));
}
