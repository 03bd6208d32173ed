//! What waits, in scripts.

use rhai::{Dynamic, INT};

use super::{
    book::{Book, Helper},
    collection::{or_unit, whole},
    job::Model,
    session::{Res, Session, looked, with},
};
use crate::{ModelRef, Time};

/// What waits, as `admit` gets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue;

fn depth(session: &Session) -> Res<INT> {
    Ok(whole(session.cluster.waiting()))
}

fn depth_for(session: &Session, model: &ModelRef) -> INT {
    whole(session.cluster.waiting_for(model).map_or(0, |lane| lane.depth))
}

fn wait(session: &Session, since: Time) -> INT {
    whole((session.ask.now.at - since).as_millis())
}

fn oldest(session: &Session) -> Res<Dynamic> {
    let mut oldest = None::<Time>;
    for (_, lane) in session.cluster.lanes() {
        looked(1)?;
        oldest = Some(oldest.map_or(lane.oldest, |time| time.min(lane.oldest)));
    }
    Ok(or_unit(oldest.map(|since| wait(session, since))))
}

fn oldest_for(session: &Session, model: &ModelRef) -> Dynamic {
    or_unit(session.cluster.waiting_for(model).map(|lane| wait(session, lane.oldest)))
}

pub(super) fn register(book: &mut Book) {
    book.chapter(
        "The queue",
        "What waits for a slot. `admit` gets the queue as its second value, with the same as properties and methods.",
    );
    book.object::<Queue>("queue");
    let f = |name, signature, doc, example| Helper { on: "", name, signature, doc, example };
    book.function(
        f(
            "queue_depth",
            "queue_depth() -> int",
            "Jobs that wait, for all models together.",
            "queue_depth()",
        ),
        || with(depth),
    );
    book.function(
        f(
            "queue_depth_for",
            "queue_depth_for(model) -> int",
            "Jobs that wait for this model.",
            "queue_depth_for(job.model)",
        ),
        |model: Model| with(|session| Ok(depth_for(session, &model.0))),
    );
    book.overload("queue_depth_for", |model: &str| {
        let model = Model::parse(model)?;
        with(|session| Ok(depth_for(session, &model.0)))
    });
    book.function(
        f("oldest_wait_ms", "oldest_wait_ms() -> int or ()", "How long the first of them has been waiting, in milliseconds; with a model, the first that waits for it.", "oldest_wait_ms(job.model)"),
        || with(oldest),
    );
    book.overload("oldest_wait_ms", |model: Model| {
        with(|session| Ok(oldest_for(session, &model.0)))
    });
    let of = |name, signature, doc, example| Helper { on: "queue", name, signature, doc, example };
    book.asked(
        of("depth", "depth -> int", "Jobs that wait, for all models together.", "queue.depth"),
        |_: &Queue, session| depth(session),
    );
    book.asked(
        of(
            "oldest_wait_ms",
            "oldest_wait_ms -> int or ()",
            "How long the first of them has been waiting.",
            "queue.oldest_wait_ms",
        ),
        |_: &Queue, session| oldest(session),
    );
    book.function(
        of(
            "depth_for",
            "depth_for(model) -> int",
            "Jobs that wait for this model.",
            "queue.depth_for(job.model)",
        ),
        |_: &mut Queue, model: Model| with(|session| Ok(depth_for(session, &model.0))),
    );
}
