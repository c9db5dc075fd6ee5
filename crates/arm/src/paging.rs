//! Lists, page by page.

use ajar_access::ports::azure::AzureError;
use reqwest::Url;
use serde_json::Value;

use crate::failure::unreadable;
use crate::resource_manager::ResourceManager;

/// More pages than any subscription has: 5,000 NSGs per region come in pages of a hundred or more.
const MAX_PAGES: usize = 1000;

impl ResourceManager {
    /// Every element of a list. `what` names it in messages.
    pub(crate) async fn list(&self, first: Url, what: &str) -> Result<Vec<Value>, AzureError> {
        let mut all = Vec::new();
        let mut next = Some(first);
        let mut pages = 0;
        while let Some(url) = next.take() {
            pages += 1;
            if pages > MAX_PAGES {
                return Err(unreadable(what, "the list does not end"));
            }
            let mut page = self.get(url, what).await?;
            let Some(Value::Array(values)) = page.get_mut("value").map(Value::take) else {
                return Err(unreadable(what, "the list has no value"));
            };
            all.extend(values);
            next = match page.get("nextLink").and_then(Value::as_str).filter(|link| !link.is_empty()) {
                Some(link) => Some(self.endpoint.handed_out(link)?),
                None => None,
            };
        }
        Ok(all)
    }
}
