//! Collections of workers or hives in scripts: not a list of copies but a description, which is looked up when it is
//! needed.
//!
//! A choice for which the view has an index costs the same in a small cluster and a large one. A helper with a closure
//! makes a list of pointers.

use std::{cmp::Ordering, fmt, sync::Arc};

use rhai::{Dynamic, INT};

use super::{
    budget::looked,
    context::{DecisionContext, with},
    error::{Res, fault},
};
use crate::{cluster::ClusterView, scheduler::Candidate};

pub(super) mod helpers;

/// The most filters of one collection; each copy of it has them all.
const MOST_FILTERS: usize = 32;
/// The most bytes of a text to sort by; each sorted item has such a text.
const MOST_KEY: usize = 256;

/// The type of the items of a collection.
pub(super) trait Item: Clone + fmt::Debug + Send + Sync + 'static {
    /// The items that a collection starts from.
    type Base: Clone + fmt::Debug + Default + Send + Sync + 'static;
    /// A filter without a closure.
    type Filter: Clone + fmt::Debug + Send + Sync + 'static;
    /// The plural, as scripts call them: `workers`.
    const MANY: &'static str;
    /// The singular: `worker`.
    const ONE: &'static str;
    /// The examples of the shared helpers.
    const EXAMPLES: &'static Examples;

    fn all<'a>(
        base: &'a Self::Base,
        cluster: &'a ClusterView,
    ) -> Box<dyn Iterator<Item = Self> + 'a>;
    fn keep(&self, filter: &Self::Filter, context: &DecisionContext) -> Res<bool>;
    /// Returns true if no item after this one, which the filter has removed, can be in the collection.
    fn is_last(&self, base: &Self::Base, filter: &Self::Filter) -> bool;
    fn candidate(&self) -> Candidate;
}

/// Examples of the helpers that every collection has.
#[derive(Debug)]
pub(super) struct Examples {
    pub(super) filter: &'static str,
    pub(super) find: &'static str,
    pub(super) without: &'static str,
    pub(super) min_by: &'static str,
    pub(super) max_by: &'static str,
    pub(super) sort_by: &'static str,
    pub(super) any: &'static str,
    pub(super) all: &'static str,
    pub(super) count: &'static str,
    pub(super) is_empty: &'static str,
    pub(super) first: &'static str,
    pub(super) take: &'static str,
    pub(super) skip: &'static str,
    pub(super) map: &'static str,
    pub(super) sum: &'static str,
    pub(super) random: &'static str,
}

#[derive(Clone, Debug)]
enum Source<T: Item> {
    View(T::Base),
    /// The items that a closure has left.
    List(Arc<[T]>),
}

/// A collection; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Collection<T: Item> {
    source: Source<T>,
    filters: Vec<T::Filter>,
}

impl<T: Item> Default for Collection<T> {
    fn default() -> Self {
        Self::of(T::Base::default())
    }
}

impl<T: Item> Collection<T> {
    pub(super) fn of(base: T::Base) -> Self {
        Self { source: Source::View(base), filters: Vec::new() }
    }

    pub(super) fn listed(items: impl Into<Arc<[T]>>) -> Self {
        Self { source: Source::List(items.into()), filters: Vec::new() }
    }

    /// The items that it starts from; `None` if a closure has made a list of it.
    pub(super) fn base(&self) -> Option<&T::Base> {
        match &self.source {
            Source::View(base) => Some(base),
            Source::List(_) => None,
        }
    }

    pub(super) fn into_dynamic(self) -> Dynamic {
        Dynamic::from(self)
    }

    pub(super) fn filters(&self) -> &[T::Filter] {
        &self.filters
    }

    /// The same filters on other items.
    pub(super) fn rebased(&self, base: T::Base) -> Self {
        Self { source: Source::View(base), filters: self.filters.clone() }
    }

    /// Adds a filter; `name` is for the explanation.
    pub(super) fn narrowed(
        &self,
        context: &DecisionContext,
        filter: T::Filter,
        name: impl FnOnce() -> String,
    ) -> Res<Self> {
        if self.filters.len() == MOST_FILTERS {
            let message = format!("{} are filtered more than {MOST_FILTERS} times", T::MANY);
            return Err(fault(message));
        }
        let mut narrow = self.clone();
        narrow.filters.push(filter);
        self.explain(context, &narrow, name)?;
        Ok(narrow)
    }

    /// Notes how many items a step has left.
    pub(super) fn explain(
        &self,
        context: &DecisionContext,
        left: &Self,
        name: impl FnOnce() -> String,
    ) -> Res<()> {
        if !context.is_explained() {
            return Ok(());
        }
        let name = name();
        let (before, after) = (self.list(context)?, left.list(context)?);
        let kept: std::collections::BTreeSet<Candidate> = after.iter().map(T::candidate).collect();
        for candidate in before.iter().map(T::candidate).filter(|one| !kept.contains(one)) {
            context.dropped(candidate, || format!("left out by {name}"));
        }
        context.step(|| format!("{}.{name}: {} of {} left", T::MANY, after.len(), before.len()));
        Ok(())
    }

    /// Visits the items, until `look` returns false.
    pub(super) fn each(
        &self,
        context: &DecisionContext,
        mut look: impl FnMut(T) -> Res<bool>,
    ) -> Res<()> {
        match &self.source {
            Source::View(base) => {
                'items: for item in T::all(base, &context.cluster) {
                    looked(1)?;
                    for filter in &self.filters {
                        if !item.keep(filter, context)? {
                            if item.is_last(base, filter) {
                                return Ok(());
                            }
                            continue 'items;
                        }
                    }
                    if !look(item)? {
                        return Ok(());
                    }
                }
            }
            Source::List(items) => {
                'listed: for item in items.iter() {
                    looked(1)?;
                    for filter in &self.filters {
                        if !item.keep(filter, context)? {
                            continue 'listed;
                        }
                    }
                    if !look(item.clone())? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn list(&self, context: &DecisionContext) -> Res<Vec<T>> {
        let mut items = Vec::new();
        self.each(context, |item| {
            items.push(item);
            Ok(true)
        })?;
        Ok(items)
    }

    pub(super) fn first(&self, context: &DecisionContext) -> Res<Option<T>> {
        let mut first = None;
        self.each(context, |item| {
            first = Some(item);
            Ok(false)
        })?;
        Ok(first)
    }

    /// The item with the least key; of equal ones the first.
    pub(super) fn least<K: PartialOrd>(
        &self,
        context: &DecisionContext,
        mut key: impl FnMut(&T) -> Res<K>,
    ) -> Res<Option<T>> {
        let mut best: Option<(K, T)> = None;
        self.each(context, |item| {
            let key = key(&item)?;
            if best.as_ref().is_none_or(|(least, _)| key < *least) {
                best = Some((key, item));
            }
            Ok(true)
        })?;
        Ok(best.map(|(_, item)| item))
    }
}

/// A key that a closure returned, to sort or choose by.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    Number(f64),
    Whole(INT),
    Text(rhai::ImmutableString),
}

impl Key {
    pub(super) fn new(value: Dynamic) -> Res<Self> {
        if let Ok(whole) = value.as_int() {
            return Ok(Self::Whole(whole));
        }
        if let Ok(yes) = value.as_bool() {
            return Ok(Self::Whole(yes.into()));
        }
        if let Ok(number) = value.as_float() {
            return Ok(Self::Number(number));
        }
        let name = value.type_name();
        let text = value.into_immutable_string().map_err(|_| {
            fault(format!(
                "cannot order by a value of type {name}; allowed are a number, a text and a bool"
            ))
        })?;
        match text.len() {
            0..=MOST_KEY => Ok(Self::Text(text)),
            bytes => Err(fault(format!(
                "cannot order by a text of {bytes} bytes; allowed are {MOST_KEY}"
            ))),
        }
    }

    /// Compares values of one kind by their order, and values of different kinds by kind.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Whole(one), Self::Whole(two)) => one.cmp(two),
            (Self::Text(one), Self::Text(two)) => one.cmp(two),
            (Self::Text(_), _) => Ordering::Greater,
            (_, Self::Text(_)) => Ordering::Less,
            (one, two) => one.float().total_cmp(&two.float()),
        }
    }

    fn float(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            #[expect(clippy::cast_precision_loss, reason = "an order, beside numbers with a point")]
            Self::Whole(whole) => *whole as f64,
            Self::Text(_) => 0.0,
        }
    }
}

/// The value, or `()` if there is none.
pub(super) fn or_unit<T: Clone + Send + Sync + 'static>(value: Option<T>) -> Dynamic {
    value.map_or(Dynamic::UNIT, Dynamic::from)
}

/// A number of the host as an integer of the language.
pub(super) fn whole(number: impl TryInto<INT>) -> INT {
    number.try_into().unwrap_or(INT::MAX)
}

pub(super) fn whole_index(index: u64) -> usize {
    usize::try_from(index).unwrap_or(0)
}

/// `for worker in workers { … }`.
impl<T: Item> IntoIterator for Collection<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        // An iterator cannot fail here; a script whose time is over is ended by its next operation.
        with(|context| self.list(context)).unwrap_or_default().into_iter()
    }
}
