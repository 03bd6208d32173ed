//! Tests of `rbee policy`, `rbee jobs why`, `rbee load --estimate-only` and `rbee tenants` with a real queen.

use std::{fs, path::PathBuf};

use crate::support::{Hall, echo, hive};
use rbee_transport_http::wire::{
    policy::{Estimate, PolicyReplay, PolicyVersion},
    queen::Listing,
    tenants::TenantView,
};

const POLICY: &str = "// Runs on the first free worker.\nfn schedule(job, workers, hives) {\n    \
    run_on(workers.with_model(job.model).idle().first()) ?? builtin()\n}\n";

/// A directory with files of these names and contents.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        path.display().to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_checked_set_shown_replayed_and_put_back() {
    let hall = Hall::new().await;
    let files = Files::new(&[
        ("mine.rhai", POLICY),
        ("bad.rhai", "fn schedule(job, workers, hives) {\n    workers.idel()\n}\n"),
        ("rules.yaml", "rules:\n  - when: {tenant: guest-*}\n    then: {reject: not today}\n"),
        ("slip.yaml", "rules:\n  - when: {modle: x}\n    then: {wait: true}\n"),
        ("mine.txt", POLICY),
    ]);
    let mine = files.path("mine.rhai");
    let checked = hall.rbee(&["policy", "check", &mine]).run().await.ok();
    assert!(checked.out.contains("understood policy"), "{checked:?}");
    assert!(checked.out.contains("run on worker"), "{checked:?}");
    let bad = hall.rbee(&["policy", "set", &files.path("bad.rhai")]).run().await;
    bad.failed(2, &["bad.rhai: line 2", "did you mean idle?"]);
    let slip = files.path("slip.yaml");
    let bad = hall.rbee(&["policy", "check", &slip]).run().await;
    bad.failed(2, &[&format!("{slip}: line 2: rules[0].when.modle: there is no such key")]);
    let schema = hall.rbee(&["policy", "schema"]).run().await.ok();
    let schema: serde_json::Value = serde_json::from_str(&schema.out).unwrap();
    assert_eq!(schema["title"], "rbee rules");
    hall.rbee(&["policy", "set", &files.path("mine.txt")]).run().await.failed(2, &[".rhai"]);
    hall.rbee(&["policy", "set", &files.path("none.rhai")]).run().await.failed(2, &["none.rhai"]);
    hall.rbee(&["policy", "show", "--as", "rhai"]).run().await.failed(2, &["compiled in"]);

    let set = hall.rbee(&["policy", "set", &mine]).run().await.ok();
    assert!(set.out.contains("(version 1)"), "{set:?}");
    for text in [&["policy", "show", "--as", "rhai"][..], &["policy", "get"]] {
        assert_eq!(hall.rbee(text).run().await.ok().out, POLICY);
    }
    let shown = hall.rbee(&["policy", "show"]).run().await.ok();
    assert!(shown.out.contains("Runs on the first free worker."), "{shown:?}");

    hall.rbee(&["run", "bee", "Hi"]).run().await.ok();
    let job = hall.last_job().await.id.to_string();
    let why = hall.rbee(&["jobs", "why", &job[..8]]).run().await.ok();
    assert!(why.out.contains("run on worker") && why.out.contains(", version 1"), "{why:?}");
    let replay = hall.rbee(&["policy", "replay", &files.path("rules.yaml"), "--since", "1h"]);
    let replay = replay.run().await.ok();
    assert!(replay.out.contains("IN FORCE") && replay.out.contains("wait p99"), "{replay:?}");
    assert!(replay.out.contains("\nWORKER ") && replay.out.contains("1 job, "), "{replay:?}");
    assert!(replay.err.contains("1 job, since 20"), "{replay:?}");
    let replay = ["policy", "replay", &mine, "--since", "2d", "--json"];
    let found: PolicyReplay =
        serde_json::from_value(hall.rbee(&replay).run().await.ok().json()).unwrap();
    assert_eq!((found.since_ms, found.candidate.completed), (2 * 86_400_000, 1));
    hall.rbee(&["policy", "replay", &mine, "--since", "soon"]).run().await.failed(2, &["24h"]);

    hall.rbee(&["policy", "set", &files.path("rules.yaml")]).run().await.ok();
    let shown = hall.rbee(&["policy", "show", "--as", "rhai"]).run().await.ok();
    assert!(shown.out.contains("fn schedule("), "{shown:?}");
    let back = hall.rbee(&["policy", "rollback", "1"]).run().await.ok();
    assert!(back.out.contains("(version 3)"), "{back:?}");
    let versions = hall.rbee(&["policy", "versions", "--json"]).run().await.ok();
    let versions: Listing<PolicyVersion> = serde_json::from_value(versions.json()).unwrap();
    let in_force: Vec<bool> = versions.data.iter().map(|version| version.in_force).collect();
    assert_eq!(in_force, [false, false, true]);
    let table = hall.rbee(&["policy", "versions"]).run().await.ok();
    assert_eq!(table.rows()[1][..2], ["3", "in force"]);
    hall.rbee(&["policy", "rollback", "9"]).run().await.failed(4, &["version 9"]);
    let first = hall.rbee(&["policy", "show", "--version", "1"]).run().await.ok();
    assert_eq!(first.out, POLICY);
    let rules = ["policy", "show", "--version", "2", "--as", "rhai"];
    assert!(hall.rbee(&rules).run().await.ok().out.contains("fn schedule("));
    hall.rbee(&["policy", "show", "--version", "9"]).run().await.failed(4, &["version 9"]);

    let reset = hall.rbee(&["policy", "reset"]).run().await.ok();
    assert!(reset.out.contains("least-loaded") && reset.out.contains("(version 4)"), "{reset:?}");
    hall.rbee(&["policy", "get"]).run().await.failed(2, &["compiled in"]);
    hall.rbee(&["policy", "show", "--version", "4"]).run().await.failed(2, &["is a reset"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_starts_nothing_and_says_where_a_model_fits() {
    let spare = concat!("file:", env!("CARGO_MANIFEST_DIR"), "/src/verbs");
    let attic = |queen: rbee_core::QueenBuilder| queen.hive(hive("attic")).alias("spare", spare);
    let hall = Hall::built(echo(), attic, |server| server).await;
    let estimate = ["load", "spare", "--estimate-only", "--json"];
    let found: Estimate =
        serde_json::from_value(hall.rbee(&estimate).run().await.ok().json()).unwrap();
    assert!(found.fits && found.devices.iter().any(|device| device.hive.as_str() == "attic"));
    let shown = hall.rbee(&["load", "spare", "--estimate-only"]).run().await.ok();
    assert!(shown.out.contains("attic") && shown.out.contains("fits"), "{shown:?}");
    assert_eq!(hall.rbee(&["ps"]).run().await.ok().rows().len(), 2, "the one that was there");
    let unknown = hall.rbee(&["load", "hf:org/nobody", "--estimate-only"]).run().await;
    assert!(unknown.out.contains("not known"), "{unknown:?}");
    unknown.failed(1, &["rbee pull"]);
    hall.rbee(&["load", "spare", "--context", "9"]).run().await.failed(2, &["--estimate-only"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_set_up_given_keys_and_removed() {
    let hall = Hall::new().await;
    let set =
        ["tenants", "set", "acme", "--daily-tokens", "1000", "--weight", "3", "--models", "bee"];
    hall.rbee(&set).run().await.ok();
    hall.rbee(&["tenants", "set", "acme", "--concurrent", "2"]).run().await.ok();
    let listed = hall.rbee(&["tenants", "ls"]).run().await.ok();
    assert_eq!(listed.rows()[1], ["acme", "0/1000", "0/2", "-", "-", "3", "0"]);
    let issued = hall.rbee(&["tenants", "key", "acme", "--label", "laptop"]).run().await.ok();
    let key = issued.out.trim();
    assert!(key.starts_with("rbee-") && !issued.err.contains(key), "{issued:?}");
    let shown = hall.rbee(&["tenants", "show", "acme"]).run().await.ok();
    assert!(shown.out.contains("laptop") && !shown.out.contains(key), "{shown:?}");
    let shown = hall.rbee(&["tenants", "show", "acme", "--json"]).run().await.ok();
    let tenant: TenantView = serde_json::from_value(shown.json()).unwrap();
    hall.rbee(&["tenants", "revoke", "acme", &tenant.keys[0].hash[..8]]).run().await.ok();
    hall.rbee(&["tenants", "set", "acme", "--daily-tokens", "none"]).run().await.ok();
    let listed = hall.rbee(&["tenants", "ls"]).run().await.ok();
    assert_eq!(listed.rows()[1][1..3], ["0", "0/2"]);
    hall.rbee(&["tenants", "set", "acme", "--priorities", "urgent"])
        .run()
        .await
        .failed(2, &["urgent"]);
    hall.rbee(&["tenants", "rm", "acme"]).run().await.ok();
    hall.rbee(&["tenants", "show", "acme"]).run().await.failed(4, &["acme"]);
}
