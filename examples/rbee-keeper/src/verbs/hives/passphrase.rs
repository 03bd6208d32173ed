//! Passphrases of key files, which the queen misses: [`with_passphrase`].

use rbee_transport_http::Secret;

use crate::{Keeper, failure::Failure};

/// How often a person may type a passphrase.
const TRIES: u32 = 3;

/// Sends a request, and again with the passphrase that a person types if the queen misses it.
pub(super) async fn with_passphrase<T>(
    keeper: &Keeper,
    mut send: impl AsyncFnMut(Option<Secret>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut sent = send(None).await;
    for _ in 0..TRIES {
        match sent {
            Err(missing) if missing.param() == Some("passphrase") => {
                let typed = ask(keeper, missing)?;
                sent = send(Some(typed)).await;
            }
            _ => break,
        }
    }
    sent
}

/// Asks for the passphrase that the queen misses.
fn ask(keeper: &Keeper, missing: Failure) -> Result<Secret, Failure> {
    if !keeper.screen.can_ask() {
        return Err(missing.with_hint(
            "in a terminal this command asks for the passphrase; it is sent once, and stored nowhere",
        ));
    }
    let queen = keeper.client.address();
    if !queen.is_loopback() && !queen.is_tls() {
        return Err(missing.with_hint(format!(
            "a passphrase would go to {queen} in the clear; allowed are https and this machine"
        )));
    }
    keeper.screen.note(missing.message());
    match keeper.screen.ask_secretly("passphrase: ") {
        Some(typed) => Secret::new(typed).map_err(|error| Failure::usage(error.message())),
        None => Err(missing),
    }
}
