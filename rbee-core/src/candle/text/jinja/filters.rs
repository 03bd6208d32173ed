//! The filters of Jinja that work on texts and numbers.

use minijinja::{
    Environment, Error, State, Value,
    value::{Rest, ValueKind, ValueOrKwargs},
};

use super::{
    bounds,
    characters::{self, original},
    html::{escape_html, like},
    limits::{Outcome, fault, limit},
    python::{self, bind, integer, string, text, type_name, width},
    texts,
};

pub(super) type Args = Rest<ValueOrKwargs>;

pub(super) fn add_to(environment: &mut Environment<'static>) {
    add_filter(environment, "tojson", super::json::tojson);
    add_filter(environment, "format", super::printf::format);
    for (name, change) in [
        ("upper", str::to_uppercase as fn(&str) -> String),
        ("lower", str::to_lowercase),
        ("capitalize", texts::capitalize),
        ("title", title),
    ] {
        add_filter(environment, name, move |value, _| Ok(like(&value, change(&text(&value)?))));
    }
    add_filter(environment, "string", |value, _| match value.as_str() {
        Some(_) => Ok(value),
        None => text(&value).map(Value::from),
    });
    for name in ["escape", "e"] {
        add_filter(environment, name, |value, _| match value.is_safe() {
            true => Ok(value),
            false => escaped(&value),
        });
    }
    add_filter(environment, "forceescape", |value, _| escaped(&value));
    add_filter(environment, "trim", trim);
    add_filter(environment, "replace", replace);
    add_filter(environment, "center", center);
    add_filter(environment, "indent", indent);
    add_filter(environment, "truncate", truncate);
    add_filter(environment, "wordcount", wordcount);
    add_filter(environment, "urlencode", urlencode);
    add_filter(environment, "filesizeformat", file_size);
    add_filter(environment, "default", default);
    add_filter(environment, "d", default);
    add_filter(environment, "abs", |value, _| abs(value));
    add_filter(environment, "int", int);
    add_filter(environment, "float", float);
    add_filter(environment, "round", round);
    for name in ["pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr"] {
        add_filter(environment, name, move |_, _| {
            Err(fault(format!("the filter {name} is not supported in chat templates")))
        });
    }
}

/// Adds a filter that takes steps for each item of its value.
pub(super) fn add_filter(
    environment: &mut Environment<'static>,
    name: &'static str,
    filter: impl Fn(Value, Vec<Value>) -> Outcome<Value> + Send + Sync + 'static,
) {
    environment.add_filter(name, move |state: &State<'_, '_>, value: Value, args: Args| {
        bounds::charge(state, &value)?;
        let made = filter(value, args.into_values())?;
        bounds::charge_made(state, &made)?;
        Ok::<Value, Error>(made)
    });
}

/// Each word begins with an upper-case letter, and goes on with lower-case ones.
fn title(text: &str) -> String {
    let is_between = |c: char| characters::is_space(original(c)) || "-({[<".contains(original(c));
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while !rest.is_empty() {
        let word = rest.find(|c| !is_between(c)).unwrap_or(rest.len());
        out.push_str(&rest[..word]);
        rest = &rest[word..];
        let end = rest.find(is_between).unwrap_or(rest.len());
        let mut letters = rest[..end].chars();
        out.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        out.push_str(&letters.as_str().to_lowercase());
        rest = &rest[end..];
    }
    out
}

fn escaped(value: &Value) -> Outcome<Value> {
    Ok(Value::from_safe_string(escape_html(&text(value)?)?))
}

fn trim(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [characters] = bind("trim", ["chars"], &args)?;
    let text = text(&value)?;
    Ok(like(&value, texts::strip(&text, "strip", characters.as_ref())?.to_owned()))
}

fn replace(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [old, new, count] = bind("replace", ["old", "new", "count"], &args)?;
    let (Some(old), Some(new)) = (old, new) else {
        return Err(fault("the filter replace needs two texts"));
    };
    let count = match count.filter(|count| !count.is_none()) {
        Some(count) => integer(&count)?,
        None => -1,
    };
    let replaced = texts::replace(&text(&value)?, &text(&old)?, &text(&new)?, count)?;
    Ok(like(&value, replaced))
}

fn center(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [size] = bind("center", ["width"], &args)?;
    let size = size.map_or(Ok(80), |size| width(&size))?;
    let text = text(&value)?;
    let missing = size.saturating_sub(text.chars().count());
    let left = missing / 2 + (missing & size & 1);
    Ok(like(&value, format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left))))
}

fn indent(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [size, first, blank] = bind("indent", ["width", "first", "blank"], &args)?;
    let is_set = |value: &Option<Value>| value.as_ref().is_some_and(Value::is_true);
    let space = match &size {
        Some(size) if size.as_str().is_some() => string(size)?.to_owned(),
        Some(size) => " ".repeat(width(size)?),
        None => "    ".to_owned(),
    };
    let text = format!("{}\n", string(&value)?);
    let mut out = String::new();
    for (at, line) in texts::lines(&text, false)?.into_iter().enumerate() {
        limit(out.len() + space.len() + line.len())?;
        if at > 0 {
            out.push('\n');
            if is_set(&blank) || !line.is_empty() {
                out.push_str(&space);
            }
        } else if is_set(&first) {
            out.push_str(&space);
        }
        out.push_str(line);
    }
    Ok(like(&value, out))
}

fn truncate(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let names = ["length", "killwords", "end", "leeway"];
    let [length, kill, end, leeway] = bind("truncate", names, &args)?;
    let length = length.map_or(Ok(255), |length| integer(&length))?;
    let leeway = match leeway.filter(|leeway| !leeway.is_none()) {
        Some(leeway) => integer(&leeway)?,
        None => 5,
    };
    let end = end.unwrap_or_else(|| Value::from("..."));
    let (end, text) = (string(&end)?, string(&value)?);
    let room = length - end.chars().count() as i64;
    if room < 0 || leeway < 0 {
        return Err(fault("truncate: length must be at least that of end, and leeway at least 0"));
    }
    if text.chars().count() as i64 <= length.saturating_add(leeway) {
        return Ok(value);
    }
    let kept: String = text.chars().take(room as usize).collect();
    let kept = match kept.rsplit_once(' ') {
        Some((before, _)) if !kill.is_some_and(|kill| kill.is_true()) => before,
        _ => &kept,
    };
    Ok(like(&value, format!("{kept}{end}")))
}

fn wordcount(value: Value, _: Vec<Value>) -> Outcome<Value> {
    let is_word = |c: char| original(c).is_alphanumeric() || original(c) == '_';
    let words = text(&value)?.split(|c| !is_word(c)).filter(|word| !word.is_empty()).count();
    Ok(Value::from(words))
}

fn urlencode(value: Value, _: Vec<Value>) -> Outcome<Value> {
    let quoted = |value: &Value, is_query: bool| {
        let mut out = String::new();
        for character in text(value)?.chars() {
            limit(out.len())?;
            match original(character) {
                ' ' if is_query => out.push('+'),
                c if c.is_ascii_alphanumeric() || "_.-~".contains(c) || (c == '/' && !is_query) => {
                    out.push(character)
                }
                c => c
                    .encode_utf8(&mut [0; 4])
                    .bytes()
                    .for_each(|byte| out.push_str(&format!("%{byte:02X}"))),
            }
        }
        Ok::<String, Error>(out)
    };
    let pairs: Vec<(Value, Value)> = match value.kind() {
        ValueKind::Map => {
            value.as_object().and_then(|map| map.try_iter_pairs()).into_iter().flatten().collect()
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let pair = |pair: Value| {
                Ok::<_, Error>((pair.get_item_by_index(0)?, pair.get_item_by_index(1)?))
            };
            value.try_iter()?.map(pair).collect::<Result<_, _>>()?
        }
        _ => return quoted(&value, false).map(Value::from),
    };
    let mut out = String::new();
    for (at, (key, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push('&');
        }
        out += &quoted(key, true)?;
        out.push('=');
        out += &quoted(value, true)?;
        limit(out.len())?;
    }
    Ok(Value::from(out))
}

fn file_size(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [binary] = bind("filesizeformat", ["binary"], &args)?;
    let binary = binary.is_some_and(|binary| binary.is_true());
    let bytes = match value.as_str() {
        Some(text) => text.trim().parse().map_err(|_| fault("filesizeformat needs a number"))?,
        None => python::number(&value).ok_or_else(|| fault("filesizeformat needs a number"))?,
    };
    let base = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok(Value::from("1 Byte"));
    }
    if bytes < base {
        return Ok(Value::from(format!("{} Bytes", bytes.trunc())));
    }
    let units = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
    let mut unit = base;
    for (at, prefix) in units.iter().enumerate() {
        unit *= base;
        if bytes < unit || at + 1 == units.len() {
            let prefix = if binary { prefix.to_uppercase() + "i" } else { (*prefix).to_owned() };
            return Ok(Value::from(format!("{:.1} {prefix}B", base * bytes / unit)));
        }
    }
    Err(fault("filesizeformat needs a number"))
}

fn default(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [default, boolean] = bind("default", ["default_value", "boolean"], &args)?;
    let is_missing =
        value.is_undefined() || (boolean.is_some_and(|is| is.is_true()) && !value.is_true());
    Ok(if is_missing { default.unwrap_or_else(|| Value::from("")) } else { value })
}

fn undefined(value: &Value) -> Outcome<()> {
    if value.is_undefined() { Err(fault("the value is undefined")) } else { Ok(()) }
}

fn abs(value: Value) -> Outcome<Value> {
    match value.kind() {
        ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
        ValueKind::Number => minijinja::filters::abs(value),
        _ => Err(fault(format!("a {} has no absolute value", type_name(&value)))),
    }
}

fn int(value: Value, args: Vec<Value>) -> Outcome<Value> {
    undefined(&value)?;
    let [default, base] = bind("int", ["default", "base"], &args)?;
    let base = base.map_or(Ok(10), |base| integer(&base))?;
    let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base)).unwrap_or(10);
    let whole = |number: f64| {
        let fits = number.is_finite() && number.abs() < 1e38;
        fits.then(|| number.trunc() as i128)
            .map(|n| i64::try_from(n).map_or_else(|_| Value::from(n), Value::from))
    };
    let found = match value.as_str() {
        Some(text) => parse_int(text, base).or_else(|| whole(parse_float(text)?)),
        None if value.kind() == ValueKind::Number && value.is_integer() => Some(value.clone()),
        None => python::number(&value).and_then(whole),
    };
    Ok(found.or(default).unwrap_or_else(|| Value::from(0)))
}

fn parse_int(text: &str, base: u32) -> Option<Value> {
    let text = text.trim_matches(characters::is_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = match base {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        _ => "",
    };
    let head = digits.get(..prefix.len()).unwrap_or_default();
    let digits = if head.eq_ignore_ascii_case(prefix) { &digits[prefix.len()..] } else { digits };
    if digits.starts_with('_') && head.is_empty() || digits.ends_with('_') || digits.contains("__")
    {
        return None;
    }
    let mut number: i128 = 0;
    let mut count = 0;
    for character in digits.chars().map(original).filter(|c| *c != '_') {
        let digit = character
            .to_digit(base)
            .or_else(|| characters::decimal(character).filter(|d| *d < base))?;
        number = number.checked_mul(base.into())?.checked_add(digit.into())?;
        count += 1;
    }
    let number = if negative { -number } else { number };
    (count > 0).then(|| i64::try_from(number).map_or_else(|_| Value::from(number), Value::from))
}

fn parse_float(text: &str) -> Option<f64> {
    let text: String = text.trim_matches(characters::is_space).chars().map(original).collect();
    let inner = text.trim_start_matches(['-', '+']).to_ascii_lowercase();
    if matches!(&*inner, "inf" | "infinity" | "nan")
        || inner.starts_with(|c: char| c.is_ascii_digit() || c == '.')
    {
        return text.replace('_', "").parse().ok();
    }
    None
}

fn float(value: Value, args: Vec<Value>) -> Outcome<Value> {
    undefined(&value)?;
    let [default] = bind("float", ["default"], &args)?;
    let found = match value.as_str() {
        Some(text) => parse_float(text),
        None => python::number(&value),
    };
    Ok(found.map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0)))
}

fn round(value: Value, args: Vec<Value>) -> Outcome<Value> {
    undefined(&value)?;
    let [precision, method] = bind("round", ["precision", "method"], &args)?;
    let precision =
        precision.map_or(Ok(0), |precision| integer(&precision))?.clamp(-400, 400) as i32;
    let method = method.unwrap_or_else(|| Value::from("common"));
    let number = python::number(&value)
        .ok_or_else(|| fault(format!("a {} cannot be rounded", type_name(&value))))?;
    let is_whole = value.kind() == ValueKind::Bool || value.is_integer();
    Ok(match string(&method)? {
        "common" if is_whole && precision >= 0 => value,
        "common" => {
            let rounded = if precision >= 0 {
                // Rounded as it is written in decimal, and not as a multiple of a power of ten.
                format!("{number:.*}", precision.min(400) as usize).parse().unwrap_or(number)
            } else {
                let unit = 10_f64.powi(-precision);
                (number / unit).round_ties_even() * unit
            };
            if is_whole { Value::from(rounded as i64) } else { Value::from(rounded) }
        }
        "ceil" => Value::from((number * 10_f64.powi(precision)).ceil() / 10_f64.powi(precision)),
        "floor" => Value::from((number * 10_f64.powi(precision)).floor() / 10_f64.powi(precision)),
        _ => return Err(fault("the method of round is \"common\", \"ceil\" or \"floor\"")),
    })
}
