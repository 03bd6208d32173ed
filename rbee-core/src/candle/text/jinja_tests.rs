//! Templates compared with what jinja2 makes of them in the environment that the transformers library sets up.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::Deserialize;

use super::*;

/// What a template gives, if not what Jinja gives: nothing but an error.
const REFUSED: &[&str] = &[
    "{{ '{!r}'.format('a') }}",
    "{{ '{:%}'.format(half) }}",
    "{{ '{a}'.format_map({'a': 1}) }}",
    "{{ 'abc'.encode() }}",
    "{{ 'abc'.translate({97: 'x'}) }}",
    "{% set a, b = 'xy' %}{{ a }}{{ b }}",
    "{% block a %}x{{ text }}{% endblock %}",
    "{% block a %}x{% endblock %}{{ self.a() }}",
];

/// Templates that Jinja refuses, and this engine does not: they work nowhere else, so no model comes with them.
const LENIENT: &[&str] = &[
    "{{ text.replace(old='o', new='0') }}",
    "{{ {[1]: 2} }}",
    "{{ list|map('string')|tojson }}",
    "{{ messages|selectattr('role', '==', 'user')|map(attribute='content')|last }}",
    "{% for x in none %}x{% endfor %}",
];

/// Another text than Jinja's, for what no template needs.
const DIFFERENT: &[&str] = &[
    "{{ range(10)[2:4] }}",
    "{{ list[1.0] }}",
    "{{ self is defined }}",
    "{{ self }}",
    "{% macro m(a, b, c='z') %}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.catch_varargs }}{{ m.caller }}",
];

/// The fixture. Its context is read in the order of the file, which mappings keep.
#[derive(Deserialize)]
struct Fixture {
    names: BTreeMap<String, BTreeSet<String>>,
    context: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    /// Nothing if the template must fail.
    text: Option<String>,
}

fn fixture() -> Fixture {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat_templates/cases.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn render(source: &str, context: &Value, steps: u64) -> Result<String, String> {
    let environment = environment("t", source, steps).map_err(|error| error.to_string())?;
    let template = environment.get_template("t").map_err(|error| error.to_string())?;
    template.render(context.clone()).map_err(|error| error.to_string())
}

fn alone(source: &str) -> Result<String, String> {
    render(source, &Value::from_pairs([("", "")]), 100_000)
}

#[test]
fn templates_give_the_text_that_transformers_gives() {
    let Fixture { context, cases, .. } = fixture();
    let mut wrong = Vec::new();
    assert!(cases.len() > 1_700);
    for case in &cases {
        let source = case.template.as_str();
        let (found, expected) = (render(source, &context, 50_000_000), case.text.as_ref());
        let (refused, lenient, different) =
            (REFUSED.contains(&source), LENIENT.contains(&source), DIFFERENT.contains(&source));
        let is_right = match (&found, expected) {
            (Ok(text), Some(expected)) => (text == expected) != different,
            (Ok(_), None) => lenient,
            (Err(error), Some(_)) => refused || error.contains("not supported in chat templates"),
            (Err(_), None) => true,
        };
        if !is_right || (refused && found.is_ok()) || (lenient && found.is_err()) {
            wrong.push(format!("{source}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_filter_test_and_function_of_jinja_exists_and_no_other() {
    let names = fixture().names;
    let is =
        |name: &str, kind: &str| alone(&format!("{{{{ '{name}' is {kind} }}}}")).unwrap() == "True";
    let (filters, tests) = (&names["filters"], &names["tests"]);
    assert!(filters.len() > 50 && tests.len() > 35);
    let others = ["split", "lines", "int", "bool", "startingwith"];
    for name in filters.iter().chain(tests).map(String::as_str).chain(others) {
        assert_eq!(is(name, "filter"), filters.contains(name), "filter {name}");
        assert_eq!(is(name, "test"), tests.contains(name), "test {name}");
    }
    for name in &names["globals"] {
        assert_eq!(alone(&format!("{{{{ {name} is defined }}}}")).unwrap(), "True", "{name}");
    }
}

#[test]
fn what_is_not_supported_says_so() {
    for (source, said) in [
        ("{{ 'a' | wordwrap }}", "the filter wordwrap is not supported in chat templates"),
        ("{{ [1] | random }}", "the filter random is not supported"),
        ("{{ lipsum() }}", "the function lipsum is not supported"),
        ("{% macro m() %}{{ varargs }}{% endmacro %}", "varargs of a macro is not supported"),
        ("{% macro m(a, b=a) %}{% endmacro %}", "a value in macro that uses \"a\" from before it"),
        (
            "{% for x in [1] %}{% with %}{% break %}{% endwith %}{% endfor %}",
            "{% break %} within {% with %} is not supported",
        ),
        ("{{ 'a'.encode() }}", "a str has no method \"encode\""),
        ("{{ '%q' % 1 }}", "%q is no format; allowed are %s"),
    ] {
        let error = alone(source).unwrap_err();
        assert!(error.contains(said), "{source}: {error}");
    }
}

#[test]
fn no_template_takes_much_memory_or_time() {
    let doubled = |step: &str| {
        format!(
            "{{% set ns = namespace(x='xxxxxxxxxxxxxxxx') %}}{{% for i in range(40) %}}{{% set ns.x = {step} %}}{{% endfor %}}"
        )
    };
    for step in [
        "ns.x ~ ns.x",
        "'%s%s' % (ns.x, ns.x)",
        "ns.x.replace('x', 'xx')",
        "ns.x | replace('x', 'xx')",
        "[ns.x, ns.x] | join",
        "ns.x.join(['', '', ''])",
        "'{0}{0}'.format(ns.x)",
        "[ns.x, ns.x] | tojson",
        "[ns.x, ns.x] | string",
        "ns.x | urlencode ~ ns.x",
        "('' | safe) + ns.x + ns.x",
    ] {
        assert!(alone(&doubled(step)).is_err(), "{step}");
    }
    for source in [
        "{{ '%999999999d' % 1 }}",
        "{{ '%.999999999f' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ 'x'.center(999999999) }}",
        "{{ 'x' | center(999999999) }}",
        "{{ 'x'.zfill(999999999) }}",
        "{{ 'x' | indent(999999999) }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ [1] | tojson(indent=999999999) }}",
        "{{ [1] | slice(999999999) }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'x' in [1, 2] }}{% endfor %}{% endfor %}",
        // A list that contains itself many times over.
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x in [ns.y] }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(400) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
    ] {
        assert!(alone(source).is_err(), "{source}");
    }
}

/// A template that makes `x` anew from itself, this many times.
fn again(step: &str, times: usize) -> String {
    format!(
        "{{% set ns = namespace(x=[], y=0) %}}{{% for i in range({times}) %}}{step}{{% endfor %}}hello"
    )
}

#[test]
fn no_value_is_nested_so_deeply_that_the_stack_ends() {
    for value in [
        "[ns.x]",
        "[1, [2, [ns.x]]]",
        "(ns.x,)",
        "ns.x, 1",
        "{'a': ns.x}",
        "{(ns.x,): 1}",
        "dict(a=ns.x)",
        "dict.fromkeys(['a'], ns.x)",
        "[ns.x] + []",
        "[ns.x] * 2",
        "[[ns.x], 1][:1]",
        "[ns.x] | list",
        "[ns.x] | reverse",
        "{'a': ns.x} | items",
        "{'a': ns.x} | dictsort",
        "{'a': ns.x}.items()",
        "[ns.x, ns.x] | batch(1)",
        "ns.x | batch(1) if ns.x else [1]",
        "ns.x | slice(1) if ns.x else [1]",
        "[{'a': ns.x}] | groupby('b')",
        "[ns.x].count",
        "cycler(ns.x)",
        "joiner(ns.x)",
        "namespace(x=ns.x)",
        "[namespace(x=ns.x)]",
    ] {
        let error = alone_for_long(&again(&format!("{{% set ns.x = {value} %}}"), 100_000));
        let error = error.expect_err(value);
        assert!(
            error.contains("nested too deeply")
                || error.contains("in a namespace is not supported")
                || error.contains("too many values")
                || error.contains("is not supported as a key"),
            "{value}: {error}"
        );
    }
    // Namespaces can be joined after they were made.
    let joined = "{% set a = ns.y %}{% set b = namespace() %}{% set a.x = b %}{% set ns.y = b %}";
    let source = again(joined, 100_000).replace("y=0", "y=namespace()");
    assert!(alone_for_long(&source).unwrap_err().contains("in a namespace is not supported"));
    let held =
        "{% for j in [1] %}{% if loop.changed(ns.y) %}{% set ns.y = loop %}{% endif %}{% endfor %}";
    assert!(alone_for_long(&again(held, 100_000)).unwrap_err().contains("not supported"));
    // Without a namespace, in one line after the other or from call to call.
    let lines = format!("{{% set x = [] %}}{}hello", "{% set x = [x] %}".repeat(100_000));
    assert!(alone_for_long(&lines).unwrap_err().contains("nested too deeply"));
    let slices = format!("{{% set x = [] %}}{}hello", "{% set x = x[0:] %}".repeat(100_000));
    assert_eq!(alone_for_long(&slices).unwrap(), "hello");
    let mut nested = "x".to_owned();
    (0..20).for_each(|_| nested = format!("[{nested}]"));
    let calls = format!(
        "{{% macro m(x, n) %}}{{% if n %}}{{{{ [m({nested}, n - 1)] }}}}{{% endif %}}{{% endmacro %}}{{{{ m([], 40) }}}}"
    );
    assert!(alone_for_long(&calls).unwrap_err().contains("nested too deeply"));
    // What is nested as in a conversation stays as it is.
    let source = again("{% set ns.x = [ns.x] %}", 150) + "{{ ns.x | string | length }}";
    assert_eq!(alone_for_long(&source).unwrap(), "hello302");
}

#[test]
fn no_chain_of_conditions_is_so_long_that_the_stack_ends() {
    let chain = |count: usize, inner: &str| {
        let more = format!("{{% elif x == 1 %}}{inner}").repeat(count);
        format!("{{% set x = 0 %}}{{% if x == 1 %}}{more}{{% else %}}hello{{% endif %}}")
    };
    assert_eq!(alone(&chain(199, "")).unwrap(), "hello");
    // One chain after another is no longer chain.
    assert_eq!(alone(&chain(199, "").repeat(3)).unwrap(), "hello".repeat(3));
    for source in [chain(200, ""), chain(100_000, ""), chain(150, &chain(50, ""))] {
        let error = alone(&source).unwrap_err();
        assert!(error.contains("more than 200 `if` and `elif`"), "{error}");
    }
}

#[test]
fn no_expression_is_nested_so_deeply_that_the_stack_ends() {
    let count = 9_000;
    for (open, close) in [
        ("not ", ""),
        ("-", ""),
        ("+", ""),
        ("(", ")"),
        ("[", "]"),
        ("{1:", "}"),
        ("a(", ")"),
        ("1 if 1 else ", ""),
    ] {
        let (open, close) = (open.repeat(count.min(60_000 / open.len())), close.repeat(count));
        for source in [
            format!("{{{{ {open}1{close} }}}}"),
            format!("{{% set x = {open}1{close} %}}"),
            // Not understood for another reason.
            format!("{{{{ [recursive] {open}1{close} }}}}"),
        ] {
            let error = alone(&source).unwrap_err();
            assert!(error.contains("supported"), "{}: {error}", &source[..20]);
        }
    }
}

#[test]
fn what_the_rewriting_does_not_understand_is_not_run() {
    // Else it would make values without a limit.
    for source in ["{{ [recursive] }}", "{% set x = [recursive] %}", "{% do range(1) %}"] {
        let error = alone(source).unwrap_err();
        assert!(error.contains("is not supported in chat templates"), "{source}: {error}");
    }
}

fn alone_for_long(source: &str) -> Result<String, String> {
    render(source, &Value::from_pairs([("", "")]), 20_000_000)
}

#[test]
fn no_text_or_list_is_made_that_takes_much_memory() {
    let long = "{% set tabs = '\t' * 1000000 %}{% set lines = '\n' * 1000000 %}";
    for (expression, said) in [
        ("lines | indent(100000, true, true)", "a text becomes too long"),
        ("lines | indent(tabs, true, true)", "a text becomes too long"),
        ("tabs.expandtabs(1000) | length", "a text becomes too long"),
        ("'x' * 90000000", "a text becomes too long"),
        ("90000000 * 'x'", "a text becomes too long"),
        ("tabs * 30 + tabs * 30", "a text becomes too long"),
        ("tabs * 30 ~ tabs * 30", "a text becomes too long"),
        ("([tabs] * 40) | join", "a text becomes too long"),
        ("([tabs] * 40) | string", "a text becomes too long"),
        ("([tabs] * 40) | tojson", "a text becomes too long"),
        ("[[[1, 2]]] | tojson(indent=tabs * 30)", "a text becomes too long"),
        ("[1, 2, 3] | tojson(separators=(tabs * 30, ':'))", "a text becomes too long"),
        ("('<' * 10000000) | e", "a text becomes too long"),
        ("('<' * 10000000) | forceescape", "a text becomes too long"),
        ("(tabs * 20) | urlencode", "a text becomes too long"),
        ("([[tabs, tabs]] * 10) | urlencode", "a text becomes too long"),
        ("lines.replace('\n', 'x' * 100)", "a text becomes too long"),
        ("'%s%s' % (tabs * 30, tabs * 30)", "a text becomes too long"),
        ("'%r' % (tabs * 30)", "a text becomes too long"),
        ("(tabs * 30).join(['', '', ''])", "a text becomes too long"),
        ("'{:{w}}'.format(1, w=999999999)", ""),
        ("[0] * 90000000", "a list of more than"),
        ("([0] * 900000) + ([0] * 900000)", "a list of more than"),
        ("(tabs * 2) | list | length", "a list of more than"),
        ("(tabs * 2).split('\t') | length", "a list of more than"),
        ("('x ' * 1000002).split() | length", "a list of more than"),
        ("('\n' * 1000002).splitlines() | length", "a list of more than"),
        ("dict.fromkeys(tabs * 2)", "a list of more than"),
        ("strftime_now('%c' * 1000) | length", "the format of a date"),
    ] {
        // What is made is too long for a message.
        let made = alone_for_long(&format!("{long}{{{{ {expression} }}}}"));
        let error = made.map(|text| text.len()).expect_err(expression);
        assert!(error.contains(said), "{expression}: {error}");
    }
    // Not in many small parts either.
    for source in [
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = ns.x + ['x' * (30000000 + i)] %}{% endfor %}",
        "{% set t = 'x' * 30000000 %}{% set b %}{% for i in range(1000) %}{{ t }}{% endfor %}{% endset %}",
    ] {
        assert!(alone_for_long(source).unwrap_err().contains("fuel"), "{source}");
    }
}

#[test]
fn values_that_share_their_parts_are_compared_and_hashed_in_steps() {
    for step in ["ns.x == ns.y", "ns.x != ns.y", "ns.x in [ns.y]", "{(ns.x,): 1}"] {
        let source = format!(
            "{{% set ns = namespace(x=(1,), y=(1,)) %}}{{% for i in range(60) %}}{{% set ns.x = (ns.x, ns.x) %}}{{% set ns.y = (ns.y, ns.y) %}}{{% endfor %}}{{{{ {step} }}}}"
        );
        assert!(alone_for_long(&source).is_err(), "{step}");
    }
}

#[test]
fn an_expression_of_very_many_parts_is_refused_before_it_takes_time() {
    for operator in ["%", "+", "-", "*", "**", "~", " and ", " or ", "==", "|e|", ".a."] {
        let source = format!("{{{{ {} }}}}", vec!["a"; 1_002].join(operator));
        let error = alone(&source).unwrap_err();
        assert!(error.contains("more than 1000 parts"), "{operator}: {error}");
        let source = format!("{{{{ {} }}}}", vec!["a"; 1_000_000].join(operator));
        assert!(alone(&source).unwrap_err().contains("allowed are up to 65536"), "{operator}");
    }
    let sum = format!("{{{{ {} }}}}", vec!["1"; 1_000].join("+"));
    assert_eq!(alone(&sum).unwrap(), "1000");
}

#[test]
fn the_line_of_an_error_is_that_of_the_source() {
    let error = alone("a\n{{ {\n 'a':\n 1 } }}\n{{ 1 + none }}").unwrap_err();
    assert!(error.contains("t:5"), "{error}");
}
