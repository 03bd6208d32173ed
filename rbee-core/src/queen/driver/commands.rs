//! Commands of operators, and the question to the policy where to load a model.

use super::{
    super::{
        load_progress::{Listener, Work},
        policy,
    },
    *,
};
use crate::{
    engine::guarded,
    id::Ticket,
    load_request::LoadRequest,
    progress::Progress,
    scheduler::{Ask, Placement},
    within::within,
};

/// The timeout of the policy's decision where to load a model.
const DECISION_TIMEOUT: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) fn command(
        &mut self,
        command: Command,
        progress: Progress,
        reply: oneshot::Sender<Result<CommandOutput>>,
        effects: &mut Vec<Effect>,
    ) {
        let shown = match &command {
            Command::Provision { hive, model } => Some((Work::Load, hive.clone(), model.clone())),
            Command::Verify { hive, model } => Some((Work::Verify, hive.clone(), model.clone())),
            _ => None,
        };
        self.next_command += 1;
        let n = self.next_command;
        self.operators.insert(n, reply);
        let input = Input::Command { n, command };
        match shown {
            Some((work, hive, model)) => {
                let listener = Listener { work, hive, model, progress };
                let loads = self.context.loads.clone();
                loads.listen(listener, || self.turn(input, effects));
            }
            None => self.turn(input, effects),
        }
    }

    /// Asks the policy in a separate task: only this one command waits for the answer.
    pub(super) fn choose_hive(&self, ticket: Ticket, ask: Ask, request: &LoadRequest) {
        let inbox = self.context.inbox.clone();
        let candidates = request.candidates(self.engine.view());
        let Ok(candidates) = candidates else {
            // The engine itself finds out what is wrong with the request.
            let answer = Ok(Placement::Wait);
            return inbox.input(Input::HiveChosen { ticket, answer });
        };
        let scheduler = self.policy.scheduler().clone();
        let asked = policy::run_blocking(move || guarded(|| scheduler.place(&ask, &candidates)));
        let asked = async { asked.await.flatten() };
        let choose = async move {
            let (kind, what) = (ErrorKind::Internal, "it did not decide");
            let answer = within(DECISION_TIMEOUT, kind, what, asked).await;
            inbox.input(Input::HiveChosen { ticket, answer });
        };
        tokio::spawn(self.context.kill.clone().run_until_cancelled_owned(choose));
    }
}
