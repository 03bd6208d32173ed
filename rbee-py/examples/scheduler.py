"""A policy in Python: jobs of the night go to the machine with the cheapest power."""

import rbee


class CheapPower:
    """Batch jobs run where power is cheap; interactive jobs run where a slot is free."""

    def place(self, job: rbee.JobView, cluster: rbee.ClusterView) -> rbee.Placement:
        cost = {hive.id: float(hive.labels.get("cost", "1")) for hive in cluster.hives if hive.online}
        free = [worker for worker in cluster.available(job) if worker.hive in cost]
        if job.priority == "interactive":
            if free:
                return free[0]
        elif free and cost:
            cheapest = min(cost.values())
            return next((worker for worker in free if cost[worker.hive] == cheapest), rbee.Wait())
        if cluster.with_model(job.model) or not cost:
            return rbee.Wait()
        return rbee.Spawn(min(cost, key=lambda hive: cost[hive]))


if __name__ == "__main__":
    with rbee.Queen(scheduler=CheapPower()) as queen:
        print("policy:", queen.policy.get().description)
        answer = queen.submit(prompt="What is a bee?", max_tokens=20, seed=1, priority="batch").result()
        print("answer:", answer.text)
        print("why:", *queen.policy.explain("bee-tiny").decision.splitlines())
