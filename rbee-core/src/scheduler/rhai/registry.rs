//! The registry of helpers: each is registered together with its documentation, so that neither exists without the
//! other.

use std::collections::BTreeMap;

use rhai::{Engine, RhaiNativeFunc};

use super::{
    context::{DecisionContext, with},
    error::Res,
};

/// The documentation of a helper.
#[derive(Clone, Copy, Debug)]
pub(super) struct Helper {
    /// The type that it is a method or property of; empty for a function.
    pub(super) on: &'static str,
    pub(super) name: &'static str,
    /// Its signature.
    pub(super) signature: &'static str,
    pub(super) doc: &'static str,
    /// An expression that works on the fleet of the dry run.
    pub(super) example: &'static str,
}

/// The helpers that are registered so far.
pub(super) struct HelperRegistry {
    engine: Engine,
    sections: Vec<(&'static str, &'static str)>,
    helpers: Vec<(&'static str, Helper)>,
    names: Names,
}

/// Every name that a script can use.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Functions and methods, with the numbers of values that they take; the object of a method counts.
    pub(super) functions: BTreeMap<&'static str, Vec<usize>>,
    pub(super) properties: Vec<&'static str>,
}

impl HelperRegistry {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, sections: Vec::new(), helpers: Vec::new(), names: Names::default() }
    }

    /// Begins a section; the helpers that follow belong to it.
    pub(super) fn section(&mut self, title: &'static str, about: &'static str) {
        self.sections.push((title, about));
    }

    /// Gives a type of the host its name in messages.
    pub(super) fn object<T: Clone + Send + Sync + 'static>(&mut self, name: &'static str) {
        self.engine.register_type_with_name::<T>(name);
    }

    /// The engine, for what needs no documentation: operators, conversions to text, iteration.
    pub(super) fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Registers a function, or a method if `helper.on` is not empty.
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

    /// Registers another signature of a helper that is registered already.
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

    /// Registers a property that the object itself knows.
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

    /// Registers a property that is computed from the question.
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

/// All helpers, when the registry is complete.
#[derive(Clone, Debug)]
pub(super) struct HelperIndex {
    /// The title and the introduction of each section.
    pub(super) sections: Vec<(&'static str, &'static str)>,
    /// The helpers, each with the title of its section.
    pub(super) helpers: Vec<(&'static str, Helper)>,
    pub(super) names: Names,
}
