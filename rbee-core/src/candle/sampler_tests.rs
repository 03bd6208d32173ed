use proptest::prelude::*;

use super::*;

fn sampling(change: impl FnOnce(&mut Sampling)) -> Sampling {
    let mut sampling = Sampling::default();
    change(&mut sampling);
    sampling
}

/// The token at this position.
fn token(sampler: &mut Sampler, logits: &[f32], position: u64) -> Result<u32, SamplerFault> {
    sampler.choose(&mut logits.to_vec(), position).map(|choice| choice.token)
}

/// How often each token is drawn at `draws` positions.
fn counts(sampling: &Sampling, logits: &[f32], draws: u64) -> Vec<u64> {
    counts_of(&mut Sampler::new(sampling, 7, &[]), logits, draws)
}

fn counts_of(sampler: &mut Sampler, logits: &[f32], draws: u64) -> Vec<u64> {
    let mut counts = vec![0; logits.len()];
    for position in 0..draws {
        counts[token(sampler, logits, position).unwrap() as usize] += 1;
    }
    counts
}

fn drawn(sampling: &Sampling, logits: &[f32]) -> Vec<usize> {
    let counts = counts(sampling, logits, 4_000);
    (0..logits.len()).filter(|token| counts[*token] > 0).collect()
}

/// The logits of these probabilities.
fn logits(shares: &[f32]) -> Vec<f32> {
    shares.iter().map(|share| share.ln()).collect()
}

#[test]
fn at_temperature_0_the_first_of_the_likeliest_is_taken() {
    let cold = sampling(|s| s.temperature = 0.0);
    assert_eq!(drawn(&cold, &[0.0, 3.0, 3.0, 1.0]), [1]);
    // A temperature close to 0 causes no overflow.
    let cool = sampling(|s| s.temperature = 1e-40);
    assert_eq!(drawn(&cool, &[0.0, 3.0, -1e38, 1.0]), [1]);
}

#[test]
fn tokens_are_drawn_as_often_as_their_probability_says() {
    let shares = [0.5, 0.25, 0.15, 0.1];
    for change in [
        |_: &mut Sampling| {},
        |s: &mut Sampling| s.top_k = 1_000,
        |s: &mut Sampling| s.top_p = 0.999_999,
    ] {
        let draws = 40_000;
        let counts = counts(&sampling(change), &logits(&shares), draws);
        for (count, share) in counts.iter().zip(shares) {
            let (found, expected) = (*count as f64 / draws as f64, f64::from(share));
            // Five standard deviations of this share in this many draws.
            let tolerance = 5.0 * (expected * (1.0 - expected) / draws as f64).sqrt();
            assert!((found - expected).abs() < tolerance, "{found} for {expected}");
        }
    }
}

#[test]
fn each_filter_keeps_what_it_says() {
    let logits = logits(&[0.1, 0.4, 0.05, 0.3, 0.15]);
    assert_eq!(drawn(&sampling(|_| {}), &logits), [0, 1, 2, 3, 4]);
    assert_eq!(drawn(&sampling(|s| s.top_k = 2), &logits), [1, 3]);
    assert_eq!(drawn(&sampling(|s| s.top_k = 1), &logits), [1]);
    assert_eq!(drawn(&sampling(|s| s.top_p = 0.4), &logits), [1]);
    assert_eq!(drawn(&sampling(|s| s.top_p = 0.5), &logits), [1, 3]);
    assert_eq!(drawn(&sampling(|s| s.top_p = 0.8), &logits), [1, 3, 4]);
    assert_eq!(drawn(&sampling(|s| s.min_p = 0.3), &logits), [1, 3, 4]);
    assert_eq!(drawn(&sampling(|s| s.min_p = 1.0), &logits), [1]);
}

#[test]
fn the_filters_come_in_their_order() {
    let shares = logits(&[0.4, 0.3, 0.2, 0.1]);
    // Of the two that top-k leaves, the first has 0.57: top-p applies to the rest, not to all tokens.
    let both = sampling(|s| (s.top_k, s.top_p) = (2, 0.5));
    assert_eq!(drawn(&both, &shares), [0]);
    // Temperature comes before top-p: at 2 the first two have 0.58, at 1 they have 0.7.
    let warm = sampling(|s| (s.temperature, s.top_p) = (2.0, 0.65));
    assert_eq!(drawn(&warm, &shares), [0, 1, 2]);
    // The penalty is applied before temperature 0 chooses.
    let penalty = sampling(|s| (s.temperature, s.repetition_penalty) = (0.0, 2.0));
    let mut sampler = Sampler::new(&penalty, 1, &[]);
    sampler.note_prompt(&[0]);
    sampler.note_answer(&[2]);
    assert_eq!(token(&mut sampler, &[3.0, 2.0, -1.0], 0), Ok(1));
    assert_eq!(token(&mut sampler, &[3.0, -2.0, -1.0], 0), Ok(0));
    assert_eq!(token(&mut sampler, &[-3.0, -1.5, -1.0], 0), Ok(1));
}

#[test]
fn equal_logits_are_filtered_by_the_lower_token() {
    let flat = [1.0; 600];
    assert_eq!(drawn(&sampling(|s| s.top_k = 3), &flat), [0, 1, 2]);
    let half = drawn(&sampling(|s| s.top_p = 0.5), &flat);
    assert!(half.iter().all(|token| *token < 300) && half.len() > 250);
}

#[test]
fn what_is_no_number_is_a_fault_with_the_token_named() {
    let mut sampler = Sampler::new(&Sampling::default(), 1, &[]);
    for (bad, at) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().zip([1, 17, 37]) {
        // The end of the list is not a whole vector.
        let mut logits = [0.0; 38];
        logits[at] = bad;
        assert_eq!(token(&mut sampler, &logits, 0), Err(SamplerFault::NotFinite { token: at }));
    }
    let error = Error::from(SamplerFault::NotFinite { token: 7 });
    assert_eq!(error.kind(), ErrorKind::WorkerFault);
    assert!(error.message().contains("token 7"), "{error}");
}

/// The values are those of `l - log(sum(exp(l)))` in numpy's 64-bit floats.
#[test]
fn log_probabilities_are_those_of_the_models_own_logits() {
    let logits = [1.5, -0.25, 3.0, 0.0, 3.0, -7.5, 2.75];
    let logs = [
        -2.628_339_3,
        -4.378_339_3,
        -1.128_339_3,
        -4.128_339_3,
        -1.128_339_3,
        -11.628_339,
        -1.378_339_3,
    ];
    for change in [
        |_: &mut Sampling| {},
        |s: &mut Sampling| (s.temperature, s.top_k) = (0.3, 2),
        |s: &mut Sampling| (s.presence_penalty, s.repetition_penalty) = (1.5, 1.3),
        // Only token 5 is allowed.
        |s: &mut Sampling| s.logit_bias = [0, 1, 2, 3, 4, 6].map(|token| (token, -100.0)).into(),
    ] {
        for top in [0, 1, 4, 20] {
            let mut sampling = sampling(change);
            sampling.logprobs = Some(top);
            let mut sampler = Sampler::new(&sampling, 7, &[]);
            sampler.note_prompt(&[0, 2]);
            sampler.note_answer(&[2, 2]);
            let Choice { token, logprobs } = sampler.choose(&mut logits.clone(), 3).unwrap();
            let found = logprobs.unwrap();
            assert_eq!(found.chosen, logs[token as usize]);
            // Of the two that are equally likely, the lower one is the first.
            let order = [2, 4, 6, 0, 3, 1, 5];
            let expected = order.map(|token| (token, logs[token as usize]));
            assert_eq!(found.top, expected[..expected.len().min(top.into())], "top {top}");
            assert!(!sampling.logit_bias.contains_key(&token));
        }
    }
    let unlikely = sampling(|s| (s.logprobs, s.temperature) = (Some(2), 0.0));
    let choice = Sampler::new(&unlikely, 1, &[]).choose(&mut [f32::MAX, f32::MIN], 0).unwrap();
    assert_eq!(choice.logprobs.unwrap().top, [(0, 0.0), (1, f32::MIN)], "never infinite");
}

#[test]
fn what_is_not_requested_is_not_computed() {
    let choice = Sampler::new(&Sampling::default(), 1, &[]).choose(&mut [0.0, 1.0], 0).unwrap();
    assert_eq!(choice.logprobs, None);
    let mut sampler = Sampler::new(&Sampling::default(), 1, &[1]);
    sampler.note_prompt(&[0, 1]);
    sampler.note_answer(&[0, 1]);
    assert!(!sampler.adjusts(), "{sampler:?}");
}

/// The shares are those of the same steps in numpy: bias, repetition, frequency and presence penalty, softmax.
#[test]
fn bias_and_penalties_change_the_shares_as_they_say_and_in_their_order() {
    let all = sampling(|s| {
        s.logit_bias = [(1, 1.5), (3, -0.5)].into();
        (s.repetition_penalty, s.frequency_penalty, s.presence_penalty) = (1.25, 0.5, 0.25);
    });
    let mut sampler = Sampler::new(&all, 7, &[]);
    sampler.note_prompt(&[0]);
    sampler.note_answer(&[1, 3, 1]);
    let mut logits = [2.0, -1.0, 0.5, 1.0, 0.25];
    sampler.adjust(&mut logits).unwrap();
    assert_eq!(logits, [1.6, -0.85, 0.5, -0.35, 0.25]);

    let draws = 40_000;
    let found = counts_of(&mut sampler, &[2.0, -1.0, 0.5, 1.0, 0.25], draws);
    let shares = [0.549_245_6, 0.047_396_4, 0.182_828, 0.078_143_4, 0.142_386_6];
    for (count, share) in found.iter().zip(shares) {
        let tolerance = 5.0 * f64::sqrt(share * (1.0 - share) / draws as f64);
        assert!((*count as f64 / draws as f64 - share).abs() < tolerance, "{found:?}");
    }
}

#[test]
fn presence_and_frequency_count_the_answer_alone_and_repetition_the_prompt_too() {
    let logits = |change: fn(&mut Sampling)| {
        let mut sampler = Sampler::new(&sampling(change), 1, &[]);
        sampler.note_prompt(&[0, 1]);
        sampler.note_answer(&[1, 2, 2]);
        let mut logits = [4.0; 4];
        sampler.adjust(&mut logits).unwrap();
        logits
    };
    assert_eq!(logits(|s| s.presence_penalty = 1.5), [4.0, 2.5, 2.5, 4.0]);
    assert_eq!(logits(|s| s.frequency_penalty = 1.5), [4.0, 2.5, 1.0, 4.0]);
    assert_eq!(logits(|s| s.frequency_penalty = -0.5), [4.0, 4.5, 5.0, 4.0]);
    assert_eq!(logits(|s| s.repetition_penalty = 2.0), [2.0, 2.0, 2.0, 4.0]);
}

#[test]
fn a_penalty_never_makes_a_logit_infinite() {
    for (penalty, logit) in [(0.5, f32::MAX), (10.0, f32::MIN)] {
        let mut sampler = Sampler::new(&sampling(|s| s.repetition_penalty = penalty), 1, &[]);
        sampler.note_prompt(&[0]);
        let mut logits = [logit, 1.0];
        sampler.adjust(&mut logits).unwrap();
        assert_eq!(logits, [logit, 1.0]);
    }
}

#[test]
fn end_tokens_wait_for_the_minimum_length_and_no_longer() {
    let waits = sampling(|s| (s.min_tokens, s.temperature) = (3, 0.0));
    let logits = [1.0, 9.0, 2.0, 8.0];
    let mut sampler = Sampler::new(&waits, 1, &[1, 3, 99]);
    for position in 0..3 {
        assert_eq!(token(&mut sampler, &logits, position), Ok(2));
        sampler.note_answer(&[2]);
    }
    assert_eq!(token(&mut sampler, &logits, 3), Ok(1));
    // A continued answer has the length of its earlier attempts.
    let mut sampler = Sampler::new(&waits, 1, &[1, 3]);
    sampler.note_prompt(&[0; 8]);
    sampler.note_answer(&[2, 2]);
    assert_eq!(token(&mut sampler, &logits, 2), Ok(2));
    sampler.note_answer(&[2]);
    assert_eq!(token(&mut sampler, &logits, 3), Ok(1));
    assert!(sampler.masks.is_empty(), "it costs nothing any more");
}

/// Allows one token at each position: the one after the last.
#[derive(Debug)]
struct Counting(u32);

impl TokenMask for Counting {
    fn apply(&mut self, logits: &mut [f32]) -> Result<()> {
        for (token, logit) in logits.iter_mut().enumerate() {
            if token as u32 != self.0 {
                *logit = FORBIDDEN;
            }
        }
        Ok(())
    }

    fn advance(&mut self, token: u32) {
        assert_eq!(token, self.0, "it sees each token once");
        self.0 += 1;
    }

    fn is_over(&self) -> bool {
        self.0 == 6
    }
}

#[test]
fn a_mask_decides_before_every_other_step_and_sees_every_token() {
    let favored = sampling(|s| {
        s.logit_bias = [(7, 100.0)].into();
        (s.top_k, s.top_p, s.min_p, s.logprobs) = (3, 0.9, 0.1, Some(1));
    });
    let mut sampler = Sampler::new(&favored, 1, &[]);
    sampler.add_mask(Box::new(Counting(0)));
    let logits = [0.0, 1.0, -30.0, 2.0, 3.0, 1.0, 0.5, 9.0];
    for position in 0..6 {
        let choice = sampler.choose(&mut logits.clone(), position).unwrap();
        assert_eq!(u64::from(choice.token), position);
        assert_eq!(choice.logprobs.unwrap().top[0].0, 7, "the model's own opinion");
        sampler.note_answer(&[choice.token]);
    }
    assert_eq!(token(&mut sampler, &logits, 6), Ok(7), "the mask is over");
}

#[test]
fn a_request_that_forbids_everything_is_refused() {
    let nothing = sampling(|s| {
        s.logit_bias = [(0, -100.0), (1, -100.0)].into();
        s.min_tokens = 1;
    });
    for change in [|_: &mut Sampling| {}, |s: &mut Sampling| s.temperature = 0.0] {
        let mut nothing = nothing.clone();
        change(&mut nothing);
        let mut sampler = Sampler::new(&nothing, 1, &[2]);
        assert_eq!(token(&mut sampler, &[1.0, 2.0, 3.0], 0), Err(SamplerFault::AllForbidden));
    }
    let error = Error::from(SamplerFault::AllForbidden);
    assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("logit_bias")));
}

#[test]
fn a_biased_token_must_be_one_of_the_model() {
    let biased = sampling(|s| s.logit_bias = [(3, 1.0), (9, 1.0)].into());
    assert!(check_logit_bias(&biased, 10).is_ok());
    let error = check_logit_bias(&biased, 9).unwrap_err();
    assert_eq!(error.message(), "logit_bias has token 9; allowed for this model are those below 9");
    assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("logit_bias")));
}

#[test]
fn the_random_numbers_are_those_of_the_published_generator() {
    // The sequence of SplitMix64 from state 1234567, as its authors' reference program prints it.
    let state = 1_234_567_u64;
    let step = |n: u64| mix(state.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    assert_eq!(
        [step(1), step(2), step(3)],
        [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
    );
}

#[test]
fn neighboring_seeds_and_positions_have_nothing_in_common() {
    let mean = |numbers: Vec<f64>| numbers.iter().sum::<f64>() / numbers.len() as f64;
    let key = |seed| Sampler::new(&Sampling::default(), seed, &[]).key;
    let by_seed = mean((0..10_000).map(|seed| uniform(key(seed), 0)).collect());
    let by_position = mean((0..10_000).map(|position| uniform(key(1), position)).collect());
    assert!((by_seed - 0.5).abs() < 0.02 && (by_position - 0.5).abs() < 0.02);
    let same = (0..1_000).filter(|n| (uniform(key(1), *n) - uniform(key(2), *n)).abs() < 1e-3);
    assert!(same.count() < 20);
}

proptest! {
    #[test]
    fn the_choice_depends_on_logits_seed_and_position_alone(
        values in proptest::collection::vec(-30.0_f32..30.0, 1..400),
        seed: u64, position: u64,
        temperature in 0.0_f32..2.0, top_p in 0.01_f32..1.0, top_k in 0_u32..20, min_p in 0.0_f32..1.0,
    ) {
        let sampling = Sampling { temperature, top_p, top_k, min_p, ..Sampling::default() };
        let choose = || token(&mut Sampler::new(&sampling, seed, &[]), &values, position);
        let token = choose().unwrap();
        prop_assert_eq!(choose().unwrap(), token);
        // Each drawn token passes each filter by itself.
        let likelier = values.iter().filter(|value| **value > values[token as usize]).count();
        prop_assert!(top_k == 0 || likelier < top_k as usize);
    }

    #[test]
    fn a_forbidden_token_is_never_chosen(
        values in proptest::collection::vec(-300.0_f32..300.0, 2..200),
        forbidden in proptest::collection::vec(any::<prop::sample::Index>(), 1..8),
        seed: u64, position: u64,
        temperature in 0.0_f32..2.0, top_p in 0.01_f32..=1.0, top_k in 0_u32..20, penalty in 0.5_f32..2.0,
    ) {
        let forbidden: Vec<u32> =
            forbidden.iter().map(|index| index.index(values.len()) as u32).collect();
        let logit_bias = forbidden.iter().map(|token| (*token, -100.0)).collect();
        let sampling = Sampling {
            temperature, top_p, top_k, logit_bias, repetition_penalty: penalty, frequency_penalty: -2.0,
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(&sampling, seed, &[]);
        // No penalty brings it back.
        sampler.note_answer(&forbidden);
        match token(&mut sampler, &values, position) {
            Ok(token) => prop_assert!(!forbidden.contains(&token)),
            Err(fault) => {
                prop_assert_eq!(fault, SamplerFault::AllForbidden);
                prop_assert!((0..values.len() as u32).all(|token| forbidden.contains(&token)));
            }
        }
    }

    #[test]
    fn an_answer_in_two_parts_is_penalized_as_in_one(
        answer in proptest::collection::vec(0_u32..20, 0..40),
        prompt in proptest::collection::vec(0_u32..20, 0..10),
        cut: prop::sample::Index, frequency in -2.0_f32..2.0, presence in -2.0_f32..2.0,
    ) {
        let sampling = Sampling {
            frequency_penalty: frequency, presence_penalty: presence, repetition_penalty: 1.1, min_tokens: 20,
            ..Sampling::default()
        };
        let adjusted = |parts: &[&[u32]]| {
            let mut sampler = Sampler::new(&sampling, 1, &[3, 5]);
            sampler.note_prompt(&prompt);
            parts.iter().for_each(|part| sampler.note_answer(part));
            let mut logits: Vec<f32> = (0..20_u8).map(f32::from).collect();
            sampler.adjust(&mut logits).unwrap();
            logits
        };
        let (before, after) = answer.split_at(cut.index(answer.len() + 1));
        prop_assert_eq!(adjusted(&[&answer]), adjusted(&[before, after]));
        // The order of the tokens is of no importance.
        let reversed: Vec<u32> = answer.iter().rev().copied().collect();
        prop_assert_eq!(adjusted(&[&answer]), adjusted(&[&reversed]));
    }

    #[test]
    fn the_largest_logits_are_those_of_a_sorted_list(
        values in proptest::collection::vec((-4_i8..4).prop_map(f32::from), 1..60), count in 0_usize..21,
    ) {
        let mut sorted: Vec<(u32, f32)> = (0..).zip(values.iter().copied()).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        sorted.truncate(count);
        prop_assert_eq!(largest(&values, count), sorted);
        let top = finite_max(&values).unwrap();
        prop_assert!(values.contains(&top) && values.iter().all(|value| *value <= top));
    }
}
