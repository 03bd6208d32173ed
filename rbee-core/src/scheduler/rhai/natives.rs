//! Functions of the language that are replaced, because theirs make much of little before its size is looked at, and
//! the check of what a script reads.

use rhai::{
    Array, Dynamic, Engine, EvalAltResult, EvalContext, FnPtr, INT, ImmutableString,
    NativeCallContext, Position,
};

use super::{
    budget,
    error::{Res, fault},
};

/// Bytes of a text, or of all texts of a list or map.
pub(super) const MOST_TEXT: usize = 4 * 1024;
/// Values of a list, with those of the lists in it. Ten calls with 64 variables each can hold 640 lists.
pub(super) const MOST_ELEMENTS: usize = 1_000;
pub(super) const MOST_KEYS: usize = 500;
/// Lists and maps inside one another. What is deeper takes more stack to be compared, shown or freed than there is.
const MOST_NESTED: usize = 16;
/// Values of a list that is not gone through each time it is read.
const LONG: usize = 256;
/// Maps in one list or map: the smallest has half a KiB.
const MOST_MAPS: usize = 100;

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("map", map);
    engine.register_fn("replace", replace::<ImmutableString>);
    engine.register_fn("replace", replace::<char>);
    #[expect(deprecated, reason = "it is not, says its author, but may change")]
    engine.on_var(|name, _, context| readable(name, &context));
}

/// How much a list holds that is being made.
#[derive(Debug, Default)]
pub(super) struct Size {
    values: usize,
    keys: usize,
    text: usize,
}

impl Size {
    /// One more value, unless that is too much.
    pub(super) fn add(&mut self, value: &Dynamic) -> Res<()> {
        self.count(value);
        let parts = [
            (self.values, MOST_ELEMENTS, "Size of array"),
            (self.keys, MOST_KEYS, "Size of object map"),
            (self.text, MOST_TEXT, "Length of string"),
        ];
        match parts.into_iter().find(|(has, most, _)| has > most) {
            Some((_, _, what)) => Err(too_large(what)),
            None => Ok(()),
        }
    }

    fn count(&mut self, value: &Dynamic) {
        self.values += 1;
        if let Ok(values) = value.as_array_ref() {
            values.iter().for_each(|value| self.count(value));
        } else if let Ok(map) = value.as_map_ref() {
            self.keys += map.len();
            map.values().for_each(|value| self.count(value));
        } else if let Ok(text) = value.as_immutable_string_ref() {
            self.text += text.len();
        }
    }
}

fn too_large(what: &str) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorDataTooLarge(what.into(), Position::NONE))
}

/// The language's own looks at what it has made at the end: a thousand lists of a thousand values by then.
fn map(ctx: NativeCallContext<'_>, array: &mut Array, change: FnPtr) -> Res<Array> {
    let mut size = Size::default();
    let mut mapped = Array::with_capacity(array.len());
    for (index, item) in (0..).zip(array.iter()) {
        let value = with_index(&ctx, &change, item, index)?;
        size.add(&value)?;
        mapped.push(value);
    }
    Ok(mapped)
}

/// A closure may take the value, or the value and its place.
fn with_index(
    ctx: &NativeCallContext<'_>,
    closure: &FnPtr,
    item: &Dynamic,
    index: INT,
) -> Res<Dynamic> {
    closure.call_within_context(ctx, (item.clone(),)).or_else(|error| match &*error {
        EvalAltResult::ErrorFunctionNotFound(name, _) if name.starts_with(closure.fn_name()) => {
            closure.call_within_context(ctx, (item.clone(), index))
        }
        _ => Err(error),
    })
}

/// What stands for something in a text.
trait Part {
    fn count(&self, text: &str) -> usize;
    fn bytes(&self) -> usize;
    fn replace(&self, text: &str, with: &str) -> String;
}

impl Part for ImmutableString {
    fn count(&self, text: &str) -> usize {
        text.matches(self.as_str()).count()
    }
    fn bytes(&self) -> usize {
        self.len()
    }
    fn replace(&self, text: &str, with: &str) -> String {
        text.replace(self.as_str(), with)
    }
}

impl Part for char {
    fn count(&self, text: &str) -> usize {
        text.matches(*self).count()
    }
    fn bytes(&self) -> usize {
        self.len_utf8()
    }
    fn replace(&self, text: &str, with: &str) -> String {
        text.replace(*self, with)
    }
}

/// The language's own would square a text before it looks at what it has made.
#[expect(clippy::needless_pass_by_value, reason = "the language gives values")]
fn replace<P: Part>(text: &mut ImmutableString, part: P, with: ImmutableString) -> Res<()> {
    let count = part.count(text);
    if text.len() - count * part.bytes() + count * with.len() > MOST_TEXT {
        return Err(too_large("Length of string"));
    }
    *text = part.replace(text, &with).into();
    Ok(())
}

/// NoDecision, where the variable may be read: the language then reads it.
fn readable(name: &str, context: &EvalContext<'_, '_, '_, '_, '_, '_>) -> Res<Option<Dynamic>> {
    let Some(variable) = context.scope().get(name) else { return Ok(None) };
    if variable.is_shared() {
        // Where somebody changes it at this moment, the language finds that out itself.
        if let Some(value) = variable.read_lock::<Dynamic>() {
            check(name, &value)?;
        }
    } else {
        check(name, variable)?;
    }
    Ok(None)
}

fn check(name: &str, value: &Dynamic) -> Res<()> {
    if value.is_fnptr() {
        return Err(fault(format!("{name} is a closure; one stands where it is used")));
    }
    // There is room for few long lists inside one another, so that this is enough to find what is made of them.
    if length(value) > LONG && !budget::is_turn() {
        return Ok(());
    }
    match Shape::default().look(value, 0) {
        Ok(()) => Ok(()),
        Err(what) => Err(fault(format!("{name} has {what}"))),
    }
}

fn length(value: &Dynamic) -> usize {
    if value.is_array() {
        return value.as_array_ref().map_or(0, |values| values.len());
    }
    if value.is_map() {
        return value.as_map_ref().map_or(0, |map| map.len());
    }
    0
}

/// What a list or map is made of.
#[derive(Debug, Default)]
struct Shape {
    maps: usize,
}

impl Shape {
    fn look(&mut self, value: &Dynamic, depth: usize) -> Result<(), String> {
        if value.is_array() {
            Self::deeper(depth)?;
            let values = value.as_array_ref()?;
            return values.iter().try_for_each(|value| self.look(value, depth + 1));
        }
        if value.is_map() {
            Self::deeper(depth)?;
            self.maps += 1;
            if self.maps > MOST_MAPS {
                return Err(format!("more than {MOST_MAPS} maps in it"));
            }
            let map = value.as_map_ref()?;
            return map.values().try_for_each(|value| self.look(value, depth + 1));
        }
        Ok(())
    }

    fn deeper(depth: usize) -> Result<(), String> {
        match depth {
            0..MOST_NESTED => Ok(()),
            _ => Err(format!("lists or maps more than {MOST_NESTED} deep inside one another")),
        }
    }
}
