//! [`QueenLimits`]: limits on what clients can send and hold.

/// Limits on what clients of a queen can send and hold.
///
/// ```
/// use rbee_transport_http::server::QueenLimits;
///
/// let limits = QueenLimits { tenant_requests: 100, ..QueenLimits::default() };
/// assert_eq!(limits.body_bytes, 8 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueenLimits {
    /// The body of a request, in bytes. 8 MiB by default.
    pub body_bytes: usize,
    /// All bodies that are being read, or whose jobs are not in the queue yet, in bytes. At least four times
    /// `body_bytes`, even if less is set. All tenants together have three quarters of it, so that the operator can
    /// always send something. A body beyond it is refused at once with
    /// [`SystemAtCapacity`](rbee_core::ErrorKind::SystemAtCapacity). 256 MiB by default.
    pub total_body_bytes: usize,
    /// The same for one tenant, in bytes. At least twice `body_bytes`, even if less is set. A body beyond it is
    /// refused at once with [`RateLimited`](rbee_core::ErrorKind::RateLimited). 64 MiB by default.
    pub tenant_body_bytes: usize,
    /// Concurrent requests of one tenant, including streams. Behind a [`Server`](crate::server::Server) never more than a
    /// quarter of its connections, and seven eighths for all tenants together, so that the operator can always
    /// connect. More are refused with [`RateLimited`](rbee_core::ErrorKind::RateLimited), or
    /// [`SystemAtCapacity`](rbee_core::ErrorKind::SystemAtCapacity) for all together. `/health` and `/metrics` do not
    /// count. 1,024 by default.
    pub tenant_requests: usize,
    /// Clients that follow the events of one job at once: this many of its tenant, and this many operators. More are
    /// refused with [`RateLimited`](rbee_core::ErrorKind::RateLimited). 16 by default.
    pub job_followers: usize,
}

impl Default for QueenLimits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            total_body_bytes: 256 << 20,
            tenant_body_bytes: 64 << 20,
            tenant_requests: 1_024,
            job_followers: 16,
        }
    }
}
