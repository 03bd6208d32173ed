//! The helpers of every collection, with their documentation.

use std::cmp::Ordering;

use rhai::{Array, Dynamic, FnPtr, INT, NativeCallContext};

use super::{Collection, Examples, Item, Key, or_unit, whole_index};
use crate::scheduler::rhai::{
    context::with,
    error::{Res, fault},
    natives::Size,
    registry::{Helper, HelperRegistry},
};

fn best_by<T: Item>(
    ctx: &NativeCallContext<'_>,
    set: &Collection<T>,
    score: &FnPtr,
    name: &str,
    better: Ordering,
) -> Res<Dynamic> {
    with(|context| {
        let mut best: Option<(Key, T)> = None;
        for item in set.list(context)? {
            let key = Key::new(score.call_within_context(ctx, (item.clone(),))?)?;
            if best.as_ref().is_none_or(|(other, _)| key.compare(other) == better) {
                best = Some((key, item));
            }
        }
        context.step(|| match &best {
            Some((key, item)) => format!("{}.{name}: {} with {key:?}", T::MANY, item.candidate()),
            None => format!("{}.{name}: none to choose from", T::MANY),
        });
        Ok(or_unit(best.map(|(_, item)| item)))
    })
}

/// Registers the helpers of every collection.
pub(in crate::scheduler::rhai) fn register<T: Item>(registry: &mut HelperRegistry) {
    let on = T::MANY;
    let e = T::EXAMPLES;
    registry.object::<Collection<T>>(T::MANY);
    registry.object::<T>(T::ONE);
    registry.engine().register_iterator::<Collection<T>>();
    selections::<T>(registry, on, e);
    questions::<T>(registry, on, e);
}

fn selections<T: Item>(registry: &mut HelperRegistry, on: &'static str, e: &Examples) {
    let entry = |name, signature, doc, example| Helper { on, name, signature, doc, example };
    registry.function(
        entry(
            "filter",
            "filter(|x| bool) -> collection",
            "Those for which the closure returns true.",
            e.filter,
        ),
        |ctx: NativeCallContext<'_>, set: &mut Collection<T>, test: FnPtr| -> Res<Collection<T>> {
            with(|context| {
                let mut kept = Vec::new();
                for item in set.list(context)? {
                    if test.call_within_context(&ctx, (item.clone(),))? {
                        kept.push(item);
                    }
                }
                let kept = Collection::listed(kept);
                set.explain(context, &kept, || format!("filter on line {}", line(&ctx)))?;
                Ok(kept)
            })
        },
    );
    registry.function(
        entry("without", "without(x) -> collection", "All except this one.", e.without),
        |set: &mut Collection<T>, other: T| -> Res<Collection<T>> {
            with(|context| {
                let mut items = set.list(context)?;
                items.retain(|item| item.candidate() != other.candidate());
                Ok(Collection::listed(items))
            })
        },
    );
    registry.function(
        entry(
            "sort_by",
            "sort_by(|x| key) -> collection",
            "Sorted by the closure's result, the least first: numbers, texts or bools.",
            e.sort_by,
        ),
        |ctx: NativeCallContext<'_>, set: &mut Collection<T>, key: FnPtr| -> Res<Collection<T>> {
            with(|context| {
                let mut keyed = Vec::new();
                for item in set.list(context)? {
                    keyed.push((Key::new(key.call_within_context(&ctx, (item.clone(),))?)?, item));
                }
                keyed.sort_by(|(one, _), (two, _)| one.compare(two));
                Ok(Collection::listed(keyed.into_iter().map(|(_, item)| item).collect::<Vec<_>>()))
            })
        },
    );
    registry.function(
        entry("take", "take(n) -> collection", "The first n.", e.take),
        |set: &mut Collection<T>, most: INT| -> Res<Collection<T>> {
            with(|context| {
                let most = usize::try_from(most).unwrap_or(0);
                let mut items = Vec::new();
                set.each(context, |item| {
                    if items.len() < most {
                        items.push(item);
                    }
                    Ok(items.len() < most)
                })?;
                Ok(Collection::listed(items))
            })
        },
    );
    registry.function(
        entry("skip", "skip(n) -> collection", "All except the first n.", e.skip),
        |set: &mut Collection<T>, count: INT| -> Res<Collection<T>> {
            with(|context| {
                let count = usize::try_from(count).unwrap_or(0);
                let items = set.list(context)?;
                Ok(Collection::listed(items.into_iter().skip(count).collect::<Vec<_>>()))
            })
        },
    );
    registry.function(
        entry(
            "map",
            "map(|x| value) -> array",
            "The closure's result for each, as an array of the language.",
            e.map,
        ),
        |ctx: NativeCallContext<'_>, set: &mut Collection<T>, change: FnPtr| -> Res<Array> {
            with(|context| {
                let mut size = Size::default();
                let mut mapped = Array::new();
                for item in set.list(context)? {
                    let value = change.call_within_context(&ctx, (item,))?;
                    size.add(&value)?;
                    mapped.push(value);
                }
                Ok(mapped)
            })
        },
    );
}

fn questions<T: Item>(registry: &mut HelperRegistry, on: &'static str, e: &Examples) {
    let entry = |name, signature, doc, example| Helper { on, name, signature, doc, example };
    registry.function(
        entry(
            "min_by",
            "min_by(|x| key) -> one or ()",
            "The one with the least result of the closure; of equals the first.",
            e.min_by,
        ),
        |ctx: NativeCallContext<'_>, set: &mut Collection<T>, key: FnPtr| {
            best_by(&ctx, set, &key, "min_by", Ordering::Less)
        },
    );
    registry.function(
        entry(
            "max_by",
            "max_by(|x| key) -> one or ()",
            "The one with the greatest result of the closure; of equals the first.",
            e.max_by,
        ),
        |ctx: NativeCallContext<'_>, set: &mut Collection<T>, key: FnPtr| {
            best_by(&ctx, set, &key, "max_by", Ordering::Greater)
        },
    );
    registry.function(
        entry(
            "find",
            "find(|x| bool) -> one or ()",
            "The first for which the closure returns true.",
            e.find,
        ),
        |ctx: NativeCallContext<'_>, set: &mut Collection<T>, test: FnPtr| -> Res<Dynamic> {
            with(|context| {
                let mut found = None;
                set.each(context, |item| {
                    if test.call_within_context(&ctx, (item.clone(),))? {
                        found = Some(item);
                    }
                    Ok(found.is_none())
                })?;
                Ok(or_unit(found))
            })
        },
    );
    registry.function(
        entry(
            "any",
            "any(|x| bool) -> bool",
            "True if the closure returns true for one of them.",
            e.any,
        ),
        |ctx: NativeCallContext<'_>, set: &mut Collection<T>, test: FnPtr| -> Res<bool> {
            with(|context| {
                let mut any = false;
                set.each(context, |item| {
                    any = test.call_within_context(&ctx, (item,))?;
                    Ok(!any)
                })?;
                Ok(any)
            })
        },
    );
    registry.function(
        entry(
            "all",
            "all(|x| bool) -> bool",
            "True if the closure returns true for each of them, also if there are none.",
            e.all,
        ),
        |ctx: NativeCallContext<'_>, set: &mut Collection<T>, test: FnPtr| -> Res<bool> {
            with(|context| {
                let mut all = true;
                set.each(context, |item| {
                    all = test.call_within_context(&ctx, (item,))?;
                    Ok(all)
                })?;
                Ok(all)
            })
        },
    );
    registry.function(
        entry("count", "count() -> int", "How many there are.", e.count),
        |set: &mut Collection<T>| -> Res<INT> {
            with(|context| {
                let mut count = 0;
                set.each(context, |_| {
                    count += 1;
                    Ok(true)
                })?;
                Ok(count)
            })
        },
    );
    registry.function(
        entry("is_empty", "is_empty() -> bool", "True if there are none.", e.is_empty),
        |set: &mut Collection<T>| -> Res<bool> {
            with(|context| Ok(set.first(context)?.is_none()))
        },
    );
    registry.function(
        entry("first", "first() -> one or ()", "The first one.", e.first),
        |set: &mut Collection<T>| -> Res<Dynamic> {
            with(|context| Ok(or_unit(set.first(context)?)))
        },
    );
    registry.function(
        entry("sum", "sum(|x| number) -> number", "The sum of the closure's results.", e.sum),
        |ctx: NativeCallContext<'_>, set: &mut Collection<T>, number: FnPtr| -> Res<Dynamic> {
            with(|context| {
                let (mut sum, mut float) = (0i64, None::<f64>);
                for item in set.list(context)? {
                    match Key::new(number.call_within_context(&ctx, (item,))?)? {
                        Key::Whole(whole) => sum = sum.saturating_add(whole),
                        Key::Number(number) => float = Some(float.unwrap_or(0.0) + number),
                        Key::Text(_) => return Err(fault("sum takes numbers, not text")),
                    }
                }
                Ok(float.map_or(sum.into(), |float| (float + Key::Whole(sum).float()).into()))
            })
        },
    );
    registry.function(
        entry(
            "random",
            "random() -> one or ()",
            "A random one; the same for the same question.",
            e.random,
        ),
        |set: &mut Collection<T>| -> Res<Dynamic> {
            with(|context| {
                let mut items = set.list(context)?;
                let index = context.ask.random.checked_rem(items.len() as u64);
                Ok(or_unit(index.map(|index| items.swap_remove(whole_index(index)))))
            })
        },
    );
}

fn line(ctx: &NativeCallContext<'_>) -> usize {
    ctx.call_position().line().unwrap_or(0)
}
