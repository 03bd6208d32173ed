//! Pages of lists.

use rbee_core::{Error, ErrorKind, Result};

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// True if there are more items after it.
    pub(super) has_more: bool,
}

/// The items of a list after the one with this id, at most `limit`.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] if `limit` is not 1 to `most`, or there is no item with this id.
pub(super) fn page<T>(
    mut items: Vec<T>,
    id: impl Fn(&T) -> &str,
    after: Option<&str>,
    limit: usize,
    most: usize,
) -> Result<Page<T>> {
    if !(1..=most).contains(&limit) {
        let message = format!("limit is {limit}; allowed is 1 to {most}");
        return Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param("limit"));
    }
    // Some clients send an empty one for the first page.
    if let Some(after) = after.filter(|after| !after.is_empty()) {
        let Some(at) = items.iter().position(|item| id(item) == after) else {
            let shown: String = after.chars().take(60).collect();
            let message = format!(
                "after is {shown:?}, which does not exist or is no longer kept; allowed is the last id of a page"
            );
            return Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param("after"));
        };
        items.drain(..=at);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, has_more })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(after: Option<&str>, limit: usize) -> Result<Page<&'static str>> {
        page(vec!["a", "b", "c"], |item| item, after, limit, 3)
    }

    #[test]
    fn pages_follow_each_other_without_gaps() {
        assert_eq!(of(None, 2).unwrap(), Page { items: vec!["a", "b"], has_more: true });
        assert_eq!(of(Some("b"), 2).unwrap(), Page { items: vec!["c"], has_more: false });
        assert_eq!(of(Some("c"), 2).unwrap(), Page { items: vec![], has_more: false });
        assert_eq!(of(Some(""), 3).unwrap().items.len(), 3);
    }

    #[test]
    fn a_limit_or_an_id_that_is_not_allowed_is_named() {
        for limit in [0, 4] {
            let error = of(None, limit).unwrap_err();
            assert_eq!(error.message(), format!("limit is {limit}; allowed is 1 to 3"));
        }
        assert_eq!(of(Some("d"), 1).unwrap_err().param(), Some("after"));
    }
}
