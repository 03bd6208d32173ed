use serde_json::json;

use super::*;
use crate::chat::{Message, Role};

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
    let rendered = template(source).render(&messages.to_vec().into(), &AddedTokens::default());
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
fn a_template_gets_instructions_that_it_does_not_allow_from_the_user() {
    let source = "{% for m in messages %}{% if m.role == 'system' and not loop.first %}\
        {{ raise_exception('System message must be at the beginning') }}{% endif %}\
        {{ m.role }}: {{ m.content }}|{% endfor %}";
    let turns =
        [(Role::System, "a"), (Role::User, "b"), (Role::System, "c"), (Role::Assistant, "d")];
    let render = |source: &str| {
        let messages = messages(&turns);
        template(source).render(&messages.into(), &AddedTokens::default())
    };
    assert_eq!(render(source).unwrap().text, "system: a|user: b\n\nc|assistant: d|");
    // Some have no place for instructions.
    let strict = source.replace("and not loop.first", "");
    assert_eq!(render(&strict).unwrap().text, "user: a\n\nb\n\nc|assistant: d|");
    let lenient = source.replace("and not loop.first", "and false");
    assert_eq!(render(&lenient).unwrap().text, "system: a|user: b|system: c|assistant: d|");
    let error = render("{{ raise_exception('No') }}").unwrap_err();
    assert!(error.message().ends_with("No"), "{error}");
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
    let rendered =
        template(source).render(&messages.to_vec().into(), &AddedTokens::default()).unwrap();
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
        template.map(|template| {
            template.render(&messages.to_vec().into(), &AddedTokens::default()).unwrap().text
        })
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

/// A template with a syntax for tools, as many models have it.
const WITH_TOOLS: &str = "\
    {%- if tools %}<|im_start|>system\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>\
    {\"name\": <n>, \"arguments\": <a>}<|im_end|>\n{% endif %}\
    {%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}\
    {%- if message.tool_calls %}{% for call in message.tool_calls %}{% set call = call.function %}\
    <tool_call>\n{\"name\": \"{{ call.name }}\", \"arguments\": {{ call.arguments | tojson }}}\n</tool_call>{% endfor %}{% endif %}\
    {%- if message.role == 'tool' %} ({{ message.name }}){% endif %}<|im_end|>\n{% endfor %}";

fn with_tools(description: &str) -> Chat {
    let call = crate::chat::ToolCall {
        id: "a".into(),
        name: "weather".into(),
        arguments: r#"{"where": "Zürich", "day": 1, "at": [1.5, true, null]}"#.into(),
    };
    let schema = r#"{"type": "object", "properties": {"where": {"type": "string"}, "day": {"type": "integer"}}}"#;
    Chat {
        messages: vec![
            Message::new(Role::User, "Rain?"),
            Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") },
            Message::tool_result("a", "no"),
        ],
        tools: vec![crate::chat::Tool::new("weather", description, schema)],
        ..Chat::default()
    }
}

#[test]
fn tools_calls_and_results_are_written_as_the_template_does() {
    let chat = with_tools("Tells \"rain\" & sun.");
    let rendered = template(WITH_TOOLS).render(&chat, &AddedTokens::default()).unwrap();
    let expected = r#"<|im_start|>system
<tools>{"type": "function", "function": {"name": "weather", "description": "Tells \"rain\" & sun.", "parameters": {"type": "object", "properties": {"where": {"type": "string"}, "day": {"type": "integer"}}}}}</tools>{"name": <n>, "arguments": <a>}<|im_end|>
<|im_start|>user
Rain?<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "weather", "arguments": {"where": "Zürich", "day": 1, "at": [1.5, true, null]}}
</tool_call><|im_end|>
<|im_start|>tool
no (weather)<|im_end|>
"#;
    assert_eq!(rendered.text, expected);
    for text in ["Tells", "Zürich", "Rain?", "no (", "weather)"] {
        let at = rendered.text.find(text).unwrap();
        assert!(!rendered.is_trusted_at(&(at..at + 2)), "{text} is the caller's text");
    }
    for text in ["<tools>", "<tool_call>", "<|im_end|>"] {
        let at = rendered.text.find(text).unwrap();
        assert!(rendered.is_trusted_at(&(at..at + text.len())), "{text} is the template's text");
    }
}

#[test]
fn tools_are_described_in_messages_if_the_template_has_no_syntax_for_them() {
    let source =
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ tools is defined }}";
    let template = template(source);
    let rendered = template.render(&with_tools("Tells the weather."), &AddedTokens::default());
    let text = rendered.unwrap().text;
    assert!(text.starts_with("[system]You can call these functions."), "{text}");
    assert!(text.contains("[user]<tool_response>\nno\n</tool_response>"), "{text}");
    assert!(text.ends_with("False"), "{text}");
    assert_eq!(template.answer_format().tools, Some(crate::answer::ToolFormat::Hermes));
}

#[test]
fn tools_that_must_not_be_called_are_not_described() {
    let chat = Chat { tool_choice: crate::chat::ToolChoice::None, ..with_tools("x") };
    let rendered = template(WITH_TOOLS).render(&chat, &AddedTokens::default()).unwrap();
    assert!(!rendered.text.contains("<tools>"), "{}", rendered.text);
}

#[test]
fn a_request_turns_thinking_on_and_off_if_the_template_has_a_switch() {
    use crate::answer::{ReasoningFormat::Think, ReasoningFormat::Thinking, ThinkingSwitch};
    let with = |end: &str| {
        let template = template(&format!("{{{{ messages[0].content }}}}</think>|{end}"));
        let prompt = |thinking| {
            let chat = Chat { thinking, ..vec![Message::new(Role::User, "x")].into() };
            template.render(&chat, &AddedTokens::default()).unwrap().text
        };
        let prompts = [None, Some(true), Some(false)].map(prompt);
        (prompts, template.answer_format().reasoning, template.thinking_switch())
    };
    let off = "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% endif %}";
    let (prompts, usual, switch) = with(off);
    assert_eq!(prompts, ["x</think>|", "x</think>|", "x</think>|<think>\n\n</think>"]);
    assert_eq!(usual, Some(Think));
    assert_eq!(switch, Some(ThinkingSwitch { on: Some(Think), off: Some(Think) }));
    let on = "{% if thinking %}<think>{% else %}</think>{% endif %}";
    let (prompts, usual, switch) = with(on);
    assert_eq!(prompts, ["x</think>|</think>", "x</think>|<think>", "x</think>|</think>"]);
    assert_eq!(usual, Some(Think));
    assert_eq!(switch, Some(ThinkingSwitch { on: Some(Thinking), off: Some(Think) }));
    let (prompts, usual, switch) = with("<think>");
    assert_eq!(prompts, ["x</think>|<think>"; 3]);
    assert_eq!((usual, switch), (Some(Thinking), None), "it always thinks");
}

#[test]
fn a_described_tool_leaves_the_switch_for_thinking_as_it_is() {
    let source = "{% for m in messages %}{{ m.content }}{% endfor %}{{ enable_thinking }}";
    let chat = Chat { thinking: Some(false), ..with_tools("x") };
    let rendered = template(source).render(&chat, &AddedTokens::default()).unwrap();
    assert!(rendered.text.ends_with("False"), "{}", rendered.text);
}

#[test]
fn templates_of_mistral_get_ids_of_nine_letters_and_digits() {
    let source = "{% if tools %}[TOOL_CALLS]{% endif %}{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.id }}|\
        {% endfor %}{% if m.tool_call_id %}{{ m.tool_call_id }}{% endif %}{% endfor %}";
    let mut chat = with_tools("x");
    for id in ["call_67e5504410b1426f9247bb680e5fe0c8_0", "abc123XYZ"] {
        chat.messages[1].tool_calls[0].id = id.into();
        chat.messages[2].tool_call_id = Some(id.into());
        let text = template(source).render(&chat, &AddedTokens::default()).unwrap().text;
        let (call, result) = text.trim_start_matches("[TOOL_CALLS]").split_once('|').unwrap();
        assert_eq!(call, result);
        assert!(call.len() == 9 && call.bytes().all(|b| b.is_ascii_alphanumeric()), "{call}");
        assert_eq!(call == id, id.len() == 9);
    }
}

#[test]
fn tools_are_described_to_the_user_if_the_template_refuses_instructions() {
    let source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
        [{{ m.role }}]{{ m.content }}{% endfor %}";
    let chat = with_tools("Tells the weather.");
    let text = template(source).render(&chat, &AddedTokens::default()).unwrap().text;
    assert!(text.starts_with("[user]You can call these functions."), "{text}");
    assert!(text.contains("\n\nRain?[assistant]"), "{text}");
}

/// The syntax of calls that iterates over the arguments, as templates of Qwen Coder have it.
const QWEN_XML: &str = "{% if tools %}{% for t in tools %}{{ t.function.name }}: {% for name, field in t.function.parameters.properties|items %}\
    {{ name }} {{ field.type | string }};{% endfor %}{% endfor %}Write <tool_call>\n<function=name>\n<parameter=key>\n{% endif %}\
    {% for m in messages %}{{ m.role }}|{{ m.content }}{% for c in m.tool_calls or [] %}{% set c = c.function %}\
    {{- '<tool_call>\n<function=' + c.name + '>\n' }}{% for key, value in c.arguments|items %}\
    {%- set value = value | tojson | safe if value is mapping or (value is sequence and value is not string) else value | string %}\
    {{- '<parameter=' + key + '>\n' }}{{- value }}{{- '\n</parameter>\n' }}{% endfor %}{{- '</function>\n</tool_call>' }}{% endfor %}{% endfor %}";

/// The same, as templates of GLM have it.
const GLM: &str = "{% if tools %}{{ tools | tojson }}Write <tool_call>name\n<arg_key>key</arg_key>\n<arg_value>value</arg_value>{% endif %}\
    {% for m in messages %}{{ m.role }}|{{ m.content }}{% for c in m.tool_calls or [] %}{% set args = c.function.arguments %}\
    {{- '\n<tool_call>' + c.function.name }}{% for k, v in args.items() %}\
    {{- '\n<arg_key>' ~ k ~ '</arg_key>\n<arg_value>' }}{{ v | tojson(ensure_ascii=False) if v is not string else v }}{{ '</arg_value>' }}\
    {%- endfor %}{{ '\n</tool_call>' }}{% endfor %}{% endfor %}";

#[test]
fn calls_in_xml_are_written_as_the_parser_reads_them() {
    use crate::{
        answer::{ParsedAnswer, ToolFormat},
        id::JobId,
    };
    let schema = json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "now": {"type": "boolean"}, "list": {"type": "array"},
        "none": {"type": ["string", "null"]},
    }});
    let arguments = r#"{"city":"Zürich\n\"a\" </parameter> <b>","days":3,"now":true,"list":[1,{"a":null}],"none":null}"#;
    for (source, format) in [(QWEN_XML, ToolFormat::QwenXml), (GLM, ToolFormat::Glm)] {
        let template = template(source);
        assert_eq!(template.answer_format().tools, Some(format));
        let mut chat = with_tools("Tells the weather.");
        chat.tools =
            vec![crate::chat::Tool::new("weather", "Tells the weather.", schema.to_string())];
        chat.messages.truncate(2);
        chat.messages[1].tool_calls.truncate(1);
        chat.messages[1].tool_calls[0].arguments = arguments.into();
        let text = template.render(&chat, &AddedTokens::default()).unwrap().text;
        let (prompt, answer) = text.rsplit_once("assistant|").unwrap();
        assert!(prompt.contains("weather") && prompt.contains("city"), "{prompt}");
        let options = template.answer_format().options(chat.callable());
        let parsed = ParsedAnswer::of(answer, options, JobId::from_random_bits(1), false);
        let [call] = &parsed.tool_calls[..] else { panic!("{answer}: {parsed:?}") };
        assert_eq!((&*call.name, &*call.arguments), ("weather", arguments), "{answer}");
        assert!(parsed.is_complete);
    }
}

#[test]
fn a_template_that_needs_a_description_of_each_tool_gets_an_empty_one() {
    let source = "{% for t in tools %}{{ t.function.name + ': ' + t.function.description }}|{% endfor %}\
        <tool_call>\"arguments\"{% for m in messages %}{{ m.content }}{% endfor %}";
    let mut chat = with_tools("Tells the weather.");
    chat.tools.push(crate::chat::Tool { name: "now".into(), description: None, parameters: None });
    let text = template(source).render(&chat, &AddedTokens::default()).unwrap().text;
    assert!(text.starts_with("weather: Tells the weather.|now: |"), "{text}");
}

#[test]
fn a_template_that_allows_one_call_in_an_answer_gets_several_answers() {
    let source = "{% for m in messages %}{% if m.tool_calls and m.tool_calls|length != 1 %}{{ raise_exception('one call') }}\
        {% elif m.role == 'system' and not loop.first %}{{ raise_exception('late') }}{% endif %}\
        [{{ m.role }}{% for c in m.tool_calls or [] %} {{ c.id }}{% endfor %}{{ m.tool_call_id }}]{% endfor %}\
        {% if tools %}<tool_call>\"arguments\"{% endif %}";
    let mut chat = with_tools("x");
    let mut call = chat.messages[1].tool_calls[0].clone();
    call.id = "b".into();
    chat.messages[1].tool_calls.push(call);
    chat.messages.push(Message::tool_result("b", "yes"));
    let text = template(source).render(&chat, &AddedTokens::default()).unwrap().text;
    assert!(text.starts_with("[user][assistant a][toola][assistant b][toolb]"), "{text}");
    chat.messages.push(Message::new(Role::System, "Be kind."));
    let text = template(source).render(&chat, &AddedTokens::default()).unwrap().text;
    assert!(text.starts_with("[user][assistant a][toola][assistant b][toolb][user]"), "{text}");
}
