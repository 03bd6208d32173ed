//! Decisions about models that the engines of some hives cannot read.

use rbee_core::{
    hive::EngineSupport,
    models::{ModelFormat, ModelKind},
};

use super::*;

/// A GGUF file that rbee's own engine cannot read.
fn gguf() -> ModelKind {
    let mut kind = ModelKind::new(ModelFormat::Gguf);
    kind.architecture = Some("mamba".into());
    kind
}

fn named(name: &str, engines: &[EngineSupport]) -> HiveView {
    let roomy = [device(1, 64 * GIB, 64 * GIB)];
    HiveView { engines: Some(engines.into()), ..hive(name, roomy, None) }
}

/// A hive with rbee's own engine alone.
fn plain(name: &str) -> HiveView {
    named(name, &[EngineSupport::candle()])
}

/// A hive with an engine for every model.
fn able(name: &str) -> HiveView {
    named(name, &[EngineSupport::new("llama.cpp"), EngineSupport::candle()])
}

fn with_gguf(hives: Vec<HiveView>) -> ClusterView {
    let mut fleet = cluster(hives, vec![]);
    fleet.note_kind(&ask().job.model, gguf());
    fleet
}

fn on_disk(hive: HiveView) -> HiveView {
    let model = ask().job.model.clone();
    HiveView { models: Arc::new([(model.clone(), ModelOnDisk::new(model, GIB))].into()), ..hive }
}

#[test]
fn only_hives_that_can_read_a_model_are_candidates_for_it() {
    let fleet = with_gguf(vec![plain("a"), able("b"), plain("c")]);
    assert_eq!(spawned(place(&ask(), &fleet)).0, "b");
    // Not even the files on the disk count for a hive that cannot read them.
    let fleet = with_gguf(vec![on_disk(plain("a")), able("b")]);
    assert_eq!(spawned(place(&ask(), &fleet)).0, "b");
    let why = reason(&ask(), &fleet, &Candidate::Hive(id("a")));
    assert!(
        why.contains("cannot read the model: candle reads unquantized safetensors of llama"),
        "{why}"
    );
}

#[test]
fn a_model_that_no_hive_can_read_is_rejected_with_what_each_one_reads() {
    let fleet = with_gguf(vec![plain("a"), named("b", &[])]);
    let error = rejected(place(&ask(), &fleet));
    assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
    for part in ["model m is GGUF", "hive a: it cannot", "candle reads", "hive b:", "engines.md"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    assert_eq!(error.client_message(), None, "a tenant reads no hives");
    // A hive that cannot be asked now is no reason to wait, as for any other refusal.
    let mut away = able("b");
    away.online = false;
    let error = rejected(place(&ask(), &with_gguf(vec![plain("a"), away])));
    assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
    // One hive has refused it after all, and the other cannot read it.
    let fleet = with_gguf(vec![plain("a"), able("b")]);
    assert_eq!(rejected(place(&refused_by(&["b"]), &fleet)).kind(), ErrorKind::ModelIncompatible);
}

#[test]
fn what_is_not_known_refuses_nothing() {
    // The kind of the model.
    let fleet = cluster(vec![plain("a")], vec![]);
    assert_eq!(spawned(place(&ask(), &fleet)).0, "a");
    // The engines of the hive.
    let roomy = [device(1, 64 * GIB, 64 * GIB)];
    let fleet = with_gguf(vec![hive("a", roomy, None)]);
    assert_eq!(spawned(place(&ask(), &fleet)).0, "a");
}

#[test]
fn an_estimate_says_that_a_model_cannot_be_read_instead_of_that_it_fits() {
    let fleet = with_gguf(vec![on_disk(plain("a")), on_disk(able("b"))]);
    let found = Sizing::default().estimate(&ask().job.model, &fleet);
    assert!(
        matches!(&found[0].fit, Fit::Incompatible(why) if why.contains("candle reads")),
        "{found:?}"
    );
    assert_eq!(found[1].fit, Fit::Fits);
}

#[test]
fn no_more_kinds_are_remembered_than_allowed() {
    let mut fleet = ClusterView::default();
    for number in 0..3_000 {
        fleet.note_kind(&format!("file:/m/{number:05}").parse().unwrap(), gguf());
    }
    let known = (0..3_000)
        .filter(|number| fleet.kind_of(&format!("file:/m/{number:05}").parse().unwrap()).is_some());
    assert_eq!(known.count(), 1_024);
}
