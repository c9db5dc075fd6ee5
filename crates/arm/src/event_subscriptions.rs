//! What tells of a subscription's events: its own system topics and their event subscriptions.

use ajar_access::ports::azure::AzureError;
use ajar_network::resource_id::ResourceId;
use serde_json::Value;

use crate::api_versions::EVENT_GRID;
use crate::failure::unreadable;
use crate::resource_manager::ResourceManager;

const SYSTEM_TOPICS: &str = "Microsoft.EventGrid/systemTopics";

/// The kind of topic that tells of a subscription's resources (Event Grid, "Azure subscription as an event source").
const OF_SUBSCRIPTIONS: &str = "Microsoft.Resources.Subscriptions";

impl ResourceManager {
    /// Two calls for a subscription with one such topic: the topics, and what is subscribed there.
    pub(crate) async fn read_event_subscriptions(
        &self,
        subscription: &str,
    ) -> Result<Vec<Value>, AzureError> {
        let mut found = Vec::new();
        for topic in self.list_all(subscription, SYSTEM_TOPICS, EVENT_GRID).await? {
            if !is_of_subscription(&topic, subscription) {
                continue;
            }
            // The id becomes part of an address.
            let id = topic.get("id").and_then(Value::as_str).unwrap_or_default();
            let id = ResourceId::parse(id).map_err(|error| unreadable(SYSTEM_TOPICS, &error.to_string()))?;
            let path = format!("{id}/eventSubscriptions");
            found.extend(self.list(self.endpoint.of(&path, EVENT_GRID)?, &path).await?);
        }
        Ok(found)
    }
}

fn is_of_subscription(topic: &Value, subscription: &str) -> bool {
    let is = |property: &str, wanted: &str| {
        let text = topic.pointer(property).and_then(Value::as_str);
        text.is_some_and(|text| text.trim_end_matches('/').eq_ignore_ascii_case(wanted))
    };
    is("/properties/topicType", OF_SUBSCRIPTIONS)
        && is("/properties/source", &format!("/subscriptions/{subscription}"))
}
