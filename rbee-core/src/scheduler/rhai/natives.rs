//! Replacements for functions of the language that can make large values out of small ones before their size is
//! checked, and the check of the variables that a script reads.

use rhai::{
    Array, Dynamic, Engine, EvalAltResult, EvalContext, FnPtr, INT, ImmutableString,
    NativeCallContext, Position,
};

use super::{
    budget,
    error::{Res, fault},
};

/// The most bytes of a text, or of all texts in a list or map.
pub(super) const MOST_TEXT: usize = 4 * 1024;
/// The most values of a list, including those of the lists in it. Ten calls with 64 variables each can hold 640 lists.
pub(super) const MOST_ELEMENTS: usize = 1_000;
pub(super) const MOST_KEYS: usize = 500;
/// The most lists and maps inside one another. Deeper ones need more stack to be compared, printed or freed than there
/// is.
const MOST_NESTED: usize = 16;
/// Length of a list up to which all of it is checked each time it is read.
const LONG: usize = 256;
/// The most maps in one list or map: the smallest takes half a KiB.
const MOST_MAPS: usize = 100;

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("map", map);
    engine.register_fn("replace", replace::<ImmutableString>);
    engine.register_fn("replace", replace::<char>);
    #[expect(deprecated, reason = "marked so because it may change, not because it is obsolete")]
    engine.on_var(|name, _, context| readable(name, &context));
}

/// The size of a list that is being built.
#[derive(Debug, Default)]
pub(super) struct Size {
    values: usize,
    keys: usize,
    text: usize,
}

impl Size {
    /// Counts one more value; an error if that is too much.
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

/// Like `map` of the language, which checks the size only at the end: after a thousand lists of a thousand values.
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

/// Calls a closure that takes the value, or the value and its index.
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

/// A part of a text that can be replaced.
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

/// Like `replace` of the language, which could square the length of a text before it checks the size.
#[expect(clippy::needless_pass_by_value, reason = "the language gives values")]
fn replace<P: Part>(text: &mut ImmutableString, part: P, with: ImmutableString) -> Res<()> {
    let count = part.count(text);
    if text.len() - count * part.bytes() + count * with.len() > MOST_TEXT {
        return Err(too_large("Length of string"));
    }
    *text = part.replace(text, &with).into();
    Ok(())
}

/// Returns `None` if the variable may be read: the language reads it then.
fn readable(name: &str, context: &EvalContext<'_, '_, '_, '_, '_, '_>) -> Res<Option<Dynamic>> {
    let Some(variable) = context.scope().get(name) else { return Ok(None) };
    if variable.is_shared() {
        // If it is being changed at this moment, the language reports that itself.
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
        return Err(fault(format!("{name} is a closure; write the closure where it is used")));
    }
    // Memory allows only a few long lists inside one another, so checking now and then is enough.
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

/// The structure of a list or map.
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
