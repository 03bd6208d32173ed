//! Which run waits, which one loses its blocks, and which prefix keys are warm.

use std::time::Duration;

use super::{
    super::{
        outlet::OUTPUTS,
        scripted::{Bench, Reader, Request, prompt},
    },
    *,
};

fn request(seed: u32, length: usize, most: u32) -> Request {
    Request::new(prompt(seed, length), most)
}

#[test]
fn a_run_without_outputs_has_a_heartbeat_every_half_second_of_short_steps() {
    let mut bench = Bench::new(100);
    bench.script().row = Duration::from_millis(2);
    let mut stream = bench.join(&request(1, 20, 200));
    bench.step();
    let mut long = bench.join(&request(2, 2_000, 1));
    bench.finish(&mut [&mut stream, &mut long]);
    // 40 steps of about 100 ms each.
    assert!((6..=8).contains(&long.heartbeats), "{}", long.heartbeats);
}

#[test]
fn an_answer_that_nobody_has_read_yet_keeps_its_slot_and_no_blocks() {
    let mut bench = Bench::new(8);
    // The metrics and 7 tokens are in the channel, and the last token waits.
    let mut slow = bench.join(&request(1, 100, OUTPUTS as u32));
    while bench.step() {}
    assert_eq!((bench.batch.cache.available(), bench.slots.busy()), (8, 1));
    bench.finish(&mut [&mut slow]);
    assert_eq!(slow.ids.len(), OUTPUTS);
    assert!(slow.end.is_some());
}

#[test]
fn blocks_are_taken_from_the_newest_whose_reader_does_not_read_then_from_the_newest_that_came_later()
 {
    let mut bench = Bench::new(64);
    let mut readers = [1, 2, 3, 4].map(|seed| bench.join(&request(seed, 10, 60)));
    let begun = |bench: &Bench| -> Vec<bool> {
        bench.batch.sequences.iter().map(Sequence::has_begun).collect()
    };
    // The first two do not read.
    while bench.batch.sequences[0].is_ready() {
        bench.step();
        readers[2..].iter_mut().for_each(Reader::read_all);
    }
    let mut picks = vec![Pick { index: 1, rows: 1 }, Pick { index: 3, rows: 1 }];
    assert!(bench.batch.preempt_for(2, &mut picks));
    assert_eq!(begun(&bench), [true, false, true, true]);
    assert_eq!(picks.iter().map(|pick| pick.index).collect::<Vec<_>>(), [3]);
    assert!(bench.batch.preempt_for(3, &mut picks));
    assert_eq!(begun(&bench), [false, false, true, true]);
    assert!(!bench.batch.preempt_for(3, &mut picks), "the other one is older");
    readers.iter_mut().for_each(Reader::read_all);
    bench.step();
    readers.iter_mut().for_each(Reader::read_all);
    assert_eq!(begun(&bench), [true; 4]);
    assert!(bench.batch.preempt_for(1, &mut picks));
    assert_eq!(begun(&bench), [true, true, true, false]);
    assert!(bench.batch.preempt_for(1, &mut picks));
    assert_eq!(begun(&bench), [true, true, false, false]);
    assert!(!bench.batch.preempt_for(1, &mut picks), "the other one is older");
    bench.finish(&mut readers.iter_mut().collect::<Vec<_>>());
    assert!(readers.iter().all(|reader| reader.ids.len() == 60));
    bench.check();
}

#[test]
fn a_run_does_not_begin_if_the_next_block_of_an_older_one_would_be_taken_from_it() {
    let mut bench = Bench::new(8);
    bench.script().row = Duration::from_millis(10);
    let older = request(1, 20, 30);
    let mut first = bench.join(&older);
    bench.step();
    let newer = request(2, 7 * 32, 1);
    let mut second = bench.join(&newer);
    bench.finish(&mut [&mut first, &mut second]);
    assert_eq!((&first.ids, &second.ids), (&older.expected(), &newer.expected()));
    assert_eq!(bench.rows(), 20 + 29 + 7 * 32, "nothing is computed twice");
    bench.check();
}

#[test]
fn different_prompts_do_not_wait_for_each_other() {
    let mut bench = Bench::new(64);
    let both = |bench: &mut Bench, requests: [Request; 2]| {
        bench.rows();
        let mut readers = requests.each_ref().map(|request| bench.join(request));
        bench.step();
        let first = bench.script().steps[0].clone();
        assert_eq!(first.len(), 2, "{first:?}");
        bench.finish(&mut readers.iter_mut().collect::<Vec<_>>());
        for (reader, request) in readers.iter().zip(&requests) {
            assert_eq!(reader.ids, request.expected());
        }
    };
    both(&mut bench, [request(1, 100, 1), request(2, 100, 1)]);
    // The same text after different blocks, which are cached.
    let [first, second] = [1, 2].map(|seed| {
        let mut request = request(seed, 32, 1);
        request.prompt.extend(prompt(3, 100));
        request
    });
    both(&mut bench, [first, second]);
    // The same text of different tenants: the time would tell one what the other computes.
    both(&mut bench, [request(4, 100, 1).of("a"), request(4, 100, 1).of("b")]);
    bench.check();
}

#[test]
fn a_prefix_key_is_warm_without_the_rest_of_the_prompts_that_have_it() {
    let mut bench = Bench::new(12);
    let with = |keys: &[u64], tail: u32| {
        let mut request = request(1, 64, 1);
        request.prompt.extend(prompt(tail, 64));
        request.origin.keys = keys.into();
        request
    };
    bench.answer(&with(&[9, 2], 5));
    bench.answer(&with(&[9, 3], 6));
    bench.answer(&with(&[], 5));
    assert_eq!(bench.batch.warm(), Some(vec![2, 3, 9]));
    // Seven blocks: 6 are free, and the last one of the second prompt is evicted.
    bench.answer(&request(7, 32 * 6 + 10, 1));
    assert_eq!(bench.batch.warm(), Some(vec![2, 9]));
    bench.check();
}

#[test]
fn prefix_keys_get_cold_in_the_middle_of_a_long_answer() {
    let mut bench = Bench::new(6);
    let mut with_key = request(1, 64, 1);
    with_key.origin.keys = [1].into();
    bench.answer(&with_key);
    assert_eq!(bench.batch.warm(), Some(vec![1]));
    let mut long = bench.join(&request(2, 10, 150));
    bench.finish(&mut [&mut long]);
    assert_eq!(bench.batch.warm(), Some(vec![]));
    bench.check();
}

#[test]
fn a_continued_run_needs_only_the_blocks_of_its_prompt_for_its_prefix_keys() {
    let mut bench = Bench::new(6);
    let whole = request(1, 64, 50);
    let mut rest = Request { done: whole.expected()[..40].to_vec(), ..whole };
    rest.origin.keys = [1].into();
    bench.answer(&rest);
    assert_eq!(bench.batch.warm(), Some(vec![1]));
    // Four blocks: 3 are free, and the block of the answer is evicted.
    bench.answer(&request(2, 100, 1));
    assert_eq!(bench.batch.warm(), Some(vec![1]));
    bench.check();
}
