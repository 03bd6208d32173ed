//! The fields of spans as JSON: [`JsonFields`].

use std::fmt::{self, Write};

use tracing::{
    field::{Field, Visit},
    span::Record,
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, FormattedFields, format::Writer},
};

/// Writes the fields of a span as a JSON object, as `tracing_subscriber`'s format of the same name does, without a map
/// of values in between: every attempt at a job has a span, and most of them never appear in the log.
#[derive(Debug)]
pub(super) struct JsonFields;

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        writer.write_char('{')?;
        let mut object = Object { writer: &mut writer, is_empty: true, result: Ok(()) };
        fields.record(&mut object);
        object.result?;
        writer.write_char('}')
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        // A name that comes twice has its last value, as in every JSON object that serde_json reads.
        let is_empty = match current.fields.pop() {
            Some('}') => current.fields.ends_with('{'),
            _ => {
                current.fields = "{".to_owned();
                true
            }
        };
        let mut writer = Writer::new(&mut current.fields);
        let mut object = Object { writer: &mut writer, is_empty, result: Ok(()) };
        fields.record(&mut object);
        let result = object.result;
        current.fields.push('}');
        result
    }
}

/// The inside of an object.
struct Object<'a, 'writer> {
    writer: &'a mut Writer<'writer>,
    is_empty: bool,
    result: fmt::Result,
}

impl Object<'_, '_> {
    fn put(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = self.put_field(field, value);
        }
    }

    fn put_field(
        &mut self,
        field: &Field,
        value: impl FnOnce(&mut Writer<'_>) -> fmt::Result,
    ) -> fmt::Result {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.writer.write_char(',')?;
        }
        let name = field.name();
        text(self.writer, format_args!("{}", name.strip_prefix("r#").unwrap_or(name)))?;
        self.writer.write_char(':')?;
        value(self.writer)
    }
}

/// A string of JSON.
fn text(writer: &mut Writer<'_>, value: fmt::Arguments<'_>) -> fmt::Result {
    writer.write_char('"')?;
    Escaped(writer).write_fmt(value)?;
    writer.write_char('"')
}

impl Visit for Object<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no other numbers.
        self.put(field, |writer| match value.is_finite() {
            true => write!(writer, "{value:?}"),
            false => writer.write_str("null"),
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, |writer| text(writer, format_args!("{value}")));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, |writer| text(writer, format_args!("{value:?}")));
    }
}

/// Escapes what is written, for the inside of a JSON string.
struct Escaped<'a, 'writer>(&'a mut Writer<'writer>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        while let Some(at) = text.bytes().position(is_special) {
            // A special byte is a character of one byte.
            let (before, special) = (&text[..at], text.as_bytes()[at]);
            self.0.write_str(before)?;
            match special {
                b'"' | b'\\' => write!(self.0, "\\{}", char::from(special))?,
                _ => write!(self.0, "\\u{special:04x}")?,
            }
            text = &text[at + 1..];
        }
        self.0.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::{Subscriber, field::Empty, span::Id};
    use tracing_subscriber::{
        Layer,
        fmt::format::JsonFields as Theirs,
        layer::{Context, SubscriberExt},
        registry::LookupSpan,
    };

    use super::*;

    /// Keeps the fields of the last span that was closed, in the format of `F`.
    struct Kept<F>(F, Arc<Mutex<Option<String>>>);

    impl<S, F> Layer<S> for Kept<F>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        F: for<'w> FormatFields<'w> + 'static,
    {
        fn on_new_span(
            &self,
            attributes: &tracing::span::Attributes<'_>,
            id: &Id,
            context: Context<'_, S>,
        ) {
            let mut fields = FormattedFields::<F>::new(String::new());
            self.0.format_fields(fields.as_writer(), attributes).expect("it is a string");
            context.span(id).expect("it is new").extensions_mut().insert(fields);
        }

        fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
            let span = context.span(id).expect("it is open");
            let mut extensions = span.extensions_mut();
            let fields = extensions.get_mut::<FormattedFields<F>>().expect("it was inserted");
            self.0.add_fields(fields, values).expect("it is a string");
        }

        fn on_close(&self, id: Id, context: Context<'_, S>) {
            let span = context.span(&id).expect("it is closing");
            let fields = span.extensions().get::<FormattedFields<F>>().map(|f| f.fields.clone());
            *self.1.lock().expect("nothing panics with it") = fields;
        }
    }

    /// The fields of the span that `make` makes, in our format and in that of `tracing_subscriber`.
    fn formatted(make: fn()) -> (Value, Value) {
        let (ours, theirs) = (Arc::default(), Arc::default());
        let subscriber = tracing_subscriber::registry()
            .with(Kept(JsonFields, Arc::clone(&ours)))
            .with(Kept(Theirs::new(), Arc::clone(&theirs)));
        tracing::subscriber::with_default(subscriber, make);
        let read = |kept: Arc<Mutex<Option<String>>>| {
            let text = kept.lock().expect("nothing panicked").take().expect("the span was closed");
            serde_json::from_str(&text).expect(&text)
        };
        (read(ours), read(theirs))
    }

    #[test]
    fn fields_of_every_type_are_what_the_usual_format_writes() {
        let (ours, theirs) = formatted(|| {
            tracing::info_span!(
                "span",
                text = "plain",
                odd = "a \"quote\", a \\, a\nline, a \u{1} and ünï©ode",
                shown = %"display \t \"x\"",
                debug = ?["a", "\"b\""],
                number = 7_u32,
                below = -3_i64,
                fraction = 2.5,
                whole = 2.0,
                none = f64::NAN,
                yes = true,
                r#type = "raw",
            );
        });
        assert_eq!(ours, theirs);
        assert_eq!(ours["odd"], "a \"quote\", a \\, a\nline, a \u{1} and ünï©ode");
        assert_eq!(ours["type"], "raw");
    }

    #[test]
    fn fields_that_come_later_are_added() {
        let (ours, theirs) = formatted(|| {
            let span = tracing::info_span!("span", worker = "w", tries = Empty, state = Empty);
            span.record("tries", 2);
            span.record("state", "lost");
            span.record("tries", 3);
        });
        assert_eq!(ours, theirs);
        assert_eq!(ours["tries"], 3);
        let (ours, _) = formatted(|| {
            let span = tracing::info_span!("span", tries = Empty);
            span.record("tries", 1);
        });
        assert_eq!(ours, serde_json::json!({"tries": 1}));
    }

    #[test]
    fn a_span_without_fields_is_an_empty_object() {
        let (ours, theirs) = formatted(|| {
            tracing::info_span!("span");
        });
        assert_eq!(ours, serde_json::json!({}));
        assert_eq!(ours, theirs);
    }
}
