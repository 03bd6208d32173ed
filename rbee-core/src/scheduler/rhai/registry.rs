//! The registry of helpers: each is registered together with what people read about it, so neither exists without the other.

use std::collections::BTreeMap;

use rhai::{Engine, RhaiNativeFunc};

use super::{
    context::{DecisionContext, with},
    error::Res,
};

/// What people read about a helper.
#[derive(Clone, Copy, Debug)]
pub(super) struct Helper {
    /// What it is called on; empty for a function.
    pub(super) on: &'static str,
    pub(super) name: &'static str,
    /// How it is written, with what it gives.
    pub(super) signature: &'static str,
    pub(super) doc: &'static str,
    /// An expression that works on the fleet of the dry_run.
    pub(super) example: &'static str,
}

/// A registry being written.
pub(super) struct HelperRegistry {
    engine: Engine,
    sections: Vec<(&'static str, &'static str)>,
    helpers: Vec<(&'static str, Helper)>,
    names: Names,
}

/// Every name that a script can use.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Functions and methods, with how many values each takes; a method's object counts as one.
    pub(super) functions: BTreeMap<&'static str, Vec<usize>>,
    pub(super) properties: Vec<&'static str>,
}

impl HelperRegistry {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, sections: Vec::new(), helpers: Vec::new(), names: Names::default() }
    }

    /// The helpers that follow belong together under this title.
    pub(super) fn section(&mut self, title: &'static str, about: &'static str) {
        self.sections.push((title, about));
    }

    /// Gives a type of the host the name that messages call it by.
    pub(super) fn object<T: Clone + Send + Sync + 'static>(&mut self, name: &'static str) {
        self.engine.register_type_with_name::<T>(name);
    }

    /// What needs no entry: operators, conversions to text, iteration.
    pub(super) fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// A function, or a method where `helper.on` is not empty.
    pub(super) fn function<A: 'static, const N: usize, const X: bool, R, const F: bool>(
        &mut self,
        helper: Helper,
        function: impl RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    ) where
        R: Clone + Send + Sync + 'static,
    {
        self.overload(helper.name, function);
        self.write(helper);
    }

    /// Another way to call a helper that is in the registry already.
    pub(super) fn overload<A: 'static, const N: usize, const X: bool, R, const F: bool>(
        &mut self,
        name: &'static str,
        function: impl RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    ) where
        R: Clone + Send + Sync + 'static,
    {
        self.names.functions.entry(name).or_default().push(N);
        self.engine.register_fn(name, function);
    }

    /// A property that the object itself knows.
    pub(super) fn property<T, R>(
        &mut self,
        helper: Helper,
        get: impl Fn(&T) -> R + Send + Sync + 'static,
    ) where
        T: Clone + Send + Sync + 'static,
        R: Clone + Send + Sync + 'static,
    {
        self.engine.register_get(helper.name, move |object: &mut T| get(object));
        self.names.properties.push(helper.name);
        self.write(helper);
    }

    /// A property that takes the question to know.
    pub(super) fn computed<T, R>(
        &mut self,
        helper: Helper,
        get: impl Fn(&T, &DecisionContext) -> Res<R> + Send + Sync + 'static,
    ) where
        T: Clone + Send + Sync + 'static,
        R: Clone + Send + Sync + 'static,
    {
        let get = move |object: &mut T| -> Res<R> { with(|context| get(object, context)) };
        self.engine.register_get(helper.name, get);
        self.names.properties.push(helper.name);
        self.write(helper);
    }

    fn write(&mut self, helper: Helper) {
        let section = self.sections.last().map_or("", |(title, _)| title);
        self.helpers.push((section, helper));
    }

    pub(super) fn close(self) -> (Engine, HelperIndex) {
        let Self { engine, sections, helpers, names } = self;
        (engine, HelperIndex { sections, helpers, names })
    }
}

/// A registry that is written.
#[derive(Clone, Debug)]
pub(super) struct HelperIndex {
    /// Titles, and what stands below each.
    pub(super) sections: Vec<(&'static str, &'static str)>,
    /// Each with the title of its section.
    pub(super) helpers: Vec<(&'static str, Helper)>,
    pub(super) names: Names,
}
