use serde_json::json;

use super::*;
use crate::task::Role;

fn template(source: &str) -> ChatTemplate {
    let names = TokenNames { bos: Some("<s>".into()), eos: Some("</s>".into()) };
    ChatTemplate::compile("chat_template.jinja".into(), source.into(), &names).unwrap()
}

fn messages(turns: &[(Role, &str)]) -> Vec<Message> {
    let turn = |(role, content): &(Role, &str)| Message::new(*role, *content);
    turns.iter().map(turn).collect()
}

fn render(source: &str) -> Result<String> {
    let messages = messages(&[(Role::System, "Be kind."), (Role::User, " <Hi> ")]);
    let rendered = template(source).render(&messages, &AddedTokens::default());
    rendered.map(|prompt| prompt.text)
}

#[test]
fn conversations_are_rendered_with_the_names_and_methods_templates_use() {
    let llama_2 = "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}\
        {% set system_message = messages[0]['content'] %}{% endif %}{% for message in loop_messages %}\
        {% if loop.index0 == 0 %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}\
        {% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}\
        {% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";
    let rendered = render(llama_2).unwrap();
    assert_eq!(rendered, "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n <Hi> [/INST]");
    let methods = "{% for m in messages %}{% if m.role.startswith('us') %}{{ m.content|trim }}|{{ m['content'].upper() }}\
        {%- endif %}{% endfor %}{{ add_generation_prompt }}{{ pad_token is defined }}{{ tools is defined }}";
    assert_eq!(render(methods).unwrap(), "<Hi>| <HI> TrueFalseFalse");
}

#[test]
fn a_refusal_has_no_more_than_the_beginning_of_what_the_template_says() {
    for text in ["'x' * 20000000", "'é' * 2000", "'bad: ' ~ messages[1].content * 1000"] {
        let error = render(&format!("{{{{ raise_exception({text}) }}}}")).unwrap_err();
        let (message, told) = (error.message().to_owned(), error.redacted());
        assert!(message.len() < 600 && message.ends_with('…'), "{text}: {} bytes", message.len());
        assert_eq!(told.message(), message);
        assert!(!error.for_log().contains("Hi"), "{}", error.for_log());
    }
}

#[test]
fn the_name_of_an_author_is_the_messages_own_and_a_message_without_one_has_none() {
    let source = "{% for m in messages %}{{ m.name if m.name is defined else '-' }}{{ 'name' in m }}|{% endfor %}";
    let messages = [
        Message::new(Role::System, "Be kind."),
        Message { name: Some("Zoé".into()), ..Message::new(Role::User, "Hi") },
    ];
    let rendered = template(source).render(&messages, &AddedTokens::default()).unwrap();
    assert_eq!(rendered.text, "-False|ZoéTrue|");
    let name = rendered.text.find("Zoé").unwrap();
    assert!(!rendered.is_trusted_at(&(name..name + 4)), "a name is the caller's text");
    assert!(rendered.is_trusted_at(&(0..name)));
}

#[test]
fn blocks_are_trimmed_as_transformers_has_it() {
    let source =
        "{% for m in messages %}\n    {% if true %}\n{{ m.role }}\n    {% endif %}\n{% endfor %}\n";
    assert_eq!(render(source).unwrap(), "system\nuser\n");
}

#[test]
fn json_is_written_as_python_writes_it() {
    let rendered = render("{{ messages|tojson }}").unwrap();
    assert_eq!(
        rendered,
        r#"[{"role": "system", "content": "Be kind."}, {"role": "user", "content": " <Hi> "}]"#
    );
    assert_eq!(
        render("{{ {'b': 1, 'a': [2]}|tojson(indent=2) }}").unwrap(),
        "{\n  \"b\": 1,\n  \"a\": [\n    2\n  ]\n}"
    );
}

#[test]
fn what_the_template_refuses_is_the_clients_error_and_what_breaks_in_it_is_the_models() {
    let refused = render("{{ raise_exception('Roles must alternate') }}").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidRequest);
    assert!(refused.message().ends_with("Roles must alternate"), "{refused}");
    let broken = render("{{ messages.no.such }}").unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::ModelIncompatible);
    assert!(broken.message().contains("chat_template.jinja"), "{broken}");
}

#[test]
fn a_template_that_does_not_end_or_writes_without_end_is_stopped() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
    let error = render(endless).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
    assert!(error.message().contains("steps"), "{error}");
    let long = "{% set x = 'x' * 100000 %}{% for a in range(9999) %}{{ x }}{% endfor %}";
    let error = render(long).unwrap_err();
    assert!(
        error.message().contains("writes more than") || error.message().contains("steps"),
        "{error}"
    );
    let deep = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert_eq!(render(deep).unwrap_err().kind(), ErrorKind::ModelIncompatible);
}

#[test]
fn the_template_is_found_where_transformers_looks() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let rendered = || {
        let (template, _) = load(dir.path()).unwrap();
        let messages = messages(&[(Role::User, "x")]);
        template.map(|template| template.render(&messages, &AddedTokens::default()).unwrap().text)
    };
    assert_eq!(rendered(), None);
    write(
        "tokenizer_config.json",
        &json!({"chat_template": "a{{ bos_token }}", "bos_token": {"content": "<b>"}}).to_string(),
    );
    assert_eq!(rendered().unwrap(), "a<b>");
    let list = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
    write("tokenizer_config.json", &json!({"chat_template": list}).to_string());
    assert_eq!(rendered().unwrap(), "d");
    write("chat_template.jinja", "file");
    assert_eq!(rendered().unwrap(), "file");
    write("chat_template.jinja", "{% if %}");
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("chat_template.jinja: the chat template does not compile"), "{error}");
}
