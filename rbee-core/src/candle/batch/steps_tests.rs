//! Many runs on a model that checks how it is called.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    super::{
        outlet::OUTPUTS,
        scripted::{Bench, Fault, Reader, Request, prompt},
    },
    *,
};

fn request(seed: u32, length: usize, most: u32) -> Request {
    Request::new(prompt(seed, length), most)
}

#[test]
fn runs_join_and_leave_between_steps_and_each_gives_the_tokens_that_it_gives_alone() {
    let mut bench = Bench::new(64);
    let requests = [request(1, 10, 30), request(2, 70, 15), request(3, 1, 12), request(4, 33, 20)];
    let mut readers: Vec<Reader> = Vec::new();
    for request in &requests {
        readers.push(bench.join(request));
        for _ in 0..3 {
            bench.step();
            readers.iter_mut().for_each(Reader::read_all);
        }
    }
    bench.finish(&mut readers.iter_mut().collect::<Vec<_>>());
    for (reader, request) in readers.iter().zip(&requests) {
        assert_eq!(reader.ids, request.expected());
        assert!(matches!(reader.end, Some(Ok(()))));
        assert_eq!(reader.metrics.unwrap().prompt_tokens as usize, request.prompt.len());
    }
    assert_eq!(bench.slots.busy(), 0);
    let widest = bench.script().steps.iter().map(Vec::len).max();
    assert_eq!(widest, Some(4), "all of them in one step");
    bench.check();
}

#[test]
fn a_long_prompt_delays_each_token_of_seven_streams_by_about_100_ms() {
    let mut bench = Bench::new(400);
    bench.script().row = Duration::from_millis(2);
    let streams: Vec<Request> = (0..7).map(|seed| request(seed, 20, 400)).collect();
    let mut readers: Vec<Reader> = streams.iter().map(|run| bench.join(run)).collect();
    while readers.iter().any(|reader| reader.metrics.is_none()) {
        bench.step();
        readers.iter_mut().for_each(Reader::read_all);
    }
    let long = request(9, 4_096, 1);
    let mut reader = bench.join(&long);
    let mut steps = 0;
    while reader.metrics.is_none() {
        let (begun, before) = (bench.now(), readers[0].ids.len());
        bench.step();
        readers.iter_mut().chain([&mut reader]).for_each(Reader::read_all);
        assert_eq!(readers[0].ids.len(), before + 1, "one token per step");
        let gap = bench.now() - begun;
        // 50 rows of the prompt, and one of each stream.
        assert!(gap <= Duration::from_millis(2 * 57), "{gap:?}");
        steps += 1;
    }
    assert_eq!(steps, 4_096_usize.div_ceil(50));
    assert_eq!(reader.ids, long.expected());
    for (reader, run) in readers.iter().zip(&streams) {
        assert_eq!(reader.ids, run.expected()[..reader.ids.len()]);
    }
    bench.check();
}

#[test]
fn a_short_prompt_does_not_wait_for_the_end_of_a_long_one() {
    let mut bench = Bench::new(400);
    bench.script().row = Duration::from_millis(5);
    let mut long = bench.join(&request(1, 6_000, 1));
    bench.step();
    let mut short = bench.join(&request(2, 40, 1));
    bench.step();
    bench.step();
    short.read_all();
    assert!(short.end.is_some());
    bench.finish(&mut [&mut long]);
    assert!(long.end.is_some());
    bench.check();
}

#[test]
fn a_reader_that_does_not_read_stalls_its_own_run_alone() {
    let mut bench = Bench::new(64);
    let requests = [request(1, 10, 60), request(2, 10, 60)];
    let [mut slow, mut fast] = requests.each_ref().map(|request| bench.join(request));
    while fast.end.is_none() {
        assert!(bench.step());
        fast.read_all();
    }
    assert!(!bench.step(), "nothing is left to compute");
    assert_eq!(bench.slots.busy(), 1);
    // The metrics and 7 tokens are in the channel, and one token waits.
    slow.read_all();
    assert_eq!(slow.ids.len(), OUTPUTS - 1);
    bench.finish(&mut [&mut slow]);
    for (reader, request) in [slow, fast].iter().zip(&requests) {
        assert_eq!(reader.ids, request.expected());
    }
    bench.check();
}

#[tokio::test]
async fn a_waiting_engine_goes_on_when_a_reader_has_taken_an_output_or_is_gone() {
    let mut bench = Bench::new(64);
    let mut readers = [1, 2].map(|seed| bench.join(&request(seed, 10, 60)));
    while bench.step() {}
    let has_changed =
        |bench: &Bench| futures_util::FutureExt::now_or_never(bench.batch.changed()).is_some();
    assert!(!has_changed(&bench));
    readers[0].read(1);
    assert!(has_changed(&bench));
    while bench.step() {}
    assert!(!has_changed(&bench));
    let [_, second] = readers;
    drop(second);
    assert!(has_changed(&bench));
    bench.check();
}

#[test]
fn a_dropped_stream_frees_its_slot_and_its_blocks() {
    let mut bench = Bench::new(8);
    let reader = bench.join(&request(1, 8 * 32 - 40, 30));
    bench.step();
    assert_eq!((bench.batch.cache.available(), bench.slots.busy()), (1, 1));
    drop(reader);
    bench.batch.settle();
    assert_eq!((bench.batch.cache.available(), bench.slots.busy()), (8, 0));
    assert!(!bench.step());
}

#[test]
fn the_newest_gives_its_blocks_to_older_ones_and_goes_on_later_with_the_same_tokens() {
    let mut bench = Bench::new(6);
    let requests = [request(1, 32, 100), request(2, 32, 60), request(3, 32, 90)];
    let mut readers = requests.each_ref().map(|request| bench.join(request));
    let mut paused = 0;
    let mut before = 0;
    while bench.step() {
        readers.iter_mut().for_each(Reader::read_all);
        paused += usize::from(readers[2].ids.len() == before && readers[2].end.is_none());
        before = readers[2].ids.len();
    }
    for (reader, request) in readers.iter().zip(&requests) {
        assert_eq!(reader.ids, request.expected());
    }
    assert!(paused > 10, "{paused}");
    bench.check();
}

#[test]
fn a_prompt_that_does_not_fit_now_keeps_its_place_before_smaller_ones() {
    let mut bench = Bench::new(8);
    let mut first = bench.join(&request(1, 100, 20));
    bench.step();
    let mut large = bench.join(&request(2, 7 * 32, 1));
    let mut small = bench.join(&request(3, 10, 1));
    while first.end.is_none() {
        bench.step();
        first.read_all();
        small.read_all();
        assert!(small.metrics.is_none() || first.end.is_some());
    }
    while large.end.is_none() {
        assert!(bench.step());
        large.read_all();
        small.read_all();
        assert!(small.metrics.is_none() || large.metrics.is_some(), "a small one has overtaken");
    }
    bench.finish(&mut [&mut small]);
    assert!(small.end.is_some());
    bench.check();
}

#[test]
fn a_run_whose_reader_does_not_read_gives_its_blocks_to_others() {
    let mut bench = Bench::new(8);
    let requests = [request(1, 6 * 32, 40), request(2, 6 * 32, 20)];
    let [mut slow, mut other] = requests.each_ref().map(|request| bench.join(request));
    bench.finish(&mut [&mut other]);
    assert_eq!(other.ids, requests[1].expected());
    bench.finish(&mut [&mut slow]);
    assert_eq!(slow.ids, requests[0].expected());
    bench.check();
}

#[test]
fn a_prompt_that_comes_again_computes_at_most_one_block() {
    let mut bench = Bench::new(600);
    let long = request(1, 8_000, 3);
    let first = bench.answer(&long);
    assert!(bench.rows() > 8_000);
    let again = bench.answer(&long);
    // The last block of the prompt, and two tokens of the answer.
    assert_eq!(bench.rows(), 32 + 2);
    assert_eq!((&first.ids, &again.ids), (&long.expected(), &long.expected()));
    // The next turn of a conversation: the answer is cached too.
    let mut turn = long.prompt.clone();
    turn.extend(&again.ids);
    turn.extend(prompt(2, 20));
    let turn = Request::new(turn, 3);
    assert_eq!(bench.answer(&turn).ids, turn.expected());
    assert_eq!(bench.rows(), 23 + 2);
    bench.check();
}

#[test]
fn a_prompt_shares_the_blocks_up_to_the_first_difference_and_never_writes_to_them() {
    let mut bench = Bench::new(64);
    let base = request(1, 200, 5);
    bench.answer(&base);
    for at in [0, 31, 32, 100, 199] {
        let mut other = base.clone();
        other.prompt[at] ^= 1;
        bench.rows();
        assert_eq!(bench.answer(&other).ids, other.expected(), "{at}");
        assert_eq!(bench.rows(), 200 - at / 32 * 32 + 4, "{at}");
    }
    bench.rows();
    assert_eq!(bench.answer(&base).ids, base.expected());
    assert_eq!(bench.rows(), 200 - 192 + 4);
    bench.check();
}

#[test]
fn equal_prompts_that_arrive_at_the_same_time_are_computed_once() {
    let mut bench = Bench::new(64);
    let same = request(1, 20 * 32 + 5, 4);
    let mut readers = [(); 8].map(|()| bench.join(&same));
    bench.finish(&mut readers.iter_mut().collect::<Vec<_>>());
    assert!(readers.iter().all(|reader| reader.ids == same.expected()));
    assert_eq!(bench.rows(), 20 * 32 + 8 * (5 + 3));
    bench.check();
}

#[test]
fn tenants_do_not_share_prefixes() {
    let mut bench = Bench::new(64);
    let own = request(1, 100, 1).of("a");
    bench.answer(&own);
    bench.rows();
    for (other, rows) in [(own.clone().of("b"), 100), (request(1, 100, 1), 100), (own, 4)] {
        bench.answer(&other);
        assert_eq!(bench.rows(), rows);
    }
    bench.check();
}

#[test]
fn a_part_that_fails_ends_its_own_run_alone() {
    for (fault, said) in [
        (Fault::Error, "the engine failed: out of order"),
        (Fault::Panic, "the engine panicked: the strings are tangled"),
        (Fault::NotANumber, "the model gave no number as the logit of token 0"),
        (Fault::NoLogits, "the model gave logits of the wrong number"),
    ] {
        let mut bench = Bench::new(64);
        let requests = [1, 2, 3].map(|seed| request(seed, 50, 20));
        bench.script().faults.insert(requests[1].prompt[0], (60, fault));
        let mut readers = requests.each_ref().map(|request| bench.join(request));
        bench.finish(&mut readers.iter_mut().collect::<Vec<_>>());
        let error = readers[1].error();
        assert_eq!(error.kind(), ErrorKind::WorkerFault);
        assert!(error.message().contains(said), "{error}");
        assert_eq!(readers[1].ids, requests[1].expected()[..11]);
        for at in [0, 2] {
            assert_eq!(readers[at].ids, requests[at].expected(), "{fault:?}");
        }
        // Its blocks are free, and nothing of it is used again.
        bench.script().faults.clear();
        assert_eq!(bench.answer(&requests[1]).ids, requests[1].expected());
        assert_eq!((bench.batch.cache.available(), bench.slots.busy()), (64, 0));
        bench.check();
    }
}

#[test]
fn the_blocks_of_a_prompt_with_wrong_logits_are_not_used_again() {
    let mut bench = Bench::new(64);
    // The prompt is computed in several steps, and only the last one has logits.
    let run = request(1, 100, 5);
    bench.script().faults.insert(run.prompt[0], (0, Fault::NotANumber));
    assert_eq!(bench.answer(&run).error().kind(), ErrorKind::WorkerFault);
    assert!(bench.script().steps.len() > 1);
    bench.script().faults.clear();
    assert_eq!(bench.answer(&run).ids, run.expected());
    bench.check();
}

#[test]
fn a_continued_run_is_one_prompt_and_gives_the_rest_of_the_tokens() {
    let whole = request(1, 40, 30);
    for cut in [1, 15, 29] {
        let mut bench = Bench::new(64);
        let done = whole.expected()[..cut].to_vec();
        let rest = bench.answer(&Request { done, ..whole.clone() });
        assert_eq!(rest.ids, whole.expected()[cut..]);
        assert_eq!(rest.metrics.unwrap().prompt_tokens as usize, 40 + cut);
        assert_eq!(bench.rows(), 40 + 29);
        bench.check();
    }
}

#[test]
fn a_run_without_outputs_has_a_heartbeat_after_every_long_step() {
    let mut bench = Bench::new(64);
    bench.script().row = Duration::from_millis(100);
    let mut reader = bench.join(&request(1, 200, 1));
    bench.finish(&mut [&mut reader]);
    let steps = bench.script().steps.len();
    assert_eq!(reader.heartbeats, steps - 1, "all but the last one, which has a token");
    assert!(steps > 5);
    assert_eq!(reader.metrics.unwrap().prefill, Duration::from_secs(20));
}

#[test]
fn prefix_keys_are_warm_as_long_as_the_blocks_of_their_prompt_are_cached() {
    let mut bench = Bench::new(12);
    let with = |keys: &[u64], tail: u32| {
        let mut request = request(1, 64, 1);
        request.prompt.extend(prompt(tail, 64));
        request.origin.keys = keys.into();
        request
    };
    bench.answer(&with(&[1, 2], 5));
    assert_eq!(bench.batch.warm(), Some(vec![1, 2]));
    assert_eq!(bench.batch.warm(), None, "nothing has changed");
    // The first key is known to need only what both prompts have in common.
    bench.answer(&with(&[1, 3], 6));
    assert_eq!(bench.batch.warm(), Some(vec![1, 2, 3]));
    // Seven blocks: 6 are free, and the last one of the first prompt is evicted.
    bench.answer(&request(7, 32 * 6 + 10, 1));
    assert_eq!(bench.batch.warm(), Some(vec![1, 3]));
    bench.answer(&request(8, 32 * 11 + 10, 1));
    assert_eq!(bench.batch.warm(), Some(vec![]));
    bench.check();
}

/// One event of a random history.
#[derive(Clone, Debug)]
enum Event {
    Join { family: u32, shared: usize, own: u32, length: usize, most: u32 },
    Step,
    Read(usize, usize),
    Drop(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..2_u32, 0..100_usize, 0..1_000_u32, 1..40_usize, 1..50_u32).prop_map(
            |(family, shared, own, length, most)| Event::Join { family, shared, own, length, most }
        ),
        8 => Just(Event::Step),
        4 => (0..8_usize, 1..20_usize).prop_map(|(run, outputs)| Event::Read(run, outputs)),
        1 => (0..8_usize).prop_map(Event::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_order_of_arrivals_reads_and_drops_gives_each_run_the_same_tokens(
        events in proptest::collection::vec(event(), 1..60),
        millis in 0..20_u64,
    ) {
        // One context is 190 tokens, so every run fits alone.
        let mut bench = Bench::new(6);
        bench.script().row = Duration::from_millis(millis);
        let mut runs: Vec<(Request, Reader)> = Vec::new();
        for event in events {
            match event {
                Event::Join { family, shared, own, length, most } => {
                    let mut tokens = prompt(family, shared);
                    tokens.extend(prompt(own, length));
                    let request = Request::new(tokens, most);
                    let reader = bench.join(&request);
                    runs.push((request, reader));
                }
                Event::Step => {
                    bench.step();
                }
                Event::Read(run, outputs) => {
                    if let Some((_, reader)) = runs.get_mut(run) {
                        reader.read(outputs);
                    }
                }
                Event::Drop(run) if run < runs.len() => drop(runs.remove(run)),
                Event::Drop(_) => {}
            }
        }
        loop {
            let goes_on = bench.step();
            let before: usize = runs.iter().map(|(_, reader)| reader.ids.len()).sum();
            runs.iter_mut().for_each(|(_, reader)| reader.read_all());
            let after: usize = runs.iter().map(|(_, reader)| reader.ids.len()).sum();
            if !goes_on && after == before {
                break;
            }
        }
        for (request, reader) in &runs {
            prop_assert_eq!(&reader.ids, &request.expected());
            prop_assert!(matches!(reader.end, Some(Ok(()))), "{:?}", reader.end);
        }
        prop_assert_eq!(bench.slots.busy(), 0);
        prop_assert_eq!(bench.batch.cache.available(), 6);
        bench.check();
    }
}
