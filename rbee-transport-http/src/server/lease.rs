//! The lease of a daemon: it continues for as long as its parent sends heartbeats.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// The permission to continue, which must be renewed. Clones share it.
///
/// ```
/// use std::time::Duration;
/// use rbee_transport_http::server::Lease;
///
/// let lease = Lease::new(Duration::from_secs(90));
/// lease.renew();
/// assert_eq!(lease.length(), Duration::from_secs(90));
/// ```
#[derive(Clone, Debug)]
pub struct Lease {
    length: Duration,
    until: Arc<watch::Sender<Instant>>,
}

impl Lease {
    /// A lease that lasts this long from now, and again from every renewal.
    pub fn new(length: Duration) -> Self {
        Self { length, until: Arc::new(watch::Sender::new(Instant::now() + length)) }
    }

    /// How long it lasts without a renewal.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Records a heartbeat.
    pub fn renew(&self) {
        self.until.send_replace(Instant::now() + self.length);
    }

    /// Waits until it has expired. Never returns if there is none.
    pub(super) async fn run_out(lease: Option<&Self>) {
        match lease {
            Some(lease) => lease.expired().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until it has expired.
    pub async fn expired(&self) {
        loop {
            let until = *self.until.borrow();
            tokio::time::sleep_until(until).await;
            if *self.until.borrow() <= until {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_when_it_is_not_renewed_in_time() {
        let began = Instant::now();
        let lease = Lease::new(Duration::from_secs(90));
        let renewer = lease.clone();
        tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(30)).await;
                renewer.renew();
            }
        });
        lease.expired().await;
        assert_eq!(began.elapsed(), Duration::from_secs(180));
    }
}
