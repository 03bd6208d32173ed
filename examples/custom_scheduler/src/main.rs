//! A custom scheduling policy: batch jobs never use the worker that is kept free for interactive ones.
//!
//! The two workers are test doubles that answer at once with made-up words, so that the example shows only the
//! policy.

use rbee_core::{
    Ask, ClusterView, LeastLoaded, Placement, Priority, Queen, Request, Result, Scheduler,
    WorkerId, worker::EchoWorker,
};

/// Keeps one worker for interactive jobs; otherwise the same as the built-in policy.
#[derive(Debug)]
struct KeepFree {
    worker: WorkerId,
    rest: LeastLoaded,
}

impl Scheduler for KeepFree {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        match self.rest.place(ask, cluster)? {
            Placement::Assign(id) if id == self.worker && ask.job.priority == Priority::Batch => {
                let mut others = cluster.available(&ask.job.model).map(|worker| worker.info.id);
                Ok(others.find(|id| *id != self.worker).map_or(Placement::Wait, Placement::Assign))
            }
            placement => Ok(placement),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let worker = || -> Result<_> { Ok(EchoWorker::builder("echo".parse()?).slots(2).build()) };
    let (kept, common) = (worker()?, worker()?);
    let queen = Queen::builder()
        .scheduler(KeepFree { worker: kept_id(&kept), rest: LeastLoaded::default() })
        .worker(kept.clone())
        .worker(common.clone())
        .build()
        .await?;
    for number in 0..20 {
        let priority = if number % 2 == 0 { Priority::Batch } else { Priority::Interactive };
        let request = Request::chat("echo").user("Hi").priority(priority);
        let answer = queen.submit(request).await?.answer().await?;
        let place = if answer.worker == Some(kept_id(&kept)) { "kept" } else { "common" };
        println!("{priority:>11} job ran on the {place} worker");
    }
    println!(
        "kept worker: {} jobs, common worker: {} jobs",
        kept.runs().len(),
        common.runs().len()
    );
    Ok(())
}

fn kept_id(worker: &EchoWorker) -> WorkerId {
    rbee_core::Worker::info(worker).id
}
