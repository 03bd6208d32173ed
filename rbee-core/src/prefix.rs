//! Keys of prompt prefixes. With them a policy can find a worker that has already computed the beginning of a prompt.
//!
//! The queen has no tokenizer, so the keys are computed from the canonical text: one key for the prompt up to the end
//! of each message, or of each block of a bare text. Two prompts with the same beginning share their first keys.
//! Workers report the keys of the prefixes that they have in memory.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use crate::task::{Prompt, Task};

/// Bytes of bare text per key.
const BLOCK_BYTES: usize = 1024;
/// Keys kept per prompt; the later ones of a longer prompt are left out.
const MAX_KEYS: usize = 64;

/// FNV-1a, 64 bit: small, and the same on every machine and in every version.
pub(crate) fn hash(state: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(state, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

pub(crate) const START: u64 = 0xcbf2_9ce4_8422_2325;

/// The keys of every prefix of the prompt, shortest first.
pub(crate) fn prefix_keys(task: &Task) -> Arc<[u64]> {
    let mut state = START;
    let mut key = |parts: &[&[u8]]| {
        for part in parts {
            state = hash(state, &(part.len() as u64).to_le_bytes());
            state = hash(state, part);
        }
        state
    };
    match task {
        Task::Generate { prompt: Prompt::Chat(chat), .. } => {
            // Templates write the tools before the messages, or into the first of them.
            for tool in &chat.tools {
                let [description, parameters] =
                    [&tool.description, &tool.parameters].map(|text| text.as_deref());
                key(&[
                    tool.name.as_bytes(),
                    description.unwrap_or_default().as_bytes(),
                    parameters.unwrap_or_default().as_bytes(),
                ]);
            }
            let messages = chat.messages.iter().take(MAX_KEYS);
            messages
                .map(|message| {
                    let mut parts = vec![message.role.as_str().as_bytes()];
                    parts.extend(message.texts().map(str::as_bytes));
                    key(&parts)
                })
                .collect()
        }
        Task::Generate { prompt: Prompt::Text(text), .. } => {
            text.as_bytes().chunks(BLOCK_BYTES).take(MAX_KEYS).map(|block| key(&[block])).collect()
        }
        // Its tokens may differ from those of the same bare text.
        Task::Generate { prompt: Prompt::Raw(text), .. } => {
            let blocks = text.as_bytes().chunks(BLOCK_BYTES).take(MAX_KEYS);
            blocks.map(|block| key(&[b"raw", block])).collect()
        }
        // Some models read the suffix first.
        Task::Generate { prompt: Prompt::Infill { prefix, suffix }, .. } => {
            [key(&[b"infill", prefix.as_bytes(), suffix.as_bytes()])].into()
        }
        Task::Embed { .. } | Task::Rerank { .. } => Arc::default(),
    }
}

/// The same keys in a form that may be kept when the text must not be: equal keys stay equal, and without the secret
/// nobody can find out the text of a key, not even by trying texts.
pub(crate) fn veiled(keys: &[u64], secret: u64) -> Arc<[u64]> {
    let veil = |key: &u64| {
        // A keyed hash. Another compiler may use another hash, which does no harm: no secret is used after its process
        // ended.
        let mut hasher = DefaultHasher::new();
        (secret, key).hash(&mut hasher);
        hasher.finish()
    };
    keys.iter().map(veil).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chat::{Message, Role},
        task::Sampling,
    };

    fn keys(turns: &[&str]) -> Arc<[u64]> {
        let messages: Vec<Message> =
            turns.iter().map(|text| Message::new(Role::User, *text)).collect();
        prefix_keys(&Task::Generate {
            prompt: Prompt::Chat(messages.into()),
            sampling: Sampling::default(),
        })
    }

    #[test]
    fn prompts_share_keys_exactly_as_far_as_they_begin_alike() {
        let (one, two) = (keys(&["a", "b", "c"]), keys(&["a", "b", "x"]));
        assert_eq!(one[..2], two[..2]);
        assert_ne!(one[2], two[2]);
        assert_ne!(keys(&["ab", "c"])[1], keys(&["a", "bc"])[1]);
    }

    #[test]
    fn veiled_keys_are_equal_where_the_keys_are_and_under_one_secret_alone() {
        let (one, two) = (veiled(&[1, 2, 3], 7), veiled(&[1, 2, 4], 7));
        assert_eq!(one[..2], two[..2]);
        assert_ne!(one[2], two[2]);
        assert!(veiled(&[1, 2, 3], 8).iter().all(|key| !one.contains(key) && *key > 3));
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        assert_eq!(keys(&["x"; 1000]).len(), MAX_KEYS);
    }
}
