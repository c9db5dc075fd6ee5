//! Lists from Azure Resource Graph: 1,000 resources a request, of a state that may be minutes old.

use ajar_access::ports::azure::{AzureError, GraphPage};
use reqwest::Method;
use serde_json::{Value, json};

use crate::api_versions::RESOURCE_GRAPH;
use crate::estate::subscription_list;
use crate::failure::unreadable;
use crate::http::Call;
use crate::resource_manager::ResourceManager;

const PATH: &str = "/providers/Microsoft.ResourceGraph/resources";

/// The most rows on a page, which is Azure's limit (Resource Graph, "Paging results").
const MOST_ROWS: u32 = 1000;

/// What is asked. An order that is total keeps pages from repeating or leaving out rows.
fn query(resource_type: &str) -> String {
    format!(
        "Resources | where type =~ '{resource_type}' | project id, name, type, location, tags, sku, properties | \
         order by id asc"
    )
}

/// The subscriptions that the question is put to; an order that is total, as above.
const SUBSCRIPTIONS: &str = "ResourceContainers | where type =~ 'microsoft.resources/subscriptions' | \
                             project id, subscriptionId | order by id asc";

/// More pages than there are of a tenant's subscriptions.
const MOST_PAGES: usize = 100;

impl ResourceManager {
    pub(crate) async fn read_subscriptions_below(
        &self,
        management_group: &str,
    ) -> Result<Vec<String>, AzureError> {
        let mut found = Vec::new();
        let mut from: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let scope = json!({ "managementGroups": [management_group] });
            let page = page_of(self.ask_graph(scope, SUBSCRIPTIONS, from.as_deref()).await?)?;
            for row in page.resources {
                let id = row.get("subscriptionId").and_then(Value::as_str);
                let id = id.ok_or_else(|| unreadable(PATH, "a subscription has no id"))?;
                subscription_list(id, "")?;
                found.push(id.to_ascii_lowercase());
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(found),
            }
        }
        Err(unreadable(PATH, "the list of subscriptions does not end"))
    }

    pub(crate) async fn read_graph_page(
        &self,
        subscription: &str,
        resource_type: &str,
        from: Option<&str>,
    ) -> Result<GraphPage, AzureError> {
        // Both go into a query: the first is checked here, the second is one of our own names.
        subscription_list(subscription, resource_type)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
        if !resource_type.bytes().all(is_plain) {
            return Err(unreadable(PATH, "the type has characters that no type has"));
        }
        let scope = json!({ "subscriptions": [subscription] });
        page_of(self.ask_graph(scope, &query(resource_type), from).await?)
    }

    /// One page of an answer; `scope` says of whom it is asked.
    async fn ask_graph(
        &self,
        mut scope: Value,
        query: &str,
        from: Option<&str>,
    ) -> Result<Value, AzureError> {
        let mut options = json!({ "resultFormat": "objectArray", "$top": MOST_ROWS });
        if let (Some(from), Some(options)) = (from, options.as_object_mut()) {
            options.insert("$skipToken".to_owned(), Value::from(from));
        }
        if let Some(scope) = scope.as_object_mut() {
            scope.insert("query".to_owned(), Value::from(query));
            scope.insert("options".to_owned(), options);
        }
        let mut call = Call::new(Method::POST, self.endpoint.of(PATH, RESOURCE_GRAPH)?, PATH);
        call.body = Some(&scope);
        self.send_read(&call).await
    }
}

fn page_of(mut answer: Value) -> Result<GraphPage, AzureError> {
    let Some(Value::Array(resources)) = answer.get_mut("data").map(Value::take) else {
        return Err(unreadable(PATH, "the answer has no data"));
    };
    let next =
        answer.get("$skipToken").and_then(Value::as_str).filter(|next| !next.is_empty()).map(str::to_owned);
    let is_cut = answer.get("resultTruncated").and_then(Value::as_str) == Some("true");
    // Rows that are left out without a way to have them would be taken for resources that are gone.
    if is_cut && next.is_none() {
        return Err(unreadable(PATH, "the answer is cut and has no token for the rest"));
    }
    Ok(GraphPage { resources, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_cut_without_a_token_is_no_page() {
        let whole = page_of(json!({ "data": [{ "id": "a" }], "resultTruncated": "false" })).unwrap();
        assert_eq!((whole.resources.len(), whole.next), (1, None));
        let first = page_of(json!({ "data": [], "resultTruncated": "true", "$skipToken": "t" })).unwrap();
        assert_eq!(first.next.as_deref(), Some("t"));
        for bad in [json!({ "data": [], "resultTruncated": "true" }), json!({}), json!({ "data": {} })] {
            assert!(page_of(bad).is_err());
        }
    }
}
