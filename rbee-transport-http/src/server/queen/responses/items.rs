//! The items that the model read for a response.

use std::collections::HashSet;

use rbee_core::{
    Error, ErrorKind, Message, Result, Role,
    request::{Chat, ToolCall},
};

use super::{
    extras::{Extras, hex},
    tools::custom_input,
};
use crate::wire::responses::{ContentPart, ItemList, ItemQuery, ItemStatus, ResponseItem};

/// The items of a page by default, and the most of them.
const PAGE: usize = 20;
const MOST_OF_A_PAGE: usize = 100;

/// The items of a conversation without its instructions, the oldest first.
pub(super) fn items(job: rbee_core::JobId, chat: &Chat, extras: &Extras) -> Vec<ResponseItem> {
    let from = usize::from(extras.has_instructions);
    let mut all = Reader { job: hex(job), chat, extras, custom: HashSet::new(), items: Vec::new() };
    let calls = chat.messages.iter().flat_map(|message| &message.tool_calls);
    let custom = calls.filter(|call| all.is_custom(call)).map(|call| &*call.id);
    all.custom = custom.collect();
    for message in chat.messages.iter().skip(from) {
        all.add(message);
    }
    all.items
}

struct Reader<'a> {
    job: String,
    chat: &'a Chat,
    extras: &'a Extras,
    /// The ids of the calls of custom tools.
    custom: HashSet<&'a str>,
    items: Vec<ResponseItem>,
}

impl Reader<'_> {
    fn id(&self) -> String {
        // Not the id of an item of the answer.
        format!("in_{}_{}", self.job, self.items.len())
    }

    fn add(&mut self, message: &Message) {
        let status = ItemStatus::Completed;
        if let Some(call_id) = message.tool_call_id.clone() {
            let (id, output) = (self.id(), message.content.clone());
            self.items.push(if self.custom.contains(&*call_id) {
                ResponseItem::CustomToolCallOutput { id, status, call_id, output }
            } else {
                ResponseItem::FunctionCallOutput { id, status, call_id, output }
            });
            return;
        }
        if !message.content.is_empty() || message.tool_calls.is_empty() {
            let text = message.content.clone();
            let part = match message.role {
                Role::Assistant => {
                    ContentPart::OutputText { text, annotations: [], logprobs: Vec::new() }
                }
                Role::System | Role::User | Role::Tool => ContentPart::InputText { text },
            };
            let (id, role) = (self.id(), message.role.as_str().to_owned());
            self.items.push(ResponseItem::Message { id, status, role, content: vec![part] });
        }
        for call in &message.tool_calls {
            let (id, call_id) = (self.id(), call.id.clone());
            let info = self.extras.tool(self.chat, &call.name);
            let name = info.map_or(&*call.name, |info| info.own_name(&call.name)).to_owned();
            let namespace = info.and_then(|info| info.namespace.clone());
            self.items.push(if self.is_custom(call) {
                let input = custom_input(&call.arguments);
                ResponseItem::CustomToolCall { id, status, call_id, name, namespace, input }
            } else {
                let arguments = call.arguments.clone();
                ResponseItem::FunctionCall { id, status, call_id, name, namespace, arguments }
            });
        }
    }

    fn is_custom(&self, call: &ToolCall) -> bool {
        self.extras.tool(self.chat, &call.name).is_some_and(|info| info.custom.is_some())
    }
}

/// A page of these items, which are the oldest first.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the parameter.
pub(super) fn page(mut items: Vec<ResponseItem>, query: &ItemQuery) -> Result<ItemList> {
    let refuse = |param: &'static str, message: String| {
        Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(param))
    };
    match query.order.as_deref() {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(other) => {
            let shown: String = other.chars().take(60).collect();
            return refuse("order", format!("order is {shown:?}; allowed is \"asc\" or \"desc\""));
        }
    }
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MOST_OF_A_PAGE).contains(&limit) {
        return refuse("limit", format!("limit is {limit}; allowed is 1 to {MOST_OF_A_PAGE}"));
    }
    if let Some(after) = &query.after {
        let Some(at) = items.iter().position(|item| item.id() == after) else {
            let shown: String = after.chars().take(60).collect();
            return refuse(
                "after",
                format!("after is {shown:?}; allowed is the id of an item of this response"),
            );
        };
        items.drain(..=at);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id = |item: Option<&ResponseItem>| item.map(|item| item.id().to_owned());
    Ok(ItemList {
        object: "list".into(),
        first_id: id(items.first()),
        last_id: id(items.last()),
        has_more,
        data: items,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(order: Option<&str>, limit: Option<usize>, after: Option<&str>) -> Result<ItemList> {
        let item = |n: usize| ResponseItem::Message {
            id: format!("in_{n}"),
            status: ItemStatus::Completed,
            role: "user".into(),
            content: Vec::new(),
        };
        let query = ItemQuery {
            limit,
            after: after.map(ToOwned::to_owned),
            order: order.map(ToOwned::to_owned),
        };
        page((0..5).map(item).collect(), &query)
    }

    fn ids(list: &ItemList) -> Vec<&str> {
        list.data.iter().map(ResponseItem::id).collect()
    }

    #[test]
    fn pages_follow_each_other_in_both_orders() {
        let first = list(Some("asc"), Some(2), None).unwrap();
        assert_eq!((ids(&first), first.has_more), (vec!["in_0", "in_1"], true));
        let last = list(Some("asc"), Some(3), first.last_id.as_deref()).unwrap();
        assert_eq!((ids(&last), last.has_more), (vec!["in_2", "in_3", "in_4"], false));
        let newest = list(None, None, Some("in_2")).unwrap();
        assert_eq!((ids(&newest), newest.has_more), (vec!["in_1", "in_0"], false));
        let none = list(None, None, Some("in_0")).unwrap();
        assert_eq!((none.first_id, none.data.len()), (None, 0));
    }

    #[test]
    fn a_wrong_query_is_refused_by_its_name() {
        for (result, param) in [
            (list(Some("up"), None, None), "order"),
            (list(None, Some(0), None), "limit"),
            (list(None, Some(101), None), "limit"),
            (list(None, None, Some("in_9")), "after"),
        ] {
            assert_eq!(result.unwrap_err().param(), Some(param));
        }
    }
}
