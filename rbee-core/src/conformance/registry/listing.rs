//! The contract of [`Registry::jobs`].

use super::{Subject, samples::*};
use crate::{
    job::JobState,
    registry::{JobFilter, JobRecord, Registry},
};

async fn list(registry: &dyn Registry, filter: &JobFilter) -> Vec<JobRecord> {
    let listed = registry.jobs(filter).await;
    listed.unwrap_or_else(|error| panic!("listing {filter:?} failed: {error:?}"))
}

/// Jobs of all owners together, independent of the order in which they were recorded.
pub async fn jobs_are_listed_newest_first_and_page_by_page(store: &dyn Subject) {
    let (one, two) = (store.handle().await, store.handle().await);
    let a = open(store, &*one, "a").await.epoch;
    let b = open(store, &*two, "b").await.epoch;
    let jobs: Vec<JobRecord> = (1..=7).map(|n| job(n * 10)).collect();
    for n in [3, 0, 6, 1, 4, 2, 5] {
        let (registry, epoch) = if n % 2 == 0 { (&one, a) } else { (&two, b) };
        record(&**registry, epoch, &[queued(&jobs[n])]).await;
    }
    let newest: Vec<_> = ids(&jobs).into_iter().rev().collect();
    assert_eq!(
        ids(&list(&*one, &JobFilter::default()).await),
        newest,
        "jobs must be listed newest first, those of every owner"
    );
    let mut paged = Vec::new();
    let mut before = None;
    for page in [3, 3, 1, 0] {
        let filter = JobFilter { before, limit: 3, ..JobFilter::default() };
        let found = list(&*two, &filter).await;
        assert_eq!(
            found.len(),
            page,
            "a page of 3 before order {before:?} has the wrong number of jobs"
        );
        before = found.last().map_or(before, |job| Some(job.order));
        paged.extend(ids(&found));
    }
    assert_eq!(paged, newest, "the pages together must list every job once");
}

/// By id, by tenant, by state, and by all of them together.
pub async fn a_filter_lets_through_what_it_names(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let jobs = [job_of(1, "t"), job_of(2, "t"), job_of(3, "u"), job(4)];
    for job in &jobs {
        record(&*registry, epoch, &[queued(job)]).await;
    }
    let ends = [
        running(jobs[1].id, 1, AT, "x"),
        ended(jobs[2].id, complete(1, 1), AT),
        ended(jobs[3].id, crate::event::Outcome::Cancelled, AT),
    ];
    record(&*registry, epoch, &ends).await;

    let of = |name: Option<&str>, states: &[JobState]| JobFilter {
        tenant: name.map(tenant),
        states: states.to_vec(),
        ..JobFilter::default()
    };
    let both = JobFilter { id: Some(jobs[2].id), ..of(Some("t"), &[]) };
    for (filter, expected) in [
        (of(Some("t"), &[]), vec![1, 0]),
        (of(Some("nobody"), &[]), vec![]),
        (of(None, &[JobState::Queued]), vec![0]),
        (of(None, &[JobState::Running]), vec![1]),
        (of(None, &[JobState::Queued, JobState::Running]), vec![1, 0]),
        (of(None, &[JobState::Complete]), vec![2]),
        (of(None, &[JobState::Cancelled, JobState::Queued]), vec![3, 0]),
        (of(None, &[JobState::Failed]), vec![]),
        (of(Some("t"), &[JobState::Running]), vec![1]),
        (JobFilter::one(jobs[2].id), vec![2]),
        (JobFilter::one(crate::id::JobId::random()), vec![]),
        (both, vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|n: usize| jobs[n].id).collect();
        assert_eq!(
            ids(&list(&*registry, &filter).await),
            expected,
            "the wrong jobs were listed for {filter:?}"
        );
    }
}

/// All other fields are always listed.
pub async fn text_is_listed_only_where_it_is_asked_for(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let mut full = job(1);
    record(&*registry, epoch, &[queued(&full), tokens(full.id, 0, &["a", "b"])]).await;
    record(&*registry, epoch, &[vectors(full.id)]).await;
    full.vectors = Some(some_vectors());
    full.owner = epoch;
    full.chunks = chunks(&["a", "b"]);
    full.tokens_generated = 2;
    let with_text = JobFilter { with_text: true, ..JobFilter::default() };
    assert_eq!(
        list(&*registry, &with_text).await,
        [full.clone()],
        "a listing with text must have the request and the token chunks"
    );
    let bare = JobRecord { request: None, chunks: Vec::new(), vectors: None, ..full };
    assert_eq!(
        list(&*registry, &JobFilter::default()).await,
        [bare],
        "a listing without text must leave out the request and the token chunks, and nothing else"
    );
}
