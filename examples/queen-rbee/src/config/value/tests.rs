use super::*;

fn read<K: Kind>(text: &str) -> Result<K::Value, String> {
    let at = At { key: "key", base: Path::new("/base") };
    K::read(&Node::text(text), at).map_err(|wrong| wrong.message)
}

#[test]
fn what_is_shown_can_be_read_again() {
    for (text, milliseconds) in
        [("90s", 90_000), ("1h30m", 5_400_000), ("250ms", 250), ("7d", 604_800_000), ("0s", 0)]
    {
        let span = read::<Span>(text).unwrap();
        assert_eq!(span, Duration::from_millis(milliseconds), "{text}");
        assert_eq!(read::<Span>(&Span::show(&span)).unwrap(), span);
    }
    assert_eq!(Span::show(&Duration::from_secs(90)), "1m30s");
    for (text, bytes) in [("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("500MB", 500_000_000), ("7", 7)]
    {
        let size = read::<Size>(text).unwrap();
        assert_eq!(size, bytes, "{text}");
        assert_eq!(read::<Size>(&Size::show(&size)).unwrap(), size);
    }
    assert_eq!(Size::show(&(64 << 20)), "64MiB");
    assert_eq!(read::<File>("x").unwrap(), Path::new("/base/x"));
    assert_eq!(read::<File>("/x").unwrap(), Path::new("/x"));
    let names = read::<Names>("{small: 'file:/models/small', big: hf:a/b}").unwrap();
    assert_eq!(names["small"], "file:/models/small");
    assert_eq!(read::<Names>(&Names::show(&names)).unwrap(), names);
}

#[test]
fn lists_are_read_from_yaml_and_from_text_with_commas() {
    let two = ["https://chat.example", "http://localhost:3000"];
    for text in [
        "https://chat.example, http://localhost:3000",
        "[https://chat.example, 'http://localhost:3000']",
    ] {
        let origins = read::<ListOf<AllowedOrigin>>(text).unwrap();
        let shown: Vec<String> = origins.iter().map(ToString::to_string).collect();
        assert_eq!(shown, two, "{text}");
        let again = read::<ListOf<AllowedOrigin>>(&ListOf::show(&origins)).unwrap();
        assert_eq!(again, origins);
    }
    for text in ["*", "[https://chat.example, chat.example]", "[[https://chat.example]]", "{a: b}"]
    {
        let said = read::<ListOf<AllowedOrigin>>(text).unwrap_err();
        assert!(said.starts_with("key") && !said.contains("YAML"), "{said}");
    }
    assert_eq!(read::<ListOf<AllowedHost>>("gpu.local").unwrap()[0].to_string(), "gpu.local");
}

#[test]
fn what_is_not_allowed_is_shown_beside_what_is() {
    for text in ["", "90", "s", "-5s", "5 s", "1.5s", "99999999999999999999s", "5x"] {
        let said = read::<Span>(text).unwrap_err();
        assert!(said.starts_with(&format!("key is {text:?}; allowed is a duration")), "{said}");
    }
    for text in ["", "MiB", "-1", "1XB", "99999999999999999999TiB"] {
        read::<Size>(text).unwrap_err();
    }
    for text in ["65536", "-1", "+1", "x", "1.0"] {
        read::<Port>(text).unwrap_err();
    }
    assert_eq!(read::<YesNo>("yes").unwrap_err(), r#"key is "yes"; allowed is true or false"#);
    read::<Names>("[1]").unwrap_err();
    read::<Names>("{a: [1]}").unwrap_err();
    read::<Names>("{a").unwrap_err();
}

#[test]
fn text_is_quoted_where_yaml_would_take_it_for_something_else() {
    for (text, shown) in
        [("/a/b.c", "/a/b.c"), ("true", "\"true\""), ("7", "\"7\""), ("a b", "\"a b\"")]
    {
        assert_eq!(quoted(text), shown);
    }
}
