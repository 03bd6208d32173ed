//! The book of helpers: each is registered together with what people read about it, so neither exists without the other.

use std::collections::BTreeMap;

use rhai::{Engine, RhaiNativeFunc};

use super::session::{Res, Session, with};

/// What people read about a helper.
#[derive(Clone, Copy, Debug)]
pub(super) struct Helper {
    /// What it is called on; empty for a function.
    pub(super) on: &'static str,
    pub(super) name: &'static str,
    /// How it is written, with what it gives.
    pub(super) signature: &'static str,
    pub(super) doc: &'static str,
    /// An expression that works on the fleet of the trial.
    pub(super) example: &'static str,
}

/// A book being written.
pub(super) struct Book {
    engine: Engine,
    chapters: Vec<(&'static str, &'static str)>,
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

impl Book {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, chapters: Vec::new(), helpers: Vec::new(), names: Names::default() }
    }

    /// The helpers that follow belong together under this title.
    pub(super) fn chapter(&mut self, title: &'static str, about: &'static str) {
        self.chapters.push((title, about));
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

    /// Another way to call a helper that is in the book already.
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
    pub(super) fn asked<T, R>(
        &mut self,
        helper: Helper,
        get: impl Fn(&T, &Session) -> Res<R> + Send + Sync + 'static,
    ) where
        T: Clone + Send + Sync + 'static,
        R: Clone + Send + Sync + 'static,
    {
        let get = move |object: &mut T| -> Res<R> { with(|session| get(object, session)) };
        self.engine.register_get(helper.name, get);
        self.names.properties.push(helper.name);
        self.write(helper);
    }

    fn write(&mut self, helper: Helper) {
        let chapter = self.chapters.last().map_or("", |(title, _)| title);
        self.helpers.push((chapter, helper));
    }

    pub(super) fn close(self) -> (Engine, Contents) {
        let Self { engine, chapters, helpers, names } = self;
        (engine, Contents { chapters, helpers, names })
    }
}

/// A book that is written.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    /// Titles, and what stands below each.
    pub(super) chapters: Vec<(&'static str, &'static str)>,
    /// Each with the title of its chapter.
    pub(super) helpers: Vec<(&'static str, Helper)>,
    pub(super) names: Names,
}
